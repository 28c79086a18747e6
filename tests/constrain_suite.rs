//! Which values constraints to JSON schemas allow, by the JSON Schema test suite and by schemas
//! in the style of programs; and what a model writes under them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the report")]

mod support;

use std::collections::BTreeMap;
use std::io::{Read, Write};

use serde_json::{Map, Value};
use tramontane::engine::{Engine, EngineOptions, Reply};
use tramontane::internal::accepts;
use tramontane::{
    Constraint, Error, FinishReason, GenerateOptions, SamplerOptions, SessionOptions,
};

/// Values that the compiler judges otherwise than the suite: valid ones that are refused and
/// invalid ones that are allowed, of which draft and file. A constraint may allow less than the
/// schema: `1.0` where it says 1, an escape that is not needed, `1e400`, rare forms of addresses.
/// More is allowed of dates, times and hosts (29 February, leap seconds, dashes in a row), and of
/// one escape in patterns; what a text encodes is not looked at (`contentEncoding`).
const DIFFERENCES: [(&str, &str, usize, usize); 26] = [
    ("draft2020-12", "const", 5, 0),
    ("draft2020-12", "enum", 4, 0),
    ("draft2020-12", "format", 10, 0),
    ("draft2020-12", "optional/bignum", 2, 0),
    ("draft2020-12", "optional/ecmascript-regex", 1, 1),
    ("draft2020-12", "optional/float-overflow", 1, 0),
    ("draft2020-12", "optional/format/date", 0, 3),
    ("draft2020-12", "optional/format/date-time", 0, 2),
    ("draft2020-12", "optional/format/email", 4, 0),
    ("draft2020-12", "optional/format/hostname", 0, 24),
    ("draft2020-12", "optional/format/ipv6", 4, 0),
    ("draft2020-12", "optional/format/time", 0, 10),
    ("draft2020-12", "type", 1, 0),
    ("draft7", "const", 5, 0),
    ("draft7", "enum", 4, 0),
    ("draft7", "optional/bignum", 2, 0),
    ("draft7", "optional/content", 0, 4),
    ("draft7", "optional/ecmascript-regex", 1, 1),
    ("draft7", "optional/float-overflow", 1, 0),
    ("draft7", "optional/format/date", 0, 3),
    ("draft7", "optional/format/date-time", 0, 2),
    ("draft7", "optional/format/hostname", 0, 24),
    ("draft7", "optional/format/ipv6", 4, 0),
    ("draft7", "optional/format/time", 0, 10),
    ("draft7", "ref", 1, 0),
    ("draft7", "type", 1, 0),
];

/// Schemas that are refused, of those of each draft.
const REFUSED: [(&str, usize); 2] = [("draft2020-12", 237), ("draft7", 117)];

fn packed(name: &str) -> Value {
    let file = std::fs::File::open(support::data(name)).unwrap();
    let mut text = String::new();
    lzma_rust2::XzReader::new(file, false).read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The names of properties in the order of the schema: that of the values' text.
fn names(schema: &Value, all: &mut Vec<String>) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::Object(properties)) = map.get("properties") {
                all.extend(properties.keys().cloned());
            }
            if let Some(Value::Array(required)) = map.get("required") {
                all.extend(required.iter().filter_map(|name| name.as_str().map(str::to_owned)));
            }
            map.values().for_each(|inner| names(inner, all));
        }
        Value::Array(items) => items.iter().for_each(|inner| names(inner, all)),
        _ => {}
    }
}

fn ordered(value: &Value, order: &[String]) -> Value {
    match value {
        Value::Object(map) => {
            let place = |name: &String| order.iter().position(|other| other == name);
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(name, _)| place(name).unwrap_or(usize::MAX));
            let inner = entries.into_iter().map(|(name, v)| (name.clone(), ordered(v, order)));
            Value::Object(inner.collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(|item| ordered(item, order)).collect(),
        other => other.clone(),
    }
}

/// Whether each value is allowed, as it is written or in the schema's order.
fn judge<'v>(schema: &Value, values: impl Iterator<Item = &'v Value>) -> Result<Vec<bool>, Error> {
    let mut order = Vec::new();
    names(schema, &mut order);
    let texts: Vec<String> =
        values.flat_map(|value| [value.to_string(), ordered(value, &order).to_string()]).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let verdicts = accepts(&Constraint::json_schema(schema.clone()), &texts)?;
    Ok(verdicts.chunks(2).map(|both| both[0] || both[1]).collect())
}

