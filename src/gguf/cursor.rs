//! A position in the file. Every read is checked against what is left, every
//! declared count against what can still follow, before anything is allocated.
//!
//! What is kept is copied first and checked after: whatever another process
//! does to a mapped file in between, a `str` of ours is valid UTF-8.

use std::fmt::Display;

use crate::error::{Error, Place, Result};
use crate::gguf::limit;
use crate::gguf::value::{Array, Strings, Unreadable, Value};

/// How deep arrays of arrays may be nested to be skipped.
const DEPTH: usize = 8;

/// Why a value is not what its type says.
enum Flaw {
    /// It breaks a rule, but its end is known.
    Value(String),
    /// Nothing behind it can be read.
    File(Error),
}

impl From<Error> for Flaw {
    fn from(error: Error) -> Self {
        Flaw::File(error)
    }
}

/// Reads the front of a file. Errors name the byte offset; [`within`] adds
/// whose bytes they are.
pub(super) struct Cursor<'a> {
    pub bytes: &'a [u8],
    pub position: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Cursor { bytes, position: 0 }
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.position
    }

    fn here(&self) -> Place {
        Place::Offset(self.position as u64)
    }

    /// The file breaks a rule here.
    pub fn error(&self, problem: impl Into<String>) -> Error {
        Error::file(self.here(), problem)
    }

    /// The file is legal here, but beyond what is read.
    pub fn unsupported(&self, problem: impl Into<String>) -> Error {
        Error::unsupported(self.here(), problem)
    }

    pub fn take(&mut self, n: usize, what: &str) -> Result<&'a [u8]> {
        let Some(bytes) = self.bytes[self.position..].get(..n) else {
            return Err(self.error(format!(
                "the file ends inside the {what} ({n} bytes needed, {} left); \
                 the download may be incomplete",
                self.left()
            )));
        };
        if self.position + n > limit::FRONT {
            return Err(self.unsupported(format!(
                "keys and tensor records take more than {} bytes",
                limit::FRONT
            )));
        }
        self.position += n;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    pub fn u32(&mut self, what: &str) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub fn u64(&mut self, what: &str) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A declared count of things that take at least `smallest` bytes each:
    /// accepted only if that many can still follow, and not more than `cap`.
    pub fn bounded(
        &self,
        what: impl Display,
        count: u64,
        smallest: u64,
        cap: u64,
    ) -> Result<usize> {
        let left = self.left() as u64;
        if count > left / smallest {
            let problem = format!(
                "{count} {what} declared, but only {left} bytes follow; \
                 the download may be incomplete"
            );
            return Err(self.error(problem));
        }
        if count > cap {
            return Err(self.unsupported(format!("{count} {what}; at most {cap} are read")));
        }
        Ok(count as usize)
    }

    /// The bytes of one string, still in the file and unchecked.
    fn text_bytes(&mut self, what: &str, cap: u64) -> Result<&'a [u8]> {
        let len = self.u64(what)?;
        let len = self.bounded(format_args!("bytes of {what}"), len, 1, cap)?;
        self.take(len, what)
    }

    fn text(&mut self, what: &str, cap: u64) -> Result<Box<str>, Flaw> {
        let text = self.text_bytes(what, cap)?.to_vec();
        match String::from_utf8(text) {
            Ok(text) => Ok(text.into_boxed_str()),
            Err(error) => {
                let bad = self.position - error.as_bytes().len() + error.utf8_error().valid_up_to();
                Err(Flaw::Value(format!("the {what} is not UTF-8 (at byte {bad})")))
            }
        }
    }

    /// A key or tensor name: a string that is not empty and has no NUL.
    pub fn name(&mut self, what: &str) -> Result<Box<str>> {
        let start = Place::Offset(self.position as u64);
        let name = self.text(what, limit::NAME).map_err(|flaw| match flaw {
            Flaw::Value(problem) => Error::file(start.clone(), problem),
            Flaw::File(error) => error,
        })?;
        if name.is_empty() || name.contains('\0') {
            return Err(Error::file(start, format!("the {what} is empty or contains a NUL")));
        }
        Ok(name)
    }

    /// A value type and the value; one that breaks a rule of its type is kept as it is.
    pub fn value(&mut self) -> Result<Value> {
        let id = self.u32("value type")?;
        let start = self.position;
        match self.value_of(id) {
            Ok(value) => Ok(value),
            Err(Flaw::File(error)) => Err(error),
            Err(Flaw::Value(problem)) => {
                let (bytes, problem) = (self.bytes[start..self.position].into(), problem.into());
                Ok(Value::Unreadable(Unreadable { id, bytes, problem }))
            }
        }
    }

    fn value_of(&mut self, id: u32) -> Result<Value, Flaw> {
        let what = "value";
        Ok(match id {
            0 => Value::U8(self.array::<1>(what)?[0]),
            1 => Value::I8(i8::from_le_bytes(self.array(what)?)),
            2 => Value::U16(u16::from_le_bytes(self.array(what)?)),
            3 => Value::I16(i16::from_le_bytes(self.array(what)?)),
            4 => Value::U32(self.u32(what)?),
            5 => Value::I32(i32::from_le_bytes(self.array(what)?)),
            6 => Value::F32(f32::from_le_bytes(self.array(what)?)),
            7 => match self.array::<1>(what)?[0] {
                byte @ 0..=1 => Value::Bool(byte == 1),
                byte => return Err(not_a_boolean(byte)),
            },
            8 => Value::String(self.text("string", limit::STRING)?),
            9 => Value::Array(self.array_value()?),
            10 => Value::U64(self.u64(what)?),
            11 => Value::I64(i64::from_le_bytes(self.array(what)?)),
            12 => Value::F64(f64::from_le_bytes(self.array(what)?)),
            id => return Err(self.error(format!("value type {id} does not exist")).into()),
        })
    }

    fn array_value(&mut self) -> Result<Array, Flaw> {
        let element = self.u32("array element type")?;
        let count = self.u64("array length")?;
        Ok(match element {
            0 => Array::U8(self.elements(count, |b: [u8; 1]| b[0])?),
            1 => Array::I8(self.elements(count, i8::from_le_bytes)?),
            2 => Array::U16(self.elements(count, u16::from_le_bytes)?),
            3 => Array::I16(self.elements(count, i16::from_le_bytes)?),
            4 => Array::U32(self.elements(count, u32::from_le_bytes)?),
            5 => Array::I32(self.elements(count, i32::from_le_bytes)?),
            6 => Array::F32(self.elements(count, f32::from_le_bytes)?),
            7 => Array::Bool(self.booleans(count)?),
            8 => Array::String(self.strings(count)?),
            9 => {
                self.skip_arrays(count)?;
                return Err(Flaw::Value("arrays of arrays are not supported".into()));
            }
            10 => Array::U64(self.elements(count, u64::from_le_bytes)?),
            11 => Array::I64(self.elements(count, i64::from_le_bytes)?),
            12 => Array::F64(self.elements(count, f64::from_le_bytes)?),
            id => return Err(self.no_such_element(id).into()),
        })
    }

    fn elements<const N: usize, T>(
        &mut self,
        count: u64,
        decode: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>> {
        let count = self.bounded("array elements", count, N as u64, limit::ELEMENTS)?;
        let bytes = self.take(count * N, "array")?;
        Ok(bytes.as_chunks::<N>().0.iter().map(|chunk| decode(*chunk)).collect())
    }

    fn booleans(&mut self, count: u64) -> Result<Vec<bool>, Flaw> {
        let bytes = self.elements(count, |b: [u8; 1]| b[0])?;
        match bytes.iter().find(|&&byte| byte > 1) {
            Some(&byte) => Err(not_a_boolean(byte)),
            None => Ok(bytes.into_iter().map(|byte| byte == 1).collect()),
        }
    }

    /// Moves behind `count` arrays, without a call for each level.
    fn skip_arrays(&mut self, count: u64) -> Result<()> {
        // The smallest array: element type and count.
        const SMALLEST: u64 = 12;
        let what = "array elements";
        // Arrays left to skip, of each level.
        let mut left = vec![self.bounded(what, count, SMALLEST, limit::ELEMENTS)?];
        while let Some(last) = left.last_mut() {
            if *last == 0 {
                left.pop();
                continue;
            }
            *last -= 1;
            let element = self.u32("array element type")?;
            let count = self.u64("array length")?;
            let width = match element {
                0 | 1 | 7 => 1,
                2 | 3 => 2,
                4..=6 => 4,
                10..=12 => 8,
                8 => {
                    for _ in 0..self.bounded(what, count, 8, limit::ELEMENTS)? {
                        self.text_bytes("string", limit::STRING)?;
                    }
                    continue;
                }
                9 if left.len() < DEPTH => {
                    left.push(self.bounded(what, count, SMALLEST, limit::ELEMENTS)?);
                    continue;
                }
                9 => return Err(self.unsupported(format!("arrays nested more than {DEPTH} deep"))),
                id => return Err(self.no_such_element(id)),
            };
            let count = self.bounded(what, count, width, limit::ELEMENTS)?;
            self.take(count * width as usize, "array")?;
        }
        Ok(())
    }

    fn no_such_element(&self, id: u32) -> Error {
        self.error(format!("array element type {id} does not exist"))
    }

    /// Walks the strings twice: once to know their size, once to copy them into
    /// exactly that much memory.
    fn strings(&mut self, count: u64) -> Result<Strings, Flaw> {
        let what = "string";
        // A string takes 8 bytes in the file even when empty; here it takes 4.
        let count = self.bounded("array elements", count, 8, limit::ELEMENTS)?;
        let start = self.position;
        let mut size = 0;
        for _ in 0..count {
            size += self.text_bytes(what, limit::STRING)?.len();
        }
        self.position = start;
        let mut text = Vec::with_capacity(size);
        let mut ends = Vec::with_capacity(count);
        for _ in 0..count {
            text.extend_from_slice(self.text_bytes(what, limit::STRING)?);
            ends.push(text.len() as u32); // fits: `limit::FRONT` is less
        }
        Strings::from_parts(text, ends)
            .map_err(|index| Flaw::Value(format!("string {index} of the array is not UTF-8")))
    }
}

fn not_a_boolean(byte: u8) -> Flaw {
    Flaw::Value(format!("a boolean is {byte}; 0 and 1 are possible"))
}

/// `error`, which names an offset, as an error of `place`: it keeps the offset
/// in its text.
pub(super) fn within(place: Place, error: Error) -> Error {
    match error {
        Error::File { at: Place::Offset(offset), problem } => {
            Error::file(place, format!("{problem} (at byte {offset})"))
        }
        Error::Unsupported { at: Place::Offset(offset), problem } => {
            Error::unsupported(place, format!("{problem} (at byte {offset})"))
        }
        other => other,
    }
}
