//! Attention of one sequence, to be measured.

use std::sync::Arc;

use crate::error::Result;
use crate::kernel::attention::{self, Prepare};
use crate::kernel::pool::Pool;
use crate::kv_cache::{KvCache, KvLayer, KvShape, KvType, PAGE};
use crate::simd::Isa;

/// Positions that are appended at a time.
const CHUNK: usize = 512;

/// The heads of a layer, and how many layers there are: each has its own past.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Query heads that share one of them.
    pub group: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Layers, one after the other.
    pub layers: usize,
}

impl Heads {
    /// Bytes of keys and values that `rows` queries after `depth` positions see,
    /// and their multiply-adds: queries by keys, and weights by values.
    pub fn cost(&self, kv_type: KvType, depth: usize, rows: usize) -> (usize, usize) {
        let Heads { kv_heads, group, head_dim, layers } = *self;
        let page = self.shape(kv_type).head(0).bytes() * kv_heads * layers;
        let bytes = page * (depth + rows) / PAGE;
        let seen: usize = (1..=rows).map(|row| depth + row).sum();
        (bytes, 2 * seen * layers * kv_heads * group * head_dim)
    }

    fn shape(&self, kv_type: KvType) -> KvShape {
        let Heads { kv_heads, head_dim, layers, .. } = *self;
        let layer = KvLayer { kv_heads, head_dim, window: None };
        KvShape::new(vec![layer; layers], kv_type, false)
    }
}

/// The last `rows` positions of a past, to be computed again and again.
#[derive(Debug)]
pub struct Attention {
    pool: Pool,
    isa: Isa,
    heads: Heads,
    cache: KvCache,
    rows: usize,
    /// `[rows, q_dim]`
    q: Vec<f32>,
    out: Vec<f32>,
}

impl Attention {
    /// `rows` queries after `depth` positions of noise.
    ///
    /// # Errors
    /// [`Error::Misuse`](crate::Error::Misuse) for no threads,
    /// [`Error::Limit`](crate::Error::Limit) if memory is short.
    pub fn new(
        heads: Heads,
        kv_type: KvType,
        isa: Isa,
        threads: usize,
        depth: usize,
        rows: usize,
    ) -> Result<Self> {
        let Heads { kv_heads, group, head_dim, .. } = heads;
        let cache = KvCache::new(Arc::new(heads.shape(kv_type)), depth + rows);
        let q = noise(1, rows * group * kv_heads * head_dim);
        let (pool, out) = (Pool::new(threads)?, vec![0.0; q.len()]);
        let mut attention = Attention { pool, isa, heads, cache, rows, q, out };
        for start in (0..depth).step_by(CHUNK) {
            let rows = CHUNK.min(depth - start);
            attention.append(rows)?;
            attention.cache.commit(rows);
        }
        attention.append(rows)?;
        Ok(attention)
    }

    /// Fills the next `rows` positions: by the best set, all write the same.
    fn append(&mut self, rows: usize) -> Result<()> {
        let Attention { pool, heads, cache, .. } = self;
        let Heads { kv_heads, head_dim, layers, .. } = *heads;
        let (seed, len) = (cache.len(), rows * kv_heads * head_dim);
        let (k, v) = (noise(seed + 2, len), noise(seed + 3, len));
        cache.allocate(rows)?;
        pool.region(|team| {
            for layer in 0..layers {
                let attention = of_layer(Isa::detect(), layer, heads);
                attention.append(team, vec![(&mut *cache, 0..rows)], &k, &v);
            }
        });
        Ok(())
    }

    /// Computes every layer once.
    pub fn run(&mut self) -> &[f32] {
        let Attention { pool, isa, heads, cache, rows, q, out } = self;
        pool.region(|team| {
            for layer in 0..heads.layers {
                let attention = of_layer(*isa, layer, heads);
                attention.attend(team, &[(&*cache, 0..*rows)], q, out);
            }
        });
        out
    }
}

/// The attention of a layer whose heads are not prepared.
fn of_layer(isa: Isa, layer: usize, heads: &Heads) -> attention::Attention<'static> {
    let as_is = Prepare::default();
    attention::Attention {
        isa,
        layer,
        sight: attention::Sight::Before,
        queries: as_is,
        keys: as_is,
        values: as_is,
        divisor: (heads.head_dim as f32).sqrt(),
        soft_cap: None,
        slopes: None,
        sinks: None,
    }
}

/// Numbers in −1..1 (a linear congruence).
fn noise(seed: usize, len: usize) -> Vec<f32> {
    let mut state = (seed as u32).wrapping_mul(0x9e37_79b9);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is measured is attention over everything that was appended, and
    /// its figures are those of the shape.
    #[test]
    fn attends_to_the_whole_past_and_counts_it() {
        let heads = Heads { kv_heads: 2, group: 3, head_dim: 32, layers: 2 };
        for isa in Isa::available() {
            let attend = |depth, rows| {
                let made = Attention::new(heads, KvType::I16, isa, 2, depth, rows);
                made.expect("it fits").run().to_vec()
            };
            let one = attend(600, 1);
            assert!(one.iter().all(|x| x.is_finite() && x.abs() < 0.5), "{isa}: a mean of noise");
            assert_ne!(one, attend(599, 1), "{isa}: the depth counts");
            assert_eq!(attend(0, 3).len(), 3 * 6 * 32);
        }
        // 16 bits each, and a scale of 4 bytes per position, head and kind.
        let bytes = 601 * 2 * 2 * 2 * (2 * 32 + 4);
        assert_eq!(heads.cost(KvType::I16, 600, 1), (bytes, 2 * 601 * 2 * 6 * 32));
        assert_eq!(heads.cost(KvType::I16, 0, 3).1, 2 * 6 * 2 * 6 * 32);
    }
}
