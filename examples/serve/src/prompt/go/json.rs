//! Values as JSON, as Go's `encoding/json` writes it: without spaces, and with `<`, `>`
//! and `&` escaped.

use super::output::Sink;
use super::value::Value;

/// Writes `value`.
pub fn write(sink: &mut Sink, value: &Value) {
    match value {
        Value::Nil => sink.push("null"),
        Value::Bool(value) => sink.push(if *value { "true" } else { "false" }),
        Value::Int(value) => sink.push(&value.to_string()),
        Value::Float(value) => sink.push(&float(*value)),
        Value::Text(text) => quoted(sink, text),
        Value::List(list) => {
            sink.letter('[');
            for (at, item) in list.items().iter().enumerate() {
                separate(sink, at);
                write(sink, item);
            }
            sink.letter(']');
        }
        Value::Map(map) => {
            sink.letter('{');
            match map.json_entries() {
                Some(entries) => pairs(sink, entries),
                None => pairs(sink, map.entries().map(|(key, value)| (&**key, value))),
            }
            sink.letter('}');
        }
    }
}

fn pairs<'v>(sink: &mut Sink, entries: impl Iterator<Item = (&'v str, &'v Value)>) {
    for (at, (key, value)) in entries.enumerate() {
        separate(sink, at);
        quoted(sink, key);
        sink.letter(':');
        write(sink, value);
    }
}

fn separate(sink: &mut Sink, at: usize) {
    if at > 0 {
        sink.letter(',');
    }
}

/// Go's JSON has no exponent between 1e-6 and 1e21.
fn float(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        return "null".into();
    }
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{value:e}");
        return match text.split_once('e') {
            Some((digits, power)) if !power.starts_with('-') => format!("{digits}e+{power}"),
            _ => text,
        };
    }
    format!("{value}")
}

/// What needs no escape is copied in pieces: templates may ask for much JSON.
fn quoted(sink: &mut Sink, text: &str) {
    sink.letter('"');
    let mut rest = text;
    while let Some(at) = rest.bytes().position(may_need_escape) {
        let (plain, from) = rest.split_at(at);
        let mut letters = from.chars();
        sink.push(plain);
        if let Some(letter) = letters.next() {
            escaped(sink, letter);
        }
        rest = letters.as_str();
    }
    sink.push(rest);
    sink.letter('"');
}

/// 0xe2 begins U+2028 and U+2029, and other letters.
fn may_need_escape(byte: u8) -> bool {
    matches!(byte, 0..0x20 | b'"' | b'\\' | b'<' | b'>' | b'&' | 0xe2)
}

fn escaped(sink: &mut Sink, letter: char) {
    match letter {
        '"' => sink.push("\\\""),
        '\\' => sink.push("\\\\"),
        '\n' => sink.push("\\n"),
        '\r' => sink.push("\\r"),
        '\t' => sink.push("\\t"),
        '\u{8}' => sink.push("\\b"),
        '\u{c}' => sink.push("\\f"),
        '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
            sink.push(&format!("\\u{:04x}", u32::from(letter)));
        }
        _ => sink.letter(letter),
    }
}
