//! Go's `fmt`: values as text, and `printf`.

use super::json;
use super::literal::quote;
use super::output::Sink;
use super::value::Value;

/// How `%v` writes a value.
pub fn shown(value: &Value) -> Sink {
    let mut sink = Sink::default();
    show(&mut sink, value, &Verb::plain());
    sink
}

/// `print`: spaces between operands when neither is a text.
pub fn print(sink: &mut Sink, values: &[Value]) {
    let mut after_text = true;
    for (at, value) in values.iter().enumerate() {
        let is_text = matches!(value, Value::Text(_));
        if at > 0 && !is_text && !after_text {
            sink.letter(' ');
        }
        show(sink, value, &Verb::plain());
        after_text = is_text;
    }
}

/// `println`: spaces between all, and a line's end.
pub fn println(sink: &mut Sink, values: &[Value]) {
    for (at, value) in values.iter().enumerate() {
        if at > 0 {
            sink.letter(' ');
        }
        show(sink, value, &Verb::plain());
    }
    sink.letter('\n');
}

/// One `%…` of a pattern.
#[derive(Debug, Clone, Default)]
struct Verb {
    letter: char,
    left: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
}

impl Verb {
    fn plain() -> Self {
        Verb { letter: 'v', ..Verb::default() }
    }
}

/// Widths and precisions that Go accepts.
const MAX_WIDTH: usize = 1_000_000;

/// `printf`
pub fn printf(sink: &mut Sink, pattern: &str, values: &[Value]) {
    let mut used = Used { next: 0, count: values.len(), reordered: false, good: true };
    let mut rest = pattern;
    while let Some(at) = rest.find('%') {
        sink.push(&rest[..at]);
        let mut letters = rest[at + 1..].chars();
        match verb(&mut letters, values, &mut used) {
            None => sink.push("%!(NOVERB)"),
            Some(verb) if verb.letter == '%' => sink.letter('%'),
            Some(verb) => {
                match values.get(used.next).filter(|_| used.good) {
                    Some(value) => show(sink, value, &verb),
                    None if !used.good => sink.push(&format!("%!{}(BADINDEX)", verb.letter)),
                    None => sink.push(&format!("%!{}(MISSING)", verb.letter)),
                }
                used.next += 1;
            }
        }
        rest = letters.as_str();
        if sink.is_full() {
            return;
        }
    }
    sink.push(rest);
    if used.next < values.len() && !used.reordered {
        extra(sink, &values[used.next..]);
    }
}

fn extra(sink: &mut Sink, values: &[Value]) {
    sink.push("%!(EXTRA ");
    for (at, value) in values.iter().enumerate() {
        if at > 0 {
            sink.push(", ");
        }
        match value {
            Value::Nil => sink.push("<nil>"),
            value => {
                sink.push(value.type_name());
                sink.letter('=');
                show(sink, value, &Verb::plain());
            }
        }
    }
    sink.letter(')');
}

/// Which operands are done with.
struct Used {
    next: usize,
    count: usize,
    /// Whether any was named by its number.
    reordered: bool,
    /// Whether the number of the present one is among them.
    good: bool,
}

/// Reads one verb behind its `%`.
fn verb(letters: &mut std::str::Chars<'_>, values: &[Value], used: &mut Used) -> Option<Verb> {
    let mut verb = Verb::default();
    used.good = true;
    loop {
        match letters.clone().next()? {
            '-' => verb.left = true,
            '+' => verb.plus = true,
            '#' => verb.sharp = true,
            ' ' => verb.space = true,
            '0' => verb.zero = true,
            _ => break,
        }
        letters.next();
    }
    operand(letters, used);
    if let Some(width) = size(letters, values, used) {
        verb.left |= width < 0;
        verb.width = width.unsigned_abs().try_into().unwrap_or(0).min(MAX_WIDTH);
    }
    if letters.clone().next() == Some('.') {
        letters.next();
        operand(letters, used);
        let precision = size(letters, values, used).unwrap_or(0);
        verb.precision = usize::try_from(precision).ok().map(|size| size.min(MAX_WIDTH));
    }
    operand(letters, used);
    verb.letter = letters.next()?;
    Some(verb)
}

