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
        "model requires more system memory ({} GiB) than is available ({} GiB)",
        gib(*.needed), gib(*.allowed)
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

fn gib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 30))
}

impl From<Panicked> for ScheduleError {
    fn from(_: Panicked) -> Self {
        ScheduleError::Cancelled
    }
}
