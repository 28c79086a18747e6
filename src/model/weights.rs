//! Tensors by role, each checked against the [`Config`] that the metadata gave.

use std::collections::HashMap;

use crate::error::{Error, Place, Result};
use crate::gguf::Gguf;
use crate::kernel::matrix::Matrix;
use crate::quant::Format;
use crate::tensor::Tensor;

use super::config::Config;

/// All weights of a network. Matrices stay where they lie in the file; vectors
/// (norms, biases) are copied to f32.
#[derive(Debug)]
pub(crate) struct Weights {
    /// `[n_vocab, dim]`
    pub token_embd: Tensor,
    pub layers: Vec<Layer>,
    /// `[dim]`
    pub output_norm: Vec<f32>,
    /// `[n_vocab, dim]`; the embedding again where the file ties them.
    pub output: Matrix,
}

/// The weights of one transformer block, by GGUF's names.
#[derive(Debug)]
pub(crate) struct Layer {
    /// `[dim]`
    pub attn_norm: Vec<f32>,
    pub attn_q: Matrix,
    pub attn_k: Matrix,
    pub attn_v: Matrix,
    pub attn_output: Matrix,
    /// `[dim]`
    pub ffn_norm: Vec<f32>,
    pub ffn_gate: Matrix,
    pub ffn_up: Matrix,
    pub ffn_down: Matrix,
}

/// The tensor directory, with a note of what was used.
pub(crate) struct Directory<'a> {
    tensors: HashMap<&'a str, &'a Tensor>,
}

impl<'a> Directory<'a> {
    pub fn new(file: &'a Gguf) -> Self {
        Directory { tensors: file.tensors().iter().map(|t| (t.name(), t)).collect() }
    }

    /// Takes a tensor out; what is left at the end is unknown to us.
    fn take(&mut self, name: &str) -> Option<&'a Tensor> {
        self.tensors.remove(name)
    }

    fn required(&mut self, name: &str) -> Result<&'a Tensor> {
        self.take(name).ok_or_else(|| {
            Error::tensor(name, "is missing; the file is not a complete model (vocabulary only?)")
        })
    }

    /// The token embedding, whose rows say how large the vocabulary is.
    pub fn token_embd(&self) -> Result<&'a Tensor> {
        let name = "token_embd.weight";
        let tensor = self.tensors.get(name).copied().ok_or_else(|| {
            Error::tensor(name, "is missing; the file is not a complete model (vocabulary only?)")
        })?;
        if tensor.dims().len() != 2 || tensor.rows() == 0 || tensor.rows() > u32::MAX as usize {
            return Err(Error::tensor(name, format!("has shape {:?}", tensor.dims())));
        }
        Ok(tensor)
    }

    /// The divisors of the rotary frequencies, if the file has them.
    pub fn rope_factors(&mut self) -> Result<Option<Vec<f32>>> {
        let Some(tensor) = self.take("rope_freqs.weight") else { return Ok(None) };
        vector(tensor, tensor.cols()).map(Some)
    }

    fn matrix(&mut self, name: &str, rows: usize, cols: usize) -> Result<Tensor> {
        let tensor = self.required(name)?;
        if tensor.dims() != [cols as u64, rows as u64] {
            let found = tensor.dims();
            let problem = format!("has shape {found:?}; the metadata implies [{cols}, {rows}]");
            return Err(Error::tensor(name, problem));
        }
        Ok(tensor.clone())
    }

    fn linear(&mut self, name: &str, rows: usize, cols: usize) -> Result<Matrix> {
        let weight = self.matrix(&format!("{name}.weight"), rows, cols)?;
        let bias = match self.take(&format!("{name}.bias")) {
            Some(tensor) => Some(vector(tensor, rows)?),
            None => None,
        };
        Ok(Matrix::new(weight, 0..rows, bias))
    }

    fn norm(&mut self, name: &str, len: usize) -> Result<Vec<f32>> {
        vector(self.required(name)?, len)
    }
}

/// A one-dimensional tensor of `len` finite floats.
fn vector(tensor: &Tensor, len: usize) -> Result<Vec<f32>> {
    let name = tensor.name();
    if tensor.dims() != [len as u64] {
        let found = tensor.dims();
        return Err(Error::tensor(name, format!("has shape {found:?}; expected [{len}]")));
    }
    if !matches!(tensor.format(), Format::F32 | Format::F16 | Format::BF16) {
        let problem = format!("is {}; norms and biases are expected as floats", tensor.format());
        return Err(Error::unsupported(Place::Tensor(name.to_owned()), problem));
    }
    let values = tensor.to_f32()?;
    match values.iter().position(|x| !x.is_finite()) {
        Some(index) => Err(Error::tensor(name, format!("value {index} is {}", values[index]))),
        None => Ok(values),
    }
}

impl Weights {
    /// Finds every tensor that `config` asks for and checks its shape. A tensor
    /// left over is refused: ignoring it would give wrong text, not less text.
    pub fn new(mut directory: Directory<'_>, config: &Config) -> Result<Self> {
        let token_embd = directory.matrix("token_embd.weight", config.n_vocab, config.dim)?;
        let output_norm = directory.norm("output_norm.weight", config.dim)?;
        let output = if directory.tensors.contains_key("output.weight") {
            directory.matrix("output.weight", config.n_vocab, config.dim)?
        } else {
            token_embd.clone()
        };
        let mut layers = Vec::new();
        for index in 0..config.layers() {
            layers.push(Layer::new(&mut directory, index, config)?);
        }
        // Old files carry these precomputed tables; they hold nothing new.
        directory.tensors.retain(|name, _| !name.ends_with(".attn_rot_embd"));
        match directory.tensors.keys().min() {
            None => Ok(Weights { token_embd, layers, output_norm, output: output.into() }),
            Some(name) => {
                let problem = format!(
                    "is not known for this architecture with {} layers; the text would be wrong",
                    config.layers()
                );
                Err(Error::unsupported(Place::Tensor((*name).to_owned()), problem))
            }
        }
    }
}

impl Layer {
    fn new(directory: &mut Directory<'_>, index: usize, config: &Config) -> Result<Self> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let (dim, ffn, q, kv) = (config.dim, config.ffn_dim, config.q_dim(), config.kv_dim());
        Ok(Layer {
            attn_norm: directory.norm(&name("attn_norm.weight"), dim)?,
            attn_q: directory.linear(&name("attn_q"), q, dim)?,
            attn_k: directory.linear(&name("attn_k"), kv, dim)?,
            attn_v: directory.linear(&name("attn_v"), kv, dim)?,
            attn_output: directory.linear(&name("attn_output"), dim, q)?,
            ffn_norm: directory.norm(&name("ffn_norm.weight"), dim)?,
            ffn_gate: directory.linear(&name("ffn_gate"), ffn, dim)?,
            ffn_up: directory.linear(&name("ffn_up"), ffn, dim)?,
            ffn_down: directory.linear(&name("ffn_down"), dim, ffn)?,
        })
    }
}
