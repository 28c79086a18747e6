//! A metadata value: GGUF's types, and what a number means whatever its type.

use std::fmt;

use crate::error::{Bounded, Error, Result};

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
    /// A value whose end is known, but which cannot be used as what it says it is. Only who
    /// needs it fails.
    Unreadable(Unreadable),
}

/// A value that breaks a rule of its type: text that is not UTF-8, a boolean that is
/// neither 0 nor 1, an array of arrays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// GGUF's number of the type.
    pub(super) id: u32,
    /// As it stands in the file, so that it can be written again.
    pub(super) bytes: Box<[u8]>,
    pub(super) problem: Box<str>,
}

impl Unreadable {
    /// What is wrong with it, and where in the file.
    pub fn problem(&self) -> &str {
        &self.problem
    }
}

/// An array value. Arrays of arrays are [unreadable](Value::Unreadable): no model needs
/// one.
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

    /// Bytes of all strings together.
    pub(crate) fn text_len(&self) -> usize {
        self.text.len()
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

    /// Element `index` as a number; `None` past the end and for strings.
    fn number(&self, index: usize) -> Option<Number> {
        fn integer<T: Copy + Into<i128>>(values: &[T], index: usize) -> Option<Number> {
            values.get(index).map(|&value| Number::Integer(value.into()))
        }
        match self {
            Array::U8(v) => integer(v, index),
            Array::I8(v) => integer(v, index),
            Array::U16(v) => integer(v, index),
            Array::I16(v) => integer(v, index),
            Array::U32(v) => integer(v, index),
            Array::I32(v) => integer(v, index),
            Array::U64(v) => integer(v, index),
            Array::I64(v) => integer(v, index),
            Array::F32(v) => v.get(index).map(|&value| Number::F32(value)),
            Array::F64(v) => v.get(index).map(|&value| Number::F64(value)),
            Array::Bool(v) => v.get(index).map(|&value| Number::Bool(value)),
            Array::String(_) => None,
        }
    }

    /// Its numbers in order; empty for strings.
    pub(super) fn numbers(&self) -> impl Iterator<Item = Number> {
        (0..self.len()).map_while(|index| self.number(index))
    }
}

/// A number or truth value, whatever type the file gave it. Converters write the same key
/// in different types; what it means does not depend on that.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    Integer(i128),
    F32(f32),
    F64(f64),
    Bool(bool),
}

impl Number {
    /// Floats only if they are whole.
    pub fn integer(self) -> Option<i128> {
        let whole =
            |value: f64| (value.fract() == 0.0 && value.abs() < 1e15).then_some(value as i128);
        match self {
            Number::Integer(value) => Some(value),
            Number::F32(value) => whole(value.into()),
            Number::F64(value) => whole(value),
            Number::Bool(_) => None,
        }
    }

    pub fn float(self) -> Option<f32> {
        match self {
            Number::Integer(value) => Some(value as f32),
            Number::F32(value) => Some(value),
            Number::F64(value) => Some(value as f32),
            Number::Bool(_) => None,
        }
    }

    pub fn boolean(self) -> Option<bool> {
        match self {
            Number::Bool(value) => Some(value),
            Number::Integer(0) => Some(false),
            Number::Integer(1) => Some(true),
            _ => None,
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
            Value::Unreadable(_) => "unreadable",
        }
    }

    /// The number that it is, or that all elements of an array are.
    pub(super) fn number(&self) -> Option<Number> {
        match *self {
            Value::F32(value) => Some(Number::F32(value)),
            Value::F64(value) => Some(Number::F64(value)),
            Value::Bool(value) => Some(Number::Bool(value)),
            Value::Array(ref array) => {
                let first = array.number(0)?;
                array.numbers().all(|other| other == first).then_some(first)
            }
            _ => self.as_integer().map(Number::Integer),
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
            Value::Unreadable(v) => write!(f, "unreadable: {}", v.problem),
        }
    }
}
