//! Attention over integer codes: some queries of one KV head over a chunk of
//! positions.
//!
//! Queries become codes with one scale each, `log2(e) / divisor` folded in.
//! For each page of 64 positions, in ascending order:
//! ```text
//! x[j] = (Σ q·k[j]) · k_scale[j] · q_scale          the sum exact in i32
//!        − slope · |i − j|                          of heads with a slope
//! m' = max x     p[j] = 2^(x[j] − m')     w[j] = p[j] · v_scale[j]     W = max w
//! o' = W / 2¹³ · Σ round(w[j] · 2¹³ / W) · v[j]     the sum exact in i32
//! m″ = max(m, m'), (l, o) = 2^(m − m″)·(l, o) + 2^(m' − m″)·(Σ p[j], o')
//! ```
//! (online softmax: Milakov & Gimelshein 2018). Both sums fit i32: codes are
//! bounded by [`max_code`], and 64 · 2¹³ · 4095 < 2³¹. The sum of p keeps 16
//! lanes until the end. Both products are one kernel, [`product`]: broadcast
//! pairs of 4 queries times lines of the page.
//!
//! Pages join in order into chunks of [`CHUNK`] pages, aligned to absolute
//! positions, and chunks in order into the result. Always both levels, so it
//! does not matter whether one thread or many work on a long context, and what a
//! row gets depends on that row alone. A sink of a head is in the state that the first
//! chunk joins: (m, l, o) = (sink, 1, 0).

use std::ops::Range;

use crate::kernel::math::exp2;
use crate::kv_cache::{Codes, Head, Line, PAGE};
use crate::simd::{Simd, Task};

use super::ahead::Ahead;
use super::block::{Block, CHUNK, TILE};
use super::queries::Queries;
use super::unpack::{Lines, unpack_keys, unpack_values};
use super::weigh::{Scores, weigh};

/// Softmax state of some queries, relative to `2^max`.
#[derive(Debug, Default)]
pub(super) struct State {
    /// `[queries]`
    max: Vec<f32>,
    /// `[queries]` of 16 partial sums
    sum: Vec<[f32; 16]>,
    /// `[queries, width]`
    acc: Vec<[f32; 16]>,
}

impl State {
    fn reset(&mut self, queries: usize, width: usize) {
        self.max.clear();
        self.max.resize(queries, f32::NEG_INFINITY);
        self.sum.clear();
        self.sum.resize(queries, [0.0; 16]);
        self.acc.clear();
        self.acc.resize(queries * width, [0.0; 16]);
    }

    /// The same, before the first chunk of `block`: its sinks are there, 2⁰ relative to
    /// themselves.
    fn begin(&mut self, queries: usize, block: &Block<'_>) {
        self.reset(queries, block.shape().width());
        let Some(sinks) = block.group_sinks() else { return };
        let states = self.max.iter_mut().zip(&mut self.sum);
        for ((max, sum), sink) in states.zip(sinks.iter().cycle()) {
            *max = sink * std::f32::consts::LOG2_E;
            sum[0] = 1.0;
        }
    }
}

/// A thread's working memory.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    queries: Queries,
    part: State,
    whole: State,
    keys: Lines,
    values: Lines,
}

/// All chunks of a block: `[rows]` outputs of `[group, head_dim]`.
pub(super) struct Whole<'a, 'o> {
    pub block: &'a Block<'a>,
    pub scratch: &'a mut Scratch,
    pub outs: &'a mut [&'o mut [f32]],
}

impl Task for Whole<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Whole { block, scratch, outs } = self;
        let Scratch { queries, part, whole, keys, values } = scratch;
        queries.fill(simd, block);
        whole.begin(queries.seen.len(), block);
        for chunk in block.chunks() {
            simd.apart(Chunk { block, queries, chunk, keys, values, state: part });
            merge(simd, part, whole);
        }
        finish(simd, whole, block, outs);
    }
}

/// One chunk of a block.
pub(super) struct Part<'a> {
    pub block: &'a Block<'a>,
    pub chunk: usize,
    pub scratch: &'a mut Scratch,
    pub out: &'a mut State,
}

impl Task for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Part { block, chunk, scratch, out } = self;
        let Scratch { queries, keys, values, .. } = scratch;
        queries.fill(simd, block);
        simd.apart(Chunk { block, queries, chunk, keys, values, state: out });
    }
}

/// Joins the chunks of a block that were computed apart.
pub(super) struct Join<'a, 'o> {
    pub block: &'a Block<'a>,
    /// In the order of the chunks.
    pub parts: &'a [State],
    pub scratch: &'a mut Scratch,
    pub outs: &'a mut [&'o mut [f32]],
}

impl Task for Join<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Join { block, parts, scratch, outs } = self;
        let whole = &mut scratch.whole;
        let queries = (block.rows.len() * block.group()).next_multiple_of(TILE);
        whole.begin(queries, block);
        for part in parts {
            merge(simd, part, whole);
        }
        finish(simd, whole, block, outs);
    }
}

