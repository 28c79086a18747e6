//! Drafts for speculative decoding, looked up in the sequence itself.
//!
//! Text that copies (edited code, quotes, lists) repeats what it or its prompt
//! has said. [`PromptLookup`] finds where the last tokens stood before and proposes what
//! followed there; the model checks all of it in one pass. A wrong draft costs time,
//! never a token: [`DraftLength`] decides how many tokens are worth checking.
//!
//! ```text
//! tokens   … the cat sat on the mat . So the cat sat ▮
//!              └──matched──┘└─draft──┘   └──matched──┘
//! ```

use super::draft_costs::{DraftCosts, MAX_DRAFT};

/// The fewest equal tokens that make a match.
const LEAST: usize = 2;

/// Matches are compared up to this length; of equal ones the latest wins.
const MOST: usize = 32;

/// Earlier places looked at per draft, so that "0 0 0 0 …" costs no more than prose.
const PLACES: usize = 16;

/// The tokens of one sequence and where each run of [`LEAST`] of them ended before.
///
/// Ends with the same hash form a chain, the latest first: a lookup walks it and
/// compares tokens, so a collision costs a comparison. Up to 16 bytes per token.
#[derive(Debug, Clone, Default)]
pub(crate) struct PromptLookup {
    tokens: Vec<u32>,
    /// `[tokens]`: per end of a run, the one before it in its chain; 0 = none.
    earlier: Vec<u32>,
    /// `[a power of two from tokens on]`: per hash, the latest end; 0 = none.
    latest: Vec<u32>,
}

/// An earlier place whose tokens equal the last ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Match {
    /// Where the continuation starts.
    pub place: usize,
    /// Equal tokens before it, `LEAST..=MOST`.
    pub length: usize,
}

impl PromptLookup {
    /// Appends a token.
    pub fn push(&mut self, token: u32) {
        // The run that ends here has a continuation now.
        let end = self.tokens.len();
        self.earlier.push(0);
        self.tokens.push(token);
        if self.tokens.len() > self.latest.len() {
            self.grow();
        } else {
            self.index(end);
        }
    }

    /// Appends tokens.
    pub fn extend(&mut self, tokens: &[u32]) {
        tokens.iter().for_each(|&token| self.push(token));
    }

    /// Doubles the table. Every token is indexed again: once per doubling.
    fn grow(&mut self) {
        let buckets = self.tokens.len().next_power_of_two().max(64);
        self.latest = vec![0; buckets];
        (0..self.tokens.len()).for_each(|end| self.index(end));
    }

    /// Puts the run that ends before `end` in front of its chain.
    fn index(&mut self, end: usize) {
        // Contexts end far below the 2³² that a place can name.
        if let (Some(bucket), Ok(place)) = (self.bucket(end), u32::try_from(end)) {
            self.earlier[end] = std::mem::replace(&mut self.latest[bucket], place);
        }
    }

    /// The chain of the run that ends before `end`; `None` if it is too short.
    fn bucket(&self, end: usize) -> Option<usize> {
        let run = &self.tokens[end.checked_sub(LEAST)?..end];
        let hash = run.iter().fold(0u64, |hash, &token| {
            (hash ^ u64::from(token)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29)
        });
        Some((hash >> 7) as usize & (self.latest.len() - 1))
    }

    /// The longest match of the last tokens, of equal ones the latest.
    pub fn longest(&self) -> Option<Match> {
        let end = self.tokens.len();
        let mut best: Option<Match> = None;
        let mut place = self.latest[self.bucket(end)?] as usize;
        for _ in 0..PLACES {
            if place == 0 {
                break;
            }
            let (old, new) = (self.tokens[..place].iter().rev(), self.tokens.iter().rev());
            let length = old.zip(new).take(MOST).take_while(|(old, new)| old == new).count();
            if length >= LEAST && best.is_none_or(|best| length > best.length) {
                best = Some(Match { place, length });
                if length == MOST {
                    break;
                }
            }
            place = self.earlier[place] as usize;
        }
        best
    }

