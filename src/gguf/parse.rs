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
use crate::gguf::cursor::{Cursor, within};
use crate::gguf::limit;
use crate::gguf::metadata::Metadata;
use crate::quant::Format;
use crate::tensor::{MAX_DIMS, TensorRecord};

/// The first bytes of every GGUF file.
pub(crate) const MAGIC: &[u8; 4] = b"GGUF";
/// The version that is written; 2 is read too.
pub(crate) const VERSION: u32 = 3;
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
    let mut cursor = Cursor::new(file);
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
        let value = cursor.value().map_err(|error| within(Place::Key(key.to_string()), error))?;
        if let Err(key) = metadata.insert(key, value) {
            return Err(Error::key(&key, "appears twice; every key may stand once"));
        }
    }
    let alignment = alignment(&metadata)?;
    let n_tensors = cursor.bounded("tensors", n_tensors, 33, limit::TENSORS)?;
    let mut tensors = Vec::with_capacity(n_tensors);
    for _ in 0..n_tensors {
        let name = cursor.name("tensor name")?;
        let tensor = read_tensor(&mut cursor, &name, alignment)
            .map_err(|error| within(Place::Tensor(name.to_string()), error))?;
        tensors.push(TensorRecord { name, ..tensor });
    }
    place_tensors(&mut tensors, cursor.position, alignment, file.len())?;
    Ok(Header { version, alignment, metadata, tensors })
}

fn read_version(cursor: &mut Cursor<'_>) -> Result<u32> {
    if !cursor.bytes.starts_with(MAGIC) {
        return Err(not_gguf(cursor.bytes));
    }
    cursor.take(MAGIC.len(), "magic")?;
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
pub(super) fn not_gguf(file: &[u8]) -> Error {
    let printable = |&b: &u8| b == b'\n' || b == b'\r' || b == b'\t' || b >= 32;
    let hint = match file {
        [] => "the file is empty",
        [b'G'] | [b'G', b'G'] | [b'G', b'G', b'U'] => "the file ends inside its first four bytes",
        [b'P', b'K', 3, 4, ..] => "this is a zip archive, perhaps a PyTorch checkpoint",
        // safetensors: u64 length of a JSON object, then the object
        [_, _, _, _, _, 0, 0, 0, b'{', ..] => "this looks like safetensors",
        // the magics ggml, ggmf, ggjt, ggla, either way round
        [b'g', b'g', b'm', b'l' | b'f', ..]
        | [b'l' | b'f', b'm', b'g', b'g', ..]
        | [b'g', b'g', b'j', b't', ..]
        | [b't', b'j', b'g', b'g', ..]
        | [b'g', b'g', b'l', b'a', ..]
        | [b'a', b'l', b'g', b'g', ..] => "this is a ggml model from before GGUF (2023)",
        _ if file.starts_with(b"version https://git-lfs") => {
            "this is a Git LFS pointer; `git lfs pull` gets the file itself"
        }
        _ if file.trim_ascii_start().starts_with(b"<") => {
            "this looks like a web page; the download failed"
        }
        _ if file.iter().take(256).all(printable) => "this looks like text",
        _ => "it does not start with the letters GGUF",
    };
    Error::file(Place::Header, format!("not a GGUF file: {hint}; tramontane runs .gguf models"))
}

pub(super) fn alignment(metadata: &Metadata) -> Result<u32> {
    let Some(alignment) = metadata.opt_u32(ALIGNMENT_KEY)? else { return Ok(DEFAULT_ALIGNMENT) };
    if !alignment.is_power_of_two() || alignment > limit::ALIGNMENT {
        let problem =
            format!("is {alignment}; a power of two up to {} is needed", limit::ALIGNMENT);
        return Err(Error::key(ALIGNMENT_KEY, problem));
    }
    Ok(alignment)
}

/// Reads the record of tensor `name`, which the caller puts in; `start` still
/// counts from the data section.
fn read_tensor(cursor: &mut Cursor<'_>, name: &str, alignment: u32) -> Result<TensorRecord> {
    let n_dims = cursor.u32("number of dimensions")?;
    if n_dims == 0 || n_dims as usize > MAX_DIMS {
        return Err(cursor.error(format!("has {n_dims} dimensions; 1 to 4 are possible")));
    }
    let mut dims = [1u64; MAX_DIMS];
    for dim in &mut dims[..n_dims as usize] {
        *dim = cursor.u64("dimension")?;
    }
    let type_id = cursor.u32("tensor type")?;
    let format = Format::from_ggml(type_id).ok_or_else(|| unknown_type(name, type_id))?;
    let offset = cursor.u64("tensor offset")?;
    if !offset.is_multiple_of(u64::from(alignment)) {
        let problem = format!("offset {offset} is no multiple of the alignment {alignment}");
        return Err(cursor.error(problem));
    }
    let len = byte_len(&dims[..n_dims as usize], format).map_err(|why| cursor.error(why))?;
    let start = usize::try_from(offset)
        .map_err(|_| cursor.error(format!("offset {offset} is past every file's end")))?;
    Ok(TensorRecord { name: Box::default(), dims, n_dims: n_dims as u8, format, start, len })
}

/// Bytes of a tensor, or why there is no such tensor.
pub(super) fn byte_len(dims: &[u64], format: Format) -> Result<usize, String> {
    let too_large = || format!("dimensions {dims:?} overflow");
    let Some((&cols, rows)) = dims.split_first() else {
        return Err("has no dimensions; 1 to 4 are possible".to_owned());
    };
    let cols = usize::try_from(cols).map_err(|_| too_large())?;
    if !cols.is_multiple_of(format.block_len()) {
        return Err(format!(
            "rows of {cols} are no whole number of {format} blocks of {}",
            format.block_len()
        ));
    }
    let rows = rows.iter().try_fold(1u64, |product, &dim| product.checked_mul(dim));
    let rows = rows.and_then(|rows| usize::try_from(rows).ok()).ok_or_else(too_large)?;
    // Both the bytes and the number of values must be countable.
    cols.checked_mul(rows).ok_or_else(too_large)?;
    format.row_bytes(cols).and_then(|row| row.checked_mul(rows)).ok_or_else(too_large)
}

fn unknown_type(name: &str, id: u32) -> Error {
    let at = Place::Tensor(name.to_owned());
    let known = match id {
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        43.. => return Error::file(at, format!("type id {id} is unknown")),
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
