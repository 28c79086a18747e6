//! GGUF files of random weights in the exact shape of a published model: for
//! measuring speed and memory without its weights. What they say is noise.

mod encoder;
mod keys;
mod layer;
mod mix;
mod recurrent;
mod shape;
mod tensors;
mod vocabulary;
mod weights;

use std::fs::File;
use std::io::Write;
use std::path::Path;

pub use mix::{MIXES, Mix};
pub use shape::{ExpertShape, Family, Gemma4Shape, SHAPES, Shape};
pub use weights::{STEP, fill};

use crate::error::{Error, Result};
use crate::gguf::{Gguf, TensorSpec, Writer};

/// A file to be written.
#[derive(Debug, Clone)]
pub struct Synthesis {
    /// Whose shape.
    pub shape: Shape,
    /// How weights are stored.
    pub mix: Mix,
    /// The same seed gives the same file.
    pub seed: u64,
}

impl Synthesis {
    /// Bytes of all weights.
    ///
    /// # Errors
    /// [`Error::Misuse`] for a shape that is no whole blocks of its formats.
    pub fn bytes(&self) -> Result<u64> {
        let sizes = self.shape.tensors(&self.mix);
        sizes.iter().map(|tensor| Ok(tensor.byte_len()? as u64)).sum()
    }

    /// Writes the file to `out`, calling `progress` with each number of bytes of
    /// weights; the vocabulary is that of `vocab` or made up.
    ///
    /// # Errors
    /// [`Error::Misuse`] for a vocabulary of another size, and what writing gives.
    pub fn write<W: Write>(
        &self,
        out: W,
        vocab: Option<&Gguf>,
        progress: impl Fn(u64),
    ) -> Result<W> {
        let mut metadata = self.shape.metadata(&self.mix)?;
        match vocab {
            Some(file) => vocabulary::copy(file, self.shape.vocab, &mut metadata)?,
            None => vocabulary::generate(self.shape.vocab, &mut metadata)?,
        }
        let specs = self.shape.tensors(&self.mix);
        let mut writer = Writer::new(out, &metadata, &specs)?;
        for tensor in &specs {
            let progress = |n| progress(n as u64);
            tensors::write(&mut writer, &self.shape, self.seed, tensor, progress)?;
        }
        writer.finish()
    }

    /// The same to a file, which has its name only once it is whole.
    ///
    /// # Errors
    /// As [`write`](Synthesis::write), and [`Error::Io`].
    pub fn create(&self, path: &Path, vocab: Option<&Gguf>, progress: impl Fn(u64)) -> Result<()> {
        let part = path.with_added_extension("part");
        let file = File::create(&part).map_err(|error| Error::io(&part, error))?;
        let written = self
            .write(file, vocab, progress)
            .and_then(|_| std::fs::rename(&part, path).map_err(|error| Error::io(path, error)));
        if written.is_err() {
            // A full disk gets its space back; the first error is the one that counts.
            let _ = std::fs::remove_file(&part);
        }
        written
    }

    /// Whether the file at `path` is this one, as far as its front tells.
    pub fn is_at(&self, path: &Path) -> bool {
        Gguf::open(path).is_ok_and(|file| {
            let specs: Vec<_> = file.tensors().iter().map(TensorSpec::from).collect();
            specs == self.shape.tensors(&self.mix)
        })
    }
}