    /// The `count` tokens after a match. Where it reaches the end of the sequence the
    /// continuation repeats itself, as the sequence did.
    pub fn draft(&self, found: Match, count: usize) -> Vec<u32> {
        let period = self.tokens.get(found.place..).unwrap_or_default();
        period.iter().copied().cycle().take(count).collect()
    }
}

/// Acceptance expected of a token before any was drafted.
const FIRST_RATE: f32 = 0.5;

/// The weight of the newest token in the measured acceptance.
const NEWEST: f32 = 0.125;

/// A draft after a pause is of so many tokens: the most that cost least.
const TRIAL: usize = 3;

/// What trials that fail may cost in the long run: a part of a plain step per token.
const LOSS: f32 = 0.02;

/// The longest pause between trials, in tokens.
fn longest_pause(costs: &DraftCosts) -> usize {
    (((costs[TRIAL] - 1.0) / LOSS) as usize).clamp(8, 64)
}

/// How many drafted tokens a sequence has checked per pass.
///
/// The acceptance of drafted tokens is measured, and the length taken that promises
/// the most tokens for their cost. Where none promises more than a plain step there
/// is a pause, which doubles while the trials after it fail; the dearer a trial, the longer.
#[derive(Debug, Clone)]
pub(crate) struct DraftLength {
    /// The longest draft.
    most: usize,
    /// The share of drafted tokens, up to the first wrong one, that were right; newer
    /// ones weigh more.
    rate: f32,
    /// Tokens to come without a draft.
    pause: usize,
    /// Trials that failed one after the other.
    failed: u32,
}

impl Default for DraftLength {
    fn default() -> Self {
        DraftLength::new(MAX_DRAFT)
    }
}

impl DraftLength {
    /// Drafts of at most `most` tokens.
    pub fn new(most: usize) -> Self {
        DraftLength { most: most.min(MAX_DRAFT), rate: FIRST_RATE, pause: 0, failed: 0 }
    }

    /// How many tokens to draft for the next pass.
    pub fn length(&self, costs: &DraftCosts) -> usize {
        if self.pause > 0 {
            return 0;
        }
        match best_length(self.rate, self.most, costs) {
            0 => TRIAL.min(self.most),
            length => length,
        }
    }

    /// To be called after every pass: `accepted` of `drafted` tokens were right (0 of
    /// 0 without a draft).
    pub fn record(&mut self, drafted: usize, accepted: usize, costs: &DraftCosts) {
        self.pause = self.pause.saturating_sub(accepted + 1);
        if drafted == 0 {
            return;
        }
        for _ in 0..accepted {
            self.rate += (1.0 - self.rate) * NEWEST;
        }
        if accepted < drafted {
            self.rate -= self.rate * NEWEST;
        }
        if best_length(self.rate, self.most, costs) > 0 {
            self.failed = 0;
        } else {
            let longest = longest_pause(costs);
            self.pause = ((longest / 8) << self.failed.min(3)).min(longest);
            self.failed = self.failed.saturating_add(1);
        }
    }
}

