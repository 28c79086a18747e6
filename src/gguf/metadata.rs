//! The key/value section of a GGUF file, and typed getters that name the key.

use std::borrow::Cow;

use crate::error::{Error, Result};
use crate::gguf::limit;
use crate::gguf::value::{Array, Number, Strings, Value};

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
        self.typed(key, "a string", |value| match value {
            Value::String(text) => Some(&**text),
            _ => None,
        })
    }

    /// The string at `key`.
    pub fn str(&self, key: &str) -> Result<&str> {
        required(key, self.opt_str(key)?)
    }

    /// The integer at `key`, of any type that holds one; also what all elements of an
    /// array are.
    pub fn opt_integer(&self, key: &str) -> Result<Option<i128>> {
        self.typed(key, "an integer", |value| value.number().and_then(Number::integer))
    }

    /// The integer at `key`, if it fits a `u32`: see [`opt_integer`](Self::opt_integer).
    pub fn opt_u32(&self, key: &str) -> Result<Option<u32>> {
        let Some(wide) = self.opt_integer(key)? else { return Ok(None) };
        match u32::try_from(wide) {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(Error::key(key, format!("is {wide}, outside 0..={}", u32::MAX))),
        }
    }

    /// The integer at `key`, if it fits a `u32`: see [`opt_integer`](Self::opt_integer).
    pub fn u32(&self, key: &str) -> Result<u32> {
        required(key, self.opt_u32(key)?)
    }

    /// The number at `key`, of any type; also what all elements of an array are.
    pub fn opt_f32(&self, key: &str) -> Result<Option<f32>> {
        self.typed(key, "a number", |value| value.number().and_then(Number::float))
    }

    /// The number at `key`: see [`opt_f32`](Self::opt_f32).
    pub fn f32(&self, key: &str) -> Result<f32> {
        required(key, self.opt_f32(key)?)
    }

    /// The boolean at `key`, also as an integer 0 or 1; also what all elements of an array
    /// are.
    pub fn opt_bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "a boolean", |value| value.number().and_then(Number::boolean))
    }

    /// The strings at `key`.
    pub fn opt_strings(&self, key: &str) -> Result<Option<&Strings>> {
        self.typed(key, "an array of strings", |value| match value {
            Value::Array(Array::String(v)) => Some(v),
            _ => None,
        })
    }

    /// The strings at `key`.
    pub fn strings(&self, key: &str) -> Result<&Strings> {
        required(key, self.opt_strings(key)?)
    }

    /// The array of numbers at `key`, of any type.
    pub fn opt_f32s(&self, key: &str) -> Result<Option<Cow<'_, [f32]>>> {
        self.typed(key, "an array of numbers", |value| match value {
            Value::Array(Array::F32(v)) => Some(Cow::Borrowed(&**v)),
            Value::Array(array) => converted(array, Number::float),
            _ => None,
        })
    }

    /// The array of integers at `key`, of any type whose values fit an `i32`.
    pub fn opt_i32s(&self, key: &str) -> Result<Option<Cow<'_, [i32]>>> {
        let convert = |number: Number| i32::try_from(number.integer()?).ok();
        self.typed(key, "an array of integers", |value| match value {
            Value::Array(Array::I32(v)) => Some(Cow::Borrowed(&**v)),
            Value::Array(array) => converted(array, convert),
            _ => None,
        })
    }

    /// The integers at `key`: one, or an array of any integer type.
    pub fn opt_integers(&self, key: &str) -> Result<Option<Vec<i128>>> {
        self.typed(key, "an integer, or an array of integers", |value| match value {
            Value::Array(array) => converted(array, Number::integer).map(Cow::into_owned),
            scalar => Some(vec![scalar.number()?.integer()?]),
        })
    }

    /// The values that could not be read, with their keys.
    pub fn unreadable(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter().filter_map(|(key, value)| match value {
            Value::Unreadable(value) => Some((key, value.problem())),
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
            Value::Unreadable(value) => return Err(Error::key(key, value.problem())),
            Value::Array(array) if array.numbers().next().is_some() && value.number().is_none() => {
                format!("an array of {} with different values", array.type_name())
            }
            Value::Array(array) => format!("an array of {}", array.type_name()),
            scalar => scalar.type_name().to_owned(),
        };
        let wrong = || Error::key(key, format!("should be {expected}, but is {found}"));
        pick(value).map(Some).ok_or_else(wrong)
    }
}

/// All numbers of an array, if each can be converted.
fn converted<'a, T: Clone>(
    array: &Array,
    convert: impl Fn(Number) -> Option<T>,
) -> Option<Cow<'a, [T]>> {
    if matches!(array, Array::String(_)) {
        return None;
    }
    array.numbers().map(convert).collect::<Option<Vec<T>>>().map(Cow::Owned)
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
