//! A GGUF file put together by hand, so that each part of it can be wrong. It
//! shares no code with the crate's writer, which refuses to write such files.

/// Header fields and raw bytes; [`File::bytes`] puts them together.
#[derive(Clone)]
pub struct File {
    pub magic: [u8; 4],
    pub version: u32,
    /// Declared counts, when they are not the true ones.
    pub n_tensors: Option<u64>,
    pub n_pairs: Option<u64>,
    pub pairs: Vec<u8>,
    pub pairs_added: u64,
    pub records: Vec<u8>,
    pub records_added: u64,
    /// What follows the directory.
    pub tail: Vec<u8>,
}

impl File {
    pub fn new() -> Self {
        File {
            magic: *b"GGUF",
            version: 3,
            n_tensors: None,
            n_pairs: None,
            pairs: Vec::new(),
            pairs_added: 0,
            records: Vec::new(),
            records_added: 0,
            tail: Vec::new(),
        }
    }

    pub fn string(text: &[u8]) -> Vec<u8> {
        [&(text.len() as u64).to_le_bytes(), text].concat()
    }

    pub fn array_head(element_type: u32, count: u64) -> Vec<u8> {
        [&element_type.to_le_bytes()[..], &count.to_le_bytes()].concat()
    }

    pub fn pair(self, key: &str, value_type: u32, value: &[u8]) -> Self {
        self.raw_pair(
            &[&File::string(key.as_bytes()), &value_type.to_le_bytes()[..], value].concat(),
        )
    }

    /// One pair, whatever its bytes.
    pub fn raw_pair(mut self, bytes: &[u8]) -> Self {
        self.pairs.extend_from_slice(bytes);
        self.pairs_added += 1;
        self
    }

    pub fn tensor(self, name: &str, dims: &[u64], type_id: u32, offset: u64) -> Self {
        let mut record = File::string(name.as_bytes());
        record.extend_from_slice(&(dims.len() as u32).to_le_bytes());
        dims.iter().for_each(|dim| record.extend_from_slice(&dim.to_le_bytes()));
        record.extend_from_slice(&type_id.to_le_bytes());
        record.extend_from_slice(&offset.to_le_bytes());
        self.raw_tensor(&record)
    }

    /// One record, whatever its bytes.
    pub fn raw_tensor(mut self, bytes: &[u8]) -> Self {
        self.records.extend_from_slice(bytes);
        self.records_added += 1;
        self
    }

    /// Length of what was added so far, from the start of the file.
    pub fn front_len(&self) -> usize {
        24 + self.pairs.len() + self.records.len()
    }

    /// Pads the front with bytes that are not zero, which is legal.
    pub fn pad(mut self, alignment: usize) -> Self {
        let len = self.front_len();
        self.tail.resize(len.next_multiple_of(alignment) - len, 0xAA);
        self
    }

    /// Pads the front to 32 and appends `n` bytes of tensor data.
    pub fn data(self, n: usize) -> Self {
        let mut file = self.pad(32);
        file.tail.resize(file.tail.len() + n, 0x55);
        file
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.front_len() + self.tail.len());
        bytes.extend_from_slice(&self.magic);
        bytes.extend_from_slice(&self.version.to_le_bytes());
        bytes.extend_from_slice(&self.n_tensors.unwrap_or(self.records_added).to_le_bytes());
        bytes.extend_from_slice(&self.n_pairs.unwrap_or(self.pairs_added).to_le_bytes());
        bytes.extend_from_slice(&self.pairs);
        bytes.extend_from_slice(&self.records);
        bytes.extend_from_slice(&self.tail);
        bytes
    }
}
