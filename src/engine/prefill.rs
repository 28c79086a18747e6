//! Chunked prefill: how many rows of a waiting prompt are added to a pass of running
//! streams.
//!
//! A pass with a slice of a prompt takes longer than one without, and every running
//! stream feels it as a longer gap between two of its tokens. The slice follows the
//! clock so that the gap stays near [`LONGEST`] times the usual one. Results do not
//! depend on how a prompt is cut.

use std::time::Duration;

/// What a pass with a slice may take, in usual passes: below the 3 that users are
/// promised, so that noise has room.
const LONGEST: f64 = 2.4;

/// The first slice, and the smallest.
const FIRST: f64 = 8.0;
const LEAST: f64 = 4.0;

/// So many passes with slices, then one without, to know the usual time.
const REFRESH: u32 = 16;

#[derive(Debug)]
pub(super) struct PrefillBudget {
    /// Seconds of a pass without a slice, smoothed; 0: not known.
    usual: f64,
    slice: f64,
    sliced: u32,
}

impl Default for PrefillBudget {
    fn default() -> Self {
        PrefillBudget { usual: 0.0, slice: FIRST, sliced: 0 }
    }
}

impl PrefillBudget {
    /// Rows of prompts for the next pass, of at most `most`.
    pub fn slice(&self, streams: usize, most: usize) -> usize {
        if streams == 0 {
            most
        } else if self.usual == 0.0 || self.sliced >= REFRESH {
            0
        } else {
            (self.slice as usize).min(most)
        }
    }

    /// A pass with `streams` streams and `rows` rows of prompts took `time`.
    pub fn record(&mut self, streams: usize, rows: usize, time: Duration) {
        let time = time.as_secs_f64();
        match (streams, rows) {
            (0, _) => {}
            (_, 0) => {
                self.sliced = 0;
                // Down at once: the first passes read weights from disk.
                let rises = self.usual > 0.0 && time > self.usual;
                self.usual = if rises { 0.7 * self.usual + 0.3 * time } else { time };
            }
            _ => {
                self.sliced += 1;
                // What the slice cost, and what it may cost.
                let (cost, room) = (time - self.usual, (LONGEST - 1.0) * self.usual);
                let factor = if cost > 0.0 { room / cost } else { 2.0 };
                let from = rows as f64;
                self.slice = (from * factor.clamp(0.5, 1.5)).clamp(LEAST, 4096.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine where a pass takes 80 ms and 5 ms per row of a prompt more: the slice
    /// settles where a pass takes 2.4 times as long, from any start.
    #[test]
    fn the_slice_settles_below_the_promise() {
        let mut prefill = PrefillBudget::default();
        assert_eq!(prefill.slice(4, 512), 0, "the usual time is not known yet");
        assert_eq!(prefill.slice(0, 512), 512, "nobody waits");
        let (mut longest, mut last) = (0f64, 0);
        for pass in 0..500 {
            let rows = prefill.slice(4, 512);
            let time = 0.080 + 0.005 * rows as f64;
            if pass > 20 {
                longest = longest.max(time / 0.080);
            }
            prefill.record(4, rows, Duration::from_secs_f64(time));
            last = rows.max(last);
        }
        assert!(longest < 2.6, "{longest}");
        assert!((20..=25).contains(&last), "{last}");
    }
}
