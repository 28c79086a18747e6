//! Objects of a schema that name their properties and do not say whether there may be others
//! have no others, as in Ollama: schemas that programs make leave it out, and a model that may
//! go on adding properties often does.

use serde_json::{Map, Value};
use tramontane::Tool;

/// The schema with its objects closed. What is combined with other schemas stays open: each
/// part knows only some of the properties.
pub(super) fn closed(mut schema: Value) -> Value {
    let definitions = !refers_to_a_part(&schema, false);
    close(&mut schema, false, definitions);
    schema
}

/// The function with its parameters closed.
pub(super) fn closed_tool(tool: &Tool) -> Tool {
    let mut json = tool.as_json().clone();
    if let Some(parameters) = json.pointer_mut("/function/parameters")
        && parameters.is_object()
    {
        *parameters = closed(parameters.take());
    }
    Tool::from(json)
}

/// Keywords whose value is one schema.
const ONE: [&str; 3] = ["additionalProperties", "items", "contains"];
/// Keywords whose value is a list of schemas that hold each by itself.
const LISTS: [&str; 2] = ["prefixItems", "items"];
/// Keywords whose value is an object of schemas.
const MAPS: [&str; 2] = ["properties", "patternProperties"];
/// The same, of schemas that others refer to.
const DEFINITIONS: [&str; 2] = ["$defs", "definitions"];
/// Keywords that join other schemas to this one; of those in the lists one or all hold.
const JOINED: [&str; 4] = ["$ref", "allOf", "anyOf", "oneOf"];

/// Whether a schema is joined of several.
fn is_joined(fields: &Map<String, Value>) -> bool {
    let own = MAPS.iter().any(|key| fields.contains_key(*key));
    let others = JOINED.iter().filter(|key| fields.contains_key(**key)).count();
    let several = fields.get("allOf").and_then(Value::as_array).is_some_and(|all| all.len() > 1);
    several || others > 1 || (own && others > 0)
}

/// Calls `each` with every schema within, and with whether it is a part of a joined one.
fn within<'s>(fields: &'s Map<String, Value>, part: bool, each: &mut dyn FnMut(&'s Value, bool)) {
    let joined = part || is_joined(fields);
    for (key, value) in fields {
        let key = key.as_str();
        match value {
            Value::Object(_) if ONE.contains(&key) => each(value, false),
            Value::Array(list) if LISTS.contains(&key) => {
                list.iter().for_each(|one| each(one, false))
            }
            Value::Array(list) if JOINED.contains(&key) => {
                list.iter().for_each(|one| each(one, joined))
            }
            Value::Object(map) if MAPS.contains(&key) || DEFINITIONS.contains(&key) => {
                map.values().for_each(|one| each(one, false));
            }
            _ => {}
        }
    }
}

/// Whether a definition is a part of a joined schema somewhere.
fn refers_to_a_part(schema: &Value, part: bool) -> bool {
    let Value::Object(fields) = schema else { return false };
    if fields.contains_key("$ref") && (part || is_joined(fields)) {
        return true;
    }
    let mut found = false;
    within(fields, part, &mut |inner, part| found |= refers_to_a_part(inner, part));
    found
}

fn close(schema: &mut Value, part: bool, definitions: bool) {
    let Value::Object(fields) = schema else { return };
    let joined = part || is_joined(fields);
    for (key, value) in fields.iter_mut() {
        let key = key.as_str();
        match value {
            Value::Object(_) if ONE.contains(&key) => close(value, false, definitions),
            Value::Array(list) if LISTS.contains(&key) => {
                list.iter_mut().for_each(|one| close(one, false, definitions));
            }
            Value::Array(list) if JOINED.contains(&key) => {
                list.iter_mut().for_each(|one| close(one, joined, definitions));
            }
            Value::Object(map) if MAPS.contains(&key) => {
                map.values_mut().for_each(|one| close(one, false, definitions));
            }
            Value::Object(map) if DEFINITIONS.contains(&key) => {
                map.values_mut().for_each(|one| close(one, !definitions, definitions));
            }
            _ => {}
        }
    }
    let named = fields.get("properties").is_some_and(Value::is_object);
    let said = ["additionalProperties", "patternProperties", "unevaluatedProperties"];
    if named && !joined && !said.iter().any(|key| fields.contains_key(*key)) {
        fields.insert("additionalProperties".into(), false.into());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_that_name_their_properties_have_no_others() {
        let open = json!({"properties": {"a": {"type": "string"}}});
        let shut = json!({"properties": {"a": {"type": "string"}}, "additionalProperties": false});
        assert_eq!(closed(open.clone()), shut);
        for (schema, wanted) in [
            (json!({"items": open}), json!({"items": shut})),
            (json!({"prefixItems": [open]}), json!({"prefixItems": [shut]})),
            (
                json!({"anyOf": [open, {"type": "null"}]}),
                json!({"anyOf": [shut, {"type": "null"}]}),
            ),
            (
                json!({"$ref": "#/$defs/x", "$defs": {"x": open}}),
                json!({"$ref": "#/$defs/x", "$defs": {"x": shut}}),
            ),
            (
                json!({"allOf": [{"$ref": "#/$defs/x"}], "$defs": {"x": open}}),
                json!({"allOf": [{"$ref": "#/$defs/x"}], "$defs": {"x": shut}}),
            ),
            (
                json!({"properties": {"properties": open}}),
                json!({"properties": {"properties": shut}, "additionalProperties": false}),
            ),
        ] {
            assert_eq!(closed(schema), wanted);
        }
    }

    #[test]
    fn what_says_so_or_is_joined_stays_open() {
        let open = json!({"properties": {"a": {"type": "string"}}});
        let mut said = open.clone();
        said["additionalProperties"] = json!({"type": "integer"});
        for schema in [
            said,
            json!({"type": "object"}),
            json!({"const": open}),
            json!({"enum": [open], "default": open}),
            json!({"allOf": [open, {"properties": {"b": {}}}]}),
            json!({"properties": {"b": {}}, "anyOf": [open, {"required": ["b"]}]}),
            json!({"properties": {"b": {}}, "$ref": "#/$defs/x", "$defs": {"x": open}}),
            json!({"allOf": [{"$ref": "#/$defs/x"}, {"required": ["c"]}], "$defs": {"x": open}}),
        ] {
            assert_eq!(closed(schema.clone()), schema);
        }
    }
}
