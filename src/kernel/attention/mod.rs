//! Grouped-query attention of the rows of a batch over the positions they see.
//!
//! | file | |
//! |---|---|
//! | `prepare.rs` | norm, rotary embedding and scale of a head |
//! | `append.rs` | keys and values to their pages |
//! | `integer.rs` | attention over integer codes: the default |
//! | `float.rs` | attention in f32, for comparing engines |
//! | `block.rs` | queries of one KV head and what they see |
//! | `queries.rs` | integer codes of the queries of a block |
//! | `ahead.rs` | fetching of what is read next |
//! | `weigh.rs` | the softmax of a page |
//! | `fixed.rs`, `unpack.rs` | f32 to integer codes; codes of Q8_0 to 16 bits |
//!
//! Work is shared out as blocks: one KV head and the queries of a few rows, so
//! that what is read of a page serves all of them. Few blocks with a long past
//! (decode on many cores) are divided once more, by chunks of the past. None of
//! this changes a bit of the result.

mod ahead;
mod append;
mod block;
mod fixed;
mod float;
mod integer;
mod prepare;
mod queries;
mod unpack;
mod weigh;

use std::cell::RefCell;
use std::cmp::Reverse;
use std::ops::Range;

use super::pool::Team;
use crate::kv_cache::{HeadMut, KvCache, KvLayer, KvType};
use crate::simd::Isa;
use append::Append;
use block::Block;
use float::Float;
use integer::{Join, Part, Scratch, State, Whole};
pub(crate) use prepare::{HeadNorm, Prepare};

/// Queries of a block: as many as share a page in the first-level cache with
/// their own buffers in the second.
const QUERIES: usize = 64;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Which positions of its text a row sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    /// Itself and those before it, as far as the window of the cache's layer reaches.
    Before,
    /// Those up to `reach` away on either side. All of a text must be in the pass.
    Around { reach: usize },
}

/// What the parts of one step of attention have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attention<'a> {
    pub isa: Isa,
    /// Which of the cache's layers.
    pub layer: usize,
    pub sight: Sight,
    pub queries: Prepare<'a>,
    pub keys: Prepare<'a>,
    pub values: Prepare<'a>,
    /// Scores are divided by it: √head_dim, most often.
    pub divisor: f32,
    /// Then they go through `cap · tanh(score / cap)`.
    pub soft_cap: Option<f32>,
    /// `[heads]`: what is then taken from a score per position of distance between query and
    /// key (ALiBi: Press et al. 2021).
    pub slopes: Option<&'a [f32]>,
    /// `[heads]`: one more score in the sum of each head's softmax, without a value.
    pub sinks: Option<&'a [f32]>,
}

