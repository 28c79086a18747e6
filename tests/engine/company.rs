//! Different work in the same passes.

use std::sync::atomic::{AtomicUsize, Ordering};

use tramontane::engine::{Engine, Request};
use tramontane::{EmbedOptions, EngineOptions, KvType, Pooling};

use crate::{
    Dice, alone, greedy, is_empty_after_forgetting, piece, read, shared, stories, storyteller, text,
};

#[test]
fn vectors_are_those_of_the_model_whatever_else_is_computed() {
    let _guard = shared();
    for model in [stories(), storyteller()] {
        let story = text(&model, 1500);
        for num_batch in [7, 512] {
            let options = EngineOptions::default().with_num_ctx(400).with_num_batch(num_batch);
            let engine = Engine::new(&model, &options).unwrap();
            let mut dice = Dice(num_batch as u64);
            let mut texts = Vec::new();
            let mut vectors = Vec::new();
            for i in 0..20 {
                let start = dice.below(1000);
                let tokens = story[start..start + 1 + dice.below(380)].to_vec();
                let pooling = dice.pick(&[None, Some(Pooling::Mean), Some(Pooling::Last)]);
                let options =
                    EmbedOptions::default().with_pooling(pooling).with_normalize(i % 2 == 0);
                let expected = model.embed(&[&tokens], &options).unwrap().remove(0);
                vectors.push((engine.embed(&tokens, &options).unwrap(), expected));
                // From the same text: nothing of a vector's work is mistaken for a prompt's.
                let request = Request::new(tokens, greedy(5));
                texts.push((engine.submit(request.clone()).unwrap(), request));
            }
            for (reply, expected) in vectors {
                assert_eq!(reply.wait().unwrap(), expected, "num_batch {num_batch}");
            }
            for (mut reply, request) in texts {
                let answer = alone(&model, &request, KvType::default(), 400);
                assert_eq!(read(&mut reply), answer, "num_batch {num_batch}");
            }
            is_empty_after_forgetting(&engine);
        }
    }
}

#[test]
fn a_long_prompt_and_running_streams_both_go_on() {
    let _guard = shared();
    let model = storyteller();
    let options = EngineOptions::default().with_num_ctx(4000);
    let engine = Engine::new(&model, &options).unwrap();
    let story = text(&model, 1000);
    let streams: Vec<Request> =
        (0..3).map(|i| Request::new(story[10 * i..10 * i + 30].to_vec(), greedy(1500))).collect();
    let long = Request::new(story[100..].to_vec(), greedy(10));
    let produced = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let (engine, produced, model) = (&engine, &produced, &model);
        for request in &streams {
            let mut reply = engine.submit(request.clone()).unwrap();
            let first = piece(&mut reply);
            scope.spawn(move || {
                // As many as come until the prompt's answer is there, and some more.
                let mut pieces = vec![first];
                for piece in reply.blocking_iter().map(Result::unwrap) {
                    pieces.push(piece);
                    produced.fetch_add(1, Ordering::Relaxed);
                }
                let mut request = request.clone();
                request.options.num_predict = Some(pieces.len());
                assert_eq!(pieces, alone(model, &request, KvType::default(), 4000).pieces);
            });
        }
        let before = produced.load(Ordering::Relaxed);
        let mut reply = engine.submit(long.clone()).unwrap();
        let first = piece(&mut reply);
        let during = produced.load(Ordering::Relaxed) - before;
        assert!(during >= 30, "{during} tokens of three streams while the prompt was computed");
        let rest = read(&mut reply);
        let pieces = [vec![first], rest.pieces].concat();
        assert_eq!(pieces, alone(model, &long, KvType::default(), 4000).pieces);
        assert!(engine.stats().running == 3, "the prompt did not wait for the streams' ends");
    });
    is_empty_after_forgetting(&engine);
}
