//! Values of parameters that models write as plain text: the schema says what they are.

use serde_json::Value as Json;

use super::json;

/// The value that a parameter's text has by its schema.
pub(super) fn typed(schema: &Json, root: &Json, text: &str) -> Json {
    let text = text.strip_prefix('\n').unwrap_or(text);
    let text = text.strip_suffix('\n').unwrap_or(text);
    let word = text.trim();
    let types = types(schema, root, 0);
    let json = |fits: fn(&Json) -> bool| {
        let value = match word.as_bytes().first() {
            Some(b'{' | b'[') => json::read(word, ""),
            _ => serde_json::from_str(word).ok(),
        };
        value.filter(fits)
    };
    for (kind, bit) in KINDS {
        if types & bit == 0 {
            continue;
        }
        let value = match kind {
            "null" => word.eq_ignore_ascii_case("null").then_some(Json::Null),
            "boolean" if word.eq_ignore_ascii_case("true") => Some(Json::Bool(true)),
            "boolean" if word.eq_ignore_ascii_case("false") => Some(Json::Bool(false)),
            "integer" => json(|value| value.is_i64() || value.is_u64()),
            "number" => json(Json::is_number),
            "array" => json(Json::is_array),
            "object" => json(Json::is_object),
            _ => None,
        };
        if let Some(value) = value {
            return value;
        }
    }
    Json::String(text.to_owned())
}

/// Whether every value that the schema allows is written as text.
pub(super) fn is_text(schema: &Json, root: &Json) -> bool {
    let texts = ["type", "anyOf", "oneOf"].iter().filter_map(|key| schema.get(*key));
    types(schema, root, 0) == 0
        || texts.into_iter().any(|part| part.to_string().contains("\"string\""))
}

/// Types in the order in which they are tried.
const KINDS: [(&str, u8); 6] =
    [("null", 1), ("boolean", 2), ("integer", 4), ("number", 8), ("array", 16), ("object", 32)];

/// The types that a schema allows. Beyond a depth, where references may go round, none.
fn types(schema: &Json, root: &Json, depth: u8) -> u8 {
    if depth > 8 {
        return 0;
    }
    let bit = |name: &Json| {
        let kind = KINDS.iter().find(|(kind, _)| name.as_str() == Some(kind));
        kind.map_or(0, |(_, bit)| *bit)
    };
    let mut found = match schema.get("type") {
        Some(Json::Array(names)) => names.iter().map(bit).fold(0, |all, bit| all | bit),
        Some(name) => bit(name),
        None => 0,
    };
    for keyword in ["anyOf", "oneOf", "allOf"] {
        for one in schema.get(keyword).and_then(Json::as_array).into_iter().flatten().take(32) {
            found |= types(one, root, depth + 1);
        }
    }
    let target = schema.get("$ref").and_then(Json::as_str).and_then(|to| to.strip_prefix('#'));
    if let Some(target) = target.and_then(|pointer| root.pointer(pointer)) {
        found |= types(target, root, depth + 1);
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_become_what_the_schema_says() {
        let root = json!({"$defs": {"P": {"type": "object"}, "L": {"$ref": "#/$defs/L"}}});
        for (schema, text, value) in [
            (json!({"type": "string"}), "\n123\n", json!("123")),
            (json!({"type": "string"}), "\n a\n\n", json!(" a\n")),
            (json!({"type": "integer"}), " 5 ", json!(5)),
            (json!({"type": "integer"}), "5.5", json!("5.5")),
            (json!({"type": "number"}), "5.5", json!(5.5)),
            (json!({"type": "boolean"}), "FALSE", json!(false)),
            (json!({"type": ["string", "null"]}), "None", json!("None")),
            (json!({"type": ["string", "null"]}), "Null", json!(null)),
            (json!({"anyOf": [{"type": "string"}, {"type": "array"}]}), "[1, 2]", json!([1, 2])),
            (json!({"$ref": "#/$defs/P"}), "{\"a\": 1}", json!({"a": 1})),
            (json!({"$ref": "#/$defs/L"}), "1", json!("1")),
            (json!({}), "{}", json!("{}")),
        ] {
            assert_eq!(typed(&schema, &root, text), value, "{schema} {text}");
        }
    }
}