impl Attention<'_> {
    /// Prepares keys and values and appends them (`[batch, kv_dim]`) to the
    /// caches, which have reserved positions for their rows of the batch.
    pub fn append(
        &self,
        team: &Team<'_>,
        caches: Vec<(&mut KvCache, Range<usize>)>,
        k: &[f32],
        v: &[f32],
    ) {
        let Attention { isa, layer, keys, values, .. } = *self;
        let Some(KvLayer { kv_heads, head_dim, .. }) = layer_of(&caches, layer) else { return };
        let mut items: Vec<(HeadMut<'_>, usize, Range<usize>, usize)> = Vec::new();
        for (cache, batch) in caches {
            for page in cache.allocated(layer, batch.len()) {
                let rows = batch.start + page.rows.start..batch.start + page.rows.end;
                let heads = page.heads.into_iter().enumerate();
                items.extend(heads.map(|(h, head)| (head, h, rows.clone(), page.slot)));
            }
        }
        team.share(&mut items, |_, (head, kv_head, rows, slot)| {
            let (kv_head, rows, slot, kv_dim) =
                (*kv_head, rows.clone(), *slot, kv_heads * head_dim);
            isa.run(Append { keys, values, k, v, kv_dim, head_dim, kv_head, rows, slot, head });
        });
    }

    /// `out ← attention(q)`, both `[batch, q_dim]`, for the rows of each cache.
    pub fn attend(
        &self,
        team: &Team<'_>,
        caches: &[(&KvCache, Range<usize>)],
        q: &[f32],
        out: &mut [f32],
    ) {
        let rows = caches.last().map_or(0, |(_, rows)| rows.end);
        if rows == 0 {
            return;
        }
        let mut items = self.items(caches, q, q.len() / rows, out);
        // Heads one after the other, the longest pasts first.
        items.sort_by_key(|(block, _)| (block.kv_head, Reverse(block.seen().end)));
        if self.apart(team.threads(), &items) {
            return self.by_chunks(team, &mut items);
        }
        team.share(&mut items, |_, (block, outs)| match block.cache.shape().kv_type() {
            KvType::F32 => self.isa.run(Float { block, outs }),
            _ => SCRATCH.with_borrow_mut(|scratch| self.isa.run(Whole { block, scratch, outs })),
        });
    }

    /// All blocks with their places in `out`.
    fn items<'b>(
        &self,
        caches: &[(&'b KvCache, Range<usize>)],
        q: &'b [f32],
        q_dim: usize,
        out: &'b mut [f32],
    ) -> Vec<Item<'b>>
    where
        Self: 'b,
    {
        let Some(KvLayer { kv_heads, head_dim, .. }) = layer_of(caches, self.layer) else {
            return Vec::new();
        };
        let group_dim = q_dim / kv_heads;
        let rows_of_block = (QUERIES * head_dim / group_dim).max(1);
        let mut items: Vec<Item<'b>> = Vec::new();
        let mut pieces = out.chunks_exact_mut(group_dim);
        for (cache, batch) in caches {
            for start in batch.clone().step_by(rows_of_block) {
                let rows = start..batch.end.min(start + rows_of_block);
                let position = cache.len() + start - batch.start;
                let first = items.len();
                for kv_head in 0..kv_heads {
                    let block = Block {
                        cache,
                        layer: self.layer,
                        sight: self.sight,
                        end: cache.len() + batch.len(),
                        kv_head,
                        q,
                        q_dim,
                        prepare: self.queries,
                        divisor: self.divisor,
                        soft_cap: self.soft_cap,
                        slopes: self.slopes,
                        sinks: self.sinks,
                        rows: rows.clone(),
                        position,
                    };
                    items.push((block, Vec::new()));
                }
                for _ in rows {
                    for ((_, outs), piece) in items[first..].iter_mut().zip(&mut pieces) {
                        outs.push(piece);
                    }
                }
            }
        }
        items
    }

    /// Whether blocks are too few for the threads.
    fn apart(&self, threads: usize, items: &[Item<'_>]) -> bool {
        let integers = items.iter().all(|(b, _)| b.cache.shape().kv_type() != KvType::F32);
        let few = items.len() < 4 * threads && !items.len().is_multiple_of(threads);
        integers && few && items.iter().any(|(block, _)| block.chunks().len() > 1)
    }

    /// First every chunk of every block, then the joins.
    fn by_chunks(&self, team: &Team<'_>, items: &mut [Item<'_>]) {
        let mut parts: Vec<State> = Vec::new();
        let mut chunks: Vec<(&Block<'_>, usize)> = Vec::new();
        for (block, _) in items.iter() {
            chunks.extend(block.chunks().map(|chunk| (block, chunk)));
        }
        parts.resize_with(chunks.len(), State::default);
        team.share(&mut parts, |i, out| {
            let (block, chunk) = chunks[i];
            SCRATCH.with_borrow_mut(|scratch| self.isa.run(Part { block, chunk, scratch, out }));
        });
        let mut rest = &parts[..];
        let mut joins: Vec<_> = Vec::new();
        for (block, outs) in items {
            let (own, after) = rest.split_at(block.chunks().len());
            rest = after;
            joins.push((&*block, own, outs));
        }
        team.share(&mut joins, |_, (block, parts, outs)| {
            SCRATCH.with_borrow_mut(|scratch| self.isa.run(Join { block, parts, scratch, outs }));
        });
    }
}

/// The shape of layer `layer`: all caches of a pass are of one model.
fn layer_of<C: std::borrow::Borrow<KvCache>>(
    caches: &[(C, Range<usize>)],
    layer: usize,
) -> Option<KvLayer> {
    caches.first().map(|(cache, _)| cache.borrow().shape().layers()[layer])
}

/// A block and its rows' places in the output, `[group, head_dim]` each.
type Item<'a> = (Block<'a>, Vec<&'a mut [f32]>);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::kernel::pool::Pool;
    use crate::kv_cache::KvShape;

    const TYPES: [KvType; 3] = [KvType::I16, KvType::Q8_0, KvType::F32];

    /// One layer of a network and the numbers that meet in it.
    #[derive(Debug, Clone)]
    struct Case {
        group: usize,
        kv_heads: usize,
        head_dim: usize,
        window: Option<usize>,
        /// `[heads]`
        slopes: Option<Vec<f32>>,
        /// `[heads]`
        sinks: Option<Vec<f32>>,
        sight: Sight,
        positions: usize,
        /// `[positions, heads · head_dim]`, `[positions, kv_heads · head_dim]` twice
        q: Vec<f32>,
        k: Vec<f32>,
        v: Vec<f32>,
    }

    fn number(seed: usize) -> f32 {
        let mixed = (seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((mixed >> 40) as f32 / (1 << 24) as f32 - 0.5) * 4.0
    }

    impl Case {
        fn new(group: usize, kv_heads: usize, head_dim: usize, positions: usize) -> Case {
            let numbers = |seed: usize, width: usize| {
                (0..positions * width * head_dim).map(|i| number(seed + i)).collect()
            };
            let (q, k, v) = (
                numbers(1, group * kv_heads),
                numbers(1 << 20, kv_heads),
                numbers(1 << 21, kv_heads),
            );
            let (window, sight, slopes, sinks) = (None, Sight::Before, None, None);
            Case { group, kv_heads, head_dim, window, sight, slopes, sinks, positions, q, k, v }
        }

        /// Attention of all positions, fed in chunks of `chunk`.
        fn run(&self, kv_type: KvType, isa: Isa, threads: usize, chunk: usize) -> Vec<f32> {
            let (kv_heads, head_dim) = (self.kv_heads, self.head_dim);
            let layer = KvLayer { kv_heads, head_dim, window: self.window };
            let shape = KvShape::new(vec![layer], kv_type, false);
            let mut cache = KvCache::new(Arc::new(shape), self.positions);
            let (kv_dim, q_dim) = (kv_heads * head_dim, self.group * kv_heads * head_dim);
            let mut out = vec![f32::NAN; self.positions * q_dim];
            // Nothing is prepared: the definition below stays short.
            let as_is = Prepare::default();
            let attention = Attention {
                isa,
                layer: 0,
                sight: self.sight,
                queries: as_is,
                keys: as_is,
                values: as_is,
                divisor: (head_dim as f32).sqrt(),
                soft_cap: None,
                slopes: self.slopes.as_deref(),
                sinks: self.sinks.as_deref(),
            };
            let pool = Pool::new(threads).unwrap();
            for start in (0..self.positions).step_by(chunk) {
                let rows = chunk.min(self.positions - start);
                cache.allocate(rows).unwrap();
                let kv = start * kv_dim..(start + rows) * kv_dim;
                let q = start * q_dim..(start + rows) * q_dim;
                pool.region(|team| {
                    let (k, v) = (&self.k[kv.clone()], &self.v[kv]);
                    attention.append(team, vec![(&mut cache, 0..rows)], k, v);
                    attention.attend(team, &[(&cache, 0..rows)], &self.q[q.clone()], &mut out[q]);
                });
                cache.commit(rows);
            }
            out
        }

        /// Softmax attention straight from its definition, in f64.
        fn exact(&self, position: usize, head: usize) -> Vec<f64> {
            let (dim, kv_head) = (self.head_dim, head / self.group);
            let query = &self.q[(position * self.group * self.kv_heads + head) * dim..][..dim];
            let before = self.window.map_or(0, |w| (position + 1).saturating_sub(w));
            let (start, last) = match self.sight {
                Sight::Before => (before, position),
                Sight::Around { reach } => {
                    let last = position.saturating_add(reach).min(self.positions - 1);
                    (position.saturating_sub(reach), last)
                }
            };
            let part =
                |all: &[f32], p: usize| all[(p * self.kv_heads + kv_head) * dim..][..dim].to_vec();
            let score = |p: usize| -> f64 {
                let key = part(&self.k, p);
                let products = query.iter().zip(key).map(|(a, b)| f64::from(*a) * f64::from(b));
                let slope = self.slopes.as_ref().map_or(0.0, |slopes| f64::from(slopes[head]));
                let distance = position.abs_diff(p) as f64;
                products.sum::<f64>() / (dim as f64).sqrt() - slope * distance
            };
            let scores: Vec<f64> = (start..=last).map(score).collect();
            let sink = self.sinks.as_ref().map(|sinks| f64::from(sinks[head]));
            let all = || scores.iter().copied().chain(sink);
            let max = all().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = all().map(|s| (s - max).exp()).sum();
            let mut out = vec![0.0; dim];
            for (p, score) in (start..).zip(scores) {
                for (out, v) in out.iter_mut().zip(part(&self.v, p)) {
                    *out += (score - max).exp() / total * f64::from(v);
                }
            }
            out
        }

        /// The largest error against the definition.
        fn error(&self, out: &[f32]) -> f64 {
            let heads = self.group * self.kv_heads;
            let mut worst = 0f64;
            for (n, out) in out.chunks(self.head_dim).enumerate() {
                for (a, b) in out.iter().zip(self.exact(n / heads, n % heads)) {
                    let error = (f64::from(*a) - b).abs();
                    worst = if error <= worst { worst } else { error };
                }
            }
            worst
        }
    }

    fn bits(x: &[f32]) -> Vec<u32> {
        x.iter().map(|x| x.to_bits()).collect()
    }

    /// For values in −2..2: the codes' half step, through scores and weights.
    fn tolerance(kv_type: KvType) -> f64 {
        match kv_type {
            KvType::F32 => 1e-5,
            KvType::I16 => 2e-3,
            KvType::Q8_0 => 4e-2,
        }
    }

    #[test]
    fn equals_the_definition_on_every_set_and_across_pages() {
        for kv_type in TYPES {
            for window in [None, Some(1), Some(64), Some(70)] {
                let case = Case { window, ..Case::new(3, 2, 24, 200) };
                let first = case.run(kv_type, Isa::detect(), 1, 200);
                let error = case.error(&first);
                assert!(error < tolerance(kv_type), "{kv_type:?} {window:?}: {error}");
                for isa in Isa::available() {
                    for chunk in [200, 1, 37] {
                        let out = case.run(kv_type, isa, 2, chunk);
                        assert_eq!(
                            bits(&out),
                            bits(&first),
                            "{kv_type:?} {isa} {window:?} {chunk}"
                        );
                    }
                }
            }
        }
    }

    /// Among them one that leaves nothing to the values, and one that takes nothing.
    #[test]
    fn sinks_take_their_part_of_the_softmax() {
        let sinks = Some(vec![0.5, -3.0, 60.0, -200.0, 2.5, 1.0]);
        for kv_type in TYPES {
            for window in [None, Some(64)] {
                let sinks = sinks.clone();
                let case = Case { window, sinks, ..Case::new(3, 2, 24, 200) };
                let first = case.run(kv_type, Isa::detect(), 1, 200);
                let error = case.error(&first);
                assert!(error < tolerance(kv_type), "{kv_type:?} {window:?}: {error}");
                let of_head = |n: usize| first.chunks(24).skip(n).step_by(6).flatten();
                assert!(of_head(2).all(|x| x.abs() < 1e-20) && of_head(0).any(|x| x.abs() > 0.01));
                for isa in Isa::available() {
                    for chunk in [1, 37] {
                        let out = case.run(kv_type, isa, 2, chunk);
                        assert_eq!(bits(&out), bits(&first), "{kv_type:?} {isa} {window:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn both_sides_equal_the_definition_on_every_set() {
        for kv_type in TYPES {
            let plain = [0, 1, 16, 64, 70, usize::MAX].map(|reach| (reach, None));
            let slopes = || Some(vec![0.5, 0.125, 4.0, 1e-3, 0.03, 1.0]);
            for (reach, slopes) in plain.into_iter().chain([(70, slopes()), (usize::MAX, slopes())])
            {
                let sight = Sight::Around { reach };
                let case = Case { sight, slopes, ..Case::new(3, 2, 24, 200) };
                let first = case.run(kv_type, Isa::detect(), 1, 200);
                let error = case.error(&first);
                assert!(error < tolerance(kv_type), "{kv_type:?} {reach}: {error}");
                for isa in Isa::available() {
                    let out = case.run(kv_type, isa, 2, 200);
                    assert_eq!(bits(&out), bits(&first), "{kv_type:?} {isa} {reach}");
                }
            }
            // Divided among threads as well.
            let slopes = || Some(vec![0.5, 4.0, 1e-3, 0.03]);
            for (reach, slopes) in [(500, None), (usize::MAX, None), (usize::MAX, slopes())] {
                let sight = Sight::Around { reach };
                let case = Case { sight, slopes, ..Case::new(4, 1, 16, 1100) };
                let first = case.run(kv_type, Isa::detect(), 1, 1100);
                assert!(case.error(&first) < tolerance(kv_type), "{kv_type:?} {reach}");
                for threads in [3, 5, 7] {
                    let out = case.run(kv_type, Isa::detect(), threads, 1100);
                    assert_eq!(bits(&out), bits(&first), "{kv_type:?} {reach} {threads}");
                }
            }
        }
    }

    /// Long enough that the past is divided among 3 threads but not among 2.
    #[test]
    fn dividing_the_past_changes_no_bit() {
        for kv_type in TYPES {
            let some = || Some(vec![1.0, -1.0, 4.0, 0.0]);
            for (window, sinks, slopes) in [
                (None, None, None),
                (Some(900), None, None),
                (None, some(), None),
                (None, None, Some(vec![0.5, 4.0, 1e-3, 0.03])),
            ] {
                let case = Case { window, sinks, slopes, ..Case::new(4, 1, 16, 1700) };
                let first = case.run(kv_type, Isa::detect(), 1, 1700);
                for (threads, chunk) in [(2, 1000), (3, 1690), (5, 1699), (3, 600)] {
                    let out = case.run(kv_type, Isa::detect(), threads, chunk);
                    assert_eq!(bits(&out), bits(&first), "{kv_type:?} {threads} {chunk}");
                }
                let last = 1699 * 64..1700 * 64;
                let exact: Vec<f64> = (0..4).flat_map(|h| case.exact(1699, h)).collect();
                for (a, b) in first[last].iter().zip(exact) {
                    assert!((f64::from(*a) - b).abs() < tolerance(kv_type), "{kv_type:?}");
                }
            }
        }
    }

    #[test]
    fn zeros_outliers_and_tiny_values_stay_in_bounds() {
        for kv_type in TYPES {
            let mut case = Case::new(2, 1, 32, 80);
            case.k[..32].fill(0.0);
            case.v[32..64].fill(0.0);
            case.q[5 * 64..6 * 64].fill(0.0);
            case.k[10 * 32 + 3] = 300.0; // one large number among small ones
            case.v[20 * 32..21 * 32].iter_mut().for_each(|x| *x *= 1e-30);
            let first = case.run(kv_type, Isa::detect(), 1, 80);
            for isa in Isa::available() {
                assert_eq!(bits(&case.run(kv_type, isa, 2, 7)), bits(&first), "{kv_type:?} {isa}");
            }
            // The zero query weighs all it sees alike, however keys are rounded.
            for (out, exact) in first[5 * 64..][..32].iter().zip(case.exact(5, 0)) {
                assert!((f64::from(*out) - exact).abs() < tolerance(kv_type), "{kv_type:?}");
            }
            assert!(first.iter().all(|x| x.abs() <= 2.01), "{kv_type:?}: a mean of values");
        }
        let mut huge = Case::new(2, 1, 32, 80);
        huge.q.iter_mut().chain(&mut huge.k).chain(&mut huge.v).for_each(|x| *x *= 1e30);
        for kv_type in TYPES {
            for isa in Isa::available() {
                huge.run(kv_type, isa, 1, 80); // must not panic
            }
        }
    }

    #[test]
    fn what_is_not_finite_reaches_the_rows_that_see_it_and_no_other() {
        let (dim, bad) = (16, 70);
        let good = Case { window: Some(60), ..Case::new(2, 1, dim, 150) };
        for kv_type in [KvType::I16, KvType::Q8_0] {
            let clean = good.run(kv_type, Isa::detect(), 1, 150);
            for (number, part) in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY]
                .into_iter()
                .flat_map(|x| [(x, "q"), (x, "k"), (x, "v")])
            {
                let mut case = good.clone();
                match part {
                    "q" => case.q[bad * 2 * dim + 1] = number,
                    "k" => case.k[bad * dim + 1] = number,
                    _ => case.v[bad * dim + 1] = number,
                }
                for isa in Isa::available() {
                    for chunk in [150, 1] {
                        let out = case.run(kv_type, isa, 1, chunk);
                        for p in 0..150 {
                            let row = &out[p * 2 * dim..(p + 1) * 2 * dim];
                            let context = format!("{kv_type:?} {isa} {number} in {part}, row {p}");
                            match part {
                                "q" if p == bad => {
                                    assert!(row[..dim].iter().all(|x| x.is_nan()), "{context}");
                                }
                                "k" | "v" if (bad..bad + 60).contains(&p) => {
                                    assert!(row.iter().all(|x| x.is_nan()), "{context}");
                                }
                                _ => assert_eq!(
                                    bits(row),
                                    bits(&clean[p * 2 * dim..(p + 1) * 2 * dim]),
                                    "{context}"
                                ),
                            }
                        }
                    }
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn any_shape_is_close_to_the_definition_and_the_same_however_computed(
            group in 1usize..=8, kv_heads in 1usize..=3, head_dim in 1usize..=150,
            positions in 1usize..=140, window in proptest::option::of(1usize..100),
            chunk in 1usize..=140, threads in 1usize..=4,
        ) {
            let case = Case { window, ..Case::new(group, kv_heads, head_dim, positions) };
            for kv_type in TYPES {
                let first = case.run(kv_type, Isa::detect(), 1, positions);
                let error = case.error(&first);
                prop_assert!(error < tolerance(kv_type), "{kv_type:?}: {error}");
                for isa in Isa::available() {
                    let out = case.run(kv_type, isa, threads, chunk);
                    prop_assert_eq!(bits(&out), bits(&first), "{:?} {}", kv_type, isa);
                }
            }
        }
    }
}
