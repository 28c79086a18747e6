//! The tokens still in play, the filters that shrink them, and the draw.
//!
//! Every candidate carries `weight = exp(logit − highest)`, its probability up
//! to a constant; a filter that drops candidates renormalises by summing the
//! weights that are left. A vocabulary is never sorted as a whole: the best `k`
//! are picked in one pass, and a filter that wants an order sorts as much of it
//! as it looks at.

use std::cmp::Ordering;

use super::math;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Candidate {
    token: u32,
    logit: f32,
    weight: f64,
}

/// Best first; of equal logits the lower token first. Logits are never NaN.
fn by_rank(a: &Candidate, b: &Candidate) -> Ordering {
    let logits = b.logit.partial_cmp(&a.logit).unwrap_or(Ordering::Equal);
    logits.then(a.token.cmp(&b.token))
}

/// A set of candidates that is never empty between [`fill`](Self::fill) and
/// [`draw`](Self::draw), if it was filled from one unmasked token or more.
#[derive(Debug, Clone, Default)]
pub(super) struct Candidates {
    /// By rank if `ranked`, else by token; never in a third order, as the
    /// order of a sum decides its last bit.
    items: Vec<Candidate>,
    ranked: bool,
}

impl Candidates {
    /// Starts with the `top_k` best of the unmasked tokens, or all of them.
    /// `highest` is the highest of `scores`.
    pub(super) fn fill(&mut self, scores: &[f32], highest: f32, top_k: i32) {
        match usize::try_from(top_k) {
            Ok(k) if k > 0 && k < scores.len() => self.pick(scores, k),
            _ => self.take_all(scores),
        }
        for item in &mut self.items {
            item.weight = math::exp(f64::from(item.logit) - f64::from(highest));
        }
    }

    fn take_all(&mut self, scores: &[f32]) {
        let unmasked = (0..).zip(scores).filter(|&(_, &logit)| logit > f32::NEG_INFINITY);
        self.items.clear();
        self.items.extend(unmasked.map(|(token, &logit)| Candidate { token, logit, weight: 0.0 }));
        self.ranked = false;
    }

    /// The `k` best unmasked tokens, by rank.
    ///
    /// One pass with a rising floor: collect what beats the floor; when there
    /// are twice as many as needed, drop the worse half and raise the floor to
    /// the worst that stays. Tokens come in ascending order, so one that only
    /// equals the floor ranks behind `k` others already.
    fn pick(&mut self, scores: &[f32], k: usize) {
        let room = k.saturating_mul(2).max(256);
        let items = &mut self.items;
        items.clear();
        let mut floor = f32::NEG_INFINITY;
        for (token, &logit) in (0..).zip(scores) {
            if logit > floor {
                items.push(Candidate { token, logit, weight: 0.0 });
                if items.len() == room {
                    items.select_nth_unstable_by(k - 1, by_rank);
                    items.truncate(k);
                    floor = items[k - 1].logit;
                }
            }
        }
        items.sort_unstable_by(by_rank);
        items.truncate(k);
        self.ranked = true;
    }

    /// The `n` best unmasked tokens of `scores` with their logits, best first.
    /// The set is scratch memory afterwards.
    pub(super) fn strongest(
        &mut self,
        scores: &[f32],
        n: usize,
    ) -> impl Iterator<Item = (u32, f32)> {
        if n == 0 {
            self.items.clear()
        } else {
            self.pick(scores, n)
        }
        self.items.iter().map(|item| (item.token, item.logit))
    }

    fn total(&self) -> f64 {
        self.items.iter().map(|item| item.weight).sum()
    }

    /// Keeps the candidates nearest to the expected surprise, until their
    /// probabilities exceed `p`.
    ///
    /// A surprise is `−ln prob = ln Z − logit` and the entropy its mean, so the
    /// distance between the two is `|mean(logit) − logit|`: `ln Z` cancels.
    pub(super) fn keep_typical(&mut self, p: f32) {
        if p >= 1.0 {
            return;
        }
        let total = self.total();
        let mean: f64 =
            self.items.iter().map(|item| item.weight / total * f64::from(item.logit)).sum();
        let distance = |item: &Candidate| (mean - f64::from(item.logit)).abs();
        let by_distance = |a: &Candidate, b: &Candidate| {
            distance(a).total_cmp(&distance(b)).then(a.token.cmp(&b.token))
        };
        let enough = f64::from(p) * total;
        self.keep_prefix(by_distance, 0, |sum| sum > enough);
        self.items.sort_unstable_by(by_rank);
        self.ranked = true;
    }

