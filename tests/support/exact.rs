//! A plain forward pass in f64 over the weights that a GGUF file means: the reference that
//! the library's logits are compared with.
//!
//! It takes the reader of files and the reference dequantizer from the library (both have
//! tests of their own) and nothing else: one loop per formula, everything computed anew for
//! every layer and position. What a file's keys mean is written here a second time on purpose.

use std::ops::Range;

use tramontane::Gguf;
use tramontane::gguf::Value;

/// What a file leaves open.
#[derive(Debug, Clone, Copy, Default)]
pub struct Context {
    /// Whether the context is longer than the original one: the choice of LongRoPE.
    pub long: bool,
    /// Each position sees itself and the `window - 1` before it; everything if `None`.
    pub window: Option<usize>,
}

/// Logits of every position, `[ids, n_vocab]`.
pub fn logits(file: &Gguf, ids: &[u32], context: Context) -> Vec<f32> {
    let model = Exact::new(file);
    let rope = Rope::new(&model, context.long);
    let embeddings = model.matrix("token_embd.weight");
    let mut x: Rows = ids.iter().map(|&id| embeddings.row(id as usize).to_vec()).collect();
    for layer in 0..model.layers {
        model.layer(&format!("blk.{layer}"), &rope, context.window, &mut x);
    }
    let norm = model.vector("output_norm.weight").unwrap();
    let normed: Rows = x.iter().map(|x| model.rms_norm(x, &norm)).collect();
    let head = match file.tensor("output.weight") {
        Some(_) => model.matrix("output.weight"),
        None => embeddings,
    };
    let rows = head.times(&normed, 0..head.rows());
    rows.into_iter().flatten().map(|logit| logit as f32).collect()
}

/// One row of values per position.
type Rows = Vec<Vec<f64>>;

struct Exact<'g> {
    file: &'g Gguf,
    arch: String,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    eps: f64,
}

impl<'g> Exact<'g> {
    fn new(file: &'g Gguf) -> Self {
        let arch = file.metadata().str("general.architecture").unwrap().to_owned();
        let mut model =
            Exact { file, arch, layers: 0, heads: 0, kv_heads: 0, head_dim: 0, eps: 0.0 };
        model.layers = model.number("block_count").unwrap() as usize;
        model.heads = model.number("attention.head_count").unwrap() as usize;
        let kv_heads = model.number("attention.head_count_kv");
        model.kv_heads = kv_heads.map_or(model.heads, |heads| heads as usize);
        let width = model.number("embedding_length").unwrap() as usize;
        let head_dim = model.number("attention.key_length");
        model.head_dim = head_dim.map_or(width / model.heads, |dim| dim as usize);
        model.eps = model.number("attention.layer_norm_rms_epsilon").unwrap();
        model
    }

    /// The key `<architecture>.<key>`.
    fn number(&self, key: &str) -> Option<f64> {
        match self.file.metadata().get(&format!("{}.{key}", self.arch))? {
            Value::F32(x) => Some(f64::from(*x)),
            Value::F64(x) => Some(*x),
            value => value.as_integer().map(|x| x as f64),
        }
    }

    fn vector(&self, name: &str) -> Option<Vec<f64>> {
        let values = self.file.tensor(name)?.to_f32().unwrap();
        Some(values.into_iter().map(f64::from).collect())
    }

    fn matrix(&self, name: &str) -> Matrix {
        let cols = self.file.tensor(name).expect(name).cols();
        Matrix { cols, values: self.vector(name).unwrap() }
    }

    /// `rows` of the matrix `<name>.weight` times each of `x`, plus `<name>.bias`.
    fn linear(&self, name: &str, rows: Option<Range<usize>>, x: &Rows) -> Rows {
        let matrix = self.matrix(&format!("{name}.weight"));
        let rows = rows.unwrap_or(0..matrix.rows());
        let mut y = matrix.times(x, rows.clone());
        if let Some(bias) = self.vector(&format!("{name}.bias")) {
            for y in &mut y {
                y.iter_mut().zip(&bias[rows.clone()]).for_each(|(y, b)| *y += b);
            }
        }
        y
    }

    fn rms_norm(&self, x: &[f64], weight: &[f64]) -> Vec<f64> {
        let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        let scale = 1.0 / (mean + self.eps).sqrt();
        x.iter().zip(weight).map(|(x, w)| x * scale * w).collect()
    }

    fn layer(&self, name: &str, rope: &Rope, window: Option<usize>, x: &mut Rows) {
        let norm = self.vector(&format!("{name}.attn_norm.weight")).unwrap();
        let normed: Rows = x.iter().map(|x| self.rms_norm(x, &norm)).collect();
        add(x, &self.attention(name, rope, window, &normed));
        let norm = self.vector(&format!("{name}.ffn_norm.weight")).unwrap();
        let normed: Rows = x.iter().map(|x| self.rms_norm(x, &norm)).collect();
        add(x, &self.feed_forward(name, &normed));
    }

