//! What a model computes, as 32 bytes: for files that only the same model may read.
//!
//! ```text
//! SHA-256 of  "tramontane model 2\0"
//!             length, text of the plan (its `Debug` form)   u64, UTF-8
//!             count, SHA-256 of each tensor, by name        u64, 32 bytes each
//! of a tensor: length, name, count, dims, ggml's number of the format, bytes
//! ```
//! All numbers are little-endian. The plan's text is derived: whatever a new kind of
//! layer adds to it counts. Order in the file, splitting, tensors of parts that do not
//! run, and metadata that the network does not use do not matter.

use sha2::{Digest, Sha256};

use crate::gguf::Gguf;
use crate::tensor::Tensor;

use super::Model;
use super::transformer::Transformer;

impl Model {
    /// SHA-256 over all that decides the results of the network: name, shape,
    /// format and bytes of every tensor, kinds and sizes of the layers, rotary
    /// frequencies, the epsilon of the norms and sliding windows (also one from
    /// [`ModelOptions`](super::ModelOptions)). Not the vocabulary, the chat
    /// template or names: two files with the same network have the same digest,
    /// split or not.
    ///
    /// The first call reads the whole file, every thread its tensors: 2 GB/s per
    /// thread on a Zen 5, much less on processors without instructions for SHA-256,
    /// and not faster than the disk. No forward pass of this model runs meanwhile.
    /// Later calls cost nothing.
    pub fn digest(&self) -> [u8; 32] {
        *self.0.digest.get_or_init(|| digest(&self.0.file, &self.0.transformer))
    }
}

fn digest(file: &Gguf, transformer: &Transformer) -> [u8; 32] {
    let tensors = file.tensors().iter().filter(|tensor| !tensor.is_of_another_part());
    let mut tensors: Vec<_> = tensors.map(|tensor| (tensor, [0; 32])).collect();
    // The largest first: threads take the next one when they are free.
    tensors.sort_by_key(|(tensor, _)| std::cmp::Reverse(tensor.bytes().len()));
    transformer.pool.region(|team| {
        team.share(&mut tensors, |_, (tensor, digest)| *digest = of_tensor(tensor));
    });
    tensors.sort_by_key(|(tensor, _)| tensor.name());

    let mut hash = Sha256::new_with_prefix(b"tramontane model 2\0");
    let plan = format!("{:?}", transformer.plan);
    number(&mut hash, plan.len());
    hash.update(plan);
    number(&mut hash, tensors.len());
    tensors.iter().for_each(|(_, digest)| hash.update(digest));
    hash.finalize().into()
}

fn of_tensor(tensor: &Tensor) -> [u8; 32] {
    let mut hash = Sha256::new();
    number(&mut hash, tensor.name().len());
    hash.update(tensor.name());
    number(&mut hash, tensor.dims().len());
    tensor.dims().iter().for_each(|dim| hash.update(dim.to_le_bytes()));
    hash.update(tensor.format().ggml_id().to_le_bytes());
    hash.update(tensor.bytes());
    hash.finalize().into()
}

fn number(hash: &mut Sha256, number: usize) {
    hash.update((number as u64).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use crate::{Gguf, Model, ModelOptions};

    const BYTES: &[u8] = include_bytes!("../../models/storyteller-q4_k_m.gguf");

    fn digest(bytes: Vec<u8>, threads: usize) -> [u8; 32] {
        let options = ModelOptions { threads: Some(threads), ..ModelOptions::default() };
        Model::from_gguf(Gguf::from_bytes(bytes).unwrap(), &options).unwrap().digest()
    }

    #[test]
    fn any_bit_of_a_weight_counts_and_threads_do_not() {
        let first = digest(BYTES.to_vec(), 1);
        for threads in [2, 3, 7] {
            assert_eq!(digest(BYTES.to_vec(), threads), first);
        }
        let file = Gguf::from_bytes(BYTES).unwrap();
        for tensor in file.tensors().iter().filter(|t| t.dims().len() == 2).step_by(5) {
            let mut bytes = BYTES.to_vec();
            let start = BYTES.windows(64).position(|w| w == &tensor.bytes()[..64]).unwrap();
            bytes[start + 40] ^= 1;
            assert_ne!(digest(bytes, 2), first, "{}", tensor.name());
        }
    }

    #[test]
    fn hyperparameters_count_and_names_do_not() {
        let change = |key: &str, skip: usize, at: usize, to: u8| {
            let mut bytes = BYTES.to_vec();
            let start = BYTES.windows(key.len()).position(|w| w == key.as_bytes()).unwrap();
            let byte = &mut bytes[start + key.len() + skip + at];
            assert_ne!(*byte, to, "the test changes nothing");
            *byte = to;
            digest(bytes, 2)
        };
        let first = digest(BYTES.to_vec(), 2);
        // Behind a key: its type in 4 bytes, then a number or a length of 8 bytes.
        assert_ne!(change("attention.sliding_window", 4, 0, 64), first);
        assert_ne!(change("layer_norm_rms_epsilon", 4, 0, 1), first);
        assert_eq!(change("general.name", 12, 0, b'X'), first);
        assert_eq!(change("context_length", 4, 1, 1), first);
    }
}
