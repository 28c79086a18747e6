//! Tools and calls as values of a template: Ollama's fields by their names in Go, printed as
//! JSON.
//!
//! The fields that Ollama knows come first, in its order, and then what else the client sent:
//! Ollama drops that. Other objects, and arguments, are maps in Go, whose keys it sorts.

use serde_json::{Map as Object, Value as Json};
use tramontane::{Message, Tool};

use super::go::{Map, Value};
use super::template::Mark;

/// Levels of lists and objects; what is deeper is left out.
const MAX_DEPTH: usize = 128;

/// The tools.
pub fn tools<'t>(tools: impl Iterator<Item = &'t Tool>, mark: Mark<'_>) -> Value {
    let scope = Scope { mark, depth: 0 };
    Value::list(tools.map(|tool| tool_value(Some(tool.as_json()), scope)).collect::<Vec<_>>())
}

/// The calls of a message.
pub fn calls(message: &Message, mark: Mark<'_>) -> Value {
    let scope = Scope { mark, depth: 0 };
    let calls = message.tool_calls().into_iter().enumerate().map(|(index, call)| {
        let id = scope.text(call.id().unwrap_or_default());
        let name = scope.text(call.name());
        let arguments = scope.any(&call.arguments());
        let function = Value::map(Map::typed(
            "template.templateToolCallFunction",
            vec![
                ("Index", Value::Int(i64::try_from(index).unwrap_or(i64::MAX))),
                ("Name", name.clone()),
                ("Arguments", arguments.clone()),
            ],
            vec![("name".into(), name), ("arguments".into(), arguments)],
        ));
        let shown_id = call.id().map(|_| ("id".to_owned(), id.clone()));
        let shown = shown_id.into_iter().chain([("function".to_owned(), function.clone())]);
        let fields = vec![("ID", id), ("Function", function)];
        Value::map(Map::typed("template.templateToolCall", fields, shown.collect()))
    });
    Value::list(calls.collect::<Vec<_>>())
}

#[derive(Clone, Copy)]
struct Scope<'m> {
    mark: Mark<'m>,
    depth: usize,
}

impl Scope<'_> {
    fn text(self, text: &str) -> Value {
        Value::text(&*(self.mark)(text))
    }

    /// Any JSON; the keys of objects are sorted.
    fn any(self, json: &Json) -> Value {
        let inner = Scope { depth: self.depth + 1, ..self };
        match json {
            _ if self.depth > MAX_DEPTH => Value::Nil,
            Json::Null => Value::Nil,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(value), _) => Value::Int(value),
                (_, value) => Value::Float(value.unwrap_or(f64::NAN)),
            },
            Json::String(text) => self.text(text),
            Json::Array(items) => {
                Value::list(items.iter().map(|item| inner.any(item)).collect::<Vec<_>>())
            }
            Json::Object(fields) => {
                let mut fields: Vec<_> =
                    fields.iter().map(|(key, item)| (self.key(key), inner.any(item))).collect();
                fields.sort_by(|(one, _), (other, _)| one.cmp(other));
                Value::map(Map::object(fields))
            }
        }
    }

    fn key(self, key: &str) -> String {
        (self.mark)(key).into_owned()
    }
}

