//! What a forward pass must read and multiply, from the shapes in the file.

use tramontane::{Gguf, Model};

/// Costs of a model.
pub struct Cost {
    /// Bytes of all weights that a pass of one row reads: without the embeddings, of which
    /// it reads a row per token, unless it is the output matrix too, and of experts those
    /// that a row goes to.
    pub weight_bytes: u64,
    /// Weights of the layers' matrices: multiplied for every token.
    layer_weights: u64,
    /// Weights of the output matrix: multiplied once per row of logits.
    head_weights: u64,
    /// Width of all query heads of each layer.
    query_widths: Vec<u64>,
    window: Option<usize>,
}

impl Cost {
    pub fn new(model: &Model, window: Option<usize>) -> Cost {
        let (mut weight_bytes, mut layer_weights) = (0, 0);
        let mut query_widths = Vec::new();
        let file = model.file();
        let head = if file.tensor("output.weight").is_some() { "output" } else { "token_embd" };
        let head = format!("{head}.weight");
        let mut head_weights = 0;
        let (count, used) = experts(file).unwrap_or((1, 1));
        for tensor in file.tensors() {
            let share = |all: usize| match tensor.name().contains("_exps.") {
                true => all as u64 * used / count,
                false => all as u64,
            };
            let weights = share(tensor.rows() * tensor.cols());
            if tensor.name() == head {
                head_weights = weights;
            } else if tensor.name().ends_with("token_embd.weight") {
                continue;
            } else if tensor.dims().len() > 1 {
                layer_weights += weights;
            }
            if tensor.name().ends_with("attn_q.weight") {
                query_widths.push(tensor.rows() as u64);
            }
            weight_bytes += share(tensor.bytes().len());
        }
        Cost { weight_bytes, layer_weights, head_weights, query_widths, window }
    }

    /// Multiply-adds of `tokens` tokens from position `depth` on, with `rows`
    /// rows of logits.
    pub fn multiplications(&self, depth: usize, tokens: usize, rows: usize) -> u64 {
        let seen = |position: usize| (position + 1).min(self.window.unwrap_or(usize::MAX)) as u64;
        let seen: u64 = (depth..depth + tokens).map(seen).sum();
        // Queries · keys, and weights · values.
        let attention: u64 = self.query_widths.iter().map(|width| 2 * width * seen).sum();
        self.layer_weights * tokens as u64 + self.head_weights * rows as u64 + attention
    }
}

/// How many experts there are, and how many a row goes to.
fn experts(file: &Gguf) -> Option<(u64, u64)> {
    let metadata = file.metadata();
    let arch = metadata.str("general.architecture").ok()?;
    let number = |key: &str| metadata.opt_u32(&format!("{arch}.{key}")).ok().flatten();
    let (count, used) = (number("expert_count")?, number("expert_used_count")?);
    (count > 0).then_some((count.into(), used.into()))
}
