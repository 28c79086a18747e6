//! A client's JSON schema, made ready for the compiler.
//!
//! What would let a client change how the compiler works is taken out, what would keep it
//! busy is refused, and white space is bounded.

use serde_json::{Map, Value as Json, json};

use crate::error::{Bounded, Error, Place, Result};

/// Options of the compiler, which it reads from the top of a schema.
const OPTIONS: &str = "x-guidance";

/// Levels of objects and arrays in a schema at most: a stack of 2 MiB holds so many calls of
/// the compiler.
const MAX_DEPTH: usize = 100;

/// Remainders of all `multipleOf`: the compiler builds a state for each, in about 10 µs.
const MAX_REMAINDERS: u64 = 30_000;

/// Properties in all: each takes about 0.4 ms.
const MAX_PROPERTIES: usize = 2000;

/// The longest name or text of a schema: following one takes about 700 bytes per byte.
const MAX_LITERAL: usize = 32 << 10;

/// Keywords whose values are schemas by name.
const BY_NAME: [&str; 5] =
    ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"];

/// Keywords whose values are data.
const DATA: [&str; 4] = ["const", "enum", "default", "examples"];

/// Keywords by which more than one schema can apply to the same value.
const COMBINING: [&str; 4] = ["allOf", "anyOf", "oneOf", "$ref"];

/// The schema for the compiler.
///
/// # Errors
/// [`Error::Misuse`] for what is no schema, [`Error::Limit`] for one that is nested too deep or
/// has too large a divisor.
pub(super) fn prepare(schema: &Json) -> Result<Json> {
    if depth(schema) > MAX_DEPTH {
        let what = Bounded::Constraint("levels of nesting in a JSON schema");
        return Err(Error::limit(what, depth(schema), MAX_DEPTH));
    }
    let mut prepared = match schema {
        Json::Bool(true) => json!({}),
        Json::Bool(false) => {
            return Err(Error::misuse("the JSON schema \"false\" allows nothing"));
        }
        Json::Object(_) => schema.clone(),
        _ => return Err(Error::misuse("a JSON schema must be an object or a boolean")),
    };
    check_divisors(schema)?;
    check_properties(schema)?;
    check_literals(schema)?;
    strip(&mut prepared, false);
    if let Json::Object(map) = &mut prepared {
        map.insert(OPTIONS.into(), options());
    }
    Ok(prepared)
}

/// White space: one blank after `:` and `,`; a line break and indentation anywhere between two
/// tokens of JSON, but not at the ends of the text.
fn options() -> Json {
    json!({
        "key_separator": ": ?",
        "item_separator": ", ?",
        "whitespace_pattern": "\\r?\\n[ \\t]{0,32}",
    })
}

fn depth(value: &Json) -> usize {
    // Not by recursion: the value may be nested deeper than the stack.
    let mut deepest = 0;
    let mut open = vec![(value, 0)];
    while let Some((value, depth)) = open.pop() {
        deepest = deepest.max(depth);
        match value {
            Json::Array(items) => open.extend(items.iter().map(|item| (item, depth + 1))),
            Json::Object(map) => open.extend(map.values().map(|item| (item, depth + 1))),
            _ => {}
        }
    }
    deepest
}

/// Takes the compiler's options out of all schemas in `value`. `names`: whether its keys are
/// names, not keywords.
fn strip(value: &mut Json, names: bool) {
    match value {
        Json::Object(map) => {
            if !names {
                map.shift_remove(OPTIONS);
            }
            for (key, inner) in map.iter_mut() {
                let keyword = !names;
                if !(keyword && DATA.contains(&key.as_str())) {
                    strip(inner, keyword && BY_NAME.contains(&key.as_str()));
                }
            }
        }
        Json::Array(items) => items.iter_mut().for_each(|item| strip(item, false)),
        _ => {}
    }
}

/// Refuses divisors with too many remainders. Where schemas can be combined, their least
/// common multiple counts.
fn check_divisors(schema: &Json) -> Result<()> {
    let mut all = Vec::new();
    let (mut combines, mut into_data) = (false, false);
    each_schema(schema, false, &mut |_, map| {
        combines |= COMBINING.iter().any(|keyword| map.contains_key(*keyword));
        let target = map.get("$ref").and_then(Json::as_str).unwrap_or_default();
        into_data |= DATA.iter().any(|keyword| target.contains(keyword));
    });
    each_schema(schema, into_data, &mut |_, map| {
        all.extend(map.get("multipleOf").and_then(Json::as_f64));
    });
    let mut together = u64::from(combines);
    for value in all {
        let divisor = digits(value).ok_or_else(|| {
            let problem = format!("{value} has too many digits for \"multipleOf\"");
            Error::unsupported(place_of(schema, "multipleOf", None), problem)
        })?;
        together = if combines { lcm(together, divisor) } else { together.saturating_add(divisor) };
        if together > MAX_REMAINDERS {
            let what = Bounded::Constraint("remainders of \"multipleOf\" in a JSON schema");
            return Err(Error::Limit { what, needed: together, allowed: MAX_REMAINDERS });
        }
    }
    Ok(())
}

fn check_properties(schema: &Json) -> Result<()> {
    let mut count = 0;
    each_schema(schema, true, &mut |_, map| {
        count += map.get("properties").and_then(Json::as_object).map_or(0, Map::len);
    });
    if count > MAX_PROPERTIES {
        let what = Bounded::Constraint("properties in a JSON schema");
        return Err(Error::limit(what, count, MAX_PROPERTIES));
    }
    Ok(())
}

