//! Constraints made to cost: each is answered or refused within a second and 64 MiB.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the report")]

mod support;

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tramontane::{
    Constraint, Error, FinishReason, GenerateOptions, Model, ModelOptions, SamplerOptions,
    SessionOptions,
};

/// Time that all threads of the process computed, where the system tells; else since `start`.
fn spent(start: Instant) -> Duration {
    let ticks = || {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
        Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
    };
    ticks().map_or(start.elapsed(), |ticks| Duration::from_millis(ticks * 10))
}

/// KiB of a line of the process's status, where the system tells.
fn status(line: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|found| found.strip_prefix(line))?;
    line.split_whitespace().next()?.parse().ok()
}

fn nested(levels: usize, inner: Value, around: impl Fn(Value) -> Value) -> Value {
    (0..levels).fold(inner, |inner, _| around(inner))
}

/// An object with one key. (`json!` would copy what is within.)
fn within(key: &str, inner: Value) -> Value {
    Value::Object([(key.to_owned(), inner)].into_iter().collect())
}

fn schemas() -> Vec<(&'static str, Value)> {
    let many = |count: usize, value: &dyn Fn(usize) -> Value| -> Value {
        (0..count)
            .map(|i| (format!("property{i}"), value(i)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let string = || json!({"type": "string"});
    let mut all = vec![
        ("large divisor", json!({"type": "integer", "multipleOf": 1_000_003})),
        ("larger divisor", json!({"multipleOf": 4_294_967_291u64})),
        ("largest divisor", json!({"multipleOf": 1e308})),
        ("small divisor", json!({"multipleOf": 1e-9})),
        ("smallest divisor", json!({"multipleOf": 5e-324})),
        ("divisor of zero", json!({"multipleOf": 0})),
        ("allowed divisor", json!({"type": "integer", "multipleOf": 7919})),
        ("divisors together", json!({"allOf": [{"multipleOf": 7919}, {"multipleOf": 7907}]})),
        (
            "divisors in properties",
            json!({"allOf": [
                {"properties": {"a": {"multipleOf": 7919}}}, {"properties": {"a": {"multipleOf": 7907}}},
            ]}),
        ),
        ("divisor in data", json!({"$ref": "#/default", "default": {"multipleOf": 1_000_003}})),
        (
            "many divisors",
            json!({"properties": many(20, &|i| json!({"type": "integer", "multipleOf": 9000 + i}))}),
        ),
        ("itself", json!({"$ref": "#"})),
        (
            "itself by a way round",
            json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
        ),
        ("itself or nothing", json!({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]})),
        ("all of itself", json!({"allOf": [{"$ref": "#"}, {"type": "object"}]})),
        ("itself with a sibling", json!({"$ref": "#", "type": "object"})),
        ("array of itself", json!({"type": "array", "items": {"$ref": "#"}, "minItems": 1})),
        ("object of itself", json!({"properties": {"a": {"$ref": "#"}}, "required": ["a"]})),
        (
            "tree twice",
            json!({
                "allOf": [{"$ref": "#/$defs/x"}, {"$ref": "#/$defs/y"}],
                "$defs": {
                    "x": {"properties": {"child": {"$ref": "#/$defs/x"}}},
                    "y": {"properties": {"child": {"$ref": "#/$defs/y"}}},
                },
            }),
        ),
        ("reference to nothing", json!({"$ref": "#/$defs/none"})),
        ("reference elsewhere", json!({"$ref": "https://example.org/schema.json"})),
        ("reference to a file", json!({"$ref": "file:///etc/passwd"})),
        ("reference to a number", json!({"$ref": "#/x", "x": 7})),
        ("reference that is none", json!({"$ref": 7})),
        (
            "counted repetitions",
            json!({"type": "string", "pattern": "^(([a-z]{1,50}){1,50}){1,50}$"}),
        ),
        (
            "more counted repetitions",
            json!({"type": "string", "pattern": "^((((a{1,30}){1,30}){1,30}){1,30}){1,30}$"}),
        ),
        ("large count", json!({"type": "string", "pattern": "^a{1000000}$"})),
        (
            "large counts in a row",
            json!({"type": "string", "pattern": "^(a{0,9999}b{0,9999}){0,9999}$"}),
        ),
        ("doubling alternatives", json!({"type": "string", "pattern": "^(a|a)*(a|a)*(a|aa)*b$"})),
        (
            "the 40th from the end",
            json!({"type": "string", "pattern": format!("(a|b)*a{}$", "(a|b)".repeat(40))}),
        ),
        ("look-ahead", json!({"type": "string", "pattern": "^(?!a)b"})),
        ("back reference", json!({"type": "string", "pattern": "(a)\\1"})),
        ("broken pattern", json!({"type": "string", "pattern": "(["})),
        ("unicode classes", json!({"type": "string", "pattern": "^(\\p{L}\\p{M}*){1,200}$"})),
        ("pattern that matches nothing", json!({"type": "string", "pattern": "a", "maxLength": 0})),
        (
            "pattern with a length",
            json!({"type": "string", "pattern": "^\\w+([.-]?\\w+)*@\\w+$", "minLength": 500}),
        ),
        ("long text", json!({"type": "string", "maxLength": 1_000_000_000})),
        ("longer text", json!({"type": "string", "minLength": 1_000_000_000})),
        ("lengths without end", json!({"type": "string", "minLength": u64::MAX})),
        ("lengths the wrong way", json!({"type": "string", "minLength": 3, "maxLength": 2})),
        ("many items", json!({"type": "array", "minItems": 1_000_000_000, "items": string()})),
        ("items without end", json!({"type": "array", "minItems": u64::MAX})),
        (
            "many items of many items",
            json!({"type": "array", "minItems": 9999, "items": {"type": "array", "minItems": 9999}}),
        ),
        (
            "at most many items",
            json!({"type": "array", "maxItems": 100_000, "items": {"type": "object"}}),
        ),
        ("many properties", json!({"properties": many(300, &|_| string())})),
        (
            "many more properties",
            json!({"properties": many(3000, &|_| string()), "additionalProperties": false}),
        ),
        (
            "many required",
            json!({"properties": many(1000, &|_| string()), "required": (0..1000).map(|i| format!("property{i}")).collect::<Vec<_>>()}),
        ),
        (
            "required but not described",
            json!({"required": (0..5000).map(|i| i.to_string()).collect::<Vec<_>>()}),
        ),
        (
            "at least some of many",
            json!({"properties": many(200, &|_| string()), "minProperties": 1, "maxProperties": 1, "additionalProperties": false}),
        ),
        (
            "many values",
            json!({"enum": (0..20_000).map(|i| format!("value {i}")).collect::<Vec<_>>()}),
        ),
        ("many numbers", json!({"enum": (0..5000).collect::<Vec<_>>()})),
        (
            "many objects",
            json!({"enum": (0..1000).map(|i| json!({"a": i, "b": [i]})).collect::<Vec<_>>()}),
        ),
        ("long value", json!({"const": "x".repeat(100_000)})),
        (
            "long name",
            json!({"properties": {"x".repeat(100_000): string()}, "required": ["x".repeat(100_000)]}),
        ),
        (
            "names with everything",
            json!({"properties": {"\u{0}\u{7f}\"\\/\u{ffff}": string(), "": {}}}),
        ),
        (
            "patterns of names",
            json!({"patternProperties": {"^a": string(), "^a+": {"type": "integer"}}}),
        ),
        (
            "many patterns of names",
            json!({"patternProperties": (0..60).map(|i| (format!("^x{i}-[a-z]*$"), string())).collect::<serde_json::Map<_, _>>()}),
        ),
        (
            "overlapping names",
            json!({"properties": {"abc": string()}, "patternProperties": {"^[a-c]*$": {"type": "integer"}}}),
        ),
        (
            "alternatives in alternatives",
            nested(12, string(), |inner| json!({"oneOf": [inner, {"type": "integer"}]})),
        ),
        (
            "alternatives of objects",
            nested(
                12,
                string(),
                |inner| json!({"oneOf": [{"properties": {"a": inner}, "required": ["a"]}, {"type": "integer"}]}),
            ),
        ),
        (
            "any of any of",
            nested(40, string(), |inner| json!({"anyOf": [inner, {"type": "integer"}]})),
        ),
        (
            "doubling alternatives of schemas",
            nested(
                12,
                string(),
                |inner| json!({"anyOf": [{"type": "array", "items": inner}, {"type": "array", "items": inner}]}),
            ),
        ),
        (
            "products of alternatives",
            json!({"allOf": (0..12).map(|i| json!({"anyOf": [{"properties": {format!("a{i}"): string()}}, {"properties": {format!("b{i}"): string()}}]})).collect::<Vec<_>>()}),
        ),
        (
            "many parts",
            json!({"allOf": (0..2000).map(|i| json!({"properties": {format!("a{i}"): string()}})).collect::<Vec<_>>()}),
        ),
        ("deep", nested(90, string(), |inner| within("items", inner))),
        ("deeper", nested(1000, string(), |inner| within("items", inner))),
        ("deepest", nested(3000, string(), |inner| within("properties", within("a", inner)))),
        ("definitions that double", {
            let mut defs = serde_json::Map::new();
            for i in 0..24 {
                let next = json!({"$ref": format!("#/$defs/d{}", i + 1)});
                defs.insert(format!("d{i}"), json!({"type": "object", "properties": {"l": next, "r": next}, "required": ["l", "r"]}));
            }
            defs.insert("d24".into(), string());
            json!({"$ref": "#/$defs/d0", "$defs": defs})
        }),
        ("definitions that double in place", {
            let mut defs = serde_json::Map::new();
            for i in 0..24 {
                let next = json!({"$ref": format!("#/$defs/d{}", i + 1)});
                defs.insert(format!("d{i}"), json!({"allOf": [next, next]}));
            }
            defs.insert("d24".into(), json!({"type": "object"}));
            json!({"$ref": "#/$defs/d0", "$defs": defs})
        }),
        ("bounds of many digits", json!({"type": "integer", "minimum": -1e300, "maximum": 1e300})),
        (
            "bounds of many decimals",
            json!({"type": "number", "minimum": 0.123_456_789_012_345_6, "maximum": 0.123_456_789_012_345_7}),
        ),
        ("bounds the wrong way", json!({"type": "integer", "minimum": 2, "maximum": 1})),
        ("no type", json!({"type": "thing"})),
        ("no types", json!({"type": []})),
        ("types of types", json!({"type": [["string"]]})),
        ("keywords of wrong types", json!({"properties": 7, "items": "x", "required": {"a": 1}})),
        ("nothing allowed", json!({"not": {}})),
        ("no value", json!({"enum": []})),
        (
            "formats together",
            json!({"allOf": [{"format": "ipv6"}, {"format": "uri"}, {"format": "email"}], "type": "string"}),
        ),
        (
            "options of the compiler",
            json!({"type": "string", "x-guidance": {"lenient": true, "whitespace_pattern": "(([a-z]{1,50}){1,50}){1,50}"}}),
        ),
        (
            "options within",
            json!({"items": {"x-guidance": {"item_separator": "((a{1,99}){1,99}){1,99}"}}}),
        ),
        ("number without end", json!({"type": "number"})),
        ("not a schema", json!("string")),
    ];
    all.extend(
        ["dependentRequired", "unevaluatedProperties", "contains", "propertyNames", "uniqueItems"]
            .map(|keyword| (keyword, json!({keyword: {"a": ["b"]}}))),
    );
    all
}

fn others() -> Vec<(&'static str, Constraint)> {
    vec![
        ("regex: counted", Constraint::regex("(([a-z]{1,50}){1,50}){1,50}")),
        ("regex: 10^9", Constraint::regex("a{1000000000}")),
        ("regex: broken", Constraint::regex("a(")),
        ("regex: backslash", Constraint::regex("a\\")),
        ("regex: nothing", Constraint::regex("[a&&b]")),
        ("regex: long", Constraint::regex("abc|".repeat(50_000))),
        ("regex: groups", Constraint::regex(format!("{}a{}", "(".repeat(5000), ")".repeat(5000)))),
        ("regex: classes", Constraint::regex("[\\p{L}--a]{1,100}[^\\p{Greek}]*".repeat(20))),
        ("choices: none", Constraint::choices(Vec::<String>::new())),
        ("choices: empty", Constraint::choices([""])),
        ("choices: many", Constraint::choices((0..20_000).map(|i| format!("choice {i}")))),
        ("choices: long", Constraint::choices(["x".repeat(500_000)])),
        ("choices: longer", Constraint::choices(["x".repeat(2_000_000)])),
        ("lark: empty", Constraint::lark("")),
        ("lark: no start", Constraint::lark("x: \"a\"")),
        ("lark: itself", Constraint::lark("start: start")),
        ("lark: nothing but itself", Constraint::lark("start: \"a\" start")),
        (
            "lark: ambiguous",
            Constraint::lark("start: start start | start start start | \"a\" | \"\""),
        ),
        ("lark: terminal in a circle", Constraint::lark("start: A\nA: B\nB: A")),
        ("lark: divisor", Constraint::lark("start: %json {\"multipleOf\": 1000003}")),
        ("lark: nested", Constraint::lark(nested_lark(40))),
        (
            "lark: groups",
            Constraint::lark(format!("start: {}\"a\"{}", "(".repeat(9000), ")".repeat(9000))),
        ),
        ("lark: repetitions", Constraint::lark("start: ((\"a\" \"b\"){1,9999} \"c\"){1,9999}")),
        ("lark: doubling", Constraint::lark(doubling())),
        (
            "lark: complement",
            Constraint::lark("start: A\nA: ~(/(a|b)*a(a|b){20}/) & /[ab]{0,4000}/"),
        ),
        ("lark: no token", Constraint::lark("start: <[4000000000]>")),
        ("lark: no name", Constraint::lark("start: <|nonsense|>")),
        ("lark: escapes its braces", Constraint::lark("start: \"a\"\n}\nstart: \"b\" %lark {")),
        ("lark: long", Constraint::lark(format!("start: \"{}\"", "y".repeat(2_000_000)))),
    ]
}

fn nested_lark(levels: usize) -> String {
    (0..levels).fold("start: \"a\"".into(), |inner, _| format!("start: %lark {{\n{inner}\n}}"))
}

fn doubling() -> String {
    let rules: String = (0..40).map(|i| format!("r{i}: r{} r{}\n", i + 1, i + 1)).collect();
    format!("start: r0\n{rules}r40: \"a\"\n")
}

/// What became of it, in a word.
fn answer(model: &Model, constraint: Constraint) -> &'static str {
    let sampler = SamplerOptions::default().with_temperature(1.5).with_seed(1);
    let options = GenerateOptions::default().with_sampler(sampler).with_num_predict(24);
    let options = options.with_constraint(constraint);
    let mut session = model.session(&SessionOptions::default()).unwrap();
    match session.generate("Once", &options) {
        Err(Error::Misuse(_) | Error::Unsupported { .. } | Error::Limit { .. }) => "refused",
        Err(error) => panic!("{error:?}"),
        Ok(generation) => match generation.wait().unwrap().summary.finish_reason {
            Some(FinishReason::EndOfText) => "ended",
            Some(FinishReason::Length) => "cut",
            Some(FinishReason::Constraint) => "stuck",
            other => panic!("{other:?}"),
        },
    }
}

#[test]
fn hostile_constraints_are_answered_or_refused_at_once() {
    let model = support::data("../../models/storyteller-q4_k_m.gguf");
    let model = Model::open_with(model, &ModelOptions::default().with_threads(1)).unwrap();
    // The vocabulary is made ready once.
    model.check_constraint(&Constraint::json()).unwrap();
    let schemas =
        schemas().into_iter().map(|(name, schema)| (name, Constraint::json_schema(schema)));
    let (mut slow, mut counts) = (Vec::new(), std::collections::BTreeMap::new());
    for (name, constraint) in schemas.chain(others()) {
        let start = Instant::now();
        // From here on the peak is counted anew.
        let _ = fs::write("/proc/self/clear_refs", "5");
        let (before, memory) = (spent(start), status("VmRSS:"));
        let what = answer(&model, constraint);
        let time = spent(start) - before;
        let kib =
            status("VmHWM:").zip(memory).map_or(0, |(peak, before)| peak.saturating_sub(before));
        if time > Duration::from_secs(1) || kib > 64 << 10 {
            slow.push(format!("{name}: {what}, {time:?}, {kib} KiB"));
        }
        *counts.entry(what).or_insert(0) += 1;
    }
    assert!(slow.is_empty(), "{slow:#?}");
    assert!(counts.values().sum::<i32>() >= 100, "{counts:?}");
    assert!(counts["refused"] > 30 && counts["cut"] + counts["ended"] > 20, "{counts:?}");
}
