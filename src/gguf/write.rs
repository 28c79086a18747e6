//! Metadata and tensors → a GGUF file, streamed: the writer holds no tensor.
//!
//! The layout is the one ggml's own tools write (version 3): tensors in the
//! order of the directory without gaps, each padded with zeros to the alignment,
//! the last one too. A file in that layout is written back byte for byte.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::error::{Error, Result};
use crate::gguf::metadata::check_name;
use crate::gguf::parse::{MAGIC, VERSION, alignment, byte_len};
use crate::gguf::{Array, Gguf, Metadata, Value, limit};
use crate::quant::Format;
use crate::tensor::MAX_DIMS;
use crate::tensor::Tensor;

/// What the directory says about a tensor that will be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// The name, as in `blk.0.attn_q.weight`.
    pub name: String,
    /// Sizes, innermost first (ggml's order): 1 to 4 of them.
    pub dims: Vec<u64>,
    /// How the values are stored.
    pub format: Format,
}

impl TensorSpec {
    /// Bytes that the tensor takes.
    ///
    /// # Errors
    /// [`Error::Misuse`] if there is no such tensor: the number of dimensions is
    /// not 1 to 4, or a row is no whole number of blocks.
    pub fn byte_len(&self) -> Result<usize> {
        let problem = match self.dims.len() {
            1..=MAX_DIMS => match byte_len(&self.dims, self.format) {
                Ok(len) => return Ok(len),
                Err(problem) => problem,
            },
            n => format!("has {n} dimensions; 1 to 4 are possible"),
        };
        Err(Error::misuse(format!("tensor {:?}: {problem}", self.name)))
    }
}

impl From<&Tensor> for TensorSpec {
    fn from(tensor: &Tensor) -> Self {
        TensorSpec {
            name: tensor.name().to_owned(),
            dims: tensor.dims().to_vec(),
            format: tensor.format(),
        }
    }
}

/// Writes one GGUF file: the front at once, then the tensors' bytes in order.
///
/// ```
/// use tramontane::gguf::{Gguf, Metadata, TensorSpec, Value, Writer};
/// use tramontane::Format;
///
/// let mut metadata = Metadata::new();
/// metadata.push("general.architecture", Value::String("llama".into()))?;
/// let ones = TensorSpec { name: "ones".into(), dims: vec![3], format: Format::F32 };
/// let mut writer = Writer::new(Vec::new(), &metadata, &[ones])?;
/// for _ in 0..3 {
///     writer.write(&1f32.to_le_bytes())?;
/// }
/// let file = Gguf::from_bytes(writer.finish()?)?;
/// assert_eq!(file.tensors()[0].dims(), [3]);
/// # Ok::<(), tramontane::Error>(())
/// ```
#[derive(Debug)]
pub struct Writer<W: Write> {
    out: BufWriter<W>,
    alignment: usize,
    /// Name and size of each tensor.
    tensors: Vec<(String, usize)>,
    /// Tensors that are complete.
    done: usize,
    /// Bytes that tensor `done` has so far.
    filled: usize,
}

impl<W: Write> Writer<W> {
    /// Writes the header, `metadata` and the directory of `tensors` to `out`.
    /// The alignment is `general.alignment` of the metadata, or 32.
    ///
    /// # Errors
    /// [`Error::Misuse`] for what no reader would accept (before anything is
    /// written), [`Error::Io`] if `out` fails.
    pub fn new(out: W, metadata: &Metadata, tensors: &[TensorSpec]) -> Result<Self> {
        let alignment = alignment(metadata).map_err(|error| Error::misuse(error.to_string()))?;
        let alignment = alignment as usize;
        check_metadata(metadata)?;
        let sizes = check_tensors(tensors)?;
        let front = front(metadata, tensors, &sizes, alignment)?;
        let names = tensors.iter().map(|tensor| tensor.name.clone());
        let mut writer = Writer {
            out: BufWriter::with_capacity(1 << 16, out),
            alignment,
            tensors: names.zip(sizes).collect(),
            done: 0,
            filled: 0,
        };
        writer.out.write_all(&front).map_err(failed)?;
        writer.close_full_tensors()?;
        Ok(writer)
    }

    /// The tensor whose bytes come next, and how many of them are missing;
    /// `None` when all are complete.
    pub fn next_tensor(&self) -> Option<(&str, usize)> {
        let (name, size) = self.tensors.get(self.done)?;
        Some((name, size - self.filled))
    }