/// Refuses names and texts that are very long, wherever they stand.
fn check_literals(schema: &Json) -> Result<()> {
    let mut longest = 0;
    let mut open = vec![schema];
    while let Some(value) = open.pop() {
        match value {
            Json::String(text) => longest = longest.max(text.len()),
            Json::Array(items) => open.extend(items),
            Json::Object(map) => {
                longest = map.keys().map(String::len).fold(longest, usize::max);
                // Notes for people may be longer.
                let notes = ["description", "$comment", "title", "examples", "default"];
                open.extend(
                    map.iter().filter(|(key, _)| !notes.contains(&key.as_str())).map(|(_, v)| v),
                );
            }
            _ => {}
        }
    }
    check_literal(longest)
}

/// # Errors
/// [`Error::Limit`] for a literal of too many bytes.
pub(super) fn check_literal(bytes: usize) -> Result<()> {
    if bytes > MAX_LITERAL {
        let what = Bounded::Constraint("bytes of one text in a constraint");
        return Err(Error::limit(what, bytes, MAX_LITERAL));
    }
    Ok(())
}

/// The digits of a number without its decimal point, if they are few.
fn digits(value: f64) -> Option<u64> {
    // Never with an exponent.
    let text = value.abs().to_string();
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    if part.len() > 8 {
        return None;
    }
    format!("{whole}{part}").parse().ok().filter(|digits| *digits > 0)
}

fn lcm(a: u64, b: u64) -> u64 {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    (a / x.max(1)).saturating_mul(b)
}

/// Calls `visit` with the path and the keywords of every schema in `schema`; with `data` also of
/// what looks like one in data. What a reference points to is among them.
fn each_schema<'s>(
    schema: &'s Json,
    data: bool,
    visit: &mut impl FnMut(&str, &'s Map<String, Json>),
) {
    let mut open = vec![(schema, "#".to_owned(), false)];
    while let Some((value, path, names)) = open.pop() {
        match value {
            Json::Object(map) => {
                if !names {
                    visit(&path, map);
                }
                for (key, inner) in map.iter().rev() {
                    if names || data || !DATA.contains(&key.as_str()) {
                        let key = key.replace('~', "~0").replace('/', "~1");
                        let by_name = !names && BY_NAME.contains(&key.as_str());
                        open.push((inner, format!("{path}/{key}"), by_name));
                    }
                }
            }
            Json::Array(items) => {
                for (index, inner) in items.iter().enumerate().rev() {
                    open.push((inner, format!("{path}/{index}"), false));
                }
            }
            _ => {}
        }
    }
}

/// The place of the first schema with `keyword`, for error texts; with this value, if one is
/// given.
pub(super) fn place_of(schema: &Json, keyword: &str, value: Option<&str>) -> Place {
    let mut found = None;
    each_schema(schema, false, &mut |path, map| {
        let here = map.get(keyword);
        let matches = here.is_some_and(|here| value.is_none_or(|v| here.as_str() == Some(v)));
        if matches && found.is_none() {
            found = Some(format!("{path}/{keyword}"));
        }
    });
    Place::Schema(found.unwrap_or_else(|| "#".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_options_are_taken_out_but_not_a_property_of_that_name() {
        let schema = json!({
            "x-guidance": {"whitespace_flexible": true},
            "type": "object",
            "properties": {
                "x-guidance": {"type": "string", "x-guidance": {"lenient": true}},
                "const": {"const": {"x-guidance": 1}},
            },
            "allOf": [{"x-guidance": 1}],
        });
        let expected = json!({
            "type": "object",
            "properties": {
                "x-guidance": {"type": "string"},
                "const": {"const": {"x-guidance": 1}},
            },
            "allOf": [{}],
            "x-guidance": options(),
        });
        assert_eq!(prepare(&schema).unwrap(), expected);
    }

    #[test]
    fn divisors_with_many_remainders_are_refused() {
        for (schema, fine) in [
            (json!({"multipleOf": 0.01}), true),
            (json!({"multipleOf": 7919}), true),
            (json!({"multipleOf": -2.5}), true),
            (json!({"multipleOf": 1_000_003}), false),
            (json!({"multipleOf": 1e-300}), false),
            (json!({"multipleOf": 1e300}), false),
            (json!({"properties": {"a": {"multipleOf": 1009}, "b": {"multipleOf": 1013}}}), true),
            (json!({"allOf": [{"multipleOf": 1009}, {"multipleOf": 1013}]}), false),
            (json!({"allOf": [{"multipleOf": 100}, {"multipleOf": 5}]}), true),
            (json!({"$ref": "#/x/y", "x": {"y": {"multipleOf": 1_000_003}}}), false),
            (json!({"$ref": "#/default", "default": {"multipleOf": 1_000_003}}), false),
            (json!({"properties": {"multipleOf": {"type": "integer"}}}), true),
            (json!({"const": {"multipleOf": 1_000_003}}), true),
        ] {
            assert_eq!(prepare(&schema).is_ok(), fine, "{schema}");
        }
    }

    #[test]
    fn what_is_no_schema_or_too_deep_is_refused() {
        for schema in [json!(null), json!(1), json!([]), json!("object"), json!(false)] {
            assert!(matches!(prepare(&schema), Err(Error::Misuse(_))), "{schema}");
        }
        let mut schema = json!({});
        for _ in 0..60 {
            schema = json!({"items": [schema]});
        }
        assert!(matches!(prepare(&schema), Err(Error::Limit { .. })));
    }

    #[test]
    fn the_place_of_a_keyword_is_a_json_pointer() {
        let schema = json!({"properties": {"not": {}, "a/b": {"items": [{}, {"not": {}}]}}});
        let place = place_of(&schema, "not", None);
        assert_eq!(place, Place::Schema("#/properties/a~1b/items/1/not".into()));
        assert_eq!(place_of(&schema, "if", None), Place::Schema("#".into()));
    }
}
