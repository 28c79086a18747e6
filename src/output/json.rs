//! JSON as models write it: where a value ends in a growing text, and its value with the
//! slips that change no meaning put right.

use serde_json::Value as Json;

/// Deeper values are no calls.
const DEPTH: usize = 100;

/// How far a value goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scan {
    /// It ends here.
    Done(usize),
    /// It does not end before this place, where the text ends or something stands that
    /// cannot be there.
    Stop {
        at: usize,
        /// The closing brackets that are missing, if nothing else is.
        closers: Option<String>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Value,
    /// A value or the end of an empty array.
    ValueOrEnd,
    /// A key or the end of an object.
    KeyOrEnd,
    Colon,
    CommaOrEnd,
}

/// Where the object or array that `text` begins with ends.
pub(super) fn scan(text: &str) -> Scan {
    let bytes = text.as_bytes();
    let mut stack: Vec<u8> = Vec::new();
    let mut expect = Expect::Value;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let next = match (byte, expect) {
            (b' ' | b'\t' | b'\n' | b'\r', _) => Some((at + 1, expect)),
            (b'{' | b'[', Expect::Value | Expect::ValueOrEnd) if stack.len() < DEPTH => {
                stack.push(byte);
                let inside = if byte == b'{' { Expect::KeyOrEnd } else { Expect::ValueOrEnd };
                Some((at + 1, inside))
            }
            (b'}', Expect::CommaOrEnd | Expect::KeyOrEnd) if stack.last() == Some(&b'{') => {
                stack.pop();
                Some((at + 1, Expect::CommaOrEnd))
            }
            (b']', Expect::CommaOrEnd | Expect::ValueOrEnd) if stack.last() == Some(&b'[') => {
                stack.pop();
                Some((at + 1, Expect::CommaOrEnd))
            }
            (b',', Expect::CommaOrEnd) => {
                // A comma before the end is one of the slips.
                let object = stack.last() == Some(&b'{');
                Some((at + 1, if object { Expect::KeyOrEnd } else { Expect::ValueOrEnd }))
            }
            (b':', Expect::Colon) => Some((at + 1, Expect::Value)),
            (b'"', Expect::KeyOrEnd) if !stack.is_empty() => {
                string_end(bytes, at).map(|end| (end, Expect::Colon))
            }
            (b'"', Expect::Value | Expect::ValueOrEnd) if !stack.is_empty() => {
                string_end(bytes, at).map(|end| (end, Expect::CommaOrEnd))
            }
            (_, Expect::Value | Expect::ValueOrEnd) if !stack.is_empty() => {
                match literal(bytes, at) {
                    Literal::Ends(end) => Some((end, Expect::CommaOrEnd)),
                    Literal::Open => None,
                    Literal::Bad => return Scan::Stop { at, closers: None },
                }
            }
            _ => return stopped(at, expect, &stack),
        };
        let Some((after, then)) = next else {
            return Scan::Stop { at: text.len(), closers: None };
        };
        (at, expect) = (after, then);
        if stack.is_empty() {
            return if expect == Expect::CommaOrEnd {
                Scan::Done(at)
            } else {
                stopped(at, expect, &stack)
            };
        }
    }
    stopped(at, expect, &stack)
}

fn stopped(at: usize, expect: Expect, stack: &[u8]) -> Scan {
    let whole = expect == Expect::CommaOrEnd && !stack.is_empty();
    let close = |open: &u8| if *open == b'{' { '}' } else { ']' };
    Scan::Stop { at, closers: whole.then(|| stack.iter().rev().map(close).collect()) }
}

/// The end of the string that begins at `at`.
fn string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut escaped = false;
    for (place, &byte) in bytes.iter().enumerate().skip(at + 1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(place + 1),
            _ => {}
        }
    }
    None
}

enum Literal {
    Ends(usize),
    /// The text ends before it is sure to be whole.
    Open,
    Bad,
}

/// A number or one of the three words.
fn literal(bytes: &[u8], at: usize) -> Literal {
    let rest = bytes.get(at..).unwrap_or_default();
    for word in ["true", "false", "null"] {
        if rest.starts_with(word.as_bytes()) {
            return Literal::Ends(at + word.len());
        }
        if word.as_bytes().starts_with(rest) {
            return Literal::Open;
        }
    }
    let number = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
    if !rest.first().is_some_and(|byte| byte.is_ascii_digit() || *byte == b'-') {
        return Literal::Bad;
    }
    match rest.iter().position(|byte| !number(byte)) {
        Some(length) if b" \t\r\n,}]".contains(&rest[length]) => Literal::Ends(at + length),
        Some(_) => Literal::Bad,
        None => Literal::Open,
    }
}

/// The value of `text` with `closers` behind it; `None` for what is no JSON. Line breaks and
/// tabs in strings count as escaped, half a surrogate pair as U+FFFD, of equal keys the last.
pub(super) fn read(text: &str, closers: &str) -> Option<Json> {
    serde_json::from_str(&(strict(text) + closers)).ok()
}

/// The same in strict JSON.
fn strict(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(open) = rest.find(['"', ',']) {
        let (before, from) = rest.split_at(open);
        finite(before, &mut out);
        if let Some(behind) = from.strip_prefix(',') {
            if !behind.trim_start().starts_with(['}', ']']) {
                out.push(',');
            }
            rest = behind;
        } else {
            let end = string_end(from.as_bytes(), 0).unwrap_or(from.len());
            strict_string(&from[..end], &mut out);
            rest = &from[end..];
        }
    }
    finite(rest, &mut out);
    out
}

