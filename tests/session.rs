//! Conversations: stopping, cancelling, full contexts, reuse.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the report")]

mod support;

use std::time::{Duration, Instant};

use tramontane::internal::feed_together;
use tramontane::{
    Bounded, Canceller, Chat, ContextFull, Engine, EngineOptions, Error, FinishReason,
    GenerateOptions, Generation, Gguf, KvType, Message, Model, ModelOptions, SamplerOptions,
    Session, SessionOptions, Summary,
};

fn storyteller() -> Model {
    support::Way::whole().model("../../models/storyteller-q4_k_m.gguf")
}

fn session(num_ctx: usize) -> Session {
    let options = SessionOptions::default().with_num_ctx(num_ctx);
    storyteller().session(&options).unwrap()
}

fn greedy() -> GenerateOptions {
    GenerateOptions::default().with_sampler(SamplerOptions::greedy())
}

fn read(mut generation: Generation<'_>) -> (String, Vec<u32>, Summary) {
    let (mut text, mut tokens) = (String::new(), Vec::new());
    for piece in generation.by_ref() {
        let piece = piece.unwrap();
        text += &piece.text;
        tokens.push(piece.token);
    }
    assert!(generation.next().is_none(), "ended for good");
    (text, tokens, generation.summary())
}

fn story(options: &GenerateOptions) -> (String, Vec<u32>, Summary) {
    read(session(512).generate("Once upon a time", options).unwrap())
}

#[test]
fn a_story_ends_by_itself_and_counts_what_it_did() {
    let (text, tokens, summary) = story(&greedy());
    assert!(text.starts_with(", there was a little girl named Lily."), "{text}");
    assert_eq!(summary.finish_reason, Some(FinishReason::EndOfText));
    assert_eq!(tokens.last().copied(), storyteller().tokenizer().eos());
    assert_eq!(summary.timings.generated_tokens, tokens.len());
    assert_eq!(summary.timings.prompt_tokens, 5);
    assert!(summary.timings.generation_rate() > 0.0 && summary.timings.prompt_rate() > 0.0);
}

#[test]
fn stop_strings_cut_the_text_before_themselves() {
    let whole = story(&greedy()).0;
    let options = greedy().with_stop(vec!["y with her to"]);
    let (text, _, summary) = story(&options);
    assert_eq!(text, whole[..whole.find("y with her to").unwrap()]);
    assert_eq!(summary.finish_reason, Some(FinishReason::StopString));
}

#[test]
fn num_predict_is_exact_and_generation_goes_on_from_there() {
    let (whole, tokens, _) = story(&greedy());
    for n in [0, 1, 20] {
        let options = greedy().with_num_predict(n);
        let mut session = session(512);
        let (first, some, summary) = read(session.generate("Once upon a time", &options).unwrap());
        assert_eq!(some, tokens[..n]);
        assert_eq!(summary.finish_reason, Some(FinishReason::Length));
        if n > 0 {
            let (rest, _, _) = read(session.generate("", &greedy()).unwrap());
            assert_eq!(first + &rest, whole);
        }
    }
}

#[test]
fn a_seed_repeats_a_lively_text_and_logprobs_are_probabilities() {
    let sampler = SamplerOptions::default().with_seed(7).with_logprobs(true).with_top_logprobs(3);
    let options = GenerateOptions::default().with_sampler(sampler).with_num_predict(60);
    assert_eq!(story(&options).1, story(&options).1);
    let mut session = session(512);
    let session_tokenizer = session.model().clone();
    let session_tokenizer = session_tokenizer.tokenizer();
    for piece in session.generate("The dog", &options).unwrap() {
        let piece = piece.unwrap();
        let own = piece.logprob.unwrap();
        assert!(own.token == piece.token && own.logprob <= 0.0);
        assert_eq!(own.bytes, session_tokenizer.token_bytes_with_special(own.token));
        assert_eq!(piece.top_logprobs.len(), 3);
        assert!(piece.top_logprobs.windows(2).all(|p| p[0].logprob >= p[1].logprob));
    }
}

