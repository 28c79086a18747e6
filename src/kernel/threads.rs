//! How many threads to use when nobody says.

use std::collections::HashSet;
use std::fs;
use std::thread::available_parallelism;

/// Physical cores that this process may use: its affinity mask and cgroup
/// quota (both known to the standard library), with the two hardware threads
/// of a core counted once, since they share one multiplier. At least 1.
pub(crate) fn default_threads() -> usize {
    let allowed = available_parallelism().map_or(1, usize::from);
    physical_cores().map_or(allowed, |cores| cores.clamp(1, allowed))
}

/// Cores behind the processors of the affinity mask; `None` where the system
/// does not say (not Linux, or no `/sys`).
fn physical_cores() -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let mut cores = HashSet::new();
    for cpu in parse_list(list.trim())? {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        cores.insert(fs::read_to_string(path).ok()?);
    }
    Some(cores.len())
}

/// `0-3,8` → 0, 1, 2, 3, 8; at most 4096 of them.
fn parse_list(list: &str) -> Option<Vec<u32>> {
    let mut all = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if last < first || last - first >= 4096 {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors() {
        assert_eq!(parse_list("0-3,8"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(parse_list("5"), Some(vec![5]));
        assert_eq!(parse_list("3-1"), None);
        assert_eq!(parse_list("x"), None);
    }

    #[test]
    fn never_more_than_the_system_allows() {
        let allowed = available_parallelism().unwrap().get();
        assert!((1..=allowed).contains(&default_threads()));
    }
}
