//! Stop strings in streamed text.
//!
//! Text is released as soon as it cannot be part of a stop string any more: a
//! tail that is a proper beginning of one is held back until it is decided.

use std::ops::Range;

/// Cuts streamed text at the first stop string.
#[derive(Debug, Clone, Default)]
pub(crate) struct StopGate {
    stops: Vec<String>,
    /// Text that may be the beginning of a stop string.
    held: String,
    /// Parts of it that are matched as a whole and never shown. Ascending.
    hidden: Vec<Range<usize>>,
    stopped: bool,
}

impl StopGate {
    /// Empty strings are ignored: they would stop everything at once.
    pub fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        StopGate { stops, ..StopGate::default() }
    }

    /// Adds `text`; returns what may be shown. After a match nothing more is.
    pub fn push(&mut self, text: &str) -> String {
        if self.stopped {
            return String::new();
        }
        self.held.push_str(text);
        self.decide()
    }

    /// Adds the text of a control token, which a stop string may have, but which is not
    /// shown. A stop string matches all of it or nothing.
    pub fn push_hidden(&mut self, text: &str) -> String {
        if self.stopped || self.stops.is_empty() {
            return String::new();
        }
        let start = self.held.len();
        self.held.push_str(text);
        self.hidden.push(start..self.held.len());
        self.decide()
    }

    /// Whether a stop string was found.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// The text still held back: at the end of generation it is no stop string.
    pub fn finish(&mut self) -> String {
        self.release(self.held.len())
    }

    fn decide(&mut self) -> String {
        let end = match self.first_complete() {
            Some(at) => {
                self.stopped = true;
                self.held.truncate(at);
                self.hidden.retain(|hidden| hidden.end <= at);
                at
            }
            None => self.undecided(),
        };
        self.release(end)
    }

    /// Takes the first `end` bytes of what is held, and gives what of it is shown.
    fn release(&mut self, end: usize) -> String {
        let tail = self.held.split_off(end);
        let text = std::mem::replace(&mut self.held, tail);
        if self.hidden.is_empty() {
            return text;
        }
        let (mut shown, mut from) = (String::new(), 0);
        for hidden in self.hidden.iter().filter(|hidden| hidden.end <= end) {
            shown += &text[from..hidden.start];
            from = hidden.end;
        }
        shown += &text[from..];
        self.hidden.retain(|hidden| hidden.start >= end);
        for hidden in &mut self.hidden {
            *hidden = hidden.start - end..hidden.end - end;
        }
        shown
    }

    /// Where the longest tail of `held` starts that begins a stop string.
    fn undecided(&self) -> usize {
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let from = self.held.len().saturating_sub(longest);
        let starts = self.held.char_indices().map(|(at, _)| at).filter(|&at| at >= from);
        let held = &self.held;
        let begins = |at: &usize| {
            !self.cuts(*at) && self.stops.iter().any(|stop| stop.starts_with(&held[*at..]))
        };
        starts.into_iter().find(begins).unwrap_or(self.held.len())
    }

    /// Where the stop string begins that is complete first (of two that end together,
    /// the longer). That it ends first, not that it begins first, is what makes the
    /// result the same however the text is cut into tokens.
    fn first_complete(&self) -> Option<usize> {
        let held = &self.held;
        let span = |stop: &String| {
            let places = held.char_indices().map(|(at, _)| (at + stop.len(), at));
            let mut found = places.filter(|(_, at)| held[*at..].starts_with(stop.as_str()));
            found.find(|&(end, at)| !self.cuts(at) && !self.cuts(end))
        };
        self.stops.iter().filter_map(span).min().map(|(_, at)| at)
    }

    /// Whether `at` lies inside a part that is hidden.
    fn cuts(&self, at: usize) -> bool {
        self.hidden.iter().any(|hidden| hidden.start < at && at < hidden.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn gate(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut gate = StopGate::new(&stops);
        let mut shown: String = pieces.iter().map(|piece| gate.push(piece)).collect();
        shown += &gate.finish();
        (shown, gate.stopped())
    }

    #[test]
    fn a_stop_string_may_straddle_pieces() {
        assert_eq!(gate(&["END"], &["the E", "N", "D is near"]), ("the ".into(), true));
        assert_eq!(gate(&["END"], &["the E", "N", "d"]), ("the ENd".into(), false));
        assert_eq!(gate(&["é\n\n"], &["café", "\n", "\nx"]), ("caf".into(), true));
        assert_eq!(gate(&[""], &["a", "b"]), ("ab".into(), false));
    }

    #[test]
    fn text_is_not_held_longer_than_needed() {
        let mut gate = StopGate::new(&["aab".to_owned()]);
        assert_eq!(gate.push("aaa"), "a");
        assert_eq!(gate.push("c"), "aac");
    }

    #[test]
    fn a_control_token_is_matched_as_a_whole_and_never_shown() {
        let stops = ["[INST]".to_owned(), "a<b>c".to_owned(), "[".to_owned()];
        let mut gate = StopGate::new(&stops);
        assert_eq!(gate.push("x") + &gate.push_hidden("[OTHER]") + &gate.push("y"), "xy");
        assert_eq!(gate.push("a") + &gate.push_hidden("<b>"), "", "undecided");
        assert_eq!(gate.push("d"), "ad");
        assert_eq!(gate.push("za") + &gate.push_hidden("<b>") + &gate.push("c!"), "z");
        assert!(gate.stopped());
        let mut gate = StopGate::new(&stops);
        assert_eq!(gate.push("one ") + &gate.push_hidden("[INST]") + &gate.push("two"), "one ");
        assert!(gate.stopped());
    }

    fn letters(len: Range<usize>) -> impl Strategy<Value = String> {
        let letter = prop::sample::select(vec!["a", "b", "\u{e9}"]);
        prop::collection::vec(letter, len).prop_map(|letters| letters.concat())
    }

    proptest! {
        /// However the text is cut into pieces, what is shown is the text up to
        /// the stop string that is complete first, found letter by letter.
        #[test]
        fn any_cut_shows_the_same(
            pieces in prop::collection::vec(letters(0..5), 0..12),
            stops in prop::collection::vec(letters(1..5), 0..3),
        ) {
            let text: String = pieces.concat();
            let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
            let first = ends.into_iter().find_map(|end| {
                let done = stops.iter().filter(|stop| text[..end].ends_with(stop.as_str()));
                done.map(|stop| end - stop.len()).min()
            });
            let expected = first.map_or(text.as_str(), |at| &text[..at]);
            let mut gate = StopGate::new(&stops);
            let mut shown: String = pieces.iter().map(|piece| gate.push(piece)).collect();
            shown += &gate.finish();
            prop_assert_eq!(shown, expected);
            prop_assert_eq!(gate.stopped(), first.is_some());
        }
    }
}
