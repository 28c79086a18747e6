//! Work that waits for a disk, or computes for long, on threads where it delays nobody.

/// What the panic of such work becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server failed; its log says more")]
pub struct Panicked;

/// Runs `work` on such a thread.
///
/// # Errors
/// It panicked.
pub async fn compute<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Panicked> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "a task ended early");
        Panicked
    })
}

/// The same for work that may fail.
///
/// # Errors
/// Its own; [`Panicked`] as one.
pub async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<Panicked> + Send + 'static,
{
    compute(work).await?
}

impl From<Panicked> for String {
    fn from(panicked: Panicked) -> Self {
        panicked.to_string()
    }
}