/// The length, up to `most`, with the most tokens for their cost; 0 if none promises
/// more than a plain step. Of `n` drafted tokens `rate + rate² + … + rateⁿ` are right.
fn best_length(rate: f32, most: usize, costs: &DraftCosts) -> usize {
    let (mut best, mut best_gain) = (0, 1.0);
    let (mut tokens, mut all_right) = (1.0, 1.0);
    for (length, cost) in costs.iter().enumerate().take(most + 1).skip(1) {
        all_right *= rate;
        tokens += all_right;
        let gain = tokens / cost;
        if gain > best_gain {
            (best, best_gain) = (length, gain);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use crate::engine::draft_costs::EXPECTED;

    /// A text in which nothing repeats by design: xorshift.
    fn noise(seed: u64, tokens: Range<u32>, count: usize) -> Vec<u32> {
        let mut state = seed;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            tokens.start + (state % u64::from(tokens.end - tokens.start)) as u32
        };
        (0..count).map(|_| next()).collect()
    }

    /// Lets a model that is sure to say `output` do so after `prompt`; returns the cost.
    fn say(lookup: &mut PromptLookup, drafter: &mut DraftLength, output: &[u32]) -> f32 {
        let (mut said, mut total) = (0, 0.0);
        while said < output.len() {
            // A pass computes the token after the pending one and checks the draft.
            let found = lookup.longest();
            let length = drafter.length(&EXPECTED).min(output.len() - said - 1);
            let draft = found.map_or(Vec::new(), |found| lookup.draft(found, length));
            let pairs = draft.iter().zip(&output[said..]);
            let accepted = pairs.take_while(|(draft, true_one)| draft == true_one).count();
            drafter.record(draft.len(), accepted, &EXPECTED);
            lookup.extend(&output[said..=said + accepted]);
            said += accepted + 1;
            total += EXPECTED[draft.len()];
        }
        total
    }

    fn speed_up(prompt: &[u32], output: &[u32]) -> f32 {
        let (mut lookup, mut drafter) = (PromptLookup::default(), DraftLength::default());
        lookup.extend(prompt);
        output.len() as f32 / say(&mut lookup, &mut drafter, output)
    }

    /// What `PromptLookup` should find, by looking everywhere.
    fn longest(tokens: &[u32]) -> Option<Match> {
        let mut best: Option<Match> = None;
        for place in (1..tokens.len()).rev() {
            let pairs = tokens[..place].iter().rev().zip(tokens.iter().rev());
            let length = pairs.take(MOST).take_while(|(a, b)| a == b).count();
            if length >= LEAST && best.is_none_or(|best| length > best.length) {
                best = Some(Match { place, length });
            }
        }
        best
    }

    #[test]
    fn the_longest_and_latest_match_is_found() {
        // Few kinds of tokens: many matches. Fewer places than are looked at.
        for (kinds, count) in [(9, 400), (40, 2000), (3, 20)] {
            let tokens = noise(7, 0..kinds, count);
            let mut lookup = PromptLookup::default();
            let mut matches = 0;
            for (i, &token) in tokens.iter().enumerate() {
                lookup.push(token);
                assert_eq!(lookup.longest(), longest(&tokens[..=i]), "{kinds} kinds, at {i}");
                matches += usize::from(lookup.longest().is_some());
            }
            assert!(matches > 5, "the test is blind");
        }
    }

    #[test]
    fn a_match_proposes_what_followed_it() {
        let mut lookup = PromptLookup::default();
        assert_eq!(lookup.longest(), None);
        lookup.extend(&[1, 2, 3, 4, 5, 6, 7, 2, 3, 9, 8, 1, 2, 3]);
        let found = lookup.longest();
        assert_eq!(found, Some(Match { place: 3, length: 3 }), "not the later, shorter one");
        assert_eq!(lookup.draft(Match { place: 3, length: 3 }, 4), [4, 5, 6, 7]);
        assert!(lookup.draft(Match { place: 3, length: 3 }, 0).is_empty());
    }

    #[test]
    fn a_repetition_goes_on_repeating() {
        let mut lookup = PromptLookup::default();
        lookup.extend(&[5, 1, 2, 3, 1, 2, 3, 1, 2, 3]);
        let draft = lookup.longest().map(|found| lookup.draft(found, 7));
        assert_eq!(draft, Some(vec![1, 2, 3, 1, 2, 3, 1]));
        let mut same = PromptLookup::default();
        same.extend(&[4; 1000]);
        assert_eq!(same.longest(), Some(Match { place: 999, length: MOST }));
        assert_eq!(same.draft(Match { place: 999, length: MOST }, 3), [4; 3]);
    }

    #[test]
    fn memory_is_16_bytes_per_token() {
        let mut lookup = PromptLookup::default();
        for count in [1usize, 64, 65, 1000, 4097] {
            lookup.extend(&noise(count as u64, 0..50, count - lookup.tokens.len()));
            let words = lookup.tokens.len() + lookup.earlier.len() + lookup.latest.len();
            assert!(words <= 4 * count.max(32), "{words} words of 4 bytes for {count} tokens");
        }
    }

    #[test]
    fn copied_text_is_at_least_twice_as_fast() {
        let prompt = noise(1, 0..32000, 1000);
        assert!(speed_up(&prompt, &prompt) > 4.0, "{}", speed_up(&prompt, &prompt));
        // Every 20th token is another one, as in an edited text.
        let mut edited = prompt.clone();
        edited.iter_mut().step_by(20).for_each(|token| *token += 1);
        assert!(speed_up(&prompt, &edited) > 2.0, "{}", speed_up(&prompt, &edited));
    }

    #[test]
    fn text_that_does_not_copy_loses_under_3_percent() {
        for seed in 1..6 {
            // Nearly no matches; many that are wrong; as good as always one.
            for kinds in [32000, 64, 16] {
                let gain = speed_up(&[], &noise(seed, 0..kinds, 3000));
                assert!(gain > 0.97, "{kinds} kinds of tokens: {gain}");
            }
        }
        // Always a draft, never right.
        let mut drafter = DraftLength::default();
        let (mut total, mut drafted) = (0.0, 0);
        for _ in 0..1000 {
            let length = drafter.length(&EXPECTED);
            (total, drafted) = (total + EXPECTED[length], drafted + length);
            drafter.record(length, 0, &EXPECTED);
        }
        assert!(total < 1030.0 && drafted > 100, "{total}, {drafted}");
    }

    #[test]
    fn copying_is_noticed_within_few_tokens_and_its_end_too() {
        let prompt = noise(1, 0..32000, 600);
        let (mut lookup, mut drafter) = (PromptLookup::default(), DraftLength::default());
        lookup.extend(&prompt);
        // A long stretch of wrong drafts: 64 kinds of tokens that the prompt lacks.
        let plain = noise(2, 40000..40064, 2000);
        assert!(say(&mut lookup, &mut drafter, &plain) < 2060.0);
        let copied = say(&mut lookup, &mut drafter, &prompt[..40]);
        assert!(copied < 20.0, "40 copied tokens took {copied}");
        assert_eq!(
            {
                say(&mut lookup, &mut drafter, &prompt[40..300]);
                drafter.length(&EXPECTED)
            },
            MAX_DRAFT
        );
        let after = say(&mut lookup, &mut drafter, &noise(3, 40000..40064, 1000));
        assert!(after < 1030.0, "{after}");
    }

    #[test]
    fn drafts_grow_with_success_and_never_exceed_the_most() {
        let mut drafter = DraftLength::default();
        let first = drafter.length(&EXPECTED);
        assert_eq!(first, 3);
        for _ in 0..10 {
            let length = drafter.length(&EXPECTED);
            drafter.record(length, length, &EXPECTED);
        }
        assert_eq!(drafter.length(&EXPECTED), MAX_DRAFT);
        for most in 0..20 {
            let mut drafter = DraftLength::new(most);
            for i in 0..100 {
                assert!(drafter.length(&EXPECTED) <= most);
                drafter.record(
                    drafter.length(&EXPECTED),
                    if i < 50 { drafter.length(&EXPECTED) } else { 0 },
                    &EXPECTED,
                );
            }
        }
    }

    /// Where every row costs, as with a small model, trials are rare and copying pays less.
    #[test]
    fn costly_drafts_are_tried_rarely() {
        let costly =
            [1.0, 1.6, 1.7, 1.8, 2.1, 2.4, 2.6, 2.9, 3.4, 3.6, 3.8, 4.0, 4.2, 4.4, 4.6, 4.8];
        let (mut drafter, mut total) = (DraftLength::default(), 0.0);
        for _ in 0..1000 {
            let length = drafter.length(&costly);
            total += costly[length];
            drafter.record(length, 0, &costly);
        }
        assert!(total < 1030.0, "{total}");
        let mut drafter = DraftLength::default();
        let (mut total, mut tokens) = (0.0, 0);
        while tokens < 200 {
            let length = drafter.length(&costly);
            (total, tokens) = (total + costly[length], tokens + 1 + length);
            drafter.record(length, length, &costly);
        }
        assert!(tokens as f32 > 2.0 * total, "{tokens} tokens for {total}");
    }
}
