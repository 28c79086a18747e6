//! Why a model cannot be had.

use std::time::Duration;

use crate::task::Panicked;

/// One sentence, in Ollama's words where it has them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// Too many wait already.
    #[error("server busy, please try again.  maximum pending requests exceeded")]
    Busy,
    /// It does not fit, whatever else goes.
    #[error(
        "model requires more system memory ({}) than is available ({}); ask for a smaller num_ctx, \
         take a smaller model, or give the server more (--memory)",
        binary(*.needed), binary(*.allowed)
    )]
    TooLarge {
        /// Bytes that the model and one conversation need.
        needed: u64,
        /// Bytes for all models.
        allowed: u64,
    },
    /// The file is gone.
    #[error("the model's file is not there")]
    NotFound,
    /// The library refuses the file.
    #[error("unable to load model: {0}")]
    Load(tramontane::Error),
    /// Opening took too long.
    #[error("timed out waiting for the model to load after {} s", .0.as_secs())]
    Timeout(Duration),
    /// The server is ending.
    #[error("server is shutting down")]
    ShuttingDown,
    /// The work was given up.
    #[error("request canceled")]
    Cancelled,
}

/// `4.1 GiB`, and never `0.0` of something.
pub fn binary(bytes: u64) -> String {
    let units = [(1u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} bytes"),
    }
}

impl From<Panicked> for ScheduleError {
    fn from(_: Panicked) -> Self {
        ScheduleError::Cancelled
    }
}
