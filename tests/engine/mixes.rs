//! Hundreds of random mixes of requests: every answer is the one that a session alone
//! gives, bit for bit.

use std::time::Duration;

use tramontane::engine::{Engine, Reply, Request};
use tramontane::{
    ContextFull, EngineOptions, Error, FinishReason, GenerateOptions, KvType, Model, SamplerOptions,
};

use crate::{
    Answer, Dice, End, alone, cost, is_empty_after_forgetting, next, read, shared, stories,
    storyteller, text, tiny,
};

/// Positions of a request that does not say.
const NUM_CTX: usize = 200;

/// A model, requests to it and what it answers to each alone.
struct World {
    model: Model,
    draft: Option<Model>,
    kv_type: KvType,
    known: Vec<(Request, Answer)>,
}

/// What a client does with a request.
#[derive(Debug, Clone, Copy)]
enum Patience {
    Endless,
    /// Cancels after so many pieces, and reads on.
    Cancel(usize),
    Drop(usize),
}

fn sampler(dice: &mut Dice) -> SamplerOptions {
    let logprobs = dice.one_in(4);
    let plain = match dice.below(3) {
        0 => SamplerOptions::greedy(),
        1 => SamplerOptions::default().with_temperature(0.5),
        _ => SamplerOptions::default().with_temperature(1.1).with_top_k(0).with_min_p(0.02),
    };
    let penalties = dice.one_in(3);
    plain
        .with_seed(dice.roll())
        .with_repeat_penalty(if penalties { 1.2 } else { 1.0 })
        .with_presence_penalty(if penalties { 0.3 } else { 0.0 })
        .with_frequency_penalty(if penalties { 0.1 } else { 0.0 })
        .with_repeat_last_n(dice.pick(&[64, -1, 5]))
        .with_logprobs(logprobs)
        .with_top_logprobs(if logprobs { dice.below(4) } else { 0 })
}

fn request(dice: &mut Dice, texts: &[Vec<u32>], n_vocab: usize) -> Request {
    let text = dice.pick(texts);
    // Prompts of one text have a beginning in common.
    let mut prompt = text[..1 + dice.below(text.len())].to_vec();
    if dice.one_in(5) {
        prompt.extend_from_within(..); // something to look up
    }
    prompt.extend((0..dice.below(9)).map(|_| dice.below(n_vocab) as u32));
    let num_keep = dice.below(40);
    let context_full = dice.pick(&[
        ContextFull::Stop,
        ContextFull::Error,
        ContextFull::Truncate { num_keep },
        ContextFull::Shift { num_keep },
    ]);
    let endless = dice.one_in(12) && !matches!(context_full, ContextFull::Shift { .. });
    let options = GenerateOptions::default()
        .with_sampler(sampler(dice))
        .with_num_predict((!endless).then(|| dice.pick(&[0, 1, 2, 10, 30, 60])))
        .with_stop(dice.pick(&[vec![], vec![], vec![" the", "ey w"], vec!["e"]]))
        .with_context_full(context_full)
        .with_ignore_eos(dice.one_in(2));
    // Around the prompt's length: it does not fit, fits just so, or leaves some room.
    let around = (prompt.len() + dice.below(50)).saturating_sub(15).max(1);
    let num_ctx = dice.pick(&[None, None, Some(around), Some(64)]);
    let mut request = Request::new(prompt, options);
    request.num_ctx = num_ctx;
    request.speculate = !dice.one_in(4);
    request
}

impl World {
    fn new(model: Model, draft: Option<Model>, kv_type: KvType, requests: usize) -> World {
        let mut dice = Dice(requests as u64);
        let story = text(&model, 450);
        let texts = [story[..150].to_vec(), story[150..290].to_vec(), story[300..450].to_vec()];
        let known = (0..requests).map(|_| {
            let request = request(&mut dice, &texts, model.n_vocab());
            let answer = alone(&model, &request, kv_type, NUM_CTX);
            (request, answer)
        });
        let known: Vec<_> = known.collect();
        // The requests are not all of one kind.
        let ends = |wanted: fn(&End) -> bool| known.iter().filter(|(_, a)| wanted(&a.end)).count();
        assert!(ends(|end| matches!(end, End::Refused(_))) > 0);
        assert!(ends(|end| matches!(end, End::Failed(_))) > 0);
        assert!(ends(|end| matches!(end, End::Done(FinishReason::StopString, _))) > 0);
        assert!(ends(|end| matches!(end, End::Done(FinishReason::ContextFull, _))) > 0);
        assert!(ends(|end| matches!(end, End::Done(FinishReason::Length, 1..))) > 0);
        World { model, draft, kv_type, known }
    }

