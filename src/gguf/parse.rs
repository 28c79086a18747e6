//! Bytes → header, metadata and tensor records. No `unsafe`, no panic, and no
//! allocation that the bytes themselves do not pay for.
//!
//! ```text
//! "GGUF" | version u32 | n_tensors u64 | n_kv u64
//! n_kv ×      key: string | type u32 | value
//! n_tensors × name: string | n_dims u32 | dims u64 × n_dims | type u32 | offset u64
//! padding to general.alignment, then the tensor data; offsets count from here
//! string = length u64 + bytes          array = element type u32 + count u64 + elements
//! ```
//!
//! Everything is little-endian. Layout: the GGUF specification
//! (ggml repository, `docs/gguf.md`). Version 2 and 3 differ in nothing that a
//! little-endian reader sees.

use crate::error::{Error, Place, Result};
use crate::gguf::metadata::{Array, Metadata, Strings, Value};
use crate::quant::Format;
use crate::tensor::{MAX_DIMS, TensorRecord};

/// Bounds on what a file may declare. Real models stay far below each; what
/// they protect is the memory that records take beside the file itself.
mod limit {
    /// Key/value pairs; real files have under 100.
    pub const PAIRS: u64 = 1 << 13;
    /// Tensors; real files have under 3,000.
    pub const TENSORS: u64 = 1 << 14;
    /// Bytes of a key or tensor name.
    pub const NAME: u64 = 1 << 16;
    /// Bytes of one string value.
    pub const STRING: u64 = 1 << 24;
    /// Elements of one array; the largest vocabularies have 262,144 entries.
    pub const ELEMENTS: u64 = 1 << 24;
    /// `general.alignment`.
    pub const ALIGNMENT: u32 = 1 << 16;
}

/// Alignment of tensor data when the file does not name one.
pub(crate) const DEFAULT_ALIGNMENT: u32 = 32;
/// The key that names another.
pub(crate) const ALIGNMENT_KEY: &str = "general.alignment";

/// What the front of a file says, checked.
#[derive(Debug)]
pub(crate) struct Header {
    pub version: u32,
    pub alignment: u32,
    pub metadata: Metadata,
    pub tensors: Vec<TensorRecord>,
}

/// Parses and validates the front of `file`, which is the whole file.
pub(crate) fn parse(file: &[u8]) -> Result<Header> {
    let mut cursor = Cursor { bytes: file, position: 0 };
    let version = read_version(&mut cursor)?;
    let n_tensors = cursor.u64("tensor count")?;
    let n_pairs = cursor.u64("key/value count")?;
    // Smallest pair: key length, one byte of key, type, one byte of value.
    // Smallest record: name length, one byte of name, dims, type, offset.
    let n_pairs = cursor.bounded("key/value pairs", n_pairs, 14, limit::PAIRS)?;
    cursor.bounded("tensors", n_tensors, 33, limit::TENSORS)?;
    let mut metadata = Metadata::with_capacity(n_pairs);
    for _ in 0..n_pairs {
        let key = cursor.name("key")?;
        let value = cursor.value(key)?;
        metadata.push(key, value)?;
    }
    let alignment = alignment(&metadata)?;
    let n_tensors = cursor.bounded("tensors", n_tensors, 33, limit::TENSORS)?;
    let mut tensors = Vec::with_capacity(n_tensors);
    for _ in 0..n_tensors {
        tensors.push(read_tensor(&mut cursor, alignment)?);
    }
    place_tensors(&mut tensors, cursor.position, alignment, file.len())?;
    Ok(Header { version, alignment, metadata, tensors })
}

fn read_version(cursor: &mut Cursor<'_>) -> Result<u32> {
    let magic = cursor.take(4, "magic").map_err(|_| not_gguf(cursor.bytes))?;
    if magic != b"GGUF" {
        return Err(not_gguf(cursor.bytes));
    }
    let unsupported = |problem: String| Err(Error::unsupported(Place::Header, problem));
    match cursor.u32("version")? {
        version @ 2..=3 => Ok(version),
        1 => unsupported("version 1 (2023) is not supported; convert the model again".into()),
        version if matches!(version.swap_bytes(), 1..=3) => {
            unsupported("big-endian files are not supported; convert the model again".into())
        }
        0 => Err(Error::file(Place::Header, "version 0 does not exist")),
        version => unsupported(format!("version {version} is not supported, only 2 and 3 are")),
    }
}

/// Says what a file that is no GGUF looks like instead.
fn not_gguf(file: &[u8]) -> Error {
    let hint = match file {
        [] => "the file is empty",
        [b'P', b'K', 3, 4, ..] => "this is a zip archive, perhaps a PyTorch checkpoint",
        // safetensors: u64 length of a JSON object, then the object
        [_, _, _, _, _, 0, 0, 0, b'{', ..] => "this looks like safetensors",
        [b'g' | b'l', b'g' | b'm', ..] => "this looks like a model from before GGUF (2023)",
        _ if file.iter().take(256).all(|&b| b == b'\n' || b == b'\r' || b == b'\t' || b >= 32) => {
            "this looks like text"
        }
        _ => "it does not start with the letters GGUF",
    };
    Error::file(Place::Header, format!("not a GGUF file: {hint}; tramontane runs .gguf models"))
}