/// SentencePiece's space stands at the start of a conversation, and nowhere else.
#[test]
fn text_goes_on_where_the_last_one_ended() {
    let none = greedy().with_num_predict(0);
    let add = |session: &mut Session, text: &str| {
        session.generate(text, &none).unwrap().for_each(|piece| drop(piece.unwrap()));
    };
    let text = |session: &Session| session.model().tokenizer().decode(session.tokens());
    let begun = || {
        let mut session = session(64);
        add(&mut session, "Once upon a ti");
        session
    };
    let mut whole = begun();
    add(&mut whole, "me there was");
    assert_eq!(text(&whole), "Once upon a time there was");

    let mut fork = begun().fork();
    add(&mut fork, "me there was");
    assert_eq!(fork.tokens(), whole.tokens());

    let path = std::env::temp_dir().join(format!("tramontane-joint-{}", std::process::id()));
    begun().save(&path).unwrap();
    let mut restored = session(64);
    restored.restore(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    add(&mut restored, "me there was");
    assert_eq!(restored.tokens(), whole.tokens());

    let mut cut = begun();
    add(&mut cut, "me there was a dog");
    cut.truncate(begun().tokens().len()).unwrap();
    add(&mut cut, "me there was");
    assert_eq!(cut.tokens(), whole.tokens());

    // What was generated last is not computed yet, but it is there.
    let mut generated = session(64);
    let one = greedy().with_num_predict(1);
    generated.generate("Once upon a time", &one).unwrap().for_each(|piece| drop(piece.unwrap()));
    add(&mut generated, "there was");
    assert_eq!(text(&generated), "Once upon a time,there was");

    // A shift drops the start, not the place in the text.
    let mut shifted = session(20);
    let long = greedy()
        .with_context_full(ContextFull::Shift { num_keep: 0 })
        .with_ignore_eos(true)
        .with_num_predict(30);
    shifted.generate("Once", &long).unwrap().for_each(|piece| drop(piece.unwrap()));
    let before = text(&shifted);
    shifted.truncate(8).unwrap();
    let before = (before, text(&shifted));
    add(&mut shifted, "xyz");
    assert_eq!(text(&shifted), before.1.clone() + "xyz", "{before:?}");

    // After a reset it is a start again.
    whole.clear();
    add(&mut whole, "Once upon a ti");
    assert_eq!(whole.tokens(), begun().tokens());
}

#[test]
fn a_full_context_stops_fails_or_shifts_as_asked() {
    let with = |context_full| {
        greedy().with_context_full(context_full).with_ignore_eos(true).with_num_predict(150)
    };
    let (_, tokens, summary) =
        read(session(50).generate("Once upon a time", &with(ContextFull::Stop)).unwrap());
    assert_eq!(summary.finish_reason, Some(FinishReason::ContextFull));
    assert_eq!(tokens.len(), 46, "5 prompt tokens, 45 fed, and one that found no room");

    let mut small = session(50);
    let last = small.generate("Once upon a time", &with(ContextFull::Error)).unwrap().last();
    assert!(matches!(last, Some(Err(Error::Limit { needed: 51, allowed: 50, .. }))));

    let shift = with(ContextFull::Shift { num_keep: 5 });
    let (_, tokens, summary) = read(session(50).generate("Once upon a time", &shift).unwrap());
    assert_eq!((tokens.len(), summary.finish_reason), (150, Some(FinishReason::Length)));
    assert!(summary.dropped_tokens > 0, "the caller is told");
}

#[test]
fn a_prompt_that_does_not_fit_is_refused_or_cut_and_nothing_is_lost() {
    let long = "The dog ran. ".repeat(100);
    let mut session = session(64);
    session.feed(&[1, 441, 455]).unwrap();
    let error = session.generate(&long, &greedy()).err().unwrap();
    assert!(matches!(error, Error::Limit { allowed: 64, .. }), "{error}");
    assert_eq!(session.tokens(), [1, 441, 455]);
    assert!(matches!(session.feed(&[]), Err(Error::Misuse(_))));
    assert!(matches!(session.feed(&[5, 999_999]), Err(Error::Misuse(_))));
    assert_eq!(session.tokens(), [1, 441, 455]);

    let options =
        greedy().with_context_full(ContextFull::Shift { num_keep: 3 }).with_num_predict(5);
    let (_, _, summary) = read(session.generate(&long, &options).unwrap());
    assert!(summary.dropped_tokens > 300, "{summary:?}");
    assert_eq!(session.tokens()[..3], [1, 441, 455]);
}

#[test]
fn empty_prompts_and_absurd_options_are_one_clear_sentence() {
    let mut session = session(64);
    assert!(matches!(session.generate("", &greedy()), Err(Error::Misuse(_))));
    for options in
        [SessionOptions::default().with_num_ctx(0), SessionOptions::default().with_num_batch(0)]
    {
        assert!(matches!(storyteller().session(&options), Err(Error::Misuse(_))));
    }
    let sampler = SamplerOptions::default().with_top_p(f32::NAN);
    let options = GenerateOptions::default().with_sampler(sampler);
    let error = session.generate("a", &options).err().unwrap();
    assert!(error.to_string().contains("top_p"), "{error}");
    assert!(session.tokens().is_empty());
}

#[test]
fn cancelling_works_in_the_prompt_and_in_the_text() {
    let mut session = session(512);
    let canceller = Canceller::new();
    canceller.cancel();
    assert!(canceller.clone().is_cancelled());
    let tokens = vec![441; 400];
    let cancelled = session.feed_cancellable(&tokens, &canceller);
    assert!(matches!(cancelled, Err(Error::Cancelled)));
    assert!(session.tokens().is_empty());
    session.feed(&tokens[..4]).unwrap();

    let mut generation = session.generate(" and", &greedy()).unwrap();
    let canceller = generation.canceller();
    generation.next().unwrap().unwrap();
    canceller.cancel();
    assert!(generation.next().is_none());
    assert_eq!(generation.summary().finish_reason, Some(FinishReason::Cancelled));

    // Before the prompt is computed: nothing of it is.
    let before = session.tokens().len();
    let mut generation = session.generate(" and", &greedy()).unwrap();
    generation.canceller().cancel();
    assert!(generation.next().is_none());
    let summary = generation.summary();
    assert_eq!(
        (summary.finish_reason, summary.timings.prompt_tokens),
        (Some(FinishReason::Cancelled), 0)
    );
    assert_eq!(session.tokens().len(), before);

    // From another thread, while a long prompt is computed.
    let big = support::Way { threads: 1, ..support::Way::whole() };
    let model = big.model("tiny-mistral/tiny-f32.gguf");
    let options = SessionOptions::default().with_num_ctx(100_000);
    let mut long = model.session(&options).unwrap();
    let canceller = Canceller::new();
    let remote = canceller.clone();
    let watch = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        remote.cancel();
        Instant::now()
    });
    let result = long.feed_cancellable(&vec![5; 90_000], &canceller).map(|_| ());
    let late = watch.join().unwrap().elapsed();
    assert!(matches!(result, Err(Error::Cancelled)));
    assert!(late < Duration::from_secs(5), "{late:?}");
}

