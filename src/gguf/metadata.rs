//! The key/value section of a GGUF file, and typed getters that name the key.

use std::fmt;

use crate::error::{Bounded, Error, Result};
use crate::gguf::limit;

/// One metadata value: GGUF's 13 types.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the variants are GGUF's own type names")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(Box<str>),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// An array value. Arrays of arrays are refused at parse time: no model uses
/// them, and nesting is how a small file makes a reader recurse or allocate.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the variants are GGUF's own type names")]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(Strings),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

/// An array of strings in two allocations: a vocabulary has 150,000 of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Strings {
    text: String,
    /// End of each string in `text`.
    ends: Vec<u32>,
}

impl Strings {
    /// All strings one after the other, and where each ends. The ends ascend.
    /// `Err` is the index of the first string that is not UTF-8.
    pub(crate) fn from_parts(text: Vec<u8>, ends: Vec<u32>) -> Result<Self, usize> {
        let holding = |byte: usize| ends.partition_point(|&end| end as usize <= byte);
        match String::from_utf8(text) {
            // Valid as a whole, but a character might lie across two strings.
            Ok(text) => match ends.iter().position(|&end| !text.is_char_boundary(end as usize)) {
                Some(index) => Err(index),
                None => Ok(Strings { text, ends }),
            },
            Err(error) => Err(holding(error.utf8_error().valid_up_to())),
        }
    }

    /// Appends `string`. Fails when the array would exceed 4 GiB of text.
    pub fn push(&mut self, string: &str) -> Result<()> {
        let needed = self.text.len() as u64 + string.len() as u64;
        let end = u32::try_from(needed).map_err(|_| Error::Limit {
            what: Bounded::File("bytes in one array of strings"),
            needed,
            allowed: u32::MAX.into(),
        })?;
        self.text.push_str(string);
        self.ends.push(end);
        Ok(())
    }

    /// Number of strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// String `index`.
    pub fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)? as usize;
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        self.text.get(start..end)
    }

    /// The strings in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.len()).map(|index| self.get(index).unwrap_or_default())
    }
}

impl<'a> FromIterator<&'a str> for Strings {
    /// Collects strings; those past 4 GiB of text are left out.
    fn from_iter<T: IntoIterator<Item = &'a str>>(strings: T) -> Self {
        let mut all = Strings::default();
        for string in strings {
            if all.push(string).is_err() {
                break;
            }
        }
        all
    }
}

impl Array {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Array::U8(v) => v.len(),
            Array::I8(v) => v.len(),
            Array::U16(v) => v.len(),
            Array::I16(v) => v.len(),
            Array::U32(v) => v.len(),
            Array::I32(v) => v.len(),
            Array::F32(v) => v.len(),
            Array::Bool(v) => v.len(),
            Array::String(v) => v.len(),
            Array::U64(v) => v.len(),
            Array::I64(v) => v.len(),
            Array::F64(v) => v.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// GGUF's name of the element type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Array::U8(_) => "u8",
            Array::I8(_) => "i8",
            Array::U16(_) => "u16",
            Array::I16(_) => "i16",
            Array::U32(_) => "u32",
            Array::I32(_) => "i32",
            Array::F32(_) => "f32",
            Array::Bool(_) => "bool",
            Array::String(_) => "string",
            Array::U64(_) => "u64",
            Array::I64(_) => "i64",
            Array::F64(_) => "f64",
        }
    }
}

impl Value {
    /// GGUF's name of the type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::U8(_) => "u8",
            Value::I8(_) => "i8",
            Value::U16(_) => "u16",
            Value::I16(_) => "i16",
            Value::U32(_) => "u32",
            Value::I32(_) => "i32",
            Value::F32(_) => "f32",
            Value::Bool(_) => "bool",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::U64(_) => "u64",
            Value::I64(_) => "i64",
            Value::F64(_) => "f64",
        }
    }

    /// The value as an integer, whatever its width; `None` for other types.
    pub fn as_integer(&self) -> Option<i128> {
        Some(match *self {
            Value::U8(v) => v.into(),
            Value::I8(v) => v.into(),
            Value::U16(v) => v.into(),
            Value::I16(v) => v.into(),
            Value::U32(v) => v.into(),
            Value::I32(v) => v.into(),
            Value::U64(v) => v.into(),
            Value::I64(v) => v.into(),
            _ => return None,
        })
    }
}

impl fmt::Display for Value {
    /// Scalars and strings in full, arrays as their type and length.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::U8(v) => v.fmt(f),
            Value::I8(v) => v.fmt(f),
            Value::U16(v) => v.fmt(f),
            Value::I16(v) => v.fmt(f),
            Value::U32(v) => v.fmt(f),
            Value::I32(v) => v.fmt(f),
            Value::F32(v) => v.fmt(f),
            Value::Bool(v) => v.fmt(f),
            Value::String(v) => v.fmt(f),
            Value::Array(v) => write!(f, "{} × {}", v.len(), v.type_name()),
            Value::U64(v) => v.fmt(f),
            Value::I64(v) => v.fmt(f),
            Value::F64(v) => v.fmt(f),
        }
    }
}

/// All key/value pairs of a file, in file order, each key once.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metadata {
    entries: Vec<(Box<str>, Value)>,
    /// Indices into `entries`, ordered by key.
    by_key: Vec<u32>,
}

impl Metadata {
    /// No pairs.
    pub fn new() -> Self {
        Metadata::default()
    }

    pub(crate) fn with_capacity(n: usize) -> Self {
        Metadata { entries: Vec::with_capacity(n), by_key: Vec::with_capacity(n) }
    }

