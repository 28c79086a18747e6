//! What it costs to check drafts, on this machine and with this model.
//!
//! A large model waits for its weights, so that a few rows more are nearly free; a small
//! one computes, and every row costs. So passes are timed by their rows.

use std::time::Duration;

/// Drafted tokens per stream and pass at most: 16 rows with the pending token.
pub(super) const MAX_DRAFT: usize = 15;

/// What a pass costs in which every stream has a draft of so many tokens checked, in
/// passes without drafts.
pub(super) type DraftCosts = [f32; MAX_DRAFT + 1];

/// Before anything is measured: kernels take up to four rows in the time that the
/// weights of a large model need to arrive anyway, then four at a time, and more than
/// eight by unpacking them.
pub(super) const EXPECTED: DraftCosts =
    [1.0, 1.1, 1.1, 1.1, 1.6, 1.6, 1.6, 1.6, 2.7, 2.7, 2.7, 2.7, 2.7, 2.7, 2.7, 2.7];

/// Passes of more rows are not looked at.
const MOST_ROWS: usize = 32;

/// The weight of the newest time.
const NEWEST: f32 = 0.25;

/// Times of passes without prompts, by their rows.
#[derive(Debug, Clone)]
pub(super) struct PassTimes {
    /// Seconds, smoothed; 0: not measured.
    seconds: [f32; MOST_ROWS + 1],
}

impl Default for PassTimes {
    fn default() -> Self {
        PassTimes { seconds: [0.0; MOST_ROWS + 1] }
    }
}

impl PassTimes {
    /// A pass of `rows` rows took `time`.
    pub fn record(&mut self, rows: usize, time: Duration) {
        if let Some(known) = self.seconds.get_mut(rows) {
            let time = time.as_secs_f32();
            *known = if *known == 0.0 { time } else { *known + (time - *known) * NEWEST };
        }
    }

    /// What drafts cost while there are `streams` streams.
    pub fn draft_costs(&self, streams: usize) -> DraftCosts {
        let time = |rows: usize| self.seconds.get(rows).copied().filter(|time| *time > 0.0);
        let mut costs = EXPECTED;
        for (drafted, cost) in costs.iter_mut().enumerate() {
            if let (Some(with), Some(without)) = (time(streams * (1 + drafted)), time(streams)) {
                *cost = (with / without).max(1.0);
            }
        }
        costs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_those_of_passes_of_as_many_rows() {
        let mut times = PassTimes::default();
        assert_eq!(times.draft_costs(1), EXPECTED);
        let ms = Duration::from_millis;
        times.record(1, ms(100));
        times.record(4, ms(180));
        times.record(1000, ms(1));
        let costs = times.draft_costs(1);
        assert!((costs[3] - 1.8).abs() < 1e-6 && costs[4] == EXPECTED[4], "{costs:?}");
        for _ in 0..20 {
            times.record(4, ms(120));
        }
        assert!((times.draft_costs(1)[3] - 1.2).abs() < 0.01);
        times.record(2, ms(150));
        assert!((times.draft_costs(2)[1] - 0.8).abs() > 0.1, "never less than a plain pass");
        assert_eq!(times.draft_costs(2)[1], 1.0);
    }
}