    /// Writes the next `bytes` of the current tensor, any number of them. A
    /// complete tensor is padded, and the next one is the current one.
    ///
    /// # Errors
    /// [`Error::Misuse`] if the tensor does not have that many bytes left (none
    /// are written then), [`Error::Io`] if the output fails.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let (name, missing) = match self.next_tensor() {
            Some(next) => next,
            None if bytes.is_empty() => return Ok(()),
            None => return Err(Error::misuse("all tensors have been written already")),
        };
        if bytes.len() > missing {
            let problem =
                format!("tensor {name:?} has {missing} bytes left, but {} came", bytes.len());
            return Err(Error::misuse(problem));
        }
        self.out.write_all(bytes).map_err(failed)?;
        self.filled += bytes.len();
        self.close_full_tensors()
    }

    /// Checks that every tensor is complete, and flushes.
    ///
    /// # Errors
    /// [`Error::Misuse`] if bytes are missing, [`Error::Io`] if the output fails.
    pub fn finish(self) -> Result<W> {
        if let Some((name, missing)) = self.next_tensor() {
            return Err(Error::misuse(format!("tensor {name:?} lacks {missing} bytes")));
        }
        self.out.into_inner().map_err(|error| failed(error.into_error()))
    }

    /// Pads the current tensor if it is complete, and those of no bytes after it.
    fn close_full_tensors(&mut self) -> Result<()> {
        while let Some((_, 0)) = self.next_tensor() {
            let padding = self.filled.next_multiple_of(self.alignment) - self.filled;
            write_zeros(&mut self.out, padding).map_err(failed)?;
            self.done += 1;
            self.filled = 0;
        }
        Ok(())
    }
}

impl Gguf {
    /// Writes the file anew: same metadata, same tensors. A file that ggml's
    /// tools wrote comes out byte for byte, except that padding after a
    /// directory without tensors is always written, and some tools leave it
    /// out. A split model becomes one file, without the `split.` keys.
    ///
    /// # Errors
    /// [`Error::Io`] if `out` fails.
    pub fn write_to(&self, out: impl Write) -> Result<()> {
        let specs: Vec<TensorSpec> = self.tensors.iter().map(TensorSpec::from).collect();
        let mut metadata = self.metadata.clone();
        if metadata.opt_u32("split.count")?.unwrap_or(0) > 1 {
            for key in ["split.no", "split.count", "split.tensors.count"] {
                metadata.remove(key);
            }
        }
        let mut writer = Writer::new(out, &metadata, &specs)?;
        for tensor in &self.tensors {
            writer.write(tensor.bytes())?;
        }
        writer.finish().map(drop)
    }

    /// Writes the file anew to `path`, as [`write_to`](Self::write_to) does. The
    /// path gets the new content only when it is complete and on disk, so that
    /// it may be the file which `self` was opened from.
    ///
    /// # Errors
    /// [`Error::Io`] if writing fails; what was at `path` is still there then.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = Path::new(&part);
        let io = |source| Error::io(part, source);
        let file = File::create(part).map_err(io)?;
        let written = self.write_to(&file).and_then(|()| file.sync_all().map_err(io));
        match written.and_then(|()| std::fs::rename(part, path).map_err(io)) {
            Ok(()) => Ok(()),
            Err(error) => {
                // Best effort: what counts is the first error.
                let _ = std::fs::remove_file(part);
                Err(error)
            }
        }
    }
}

fn failed(source: std::io::Error) -> Error {
    Error::io("GGUF output", source)
}

fn write_zeros(out: &mut impl Write, mut n: usize) -> std::io::Result<()> {
    const ZEROS: [u8; 4096] = [0; 4096];
    while n > 0 {
        let chunk = n.min(ZEROS.len());
        out.write_all(&ZEROS[..chunk])?;
        n -= chunk;
    }
    Ok(())
}

/// Refuses metadata that the reader would refuse. Keys were checked when they
/// came in.
fn check_metadata(metadata: &Metadata) -> Result<()> {
    if metadata.len() as u64 > limit::PAIRS {
        return Err(too_many("key/value pairs", metadata.len(), limit::PAIRS));
    }
    for (key, value) in metadata.iter() {
        let longest = match value {
            Value::String(text) => text.len(),
            Value::Array(Array::String(texts)) => texts.iter().map(str::len).max().unwrap_or(0),
            _ => 0,
        };
        if longest as u64 > limit::STRING {
            return Err(too_many(
                &format!("bytes in a string of key {key:?}"),
                longest,
                limit::STRING,
            ));
        }
        if let Value::Array(array) = value
            && array.len() as u64 > limit::ELEMENTS
        {
            return Err(too_many(
                &format!("elements of key {key:?}"),
                array.len(),
                limit::ELEMENTS,
            ));
        }
    }
    Ok(())
}

fn too_many(what: &str, count: usize, cap: u64) -> Error {
    Error::misuse(format!("{count} {what}; at most {cap} can be read back"))
}

