//! Sizes, ages and durations in the form that Ollama's users know.

use std::time::Duration;

/// `4.1 GB`
pub fn bytes(count: u64) -> String {
    let units = [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "KB")];
    let unit = units.iter().find(|(unit, _)| count as f64 >= *unit);
    let Some((unit, name)) = unit else { return format!("{count} B") };
    let value = count as f64 / unit;
    match value {
        10.0.. => format!("{} {name}", value as u64),
        _ => format!("{:.1} {name}", (value * 10.0).floor() / 10.0),
    }
}

/// `2 weeks ago`, `3 minutes from now`
pub fn moment(time: &str, now: jiff::Timestamp) -> String {
    let Ok(time) = time.parse::<jiff::Timestamp>() else { return "Never".into() };
    let seconds = time.as_second() - now.as_second();
    if seconds > 200 * 365 * 24 * 3600 {
        return "Forever".into();
    }
    let span = span(seconds.unsigned_abs());
    if seconds > 0 { format!("{span} from now") } else { format!("{span} ago") }
}

fn span(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let days = hours / 24;
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".into(),
        (1, ..) => "1 second".into(),
        (2..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".into(),
        (_, 2..60, _) => format!("{minutes} minutes"),
        (_, _, 1) => "About an hour".into(),
        (_, _, 2..48) => format!("{hours} hours"),
        _ if days < 14 => format!("{days} days"),
        _ if days < 60 => format!("{} weeks", days / 7),
        _ if days < 730 => format!("{} months", days / 30),
        _ => format!("{} years", days / 365),
    }
}

/// A duration as Go prints it: `1m2.5s`, `350.1ms`, `12µs`.
pub fn duration(nanoseconds: u64) -> String {
    let time = Duration::from_nanos(nanoseconds);
    let trimmed = |value: f64, unit: &str| {
        let text = format!("{value:.9}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        format!("{text}{unit}")
    };
    if nanoseconds < 1_000 {
        return if nanoseconds == 0 { "0s".into() } else { format!("{nanoseconds}ns") };
    }
    if nanoseconds < 1_000_000 {
        return trimmed(nanoseconds as f64 / 1e3, "µs");
    }
    if nanoseconds < 1_000_000_000 {
        return trimmed(nanoseconds as f64 / 1e6, "ms");
    }
    let (hours, minutes) = (time.as_secs() / 3600, time.as_secs() / 60 % 60);
    let seconds = trimmed((nanoseconds % 60_000_000_000) as f64 / 1e9, "s");
    match (hours, minutes) {
        (0, 0) => seconds,
        (0, _) => format!("{minutes}m{seconds}"),
        _ => format!("{hours}h{minutes}m{seconds}"),
    }
}