    fn attention(&self, name: &str, rope: &Rope, window: Option<usize>, x: &Rows) -> Rows {
        let (q_rows, kv_rows) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let part = |part: &str, at: usize, rows: usize| match self
            .file
            .tensor(&format!("{name}.attn_qkv.weight"))
        {
            Some(_) => self.linear(&format!("{name}.attn_qkv"), Some(at..at + rows), x),
            None => self.linear(&format!("{name}.attn_{part}"), None, x),
        };
        let mut q = part("q", 0, q_rows);
        let mut k = part("k", q_rows, kv_rows);
        let v = part("v", q_rows + kv_rows, kv_rows);
        for (heads, part) in [(&mut q, "q"), (&mut k, "k")] {
            let norm = self.vector(&format!("{name}.attn_{part}_norm.weight"));
            // Of each head, or of all heads of a row together.
            let of_row = norm.as_ref().filter(|norm| norm.len() != self.head_dim);
            let norm = norm.as_ref().filter(|norm| norm.len() == self.head_dim);
            for (position, row) in heads.iter_mut().enumerate() {
                if let Some(norm) = of_row {
                    let normed = self.rms_norm(row, norm);
                    row.copy_from_slice(&normed);
                }
                for head in row.chunks_mut(self.head_dim) {
                    if let Some(norm) = norm {
                        head.copy_from_slice(&self.rms_norm(head, norm));
                    }
                    rope.turn(position, head);
                }
            }
        }
        for (position, row) in q.iter_mut().enumerate() {
            let scale = rope.query_scale(position);
            row.iter_mut().for_each(|q| *q *= scale);
        }
        let mixed = (0..x.len()).map(|position| {
            let first = window.map_or(0, |window| (position + 1).saturating_sub(window));
            self.attend(&q[position], &k[first..=position], &v[first..=position])
        });
        self.linear(&format!("{name}.attn_output"), None, &mixed.collect())
    }

    /// The values that one position's heads see, weighted by softmax of q·k.
    fn attend(&self, q: &[f64], k: &[Vec<f64>], v: &[Vec<f64>]) -> Vec<f64> {
        let dim = self.head_dim;
        let mut mixed = vec![0.0; self.heads * dim];
        for (head, mixed) in mixed.chunks_mut(dim).enumerate() {
            let kv = head * self.kv_heads / self.heads * dim;
            let q = &q[head * dim..(head + 1) * dim];
            let scores: Vec<f64> =
                k.iter().map(|k| dot(q, &k[kv..kv + dim]) / (dim as f64).sqrt()).collect();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().map(|score| (score - max).exp()).sum();
            for (score, v) in scores.iter().zip(v) {
                let weight = (score - max).exp() / sum;
                mixed.iter_mut().zip(&v[kv..]).for_each(|(m, v)| *m += weight * v);
            }
        }
        mixed
    }

    /// The likeliest experts of each row, each times its probability.
    fn experts(&self, name: &str, x: &Rows) -> Rows {
        let used = self.number("expert_used_count").unwrap() as usize;
        let logits = self.linear(&format!("{name}.ffn_gate_inp"), None, x);
        let count = logits[0].len();
        let of_expert = |expert: usize| {
            let part = |part: &str, x: &Rows| {
                let name = format!("{name}.ffn_{part}_exps");
                let rows = self.file.tensor(&format!("{name}.weight")).unwrap().rows() / count;
                self.linear(&name, Some(expert * rows..(expert + 1) * rows), x)
            };
            part("down", &gated(&part("gate", x), &part("up", x)))
        };
        let outs: Vec<Rows> = (0..count).map(of_expert).collect();
        let of_row = |(row, logits): (usize, &Vec<f64>)| {
            let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
            let mut experts: Vec<usize> = (0..count).collect();
            experts.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
            let mut out = vec![0.0; x[row].len()];
            for &expert in &experts[..used] {
                let weight = logits[expert].exp() / sum;
                out.iter_mut().zip(&outs[expert][row]).for_each(|(x, y)| *x += weight * y);
            }
            out
        };
        logits.iter().enumerate().map(of_row).collect()
    }

    fn feed_forward(&self, name: &str, x: &Rows) -> Rows {
        if self.file.tensor(&format!("{name}.ffn_gate_inp.weight")).is_some() {
            return self.experts(name, x);
        }
        let up = format!("{name}.ffn_up");
        let (gate, up) = match self.file.tensor(&format!("{name}.ffn_gate.weight")) {
            Some(_) => {
                (self.linear(&format!("{name}.ffn_gate"), None, x), self.linear(&up, None, x))
            }
            None => {
                // Both in one tensor, the gate first.
                let half = self.file.tensor(&format!("{up}.weight")).unwrap().rows() / 2;
                (self.linear(&up, Some(0..half), x), self.linear(&up, Some(half..2 * half), x))
            }
        };
        self.linear(&format!("{name}.ffn_down"), None, &gated(&gate, &up))
    }
}

