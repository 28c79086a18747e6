//! Filters of texts, where the engine has none or differs from jinja2.
//!
//! Specified by jinja.palletsprojects.com/en/stable/templates, "List of Builtin Filters", and
//! by their source, `jinja2/filters.py`.

use minijinja::value::{Kwargs, Value, ValueKind, from_args};
use minijinja::{Environment, Error, State};

use super::MAX_OUTPUT;
use super::arguments::{Arguments, bound, integer, is_true, text as text_of};
use super::bounds::{Text, refuse};
use super::python::{BYTES_PER_FUEL, Json, shown};
use super::{numbers, percent, strings};

/// Spaces that `indent` and `tojson` put before a line.
const MAX_INDENT: i64 = 1024;

pub(super) fn add(env: &mut Environment<'_>) {
    env.add_filter("tojson", tojson);
    for name in ["escape", "e", "forceescape"] {
        env.add_filter(name, escape);
    }
    env.add_filter("string", shown);
    env.add_filter("join", join);
    env.add_filter("indent", indent);
    env.add_filter("trim", |state: &State, value: &Value, given: Arguments| {
        let [chars] = bound(&given.into_values(), ["chars"])?;
        let text = shown(state, value)?;
        let chars = text_of(chars.as_ref())?;
        Ok::<_, Error>(
            strings::strip(text.as_str().unwrap_or_default(), chars, true, true).to_owned(),
        )
    });
    env.add_filter("center", |text: &str, width: Option<usize>| {
        strings::pad(text, width.unwrap_or(80), ' ', strings::Side::Both)
    });
    env.add_filter("wordcount", |text: &str| {
        let is_word = |letter: char| letter == '_' || letter.is_alphanumeric();
        text.split(|letter| !is_word(letter)).filter(|word| !word.is_empty()).count()
    });
    env.add_filter("truncate", truncate);
    env.add_filter("urlencode", urlencode);
    env.add_filter("format", |state: &State, text: &str, given: Arguments| {
        let given = given.into_values();
        let (placed, named): (&[Value], Kwargs) = from_args(&given)?;
        let named = named.args().map(|name| Ok((name, named.peek::<Value>(name)?)));
        let named: Vec<(&str, Value)> = named.collect::<Result<_, Error>>()?;
        match named.is_empty() {
            true => percent::printf(state, text, placed, None),
            false => percent::printf(state, text, &[], Some(&Value::from_pairs(named))),
        }
    });
    env.add_filter("default", default);
    env.add_filter("d", default);
    env.add_filter("int", numbers::int);
    env.add_filter("float", numbers::float);
    env.add_filter("round", numbers::round);
    env.add_filter("abs", numbers::abs);
    // Not in jinja2, or without a bound.
    for name in ["lines", "split", "bool", "pprint"] {
        env.remove_filter(name);
    }
}

/// HTML escapes, spelled as Python's markupsafe does.
fn escape(state: &State, value: &Value) -> Result<Value, Error> {
    let text = shown(state, value)?;
    let mut out = Text::new(MAX_OUTPUT);
    write_escaped(&mut out, text.as_str().unwrap_or_default())?;
    Ok(Value::from(out.text))
}

/// Two texts as one: safe if one of them is, the other escaped then.
pub(super) fn joined(state: &State, left: &Value, right: &Value) -> Result<Value, Error> {
    let (Some(one), Some(other)) = (left.as_str(), right.as_str()) else {
        return Err(refuse("a text and what is no text cannot be added"));
    };
    state.consume_fuel(((one.len() + other.len()) / BYTES_PER_FUEL) as u64)?;
    let safe = left.is_safe() || right.is_safe();
    let mut out = Text::new(MAX_OUTPUT);
    for value in [left, right] {
        let text = value.as_str().unwrap_or_default();
        if safe && !value.is_safe() {
            write_escaped(&mut out, text)?;
        } else {
            out.push(text)?;
        }
    }
    Ok(if safe { Value::from_safe_string(out.text) } else { Value::from(out.text) })
}

fn write_escaped(out: &mut Text, text: &str) -> Result<(), Error> {
    for letter in text.chars() {
        match letter {
            '&' => out.push("&amp;")?,
            '<' => out.push("&lt;")?,
            '>' => out.push("&gt;")?,
            '"' => out.push("&#34;")?,
            '\'' => out.push("&#39;")?,
            _ => out.push_char(letter)?,
        }
    }
    Ok(())
}

/// The texts of the items with `joiner` between them.
fn join(state: &State, items: &Value, given: Arguments) -> Result<Value, Error> {
    let [joiner, attribute] = bound(&given.into_values(), ["d", "attribute"])?;
    let joiner = joiner.map(|value| shown(state, &value)).transpose()?;
    let attribute = attribute.filter(|value| !value.is_none());
    if items.is_none() {
        return Err(refuse("none has no items to join"));
    }
    let mut out = Text::new(MAX_OUTPUT);
    for (index, mut item) in items.try_iter()?.enumerate() {
        state.consume_fuel(1)?;
        if let (Some(joiner), true) = (&joiner, index > 0) {
            out.push(joiner.as_str().unwrap_or_default())?;
        }
        if let Some(path) = attribute.as_ref().and_then(Value::as_str) {
            for name in path.split('.') {
                item = item.get_attr(name)?;
            }
        } else if let Some(key) = &attribute {
            item = item.get_item(key)?;
        }
        out.push(shown(state, &item)?.as_str().unwrap_or_default())?;
    }
    Ok(Value::from(out.text))
}

