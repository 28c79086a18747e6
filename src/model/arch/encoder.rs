//! What encoders have in common: text seen from both sides, an embedding with positions,
//! kinds and a norm, and what comes behind pooling.

use crate::error::{Error, Result};
use crate::gguf::Metadata;
use crate::kernel::attention::Sight;
use crate::kernel::matrix::Matrix;
use crate::kernel::rope::Rope;
use crate::model::plan::{
    Attention, Classifier, ClassifierActivation, Embed, Head, LayerPlan, Plan, Pooled, Pooling,
};

use super::Source;
use super::decoder::Sizes;
use super::keys::Keys;

/// What an architecture's embedding has beside the rows of the tokens.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct EmbedParts {
    /// Rows for the kinds of texts, if the file counts such.
    pub types: bool,
    /// Rows for so many positions.
    pub positions: Option<usize>,
    pub norm: bool,
}

impl Keys<'_> {
    /// # Errors
    /// [`Error::Unsupported`] if the file says that rows see only what is before them.
    pub fn expect_two_sided(&self) -> Result<()> {
        match self.metadata.opt_bool(&self.name("attention.causal"))? {
            Some(true) => {
                let problem = "is true, which is not supported for this architecture";
                Err(self.unsupported("attention.causal", problem))
            }
            _ => Ok(()),
        }
    }

    /// # Errors
    /// [`Error::Unsupported`] if the file says that rows see both sides.
    pub fn expect_causal(&self) -> Result<()> {
        match self.metadata.opt_bool(&self.name("attention.causal"))? {
            Some(false) => {
                let problem = "is false, which is not supported for this architecture";
                Err(self.unsupported("attention.causal", problem))
            }
            _ => Ok(()),
        }
    }
}

/// The kinds of texts that a file has rows for.
fn type_count(metadata: &Metadata) -> Result<u32> {
    Ok(metadata.opt_u32("tokenizer.ggml.token_type_count")?.unwrap_or(0))
}

/// A layer's attention to what is around each row, within `window` positions in all.
pub(super) fn around(attention: Attention, window: Option<usize>) -> Attention {
    let reach = window.map_or(usize::MAX, |window| window / 2);
    // One layer of a cache serves all: each is done with it before the next begins.
    Attention { sight: Sight::Around { reach }, window: None, cache: 0, ..attention }
}

impl Source<'_> {
    /// Embedding and `layers` by their usual names, without a final norm.
    pub fn encoder(
        &mut self,
        sizes: &Sizes,
        ropes: Vec<Rope>,
        parts: EmbedParts,
        mut layer: impl FnMut(&mut Self, usize) -> Result<LayerPlan>,
    ) -> Result<Plan> {
        self.keys.expect_two_sided()?;
        let (dim, tensors) = (sizes.dim, &mut self.tensors);
        let table = tensors.token_table(dim)?;
        let types = match parts.types && type_count(self.keys.metadata)? > 0 {
            true => Some(tensors.few_rows("token_types.weight", dim)?),
            false => None,
        };
        let positions = match parts.positions {
            Some(count) => Some(tensors.table("position_embd.weight", count, dim)?),
            None => None,
        };
        let norm = match parts.norm {
            true => Some(self.norm("token_embd_norm", sizes)?),
            false => None,
        };
        let embed = Embed { table, scale: 1.0, layer_inputs: None, types, positions, norm };
        let layers = (0..sizes.layers).map(|index| layer(self, index)).collect::<Result<_>>()?;
        let head = Head { norm: None, output: None, scale: 1.0, soft_cap: None };
        let classifier = self.classifier(sizes, Pooling::Cls, ClassifierActivation::Tanh)?;
        let pooled = Pooled { dense: Vec::new(), classifier };
        Ok(Plan { embed, layers, head, pooled, ropes })
    }

    /// The classifier, if the file has one: `cls` and `cls.output`, or either alone.
    pub fn classifier(
        &mut self,
        sizes: &Sizes,
        pooling: Pooling,
        activation: ClassifierActivation,
    ) -> Result<Option<Classifier>> {
        let (has_dense, has_output) =
            (self.tensors.has("cls.weight"), self.tensors.has("cls.output.weight"));
        if !has_dense && !has_output {
            return Ok(None);
        }
        let labels = self.keys.name("classifier.output_labels");
        let named = self.keys.metadata.opt_strings(&labels)?.map(|labels| labels.len());
        if named == Some(0) {
            return Err(Error::key(&labels, "names no label"));
        }
        let tensor = if has_output { "cls.output.weight" } else { "cls.weight" };
        let labels = named.or_else(|| self.tensors.rows(tensor)).unwrap_or(1);
        let dim = sizes.dim;
        let (dense, output) = match has_output {
            true => {
                let dense = match has_dense {
                    true => Some(self.tensors.matrix("cls", dim, dim)?),
                    false => None,
                };
                (dense, self.tensors.labels("cls.output", labels, dim)?)
            }
            false => (None, self.tensors.labels("cls", labels, dim)?),
        };
        let norm = match self.tensors.has("cls.norm.weight") {
            true => Some(self.norm("cls.norm", sizes)?),
            false => None,
        };
        Ok(Some(Classifier { pooling, dense, activation, norm, output, softmax: false }))
    }

    /// `dense_2` and `dense_3`, which vectors of width `dim` are multiplied by, if the file has
    /// them.
    pub fn dense(&mut self, dim: usize) -> Result<Vec<Matrix>> {
        let mut width = dim;
        let mut all = Vec::new();
        for names in [["dense_2", "dense.0"], ["dense_3", "dense.1"]] {
            let weight = |name: &str| format!("{name}.weight");
            let found = names.into_iter().find_map(|name| {
                let rows = self.tensors.rows(&weight(name))?;
                Some((name, rows))
            });
            let Some((name, rows)) = found else { continue };
            let key = self.keys.name(&format!("{}_feat_out", names[0]));
            let asked = self.keys.metadata.opt_u32(&key)?.map_or(rows, |rows| rows as usize);
            all.push(self.tensors.matrix(name, asked, width)?);
            self.keys.name(&format!("{}_feat_in", names[0]));
            width = asked;
        }
        Ok(all)
    }
}