    fn options(&self, dice: &mut Dice, most_positions: usize) -> EngineOptions {
        let mut options = EngineOptions::default()
            .with_num_ctx(NUM_CTX)
            .with_kv_type(self.kv_type)
            .with_num_batch(dice.pick(&[1, 7, 512]))
            .with_max_running(1 + dice.below(32))
            .with_max_queue(dice.pick(&[2, 512]))
            .with_keep_prefixes(!dice.one_in(4))
            .with_speculate(!dice.one_in(4));
        // From the least that lets the largest request in.
        let least = cost(&self.model, most_positions, &options);
        options.kv_bytes = Some(dice.pick(&[least, least + least / 2, 3 * least, 40 * least]));
        options
    }

    /// Several threads hand in up to 32 requests to a new engine.
    fn mix(&self, seed: u64) {
        let mut dice = Dice(seed);
        let count = 1 + dice.below(32);
        let picks: Vec<usize> = (0..count).map(|_| dice.below(self.known.len())).collect();
        let positions = picks.iter().map(|&i| self.known[i].0.num_ctx.unwrap_or(NUM_CTX));
        let options = self.options(&mut dice, positions.max().unwrap());
        let engine = match &self.draft {
            Some(draft) if dice.one_in(2) => Engine::with_draft(&self.model, draft, &options),
            _ => Engine::new(&self.model, &options),
        };
        let (engine, threads) = (engine.unwrap(), 1 + dice.below(4));
        std::thread::scope(|scope| {
            for part in picks.chunks(count.div_ceil(threads)) {
                let (mut dice, engine) = (Dice(dice.roll()), &engine);
                let context = format!("mix {seed}, {options:?}");
                scope.spawn(move || self.client(engine, part, &mut dice, &context));
            }
        });
        is_empty_after_forgetting(&engine);
    }

    fn client(&self, engine: &Engine, picks: &[usize], dice: &mut Dice, context: &str) {
        let mut open = Vec::new();
        for &pick in picks {
            if dice.one_in(3) {
                std::thread::sleep(Duration::from_micros(dice.below(3000) as u64));
            }
            if let Some(reply) = self.submit(engine, pick, context) {
                let patience = match dice.below(8) {
                    0 => Patience::Cancel(dice.below(12)),
                    1 => Patience::Drop(dice.below(12)),
                    _ => Patience::Endless,
                };
                open.push((pick, reply, patience));
            }
            if dice.one_in(4) && !open.is_empty() {
                let (pick, reply, patience) = open.swap_remove(dice.below(open.len()));
                self.check(pick, reply, patience, context);
            }
        }
        for (pick, reply, patience) in open {
            self.check(pick, reply, patience, context);
        }
    }

    /// Hands it in, as often as it takes; `None` if it was rightly refused.
    fn submit(&self, engine: &Engine, pick: usize, context: &str) -> Option<Reply> {
        let (request, known) = &self.known[pick];
        loop {
            match engine.submit(request.clone()) {
                Ok(reply) => return Some(reply),
                Err(Error::QueueFull { .. }) => std::thread::sleep(Duration::from_micros(300)),
                Err(error) => {
                    assert_eq!(known.end, End::Refused(error.to_string()), "{context}");
                    return None;
                }
            }
        }
    }

    fn check(&self, pick: usize, mut reply: Reply, patience: Patience, context: &str) {
        let (request, known) = &self.known[pick];
        let context = || format!("{context}, {patience:?}, {request:?}");
        let most = match patience {
            Patience::Endless => {
                assert_eq!(read(&mut reply), *known, "{}", context());
                return;
            }
            Patience::Cancel(most) | Patience::Drop(most) => most,
        };
        let (mut pieces, mut end) = (Vec::new(), None);
        while pieces.len() < most && end.is_none() {
            match next(&mut reply) {
                Ok(piece) => pieces.push(piece),
                Err(ended) => end = Some(ended),
            }
        }
        if matches!(patience, Patience::Cancel(_)) && end.is_none() {
            reply.cancel();
            let rest = read(&mut reply);
            pieces.extend(rest.pieces);
            end = Some(rest.end);
        }
        assert!(known.pieces.starts_with(&pieces), "{}", context());
        match end {
            Some(End::Done(FinishReason::Cancelled, _)) | None => {}
            Some(end) => assert_eq!(end, known.end, "{}", context()),
        }
    }

    fn run(&self, mixes: u64) {
        let _guard = shared();
        // Without optimization the models are too slow for all of them.
        let mixes = if cfg!(debug_assertions) { mixes.div_ceil(10) } else { mixes };
        (0..mixes).for_each(|seed| self.mix(seed));
    }
}

#[test]
fn mixes_with_full_attention() {
    World::new(stories(), Some(stories()), KvType::I16, 120).run(220);
}

#[test]
fn mixes_with_a_short_window() {
    let (model, draft) = (tiny("Q4_0", Some(64)), tiny("Q2_K", Some(32)));
    World::new(model, Some(draft), KvType::F32, 80).run(40);
}

#[test]
fn mixes_with_8_bit_keys_and_values() {
    World::new(tiny("Q8_0", None), Some(tiny("Q4_0", None)), KvType::Q8_0, 80).run(30);
}

#[test]
fn mixes_of_stories() {
    World::new(storyteller(), None, KvType::I16, 60).run(20);
}
