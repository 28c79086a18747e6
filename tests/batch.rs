//! The example `batch`: every line is answered once, however often it is stopped.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the report")]

#[path = "../examples/common/mod.rs"]
mod common;
#[path = "../examples/batch/ledger.rs"]
mod ledger;
#[path = "../examples/batch/lines.rs"]
mod lines;
#[path = "../examples/batch/pump.rs"]
mod pump;
#[path = "../examples/batch/question.rs"]
mod question;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tramontane::{
    EmbedOptions, EncodeOptions, Engine, EngineOptions, GenerateOptions, SamplerOptions,
    SessionOptions,
};

use ledger::Ledger;
use lines::{LONGEST, Lines};
use pump::{Plan, Progress};
use question::Options;

const INPUT: &str = r#"{"id": "a", "prompt": "Once upon a time", "num_predict": 20}

{"id": {"page": 2}, "prompt": "One day", "num_predict": 3, "seed": 5, "temperature": 0.9}
no JSON
{"embed": "The cat slept."}
{"id": null, "messages": [{"role": "user", "content": "Tell me a story."}], "options": {"num_predict": 6}}
{"prompt": "The dog", "num_predict": 9, "temprature": 1}
{"id": 8, "prompt": "The dog", "stop": ".", "num_predict": 60}
["prompt"]
{"prompt": "Once upon a time", "num_predict": 2, "temperature": "hot"}
{"prompt": "Once upon a time", "num_ctx": 2}
{"prompt": "Once upon a time there", "num_predict": 4, "temperature": 1.2}"#;

/// A file of the test's own.
fn file(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("batch-{name}.jsonl"));
    let _ = std::fs::remove_file(&path);
    path
}

fn engine() -> Engine {
    let options = EngineOptions::default().with_max_running(3).with_max_queue(4);
    Engine::new(&common::builtin(&Default::default()).unwrap(), &options).unwrap()
}

fn plan(ordered: bool) -> Plan {
    let generate = GenerateOptions::default().with_sampler(SamplerOptions::greedy());
    Plan { defaults: Options { generate, num_ctx: None }, window: 4, ordered, seed: 3 }
}

fn run(engine: &Engine, ordered: bool, input: &str, path: &Path) -> Progress {
    let mut ledger = Ledger::resume(path).unwrap();
    pump::run(engine, &plan(ordered), input.as_bytes(), &mut ledger, |_| {}).unwrap()
}

/// The answers in the order of the file. How much was reused depends on what ran
/// before, nothing else does.
fn answers(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    let answers = text.lines().map(|line| serde_json::from_str(line).unwrap());
    answers
        .map(|mut answer: Value| {
            answer.as_object_mut().unwrap().shift_remove("reused_tokens");
            answer
        })
        .collect()
}

fn by_index(answers: Vec<Value>) -> BTreeMap<u64, Value> {
    let count = answers.len();
    let map: BTreeMap<_, _> =
        answers.into_iter().map(|answer| (answer["index"].as_u64().unwrap(), answer)).collect();
    assert_eq!(map.len(), count, "a line was answered twice");
    map
}

