//! The functions that templates may call: Go's own, and those that Ollama adds.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::format;
use super::json;
use super::output::Sink;
use super::value::Value;

/// What a function gives back: a text is still to be paid for.
pub enum Made {
    /// A value.
    Value(Value),
    /// A new text.
    Text(Sink),
}

type Given = Result<Made, String>;

/// Name, least and most arguments.
const FUNCTIONS: [(&str, usize, usize); 23] = [
    ("and", 1, usize::MAX),
    ("call", 1, usize::MAX),
    ("currentDate", 0, usize::MAX),
    ("eq", 1, usize::MAX),
    ("ge", 2, 2),
    ("gt", 2, 2),
    ("html", 0, usize::MAX),
    ("index", 1, usize::MAX),
    ("js", 0, usize::MAX),
    ("json", 1, 1),
    ("le", 2, 2),
    ("len", 1, 1),
    ("lt", 2, 2),
    ("ne", 2, 2),
    ("not", 1, 1),
    ("or", 1, usize::MAX),
    ("print", 0, usize::MAX),
    ("printf", 1, usize::MAX),
    ("println", 0, usize::MAX),
    ("slice", 1, usize::MAX),
    ("toTypeScriptType", 1, 1),
    ("urlquery", 0, usize::MAX),
    ("yesterdayDate", 0, usize::MAX),
];

/// Whether there is a function of that name.
pub fn knows(name: &str) -> bool {
    FUNCTIONS.iter().any(|(other, ..)| *other == name)
}

/// Whether it takes so many arguments.
pub fn check_count(name: &str, count: usize) -> Result<(), String> {
    let limits = FUNCTIONS.iter().find(|(other, ..)| *other == name);
    let &(_, least, most) = limits.ok_or_else(|| format!("{name:?} is not a defined function"))?;
    if (least..=most).contains(&count) {
        return Ok(());
    }
    let wanted = if least == most { format!("{least}") } else { format!("at least {least}") };
    Err(format!("wrong number of args for {name}: want {wanted} got {count}"))
}

/// Calls a function with as many arguments as it takes; `and` and `or` are not among
/// them, as they do not look at all of theirs.
pub fn call(name: &str, arguments: &[Value]) -> Given {
    let first = arguments.first().unwrap_or(&Value::Nil);
    let value = match (name, arguments) {
        ("eq", _) => equal(arguments)?,
        ("ne", [a, b]) => Value::Bool(!a.equals(b)?),
        ("lt", [a, b]) => Value::Bool(a.order(b)? == Some(Ordering::Less)),
        ("le", [a, b]) => Value::Bool(!is_greater(a, b)?),
        ("gt", [a, b]) => Value::Bool(is_greater(a, b)?),
        ("ge", [a, b]) => Value::Bool(a.order(b)? != Some(Ordering::Less)),
        ("not", _) => Value::Bool(!first.is_true()),
        ("len", _) => Value::Int(int(length(first)?)),
        ("index", [item, keys @ ..]) => index(item, keys)?,
        ("slice", [item, bounds @ ..]) => return slice(item, bounds),
        ("toTypeScriptType", _) => Value::text(type_script(first)),
        ("currentDate", _) => Value::text(date(0)),
        ("yesterdayDate", _) => Value::text(date(1)),
        ("call", _) => return Err(format!("non-function of type {}", first.type_name())),
        _ => return text(name, first, arguments),
    };
    Ok(Made::Value(value))
}

/// Bytes that a function looks at without making a text of them.
pub fn compared(name: &str, arguments: &[Value]) -> usize {
    if !matches!(name, "eq" | "ne" | "lt" | "le" | "gt" | "ge") {
        return 0;
    }
    let length = |value: &Value| if let Value::Text(text) = value { text.len() } else { 0 };
    arguments.iter().map(length).sum()
}

