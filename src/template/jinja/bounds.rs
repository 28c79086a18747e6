//! What a value and a piece of text may weigh.

use minijinja::value::{ObjectRepr, Value};
use minijinja::{Error, ErrorKind, State};

use super::generator::Generator;

/// Bytes of one value: its text, and [`NODE`] for each item.
const MAX_VALUE: usize = 16 << 20;
const NODE: usize = 32;
/// Lists in lists. A conversation may have 64 levels, see [`super::input`].
const MAX_DEPTH: usize = 128;
/// Items that one unit of fuel pays for, where they are weighed.
const WEIGHED_PER_FUEL: usize = 16;
/// The same where they are weighed and then compared or shown.
const VISITED_PER_FUEL: usize = 2;

pub(super) fn refuse(problem: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, problem.into())
}

/// Text that cannot grow beyond a number of bytes.
pub(super) struct Text {
    pub text: String,
    allowed: usize,
}

impl Text {
    pub fn new(allowed: usize) -> Self {
        Text { text: String::new(), allowed }
    }

    pub fn push(&mut self, text: &str) -> Result<(), Error> {
        if text.len() > self.allowed - self.text.len() {
            return Err(refuse(format!("a text grew beyond {} bytes", self.allowed)));
        }
        self.text.push_str(text);
        Ok(())
    }

    pub fn push_char(&mut self, letter: char) -> Result<(), Error> {
        self.push(letter.encode_utf8(&mut [0; 4]))
    }
}

/// Weighs a value, item by item.
struct Scale {
    left: usize,
    items: usize,
    /// Whether a namespace may be part of it.
    namespaces: bool,
}

impl Scale {
    fn weigh(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.items += 1;
        self.take(NODE + value.as_str().map_or(0, str::len))?;
        let Some(object) = value.as_object() else { return Ok(()) };
        if depth == 0 {
            return Err(refuse(format!("a value is nested more than {MAX_DEPTH} levels deep")));
        }
        if !self.namespaces && is_namespace(value) {
            return Err(refuse("a namespace cannot be stored in a namespace"));
        }
        match object.repr() {
            ObjectRepr::Map => {
                for (key, item) in object.try_iter_pairs().into_iter().flatten() {
                    self.weigh(&key, depth - 1)?;
                    self.weigh(&item, depth - 1)?;
                }
            }
            ObjectRepr::Seq | ObjectRepr::Iterable => {
                if let Some(generator) = value.downcast_object_ref::<Generator>() {
                    for item in generator.left() {
                        self.weigh(&item, depth - 1)?;
                    }
                    return Ok(());
                }
                for item in object.try_iter().into_iter().flatten() {
                    self.weigh(&item, depth - 1)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn take(&mut self, bytes: usize) -> Result<(), Error> {
        self.left = self
            .left
            .checked_sub(bytes)
            .ok_or_else(|| refuse(format!("a value grew beyond {MAX_VALUE} bytes")))?;
        Ok(())
    }
}

/// Whether the value is a namespace.
pub(super) fn is_namespace(value: &Value) -> bool {
    // The engine's type is private; this is all that tells it from a map.
    value.as_object().is_some_and(|object| object.type_name().ends_with("Namespace"))
}

/// Whether the value is what Python calls a dictionary.
pub(super) fn is_dict(value: &Value) -> bool {
    value.as_object().is_some_and(|object| {
        let name = object.type_name();
        object.repr() == ObjectRepr::Map
            && !["Namespace", "Loop"].iter().any(|own| name.ends_with(own))
    })
}

/// `value`, if it is within bounds. Lazy sequences become lists: a slice of
/// a slice of a slice … would recurse.
pub(super) fn bounded(state: &State, value: &Value, namespaces: bool) -> Result<Value, Error> {
    weighed(state, value, namespaces, WEIGHED_PER_FUEL)
}

/// The same for a value of which every item is about to be visited.
pub(super) fn visited(state: &State, value: &Value) -> Result<Value, Error> {
    weighed(state, value, true, VISITED_PER_FUEL)
}

fn weighed(state: &State, value: &Value, namespaces: bool, rate: usize) -> Result<Value, Error> {
    let Some(object) = value.as_object() else { return Ok(value.clone()) };
    let mut scale = Scale { left: MAX_VALUE, items: 0, namespaces };
    let weighed = scale.weigh(value, MAX_DEPTH);
    state.consume_fuel((scale.items / rate) as u64)?;
    weighed?;
    let is_generator = value.downcast_object_ref::<Generator>().is_some();
    if object.repr() == ObjectRepr::Iterable && !is_generator {
        return Ok(value.try_iter()?.collect());
    }
    Ok(value.clone())
}

/// `value`, unless it is a sequence.
pub(super) fn factor(value: &Value) -> Result<Value, Error> {
    match value.as_object() {
        Some(_) => Err(refuse("lists cannot be repeated with * here")),
        None => Ok(value.clone()),
    }
}