/// Cancelling belongs to one generation: after its last token it does nothing.
#[test]
fn a_late_cancel_does_not_reach_the_next_generation() {
    let mut session = session(512);
    let five = greedy().with_num_predict(5);
    let mut generation = session.generate("Once upon a time", &five).unwrap();
    let canceller = generation.canceller();
    assert_eq!(generation.by_ref().count(), 5);
    canceller.cancel();
    assert_eq!(generation.summary().finish_reason, Some(FinishReason::Length));
    let next = session.generate("", &five).unwrap().wait().unwrap();
    assert_eq!(next.summary.finish_reason, Some(FinishReason::Length));
    assert_eq!(next.summary.timings.generated_tokens, 5);
}

#[test]
fn a_fork_goes_its_own_way_and_truncating_takes_back() {
    let mut a = session(512);
    a.feed(&[1, 441, 455, 263, 409]).unwrap();
    let mut b = a.fork();
    let after_a = a.feed(&[4043]).unwrap().to_vec();
    let after_b = b.feed(&[416]).unwrap().to_vec();
    assert_ne!(after_a, after_b);
    b.truncate(5).unwrap();
    assert_eq!(b.feed(&[4043]).unwrap(), after_a, "as if it had never gone astray");
    assert!(b.truncate(100).is_err());
}

