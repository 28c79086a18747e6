//! Markers in a text that is still growing.

/// Whether one of several markers stands at the beginning of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    /// The longest one that does: its place among them and its length.
    Full(usize, usize),
    /// More text will tell.
    Partial,
    No,
}

/// Which of `markers` `text` begins with. `ended`: no more text will come.
pub(super) fn starts<'m>(
    text: &str,
    markers: impl IntoIterator<Item = &'m str>,
    ended: bool,
) -> Match {
    let mut found = Match::No;
    for (index, marker) in markers.into_iter().enumerate() {
        if text.starts_with(marker) {
            if !matches!(found, Match::Full(_, length) if length >= marker.len()) {
                found = Match::Full(index, marker.len());
            }
        } else if !ended && marker.starts_with(text) {
            return Match::Partial;
        }
    }
    found
}

/// The beginning of a text, about `limit` bytes.
pub(super) fn near(text: &str, limit: usize) -> &str {
    text.get(..text.floor_char_boundary(limit)).unwrap_or(text)
}

/// Looks for the first of several markers.
#[derive(Debug, Clone)]
pub(super) struct Finder {
    markers: Vec<String>,
    /// The bytes that markers begin with.
    first: [bool; 256],
}

/// What a [`Finder`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Find {
    /// The first marker: where, and which.
    At(usize, usize),
    /// None before this place, where one may begin.
    Hold(usize),
}

impl Finder {
    pub(super) fn new(markers: Vec<String>) -> Self {
        let mut first = [false; 256];
        for byte in markers.iter().filter_map(|marker| marker.bytes().next()) {
            first[usize::from(byte)] = true;
        }
        Finder { markers, first }
    }

    /// The marker with this place in the list.
    pub(super) fn marker(&self, index: usize) -> &str {
        self.markers.get(index).map_or("", String::as_str)
    }

    /// The first marker in `text`. `ended`: no more text will come.
    pub(super) fn find(&self, text: &str, ended: bool) -> Find {
        for (at, byte) in text.bytes().enumerate() {
            if !self.first[usize::from(byte)] || !text.is_char_boundary(at) {
                continue;
            }
            match starts(&text[at..], self.markers.iter().map(String::as_str), ended) {
                Match::Full(index, _) => return Find::At(at, index),
                Match::Partial => return Find::Hold(at),
                Match::No => {}
            }
        }
        Find::Hold(text.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_marker_counts_and_only_what_may_be_one_is_held_back() {
        let finder = Finder::new(["<a>", "<a>>", "[b]"].map(str::to_owned).to_vec());
        assert_eq!(finder.find("x <a>>", false), Find::At(2, 1));
        assert_eq!(finder.find("x <a>", false), Find::Hold(2));
        assert_eq!(finder.find("x <a>", true), Find::At(2, 0));
        assert_eq!(finder.find("x <a>y", false), Find::At(2, 0));
        assert_eq!(finder.find("é <c> [", false), Find::Hold(7));
        assert_eq!(finder.find("é <c> [", true), Find::Hold(8));
    }
}
