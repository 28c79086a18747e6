//! Values as Python shows them: `str()`, `repr()` and `json.dumps()`.
//!
//! Specified by Python's documentation of `repr`, `float` and `json`
//! (docs.python.org/3/library), and for `tojson` by `render_jinja_template` in
//! Hugging Face transformers, which is `json.dumps` without HTML escapes.

use minijinja::value::{ObjectRepr, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

use super::MAX_OUTPUT;
use super::bounds::{Text, refuse};
use super::generator::Generator;
use crate::template::marks::PLAIN_TEXT_MARK;

/// Levels of lists and maps in one value.
const MAX_DEPTH: usize = 256;

/// Bytes of output that one unit of fuel pays for where a value is shown.
pub(super) const BYTES_PER_FUEL: usize = 8;

/// `str(value)`.
pub(super) fn shown(state: &State, value: &Value) -> Result<Value, Error> {
    if value.as_str().is_some() {
        return Ok(value.clone());
    }
    let mut out = Text::new(MAX_OUTPUT);
    write_str(&mut out, value)?;
    state.consume_fuel((out.text.len() / BYTES_PER_FUEL) as u64)?;
    Ok(Value::from(out.text))
}

/// `str(value)`; undefined is empty, as jinja2 prints it.
pub(super) fn write_str(out: &mut Text, value: &Value) -> Result<(), Error> {
    match (value.as_str(), value.kind()) {
        (Some(text), _) => out.push(text),
        (None, ValueKind::Undefined) => Ok(()),
        _ => write_repr(out, value, 0),
    }
}

/// `repr(value)`.
pub(super) fn write_repr(out: &mut Text, value: &Value, depth: usize) -> Result<(), Error> {
    if let Some(text) = value.as_str() {
        return write_quoted(out, text);
    }
    match value.kind() {
        _ if value.downcast_object_ref::<Generator>().is_some() => out.push("<generator object>"),
        ValueKind::Undefined => out.push("Undefined"),
        ValueKind::None => out.push("None"),
        ValueKind::Number if !value.is_integer() => {
            out.push(&float(f64::try_from(value.clone())?, "nan", "inf"))
        }
        ValueKind::Map => {
            descend(depth)?;
            out.push("{")?;
            for (index, (key, item)) in pairs(value).enumerate() {
                out.push(if index == 0 { "" } else { ", " })?;
                write_repr(out, &key, depth + 1)?;
                out.push(": ")?;
                write_repr(out, &item, depth + 1)?;
            }
            out.push("}")
        }
        ValueKind::Seq | ValueKind::Iterable => {
            descend(depth)?;
            let tuple = value.is_tuple();
            out.push(if tuple { "(" } else { "[" })?;
            let mut count = 0;
            for item in value.try_iter()? {
                out.push(if count == 0 { "" } else { ", " })?;
                write_repr(out, &item, depth + 1)?;
                count += 1;
            }
            out.push(match (tuple, count) {
                (true, 1) => ",)",
                (true, _) => ")",
                (false, _) => "]",
            })
        }
        // Booleans and integers; the engine writes them as Python does.
        _ => out.push(&value.to_string()),
    }
}

fn descend(depth: usize) -> Result<(), Error> {
    if depth >= MAX_DEPTH {
        return Err(refuse(format!("a value is nested more than {MAX_DEPTH} levels deep")));
    }
    Ok(())
}

fn pairs(value: &Value) -> impl Iterator<Item = (Value, Value)> {
    let object = value.as_object().filter(|object| object.repr() == ObjectRepr::Map);
    object.and_then(|object| object.try_iter_pairs()).into_iter().flatten()
}

fn write_quoted(out: &mut Text, text: &str) -> Result<(), Error> {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push_char(quote)?;
    for letter in text.chars() {
        match letter {
            '\n' => out.push("\\n")?,
            '\r' => out.push("\\r")?,
            '\t' => out.push("\\t")?,
            '\\' => out.push("\\\\")?,
            _ if letter == quote => {
                out.push("\\")?;
                out.push_char(letter)?;
            }
            _ if is_printable(letter) => out.push_char(letter)?,
            _ => {
                let code = letter as u32;
                out.push(&match code {
                    0..=0xff => format!("\\x{code:02x}"),
                    0x100..=0xffff => format!("\\u{code:04x}"),
                    _ => format!("\\U{code:08x}"),
                })?;
            }
        }
    }
    out.push_char(quote)
}

/// Python's `str.isprintable`, but unassigned code points count as printable:
/// which ones are assigned depends on the version of Unicode.
pub(super) fn is_printable(letter: char) -> bool {
    if letter == PLAIN_TEXT_MARK {
        return true;
    }
    !matches!(letter,
        '\0'..='\x1f' | '\x7f'..='\u{a0}' | '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}'
        | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{1680}' | '\u{180e}'
        | '\u{2000}'..='\u{200f}' | '\u{2028}'..='\u{202f}' | '\u{205f}'..='\u{206f}'
        | '\u{3000}' | '\u{e000}'..='\u{f8ff}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{fffe}' | '\u{ffff}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0001}'
        | '\u{e0020}'..='\u{e007f}' | '\u{f0000}'..='\u{10ffff}')
}

/// The shortest decimal text that reads back as `number`; positional between
/// 1e-4 and 1e16, as Python's `repr(float)`.
fn float(number: f64, nan: &str, infinity: &str) -> String {
    if number.is_nan() {
        return nan.to_owned();
    }
    if number.is_infinite() {
        return format!("{}{infinity}", if number < 0.0 { "-" } else { "" });
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if number != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let text = number.to_string();
    if text.contains('.') { text } else { text + ".0" }
}

/// The arguments of `json.dumps` that transformers passes on.
pub(super) struct Json {
    pub ascii: bool,
    /// Text of one level of indentation; `None` for one line.
    pub indent: Option<String>,
    pub item_separator: String,
    pub key_separator: String,
    pub sort_keys: bool,
}

impl Json {
    pub fn write(&self, out: &mut Text, value: &Value, depth: usize) -> Result<(), Error> {
        descend(depth)?;
        if let Some(text) = value.as_str() {
            return self.write_text(out, text);
        }
        match value.kind() {
            ValueKind::None => out.push("null"),
            ValueKind::Bool => out.push(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => out.push(&value.to_string()),
            ValueKind::Number => out.push(&float(f64::try_from(value.clone())?, "NaN", "Infinity")),
            ValueKind::Map => {
                let mut entries: Vec<_> = pairs(value).collect();
                if self.sort_keys {
                    entries.sort_by(|a, b| a.0.cmp(&b.0));
                }
                self.write_items(out, ('{', '}'), depth, entries, |out, (key, item)| {
                    self.write_key(out, &key)?;
                    out.push(&self.key_separator)?;
                    self.write(out, &item, depth + 1)
                })
            }
            ValueKind::Seq | ValueKind::Iterable
                if value.downcast_object_ref::<Generator>().is_none() =>
            {
                self.write_items(out, ('[', ']'), depth, value.try_iter()?, |out, item| {
                    self.write(out, &item, depth + 1)
                })
            }
            kind => Err(Error::new(
                ErrorKind::BadSerialization,
                format!("a value of type {kind} is not JSON serializable"),
            )),
        }
    }

    fn write_items<T>(
        &self,
        out: &mut Text,
        (open, close): (char, char),
        depth: usize,
        items: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Text, T) -> Result<(), Error>,
    ) -> Result<(), Error> {
        out.push_char(open)?;
        let mut empty = true;
        for item in items {
            if !empty {
                out.push(&self.item_separator)?;
            }
            empty = false;
            self.new_line(out, depth + 1)?;
            write(out, item)?;
        }
        if !empty {
            self.new_line(out, depth)?;
        }
        out.push_char(close)
    }

    fn new_line(&self, out: &mut Text, depth: usize) -> Result<(), Error> {
        if let Some(indent) = &self.indent {
            out.push("\n")?;
            for _ in 0..depth {
                out.push(indent)?;
            }
        }
        Ok(())
    }

    fn write_key(&self, out: &mut Text, key: &Value) -> Result<(), Error> {
        match key.kind() {
            ValueKind::String => self.write(out, key, 0),
            ValueKind::None | ValueKind::Bool | ValueKind::Number => {
                out.push("\"")?;
                self.write(out, key, 0)?;
                out.push("\"")
            }
            kind => Err(Error::new(
                ErrorKind::BadSerialization,
                format!("JSON keys cannot be of type {kind}"),
            )),
        }
    }

    fn write_text(&self, out: &mut Text, text: &str) -> Result<(), Error> {
        out.push("\"")?;
        for letter in text.chars() {
            match letter {
                '"' => out.push("\\\"")?,
                '\\' => out.push("\\\\")?,
                '\n' => out.push("\\n")?,
                '\r' => out.push("\\r")?,
                '\t' => out.push("\\t")?,
                '\u{8}' => out.push("\\b")?,
                '\u{c}' => out.push("\\f")?,
                PLAIN_TEXT_MARK => out.push_char(letter)?,
                '\0'..='\x1f' => out.push(&format!("\\u{:04x}", letter as u32))?,
                _ if self.ascii && letter > '\x7e' => {
                    for unit in letter.encode_utf16(&mut [0; 2]) {
                        out.push(&format!("\\u{unit:04x}"))?;
                    }
                }
                _ => out.push_char(letter)?,
            }
        }
        out.push("\"")
    }
}