/// The option takes the place of the file's window; 0 is no window.
#[test]
fn a_window_is_what_was_asked_for() {
    let open = |window: usize| {
        let options = ModelOptions::default().with_sliding_window(window);
        Model::open_with(support::data("../../models/storyteller-q4_k_m.gguf"), &options)
    };
    assert_eq!(storyteller().sliding_window(), Some(128));
    let narrow = open(24).unwrap();
    assert_eq!(narrow.sliding_window(), Some(24));
    let tokens = [441; 40];
    let logits = |model: &Model| {
        let mut session = model.session(&SessionOptions::default()).unwrap();
        session.feed(&tokens[..1]).unwrap();
        session.feed(&(300..340).collect::<Vec<_>>()).unwrap().to_vec()
    };
    assert_ne!(logits(&narrow), logits(&storyteller()));
    let error = open(0).unwrap_err();
    assert!(matches!(&error, Error::Misuse(text) if text.contains("sliding_window")), "{error}");
}

#[test]
fn a_folder_is_no_model() {
    let error = Model::open(env!("CARGO_MANIFEST_DIR")).unwrap_err();
    assert!(matches!(&error, Error::Misuse(text) if text.contains("a directory")), "{error}");
}

#[test]
fn kv_types_are_read_by_name() {
    for kv_type in KvType::ALL {
        assert_eq!(kv_type.to_string().parse::<KvType>().unwrap(), kv_type);
    }
    assert_eq!("F16".parse::<KvType>().unwrap(), KvType::I16);
    let error = "q4_0".parse::<KvType>().unwrap_err().to_string();
    assert!(error.contains("q4_0") && error.contains("q8_0"), "{error}");
}

#[test]
fn a_window_keeps_memory_bounded_and_truncation_honest() {
    let mut session = session(512);
    session.feed(&vec![441; 500]).unwrap();
    let bytes = session.cache_bytes();
    // 128 positions back, 64 that may be taken back, and the page they begin in:
    // 4 pages of 64, 6 layers; a head of 32 numbers in 16 bits has a scale of 4 bytes.
    assert!(bytes <= 4 * 64 * 2 * 2 * (32 * 2 + 4) * 6, "{bytes}");
    assert!(session.truncate(10).is_err(), "the window has dropped those positions");
    assert_eq!(session.tokens().len(), 500);
    session.clear();
    session.feed(&[1, 441]).unwrap();
}

#[test]
fn chat_computes_only_what_is_new() {
    let model = storyteller();
    let mut session = model.session(&SessionOptions::default()).unwrap();
    let options = greedy().with_num_predict(20);
    let mut chat = Chat::new([Message::user("Tell me a story about a dog.")]);
    let all = model.chat_tokens(&chat).unwrap();
    let (answer, _, first) = read(session.chat(&chat, &options).unwrap());
    assert_eq!((first.timings.prompt_tokens, first.timings.reused_tokens), (all.len(), 0));
    assert!(!answer.starts_with(' '));

    chat.push(Message::assistant(&answer));
    chat.push(Message::user("And a cat."));
    let all = model.chat_tokens(&chat).unwrap();
    let (second_answer, _, second) = read(session.chat(&chat, &options).unwrap());
    assert!(second.timings.reused_tokens >= first.timings.prompt_tokens + 19, "{second:?}");
    assert_eq!(second.timings.prompt_tokens + second.timings.reused_tokens, all.len());

    // A fresh session gives the same answer: reuse changes nothing.
    let mut fresh = model.session(&SessionOptions::default()).unwrap();
    assert_eq!(read(fresh.chat(&chat, &options).unwrap()).0, second_answer);
}