#[test]
fn every_line_is_answered_as_a_session_would() {
    let (engine, path) = (engine(), file("all"));
    let progress = run(&engine, false, INPUT, &path);
    let answers = by_index(answers(&path));
    assert_eq!(answers.keys().copied().collect::<Vec<_>>(), [1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    assert_eq!((progress.answered, progress.errors, progress.skipped), (11, 5, 0));
    assert_eq!(progress.bytes, INPUT.len() as u64);

    let model = engine.model();
    let say = |prompt: &str, options: &GenerateOptions| {
        let mut session = model.session(&SessionOptions::default()).unwrap();
        let pieces = session.generate(prompt, options).unwrap();
        pieces.map(|piece| piece.unwrap().text).collect::<String>()
    };
    let mut options = plan(false).defaults.generate;
    options.num_predict = Some(20);
    assert_eq!(answers[&1]["response"], say("Once upon a time", &options));
    assert_eq!(answers[&1]["id"], "a");
    assert_eq!(answers[&1]["done_reason"], "length");
    assert_eq!(answers[&1]["generated_tokens"], 20);
    let tokens = model.tokenizer().encode("Once upon a time", EncodeOptions::default());
    assert_eq!(answers[&1]["prompt_tokens"], tokens.len());

    options.num_predict = Some(3);
    (options.sampler.seed, options.sampler.temperature) = (Some(5), 0.9);
    assert_eq!(answers[&3]["response"], say("One day", &options));
    assert_eq!(answers[&3]["id"], json!({"page": 2}));

    // Without a seed the line has its own: that of the run and its number.
    options.num_predict = Some(4);
    (options.sampler.seed, options.sampler.temperature) = (Some(3 + 12), 1.2);
    assert_eq!(answers[&12]["response"], say("Once upon a time there", &options));

    options = plan(false).defaults.generate;
    (options.num_predict, options.stop) = (Some(60), vec![".".into()]);
    assert_eq!(answers[&8]["response"], say("The dog", &options));
    assert_eq!(answers[&8]["done_reason"], "stop");

    assert_eq!(answers[&6]["generated_tokens"], 6, "the options of an object count");
    assert!(answers[&6]["id"].is_null() && answers[&6].get("id").is_some());

    let text = model.tokenizer().encode("The cat slept.", EncodeOptions::default());
    let vector = &model.embed(&[text], &EmbedOptions::default()).unwrap()[0].vector;
    let read: Vec<f32> = answers[&5]["embedding"]
        .as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_f64().unwrap() as f32)
        .collect();
    assert_eq!(&read, vector);

    for (index, word) in
        [(4, "JSON"), (7, "temprature"), (9, "object"), (10, "temperature"), (11, "num_ctx")]
    {
        let error = answers[&index]["error"].as_str().expect("an error");
        assert!(error.contains(word), "{index}: {error}");
        assert!(answers[&index].get("response").is_none());
    }
}

/// Wherever the file was cut, by kill -9 or a full disk: the next run completes it to
/// what an undisturbed run has written.
#[test]
fn a_file_that_was_cut_anywhere_is_completed() {
    let (engine, path) = (engine(), file("cut"));
    run(&engine, true, INPUT, &path);
    let (whole, expected) = (std::fs::read(&path).unwrap(), answers(&path));
    let indices: Vec<_> = expected.iter().map(|answer| answer["index"].as_u64().unwrap()).collect();
    assert!(indices.is_sorted(), "{indices:?}");
    // Within the key, the vector and the text; at every end of a line.
    let ends = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
    let around = ends.flat_map(|at| [at, at + 1, at + 2, at + 12, at + 30, at + 200]);
    for cut in (0..40).chain(around).filter(|cut| *cut <= whole.len()) {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let kept = whole[..cut].iter().filter(|byte| **byte == b'\n').count() as u64;
        let progress = run(&engine, true, INPUT, &path);
        assert_eq!(progress.skipped, kept, "cut at {cut}");
        assert_eq!(progress.answered + kept, 11, "cut at {cut}");
        assert_eq!(answers(&path), expected, "cut at {cut}");
    }
    let written = std::fs::read(&path).unwrap();
    assert_eq!(run(&engine, true, INPUT, &path).answered, 0, "nothing is left to do");
    assert_eq!(std::fs::read(&path).unwrap(), written);
}

/// A line that has changed since is asked again; its latest answer is the last.
#[test]
fn a_changed_line_is_answered_again() {
    let (engine, path) = (engine(), file("changed"));
    run(&engine, false, INPUT, &path);
    let changed = INPUT.replace("\"The cat slept.\"", "\"The dog slept.\"");
    let progress = run(&engine, false, &changed, &path);
    assert_eq!((progress.answered, progress.skipped), (1, 10));
    assert_eq!(answers(&path).last().unwrap()["index"], 5);
    assert_eq!(run(&engine, false, &changed, &path).answered, 0);
    assert_eq!(Ledger::resume(&path).unwrap().len(), 11);
}

#[test]
fn a_file_of_somebody_else_is_left_alone() {
    let path = file("foreign");
    for content in ["a letter\n", "a letter", "{\"index\":1}\n", "\n", "{\"id\": 1"] {
        std::fs::write(&path, content).unwrap();
        let error = Ledger::resume(&path).err().expect("a refusal").to_string();
        assert!(error.contains("line 1"), "{content:?}: {error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
    }
    std::fs::remove_file(&path).unwrap();
    let _held = Ledger::resume(&path).unwrap();
    assert!(Ledger::resume(&path).err().unwrap().to_string().contains("another process"));
}

/// The input is read no further than the window reaches.
#[test]
fn the_input_is_read_as_it_is_needed() {
    /// Counts the lines that were read, and says how many were answered by then.
    struct Watched<'a>(Cursor<String>, &'a std::cell::Cell<u64>, &'a std::cell::Cell<u64>);
    impl Read for Watched<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let mut line = Vec::new();
            self.0.read_until(b'\n', &mut line)?;
            if !line.is_empty() {
                self.1.set(self.1.get() + 1);
                let ahead = self.1.get() - self.2.get();
                assert!(ahead <= 4 + 1, "{ahead} lines ahead");
            }
            buffer[..line.len()].copy_from_slice(&line);
            Ok(line.len())
        }
    }
    let engine = engine();
    let lines = (0..40).map(|i| format!("{{\"prompt\": \"{i}\", \"num_predict\": 2}}\n"));
    for ordered in [false, true] {
        let (read, answered) = Default::default();
        let input = Watched(Cursor::new(lines.clone().collect()), &read, &answered);
        let mut ledger = Ledger::new(Box::new(std::io::sink()));
        let show = |progress: &Progress| answered.set(progress.answered);
        let plan = plan(ordered);
        let done = pump::run(&engine, &plan, BufReader::new(input), &mut ledger, show).unwrap();
        assert_eq!((done.answered, read.get()), (40, 40));
    }
}

/// A line without end takes no memory without end, and costs only itself.
#[test]
fn a_line_that_is_too_long_is_skipped() {
    let long = std::io::repeat(b'x').take(LONGEST + 5_000_000);
    let mut lines = Lines::new(BufReader::new(long.chain(&b"\n{}\n  \nlast"[..])));
    let first = lines.next().unwrap().unwrap();
    assert_eq!((first.index, first.text), (1, None));
    let mut next = || lines.next().unwrap().map(|line| (line.index, line.text.unwrap()));
    assert_eq!(next(), Some((2, b"{}".to_vec())));
    assert_eq!(next(), Some((4, b"last".to_vec())));
    assert_eq!(next(), None);
    assert_eq!(lines.bytes, LONGEST + 5_000_000 + 11);
}