fn all_keys(value: &Value, keys: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            keys.extend(map.keys().cloned());
            map.values().for_each(|inner| all_keys(inner, keys));
        }
        Value::Array(items) => items.iter().for_each(|inner| all_keys(inner, keys)),
        _ => {}
    }
}

/// A refused schema is one whose error names a keyword of it, or says that it allows nothing.
fn check_refusal(schema: &Value, error: &Error) {
    let text = error.to_string();
    let mut keywords = Vec::new();
    all_keys(schema, &mut keywords);
    let names_a_keyword = |text: &str| {
        let named = |end: &str| keywords.iter().any(|key| text.contains(&format!("{end}{key}\"")));
        named("\"") || named("/")
    };
    let fine = match error {
        Error::Unsupported { .. } => names_a_keyword(&text),
        Error::Misuse(_) => text.contains("allows no") || text.contains("constraint: "),
        _ => false,
    };
    assert!(fine, "{schema}: {error:?}");
}

#[test]
fn the_json_schema_suite_is_followed_but_for_known_differences() {
    let suite = packed("schema/suite.json.xz");
    let mut differences: BTreeMap<(&str, &str), (usize, usize)> = BTreeMap::new();
    let mut refused: BTreeMap<&str, usize> = BTreeMap::new();
    let mut judged = 0;
    for (draft, groups) in suite["drafts"].as_object().unwrap() {
        for group in groups.as_array().unwrap() {
            if group["remote"] == true {
                continue;
            }
            let (schema, tests) = (&group["schema"], group["tests"].as_array().unwrap());
            let verdicts = match judge(schema, tests.iter().map(|test| &test[1])) {
                Ok(verdicts) => verdicts,
                Err(error) => {
                    check_refusal(schema, &error);
                    *refused.entry(draft).or_default() += 1;
                    continue;
                }
            };
            for (test, accepted) in tests.iter().zip(verdicts) {
                judged += 1;
                let valid = test[2].as_bool().unwrap();
                let file = group["file"].as_str().unwrap();
                let counts = differences.entry((draft, file)).or_default();
                counts.0 += usize::from(valid && !accepted);
                counts.1 += usize::from(!valid && accepted);
            }
        }
    }
    let differences: Vec<(&str, &str, usize, usize)> = differences
        .into_iter()
        .filter(|(_, counts)| *counts != (0, 0))
        .map(|((draft, file), (rejected, accepted))| (draft, file, rejected, accepted))
        .collect();
    assert!(judged > 1500, "{judged}");
    assert_eq!(differences, DIFFERENCES, "{judged} judged");
    assert_eq!(refused.into_iter().collect::<Vec<_>>(), REFUSED);
}

fn real() -> Vec<Value> {
    packed("schema/real.json.xz")["schemas"].as_array().unwrap().clone()
}

#[test]
fn schemas_of_programs_are_kept_exactly() {
    let mut unsupported = 0;
    for case in real() {
        let (name, schema) = (case["name"].as_str().unwrap(), &case["schema"]);
        let values = |key: &str| case[key].as_array().unwrap().clone();
        let (valid, invalid) = (values("valid"), values("invalid"));
        match judge(schema, valid.iter().chain(&invalid)) {
            Ok(verdicts) => {
                for (value, accepted) in
                    valid.iter().chain(&invalid).zip(&verdicts).take(valid.len())
                {
                    assert!(accepted, "{name}: {value}");
                }
                for (value, accepted) in invalid.iter().zip(&verdicts[valid.len()..]) {
                    assert!(!accepted, "{name}: {value}");
                }
            }
            Err(error) => {
                assert_eq!(case["unsupported_ok"], true, "{name}: {error}");
                check_refusal(schema, &error);
                unsupported += 1;
            }
        }
    }
    assert!(unsupported <= 3, "{unsupported}");
}