fn alignment(metadata: &Metadata) -> Result<u32> {
    let alignment = match metadata.get(ALIGNMENT_KEY) {
        None => return Ok(DEFAULT_ALIGNMENT),
        Some(Value::U32(value)) => *value,
        Some(other) => {
            let problem = format!("should be u32, but is {}", other.type_name());
            return Err(Error::key(ALIGNMENT_KEY, problem));
        }
    };
    if !alignment.is_power_of_two() || alignment > limit::ALIGNMENT {
        let problem =
            format!("is {alignment}; a power of two up to {} is needed", limit::ALIGNMENT);
        return Err(Error::key(ALIGNMENT_KEY, problem));
    }
    Ok(alignment)
}

/// Reads one record; `start` still counts from the data section.
fn read_tensor(cursor: &mut Cursor<'_>, alignment: u32) -> Result<TensorRecord> {
    let name = cursor.name("tensor name")?;
    let n_dims = cursor.u32("number of dimensions")?;
    if n_dims == 0 || n_dims as usize > MAX_DIMS {
        return Err(Error::tensor(name, format!("has {n_dims} dimensions; 1 to 4 are possible")));
    }
    let mut dims = [1u64; MAX_DIMS];
    for dim in &mut dims[..n_dims as usize] {
        *dim = cursor.u64("dimension")?;
    }
    let type_id = cursor.u32("tensor type")?;
    let offset = cursor.u64("tensor offset")?;
    let format = Format::from_ggml(type_id).ok_or_else(|| unknown_type(name, type_id))?;
    if offset % u64::from(alignment) != 0 {
        let problem = format!("offset {offset} is no multiple of the alignment {alignment}");
        return Err(Error::tensor(name, problem));
    }
    let too_large = || Error::tensor(name, format!("dimensions {dims:?} overflow"));
    let cols = usize::try_from(dims[0]).map_err(|_| too_large())?;
    if cols % format.block_len() != 0 {
        let problem = format!(
            "rows of {cols} are no whole number of {format} blocks of {}",
            format.block_len()
        );
        return Err(Error::tensor(name, problem));
    }
    let rows = dims[1..].iter().try_fold(1u64, |product, &dim| product.checked_mul(dim));
    let rows = rows.and_then(|rows| usize::try_from(rows).ok()).ok_or_else(too_large)?;
    let row = format.row_bytes(cols).ok_or_else(too_large)?;
    let len = row.checked_mul(rows).ok_or_else(too_large)?;
    let start = usize::try_from(offset).map_err(|_| too_large())?;
    Ok(TensorRecord { name: name.into(), dims, n_dims: n_dims as u8, format, start, len })
}

fn unknown_type(name: &str, id: u32) -> Error {
    let at = Place::Tensor(name.to_owned());
    let known = match id {
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        21 => "IQ3_S",
        22 => "IQ2_S",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        _ => return Error::file(at, format!("type id {id} is not a storage type of GGUF")),
    };
    let ours = Format::ALL.map(Format::name).join(" ");
    Error::unsupported(at, format!("type {known} is not supported; supported are {ours}"))
}

/// Turns offsets into places in the file; proves bounds, order and that no two
/// tensors share a byte. Gaps and trailing bytes are legal.
fn place_tensors(
    tensors: &mut [TensorRecord],
    directory_end: usize,
    alignment: u32,
    file_len: usize,
) -> Result<()> {
    let data_start = directory_end.checked_next_multiple_of(alignment as usize);
    for tensor in &mut *tensors {
        let start = data_start.and_then(|data| data.checked_add(tensor.start));
        let end = start.and_then(|start| start.checked_add(tensor.len));
        match (start, end) {
            (Some(start), Some(end)) if end <= file_len => tensor.start = start,
            _ => {
                let problem = format!(
                    "{} bytes at data offset {} reach past the end of the file ({file_len} bytes); \
                     the download may be incomplete",
                    tensor.len, tensor.start
                );
                return Err(Error::tensor(&tensor.name, problem));
            }
        }
    }
    let mut order: Vec<u32> = (0..tensors.len() as u32).collect();
    order.sort_unstable_by_key(|&i| {
        let tensor = &tensors[i as usize];
        (tensor.start, tensor.len)
    });
    for pair in order.windows(2) {
        let (first, second) = (&tensors[pair[0] as usize], &tensors[pair[1] as usize]);
        if first.start + first.len > second.start {
            let problem = format!("overlaps tensor {:?}", first.name);
            return Err(Error::tensor(&second.name, problem));
        }
    }
    order.sort_unstable_by(|&a, &b| tensors[a as usize].name.cmp(&tensors[b as usize].name));
    for pair in order.windows(2) {
        if tensors[pair[0] as usize].name == tensors[pair[1] as usize].name {
            return Err(Error::tensor(&tensors[pair[0] as usize].name, "appears twice"));
        }
    }
    Ok(())
}

