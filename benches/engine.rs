//! The engine: streams together, a long chat, drafts, a prompt among streams.
//! `TRAMONTANE_BENCH_COPIER` names a model that quotes (see `benches/copying`).
//! `TRAMONTANE_BENCH_MODEL` names a file; default: a synthesized one, as for the bench
//! `model`. Lengths that a model's context has no room for are cut, and the rows say so.
//! `cargo bench -p tramontane-benches --bench engine -- streams chat` for parts; `--help` lists the rest.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench talks")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench may fail")]

mod common;
#[path = "../examples/bench/cost.rs"]
#[allow(dead_code, reason = "only the bytes are of interest")]
mod cost;

use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use tramontane::engine::{Engine, EngineOptions, Reply, Request};
use tramontane::internal::machine;
use tramontane::{EncodeOptions, GenerateOptions, Model, SamplerOptions, Summary};

/// Measures the engine.
#[derive(Parser)]
struct Args {
    /// What to measure. Default: everything
    parts: Vec<Part>,
    /// Streams together
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,4,8")]
    streams: Vec<usize>,
    /// Tokens generated per stream, and per text with and without drafts
    #[arg(long, value_name = "N", default_value_t = 96)]
    tokens: usize,
    /// The prompt that arrives among streams
    #[arg(long, value_name = "TOKENS", default_value_t = 4096)]
    prompt: usize,
    /// Texts are generated so many times with and without drafts, in alternation
    #[arg(long, value_name = "N", default_value_t = 3)]
    repetitions: usize,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
    /// Run everything once, short, to see that it works
    #[arg(long)]
    test: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Streams,
    Chat,
    Speculation,
    Arrival,
}

fn main() {
    let mut args = Args::parse();
    if common::quick() {
        (args.tokens, args.prompt, args.repetitions) = (8, 200, 1);
    }
    let model = common::open();
    let (threads, isa) = (model.threads(), model.isa());
    println!("{} · {threads} threads, {isa}", model.name().unwrap_or("model"));
    // The weights are read once before anything is measured.
    println!("read bandwidth: {:.1} GB/s", bandwidth(&model) / 1e9);
    let wants = |part| args.parts.is_empty() || args.parts.contains(&part);
    if wants(Part::Streams) {
        streams(&model, &args);
    }
    if wants(Part::Chat) {
        chat(&model);
    }
    if wants(Part::Speculation) {
        speculation(&model, &args);
    }
    if wants(Part::Arrival) {
        arrival(&model, &args);
    }
}

/// An engine with memory for all that a bench hands in; pages are taken as they are used.
fn engine(model: &Model, speculate: bool) -> Engine {
    let options = EngineOptions::default()
        .with_num_ctx(model.context_length().min(8192))
        .with_kv_bytes(1 << 40)
        .with_speculate(speculate);
    Engine::new(model, &options).unwrap()
}

/// Random tokens of the vocabulary, others for another seed (xorshift).
fn noise(model: &Model, seed: u64, count: usize) -> Vec<u32> {
    let mut state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 32) as usize % model.n_vocab()) as u32
    };
    (0..count).map(|_| next()).collect()
}

/// To generate exactly `tokens`.
fn exactly(tokens: usize, sampler: SamplerOptions) -> GenerateOptions {
    let num_predict = Some(tokens);
    GenerateOptions::default()
        .with_sampler(sampler)
        .with_num_predict(num_predict)
        .with_ignore_eos(true)
}

/// Every draw is from all tokens: such a text does not copy.
fn lively() -> SamplerOptions {
    let all = SamplerOptions::default().with_temperature(1.0).with_top_k(0).with_top_p(1.0);
    all.with_seed(1)
}