/// `[2]`: which operand comes next.
fn operand(letters: &mut std::str::Chars<'_>, used: &mut Used) {
    let brackets = letters.as_str().strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let Some((number, rest)) = brackets else { return };
    used.reordered = true;
    *letters = rest.chars();
    match number.parse::<usize>() {
        Ok(number) if (1..=used.count).contains(&number) => used.next = number - 1,
        _ => used.good = false,
    }
}

/// `12`, or `*`: the next operand.
fn size(letters: &mut std::str::Chars<'_>, values: &[Value], used: &mut Used) -> Option<i64> {
    if let Some(rest) = letters.as_str().strip_prefix('*') {
        *letters = rest.chars();
        used.next += 1;
        return match values.get(used.next - 1) {
            Some(Value::Int(size)) => Some(*size),
            _ => None,
        };
    }
    let text = letters.as_str();
    let rest = text.trim_start_matches(|digit: char| digit.is_ascii_digit());
    let number = &text[..text.len() - rest.len()];
    *letters = rest.chars();
    (!number.is_empty()).then(|| number.parse().unwrap_or(i64::MAX))
}

fn show(sink: &mut Sink, value: &Value, verb: &Verb) {
    match (value, verb.letter) {
        (_, 'T') => {
            pad(sink, if matches!(value, Value::Nil) { "<nil>" } else { value.type_name() }, verb)
        }
        (Value::Nil, 'v') => pad(sink, "<nil>", verb),
        (Value::Nil, letter) => sink.push(&format!("%!{letter}(<nil>)")),
        (Value::Bool(value), 'v' | 't') => pad(sink, if *value { "true" } else { "false" }, verb),
        (Value::Int(value), _) => int(sink, *value, verb),
        (Value::Float(value), 'v' | 'e' | 'E' | 'f' | 'F' | 'g' | 'G') => float(sink, *value, verb),
        (Value::Text(text), 'v') if verb.sharp => pad(sink, &quote(text), verb),
        (Value::Text(text), 'v' | 's' | 'q' | 'x' | 'X') => self::text(sink, text, verb),
        (Value::List(_) | Value::Map(_), 'v' | 's') if prints_json(value) => {
            let mut inner = Sink::default();
            json::write(&mut inner, value);
            match inner.finish() {
                Some(text) => pad(sink, &text, verb),
                None => sink.overflow(),
            }
        }
        (Value::List(list), _) => {
            sink.letter('[');
            for (at, item) in list.items().iter().enumerate() {
                if at > 0 {
                    sink.letter(' ');
                }
                show(sink, item, verb);
            }
            sink.letter(']');
        }
        (Value::Map(map), _) => {
            sink.push("map[");
            for (at, (key, item)) in map.entries().enumerate() {
                if at > 0 {
                    sink.letter(' ');
                }
                text(sink, key, verb);
                sink.letter(':');
                show(sink, item, verb);
            }
            sink.letter(']');
        }
        (value, letter) => bad(sink, value, letter),
    }
}

/// Structs and JSON objects, and lists of them, have a printer of their own.
fn prints_json(value: &Value) -> bool {
    match value {
        Value::Map(map) => map.json_entries().is_some(),
        Value::List(list) => list
            .items()
            .first()
            .is_some_and(|item| matches!(item, Value::Map(map) if map.json_entries().is_some())),
        _ => false,
    }
}

fn bad(sink: &mut Sink, value: &Value, letter: char) {
    sink.push(&format!("%!{letter}({}=", value.type_name()));
    show(sink, value, &Verb::plain());
    sink.letter(')');
}

fn pad(sink: &mut Sink, text: &str, verb: &Verb) {
    let missing = verb.width.saturating_sub(text.chars().count());
    if !verb.left {
        sink.repeat(if verb.zero { '0' } else { ' ' }, missing);
    }
    sink.push(text);
    if verb.left {
        sink.repeat(' ', missing);
    }
}

fn text(sink: &mut Sink, text: &str, verb: &Verb) {
    let cut = verb.precision.and_then(|most| text.char_indices().nth(most));
    let text = cut.map_or(text, |(at, _)| &text[..at]);
    match verb.letter {
        'q' => pad(sink, &quote(text), verb),
        'x' => pad(sink, &text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>(), verb),
        'X' => pad(sink, &text.bytes().map(|byte| format!("{byte:02X}")).collect::<String>(), verb),
        _ => pad(sink, text, verb),
    }
}

