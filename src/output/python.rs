//! Calls as models write them in Python: `get_weather(city="Oslo", days=3)`.

use serde_json::{Map, Value as Json};

/// Deeper values are no calls.
const DEPTH: usize = 50;

/// Why there is no call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The text ends too early.
    End,
    /// Something that cannot be there stands at this place.
    At(usize),
}

/// A call: its function, its arguments, and where it ends.
pub(super) type Call<'t> = (&'t str, Map<String, Json>, usize);

/// The call that `text` begins with; the function's name may have `suffix` behind it.
///
/// Arguments without a name are none: which parameters they are would be a guess.
pub(super) fn call<'t>(text: &'t str, suffix: &str) -> Result<Call<'t>, Stop> {
    let mut reader = Reader { text, at: 0 };
    let whole = reader.word(|c| c.is_alphanumeric() || "_-.".contains(c))?;
    let name = whole.strip_suffix(suffix).filter(|name| !name.is_empty());
    let name = name.ok_or(Stop::At(0))?;
    reader.expect('(')?;
    let mut arguments = Map::new();
    loop {
        reader.space();
        if reader.take(')') {
            return Ok((name, arguments, reader.at));
        }
        let key = reader.word(|c| c.is_alphanumeric() || c == '_')?;
        reader.space();
        reader.expect('=')?;
        let value = reader.value(0)?;
        arguments.insert(key.to_owned(), value);
        reader.space();
        // Templates with calls in their history are known to leave the comma out.
        reader.take(',');
    }
}

/// Whether `text` begins as a call of one of these functions does.
pub(super) fn begins_call(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn stop(&self) -> Stop {
        if self.rest().is_empty() { Stop::End } else { Stop::At(self.at) }
    }

    fn space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn take(&mut self, c: char) -> bool {
        let there = self.rest().starts_with(c);
        self.at += if there { c.len_utf8() } else { 0 };
        there
    }

    fn expect(&mut self, c: char) -> Result<(), Stop> {
        if self.take(c) { Ok(()) } else { Err(self.stop()) }
    }

    /// A word that something follows.
    fn word(&mut self, belongs: impl Fn(char) -> bool) -> Result<&'t str, Stop> {
        let rest = self.rest();
        let length = rest.find(|c| !belongs(c)).ok_or(Stop::End)?;
        if length == 0 {
            return Err(self.stop());
        }
        self.at += length;
        Ok(&rest[..length])
    }

    fn value(&mut self, depth: usize) -> Result<Json, Stop> {
        self.space();
        if depth > DEPTH {
            return Err(Stop::At(self.at));
        }
        match self.rest().chars().next().ok_or(Stop::End)? {
            quote @ ('"' | '\'') => self.string(quote).map(Json::String),
            '[' => self.list(']', depth),
            '(' => self.list(')', depth),
            '{' => self.dict(depth),
            _ => self.literal(),
        }
    }

    fn list(&mut self, close: char, depth: usize) -> Result<Json, Stop> {
        self.at += 1;
        let mut items = Vec::new();
        loop {
            self.space();
            if self.take(close) {
                return Ok(Json::Array(items));
            }
            items.push(self.value(depth + 1)?);
            self.space();
            if !self.take(',') && !self.rest().starts_with(close) {
                return Err(self.stop());
            }
        }
    }

    fn dict(&mut self, depth: usize) -> Result<Json, Stop> {
        self.at += 1;
        let mut fields = Map::new();
        loop {
            self.space();
            if self.take('}') {
                return Ok(Json::Object(fields));
            }
            let place = self.at;
            let Json::String(key) = self.value(depth + 1)? else { return Err(Stop::At(place)) };
            self.space();
            self.expect(':')?;
            let value = self.value(depth + 1)?;
            fields.insert(key, value);
            self.space();
            if !self.take(',') && !self.rest().starts_with('}') {
                return Err(self.stop());
            }
        }
    }

    fn literal(&mut self) -> Result<Json, Stop> {
        let place = self.at;
        let word = self.word(|c| c.is_alphanumeric() || "+-._".contains(c))?;
        match word {
            "True" | "true" => Ok(Json::Bool(true)),
            "False" | "false" => Ok(Json::Bool(false)),
            "None" | "null" => Ok(Json::Null),
            _ => match serde_json::from_str(&word.replace('_', "")) {
                Ok(number @ Json::Number(_)) => Ok(number),
                _ => Err(Stop::At(place)),
            },
        }
    }

    fn string(&mut self, quote: char) -> Result<String, Stop> {
        let mut out = String::new();
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => {
                    let (_, escaped) = chars.next().ok_or(Stop::End)?;
                    match escaped {
                        'n' => out.push('\n'),
                        't' => out.push('\t'),
                        'r' => out.push('\r'),
                        '\n' => {}
                        'x' => out.push(code(&mut chars, 2)?),
                        'u' => out.push(code(&mut chars, 4)?),
                        'U' => out.push(code(&mut chars, 8)?),
                        '\\' | '\'' | '"' => out.push(escaped),
                        // As in Python: the backslash is meant.
                        other => out.extend(['\\', other]),
                    }
                }
                _ if c == quote => {
                    self.at += at + 1;
                    return Ok(out);
                }
                _ => out.push(c),
            }
        }
        Err(Stop::End)
    }
}

/// The character with a number of so many hexadecimal digits; U+FFFD if there is none.
fn code(chars: &mut impl Iterator<Item = (usize, char)>, digits: usize) -> Result<char, Stop> {
    let mut number = 0_u32;
    for _ in 0..digits {
        let (_, c) = chars.next().ok_or(Stop::End)?;
        number = number.saturating_mul(16).saturating_add(c.to_digit(16).unwrap_or(u32::MAX));
    }
    Ok(char::from_u32(number).unwrap_or(char::REPLACEMENT_CHARACTER))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed expectation in a test is the report")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn calls_are_read_with_python_literals() {
        let text = r#"f(a='x "y" \'z\'', b=[1, -2.5, True, None,], c={"k": (1, 2), 'l': {}}, d="é\n\x41\u00e9")"#;
        let followed = format!("{text} tail");
        let (name, arguments, end) = call(&followed, "").unwrap();
        assert_eq!((name, end), ("f", text.len()));
        let expected = json!({
            "a": "x \"y\" 'z'", "b": [1, -2.5, true, null], "c": {"k": [1, 2], "l": {}}, "d": "é\nAé",
        });
        assert_eq!(Json::Object(arguments), expected);
        for cut in (0..text.len()).filter(|cut| text.is_char_boundary(*cut)) {
            assert_eq!(call(&text[..cut], ""), Err(Stop::End), "{cut}");
        }
    }

    #[test]
    fn what_is_no_call_is_found_where_it_is() {
        for (text, at) in [("f(1)", 3), ("f(a)", 3), ("f(a=b)", 4), ("f (a=1)", 1), ("(a=1)", 0)] {
            assert_eq!(call(text, ""), Err(Stop::At(at)), "{text}");
        }
        assert_eq!(call("f.call(a=1)", ".call").unwrap().0, "f");
        assert_eq!(call("f(a=1)", ".call"), Err(Stop::At(0)));
        assert_eq!(call(&format!("f(a={}", "[".repeat(100)), ""), Err(Stop::At(4 + 51)));
        let (_, arguments, _) = call(r#"f(city="Bergen"unit="celsius")"#, "").unwrap();
        assert_eq!(Json::Object(arguments), json!({"city": "Bergen", "unit": "celsius"}));
    }
}
