//! The tensors of a file, by name, with a note of what was claimed.

use std::collections::HashMap;

use crate::error::{Error, Place, Result};
use crate::gguf::Gguf;
use crate::kernel::matrix::Matrix;
use crate::model::plan::{ConvWeights, TokenTable, Vector};
use crate::quant::Format;
use crate::tensor::Tensor;

pub(super) struct Tensors<'a> {
    /// Those that nothing claimed yet.
    left: HashMap<&'a str, &'a Tensor>,
}

impl<'a> Tensors<'a> {
    /// All tensors of `file` but those of parts that this crate does not run.
    pub fn new(file: &'a Gguf) -> Self {
        let ours = file.tensors().iter().filter(|tensor| !tensor.is_of_another_part());
        Tensors { left: ours.map(|tensor| (tensor.name(), tensor)).collect() }
    }

    pub fn has(&self, name: &str) -> bool {
        self.left.contains_key(name)
    }

    /// That an architecture cannot do without what others may lack, such as a bias.
    ///
    /// # Errors
    /// [`Error::File`] if `name` is missing.
    pub fn expect(&self, name: &str) -> Result<()> {
        if self.has(name) { Ok(()) } else { Err(missing(name)) }
    }

    fn required(&mut self, name: &str) -> Result<&'a Tensor> {
        self.left.remove(name).ok_or_else(|| missing(name))
    }

    /// Claims a tensor that a file may have and that nothing needs.
    pub fn ignore(&mut self, name: &str) {
        self.left.remove(name);
    }

    /// The token embedding `[n_vocab, dim]`; its rows say how large the vocabulary is.
    pub fn token_table(&mut self, dim: usize) -> Result<TokenTable> {
        let tensor = self.required("token_embd.weight")?;
        let (name, rows) = (tensor.name(), tensor.rows());
        if tensor.dims().len() != 2 || rows == 0 || rows > u32::MAX as usize {
            return Err(Error::tensor(name, format!("has shape {:?}", tensor.dims())));
        }
        expect_shape(tensor, rows, dim)?;
        Ok(TokenTable(tensor.clone()))
    }

    /// A table `[rows, dim]` whose rows are read one by one.
    pub fn table(&mut self, name: &str, rows: usize, dim: usize) -> Result<TokenTable> {
        let tensor = self.required(name)?;
        expect_shape(tensor, rows, dim)?;
        Ok(TokenTable(tensor.clone()))
    }

    /// A few rows of `dim` floats, at least one.
    pub fn few_rows(&mut self, name: &str, dim: usize) -> Result<Vector> {
        const MOST: usize = 64;
        let tensor = self.required(name)?;
        // One row may come without its second dimension.
        let rows = tensor.rows();
        if tensor.cols() != dim || !(1..=MOST).contains(&rows) || tensor.dims().len() > 2 {
            let problem = format!("has shape {:?}; expected [{dim}, 1] or more", tensor.dims());
            return Err(Error::tensor(name, problem));
        }
        Ok(Vector { name: name.into(), values: finite(tensor)? })
    }

    /// `{name}.weight`, `[labels, cols]`, and `{name}.bias`, if the file has it. One label may
    /// come without its second dimension.
    pub fn labels(&mut self, name: &str, labels: usize, cols: usize) -> Result<Matrix> {
        let weight = format!("{name}.weight");
        let one = self.left.get(&*weight).is_some_and(|tensor| tensor.dims() == [cols as u64]);
        if !(one && labels == 1) {
            return self.matrix(name, labels, cols);
        }
        let tensor = self.required(&weight)?;
        let bias = match self.left.remove(&*format!("{name}.bias")) {
            Some(tensor) => Some(floats(tensor, labels)?),
            None => None,
        };
        Ok(Matrix::new(tensor.clone(), 0..1, bias))
    }

    /// `{name}.weight`, `[rows, cols]`, and `{name}.bias`, if the file has it.
    pub fn matrix(&mut self, name: &str, rows: usize, cols: usize) -> Result<Matrix> {
        let [matrix] = self.matrices(name, [rows], cols)?;
        Ok(matrix)
    }

    /// Several matrices whose rows follow each other in `{name}.weight`, and their
    /// biases in `{name}.bias`, if the file has it.
    pub fn matrices<const N: usize>(
        &mut self,
        name: &str,
        rows: [usize; N],
        cols: usize,
    ) -> Result<[Matrix; N]> {
        let all = rows.iter().sum();
        let tensor = self.required(&format!("{name}.weight"))?;
        expect_shape(tensor, all, cols)?;
        let scale = self.scales(name, tensor, 1)?.map(|scales| scales[0]);
        let bias = match self.left.remove(&*format!("{name}.bias")) {
            Some(tensor) => Some(floats(tensor, all)?),
            None => None,
        };
        let mut end = 0;
        Ok(rows.map(|rows| {
            let range = end..end + rows;
            end = range.end;
            let bias = bias.as_ref().map(|bias| bias[range.clone()].to_vec());
            Matrix::new(tensor.clone(), range, bias).with_scale(scale)
        }))
    }

    /// The matrices of `count` experts (or heads), `[rows, cols]` each, that lie one behind
    /// the other in `{name}.weight`, and their biases in `{name}.bias`, if the file has it.
    pub fn experts(
        &mut self,
        name: &str,
        count: usize,
        rows: usize,
        cols: usize,
    ) -> Result<Vec<Matrix>> {
        let [matrices] = self.experts_parts(name, count, [rows], cols)?;
        Ok(matrices)
    }

    /// The same of several matrices whose rows follow each other in each expert.
    pub fn experts_parts<const N: usize>(
        &mut self,
        name: &str,
        count: usize,
        rows: [usize; N],
        cols: usize,
    ) -> Result<[Vec<Matrix>; N]> {
        let of_expert: usize = rows.iter().sum();
        let tensor = self.required(&format!("{name}.weight"))?;
        expect_dims(tensor, &[cols, of_expert, count])?;
        let scales = self.scales(name, tensor, count)?;
        let bias = match self.left.remove(&*format!("{name}.bias")) {
            Some(tensor) => {
                expect_dims(tensor, &[of_expert, count])?;
                Some(finite(tensor)?)
            }
            None => None,
        };
        let mut before = 0;
        Ok(rows.map(|rows| {
            let first = before;
            before += rows;
            let one = |expert: usize| {
                let start = expert * of_expert + first;
                let bias = bias.as_ref().map(|bias| bias[start..start + rows].to_vec());
                let scale = scales.as_ref().map(|scales| scales[expert]);
                Matrix::new(tensor.clone(), start..start + rows, bias).with_scale(scale)
            };
            (0..count).map(one).collect()
        }))
    }

    /// What NVFP4 has beside `tensor`, `{name}.weight`, if the file has it: a factor of each
    /// of its `count` matrices' products in `{name}.scale`. (`{name}.input_scale` is for
    /// activations of the same format.)
    fn scales(&mut self, name: &str, tensor: &Tensor, count: usize) -> Result<Option<Vec<f32>>> {
        if tensor.format() != Format::NVFP4 {
            return Ok(None);
        }
        self.left.remove(&*format!("{name}.input_scale"));
        self.left.remove(&*format!("{name}.scale")).map(|scales| floats(scales, count)).transpose()
    }

    /// The only row of a matrix, which may have one dimension or two.
    pub fn row(&mut self, name: &str, len: usize) -> Result<Vector> {
        let tensor = self.required(name)?;
        if tensor.dims() != [len as u64, 1] {
            expect_dims(tensor, &[len])?;
        }
        Ok(Vector { name: name.into(), values: finite(tensor)? })
    }

    /// `len` floats, whatever their dimensions.
    pub fn flat(&mut self, name: &str, len: usize) -> Result<Vector> {
        let tensor = self.required(name)?;
        let found = tensor.dims().iter().try_fold(1u64, |all, &dim| all.checked_mul(dim));
        if found != Some(len as u64) {
            let problem = format!("has shape {:?}; {len} values are needed", tensor.dims());
            return Err(Error::tensor(name, problem));
        }
        Ok(Vector { name: name.into(), values: finite(tensor)? })
    }

    /// `taps` weights for each of `channels` channels: `{name}.weight`, and `{name}.bias`, if
    /// the file has it.
    pub fn conv(&mut self, name: &str, taps: usize, channels: usize) -> Result<ConvWeights> {
        let weight = format!("{name}.weight");
        let tensor = self.required(&weight)?;
        // Old files have a dimension of 1 between the two.
        if tensor.dims() != [taps as u64, 1, channels as u64] {
            expect_shape(tensor, channels, taps)?;
        }
        let by_channel = finite(tensor)?;
        let by_tap = (0..taps).flat_map(|tap| by_channel.iter().skip(tap).step_by(taps));
        let values = by_tap.copied().collect();
        let bias = format!("{name}.bias");
        let bias = match self.has(&bias) {
            true => Some(self.vector(&bias, channels)?),
            false => None,
        };
        Ok(ConvWeights { channels, weight: Vector { name: weight.into(), values }, bias })
    }

    /// Rows of a matrix that is not claimed yet, if the file has it and it has any.
    pub fn rows(&self, name: &str) -> Option<usize> {
        self.left.get(name).map(|tensor| tensor.rows()).filter(|&rows| rows > 0)
    }

    /// Ignores the layers from `first` on: blocks that draft tokens.
    pub fn ignore_layers_from(&mut self, first: usize) {
        let layer = |name: &str| name.strip_prefix("blk.")?.split('.').next()?.parse().ok();
        self.left.retain(|name, _| layer(name).is_none_or(|layer: usize| layer < first));
    }

    /// A vector of `len` floats.
    pub fn vector(&mut self, name: &str, len: usize) -> Result<Vector> {
        let values = floats(self.required(name)?, len)?;
        Ok(Vector { name: name.into(), values })
    }

    /// `len` positive divisors of rotary frequencies, if the file has them.
    pub fn rope_factors(&mut self, name: &str, len: usize) -> Result<Option<Vec<f32>>> {
        let Some(tensor) = self.left.remove(name) else { return Ok(None) };
        let factors = floats(tensor, tensor.cols())?;
        if factors.len() != len || factors.iter().any(|&factor| factor <= 0.0) {
            return Err(Error::tensor(name, format!("should hold {len} positive factors")));
        }
        Ok(Some(factors))
    }

    /// # Errors
    /// [`Error::Unsupported`] for a tensor that is left of a model with `layers` layers.
    pub fn all_claimed(self, layers: usize) -> Result<()> {
        // Old files carry these precomputed tables; they hold nothing new.
        let left = self.left.keys().filter(|name| !name.ends_with(".attn_rot_embd"));
        match left.min() {
            None => Ok(()),
            Some(name) => {
                let problem = format!(
                    "is not known for this architecture with {layers} layers; the text would be \
                     wrong"
                );
                Err(Error::unsupported(Place::Tensor((*name).to_owned()), problem))
            }
        }
    }
}

