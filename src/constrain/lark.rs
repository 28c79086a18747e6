//! Pieces of grammars in llguidance's dialect of Lark.

use serde_json::Value as Json;

use crate::error::{Error, Result};

use super::schema;

/// A string literal.
pub(super) fn literal(text: &str) -> String {
    // The dialect's strings are those of JSON, but that DEL must be escaped.
    Json::from(text).to_string().replace('\u{7f}', "\\u007f")
}

/// A regular expression between slashes. It matches a whole text, so that anchors around it
/// change nothing and are taken off.
///
/// # Errors
/// [`Error::Misuse`] for one that ends in the middle of an escape.
pub(super) fn regex(pattern: &str) -> Result<String> {
    let pattern = without_anchors(pattern);
    if pattern.is_empty() {
        return Ok("\"\"".into());
    }
    let mut text = String::with_capacity(pattern.len() + 2);
    text.push('/');
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                let escaped = chars.next().ok_or_else(|| {
                    Error::misuse("regular expression: it ends with a single backslash")
                })?;
                match escaped {
                    '\n' => text.push_str("\\n"),
                    _ => text.extend(['\\', escaped]),
                }
            }
            '/' => text.push_str("\\/"),
            '\n' => text.push_str("\\n"),
            _ => text.push(c),
        }
    }
    text.push('/');
    Ok(text)
}

fn without_anchors(pattern: &str) -> &str {
    let pattern = pattern.strip_prefix('^').unwrap_or(pattern);
    let Some(inner) = pattern.strip_suffix('$') else { return pattern };
    let escapes = inner.len() - inner.trim_end_matches('\\').len();
    if escapes % 2 == 0 { inner } else { pattern }
}

/// A text as a regular expression that matches it.
pub(super) fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        // Not all punctuation: `\<` is the start of a word.
        if "\\.+*?()|[]{}^$#&-~".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

/// The same grammar with its JSON schemas made ready for the compiler.
///
/// # Errors
/// As [`schema::prepare`], and [`Error::Limit`] for a literal that is too long.
pub(super) fn prepare(grammar: &str) -> Result<String> {
    const JSON: &str = "%json";
    let (mut prepared, mut rest) = (String::with_capacity(grammar.len()), grammar);
    while !rest.is_empty() {
        let length = lexeme(rest);
        let (lexeme, after) = rest.split_at(length);
        if lexeme.starts_with(['"', '/']) {
            schema::check_literal(lexeme.len())?;
        }
        prepared.push_str(lexeme);
        rest = after;
        if lexeme != JSON {
            continue;
        }
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Json>();
        let Some(value) = values.next() else { continue };
        let value = value.map_err(|error| Error::misuse(format!("%json in a grammar: {error}")))?;
        let length = values.byte_offset();
        prepared.push(' ');
        prepared.push_str(&schema::prepare(&value)?.to_string());
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(prepared)
}

/// The length of what is first in a grammar: a string, a regular expression, a comment, a
/// directive or a character.
fn lexeme(text: &str) -> usize {
    let mut chars = text.char_indices();
    let Some((_, first)) = chars.next() else { return 0 };
    let comment = || text.find('\n').unwrap_or(text.len());
    match first {
        '#' => comment(),
        '/' if text.starts_with("//") => comment(),
        '"' | '/' => {
            let mut escape = false;
            for (at, c) in chars {
                match c {
                    // No string and no regular expression goes on in the next line.
                    '\n' => return 1,
                    _ if escape => escape = false,
                    '\\' => escape = true,
                    _ if c == first => return at + 1,
                    _ => {}
                }
            }
            1
        }
        '%' => {
            let name = text[1..].find(|c: char| !c.is_ascii_alphabetic());
            name.map_or(text.len(), |length| length + 1)
        }
        _ => first.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_regular_expression_stays_between_its_slashes() {
        for (pattern, expected) in [
            ("a|b", "/a|b/"),
            ("^a|b$", "/a|b/"),
            (r"a\$", r"/a\$/"),
            (r"a\\$", r"/a\\/"),
            ("a/b", r"/a\/b/"),
            (r"a\/b", r"/a\/b/"),
            ("a\nb", r"/a\nb/"),
            ("a\\\nb", r"/a\nb/"),
            ("", "\"\""),
            ("^$", "\"\""),
        ] {
            assert_eq!(regex(pattern).unwrap(), expected, "{pattern:?}");
        }
        assert!(matches!(regex(r"a\"), Err(Error::Misuse(_))));
    }

    #[test]
    fn schemas_in_a_grammar_are_made_ready_and_nothing_else_is_touched() {
        let prepared = prepare("start: %json {\"x-guidance\": {\"lenient\": true}}\n").unwrap();
        assert!(!prepared.contains("lenient") && prepared.contains("whitespace_pattern"));
        assert!(prepared.starts_with("start: %json {") && prepared.ends_with("}\n"));
        for grammar in [
            "start: \"%json {}\" /%json {}/ // %json {}\n# %json {}\nx: \"a\\\"%json {}\"",
            "start: /[^\\/]+/ \"//\" %lark { start: \"a\" }",
            "start: \"no end\n",
        ] {
            assert_eq!(prepare(grammar).unwrap(), grammar);
        }
        let hostile = "start: /a/ %json {\"multipleOf\": 1000003}";
        assert!(matches!(prepare(hostile), Err(Error::Limit { .. })));
        assert!(matches!(prepare("start: %json {\"a\""), Err(Error::Misuse(_))));
    }
}
