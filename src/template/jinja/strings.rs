//! Methods of Python's `str`.
//!
//! Specified by docs.python.org/3/library/stdtypes.html, "String Methods". Positions count
//! characters.

use minijinja::Error;
use minijinja::value::Value;
use unicode_general_category::{GeneralCategory, get_general_category};

use super::MAX_OUTPUT;
use super::arguments::{bound, integer, is_true, text as text_of};
use super::bounds::{Text, refuse};

/// Characters that a text may be padded to.
const MAX_WIDTH: usize = 64 << 10;

/// The method's result; `None` for a method that is not here.
pub(super) fn method(text: &str, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(Some(match name {
        "strip" | "lstrip" | "rstrip" => {
            let [chars] = bound(args, ["chars"])?;
            let (left, right) = (name != "rstrip", name != "lstrip");
            Value::from(strip(text, text_of(chars.as_ref())?, left, right))
        }
        "removeprefix" | "removesuffix" => {
            let part = required(args)?;
            let rest = match name {
                "removeprefix" => text.strip_prefix(&*part),
                _ => text.strip_suffix(&*part),
            };
            Value::from(rest.unwrap_or(text))
        }
        "split" | "rsplit" => {
            let [separator, most] = bound(args, ["sep", "maxsplit"])?;
            let most = usize::try_from(integer(most.as_ref(), -1)?).ok();
            split(text, text_of(separator.as_ref())?, most, name == "rsplit")?
        }
        "splitlines" => {
            let [keep] = bound(args, ["keepends"])?;
            lines(text, is_true(keep.as_ref())).into_iter().collect()
        }
        "partition" | "rpartition" => partition(text, &required(args)?, name == "rpartition")?,
        "join" => join(text, args)?,
        "find" | "rfind" | "index" | "rindex" => find(text, name, args)?,
        "count" => {
            let (wanted, part, _) = part(text, args)?;
            let wanted = needle(&wanted)?;
            Value::from(part.map_or(0, |part| part.matches(wanted).count()))
        }
        "startswith" | "endswith" => starts_or_ends(text, name == "startswith", args)?,
        "title" => {
            let [] = bound(args, [])?;
            Value::from(title(text))
        }
        "swapcase" | "casefold" => {
            let [] = bound(args, [])?;
            Value::from(recased(text, name))
        }
        "expandtabs" => {
            let [width] = bound(args, ["tabsize"])?;
            let width = usize::try_from(integer(width.as_ref(), 8)?).unwrap_or(0);
            Value::from(expand_tabs(text, width)?)
        }
        "ljust" | "rjust" | "center" => {
            let [width, fill] = bound(args, ["width", "fillchar"])?;
            let width = usize::try_from(integer(width.as_ref(), 0)?).unwrap_or(0);
            let side = match name {
                "ljust" => Side::Right,
                "rjust" => Side::Left,
                _ => Side::Both,
            };
            let fill = one_letter(text_of(fill.as_ref())?.unwrap_or(" "))?;
            Value::from(pad(text, width, fill, side)?)
        }
        "zfill" => {
            let [width] = bound(args, ["width"])?;
            let width = usize::try_from(integer(width.as_ref(), 0)?).unwrap_or(0);
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['-', '+'])));
            let digits = pad(digits, width.saturating_sub(sign.len()), '0', Side::Left)?;
            Value::from(format!("{sign}{digits}"))
        }
        _ => {
            let Some(answer) = question(text, name) else { return Ok(None) };
            let [] = bound(args, [])?;
            Value::from(answer)
        }
    }))
}

/// `str.isspace` of one character.
pub(super) fn is_space(letter: char) -> bool {
    letter.is_whitespace() || ('\x1c'..='\x1f').contains(&letter)
}

/// The answer of an `is…` method.
fn question(text: &str, name: &str) -> Option<bool> {
    let all = |accept: fn(char) -> bool| !text.is_empty() && text.chars().all(accept);
    let is_decimal = |letter| get_general_category(letter) == GeneralCategory::DecimalNumber;
    Some(match name {
        "isspace" => all(is_space),
        "isdecimal" => all(is_decimal),
        "isdigit" => all(is_digit),
        "isprintable" => text.chars().all(super::python::is_printable),
        "istitle" => text.chars().any(is_cased) && title(text) == text,
        "isidentifier" => {
            let first = text.chars().next();
            first.is_some_and(|letter| letter == '_' || letter.is_alphabetic())
                && text.chars().all(|letter| letter == '_' || letter.is_alphanumeric())
        }
        _ => return None,
    })
}