/// A field of one of Ollama's structs.
struct Field {
    go: &'static str,
    json: &'static str,
    /// Whether it is printed though the client did not send it.
    always: bool,
    value: fn(Option<&Json>, Scope<'_>) -> Value,
}

const fn field(
    go: &'static str,
    json: &'static str,
    value: fn(Option<&Json>, Scope<'_>) -> Value,
) -> Field {
    Field { go, json, always: false, value }
}

const fn always(
    go: &'static str,
    json: &'static str,
    value: fn(Option<&Json>, Scope<'_>) -> Value,
) -> Field {
    Field { go, json, always: true, value }
}

const TOOL: &[Field] = &[
    always("Type", "type", text),
    field("Items", "items", any),
    always("Function", "function", function),
];
const FUNCTION: &[Field] = &[
    always("Name", "name", text),
    always("Description", "description", text),
    always("Parameters", "parameters", parameters),
];
const PARAMETERS: &[Field] = &[
    always("Type", "type", kind),
    field("Defs", "$defs", any),
    field("Items", "items", any),
    field("Required", "required", list),
    always("Properties", "properties", sorted_properties),
];
const PROPERTY: &[Field] = &[
    field("AnyOf", "anyOf", any_of),
    field("Type", "type", kind),
    field("Items", "items", any),
    field("Description", "description", text),
    field("Enum", "enum", list),
    field("Properties", "properties", properties),
    field("Required", "required", list),
];

fn structure(name: &'static str, fields: &[Field], json: Option<&Json>, scope: Scope<'_>) -> Value {
    let nothing = Object::new();
    let object = match json {
        Some(Json::Object(object)) => object,
        None | Some(Json::Null) => &nothing,
        Some(other) => return scope.any(other),
    };
    if scope.depth > MAX_DEPTH {
        return Value::Nil;
    }
    let inner = Scope { depth: scope.depth + 1, ..scope };
    let (mut known, mut shown) = (Vec::new(), Vec::new());
    for field in fields {
        let given = object.get(field.json);
        let value = (field.value)(given, inner);
        if field.always || given.is_some() {
            shown.push((field.json.to_owned(), value.clone()));
        }
        known.push((field.go, value));
    }
    let rest = object.iter().filter(|(key, _)| fields.iter().all(|field| field.json != *key));
    shown.extend(rest.map(|(key, item)| (scope.key(key), inner.any(item))));
    Value::map(Map::typed(name, known, shown))
}

fn tool_value(json: Option<&Json>, scope: Scope<'_>) -> Value {
    structure("template.templateTool", TOOL, json, scope)
}

fn function(json: Option<&Json>, scope: Scope<'_>) -> Value {
    structure("template.templateToolFunction", FUNCTION, json, scope)
}

fn parameters(json: Option<&Json>, scope: Scope<'_>) -> Value {
    structure("template.templateToolFunctionParameters", PARAMETERS, json, scope)
}

fn property(json: &Json, scope: Scope<'_>) -> Value {
    structure("api.ToolProperty", PROPERTY, Some(json), scope)
}

fn text(json: Option<&Json>, scope: Scope<'_>) -> Value {
    match json {
        None | Some(Json::Null) => Value::text(""),
        Some(json) => scope.any(json),
    }
}

/// A type, or a list of types.
fn kind(json: Option<&Json>, scope: Scope<'_>) -> Value {
    match json {
        Some(Json::Array(names)) if names.len() == 1 => scope.any(&names[0]),
        json => text(json, scope),
    }
}

fn any(json: Option<&Json>, scope: Scope<'_>) -> Value {
    json.map_or(Value::Nil, |json| scope.any(json))
}

fn list(json: Option<&Json>, scope: Scope<'_>) -> Value {
    match json {
        None | Some(Json::Null) => Value::list([]),
        Some(json) => scope.any(json),
    }
}

fn any_of(json: Option<&Json>, scope: Scope<'_>) -> Value {
    match json {
        Some(Json::Array(all)) => {
            Value::list(all.iter().map(|one| property(one, scope)).collect::<Vec<_>>())
        }
        json => list(json, scope),
    }
}

fn properties(json: Option<&Json>, scope: Scope<'_>) -> Value {
    named_properties(json, scope, false)
}

/// Go sorts the keys of this map where it prints it.
fn sorted_properties(json: Option<&Json>, scope: Scope<'_>) -> Value {
    named_properties(json, scope, true)
}

fn named_properties(json: Option<&Json>, scope: Scope<'_>, sorted: bool) -> Value {
    match json {
        None | Some(Json::Null) => Value::map(Map::object(Vec::new())),
        Some(Json::Object(all)) => {
            let mut all: Vec<_> =
                all.iter().map(|(name, one)| (scope.key(name), property(one, scope))).collect();
            if sorted {
                all.sort_by(|(one, _), (other, _)| one.cmp(other));
            }
            Value::map(Map::object(all))
        }
        Some(other) => scope.any(other),
    }
}
