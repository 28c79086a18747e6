//! Calls in tags: `<function=f>`, then an object or `<parameter=k>` … `</parameter>`, then
//! `</function>`. It is not XML: values stand there as they are.

use serde_json::{Map, Value as Json};

use super::context::{Context, End};
use super::markers::{Match, near, starts};
use super::object::{Item, of_object};

pub(super) const FUNCTION: &str = "<function=";
const FUNCTION_END: &str = "</function>";
const PARAMETER: &str = "<parameter=";
const PARAMETER_END: &str = "</parameter>";
/// What ends a value; models leave out the end of a parameter.
const VALUE_ENDS: [&str; 3] = [PARAMETER_END, PARAMETER, FUNCTION_END];
/// Longer names are none.
const NAME: usize = 256;

/// The call that `text`, which begins with [`FUNCTION`], is.
pub(super) fn function(context: &Context, text: &str, end: End) -> Item {
    let Some(head) = text.strip_prefix(FUNCTION) else { return Item::Fail(0) };
    let name = match name(head) {
        Name::Is(name) => name,
        Name::Open if end.is_none() => return Item::Wait,
        Name::Open => return Item::Fail(text.len()),
        Name::None => return Item::Fail(FUNCTION.len()),
    };
    let body = FUNCTION.len() + name.len() + 1;
    let inside = &text[body..];
    let start = body + inside.len() - inside.trim_start().len();
    if text[start..].starts_with('{') {
        let item = of_object(context, name, &text[start..], end).moved(start);
        return ended(item, text, end);
    }
    parameters(context, name, text, body, end)
}

enum Name<'t> {
    Is(&'t str),
    Open,
    None,
}

/// What stands before `>`.
fn name(text: &str) -> Name<'_> {
    match near(text, NAME + 1).find(['>', '\n', '<']) {
        Some(end) if text[end..].starts_with('>') && (1..=NAME).contains(&end) => {
            Name::Is(&text[..end])
        }
        None if text.len() <= NAME => Name::Open,
        _ => Name::None,
    }
}

/// With the end tag of the function, if it is there.
fn ended(item: Item, text: &str, end: End) -> Item {
    let Item::Found { len, call } = item else { return item };
    let behind = text[len..].trim_start();
    let at = text.len() - behind.len();
    match starts(behind, [FUNCTION_END], end.is_some()) {
        Match::Full(_, length) => Item::Found { len: at + length, call },
        Match::Partial => Item::Wait,
        Match::No => Item::Found { len, call },
    }
}

fn parameters(context: &Context, name: &str, text: &str, from: usize, end: End) -> Item {
    let mut arguments = Map::new();
    let mut at = from;
    let found = |len, arguments: Map<String, Json>| Item::Found {
        len,
        call: context.call(name, Json::Object(arguments)),
    };
    loop {
        let rest = text[at..].trim_start();
        let place = text.len() - rest.len();
        let tags = [FUNCTION_END, PARAMETER, PARAMETER_END];
        match starts(rest, tags, end.is_some()) {
            Match::Full(0, length) => return found(place + length, arguments),
            Match::Full(1, length) => {
                let head = &rest[length..];
                let key = match self::name(head) {
                    Name::Is(key) => key,
                    Name::Open if end.is_none() => return Item::Wait,
                    _ => return Item::Fail(place),
                };
                let value = place + length + key.len() + 1;
                let Some((to, close)) = value_end(&text[value..]) else {
                    return if end.is_none() { Item::Wait } else { Item::Fail(text.len()) };
                };
                let value_text = &text[value..value + to];
                arguments
                    .insert(key.trim().to_owned(), context.parameter(name, key.trim(), value_text));
                at = value + to + close;
            }
            // Doubled.
            Match::Full(_, length) => at = place + length,
            Match::Partial => return Item::Wait,
            // The end tag is missing: the call must end here in another way.
            Match::No => {
                return match (context.ends(rest, end), end) {
                    (Match::Full(..), _) => found(place, arguments),
                    (Match::Partial, _) => Item::Wait,
                    (Match::No, Some(false)) if rest.is_empty() => found(place, arguments),
                    (Match::No, _) => Item::Fail(place),
                };
            }
        }
    }
}

/// Where a value ends, and the length of its end tag.
fn value_end(text: &str) -> Option<(usize, usize)> {
    let mut from = 0;
    while let Some(found) = text[from..].find('<') {
        let at = from + found;
        if let Match::Full(index, length) = starts(&text[at..], VALUE_ENDS, true) {
            return Some((at, if index == 0 { length } else { 0 }));
        }
        from = at + 1;
    }
    None
}