/// The built-in model with another chat template.
fn with_template(source: &str) -> Model {
    let mut bytes = std::fs::read(support::data("../../models/storyteller-q4_k_m.gguf")).unwrap();
    let key = b"tokenizer.chat_template";
    let at = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len() + 12;
    let old = storyteller().chat_template().unwrap().source().len();
    let padded = format!("{source}{{#{}#}}", " ".repeat(old - source.len() - 4));
    bytes[at..at + old].copy_from_slice(padded.as_bytes());
    Model::from_gguf(Gguf::from_bytes(bytes).unwrap(), &ModelOptions::default()).unwrap()
}

/// Session and engine render the opening of the answer, by default and without being asked;
/// a last message of the assistant is continued.
#[test]
fn a_chat_opens_the_answer_or_continues_it() {
    let model = with_template(
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}\
         {% if add_generation_prompt %}assistant:{% endif %}",
    );
    let options = greedy().with_num_predict(4);
    let engine = Engine::new(&model, &EngineOptions::default()).unwrap();
    let prompt_of = |chat: &Chat| {
        let mut session = model.session(&SessionOptions::default()).unwrap();
        let answer = session.chat(chat, &options).unwrap().wait().unwrap();
        let again = engine.chat(chat, &options).unwrap().wait().unwrap();
        assert_eq!(answer.text, again.text);
        let prompt = session.tokens().len() + 1 - answer.summary.timings.generated_tokens;
        (model.tokenizer().decode(&session.tokens()[..prompt]), answer.text)
    };
    let mut chat = Chat::new([Message::user("Hi")]);
    assert_eq!(prompt_of(&chat).0, "user: Hi\nassistant:");
    chat.push(Message::assistant("Once upon"));
    let (prompt, text) = prompt_of(&chat);
    assert_eq!(prompt, "user: Hi\nassistant: Once upon");
    assert!(text.starts_with(" a time"), "the space is a part of what is continued: {text:?}");
}

/// What was saved goes on as if it had never been away, in a session and in an engine.
#[test]
fn a_saved_conversation_goes_on_elsewhere() {
    let model = storyteller();
    let path = std::env::temp_dir().join(format!("tramontane-session-{}", std::process::id()));
    let new = |num_ctx: usize| model.session(&SessionOptions::default().with_num_ctx(num_ctx));
    let mut first = new(512).unwrap();
    assert!(matches!(first.save(&path), Err(Error::Misuse(_))), "nothing to save");
    first.feed(&(300..400).collect::<Vec<_>>()).unwrap();
    first.save(&path).unwrap();
    let expected = first.feed(&[441]).unwrap().to_vec();

    let mut second = new(512).unwrap();
    second.feed(&[1, 2, 3]).unwrap();
    second.restore(&path).unwrap();
    assert_eq!((second.tokens(), second.num_ctx()), (&first.tokens()[..100], 512));
    assert_eq!(second.feed(&[441]).unwrap(), expected);
    let engine = Engine::new(&model, &EngineOptions::default()).unwrap();
    assert_eq!(engine.restore_prefix(&path).unwrap().wait().unwrap(), 100);

    let mut short = new(64).unwrap();
    short.feed(&[7]).unwrap();
    assert!(matches!(short.restore(&path), Err(Error::Limit { what: Bounded::Context, .. })));
    assert_eq!(short.tokens(), [7]);
    let other = SessionOptions::default().with_kv_type(KvType::Q8_0);
    let error = model.session(&other).unwrap().restore(&path).unwrap_err().to_string();
    assert!(error.contains("KV type i16; here it is q8_0"), "{error}");
    std::fs::remove_file(&path).unwrap();
}

