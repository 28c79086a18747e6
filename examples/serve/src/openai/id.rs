//! Names of replies, which clients keep in their logs and caches: none comes twice.

use std::hash::{BuildHasher, RandomState};
use std::time::SystemTime;

/// `prefix` and 24 random hexadecimal digits.
pub fn random(prefix: &str) -> String {
    // The standard library seeds each `RandomState` anew from the system's randomness
    // or from its last seed; two of them and the time give 128 bits to cut from.
    let part = || RandomState::new().hash_one(SystemTime::now());
    let digits = format!("{:016x}{:016x}", part(), part());
    format!("{prefix}{}", &digits[..24])
}

/// Seconds since 1970.
pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