/// `silu(gate) · up`
fn gated(gate: &Rows, up: &Rows) -> Rows {
    let of_row = |(gate, up): (&Vec<f64>, &Vec<f64>)| {
        gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect()
    };
    gate.iter().zip(up).map(of_row).collect()
}

fn add(x: &mut Rows, y: &Rows) {
    for (x, y) in x.iter_mut().zip(y) {
        x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
    }
}

/// Eight running sums: one alone would wait for itself at every step.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a, a_rest) = a.as_chunks::<8>();
    let (b, b_rest) = b.as_chunks::<8>();
    for (a, b) in a.iter().zip(b) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f64>()
}

struct Matrix {
    cols: usize,
    values: Vec<f64>,
}

impl Matrix {
    fn rows(&self) -> usize {
        self.values.len() / self.cols
    }

    fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.cols..(row + 1) * self.cols]
    }

    fn times(&self, x: &Rows, rows: Range<usize>) -> Rows {
        x.iter().map(|x| rows.clone().map(|row| dot(self.row(row), x)).collect()).collect()
    }
}

/// Rotary position embedding.
struct Rope {
    /// Neighbours (2i, 2i + 1) are a pair, or else (i, i + pairs).
    neighbours: bool,
    /// Angle per position of each pair; what is behind the pairs does not turn.
    frequencies: Vec<f64>,
    /// Factor on cosine and sine.
    magnitude: f64,
    /// Original context and factor of the query's temperature.
    temperature: Option<(f64, f64)>,
}

impl Rope {
    fn new(model: &Exact, long: bool) -> Rope {
        let turned = model.number("rope.dimension_count").unwrap_or(model.head_dim as f64);
        let base = model.number("rope.freq_base").unwrap_or(10_000.0);
        let original = model.number("rope.scaling.original_context_length");
        let factors = model.vector("rope_freqs.weight").or_else(|| {
            model.vector(if long {
                "rope_factors_long.weight"
            } else {
                "rope_factors_short.weight"
            })
        });
        let pairs = turned as usize / 2;
        let mut rope = Rope {
            neighbours: matches!(model.arch.as_str(), "llama" | "mistral3"),
            frequencies: (0..pairs).map(|i| base.powf(-2.0 * i as f64 / turned)).collect(),
            magnitude: model.number("rope.scaling.attn_factor").unwrap_or(1.0),
            temperature: original.zip(model.number("attention.temperature_scale")),
        };
        if let Some(factors) = factors {
            rope.frequencies.iter_mut().zip(factors).for_each(|(f, factor)| *f /= factor);
        }
        let kind = model.file.metadata().opt_str(&format!("{}.rope.scaling.type", model.arch));
        match (kind.unwrap(), model.number("rope.scaling.factor")) {
            (Some("yarn"), Some(factor)) => rope.yarn(model, turned, base, factor),
            (None | Some("linear"), Some(factor)) => {
                rope.frequencies.iter_mut().for_each(|f| *f /= factor);
            }
            _ => {}
        }
        rope
    }

    /// Low frequencies are divided by `factor`, high ones stay, with a ramp between.
    fn yarn(&mut self, model: &Exact, turned: f64, base: f64, factor: f64) {
        let original = model.number("rope.scaling.original_context_length").unwrap();
        let pair_of = |beta: f64| {
            turned * (original / (2.0 * std::f64::consts::PI * beta)).ln() / (2.0 * base.ln())
        };
        let beta = |key: &str, default| model.number(key).unwrap_or(default);
        let low = pair_of(beta("rope.scaling.yarn_beta_fast", 32.0)).floor().max(0.0);
        let high = pair_of(beta("rope.scaling.yarn_beta_slow", 1.0)).ceil().min(turned - 1.0);
        for (i, frequency) in self.frequencies.iter_mut().enumerate() {
            let mix = 1.0 - ((i as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
            *frequency = *frequency / factor * (1.0 - mix) + *frequency * mix;
        }
        let spread = |m: f64| 0.1 * m * factor.ln() + 1.0;
        self.magnitude *= match model.number("rope.scaling.yarn_log_multiplier") {
            Some(m) if m != 0.0 => spread(1.0) / spread(m),
            _ => spread(1.0),
        };
    }

    fn turn(&self, position: usize, head: &mut [f64]) {
        let pairs = self.frequencies.len();
        for (i, frequency) in self.frequencies.iter().enumerate() {
            let (a, b) = if self.neighbours { (2 * i, 2 * i + 1) } else { (i, i + pairs) };
            let (sin, cos) = (position as f64 * frequency).sin_cos();
            let (x, y) = (head[a] * self.magnitude, head[b] * self.magnitude);
            (head[a], head[b]) = (x * cos - y * sin, x * sin + y * cos);
        }
    }

    fn query_scale(&self, position: usize) -> f64 {
        let Some((original, scale)) = self.temperature else { return 1.0 };
        1.0 + scale * (1.0 + (position as f64 / original).floor()).ln()
    }
}