/// Refuses tensors that the reader would refuse; returns their sizes.
fn check_tensors(tensors: &[TensorSpec]) -> Result<Vec<usize>> {
    if tensors.len() as u64 > limit::TENSORS {
        return Err(too_many("tensors", tensors.len(), limit::TENSORS));
    }
    let mut names = HashSet::with_capacity(tensors.len());
    for tensor in tensors {
        check_name("tensor name", &tensor.name)?;
        if !names.insert(tensor.name.as_str()) {
            return Err(Error::misuse(format!("tensor {:?} appears twice", tensor.name)));
        }
    }
    tensors.iter().map(TensorSpec::byte_len).collect()
}

/// Everything before the first tensor's bytes, padding included.
fn front(
    metadata: &Metadata,
    tensors: &[TensorSpec],
    sizes: &[usize],
    alignment: usize,
) -> Result<Vec<u8>> {
    let mut front = Vec::new();
    front.extend_from_slice(MAGIC);
    front.extend_from_slice(&VERSION.to_le_bytes());
    front.extend_from_slice(&(tensors.len() as u64).to_le_bytes());
    front.extend_from_slice(&(metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata.iter() {
        put_text(&mut front, key);
        put_value(&mut front, value);
    }
    let mut offset = 0usize;
    for (tensor, &size) in tensors.iter().zip(sizes) {
        put_text(&mut front, &tensor.name);
        front.extend_from_slice(&(tensor.dims.len() as u32).to_le_bytes());
        tensor.dims.iter().for_each(|dim| front.extend_from_slice(&dim.to_le_bytes()));
        front.extend_from_slice(&tensor.format.ggml_id().to_le_bytes());
        front.extend_from_slice(&(offset as u64).to_le_bytes());
        let next = offset.checked_add(size).and_then(|end| end.checked_next_multiple_of(alignment));
        offset = next.ok_or_else(|| Error::misuse("the tensors' sizes overflow"))?;
    }
    if front.len() > limit::FRONT {
        return Err(too_many("bytes of metadata", front.len(), limit::FRONT as u64));
    }
    front.resize(front.len().next_multiple_of(alignment), 0);
    Ok(front)
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    let mut put = |id: u32, bytes: &[u8]| {
        out.extend_from_slice(&id.to_le_bytes());
        out.extend_from_slice(bytes);
    };
    match value {
        Value::U8(v) => put(0, &[*v]),
        Value::I8(v) => put(1, &v.to_le_bytes()),
        Value::U16(v) => put(2, &v.to_le_bytes()),
        Value::I16(v) => put(3, &v.to_le_bytes()),
        Value::U32(v) => put(4, &v.to_le_bytes()),
        Value::I32(v) => put(5, &v.to_le_bytes()),
        Value::F32(v) => put(6, &v.to_le_bytes()),
        Value::Bool(v) => put(7, &[u8::from(*v)]),
        Value::String(text) => {
            put(8, &[]);
            put_text(out, text);
        }
        Value::Array(array) => {
            put(9, &[]);
            put_array(out, array);
        }
        Value::U64(v) => put(10, &v.to_le_bytes()),
        Value::I64(v) => put(11, &v.to_le_bytes()),
        Value::F64(v) => put(12, &v.to_le_bytes()),
        Value::Unreadable(v) => put(v.id, &v.bytes),
    }
}

fn put_array(out: &mut Vec<u8>, array: &Array) {
    /// Element type, count, elements.
    fn put<T: Copy, const N: usize>(
        out: &mut Vec<u8>,
        id: u32,
        values: &[T],
        encode: impl Fn(T) -> [u8; N],
    ) {
        out.extend_from_slice(&id.to_le_bytes());
        out.extend_from_slice(&(values.len() as u64).to_le_bytes());
        values.iter().for_each(|&value| out.extend_from_slice(&encode(value)));
    }
    match array {
        Array::U8(v) => put(out, 0, v, |v| [v]),
        Array::I8(v) => put(out, 1, v, i8::to_le_bytes),
        Array::U16(v) => put(out, 2, v, u16::to_le_bytes),
        Array::I16(v) => put(out, 3, v, i16::to_le_bytes),
        Array::U32(v) => put(out, 4, v, u32::to_le_bytes),
        Array::I32(v) => put(out, 5, v, i32::to_le_bytes),
        Array::F32(v) => put(out, 6, v, f32::to_le_bytes),
        Array::Bool(v) => put(out, 7, v, |v| [u8::from(v)]),
        Array::String(texts) => {
            out.extend_from_slice(&8u32.to_le_bytes());
            out.extend_from_slice(&(texts.len() as u64).to_le_bytes());
            texts.iter().for_each(|text| put_text(out, text));
        }
        Array::U64(v) => put(out, 10, v, u64::to_le_bytes),
        Array::I64(v) => put(out, 11, v, i64::to_le_bytes),
        Array::F64(v) => put(out, 12, v, f64::to_le_bytes),
    }
}