/// Text with every line but the first, and but empty ones, indented.
fn indent(text: &str, given: Arguments) -> Result<String, Error> {
    let [width, first, blank] = bound(&given.into_values(), ["width", "first", "blank"])?;
    let (first, blank) = (is_true(first.as_ref()), is_true(blank.as_ref()));
    let margin = match width.as_ref().and_then(Value::as_str) {
        Some(margin) => margin.to_owned(),
        None => " ".repeat(integer(width.as_ref(), 4)?.clamp(0, MAX_INDENT) as usize),
    };
    let mut out = Text::new(MAX_OUTPUT);
    // A line break at the end is a line behind it, as in jinja2.
    let ended = format!("{text}\n");
    for (index, line) in strings::lines(&ended, false).into_iter().enumerate() {
        if index > 0 {
            out.push("\n")?;
        }
        if if index == 0 { first } else { blank || !line.is_empty() } {
            out.push(&margin)?;
        }
        out.push(line)?;
    }
    Ok(out.text)
}

/// The first `length` characters, with `end` in place of the last of them.
fn truncate(text: &str, given: Arguments) -> Result<String, Error> {
    let [length, kill_words, end, leeway] =
        bound(&given.into_values(), ["length", "killwords", "end", "leeway"])?;
    let length = integer(length.as_ref(), 255)?;
    let end = text_of(end.as_ref())?.unwrap_or("...");
    let leeway = integer(leeway.as_ref(), 5)?;
    let room = length - end.chars().count() as i64;
    if room < 0 || leeway < 0 {
        return Err(refuse(
            "truncate: the length is less than that of the end, or leeway negative",
        ));
    }
    if text.chars().count() as i64 <= length.saturating_add(leeway) {
        return Ok(text.to_owned());
    }
    let cut: String = text.chars().take(room as usize).collect();
    let kept = match cut.rsplit_once(' ') {
        Some((words, _)) if !is_true(kill_words.as_ref()) => words,
        _ => &cut,
    };
    Ok(format!("{kept}{end}"))
}

/// A text, or the pairs of a map or a list as a query, in the escapes of URLs.
fn urlencode(state: &State, value: &Value) -> Result<String, Error> {
    let mut query = Text::new(MAX_OUTPUT);
    if value.as_str().is_some() || value.as_object().is_none() {
        escape_url(&mut query, shown(state, value)?.as_str().unwrap_or_default(), false)?;
        return Ok(query.text);
    }
    for (index, item) in value.try_iter()?.enumerate() {
        let (key, item) = match value.kind() {
            ValueKind::Map => (item.clone(), value.get_item(&item)?),
            _ => (item.get_item_by_index(0)?, item.get_item_by_index(1)?),
        };
        for (before, part) in [(if index == 0 { "" } else { "&" }, key), ("=", item)] {
            query.push(before)?;
            escape_url(&mut query, shown(state, &part)?.as_str().unwrap_or_default(), true)?;
        }
    }
    Ok(query.text)
}

fn escape_url(out: &mut Text, text: &str, query: bool) -> Result<(), Error> {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' => {
                out.push_char(byte as char)?;
            }
            b'/' if !query => out.push("/")?,
            b' ' if query => out.push("+")?,
            _ => out.push(&format!("%{byte:02X}"))?,
        }
    }
    Ok(())
}

/// `value`, or another one where it is not defined, or is not true.
fn default(value: &Value, given: Arguments) -> Result<Value, Error> {
    let [other, boolean] = bound(&given.into_values(), ["default_value", "boolean"])?;
    let wanted = value.is_undefined() || (is_true(boolean.as_ref()) && !value.is_true());
    Ok(if wanted { other.unwrap_or(Value::from("")) } else { value.clone() })
}

/// `json.dumps(value, ensure_ascii, indent, separators, sort_keys)`.
fn tojson(state: &State, value: &Value, given: Arguments) -> Result<Value, Error> {
    let given = bound(&given.into_values(), ["ensure_ascii", "indent", "separators", "sort_keys"])?;
    let [ascii, indent, separators, sort_keys] = given.map(|given| given.filter(|v| !v.is_none()));
    let (ascii, sort_keys) = (is_true(ascii.as_ref()), is_true(sort_keys.as_ref()));
    let indent = match indent {
        None => None,
        Some(value) => Some(match value.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(i64::try_from(value)?.clamp(0, MAX_INDENT) as usize),
        }),
    };
    let (mut item_separator, mut key_separator) =
        (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned());
    if let Some(pair) = separators {
        item_separator = pair.get_item_by_index(0)?.to_string();
        key_separator = pair.get_item_by_index(1)?.to_string();
    }
    let json = Json { ascii, indent, item_separator, key_separator, sort_keys };
    let mut out = Text::new(MAX_OUTPUT);
    json.write(&mut out, value, 0)?;
    state.consume_fuel((out.text.len() / BYTES_PER_FUEL) as u64)?;
    Ok(Value::from(out.text))
}
