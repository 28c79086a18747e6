//! Go's literals: numbers, and texts in quotes.

/// A number of a template.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// Without a point or exponent.
    Int(i64),
    /// With one.
    Float(f64),
}

/// Reads what the lexer calls a number.
pub fn number(text: &str) -> Result<Number, String> {
    let bad = || format!("bad number syntax: {text:?}");
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let negative = text.starts_with('-');
    let (radix, digits) = match digits.get(..2) {
        Some("0x" | "0X") => (16, &digits[2..]),
        Some("0o" | "0O") => (8, &digits[2..]),
        Some("0b" | "0B") => (2, &digits[2..]),
        _ => (10, digits),
    };
    let joined =
        digits.starts_with('_') && radix == 10 || digits.ends_with('_') || digits.contains("__");
    if joined || digits.is_empty() {
        return Err(bad());
    }
    let plain = digits.replace('_', "");
    if radix == 10 && plain.contains(['.', 'e', 'E']) {
        let value: f64 = plain.parse().map_err(|_| bad())?;
        return Ok(Number::Float(if negative { -value } else { value }));
    }
    // As in C, a leading zero means octal.
    let radix = if radix == 10 && plain.len() > 1 && plain.starts_with('0') { 8 } else { radix };
    if !plain.chars().all(|digit| digit.is_digit(radix)) {
        return Err(bad());
    }
    let signed = if negative { format!("-{plain}") } else { plain };
    let value = i64::from_str_radix(&signed, radix);
    value.map(Number::Int).map_err(|_| format!("integer overflow: {text:?}"))
}

/// The text within quotes of any kind.
pub fn unquote(quoted: &str) -> Option<String> {
    let quote = quoted.chars().next()?;
    let inner = quoted.strip_prefix(quote)?.strip_suffix(quote)?;
    if quote == '`' {
        return Some(inner.replace('\r', ""));
    }
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        rest = escape(&rest[at + 1..], quote, &mut bytes)?;
    }
    bytes.extend_from_slice(rest.as_bytes());
    // `\xff` may make what is no text; Go's templates write it as it is.
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Reads one escape after its backslash; what is left.
fn escape<'t>(rest: &'t str, quote: char, bytes: &mut Vec<u8>) -> Option<&'t str> {
    let letter = rest.chars().next()?;
    let after = &rest[letter.len_utf8()..];
    let simple = match letter {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        '\\' => b'\\',
        '\'' | '"' if letter == quote => letter as u8,
        'x' => {
            bytes.push(u8::try_from(code(after.get(..2)?, 16)?).ok()?);
            return after.get(2..);
        }
        'u' | 'U' => {
            let length = if letter == 'u' { 4 } else { 8 };
            let letter = char::from_u32(code(after.get(..length)?, 16)?)?;
            bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
            return after.get(length..);
        }
        '0'..='7' => {
            bytes.push(u8::try_from(code(rest.get(..3)?, 8)?).ok()?);
            return rest.get(3..);
        }
        _ => return None,
    };
    bytes.push(simple);
    Some(after)
}

/// A number of digits only.
fn code(digits: &str, radix: u32) -> Option<u32> {
    let signed = digits.starts_with(['+', '-']);
    u32::from_str_radix(digits, radix).ok().filter(|_| !signed)
}

/// `text` in double quotes, as Go's `%q` writes it.
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            _ if is_shown(letter) => quoted.push(letter),
            '\0'..='\u{7f}' => quoted.push_str(&format!("\\x{:02x}", u32::from(letter))),
            '\u{80}'..='\u{ffff}' => quoted.push_str(&format!("\\u{:04x}", u32::from(letter))),
            _ => quoted.push_str(&format!("\\U{:08x}", u32::from(letter))),
        }
    }
    quoted.push('"');
    quoted
}

/// Whether a letter is written as it is. Go also hides what Unicode has not assigned.
fn is_shown(letter: char) -> bool {
    let invisible = matches!(
        u32::from(letter),
        0xad | 0x600..=0x605 | 0x61c | 0x180e | 0x200b..=0x200f | 0x202a..=0x202e
            | 0x2060..=0x206f | 0xe000..=0xf8ff | 0xfdd0..=0xfdef | 0xfeff | 0xfff0..=0xfffb
            | 0xe0000..=0xe0fff | 0xf0000..
    );
    let noncharacter = u32::from(letter) & 0xfffe == 0xfffe;
    let space = letter.is_whitespace() && letter != ' ';
    !letter.is_control() && !invisible && !noncharacter && !space
}