/// [`over_chunk`] in a function of its own, which [`Whole`] and [`Part`] share.
struct Chunk<'a> {
    block: &'a Block<'a>,
    queries: &'a Queries,
    chunk: usize,
    keys: &'a mut Lines,
    values: &'a mut Lines,
    state: &'a mut State,
}

impl Task for Chunk<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Chunk { block, queries, chunk, keys, values, state } = self;
        over_chunk(simd, block, queries, chunk, (keys, values), state);
    }
}

/// The pages of one chunk, in order.
#[inline(always)]
fn over_chunk<S: Simd>(
    simd: S,
    block: &Block<'_>,
    queries: &Queries,
    chunk: usize,
    (keys, values): (&mut Lines, &mut Lines),
    state: &mut State,
) {
    let shape = block.shape();
    state.reset(queries.seen.len(), shape.width());
    let seen = block.seen();
    let first = (chunk * CHUNK).max(seen.start / PAGE);
    let last = ((chunk + 1) * CHUNK).min(seen.end.div_ceil(PAGE));
    for number in first..last {
        let Some(head) = block.cache.head(block.layer, number, block.kv_head) else { continue };
        let next = block.cache.head(block.layer, number + 1, block.kv_head);
        let mut ahead = Ahead::of(shape, head, next, TILE);
        let codes = match head {
            Head::I16(codes) => codes,
            Head::Q8_0 { codes, key_ratios, value_ratios } => {
                let keys = keys.get(codes.keys.len());
                let values = values.get(codes.values.len());
                unpack_keys(simd, codes.keys, key_ratios, keys);
                unpack_values(simd, codes.values, value_ratios, shape.width(), values);
                Codes { keys, values, scales: codes.scales }
            }
            Head::F32 { .. } => continue,
        };
        for tile in 0..queries.seen.len() / TILE {
            let slots = std::array::from_fn(|q| {
                let seen = &queries.seen[tile * TILE + q];
                let slot = |p: usize| p.saturating_sub(number * PAGE).min(PAGE);
                slot(seen.start)..slot(seen.end)
            });
            if slots.iter().any(|slots| !slots.is_empty()) {
                over_page(simd, queries, (tile, number), codes, &mut ahead, &slots, state);
                ahead = Ahead::default();
            }
        }
    }
}

/// Four queries over page `number`.
#[inline(always)]
fn over_page<S: Simd>(
    simd: S,
    queries: &Queries,
    (tile, number): (usize, usize),
    page: Codes<'_, Line>,
    ahead: &mut Ahead,
    slots: &[Range<usize>; TILE],
    state: &mut State,
) {
    let codes = &queries.codes[tile * queries.steps..][..queries.steps];
    let mut scores = [[simd.zero_i32(); 4]; TILE];
    let pairs = |step: usize| codes.get(step).map(|codes| std::array::from_fn(|q| codes[q]));
    if const { S::TILE == 4 } {
        scores = product::<S, 4>(simd, page.keys, 4, 0, ahead, pairs);
    } else {
        #[allow(clippy::needless_range_loop, reason = "v indexes the inner arrays")]
        for v in 0..4 {
            let one = product::<S, 1>(simd, page.keys, 4, v, ahead, pairs);
            (0..TILE).for_each(|q| scores[q][v] = one[q][0]);
        }
    }
    let mut weights = [[0i16; PAGE]; TILE];
    let mut steps = [0.0; TILE];
    // Lanes 0–3: what comes before is multiplied by 2^x; lanes 4–7: the page.
    let mut factors = [0.0; 16];
    let mut sums = [simd.splat(0.0); TILE];
    for q in 0..TILE {
        ahead.fetch_rest(simd);
        if slots[q].is_empty() {
            continue;
        }
        let n = tile * TILE + q;
        let (scale, soft_cap, before) = (queries.scales[n], queries.soft_cap, state.max[n]);
        let distances = queries.distances(n, number * PAGE);
        let scores = Scores { sums: &scores[q], scales: page.scales, scale, soft_cap, distances };
        let page = weigh(simd, scores, &slots[q], &mut weights[q]);
        let max = if page.max > before { page.max } else { before };
        (factors[q], factors[q + TILE]) = (before - max, page.max - max);
        state.max[n] = max;
        (steps[q], sums[q]) = (page.step, page.sum);
    }
    let mut powers = [0.0; 16];
    simd.store(exp2(simd, simd.load(&factors)), &mut powers);
    for q in 0..TILE {
        if !slots[q].is_empty() {
            let sum = &mut state.sum[tile * TILE + q];
            let before = simd.mul(simd.load(sum), simd.splat(powers[q]));
            simd.store(simd.fma(sums[q], simd.splat(powers[q + TILE]), before), sum);
            steps[q] *= powers[q + TILE];
        }
    }
    let width = queries.steps / 8;
    let acc = &mut state.acc[tile * TILE * width..][..TILE * width];
    // The last page is full only once in 64 positions.
    let end = slots.iter().fold(0, |end, slots| end.max(slots.end)).div_ceil(2);
    let pairs = |step: usize| {
        (step < end).then(|| std::array::from_fn(|q| weights[q].as_chunks::<2>().0[step]))
    };
    let mut at = 0;
    while at < width {
        if const { S::TILE == 4 } && width - at >= 4 {
            let sums = product::<S, 4>(simd, page.values, width, at, ahead, pairs);
            add_up(simd, &sums, slots, (&powers, &steps), acc, at);
            at += 4;
        } else {
            let sums = product::<S, 1>(simd, page.values, width, at, ahead, pairs);
            add_up(simd, &sums, slots, (&powers, &steps), acc, at);
            at += 1;
        }
    }
}

