//! Stop strings in streamed text.
//!
//! Text is released as soon as it cannot be part of a stop string any more: a
//! tail that is a proper beginning of one is held back until it is decided.

/// Cuts streamed text at the first stop string.
#[derive(Debug, Clone, Default)]
pub(crate) struct StopGate {
    stops: Vec<String>,
    /// Text that may be the beginning of a stop string.
    held: String,
    stopped: bool,
}

impl StopGate {
    /// Empty strings are ignored: they would stop everything at once.
    pub fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        StopGate { stops, held: String::new(), stopped: false }
    }

    /// Adds `text`; returns what may be shown. After a match nothing more is.
    pub fn push(&mut self, text: &str) -> String {
        if self.stopped {
            return String::new();
        }
        self.held.push_str(text);
        if let Some(at) = first_complete(&self.held, &self.stops) {
            self.stopped = true;
            self.held.truncate(at);
            return self.finish();
        }
        let undecided = self.undecided();
        let tail = self.held.split_off(undecided);
        std::mem::replace(&mut self.held, tail)
    }

    /// Whether a stop string was found.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// The text still held back: at the end of generation it is no stop string.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Where the longest tail of `held` starts that begins a stop string.
    fn undecided(&self) -> usize {
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let from = self.held.len().saturating_sub(longest);
        let starts = self.held.char_indices().map(|(at, _)| at).filter(|&at| at >= from);
        let held = &self.held;
        let begins = |at: &usize| self.stops.iter().any(|stop| stop.starts_with(&held[*at..]));
        starts.into_iter().find(begins).unwrap_or(self.held.len())
    }
}

/// Where the stop string begins that is complete first (of two that end together,
/// the longer). That it ends first, not that it begins first, is what makes the
/// result the same however the text is cut into tokens.
fn first_complete(text: &str, stops: &[String]) -> Option<usize> {
    let span = |stop: &String| text.find(stop.as_str()).map(|at| (at + stop.len(), at));
    stops.iter().filter_map(span).min().map(|(_, at)| at)
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

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