/// A template that writes the system's message into the last turn leaves little to find.
#[test]
fn a_system_message_that_moves_is_computed_again_and_counted() {
    let model = storyteller();
    let options = greedy().with_num_predict(8);
    let reused = |first: &[Message]| {
        let mut session = model.session(&SessionOptions::default()).unwrap();
        let mut chat = Chat::new(first.to_vec());
        let answer = session.chat(&chat, &options).unwrap().wait().unwrap();
        chat.push(Message::assistant(answer.text));
        chat.push(Message::user("And a cat."));
        let timings = session.chat(&chat, &options).unwrap().wait().unwrap().summary.timings;
        let all = model.chat_tokens(&chat).unwrap().len();
        assert_eq!(timings.prompt_tokens + timings.reused_tokens, all);
        (timings.reused_tokens, all)
    };
    let (user, system) = (Message::user("Tell me a story."), Message::system("Be brief."));
    let (found, all) = reused(std::slice::from_ref(&user));
    assert!(found > all / 2, "{found} of {all}");
    let (found, all) = reused(&[system, user]);
    assert!(found < all / 4, "{found} of {all}");
}

#[test]
fn f16_and_f32_caches_tell_the_same_story_for_a_while() {
    let model = storyteller();
    let options = SessionOptions::default().with_kv_type(KvType::F32);
    let options_text = greedy().with_num_predict(12);
    let mut exact = model.session(&options).unwrap();
    let exact = read(exact.generate("Once upon a time", &options_text).unwrap()).1;
    assert_eq!(exact, story(&options_text).1);
}

/// Whatever the lengths, the passes and the company: each session computes what
/// it computes alone.
#[test]
fn feeding_together_gives_the_bits_of_feeding_alone() {
    let model = storyteller();
    for num_batch in [1, 3, 4, 512] {
        let options = SessionOptions::default().with_num_batch(num_batch);
        let new = || model.session(&options).unwrap();
        let (mut a, mut b, mut c) = (new(), new(), new());
        c.feed(&[7, 8, 9]).unwrap();
        let (mut alone_a, mut alone_b, mut alone_c) = (a.fork(), b.fork(), c.fork());
        let (long, one): (Vec<u32>, _) = ((100..171).collect(), [42]);
        let both = [&long[..], &one].concat();
        let first = feed_together(&mut [(&mut a, &long), (&mut b, &one), (&mut c, &both)]).unwrap();
        assert_eq!(first[0], alone_a.feed(&long).unwrap(), "num_batch {num_batch}");
        assert_eq!(first[1], alone_b.feed(&one).unwrap());
        assert_eq!(first[2], alone_c.feed(&both).unwrap());
        assert_eq!((a.tokens(), b.tokens()), (&*long, &one[..]));
        let next = feed_together(&mut [(&mut c, &one), (&mut a, &one)]).unwrap();
        assert_eq!(next[0], alone_c.feed(&one).unwrap());
        assert_eq!(next[1], alone_a.feed(&one).unwrap());
    }
}

#[test]
fn feeding_together_refuses_before_it_feeds() {
    let (mut a, mut b) = (session(8), session(8));
    let different = feed_together(&mut [(&mut a, &[1]), (&mut b, &[1])]);
    assert!(different.unwrap_err().to_string().contains("different models"));
    let mut b = a.fork();
    for bad in [&[][..], &[u32::MAX], &[1; 9]] {
        assert!(feed_together(&mut [(&mut a, &[1, 2]), (&mut b, bad)]).is_err());
        assert!(a.tokens().is_empty() && b.tokens().is_empty(), "{bad:?}");
    }
    assert_eq!(feed_together(&mut [(&mut a, &[1]), (&mut b, &[1])]).unwrap().len(), 2);
    assert!(feed_together(&mut []).unwrap().is_empty());
}
