//! Names that somebody may have meant.

/// How alike two names must be, from 0 to 1.
const ALIKE: f64 = 0.85;
/// Names that are offered.
const OFFERED: usize = 3;

/// The names most like `name`, the best first.
pub fn nearest<'n>(name: &str, names: impl IntoIterator<Item = &'n str>) -> Vec<&'n str> {
    let name = name.to_lowercase();
    let likeness = |other: &str| {
        let other = other.to_lowercase();
        let bare = other.strip_suffix(":latest").unwrap_or(&other);
        strsim::jaro_winkler(&name, bare).max(strsim::jaro_winkler(&name, &other))
    };
    let mut alike: Vec<(f64, &str)> = names
        .into_iter()
        .map(|other| (likeness(other), other))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .collect();
    alike.sort_by(|a, b| b.0.total_cmp(&a.0));
    alike.into_iter().take(OFFERED).map(|(_, name)| name).collect()
}
