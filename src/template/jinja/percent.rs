//! `a % b`: the remainder of numbers, and texts with values put in.
//!
//! Specified by docs.python.org/3/library/stdtypes.html, "printf-style String Formatting" and
//! "Numeric Types".

use minijinja::formatting::{FormatStyle, format};
use minijinja::value::{Value, ValueKind};
use minijinja::{Error, State};

use super::MAX_OUTPUT;
use super::bounds::{Text, refuse};
use super::numbers::number;
use super::python::{self, shown};

/// The largest width or precision.
const MAX_WIDTH: i64 = 999;

pub(super) fn remainder(state: &State, left: &Value, right: &Value) -> Result<Value, Error> {
    if let Some(text) = left.as_str() {
        return match right.is_tuple() {
            true => printf(state, text, &right.try_iter()?.collect::<Vec<_>>(), None),
            false => printf(state, text, std::slice::from_ref(right), Some(right)),
        };
    }
    let is_number = |value: &Value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool);
    if !is_number(left) || !is_number(right) {
        return Err(refuse(format!("{} % {} is not defined", left.kind(), right.kind())));
    }
    let is_float = |value: &Value| value.kind() == ValueKind::Number && !value.is_integer();
    if is_float(left) || is_float(right) {
        return float_remainder(f64::try_from(number(left))?, f64::try_from(number(right))?);
    }
    let (a, b) = (i128::try_from(left.clone())?, i128::try_from(right.clone())?);
    let truncated = a.checked_rem(b).ok_or_else(|| refuse("integer modulo by zero"))?;
    let adjust = truncated != 0 && (truncated < 0) != (b < 0);
    Ok(Value::from(if adjust { truncated + b } else { truncated }))
}

/// The remainder with the sign of the divisor, as CPython's `float_rem`.
fn float_remainder(a: f64, b: f64) -> Result<Value, Error> {
    if b == 0.0 {
        return Err(refuse("float modulo by zero"));
    }
    let remainder = a % b;
    Ok(Value::from(match remainder == 0.0 {
        true => 0_f64.copysign(b),
        false if (remainder < 0.0) != (b < 0.0) => remainder + b,
        false => remainder,
    }))
}

/// `format` with `values` put in by place, or by name from the `single` value where that is
/// a map.
pub(super) fn printf(
    state: &State,
    format: &str,
    values: &[Value],
    single: Option<&Value>,
) -> Result<Value, Error> {
    let map = single.filter(|value| value.kind() == ValueKind::Map);
    let mut out = Text::new(MAX_OUTPUT);
    let mut values = values.iter();
    let mut rest = format;
    let mut named = false;
    while let Some(at) = rest.find('%') {
        out.push(&rest[..at])?;
        let (mut field, behind) = Field::parse(&rest[at + 1..])?;
        rest = behind;
        if field.conversion == '%' {
            out.push("%")?;
            continue;
        }
        let mut next = || values.next().ok_or_else(|| refuse("not enough arguments for format"));
        field.fill_widths(&mut next)?;
        let value = match (field.name, map) {
            (Some(name), Some(map)) => {
                named = true;
                map.get_attr(name)?
            }
            (Some(_), None) => return Err(refuse("format requires a mapping")),
            (None, _) => next()?.clone(),
        };
        out.push(&field.put(state, &value)?)?;
    }
    out.push(rest)?;
    if values.next().is_some() && !named && map.is_none() {
        return Err(refuse("not all arguments converted during string formatting"));
    }
    Ok(Value::from(out.text))
}

/// One `%…` of a format.
struct Field<'a> {
    /// Of `%(name)s`.
    name: Option<&'a str>,
    /// Flags, width and precision.
    options: String,
    conversion: char,
}

impl<'a> Field<'a> {
    /// The field behind a percent sign, and what follows it.
    fn parse(source: &'a str) -> Result<(Self, &'a str), Error> {
        let incomplete = || refuse("incomplete format");
        let (name, source) = match source.strip_prefix('(') {
            Some(inside) => {
                let (name, behind) = inside.split_once(')').ok_or_else(incomplete)?;
                (Some(name), behind)
            }
            None => (None, source),
        };
        let is_option = |letter: char| letter.is_ascii_digit() || "-+ #.*".contains(letter);
        let options = source.find(|letter| !is_option(letter)).ok_or_else(incomplete)?;
        let behind = source[options..].trim_start_matches(['h', 'l', 'L']);
        let conversion = behind.chars().next().ok_or_else(incomplete)?;
        let field = Field { name, options: source[..options].to_owned(), conversion };
        Ok((field, &behind[conversion.len_utf8()..]))
    }

    /// Takes the widths written `*` from the values, and refuses wide ones.
    fn fill_widths<'v>(
        &mut self,
        next: &mut impl FnMut() -> Result<&'v Value, Error>,
    ) -> Result<(), Error> {
        while let Some(at) = self.options.find('*') {
            let width = i64::try_from(next()?.clone())?;
            self.options.replace_range(at..at + 1, &width.clamp(-MAX_WIDTH, MAX_WIDTH).to_string());
        }
        let mut numbers = self.options.split(|letter: char| !letter.is_ascii_digit());
        match numbers.any(|number| number.trim_start_matches('0').len() > 3) {
            true => Err(refuse(format!("format: wider than {MAX_WIDTH}"))),
            false => Ok(()),
        }
    }

    fn put(&self, state: &State, value: &Value) -> Result<String, Error> {
        let (conversion, value) = match self.conversion {
            's' => ('s', shown(state, value)?),
            'r' | 'a' => {
                let mut out = Text::new(MAX_OUTPUT);
                python::write_repr(&mut out, value, 0)?;
                match self.conversion {
                    'a' => ('s', Value::from(ascii(&out.text))),
                    _ => ('s', Value::from(out.text)),
                }
            }
            'i' | 'u' | 'd' if value.kind() == ValueKind::Number && !value.is_integer() => {
                let number = f64::try_from(value.clone())?;
                if !number.is_finite() {
                    return Err(refuse("cannot convert a float that is not finite to an integer"));
                }
                ('d', Value::from(number as i128))
            }
            'i' | 'u' => ('d', value.clone()),
            other => (other, value.clone()),
        };
        // Texts are copied, however little of them a precision leaves.
        let copied = value.as_str().map_or(0, str::len) / python::BYTES_PER_FUEL;
        state.consume_fuel(1 + copied as u64)?;
        format(FormatStyle::Printf, &format!("%{}{conversion}", self.options), &[value])
    }
}

/// `text` with escapes for what is not ASCII.
fn ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter as u32 {
            0..=0x7f => out.push(letter),
            code @ 0x80..=0xff => out.push_str(&format!("\\x{code:02x}")),
            code @ 0x100..=0xffff => out.push_str(&format!("\\u{code:04x}")),
            code => out.push_str(&format!("\\U{code:08x}")),
        }
    }
    out
}