/// Decimal digits of all scripts, and superscripts, subscripts and circled digits.
fn is_digit(letter: char) -> bool {
    get_general_category(letter) == GeneralCategory::DecimalNumber
        || matches!(letter, '²' | '³' | '¹' | '⁰' | '⁴'..='⁹' | '₀'..='₉' | '①'..='⑨' | '⑴'..='⑼'
            | '⒈'..='⒐' | '⓪' | '⓵'..='⓽' | '⓿' | '❶'..='❾' | '➀'..='➈' | '➊'..='➒')
}

fn is_cased(letter: char) -> bool {
    letter.is_lowercase()
        || letter.is_uppercase()
        || get_general_category(letter) == GeneralCategory::TitlecaseLetter
}

/// `text` without the characters `chars`, or without white space, at its ends.
pub(super) fn strip<'t>(text: &'t str, chars: Option<&str>, left: bool, right: bool) -> &'t str {
    let goes = |letter: char| chars.map_or_else(|| is_space(letter), |all| all.contains(letter));
    let text = if left { text.trim_start_matches(goes) } else { text };
    if right { text.trim_end_matches(goes) } else { text }
}

/// The only argument, a text.
fn required(args: &[Value]) -> Result<String, Error> {
    let [value] = bound(args, ["value"])?;
    Ok(needle(&value)?.to_owned())
}

fn needle(value: &Option<Value>) -> Result<&str, Error> {
    text_of(value.as_ref())?.ok_or_else(|| refuse("a text is required"))
}

fn split(
    text: &str,
    separator: Option<&str>,
    most: Option<usize>,
    from_end: bool,
) -> Result<Value, Error> {
    let most = most.unwrap_or(usize::MAX - 1);
    let mut parts: Vec<&str> = match separator {
        Some("") => return Err(refuse("empty separator")),
        Some(separator) if from_end => text.rsplitn(most + 1, separator).collect(),
        Some(separator) => text.splitn(most + 1, separator).collect(),
        None => words(text, most, from_end),
    };
    if from_end {
        parts.reverse();
    }
    Ok(parts.into_iter().collect())
}

/// The words of a text, at most `most` cut off; backwards `from_end`.
fn words(text: &str, most: usize, from_end: bool) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = strip(text, None, !from_end, from_end);
    while parts.len() < most {
        let found = if from_end { rest.rfind(is_space) } else { rest.find(is_space) };
        let Some(at) = found else { break };
        let behind = at + rest[at..].chars().next().map_or(1, char::len_utf8);
        let (word, left) = match from_end {
            true => (&rest[behind..], &rest[..at]),
            false => (&rest[..at], &rest[behind..]),
        };
        parts.push(word);
        rest = strip(left, None, !from_end, from_end);
    }
    if !rest.is_empty() {
        parts.push(rest);
    }
    parts
}

