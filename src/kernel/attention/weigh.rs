//! The softmax of a page: scores of one query become integer weights of the values.

use std::ops::Range;

use crate::kernel::math::{exp2, soft_cap};
use crate::kv_cache::{PAGE, Scales};
use crate::simd::Simd;

/// Weights are integers up to 2¹³.
const MAX_WEIGHT: f32 = 8192.0;

/// A page's softmax for one query.
pub(super) struct Weighed<S: Simd> {
    pub max: f32,
    pub sum: S::F32x16,
    /// Value of one unit of the integer weights.
    pub step: f32,
}

/// −∞ for slots that are not seen, +∞ for those that are: `[64 − start ..]` and
/// `[128 − end ..]`, the lower of both.
static LIMITS: [f32; 3 * PAGE] = {
    let mut limits = [f32::NEG_INFINITY; 3 * PAGE];
    let mut i = PAGE;
    while i < 2 * PAGE {
        limits[i] = f32::INFINITY;
        i += 1;
    }
    limits
};

/// 0, 1, 2 and so on: the slots of a page.
static SLOTS: [f32; PAGE] = {
    let mut slots = [0.0; PAGE];
    let mut i = 0;
    while i < PAGE {
        slots[i] = i as f32;
        i += 1;
    }
    slots
};

/// What is taken from the scores of one query with a page: `slope · |from_first − slot|`.
pub(super) struct Distances {
    pub slope: f32,
    /// How far the query is behind the page's first position.
    pub from_first: f32,
}

impl Distances {
    /// `x − slope · distance` for `x`, 16 scores for each number.
    #[inline(always)]
    pub fn take_from<S: Simd>(&self, simd: S, x: &mut [S::F32x16; 4]) {
        let (minus_slope, to_first) = (simd.splat(-self.slope), simd.splat(-self.from_first));
        for (x, slots) in x.iter_mut().zip(SLOTS.as_chunks::<16>().0) {
            let away = simd.add(simd.load(slots), to_first);
            let distance = simd.max(away, simd.mul(away, simd.splat(-1.0)));
            *x = simd.fma(distance, minus_slope, *x);
        }
    }
}

/// The scores of one query with a page: `x = sum · scale of the key · scale`.
pub(super) struct Scores<'a, S: Simd> {
    pub sums: &'a [S::I32x16; 4],
    pub scales: &'a Scales,
    /// Of the query.
    pub scale: f32,
    /// x goes through `cap · tanh(x / cap)`; 0: it does not.
    pub soft_cap: f32,
    /// At last this is taken from x.
    pub distances: Option<Distances>,
}

/// Turns scores into integer weights of the values. What is stored in slots that
/// are not seen has no influence.
#[inline(always)]
pub(super) fn weigh<S: Simd>(
    simd: S,
    scores: Scores<'_, S>,
    slots: &Range<usize>,
    weights: &mut [i16; PAGE],
) -> Weighed<S> {
    let Scores { sums, scales, scale, soft_cap: cap, distances } = scores;
    let (keys, values) = (scales[0].as_chunks::<16>().0, scales[1].as_chunks::<16>().0);
    let scale = simd.splat(scale);
    // Loops, not `array::from_fn`: that is not inlined into the set's region.
    let mut x = [simd.splat(0.0); 4];
    for v in 0..4 {
        x[v] = simd.mul(simd.mul(simd.to_f32(sums[v]), simd.load(&keys[v])), scale);
    }
    if cap != 0.0 {
        for x in &mut x {
            *x = soft_cap(simd, cap, *x);
        }
    }
    if let Some(distances) = distances {
        distances.take_from(simd, &mut x);
    }
    let whole = *slots == (0..PAGE);
    let (from, to) =
        (&LIMITS[PAGE - slots.start..][..PAGE], &LIMITS[2 * PAGE - slots.end..][..PAGE]);
    let (from, to) = (from.as_chunks::<16>().0, to.as_chunks::<16>().0);
    let mut limits = x;
    if !whole {
        for v in 0..4 {
            limits[v] = simd.min(simd.load(&from[v]), simd.load(&to[v]));
            // A NaN that is seen becomes +∞ here, and NaN again below.
            x[v] = simd.min(x[v], limits[v]);
        }
    }
    let max = simd.max_lane(simd.max(simd.max(x[0], x[1]), simd.max(x[2], x[3])));
    let minus_max = simd.splat(-max);
    let mut p = x;
    for p in &mut p {
        *p = exp2(simd, simd.add(*p, minus_max));
    }
    if !whole {
        for (p, limit) in p.iter_mut().zip(limits) {
            *p = simd.min(*p, simd.max(limit, simd.splat(0.0)));
        }
    }
    let sum = simd.add(simd.add(p[0], p[1]), simd.add(p[2], p[3]));
    let mut w = p;
    for (w, values) in w.iter_mut().zip(values) {
        *w = simd.mul(*w, simd.load(values));
    }
    let most = simd.max_lane(simd.max(simd.max(w[0], w[1]), simd.max(w[2], w[3])));
    let unit = simd.splat(MAX_WEIGHT / most);
    let (low_high, _) = weights.as_chunks_mut::<32>();
    for (i, out) in low_high.iter_mut().enumerate() {
        let (low, high) = (simd.mul(w[2 * i], unit), simd.mul(w[2 * i + 1], unit));
        simd.store_i16(simd.round_i16(low, high), out);
    }
    Weighed { max, sum, step: most / MAX_WEIGHT }
}