    /// Keeps the shortest run of best candidates whose probabilities reach `p`.
    pub(super) fn keep_top_p(&mut self, p: f32) {
        if p >= 1.0 {
            return;
        }
        let enough = f64::from(p) * self.total();
        let sorted = if self.ranked { self.items.len() } else { 0 };
        self.keep_prefix(by_rank, sorted, |sum| sum >= enough);
        self.ranked = true;
    }

    /// Keeps the candidates that are at least `p` times as likely as the best.
    pub(super) fn keep_min_p(&mut self, p: f32) {
        if p <= 0.0 {
            return;
        }
        let best = self.items.iter().map(|item| item.weight).fold(0.0, f64::max);
        let floor = f64::from(p) * best;
        self.items.retain(|item| item.weight >= floor);
    }

    /// Keeps the shortest prefix, in the given order, whose weights sum to
    /// `enough`; at least one candidate. The first `sorted` are in order.
    fn keep_prefix(
        &mut self,
        order: impl Fn(&Candidate, &Candidate) -> Ordering,
        mut sorted: usize,
        enough: impl Fn(f64) -> bool,
    ) {
        let mut sum = 0.0;
        for index in 0..self.items.len() {
            if index == sorted {
                sorted = sort_more(&mut self.items, sorted, &order);
            }
            sum += self.items[index].weight;
            if enough(sum) {
                self.items.truncate(index + 1);
                return;
            }
        }
    }

    /// Draws a candidate: the first whose running sum of weights, at this
    /// temperature, exceeds the share `unit` (in `[0, 1)`) of the whole. One
    /// always does, because the whole is the same sum; `None` is for no
    /// candidates.
    pub(super) fn draw(&mut self, temperature: f32, unit: f64) -> Option<u32> {
        let highest =
            self.items.iter().map(|item| f64::from(item.logit)).fold(f64::NEG_INFINITY, f64::max);
        for item in &mut self.items {
            // In f64: the smallest temperature cannot overflow the quotient.
            item.weight = math::exp((f64::from(item.logit) - highest) / f64::from(temperature));
        }
        let target = unit * self.total();
        let mut sum = 0.0;
        let reached = self.items.iter().find(|item| {
            sum += item.weight;
            sum > target
        });
        reached.map(|item| item.token)
    }
}

