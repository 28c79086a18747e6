//! A tensor: name, shape, format, and its bytes where they lie in the file.

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Bounded, Error, Result};
use crate::quant::Format;

/// A tensor has at most this many dimensions.
pub(crate) const MAX_DIMS: usize = 4;

/// Where a file's bytes are.
pub(crate) enum Storage {
    Mapped(memmap2::Mmap),
    Static(&'static [u8]),
    Shared(Arc<[u8]>),
    Owned(Vec<u8>),
}

impl Storage {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Storage::Mapped(map) => map,
            Storage::Static(bytes) => bytes,
            Storage::Shared(bytes) => bytes,
            Storage::Owned(bytes) => bytes,
        }
    }

    /// Maps the pages of `range` into the process if they are not yet: pages that are
    /// missing cannot be prefetched. Reading a byte does it for its neighbours too: Linux
    /// maps 64 KiB at once of what the page cache has. (`MADV_POPULATE_READ` takes half
    /// as long again.)
    fn populate(&self, range: Range<usize>) {
        for byte in self.bytes().get(range).unwrap_or_default().iter().step_by(64 << 10) {
            std::hint::black_box(*byte);
        }
    }
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.bytes().len())
    }
}

/// One tensor's record, its place proven to lie inside the file.
#[derive(Debug)]
pub(crate) struct TensorRecord {
    pub name: Box<str>,
    /// Sizes, innermost first; `dims[n_dims..]` are 1.
    pub dims: [u64; MAX_DIMS],
    pub n_dims: u8,
    pub format: Format,
    /// First byte in the storage.
    pub start: usize,
    /// Length in bytes.
    pub len: usize,
}

/// One tensor of a GGUF file. Cheap to clone: it shares the mapping.
///
/// A matrix is `rows` rows of `cols` weights; `cols` is GGUF's first dimension,
/// the input width. Further dimensions count as rows.
#[derive(Debug, Clone)]
pub struct Tensor {
    name: Box<str>,
    dims: [u64; MAX_DIMS],
    n_dims: u8,
    format: Format,
    storage: Arc<Storage>,
    /// Place in `storage`, proven inside it by the parser.
    start: usize,
    len: usize,
}

impl Tensor {
    pub(crate) fn new(record: TensorRecord, storage: Arc<Storage>) -> Self {
        let TensorRecord { name, dims, n_dims, format, start, len } = record;
        Tensor { name, dims, n_dims, format, storage, start, len }
    }

    /// The name, as in `blk.0.attn_q.weight`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same tensor under another name.
    pub(crate) fn renamed(&self, name: &str) -> Self {
        Tensor { name: name.into(), ..self.clone() }
    }

    /// Sizes, innermost first (ggml's order): 1 to 4 of them.
    pub fn dims(&self) -> &[u64] {
        &self.dims[..self.n_dims.into()]
    }

    /// How the values are stored.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Values per row.
    pub fn cols(&self) -> usize {
        self.dims[0] as usize
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.dims[1..].iter().product::<u64>() as usize
    }

    /// Whether it belongs to a part of a model that this crate does not run and ignores:
    /// vision (`v.`, `mm.`, `model.vision_tower.`), audio (`a.`), multi-token prediction
    /// (`mtp.`, `nextn`).
    pub fn is_of_another_part(&self) -> bool {
        let prefixes = ["v.", "mm.", "model.vision_tower.", "a.", "mtp.", "nextn."];
        let name = self.name();
        prefixes.iter().any(|prefix| name.starts_with(prefix)) || name.contains(".nextn.")
    }

    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.storage.bytes()[self.start..self.start + self.len]
    }

    /// Bytes of row `row`; empty if there is no such row.
    pub fn row(&self, row: usize) -> &[u8] {
        let len = self.format.row_bytes(self.cols()).unwrap_or(0);
        let start = row.checked_mul(len).and_then(|start| self.bytes().get(start..));
        start.and_then(|rest| rest.get(..len)).unwrap_or_default()
    }

    /// Bytes of the rows `rows`; empty if there are no such rows.
    pub(crate) fn rows_bytes(&self, rows: Range<usize>) -> &[u8] {
        self.bytes().get(self.places(rows)).unwrap_or_default()
    }

    /// Where the rows `rows` lie in the bytes; nowhere if there are no such rows.
    fn places(&self, rows: Range<usize>) -> Range<usize> {
        let len = self.format.row_bytes(self.cols()).unwrap_or(0);
        match (rows.start.checked_mul(len), rows.end.checked_mul(len)) {
            (Some(start), Some(end)) if end <= self.len => start..end,
            _ => 0..0,
        }
    }

    /// Maps the pages of the rows `rows` into the process.
    pub(crate) fn populate(&self, rows: Range<usize>) {
        let places = self.places(rows);
        self.storage.populate(self.start + places.start..self.start + places.end);
    }

    /// All values as f32, row after row.
    ///
    /// # Errors
    /// [`Error::Limit`] if the memory for them cannot be had.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        let n = self.rows() * self.cols();
        let mut values = Vec::new();
        values.try_reserve_exact(n).map_err(|_| Error::Limit {
            what: Bounded::Memory("bytes for a tensor as f32"),
            needed: n as u64 * 4,
            allowed: isize::MAX as u64,
        })?;
        values.resize(n, 0.0);
        crate::quant::dequantize(self.format, self.bytes(), &mut values)?;
        Ok(values)
    }
}
