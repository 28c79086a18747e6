//! Trying again: how often, and after how long.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use super::{RegistryError, RegistryOptions};

/// The longest wait before another try.
const LONGEST: Duration = Duration::from_secs(60);

/// Waits after so many failures: twice as long each time, and up to half less, so that
/// many who failed together do not come back together.
pub(super) async fn back_off(options: &RegistryOptions, failures: u32) {
    let doubled = options.back_off.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1)));
    // A new state's hash is as random as this needs.
    let share = RandomState::new().hash_one(failures) % 512;
    let less = f64::from(u32::try_from(share).unwrap_or(0)) / 1024.0;
    tokio::time::sleep(doubled.min(LONGEST).mul_f64(1.0 - less)).await;
}

/// Tries something at most `tries` times, while its error is one that passes.
///
/// # Errors
/// The last try's.
pub(super) async fn retry<T, F: Future<Output = Result<T, RegistryError>>>(
    options: &RegistryOptions,
    tries: u32,
    passes: fn(&RegistryError) -> bool,
    mut attempt: impl FnMut() -> F,
) -> Result<T, RegistryError> {
    let mut failures = 0;
    loop {
        match attempt().await {
            Err(error) if passes(&error) && failures + 1 < tries => {
                failures += 1;
                tracing::debug!(%error, failures, "tried again");
                back_off(options, failures).await;
            }
            ended => return ended,
        }
    }
}
