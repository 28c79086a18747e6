//! What templates work with.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A value. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub enum Value {
    /// Nothing.
    #[default]
    Nil,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// A text.
    Text(Arc<str>),
    /// A list, or a part of one.
    List(List),
    /// Values by key.
    Map(Arc<Map>),
}

/// A part of a shared list.
#[derive(Debug, Clone)]
pub struct List {
    items: Arc<[Value]>,
    start: usize,
    end: usize,
}

/// Values by key: one of Go's maps, or one of its structs.
#[derive(Debug, Clone, Default)]
pub struct Map {
    entries: BTreeMap<Arc<str>, Value>,
    /// The values in the order of the JSON form, with their keys there. A map without
    /// them prints as Go's maps do.
    json: Option<Vec<(Arc<str>, Value)>>,
    /// The name, if only the fields of a struct may be asked for.
    structure: Option<&'static str>,
}

impl List {
    /// Its elements.
    pub fn items(&self) -> &[Value] {
        &self.items[self.start..self.end]
    }

    /// How far a part of it may reach, as with Go's `cap`.
    pub fn capacity(&self) -> usize {
        self.items.len() - self.start
    }

    /// A part; none if it does not lie within the capacity.
    pub fn part(&self, from: usize, to: usize) -> Option<Self> {
        (from <= to && to <= self.capacity()).then(|| List {
            items: self.items.clone(),
            start: self.start + from,
            end: self.start + to,
        })
    }
}

impl Map {
    /// A map that anything may be asked of.
    pub fn of<'k>(entries: impl IntoIterator<Item = (&'k str, Value)>) -> Self {
        let entries = entries.into_iter().map(|(key, value)| (Arc::from(key), value)).collect();
        Map { entries, json: None, structure: None }
    }

    /// A map that prints as JSON, in this order.
    pub fn object(fields: Vec<(String, Value)>) -> Self {
        let json: Vec<_> =
            fields.into_iter().map(|(key, value)| (Arc::<str>::from(key), value)).collect();
        Map { entries: json.iter().cloned().collect(), json: Some(json), structure: None }
    }

    /// A struct that prints as JSON of its own: fields by their names in Go, and what is
    /// printed.
    pub fn typed(
        name: &'static str,
        fields: Vec<(&str, Value)>,
        json: Vec<(String, Value)>,
    ) -> Self {
        let entries = fields.into_iter().map(|(go, value)| (Arc::from(go), value)).collect();
        let json = json.into_iter().map(|(key, value)| (key.into(), value)).collect();
        Map { entries, json: Some(json), structure: Some(name) }
    }

    /// A struct: a field's name in Go, its name in JSON (none if it is left out), its value.
    pub fn structure(name: &'static str, fields: Vec<(&str, Option<&str>, Value)>) -> Self {
        let json =
            fields.iter().filter_map(|(_, json, value)| Some(((*json)?.into(), value.clone())));
        let json = Some(json.collect());
        let entries = fields.into_iter().map(|(go, _, value)| (Arc::from(go), value)).collect();
        Map { entries, json, structure: Some(name) }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.get(key)
    }

    /// All, sorted by key.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, &Value)> {
        self.entries.iter()
    }

    /// All in the order of JSON, with their names there; none if it prints as a map.
    pub fn json_entries(&self) -> Option<impl Iterator<Item = (&str, &Value)>> {
        Some(self.json.as_ref()?.iter().map(|(key, value)| (&**key, value)))
    }

    /// The struct's name.
    pub fn struct_name(&self) -> Option<&'static str> {
        self.structure
    }
}

impl Value {
    /// A text.
    pub fn text(text: impl Into<Arc<str>>) -> Self {
        Value::Text(text.into())
    }

    /// A list.
    pub fn list(items: impl Into<Arc<[Value]>>) -> Self {
        let items = items.into();
        Value::List(List { start: 0, end: items.len(), items })
    }

    /// A map.
    pub fn map(map: Map) -> Self {
        Value::Map(Arc::new(map))
    }

    /// Whether it holds in a condition.
    pub fn is_true(&self) -> bool {
        match self {
            Value::Nil => false,
            Value::Bool(value) => *value,
            Value::Int(value) => *value != 0,
            Value::Float(value) => *value != 0.0,
            Value::Text(text) => !text.is_empty(),
            Value::List(list) => !list.items().is_empty(),
            Value::Map(map) => map.structure.is_some() || !map.entries.is_empty(),
        }
    }

    /// The name of its type, for errors.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Nil => "nil",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float64",
            Value::Text(_) => "string",
            Value::List(_) => "[]interface {}",
            Value::Map(map) => map.structure.unwrap_or("map[string]interface {}"),
        }
    }

    /// Whether both are the same, as `eq` sees it.
    ///
    /// # Errors
    /// Different types, and lists and maps, cannot be compared.
    pub fn equals(&self, other: &Value) -> Result<bool, String> {
        match (self, other) {
            (Value::Nil, other) | (other, Value::Nil) => Ok(matches!(other, Value::Nil)),
            (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
            (Value::Int(a), Value::Int(b)) => Ok(a == b),
            (Value::Float(a), Value::Float(b)) => Ok(a == b),
            (Value::Text(a), Value::Text(b)) => Ok(a == b),
            (Value::List(_) | Value::Map(_), Value::List(_) | Value::Map(_)) => {
                Err(format!("non-comparable type {}", self.type_name()))
            }
            _ => Err("incompatible types for comparison".into()),
        }
    }

    /// Their order, as `lt` sees it; none with a NaN.
    ///
    /// # Errors
    /// Only numbers of one type and texts have an order.
    pub fn order(&self, other: &Value) -> Result<Option<Ordering>, String> {
        match (self, other) {
            (Value::Int(a), Value::Int(b)) => Ok(Some(a.cmp(b))),
            (Value::Float(a), Value::Float(b)) => Ok(a.partial_cmp(b)),
            (Value::Text(a), Value::Text(b)) => Ok(Some(a.cmp(b))),
            (Value::Bool(_), Value::Bool(_))
            | (Value::Nil | Value::List(_) | Value::Map(_), _)
            | (_, Value::Nil | Value::List(_) | Value::Map(_)) => {
                Err("invalid type for comparison".into())
            }
            _ => Err("incompatible types for comparison".into()),
        }
    }
}