    /// Adds a pair at the end.
    ///
    /// # Errors
    /// [`Error::Misuse`] if the key is already there, empty, has a NUL or is
    /// longer than 65,536 bytes. Nothing is changed then.
    pub fn push(&mut self, key: impl Into<Box<str>>, value: Value) -> Result<()> {
        let key = key.into();
        check_name("metadata key", &key)?;
        self.insert(key, value)
            .map_err(|key| Error::misuse(format!("metadata key {key:?} is already there")))
    }

    /// Sets a pair: replaces the value of an existing key, else appends.
    ///
    /// # Errors
    /// [`Error::Misuse`] for a key that cannot stand in a file, as in
    /// [`push`](Self::push).
    pub fn set(&mut self, key: impl Into<Box<str>>, value: Value) -> Result<()> {
        let key = key.into();
        check_name("metadata key", &key)?;
        match self.position(&key) {
            Ok(place) => self.entries[self.by_key[place] as usize].1 = value,
            Err(place) => self.insert_at(place, key, value),
        }
        Ok(())
    }

    /// Removes a pair and returns its value.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let index = self.by_key.remove(self.position(key).ok()?);
        self.by_key.iter_mut().filter(|other| **other > index).for_each(|other| *other -= 1);
        Some(self.entries.remove(index as usize).1)
    }

    /// Appends a pair whose key was checked; gives the key back if it is there.
    pub(super) fn insert(&mut self, key: Box<str>, value: Value) -> Result<(), Box<str>> {
        match self.position(&key) {
            Ok(_) => Err(key),
            Err(place) => {
                self.insert_at(place, key, value);
                Ok(())
            }
        }
    }

    fn insert_at(&mut self, place: usize, key: Box<str>, value: Value) {
        self.by_key.insert(place, self.entries.len() as u32);
        self.entries.push((key, value));
    }

    fn position(&self, key: &str) -> Result<usize, usize> {
        self.by_key.binary_search_by(|&index| (*self.entries[index as usize].0).cmp(key))
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let place = self.position(key).ok()?;
        Some(&self.entries[self.by_key[place] as usize].1)
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no pairs.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The pairs in file order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (&**key, value))
    }

    /// The string at `key`, or `None` when there is no such key.
    pub fn opt_str(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "string", |value| match value {
            Value::String(text) => Some(&**text),
            _ => None,
        })
    }

    /// The string at `key`.
    pub fn str(&self, key: &str) -> Result<&str> {
        required(key, self.opt_str(key)?)
    }

    /// The integer at `key`, of any width that fits a `u32`.
    pub fn opt_u32(&self, key: &str) -> Result<Option<u32>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let wide =
            value.as_integer().ok_or_else(|| wrong_type(key, "an integer", value.type_name()))?;
        match u32::try_from(wide) {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(Error::key(key, format!("is {wide}, outside 0..={}", u32::MAX))),
        }
    }

    /// The integer at `key`, of any width that fits a `u32`.
    pub fn u32(&self, key: &str) -> Result<u32> {
        required(key, self.opt_u32(key)?)
    }

    /// The float at `key` (f32 or f64).
    pub fn opt_f32(&self, key: &str) -> Result<Option<f32>> {
        self.typed(key, "float", |value| match *value {
            Value::F32(v) => Some(v),
            Value::F64(v) => Some(v as f32),
            _ => None,
        })
    }

    /// The float at `key` (f32 or f64).
    pub fn f32(&self, key: &str) -> Result<f32> {
        required(key, self.opt_f32(key)?)
    }

    /// The boolean at `key`.
    pub fn opt_bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "bool", |value| match *value {
            Value::Bool(v) => Some(v),
            _ => None,
        })
    }

    /// The strings at `key`.
    pub fn opt_strings(&self, key: &str) -> Result<Option<&Strings>> {
        self.typed(key, "array of strings", |value| match value {
            Value::Array(Array::String(v)) => Some(v),
            _ => None,
        })
    }

    /// The strings at `key`.
    pub fn strings(&self, key: &str) -> Result<&Strings> {
        required(key, self.opt_strings(key)?)
    }

    /// The f32 array at `key`.
    pub fn opt_f32s(&self, key: &str) -> Result<Option<&[f32]>> {
        self.typed(key, "array of f32", |value| match value {
            Value::Array(Array::F32(v)) => Some(&**v),
            _ => None,
        })
    }

    /// The i32 array at `key`.
    pub fn opt_i32s(&self, key: &str) -> Result<Option<&[i32]>> {
        self.typed(key, "array of i32", |value| match value {
            Value::Array(Array::I32(v)) => Some(&**v),
            _ => None,
        })
    }

    /// `None` for a missing key, an error that names it for a wrong type.
    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        pick: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let found = match value {
            Value::Array(array) => format!("array of {}", array.type_name()),
            scalar => scalar.type_name().to_owned(),
        };
        pick(value).map(Some).ok_or_else(|| wrong_type(key, expected, &found))
    }
}

/// Refuses a key or tensor name that a reader would refuse.
pub(super) fn check_name(what: &str, name: &str) -> Result<()> {
    let problem = if name.is_empty() {
        "is empty"
    } else if name.contains('\0') {
        "contains a NUL"
    } else if name.len() as u64 > limit::NAME {
        "is too long"
    } else {
        return Ok(());
    };
    let start: String = name.chars().take(80).collect();
    Err(Error::misuse(format!("the {what} {start:?} {problem}")))
}

fn required<T>(key: &str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| Error::key(key, "is missing; the file is not a complete model"))
}

fn wrong_type(key: &str, expected: &str, found: &str) -> Error {
    Error::key(key, format!("should be {expected}, but is {found}"))
}
