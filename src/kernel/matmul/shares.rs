//! How threads share out the panels of a matrix.
//!
//! Each thread owns a contiguous part, so it reads one stream of memory, and takes its
//! panels from the front. One that has finished takes panels from the back of whoever
//! has most left: nobody waits for a thread that is held up, or that got less of the
//! memory's bandwidth.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::kernel::pool::part;

/// The panels of one matrix that are still to be done.
pub(super) struct Shares {
    left: Vec<Left>,
    /// Row panels that are multiplied together: a thread takes multiples of its own.
    at_once: u32,
}

/// What is left of a thread's part: `first << 32 | end`. In cache lines of its own: a
/// thread counts up about every two microseconds.
#[repr(align(128))]
struct Left(AtomicU64);

fn packed(left: Range<u32>) -> u64 {
    u64::from(left.start) << 32 | u64::from(left.end)
}

fn unpacked(left: u64) -> Range<u32> {
    (left >> 32) as u32..left as u32
}

impl Shares {
    /// About equal parts of `panels` for `threads`, which take `at_once` or multiples of
    /// their own.
    pub fn new(panels: usize, threads: usize, at_once: usize) -> Self {
        // A tensor has fewer than 2³² panels: its rows are at least a block of bytes.
        let panels = panels.min(u32::MAX as usize);
        let part = |worker| part(panels, threads, worker);
        let share = |part: Range<usize>| packed(part.start as u32..part.end as u32);
        Shares {
            left: (0..threads).map(|worker| Left(AtomicU64::new(share(part(worker))))).collect(),
            at_once: at_once.clamp(1, u32::MAX as usize) as u32,
        }
    }

    /// The next panels of `worker`'s own part: an eighth of what is left, since counting
    /// waits for all that was read and written before.
    pub fn own(&self, worker: usize) -> Option<Range<usize>> {
        self.take(worker, |left| {
            let len = left.len() as u32;
            let eighth = len.div_ceil(8).checked_next_multiple_of(self.at_once).unwrap_or(len);
            let middle = left.start + eighth.min(len);
            (left.start..middle, middle..left.end)
        })
    }

    /// A panel of another thread's part, while there is any.
    pub fn others(&self) -> Option<Range<usize>> {
        loop {
            let count = |left: &Left| unpacked(left.0.load(Ordering::Relaxed)).len();
            let most = (0..self.left.len()).max_by_key(|&worker| count(&self.left[worker]))?;
            if count(&self.left[most]) == 0 {
                return None;
            }
            let last = self.take(most, |left| (left.end - 1..left.end, left.start..left.end - 1));
            if last.is_some() {
                return last;
            }
        }
    }

    /// Takes panels as `split` says: the panels, and what remains. Only the numbers are
    /// shared, no memory behind them, so relaxed order is enough.
    fn take(
        &self,
        worker: usize,
        split: impl Fn(Range<u32>) -> (Range<u32>, Range<u32>),
    ) -> Option<Range<usize>> {
        let taken =
            self.left[worker].0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                let left = unpacked(left);
                (!left.is_empty()).then(|| packed(split(left).1))
            });
        let panels = split(unpacked(taken.ok()?)).0;
        Some(panels.start as usize..panels.end as usize)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Row panels that are multiplied together stay together: only the last ones are fewer.
    #[test]
    fn own_panels_come_in_multiples() {
        for panels in [0, 1, 5, 8, 9, 28, 224] {
            let shares = Shares::new(panels, 1, 8);
            let mut next = 0;
            while let Some(taken) = shares.own(0) {
                assert_eq!(taken.start, next);
                assert!(taken.len().is_multiple_of(8) || taken.end == panels, "{taken:?}");
                next = taken.end;
            }
            assert_eq!(next, panels);
        }
    }

    #[test]
    fn every_panel_is_taken_once() {
        for (panels, threads) in [(0, 1), (1, 3), (5, 2), (1000, 1), (10_000, 4)] {
            let shares = Shares::new(panels, threads, 1);
            let taken: Vec<AtomicUsize> = (0..panels).map(|_| AtomicUsize::new(0)).collect();
            std::thread::scope(|scope| {
                for worker in 0..threads {
                    let (shares, taken) = (&shares, &taken);
                    scope.spawn(move || {
                        // One thread does nothing of its own; the others do its part.
                        let own = std::iter::from_fn(|| shares.own(worker));
                        let own = own.take(if worker == 1 { 0 } else { usize::MAX });
                        for panel in own.chain(std::iter::from_fn(|| shares.others())).flatten() {
                            taken[panel].fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
            });
            assert!(taken.iter().all(|count| count.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn own_panels_come_in_order_and_others_from_the_back() {
        let shares = Shares::new(18, 2, 1);
        assert_eq!((shares.own(0), shares.own(0)), (Some(0..2), Some(2..3)));
        assert_eq!((shares.others(), shares.own(1)), (Some(17..18), Some(9..10)));
        assert_eq!((shares.own(0), shares.others()), (Some(3..4), Some(16..17)));
        let rest: Vec<_> = std::iter::from_fn(|| shares.own(0)).flatten().collect();
        assert_eq!(rest, [4, 5, 6, 7, 8]);
        let rest: Vec<_> = std::iter::from_fn(|| shares.others()).flatten().collect();
        assert_eq!(rest, [15, 14, 13, 12, 11, 10]);
    }
}