/// The functions that write.
fn text(name: &str, first: &Value, arguments: &[Value]) -> Given {
    let mut sink = Sink::default();
    match (name, first) {
        ("json", _) => json::write(&mut sink, first),
        ("print", _) => format::print(&mut sink, arguments),
        ("println", _) => format::println(&mut sink, arguments),
        ("printf", Value::Text(pattern)) => format::printf(&mut sink, pattern, &arguments[1..]),
        ("printf", other) => {
            return Err(format!(
                "wrong type for value; expected string; got {}",
                other.type_name()
            ));
        }
        ("html", _) => escape(&mut sink, &joined(arguments)?, html),
        ("js", _) => escape(&mut sink, &joined(arguments)?, script),
        ("urlquery", _) => escape(&mut sink, &joined(arguments)?, query),
        _ => return Err("it is not a defined function".into()),
    }
    Ok(Made::Text(sink))
}

fn equal(arguments: &[Value]) -> Result<Value, String> {
    let [first, others @ ..] = arguments else { return Ok(Value::Bool(false)) };
    if others.is_empty() {
        return Err("missing argument for comparison".into());
    }
    for other in others {
        if first.equals(other)? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

/// Neither less nor equal, as Go has it.
fn is_greater(a: &Value, b: &Value) -> Result<bool, String> {
    let order = a.order(b)?;
    Ok(!matches!(order, Some(Ordering::Less | Ordering::Equal)))
}

fn int(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn length(value: &Value) -> Result<usize, String> {
    match value {
        Value::Text(text) => Ok(text.len()),
        Value::List(list) => Ok(list.items().len()),
        Value::Map(map) if map.struct_name().is_none() => Ok(map.entries().len()),
        Value::Nil => Err("len of nil pointer".into()),
        other => Err(format!("len of type {}", other.type_name())),
    }
}

/// An index from 0 to `most`.
fn place(index: &Value, most: usize) -> Result<usize, String> {
    match index {
        Value::Int(at) => match usize::try_from(*at) {
            Ok(at) if at <= most => Ok(at),
            _ => Err(format!("index out of range: {at}")),
        },
        Value::Nil => Err("cannot index slice/array with nil".into()),
        other => Err(format!("cannot index slice/array with type {}", other.type_name())),
    }
}

fn index(item: &Value, keys: &[Value]) -> Result<Value, String> {
    let mut value = item.clone();
    for key in keys {
        value = match (&value, key) {
            (Value::List(list), _) => {
                let at = place(key, list.items().len())?;
                let found = list.items().get(at);
                found.cloned().ok_or_else(|| format!("index out of range: {at}"))?
            }
            (Value::Text(text), _) => {
                let at = place(key, text.len())?;
                let found = text.as_bytes().get(at);
                Value::Int((*found.ok_or_else(|| format!("index out of range: {at}"))?).into())
            }
            (Value::Map(map), Value::Text(key)) if map.struct_name().is_none() => {
                map.get(key).cloned().unwrap_or_default()
            }
            (Value::Map(map), key) if map.struct_name().is_none() => {
                return Err(format!("value has type {}; should be string", key.type_name()));
            }
            (Value::Nil, _) => return Err("index of untyped nil".into()),
            (other, _) => return Err(format!("can't index item of type {}", other.type_name())),
        };
    }
    Ok(value)
}

fn slice(item: &Value, bounds: &[Value]) -> Given {
    let (length, capacity) = match item {
        Value::Nil => return Err("slice of untyped nil".into()),
        _ if bounds.len() > 3 => return Err(format!("too many slice indexes: {}", bounds.len())),
        Value::Text(_) if bounds.len() == 3 => return Err("cannot 3-index slice a string".into()),
        Value::Text(text) => (text.len(), text.len()),
        Value::List(list) => (list.items().len(), list.capacity()),
        other => return Err(format!("can't slice item of type {}", other.type_name())),
    };
    let mut limits = [0, length, capacity];
    for (limit, bound) in limits.iter_mut().zip(bounds) {
        *limit = place(bound, capacity)?;
    }
    let [from, to, most] = limits;
    if from > to || to > most {
        let (low, high) = if from > to { (from, to) } else { (to, most) };
        return Err(format!("invalid slice index: {low} > {high}"));
    }
    match item {
        Value::Text(text) => {
            // Go cuts anywhere; a letter that is cut through is no text.
            let mut sink = Sink::default();
            sink.push(&String::from_utf8_lossy(&text.as_bytes()[from..to]));
            Ok(Made::Text(sink))
        }
        Value::List(list) => {
            Ok(Made::Value(list.part(from, to).map(Value::List).unwrap_or_default()))
        }
        _ => Ok(Made::Value(Value::Nil)),
    }
}

/// The type of a tool's parameter, as TypeScript writes it.
fn type_script(parameter: &Value) -> String {
    let Value::Map(map) = parameter else { return "any".into() };
    let field = |go: &str, json: &str| map.get(go).or_else(|| map.get(json));
    if let Some(Value::List(any)) = field("AnyOf", "anyOf")
        && !any.items().is_empty()
    {
        return any.items().iter().map(type_script).collect::<Vec<_>>().join(" | ");
    }
    let one = |name: &Value| match name {
        Value::Text(name) => match &**name {
            "string" => "string",
            "number" | "integer" => "number",
            "boolean" => "boolean",
            "array" => "any[]",
            "object" => "Record<string, any>",
            "null" => "null",
            _ => "any",
        },
        _ => "any",
    };
    match field("Type", "type") {
        Some(Value::List(names)) if !names.items().is_empty() => {
            names.items().iter().map(one).collect::<Vec<_>>().join(" | ")
        }
        Some(name) => one(name).into(),
        None => "any".into(),
    }
}

fn date(days_ago: i64) -> String {
    let today = jiff::Zoned::now().date();
    let day = today.checked_sub(jiff::Span::new().days(days_ago)).unwrap_or(today);
    day.strftime("%Y-%m-%d").to_string()
}

/// Go's `evalArgs`: one text as it is, all else printed.
fn joined(arguments: &[Value]) -> Result<String, String> {
    let mut sink = Sink::default();
    match arguments {
        [Value::Text(text)] => sink.push(text),
        [Value::Nil] => sink.push("<no value>"),
        _ => format::print(&mut sink, arguments),
    }
    sink.finish().ok_or_else(|| "the text is over 4 MiB".into())
}

/// Writes `text` with what `letters` has for some of its letters; what lies between them in
/// one piece.
fn escape(sink: &mut Sink, text: &str, letters: impl Fn(char) -> Option<Cow<'static, str>>) {
    let mut rest = 0;
    for (at, letter) in text.char_indices() {
        if let Some(instead) = letters(letter) {
            sink.push(&text[rest..at]);
            sink.push(&instead);
            rest = at + letter.len_utf8();
        }
    }
    sink.push(&text[rest..]);
}

fn html(letter: char) -> Option<Cow<'static, str>> {
    Some(match letter {
        '\0' => "\u{fffd}".into(),
        '"' => "&#34;".into(),
        '\'' => "&#39;".into(),
        '&' => "&amp;".into(),
        '<' => "&lt;".into(),
        '>' => "&gt;".into(),
        _ => return None,
    })
}

fn script(letter: char) -> Option<Cow<'static, str>> {
    Some(match letter {
        '\\' => "\\\\".into(),
        '\'' => "\\'".into(),
        '"' => "\\\"".into(),
        '<' | '>' | '&' | '=' | '\0'..='\u{1f}' => format!("\\u{:04X}", u32::from(letter)).into(),
        _ => return None,
    })
}

fn query(letter: char) -> Option<Cow<'static, str>> {
    Some(match letter {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '.' | '~' => return None,
        ' ' => "+".into(),
        _ => {
            let mut bytes = [0; 4];
            let bytes = letter.encode_utf8(&mut bytes).bytes();
            bytes.map(|byte| format!("%{byte:02X}")).collect::<String>().into()
        }
    })
}