fn missing(name: &str) -> Error {
    Error::tensor(name, "is missing; the file is not a complete model (vocabulary only?)")
}

fn expect_shape(tensor: &Tensor, rows: usize, cols: usize) -> Result<()> {
    expect_dims(tensor, &[cols, rows])
}

fn expect_dims(tensor: &Tensor, dims: &[usize]) -> Result<()> {
    let found = tensor.dims();
    if !found.iter().copied().eq(dims.iter().map(|&dim| dim as u64)) {
        let problem = format!("has shape {found:?}; the metadata implies {dims:?}");
        return Err(Error::tensor(tensor.name(), problem));
    }
    Ok(())
}

/// A one-dimensional tensor of `len` finite floats.
fn floats(tensor: &Tensor, len: usize) -> Result<Vec<f32>> {
    let name = tensor.name();
    if tensor.dims() != [len as u64] {
        let found = tensor.dims();
        return Err(Error::tensor(name, format!("has shape {found:?}; expected [{len}]")));
    }
    finite(tensor)
}

/// Finite floats.
fn finite(tensor: &Tensor) -> Result<Vec<f32>> {
    let name = tensor.name();
    if !matches!(tensor.format(), Format::F32 | Format::F16 | Format::BF16) {
        let problem = format!("is {}; a float format is expected", tensor.format());
        return Err(Error::unsupported(Place::Tensor(name.to_owned()), problem));
    }
    let values = tensor.to_f32()?;
    match values.iter().position(|x| !x.is_finite()) {
        Some(index) => Err(Error::tensor(name, format!("value {index} is {}", values[index]))),
        None => Ok(values),
    }
}