/// Waits for the end; the text's tokens.
fn finish(mut reply: Reply) -> (Vec<u32>, Summary) {
    let tokens = reply.blocking_iter().map(|piece| piece.unwrap().token).collect();
    (tokens, reply.summary())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Bytes per second that the machine reads now. A small model lies in the caches, which
/// are no limit of memory.
fn bandwidth(model: &Model) -> f64 {
    let mut parts: Vec<&[u8]> =
        model.file().tensors().iter().map(|tensor| tensor.bytes()).collect();
    let buffer;
    if parts.iter().map(|bytes| bytes.len()).sum::<usize>() < 256 << 20 {
        buffer = machine::buffer(256 << 20).unwrap();
        parts = vec![&buffer];
    }
    machine::read_bandwidth(&parts, model.threads(), model.isa()).unwrap()
}

/// Streams that decode together: what each pass reads serves all of them.
fn streams(model: &Model, args: &Args) {
    /// Rounds before the clock runs.
    const WARM: usize = 4;
    println!("\nstreams together, greedy, no drafts, prompts of 32 tokens");
    let tokens = args.tokens.min(model.context_length() - 32 - 2 * WARM);
    let weights = cost::Cost::new(model, None).weight_bytes as f64;
    let mut first = None;
    for &count in &args.streams {
        let engine = engine(model, false);
        let mut machine = vec![bandwidth(model)];
        // Those that begin first are some tokens ahead of the last to begin: none ends
        // before the clock stops.
        let most = (tokens + 64 + 4 * count).min(model.context_length() - 32);
        let mut replies: Vec<Reply> = (0..count)
            .map(|stream| {
                let options = exactly(most, SamplerOptions::greedy());
                let request = Request::new(noise(model, stream as u64, 32), options);
                engine.submit(request).unwrap()
            })
            .collect();
        let mut round = || {
            for reply in &mut replies {
                reply.blocking_iter().next().expect("a stream has ended").unwrap();
            }
        };
        (0..WARM).for_each(|_| round());
        // What the engine did in that time, not what was read: it may be ahead.
        let (start, before) = (Instant::now(), engine.stats());
        (0..tokens).for_each(|_| round());
        let (seconds, after) = (start.elapsed().as_secs_f64(), engine.stats());
        drop(replies);
        machine.push(bandwidth(model));
        let rate = (after.generated_tokens - before.generated_tokens) as f64 / seconds;
        let read = weights * (after.passes - before.passes) as f64 / seconds;
        let machine = machine.iter().sum::<f64>() / machine.len() as f64;
        println!(
            "{count:>3} streams: {rate:8.2} tok/s, {:5.2} × one stream · weights {:6.1} GB/s, \
             {:.0} % of read bandwidth ({:.1} GB/s)",
            rate / *first.get_or_insert(rate / count as f64),
            read / 1e9,
            100.0 * read / machine,
            machine / 1e9
        );
    }
}

/// A conversation whose every turn hands in all of it.
fn chat(model: &Model) {
    const TURNS: usize = 10;
    const ANSWER: usize = 16;
    let new = 200.min(model.context_length() / TURNS - ANSWER);
    println!("\nchat of {TURNS} turns, {new} new tokens each, answers of {ANSWER}");
    let engine = engine(model, true);
    let (mut tokens, mut times) = (Vec::new(), Vec::new());
    for turn in 1..=TURNS {
        tokens.extend(noise(model, 100 + turn as u64, new));
        let options = exactly(ANSWER, SamplerOptions::greedy());
        let start = Instant::now();
        let mut reply = engine.submit(Request::new(tokens.clone(), options)).unwrap();
        let first = reply.blocking_iter().next().expect("no token").unwrap();
        let time = start.elapsed().as_secs_f64();
        let (answer, summary) = finish(reply);
        println!(
            "turn {turn:>2}: first token after {:8.1} ms · {:4} tokens computed, {:4} reused",
            time * 1e3,
            summary.timings.prompt_tokens,
            summary.timings.reused_tokens
        );
        times.push(time);
        tokens.push(first.token);
        tokens.extend(answer);
    }
    println!("turn {TURNS} / turn 2: {:.2}", times[TURNS - 1] / times[1]);
}

/// Texts with and without drafts: the same tokens, in another time.
fn speculation(model: &Model, args: &Args) {
    println!("\ndrafts: tok/s without → with, medians of {} in alternation", args.repetitions);
    let prompt = noise(model, 7, 32);
    let tokens = args.tokens.min(model.context_length() - prompt.len());
    // The text `t t t …`: by force, so that every draft is right.
    let forced = SamplerOptions::greedy().with_logit_bias(vec![(5, 1e6)]);
    compare(model, "every draft right (one token forced)", &prompt, tokens, forced, args);
    // What a model of random weights says falls into a loop, or does not: see the share.
    compare(model, "greedy", &prompt, tokens, SamplerOptions::greedy(), args);
    compare(model, "temperature 1", &prompt, tokens, lively(), args);

    // A trained model that goes on with its own story, which its prompt has twice.
    let trained = common::builtin();
    let start = trained.tokenizer().encode("Once upon a time", EncodeOptions::default());
    let options = exactly(48, SamplerOptions::greedy());
    let teller = engine(&trained, false);
    let story = finish(teller.submit(Request::new(start.clone(), options)).unwrap()).0;
    let story = [start, story].concat();
    let prompt = [&story[..], &story, &story[..8]].concat();
    let tokens = args.tokens.min(story.len());
    let name = "built-in model, greedy, its story for the third time";
    compare(&trained, name, &prompt, tokens, SamplerOptions::greedy(), args);
    compare(&trained, "built-in model, temperature 1", &prompt, tokens, lively(), args);
    if let Ok(path) = std::env::var("TRAMONTANE_BENCH_COPIER") {
        quotations(&Model::open(path).unwrap(), args);
    }
}

/// A trained model that quotes what its prompt has: that of `benches/copying`, which has
/// never seen these passages.
fn quotations(model: &Model, args: &Args) {
    const PASSAGES: [&str; 3] = [
        "The baker told the mayor that the old bridge was shut, so every cart had to take the long \
         road by the mill, and nobody got fresh bread before noon. The children were sad, but the \
         ducks had a quiet day.",
        "On the third of May the two sisters rowed across the lake, found the blue key under a flat \
         stone, and hid it in the tower where the owls sleep. In the morning they told only \
         their grandmother.",
        "Please put seven green plates, four red cups and one small lamp on the table, and then tell \
         the captain that the ship can leave with the evening tide. Do not forget the dog, and bring \
         the letters.",
    ];
    let encode = |text: &str, bos| {
        model.tokenizer().encode(text, EncodeOptions::default().with_bos(bos).with_special(true))
    };
    let together = PASSAGES[..2].join(" ");
    for passage in PASSAGES.into_iter().chain([together.as_str()]) {
        let (begun, wanted) = (encode(passage, true), encode(passage, false));
        let prompt = [begun, encode("[INST][/INST]", false)].concat();
        let options = exactly(wanted.len(), SamplerOptions::greedy());
        let said =
            finish(engine(model, false).submit(Request::new(prompt.clone(), options)).unwrap()).0;
        let copied = said.iter().zip(&wanted).filter(|(said, wanted)| said == wanted).count();
        let name = format!("a quotation, {copied} of {} tokens as in the prompt", wanted.len());
        compare(model, &name, &prompt, wanted.len(), SamplerOptions::greedy(), args);
    }
}

fn compare(
    model: &Model,
    name: &str,
    prompt: &[u32],
    tokens: usize,
    sampler: SamplerOptions,
    args: &Args,
) {
    let engines = [engine(model, false), engine(model, true)];
    let mut rates = [Vec::new(), Vec::new()];
    let (mut texts, mut timings) = (Vec::new(), None);
    for _ in 0..args.repetitions {
        for (engine, rates) in engines.iter().zip(&mut rates) {
            let request = Request::new(prompt.to_vec(), exactly(tokens, sampler.clone()));
            let (text, summary) = finish(engine.submit(request).unwrap());
            rates.push(summary.timings.generation_rate());
            texts.push(text);
            timings = Some(summary.timings);
        }
    }
    assert!(texts.iter().all(|text| *text == texts[0]), "drafts changed the text");
    let [without, with] = rates.map(median);
    let timings = timings.unwrap_or_default();
    let (right, guessed) = (timings.accepted_tokens, timings.drafted_tokens);
    println!(
        "{name}: {without:.2} → {with:.2}, × {:.2} · {tokens} tokens, {right} of {guessed} \
         drafts right",
        with / without
    );
}

/// A long prompt that arrives while streams run: how long each waits for its next token.
fn arrival(model: &Model, args: &Args) {
    const STREAMS: usize = 4;
    const BEFORE: u64 = 16;
    let length = args.prompt.min(model.context_length() - 8);
    println!("\na prompt of {length} tokens among {STREAMS} streams");
    let engine = engine(model, false);
    let most = model.context_length().min(4096) - 32;
    let streams: Vec<_> = (0..STREAMS)
        .map(|stream| {
            let request =
                Request::new(noise(model, 200 + stream as u64, 32), exactly(most, lively()));
            let reply = engine.submit(request).unwrap();
            let canceller = reply.canceller();
            let times = |mut reply: Reply| {
                reply.blocking_iter().map(|_| Instant::now()).collect::<Vec<_>>()
            };
            (thread::spawn(move || times(reply)), canceller)
        })
        .collect();
    let wait_for = |tokens: u64| {
        while engine.stats().generated_tokens < tokens && engine.stats().running > 0 {
            thread::sleep(Duration::from_millis(2));
        }
    };
    thread::sleep(Duration::from_millis(20));
    wait_for(STREAMS as u64 * 2);
    let begun = Instant::now();
    wait_for(engine.stats().generated_tokens + STREAMS as u64 * BEFORE);
    let sent = Instant::now();
    let options = exactly(1, SamplerOptions::greedy());
    let request = Request::new(noise(model, 300, length), options);
    let (_, summary) = finish(engine.submit(request).unwrap());
    let there = Instant::now();
    let running = engine.stats().running;
    let (threads, cancellers): (Vec<_>, Vec<_>) = streams.into_iter().unzip();
    cancellers.iter().for_each(|canceller| canceller.cancel());

    let times = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    gaps(times, begun, sent, there);
    let seconds = (there - sent).as_secs_f64();
    println!(
        "the prompt took {seconds:.2} s, {:.1} tok/s{}",
        summary.timings.prompt_tokens as f64 / seconds,
        if running < STREAMS { "; some streams ended before it" } else { "" }
    );
}

/// How long streams waited between two of their tokens: from `begun` to `sent`, and from
/// then until the prompt was `there`.
fn gaps(streams: Vec<Vec<Instant>>, begun: Instant, sent: Instant, there: Instant) {
    let (mut usual, mut beside) = (Vec::new(), Vec::new());
    for gap in streams.iter().flat_map(|times| times.windows(2)) {
        let milliseconds = (gap[1] - gap[0]).as_secs_f64() * 1e3;
        if gap[0] >= begun && gap[1] <= sent {
            usual.push(milliseconds);
        } else if gap[1] > sent && gap[0] < there {
            beside.push(milliseconds);
        }
    }
    if usual.is_empty() || beside.is_empty() {
        return println!("the streams ended too soon to tell");
    }
    let passes = beside.len() / streams.len();
    let of = |part: f64, gaps: &mut Vec<f64>| {
        gaps.sort_by(f64::total_cmp);
        gaps[((gaps.len() - 1) as f64 * part) as usize]
    };
    let gap = of(0.5, &mut usual);
    println!("usual gap: {gap:.1} ms, longest {:.1}", of(1.0, &mut usual));
    let [half, most, all] = [0.5, 0.99, 1.0].map(|part| of(part, &mut beside));
    println!(
        "beside the prompt: {half:.1} ms (× {:.2}), 99 of 100 up to {most:.1} (× {:.2}), longest \
         {all:.1} (× {:.2}); {passes} passes",
        half / gap,
        most / gap,
        all / gap
    );
}
