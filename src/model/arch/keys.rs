//! Typed access to the metadata of one architecture.

use std::cell::RefCell;
use std::collections::HashSet;
use std::ops::RangeInclusive;

use crate::error::{Error, Place, Result};
use crate::gguf::{Array, Metadata, Value};

/// Bounds that keep every product of two sizes far inside `usize`, so that no
/// arithmetic on them can overflow. Real models stay far below each.
pub(super) mod limit {
    pub const LAYERS: u32 = 1 << 12;
    pub const WIDTH: u32 = 1 << 20;
    pub const HEADS: u32 = 1 << 12;
    pub const HEAD_DIM: u32 = 1 << 13;
    pub const CONTEXT: u32 = 1 << 28;
    pub const EXPERTS: u32 = 1 << 12;
    /// Rows of a matrix of a recurrent layer.
    pub const STATE: u32 = 1 << 10;
    /// Numbers of the state of a recurrent layer: 128 times the largest real ones.
    pub const STATE_FLOATS: u64 = 1 << 26;
    /// Experts of all layers together.
    pub const ALL_EXPERTS: u64 = 1 << 18;
    /// Rows that a convolution sees.
    pub const TAPS: u32 = 1 << 6;
}

/// Typed access to `{architecture}.{name}`.
#[derive(Clone, Copy)]
pub(super) struct Keys<'a> {
    pub metadata: &'a Metadata,
    pub arch: &'a str,
    /// The names that were asked for.
    pub read: &'a RefCell<HashSet<String>>,
}

impl Keys<'_> {
    /// The whole name of a key. It counts as read.
    pub fn name(&self, name: &str) -> String {
        if !self.read.borrow().contains(name) {
            self.read.borrow_mut().insert(name.to_owned());
        }
        format!("{}.{name}", self.arch)
    }

    /// An integer in `range`, if the key is there.
    pub fn optional(&self, name: &str, range: RangeInclusive<u32>) -> Result<Option<u32>> {
        let key = self.name(name);
        match self.metadata.opt_u32(&key)? {
            Some(value) if !range.contains(&value) => {
                let (low, high) = (range.start(), range.end());
                Err(Error::key(&key, format!("is {value}; {low} to {high} is possible")))
            }
            value => Ok(value),
        }
    }

    /// An integer in `range`.
    pub fn required(&self, name: &str, range: RangeInclusive<u32>) -> Result<u32> {
        match self.optional(name, range)? {
            Some(value) => Ok(value),
            None => self.metadata.u32(&self.name(name)), // the error that names the key
        }
    }

    /// An integer in `range` for each of `layers` layers, if the key is there: an array of
    /// them, or one for all.
    pub fn per_layer(
        &self,
        name: &str,
        layers: usize,
        range: RangeInclusive<u32>,
    ) -> Result<Option<Vec<u32>>> {
        let key = self.name(name);
        let wide: Vec<i64> = match self.metadata.get(&key) {
            Some(Value::Array(Array::I32(all))) => all.iter().map(|&x| x.into()).collect(),
            Some(Value::Array(Array::U32(all))) => all.iter().map(|&x| x.into()).collect(),
            Some(Value::Array(Array::U64(all))) => {
                all.iter().map(|&x| i64::try_from(x).unwrap_or(i64::MAX)).collect()
            }
            Some(Value::Array(Array::I64(all))) => all.clone(),
            _ => return Ok(self.optional(name, range)?.map(|one| vec![one; layers])),
        };
        if wide.len() != layers {
            let problem = format!("has {} numbers for {layers} layers", wide.len());
            return Err(Error::key(&key, problem));
        }
        let fits = |&x: &i64| u32::try_from(x).ok().filter(|x| range.contains(x));
        match wide.iter().map(fits).collect::<Option<Vec<u32>>>() {
            Some(all) => Ok(Some(all)),
            None => {
                let (low, high) = (range.start(), range.end());
                let problem = format!("has a number outside of {low} to {high}");
                Err(Error::key(&key, problem))
            }
        }
    }

    /// A finite float above 0.
    pub fn positive(&self, name: &str, default: Option<f32>) -> Result<f32> {
        let key = self.name(name);
        let value = match (self.metadata.opt_f32(&key)?, default) {
            (Some(value), _) => value,
            (None, Some(default)) => default,
            (None, None) => self.metadata.f32(&key)?,
        };
        if value.is_finite() && value > 0.0 {
            Ok(value)
        } else {
            Err(Error::key(&key, format!("is {value}; a finite number above 0 is needed")))
        }
    }

    /// A finite float.
    pub fn finite(&self, name: &str, default: f32) -> Result<f32> {
        let key = self.name(name);
        let value = self.metadata.opt_f32(&key)?.unwrap_or(default);
        match value.is_finite() {
            true => Ok(value),
            false => Err(Error::key(&key, format!("is {value}; a finite number is needed"))),
        }
    }

    /// An error about a key whose value this crate cannot run.
    pub fn unsupported(&self, name: &str, problem: &str) -> Error {
        Error::unsupported(Place::Key(self.name(name)), problem)
    }
}