fn int(sink: &mut Sink, value: i64, verb: &Verb) {
    let size = value.unsigned_abs();
    let letter = u32::try_from(value).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
    let (prefix, digits) = match verb.letter {
        'v' | 'd' => ("", size.to_string()),
        'b' => ("0b", format!("{size:b}")),
        'o' => ("0", format!("{size:o}")),
        'x' => ("0x", format!("{size:x}")),
        'X' => ("0X", format!("{size:X}")),
        'c' => return pad(sink, letter.encode_utf8(&mut [0; 4]), verb),
        'q' => {
            let quoted = quote(letter.encode_utf8(&mut [0; 4])).replace("\\\"", "\"");
            let inner = &quoted[1..quoted.len() - 1];
            let inner = if inner == "'" { "\\'" } else { inner };
            return pad(sink, &format!("'{inner}'"), verb);
        }
        'U' => return pad(sink, &format!("U+{size:04X}"), verb),
        other => return bad(sink, &Value::Int(value), other),
    };
    let prefix = if verb.sharp { prefix } else { "" };
    signed(sink, value < 0, &format!("{prefix}{digits}"), digits.len(), verb);
}

/// A number with its sign, filled up with zeros or spaces.
fn signed(sink: &mut Sink, negative: bool, digits: &str, count: usize, verb: &Verb) {
    let sign = match (negative, verb.plus, verb.space) {
        (true, ..) => "-",
        (_, true, _) => "+",
        (_, _, true) => " ",
        _ => "",
    };
    let is_int = verb.precision.is_none() || !digits.contains('.');
    let zeros = match verb.precision {
        Some(least) if is_int => least.saturating_sub(count),
        _ if verb.zero && !verb.left => verb.width.saturating_sub(sign.len() + digits.len()),
        _ => 0,
    };
    let text = format!("{sign}{}{digits}", "0".repeat(zeros));
    pad(sink, &text, &Verb { zero: false, ..verb.clone() });
}

fn float(sink: &mut Sink, value: f64, verb: &Verb) {
    let size = value.abs();
    let text = match verb.letter {
        _ if value.is_nan() => "NaN".to_owned(),
        _ if value.is_infinite() => "Inf".to_owned(),
        'f' | 'F' => format!("{size:.*}", verb.precision.unwrap_or(6).min(1000)),
        'e' => exponent(&format!("{size:.*e}", verb.precision.unwrap_or(6).min(1000))),
        'E' => {
            exponent(&format!("{size:.*e}", verb.precision.unwrap_or(6).min(1000))).to_uppercase()
        }
        _ => general(size, verb.precision),
    };
    // The precision is already in the digits.
    signed(sink, value.is_sign_negative(), &text, usize::MAX, verb);
}

/// Go's exponents have a sign and two digits.
fn exponent(text: &str) -> String {
    let Some((digits, power)) = text.split_once('e') else { return text.to_owned() };
    let (sign, power) = power.strip_prefix('-').map_or(('+', power), |power| ('-', power));
    format!("{digits}e{sign}{power:0>2}")
}

/// `%g` of a number that is not negative.
pub fn general(size: f64, precision: Option<usize>) -> String {
    let digits = precision.map(|digits| digits.clamp(1, 1000));
    let scientific = match digits {
        Some(digits) => format!("{size:.*e}", digits - 1),
        None => format!("{size:e}"),
    };
    let (digits_text, power) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i32 = power.parse().unwrap_or(0);
    // Without a precision Go turns to exponents from a million on.
    let most = digits.map_or(6, |digits| i32::try_from(digits).unwrap_or(i32::MAX));
    let trimmed = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if power < -4 || power >= most {
        return exponent(&format!("{}e{power}", trimmed(digits_text)));
    }
    match digits {
        Some(digits) => {
            let places = i32::try_from(digits).unwrap_or(i32::MAX).saturating_sub(1 + power);
            trimmed(&format!("{size:.*}", usize::try_from(places).unwrap_or(0)))
        }
        None => format!("{size}"),
    }
}