/// Whatever the model would rather say: what it ends by itself is what was asked for.
#[test]
fn answers_to_schemas_of_programs_are_valid() {
    let model = support::Way::whole().model("../../models/storyteller-q4_k_m.gguf");
    let mut session = model.session(&SessionOptions::default()).unwrap();
    let (mut ended, mut all) = (0, 0);
    for (index, case) in real().iter().enumerate() {
        let constraint = Constraint::json_schema(case["schema"].clone());
        if constraint.check().is_err() {
            continue;
        }
        let temperature = [0.0, 1.0, 2.0][index % 3];
        let sampler =
            SamplerOptions::default().with_seed(index as u64).with_temperature(temperature);
        let options = GenerateOptions::default()
            .with_sampler(sampler)
            .with_num_predict(150)
            .with_constraint(constraint.clone());
        session.clear();
        let prompt = case["prompt"].as_str().unwrap();
        let answer = session.generate(prompt, &options).unwrap().wait().unwrap();
        all += 1;
        match answer.summary.finish_reason {
            Some(FinishReason::EndOfText) => {
                ended += 1;
                let value: Result<Value, _> = serde_json::from_str(&answer.text);
                assert!(value.is_ok(), "{}: {}", case["name"], answer.text);
                let required = case["schema"]["required"].as_array();
                for name in required.into_iter().flatten() {
                    let found = value.as_ref().unwrap().get(name.as_str().unwrap());
                    assert!(found.is_some(), "{}: {}", case["name"], answer.text);
                }
                let accepted = accepts(&constraint, &[&answer.text]).unwrap();
                assert_eq!(accepted, [true], "{}: {}", case["name"], answer.text);
            }
            Some(FinishReason::Length) => {}
            other => panic!("{}: {other:?}: {}", case["name"], answer.text),
        }
    }
    assert!(all >= 40 && ended * 3 > all, "{ended} of {all}");
}

/// Writes what the model answers under every schema that is supported to the file that
/// `ANSWERS` names, a JSON object per line: for `.ci/constrained`, which has it judged.
#[test]
#[ignore = "minutes; .ci/constrained runs it"]
fn answers_for_an_independent_judge() {
    let file = std::fs::File::create(std::env::var("ANSWERS").unwrap()).unwrap();
    let mut file = std::io::BufWriter::new(file);
    let model = support::Way::whole().model("../../models/storyteller-q4_k_m.gguf");
    let options = EngineOptions::default().with_num_ctx(256).with_kv_bytes(2 << 30);
    let engine = Engine::new(&model, &options).unwrap();
    let mut cases: Vec<(String, String, Value, u64)> = Vec::new();
    for case in real() {
        let name = case["name"].as_str().unwrap().to_owned();
        cases.push(("draft2020-12".into(), name, case["schema"].clone(), 9));
    }
    for (draft, groups) in packed("schema/suite.json.xz")["drafts"].as_object().unwrap() {
        for group in groups.as_array().unwrap().iter().filter(|group| group["remote"] != true) {
            let name = format!("{}: {}", group["file"], group["description"]);
            // A temperature and a seed each: there are many.
            cases.push((draft.clone(), name, group["schema"].clone(), 3));
        }
    }
    for (draft, name, schema, ways) in cases {
        let constraint = Constraint::json_schema(schema.clone());
        if constraint.check().is_err() {
            continue;
        }
        let replies: Vec<Reply> = (0..ways)
            .map(|way| {
                let sampler = SamplerOptions::default().with_temperature((way % 3) as f32);
                let options = GenerateOptions::default()
                    .with_sampler(sampler.with_seed(way))
                    .with_num_predict(160)
                    .with_constraint(constraint.clone());
                engine.generate("Tell me about it in JSON.", &options).unwrap()
            })
            .collect();
        for reply in replies {
            let answer = reply.wait().unwrap();
            let ended = match answer.summary.finish_reason {
                Some(FinishReason::EndOfText) => true,
                Some(FinishReason::Length | FinishReason::ContextFull) => false,
                other => panic!("{name}: {other:?}: {}", answer.text),
            };
            let line = serde_json::json!({
                "draft": draft, "name": name, "schema": schema, "ended": ended,
                "text": answer.text,
            });
            writeln!(file, "{line}").unwrap();
        }
    }
}
