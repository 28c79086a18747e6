//! Filters of numbers: `int`, `float`, `round`, `abs`.
//!
//! Specified by jinja.palletsprojects.com/en/stable/templates, "List of Builtin Filters", and
//! for texts by Python's `int` and `float`.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, filters};

use super::arguments::{Arguments, bound};
use super::bounds::refuse;
use super::strings::is_space;

/// The integer in a value, or `default` where there is none.
pub(super) fn int(value: &Value, given: Arguments) -> Result<Value, Error> {
    defined(value)?;
    let [default, base] = bound(&given.into_values(), ["default", "base"])?;
    let base = match base {
        Some(base) => u32::try_from(base)?,
        None => 10,
    };
    let found = match value.as_str() {
        Some(text) => parsed_int(text, base).or_else(|| whole(parsed_float(text)?)),
        None => match value.kind() {
            ValueKind::Number if !value.is_integer() => whole(f64::try_from(value.clone())?),
            ValueKind::Number if i128::try_from(value.clone()).is_err() => return Ok(value.clone()),
            ValueKind::Number | ValueKind::Bool => i128::try_from(value.clone()).ok(),
            _ => None,
        },
    };
    Ok(found.map_or_else(|| default.unwrap_or(Value::from(0)), Value::from))
}

/// The number in a value as a float, or `default` where there is none.
pub(super) fn float(value: &Value, given: Arguments) -> Result<Value, Error> {
    defined(value)?;
    let [default] = bound(&given.into_values(), ["default"])?;
    let found = match value.as_str() {
        Some(text) => parsed_float(text),
        None => match value.kind() {
            ValueKind::Number | ValueKind::Bool => Some(f64::try_from(number(value))?),
            _ => None,
        },
    };
    Ok(found.map_or_else(|| default.unwrap_or(Value::from(0.0)), Value::from))
}

/// Rounds to a number of decimals; `ceil` and `floor` make a float of an integer.
pub(super) fn round(value: &Value, given: Arguments) -> Result<Value, Error> {
    let [precision, method] = bound(&given.into_values(), ["precision", "method"])?;
    let precision = precision.map_or(Ok(0), i32::try_from)?;
    let text = method.as_ref().and_then(Value::as_str).unwrap_or("common");
    let value = number(value);
    let value = match text {
        "common" => value,
        _ => Value::from(f64::try_from(value)?),
    };
    filters::round(
        value,
        Some(precision),
        Some(text),
        Kwargs::from_iter::<[(String, Value); 0]>([]),
    )
}

pub(super) fn abs(value: &Value) -> Result<Value, Error> {
    filters::abs(number(value))
}

/// A number, with a boolean as 0 or 1.
pub(super) fn number(value: &Value) -> Value {
    match value.kind() {
        ValueKind::Bool => Value::from(i64::from(value.is_true())),
        _ => value.clone(),
    }
}

fn defined(value: &Value) -> Result<(), Error> {
    match value.is_undefined() {
        true => Err(refuse("an undefined value is no number")),
        false => Ok(()),
    }
}

fn whole(number: f64) -> Option<i128> {
    number.is_finite().then_some(number as i128)
}

/// `int(text, base)`.
fn parsed_int(text: &str, base: u32) -> Option<i128> {
    let text = text.trim_matches(is_space);
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let prefix = match base {
        2 => "0b",
        8 => "0o",
        16 => "0x",
        3..=36 => "",
        _ => return None,
    };
    let has_prefix = digits.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    let digits = ungrouped(if has_prefix { &digits[2..] } else { digits })?;
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let magnitude = i128::from_str_radix(&digits, base).ok()?;
    Some(if negative { -magnitude } else { magnitude })
}

/// `float(text)`.
fn parsed_float(text: &str) -> Option<f64> {
    ungrouped(text.trim_matches(is_space))?.parse().ok()
}

/// Digits without the underscores between them.
fn ungrouped(digits: &str) -> Option<String> {
    let edge = digits.starts_with('_') || digits.ends_with('_') || digits.contains("__");
    (!edge).then(|| digits.replace('_', ""))
}