/// Copies what is between strings. Numbers beyond all floats become the last float: a model
/// that writes by a schema is free to write them.
fn finite(text: &str, out: &mut String) {
    if !text.contains(['e', 'E']) && text.len() < 300 {
        return out.push_str(text);
    }
    let number = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit() || c == '-') {
        let (before, from) = rest.split_at(start);
        let (written, behind) = from.split_at(from.find(|c| !number(c)).unwrap_or(from.len()));
        out.push_str(before);
        match written.parse::<f64>() {
            Ok(value) if value.is_infinite() => {
                out.push_str(if value > 0.0 {
                    "1.7976931348623157e308"
                } else {
                    "-1.7976931348623157e308"
                });
            }
            _ => out.push_str(written),
        }
        rest = behind;
    }
    out.push_str(rest);
}

/// One string, with its quotes.
fn strict_string(text: &str, out: &mut String) {
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c == '\\' || c < ' ') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let Some(escape) = from.strip_prefix('\\') else {
            out.push_str(&format!("\\u{:04x}", u32::from(from.as_bytes()[0])));
            rest = &from[1..];
            continue;
        };
        rest = match escape.chars().next() {
            Some('"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't') => {
                out.push_str(&from[..2]);
                &escape[1..]
            }
            Some('u') if unit(escape).is_some() => unicode(escape, out),
            Some('\'') => escape,
            // An escape that JSON does not know: the backslash is meant.
            _ => {
                out.push_str("\\\\");
                escape
            }
        };
    }
    out.push_str(rest);
}

/// The UTF-16 unit of `uXXXX`.
fn unit(escape: &str) -> Option<u32> {
    let digits = escape.strip_prefix('u')?.get(..4)?;
    let hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    hex.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
}

/// Copies the escape `uXXXX`, and its second half if it has one; gives what is behind it.
fn unicode<'t>(escape: &'t str, out: &mut String) -> &'t str {
    let (Some(first), Some(behind)) = (unit(escape), escape.get(5..)) else { return escape };
    let second = behind.strip_prefix('\\').and_then(unit);
    let pair = second.is_some_and(|second| (0xDC00..0xE000).contains(&second));
    match first {
        0xD800..0xDC00 if pair => {
            out.push('\\');
            out.push_str(escape.get(..11).unwrap_or_default());
            escape.get(11..).unwrap_or_default()
        }
        0xD800..0xE000 => {
            out.push('\u{FFFD}');
            behind
        }
        _ => {
            out.push('\\');
            out.push_str(escape.get(..5).unwrap_or_default());
            behind
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed expectation in a test is the report")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_ends_at_its_last_bracket_and_nowhere_before() {
        let text = r#"{"a": [1, -2.5e3, true, null, "}\"]"], "b": {}} tail"#;
        let end = text.len() - " tail".len();
        assert_eq!(scan(text), Scan::Done(end));
        for cut in 0..end {
            let Scan::Stop { at, closers } = scan(&text[..cut]) else { panic!("{cut}") };
            assert_eq!(at, cut);
            if let Some(closers) = closers {
                assert!(read(&text[..cut], &closers).is_some(), "{cut}: {closers}");
            }
        }
    }

    #[test]
    fn what_cannot_be_json_is_found_at_once() {
        for (text, place) in [
            ("{'a': 1}", 1),
            (r#"{"a": Oslo}"#, 6),
            (r#"{"a" 1}"#, 5),
            (r#"{"a": 1<"#, 6),
            ("[}", 1),
            (r#"{"a": 1]"#, 7),
            ("x", 0),
            (r#""a""#, 0),
        ] {
            let Scan::Stop { at, .. } = scan(text) else { panic!("{text}") };
            assert_eq!(at, place, "{text}");
        }
        assert!(matches!(scan(&"[".repeat(1000)), Scan::Stop { at: DEPTH, closers: None }));
    }

    #[test]
    fn only_brackets_are_supplied() {
        let closers = |text| match scan(text) {
            Scan::Stop { closers, .. } => closers,
            Scan::Done(_) => panic!("{text}"),
        };
        assert_eq!(closers(r#"{"a": {"b": ["c""#).as_deref(), Some("]}}"));
        assert_eq!(closers(r#"{"a": true"#).as_deref(), Some("}"));
        for open in [r#"{"a": "b"#, r#"{"a""#, r#"{"a":"#, r#"{"a": 12"#, r#"{"a": tru"#, "{"] {
            assert_eq!(closers(open), None, "{open}");
        }
    }

    #[test]
    fn slips_are_put_right() {
        for (text, value) in [
            ("{\"a\": \"one\ntwo\tthree\"}", json!({"a": "one\ntwo\tthree"})),
            (r#"{"a": "x\ud83dy"}"#, json!({"a": "x\u{FFFD}y"})),
            (r#"{"a": "\ude00\ud83d\ude00\ud83d"}"#, json!({"a": "\u{FFFD}😀\u{FFFD}"})),
            (r#"{"a": "\ud83d\ud83d\ude00\u00e9"}"#, json!({"a": "\u{FFFD}😀é"})),
            (r#"{"a": 1, "a": 2}"#, json!({"a": 2})),
            (r#"{"a": [1, 2, ], }"#, json!({"a": [1, 2]})),
            (
                r#"{"a": "\d+\'s \u12", "b": "C:\\x, ]"}"#,
                json!({"a": "\\d+'s \\u12", "b": "C:\\x, ]"}),
            ),
            (
                r#"{"a": [7e2379, -1E999], "b": true}"#,
                json!({"a": [f64::MAX, f64::MIN], "b": true}),
            ),
            (r#"{"a": 12345678901234567890}"#, json!({"a": 12_345_678_901_234_567_890_u64})),
        ] {
            assert_eq!(scan(text), Scan::Done(text.len()), "{text}");
            assert_eq!(read(text, ""), Some(value), "{text}");
        }
        assert_eq!(read(r#"{"a": 01}"#, ""), None);
    }
}
