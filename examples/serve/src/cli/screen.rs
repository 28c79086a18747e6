//! Where commands write.

use std::io::Write;

/// Any error, as one sentence.
pub type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Where a command writes: `out` is its result, `notes` is for people. Whether these are
/// terminals decides about bars and colours.
pub struct Screen<'a> {
    /// Results.
    pub out: &'a mut (dyn Write + Send),
    /// Whether results are read by a person.
    pub terminal: bool,
}

/// Width of the terminal that results go to: `COLUMNS` if it is set, else what the
/// terminal says, else 80.
pub fn columns() -> usize {
    let set = std::env::var("COLUMNS").ok();
    let terminal = console::Term::stdout().size_checked().map(|(_, columns)| columns);
    width(set.as_deref(), terminal)
}

/// The same, from what was found.
pub fn width(set: Option<&str>, terminal: Option<u16>) -> usize {
    let set = set.and_then(|set| set.trim().parse().ok());
    set.or(terminal.map(usize::from)).filter(|&columns| columns > 0).unwrap_or(80)
}