/// A position in the file. Every read is checked against what is left.
struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    fn left(&self) -> usize {
        self.bytes.len() - self.position
    }

    fn error(&self, problem: String) -> Error {
        Error::file(Place::Offset(self.position as u64), problem)
    }

    fn take(&mut self, n: usize, what: &str) -> Result<&'a [u8]> {
        match self.bytes[self.position..].get(..n) {
            Some(bytes) => {
                self.position += n;
                Ok(bytes)
            }
            None => Err(self.error(format!(
                "the file ends inside the {what} ({n} bytes needed, {} left); \
                 the download may be incomplete",
                self.left()
            ))),
        }
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    fn u32(&mut self, what: &str) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &str) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A declared count of things that take at least `smallest` bytes each:
    /// accepted only if that many can still follow.
    fn bounded(&self, what: &'static str, count: u64, smallest: u64, cap: u64) -> Result<usize> {
        if count > self.left() as u64 / smallest {
            let left = self.left();
            return Err(
                self.error(format!("{count} {what} declared, but only {left} bytes follow"))
            );
        }
        if count > cap {
            return Err(Error::Limit { what, needed: count, allowed: cap });
        }
        Ok(count as usize)
    }

    fn text(&mut self, what: &'static str, cap: u64) -> Result<&'a str> {
        let len = self.u64(what)?;
        let len = self.bounded(what, len, 1, cap)?;
        let start = self.position;
        let bytes = self.take(len, what)?;
        std::str::from_utf8(bytes).map_err(|error| {
            let at = Place::Offset((start + error.valid_up_to()) as u64);
            Error::file(at, format!("the {what} is not UTF-8"))
        })
    }

    fn name(&mut self, what: &'static str) -> Result<&'a str> {
        let start = self.position;
        let name = self.text(what, limit::NAME)?;
        if name.is_empty() || name.contains('\0') {
            let at = Place::Offset(start as u64);
            return Err(Error::file(at, format!("the {what} is empty or contains a NUL")));
        }
        Ok(name)
    }

    fn value(&mut self, key: &str) -> Result<Value> {
        let what = "value";
        Ok(match self.u32("value type")? {
            0 => Value::U8(self.array::<1>(what)?[0]),
            1 => Value::I8(i8::from_le_bytes(self.array(what)?)),
            2 => Value::U16(u16::from_le_bytes(self.array(what)?)),
            3 => Value::I16(i16::from_le_bytes(self.array(what)?)),
            4 => Value::U32(self.u32(what)?),
            5 => Value::I32(i32::from_le_bytes(self.array(what)?)),
            6 => Value::F32(f32::from_le_bytes(self.array(what)?)),
            7 => Value::Bool(boolean(key, self.array::<1>(what)?[0])?),
            8 => Value::String(self.text("string", limit::STRING)?.into()),
            9 => Value::Array(self.array_value(key)?),
            10 => Value::U64(self.u64(what)?),
            11 => Value::I64(i64::from_le_bytes(self.array(what)?)),
            12 => Value::F64(f64::from_le_bytes(self.array(what)?)),
            id => return Err(Error::key(key, format!("value type {id} does not exist"))),
        })
    }

    fn array_value(&mut self, key: &str) -> Result<Array> {
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
            7 => {
                let bytes: Vec<u8> = self.elements(count, |b: [u8; 1]| b[0])?;
                let flags = bytes.into_iter().map(|byte| boolean(key, byte));
                Array::Bool(flags.collect::<Result<_>>()?)
            }
            8 => Array::String(self.strings(count)?),
            9 => return Err(Error::key(key, "arrays of arrays are not supported")),
            10 => Array::U64(self.elements(count, u64::from_le_bytes)?),
            11 => Array::I64(self.elements(count, i64::from_le_bytes)?),
            12 => Array::F64(self.elements(count, f64::from_le_bytes)?),
            id => return Err(Error::key(key, format!("array element type {id} does not exist"))),
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

    fn strings(&mut self, count: u64) -> Result<Strings> {
        // A string takes 8 bytes in the file even when empty; here it takes 4.
        let count = self.bounded("array elements", count, 8, limit::ELEMENTS)?;
        let mut strings = Strings::with_capacity(count);
        for _ in 0..count {
            strings.push(self.text("string", limit::STRING)?)?;
        }
        Ok(strings)
    }
}

fn boolean(key: &str, byte: u8) -> Result<bool> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Error::key(key, format!("a boolean is {byte}; 0 and 1 are possible"))),
    }
}