/// Extends the sorted prefix from `done` to about five times as many.
fn sort_more<T>(items: &mut [T], done: usize, order: impl Fn(&T, &T) -> Ordering) -> usize {
    let Some(rest) = items.get_mut(done..) else { return done };
    let more = (done * 4).max(256).min(rest.len());
    if more < rest.len() {
        rest.select_nth_unstable_by(more, &order);
    }
    if let Some(next) = rest.get_mut(..more) {
        next.sort_unstable_by(&order);
    }
    done + more
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The filters as one would explain them: a full list of (token, logit,
    /// probability), libm's functions, stable sorts. `None` where the answer
    /// hangs on the last bits, so that two right ways may differ.
    mod naive {
        pub type Entry = (u32, f64, f64);

        pub fn softmax(kept: Vec<(u32, f64)>) -> Vec<Entry> {
            let peak = kept.iter().map(|e| e.1).fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = kept.iter().map(|e| (e.1 - peak).exp()).sum();
            kept.into_iter().map(|(t, l)| (t, l, (l - peak).exp() / total)).collect()
        }

        pub fn unmasked(logits: &[f32]) -> Vec<Entry> {
            let all = logits.iter().enumerate().map(|(t, &l)| (t as u32, f64::from(l)));
            let mut kept = softmax(all.filter(|e| e.1.is_finite()).collect());
            kept.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap());
            kept
        }

        pub fn top_k(mut kept: Vec<Entry>, k: i32) -> Vec<Entry> {
            if k > 0 {
                kept.truncate(k as usize);
            }
            softmax(kept.into_iter().map(|(t, l, _)| (t, l)).collect())
        }

        fn prefix(kept: Vec<Entry>, p: f64) -> Option<Vec<Entry>> {
            let mut sum = 0.0;
            let mut out = Vec::new();
            for entry in kept {
                out.push(entry);
                sum += entry.2;
                if (sum - p).abs() < 1e-9 {
                    return None;
                }
                if sum > p {
                    break;
                }
            }
            Some(out)
        }

        pub fn top_p(kept: Vec<Entry>, p: f32) -> Option<Vec<Entry>> {
            if p >= 1.0 { Some(kept) } else { prefix(kept, f64::from(p)) }
        }

        pub fn typical(kept: Vec<Entry>, p: f32) -> Option<Vec<Entry>> {
            if p >= 1.0 {
                return Some(kept);
            }
            let surprise = |e: &Entry| -e.2.ln();
            let entropy: f64 = kept.iter().map(|e| e.2 * surprise(e)).sum();
            let far = |e: &Entry| (surprise(e) - entropy).abs();
            let mut sorted = kept;
            sorted.sort_by_key(|e| e.0);
            sorted.sort_by(|a, b| far(a).partial_cmp(&far(b)).unwrap());
            let close = |w: &[Entry]| w[0].1 != w[1].1 && (far(&w[0]) - far(&w[1])).abs() < 1e-9;
            if sorted.windows(2).any(close) {
                return None;
            }
            prefix(sorted, f64::from(p))
        }

        pub fn min_p(kept: Vec<Entry>, p: f32) -> Option<Vec<Entry>> {
            let best = kept.iter().map(|e| e.2).fold(0.0, f64::max);
            let ratio = |e: &Entry| e.2 / best - f64::from(p);
            if kept.iter().any(|e| ratio(e).abs() < 1e-9 && e.2 != best) {
                return None;
            }
            Some(kept.into_iter().filter(|e| e.2 == best || ratio(e) >= 0.0).collect())
        }

        pub fn tokens(kept: &[Entry]) -> Vec<u32> {
            let mut tokens: Vec<u32> = kept.iter().map(|e| e.0).collect();
            tokens.sort_unstable();
            tokens
        }
    }

    fn filled(logits: &[f32], top_k: i32) -> Candidates {
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut candidates = Candidates::default();
        candidates.fill(logits, highest, top_k);
        candidates
    }

    /// Sorted by token; checks on the way that the claimed order holds.
    fn tokens(candidates: &Candidates) -> Vec<u32> {
        let items = &candidates.items;
        if candidates.ranked {
            assert!(items.is_sorted_by(|a, b| by_rank(a, b) == Ordering::Less));
        } else {
            assert!(items.is_sorted_by(|a, b| a.token < b.token));
        }
        let mut tokens: Vec<u32> = items.iter().map(|item| item.token).collect();
        tokens.sort_unstable();
        tokens
    }

    /// Smooth, full of ties, or half masked; never all masked.
    fn logits() -> impl Strategy<Value = Vec<f32>> {
        let smooth = prop::collection::vec(-8.0..8.0f32, 1..700);
        let ties = prop::collection::vec((-4i8..5).prop_map(f32::from), 1..700);
        let flat = prop::collection::vec((-1.0..1.0f32).prop_map(|x| x * 0.01), 300..1500);
        let masked = prop::collection::vec(
            prop_oneof![Just(f32::NEG_INFINITY), Just(-500.0), -8.0..8.0f32],
            1..700,
        )
        .prop_map(|mut logits| {
            logits[0] = 1.5;
            logits
        });
        prop_oneof![smooth, ties, flat, masked]
    }

    fn share() -> impl Strategy<Value = f32> {
        prop_oneof![Just(0.0f32), Just(1.0f32), 0.0..1.0f32, 0.9..1.0f32]
    }

    proptest! {
        #[test]
        fn top_k_is_that_of_a_full_sort(logits in logits(), k in -1i32..900) {
            let naive = naive::top_k(naive::unmasked(&logits), k);
            prop_assert_eq!(tokens(&filled(&logits, k)), naive::tokens(&naive));
        }

        #[test]
        fn top_p_is_naive_top_p(logits in logits(), k in prop_oneof![Just(0), 1..300i32], p in share()) {
            let mut candidates = filled(&logits, k);
            candidates.keep_top_p(p);
            prop_assert!(!candidates.items.is_empty());
            if let Some(naive) = naive::top_p(naive::top_k(naive::unmasked(&logits), k), p) {
                prop_assert_eq!(tokens(&candidates), naive::tokens(&naive));
            }
        }

        #[test]
        fn typical_is_naive_typical(logits in logits(), k in prop_oneof![Just(0), 1..300i32], p in share()) {
            let mut candidates = filled(&logits, k);
            candidates.keep_typical(p);
            prop_assert!(!candidates.items.is_empty());
            if let Some(naive) = naive::typical(naive::top_k(naive::unmasked(&logits), k), p) {
                prop_assert_eq!(tokens(&candidates), naive::tokens(&naive));
            }
        }

        #[test]
        fn min_p_is_naive_min_p(logits in logits(), p in share()) {
            let mut candidates = filled(&logits, 0);
            candidates.keep_min_p(p);
            prop_assert!(!candidates.items.is_empty());
            if let Some(naive) = naive::min_p(naive::unmasked(&logits), p) {
                prop_assert_eq!(tokens(&candidates), naive::tokens(&naive));
            }
        }

        #[test]
        fn the_chain_is_the_naive_chain(
            logits in logits(), k in prop_oneof![Just(0), 1..300i32],
            typical in share(), top in share(), min in 0.0..0.5f32, unit in 0.0..1.0f64,
        ) {
            let mut candidates = filled(&logits, k);
            candidates.keep_typical(typical);
            candidates.keep_top_p(top);
            candidates.keep_min_p(min);
            let kept = tokens(&candidates);
            let rank = |mut kept: Vec<naive::Entry>| {
                kept.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
                naive::softmax(kept.into_iter().map(|(t, l, _)| (t, l)).collect())
            };
            let naive = naive::typical(naive::top_k(naive::unmasked(&logits), k), typical)
                .and_then(|kept| naive::top_p(rank(kept), top))
                .and_then(|kept| naive::min_p(rank(kept), min));
            if let Some(naive) = naive {
                prop_assert_eq!(&kept, &naive::tokens(&naive));
            }
            let drawn = candidates.draw(0.8, unit);
            prop_assert!(drawn.is_some_and(|token| kept.contains(&token)));
        }
    }

    #[test]
    fn a_sum_that_meets_p_exactly() {
        // Two tokens of probability ½: top-p stops at "reached", typical at
        // "exceeded", as in llama.cpp.
        let mut candidates = filled(&[1.0, 1.0], 0);
        candidates.keep_top_p(0.5);
        assert_eq!(tokens(&candidates), [0]);
        let mut candidates = filled(&[1.0, 1.0], 0);
        candidates.keep_typical(0.5);
        assert_eq!(tokens(&candidates), [0, 1]);
    }

    #[test]
    fn ties_keep_the_lower_tokens() {
        let flat = [2.0; 1000];
        assert_eq!(tokens(&filled(&flat, 3)), [0, 1, 2]);
        let mut candidates = filled(&flat, 0);
        candidates.keep_top_p(0.0105);
        assert_eq!(tokens(&candidates), (0..11).collect::<Vec<_>>());
        let mut candidates = filled(&flat, 0);
        candidates.keep_typical(0.0105);
        assert_eq!(tokens(&candidates), (0..11).collect::<Vec<_>>());
    }

    #[test]
    fn typical_may_drop_the_best() {
        // Many middling tokens: the mean surprise is theirs, not the leader's.
        let mut logits = [0.0; 100];
        logits[7] = 2.5;
        let mut candidates = filled(&logits, 0);
        candidates.keep_typical(0.5);
        assert!(!tokens(&candidates).contains(&7));
    }

    #[test]
    fn the_ends_of_the_unit_interval() {
        let below_one = 1.0 - f64::EPSILON / 2.0;
        for logits in [&[0.0; 7][..], &[-1000.0, 3.0, 2.9, -1000.0], &[f32::MIN, f32::MAX]] {
            for temperature in [f32::MIN_POSITIVE, 1e-6, 1.0, 1e6, f32::MAX] {
                for unit in [0.0, 0.5, below_one] {
                    assert!(filled(logits, 0).draw(temperature, unit).is_some());
                }
            }
        }
        // A weight of zero is never drawn, not even by a share of zero.
        assert_eq!(filled(&[-1000.0, 3.0, -1000.0], 0).draw(1.0, 0.0), Some(1));
        assert_eq!(filled(&[-1000.0, 3.0, -1000.0], 0).draw(1.0, below_one), Some(1));
        assert_eq!(Candidates::default().draw(1.0, 0.5), None);
    }
}
