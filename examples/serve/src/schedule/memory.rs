//! How much memory there is for models.

use std::fs;
use std::path::Path;

/// What this process can still have: what the machine can give without swapping, and
/// what its control groups allow, whichever is less.
pub(super) fn available() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| mem_available(&text));
    let group = group_limit();
    // Where nothing is known, loading is tried.
    machine.unwrap_or(u64::MAX).min(group.unwrap_or(u64::MAX))
}

fn mem_available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The limit of the control group, of version 2 or 1: of this process' own group and of
/// those around it, as far as they are mounted.
fn group_limit() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let limits = own.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (id, kinds, path) = (fields.next()?, fields.next()?, fields.next()?);
        match (id, kinds) {
            ("0", "") => lowest("/sys/fs/cgroup", path, "memory.max"),
            (_, kinds) if kinds.split(',').any(|kind| kind == "memory") => {
                lowest("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes")
            }
            _ => None,
        }
    });
    limits.min()
}

/// The lowest limit on the way from `path` to the root.
fn lowest(mount: &str, path: &str, file: &str) -> Option<u64> {
    let read = |folder: &Path| -> Option<u64> {
        fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok()
    };
    let inside = Path::new(path.trim_start_matches('/'));
    inside.ancestors().filter_map(|part| read(&Path::new(mount).join(part))).min()
}