/// The lines of a text, with or without what ends them.
pub(super) fn lines(text: &str, keep_ends: bool) -> Vec<&str> {
    let ends = |letter: char| {
        matches!(
            letter,
            '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    };
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(ends) {
        let end = match rest[at..].starts_with("\r\n") {
            true => at + 2,
            false => at + rest[at..].chars().next().map_or(1, char::len_utf8),
        };
        lines.push(&rest[..if keep_ends { end } else { at }]);
        rest = &rest[end..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

fn partition(text: &str, separator: &str, last: bool) -> Result<Value, Error> {
    if separator.is_empty() {
        return Err(refuse("empty separator"));
    }
    let found = if last { text.rsplit_once(separator) } else { text.split_once(separator) };
    Ok(Value::from(match (found, last) {
        (Some((head, tail)), _) => (head, separator, tail),
        (None, false) => (text, "", ""),
        (None, true) => ("", "", text),
    }))
}

fn join(separator: &str, args: &[Value]) -> Result<Value, Error> {
    let [items] = bound(args, ["iterable"])?;
    let items = items.ok_or_else(|| refuse("join takes one argument"))?;
    let mut out = Text::new(MAX_OUTPUT);
    for (index, item) in items.try_iter()?.enumerate() {
        if index > 0 {
            out.push(separator)?;
        }
        out.push(item.as_str().ok_or_else(|| refuse("join takes texts only"))?)?;
    }
    Ok(Value::from(out.text))
}

/// What is looked for, the part between the positions `start` and `end` (`None` where start
/// is behind the text or behind the end), and the characters before it.
fn part<'t>(
    text: &'t str,
    args: &[Value],
) -> Result<(Option<Value>, Option<&'t str>, usize), Error> {
    let [wanted, start, end] = bound(args, ["sub", "start", "end"])?;
    if start.is_none() && end.is_none() {
        return Ok((wanted, Some(text), 0));
    }
    let length = text.chars().count() as i64;
    let place = |given: i64| if given < 0 { (given + length).max(0) } else { given };
    let start = place(integer(start.as_ref(), 0)?);
    let end = place(integer(end.as_ref(), length)?).min(length);
    if start > end {
        return Ok((wanted, None, 0));
    }
    let byte = |at: i64| text.char_indices().nth(at as usize).map_or(text.len(), |(byte, _)| byte);
    Ok((wanted, Some(&text[byte(start)..byte(end)]), start as usize))
}

fn find(text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    let (wanted, part, before) = part(text, args)?;
    let wanted = needle(&wanted)?;
    let found = part.and_then(|part| {
        let at = if name.starts_with('r') { part.rfind(wanted) } else { part.find(wanted) };
        at.map(|at| before + part[..at].chars().count())
    });
    match found {
        Some(at) => Ok(Value::from(at)),
        None if name.ends_with("find") => Ok(Value::from(-1)),
        None => Err(refuse("substring not found")),
    }
}

fn starts_or_ends(text: &str, start: bool, args: &[Value]) -> Result<Value, Error> {
    let (wanted, part, _) = part(text, args)?;
    let wanted = wanted.ok_or_else(|| refuse("a text or a tuple of texts is required"))?;
    let fits = |wanted: &str| {
        part.is_some_and(|part| match start {
            true => part.starts_with(wanted),
            false => part.ends_with(wanted),
        })
    };
    if let Some(wanted) = wanted.as_str() {
        return Ok(Value::from(fits(wanted)));
    }
    if !wanted.is_tuple() {
        return Err(refuse("a text or a tuple of texts is required"));
    }
    for item in wanted.try_iter()? {
        if fits(item.as_str().ok_or_else(|| refuse("a tuple of texts is required"))?) {
            return Ok(Value::from(true));
        }
    }
    Ok(Value::from(false))
}

/// Every letter behind one that is not cased in upper case, the others in lower case.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut within = false;
    for letter in text.chars() {
        match within {
            true => out.extend(letter.to_lowercase()),
            false => out.extend(letter.to_uppercase()),
        }
        within = is_cased(letter);
    }
    out
}

fn recased(text: &str, name: &str) -> String {
    if name == "casefold" {
        return text.to_lowercase().replace('ß', "ss").replace('ς', "σ");
    }
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter.is_lowercase() {
            true => out.extend(letter.to_uppercase()),
            false => out.extend(letter.to_lowercase()),
        }
    }
    out
}

fn expand_tabs(text: &str, width: usize) -> Result<String, Error> {
    let mut out = Text::new(MAX_OUTPUT);
    let mut column = 0_usize;
    for letter in text.chars() {
        match letter {
            '\t' => {
                let spaces = width - column.checked_rem(width).unwrap_or(0);
                if spaces > MAX_WIDTH {
                    return Err(refuse(format!("padding of more than {MAX_WIDTH} characters")));
                }
                out.push(&" ".repeat(spaces))?;
                column += spaces;
            }
            _ => {
                out.push_char(letter)?;
                column = if matches!(letter, '\n' | '\r') { 0 } else { column + 1 };
            }
        }
    }
    Ok(out.text)
}

fn one_letter(text: &str) -> Result<char, Error> {
    let mut letters = text.chars();
    match (letters.next(), letters.next()) {
        (Some(letter), None) => Ok(letter),
        _ => Err(refuse("the fill must be one character")),
    }
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
