//! Values as they are written: quotes, truth, sizes, lists.

/// A value as Ollama reads it: without spaces and quotes around it; none if empty.
pub fn clean(value: Option<&str>) -> Option<String> {
    let around = |c: char| c.is_whitespace() || matches!(c, '"' | '\'');
    let text = value?.trim_matches(around);
    (!text.is_empty()).then(|| text.to_owned())
}

/// Go's ParseBool.
pub fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// What people write for yes and no.
pub(super) fn yes_or_no(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "y" | "yes" | "on" => Some(true),
        "0" | "f" | "false" | "n" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// The items of a comma list.
pub(super) fn list(text: &str) -> Vec<String> {
    let items = text.split(',').filter_map(|item| clean(Some(item)));
    items.collect()
}

/// `6GiB`, `500 MB`, `1073741824`: bytes, at least one.
pub(super) fn size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().ok()?;
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "ki" | "kib" => 1024.0,
        "mi" | "mib" => 1_048_576.0,
        "gi" | "gib" => 1_073_741_824.0,
        "ti" | "tib" => 1_099_511_627_776.0,
        _ => return None,
    };
    // Saturates; nobody has more.
    Some((number * factor) as u64).filter(|&bytes| bytes > 0)
}
