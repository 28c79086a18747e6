//! Methods of Python's values: those that `minijinja-contrib` leaves out or has otherwise, and
//! bounds for one that it does not bound.
//!
//! Specified by docs.python.org/3/library/stdtypes.html. Methods that change
//! their object (`append`, `update`, …) are errors, as in transformers'
//! immutable sandbox.

use minijinja::value::{Value, ValueKind, from_args};
use minijinja::{Error, State};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::bounds::{refuse, visited};
use super::{python, strings};

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
            // Each field copies a text, however little of it a precision leaves.
            let longest = args.iter().filter_map(|value| value.as_str().map(str::len)).max();
            let fields = text.matches('{').count();
            let copied = fields.saturating_mul(longest.unwrap_or(0)) / python::BYTES_PER_FUEL;
            state.consume_fuel(copied as u64)?;
        } else if let Some(result) = strings::method(text, method, args)? {
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
