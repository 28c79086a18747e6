//! Methods of Python's strings and lists that `minijinja-contrib` leaves out,
//! and bounds for one that it does not bound.
//!
//! Specified by docs.python.org/3/library/stdtypes.html. Methods that change
//! their object (`append`, `update`, …) are errors, as in transformers'
//! immutable sandbox.

use minijinja::value::{Value, ValueKind, from_args};
use minijinja::{Error, State};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::bounds::{refuse, visited};

/// Characters that a text may be padded to.
const MAX_WIDTH: usize = 64 << 10;

/// A method on a value that the engine does not know.
pub(super) fn call(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    // They compare or hash what they are given.
    for argument in args {
        visited(state, argument)?;
    }
    if value.kind() == ValueKind::Seq {
        visited(state, value)?;
    }
    if let Some(text) = value.as_str() {
        if method == "format" {
            check_format(text)?;
        } else if let Some(result) = string_method(text, method, args)? {
            return Ok(result);
        }
    } else if value.kind() == ValueKind::Seq && method == "index" {
        let (wanted,): (&Value,) = from_args(args)?;
        return position(value.try_iter()?.position(|item| item == *wanted));
    } else if matches!(value.kind(), ValueKind::Seq | ValueKind::Map) && method == "copy" {
        let () = from_args(args)?;
        return Ok(value.clone());
    }
    unknown_method_callback(state, value, method, args)
}

fn position(found: Option<usize>) -> Result<Value, Error> {
    found.map(Value::from).ok_or_else(|| refuse("index: no such item"))
}

fn string_method(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(Some(match method {
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "index" => {
            let (wanted,): (&str,) = from_args(args)?;
            position(text.find(wanted).map(|at| text[..at].chars().count()))?
        }
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            partition(text, separator, method == "rpartition")
        }
        "rsplit" => {
            let (separator, most): (Option<&str>, Option<i64>) = from_args(args)?;
            rsplit(text, separator, usize::try_from(most.unwrap_or(-1)).ok())?
        }
        "casefold" => {
            let () = from_args(args)?;
            Value::from(text.to_lowercase())
        }
        "ljust" | "rjust" | "center" => {
            let (width, fill): (usize, Option<&str>) = from_args(args)?;
            let side = match method {
                "ljust" => Side::Right,
                "rjust" => Side::Left,
                _ => Side::Both,
            };
            Value::from(pad(text, width, one_letter(fill.unwrap_or(" "))?, side)?)
        }
        "zfill" => {
            let (width,): (usize,) = from_args(args)?;
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['-', '+'])));
            let digits = pad(digits, width.saturating_sub(sign.len()), '0', Side::Left)?;
            Value::from(format!("{sign}{digits}"))
        }
        _ => return Ok(None),
    }))
}

fn one_letter(text: &str) -> Result<char, Error> {
    let mut letters = text.chars();
    match (letters.next(), letters.next()) {
        (Some(letter), None) => Ok(letter),
        _ => Err(refuse("the fill must be one character")),
    }
}

fn partition(text: &str, separator: &str, last: bool) -> Value {
    let found = if last { text.rsplit_once(separator) } else { text.split_once(separator) };
    Value::from(match (found, last) {
        (Some((head, tail)), _) => (head, separator, tail),
        (None, false) => (text, "", ""),
        (None, true) => ("", "", text),
    })
}

fn rsplit(text: &str, separator: Option<&str>, most: Option<usize>) -> Result<Value, Error> {
    let most = most.unwrap_or(usize::MAX - 1);
    let mut parts: Vec<&str> = match separator {
        Some("") => return Err(refuse("rsplit: empty separator")),
        Some(separator) => text.rsplitn(most + 1, separator).collect(),
        None => {
            let mut parts = Vec::new();
            let mut rest = text.trim_end();
            while parts.len() < most
                && let Some(at) = rest.rfind(char::is_whitespace)
            {
                let start = at + rest[at..].chars().next().map_or(1, char::len_utf8);
                parts.push(&rest[start..]);
                rest = rest[..at].trim_end();
            }
            if !rest.is_empty() {
                parts.push(rest);
            }
            parts
        }
    };
    parts.reverse();
    Ok(parts.into_iter().collect())
}

/// Where padding goes.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Side {
    Left,
    Right,
    Both,
}

/// `text` with `fill` around it, `width` characters in all.
pub(super) fn pad(text: &str, width: usize, fill: char, side: Side) -> Result<String, Error> {
    let missing = width.saturating_sub(text.chars().count());
    if missing > MAX_WIDTH {
        return Err(refuse(format!("padding of more than {MAX_WIDTH} characters")));
    }
    let left = match side {
        Side::Left => missing,
        Side::Right => 0,
        // Where the odd space goes is CPython's choice in `str.center`.
        Side::Both => missing / 2 + (missing & width & 1),
    };
    let mut padded = String::with_capacity(text.len() + missing);
    padded.extend(std::iter::repeat_n(fill, left));
    padded.push_str(text);
    padded.extend(std::iter::repeat_n(fill, missing - left));
    Ok(padded)
}

/// Refuses widths that would make `'{:9999999}'.format(x)` large; the engine
/// takes no account of them.
fn check_format(format: &str) -> Result<(), Error> {
    let mut depth = 0_usize;
    let mut digits = 0;
    for letter in format.replace("{{", "").replace("}}", "").chars() {
        digits = if letter.is_ascii_digit() && depth > 0 { digits + 1 } else { 0 };
        match letter {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > 1 || digits > 3 {
            return Err(refuse("format: nested or wide fields are not supported"));
        }
    }
    Ok(())
}