/// `acc ← acc · power + sums · step` for the queries that see something.
#[inline(always)]
fn add_up<S: Simd, const V: usize>(
    simd: S,
    sums: &[[S::I32x16; V]; TILE],
    slots: &[Range<usize>; TILE],
    (powers, steps): (&[f32; 16], &[f32; TILE]),
    acc: &mut [[f32; 16]],
    at: usize,
) {
    let width = acc.len() / TILE;
    for q in 0..TILE {
        if slots[q].is_empty() {
            continue;
        }
        let (power, step) = (simd.splat(powers[q]), simd.splat(steps[q]));
        for (acc, &sum) in acc[q * width + at..].iter_mut().zip(&sums[q]) {
            let before = simd.mul(simd.load(acc), power);
            simd.store(simd.fma(simd.to_f32(sum), step, before), acc);
        }
    }
}

/// `out[q][v] = Σ over steps of pairs(step)[q] · lines[step, at + v]`, as pairs.
#[inline(always)]
fn product<S: Simd, const V: usize>(
    simd: S,
    lines: &[Line],
    width: usize,
    at: usize,
    ahead: &mut Ahead,
    pairs: impl Fn(usize) -> Option<[[i16; 2]; TILE]>,
) -> [[S::I32x16; V]; TILE] {
    let mut acc = [[simd.zero_i32(); V]; TILE];
    for (step, lines) in lines.chunks_exact(width).enumerate() {
        let (Some(lines), Some(pairs)) = (lines[at..].first_chunk::<V>(), pairs(step)) else {
            break;
        };
        let mut vectors = [simd.load_i16(&lines[0]); V];
        for (vector, line) in vectors.iter_mut().zip(lines) {
            *vector = simd.load_i16(line);
        }
        ahead.fetch(simd, V);
        for (acc, pair) in acc.iter_mut().zip(&pairs) {
            let pair = simd.splat_pair(pair);
            for (acc, &line) in acc.iter_mut().zip(&vectors) {
                *acc = simd.dot_pairs(*acc, line, pair);
            }
        }
    }
    acc
}

/// Joins `part` to what came before it.
#[inline(always)]
fn merge<S: Simd>(simd: S, part: &State, whole: &mut State) {
    let width = whole.acc.len() / whole.max.len().max(1);
    for n in 0..whole.max.len() {
        // A query that sees nothing of the chunk, or padding.
        if part.sum[n] == [0.0; 16] {
            continue;
        }
        let (before, now) = (whole.max[n], part.max[n]);
        let max = if now > before { now } else { before };
        let mut factors = [0.0; 16];
        (factors[0], factors[1]) = (before - max, now - max);
        let mut powers = [0.0; 16];
        simd.store(exp2(simd, simd.load(&factors)), &mut powers);
        let (before, now) = (simd.splat(powers[0]), simd.splat(powers[1]));
        let join = |whole: &mut [f32; 16], part: &[f32; 16]| {
            let sum = simd.mul(simd.load(whole), before);
            simd.store(simd.fma(simd.load(part), now, sum), whole);
        };
        whole.max[n] = max;
        join(&mut whole.sum[n], &part.sum[n]);
        let span = n * width..(n + 1) * width;
        for (whole, part) in whole.acc[span.clone()].iter_mut().zip(&part.acc[span]) {
            join(whole, part);
        }
    }
}

/// Writes `acc / sum`.
#[inline(always)]
fn finish<S: Simd>(simd: S, state: &State, block: &Block<'_>, outs: &mut [&mut [f32]]) {
    let width = block.shape().width();
    let heads = outs.iter_mut().flat_map(|out| out.chunks_exact_mut(block.head_dim()));
    for (n, out) in heads.enumerate() {
        let sum = simd.splat(simd.sum(simd.load(&state.sum[n])));
        for (out, acc) in out.chunks_mut(16).zip(&state.acc[n * width..]) {
            let mut lanes = [0.0; 16];
            simd.store(simd.div(simd.load(acc), sum), &mut lanes);
            out.copy_from_slice(&lanes[..out.len()]);
        }
    }
}
