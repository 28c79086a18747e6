//! One blob: its parts side by side, each tried again from where it ended.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::stream::{self, TryStreamExt};
use reqwest::header::{CONTENT_RANGE, HeaderMap, RANGE};
use reqwest::{Method, StatusCode};
use tokio::task::spawn_blocking;

use crate::store::{Digest, Layer, Store};

use super::partial::{Claim, Part, Partial};
use super::session::{Call, Session};
use super::{Progress, RegistryError};

/// Bytes between two records of how far a part is.
const RECORD: usize = 1 << 20;
/// How often progress is told.
const TELL: Duration = Duration::from_millis(60);
/// A try that brought so many bytes was worth it: the count of tries begins anew.
const WORTH: u64 = 64 << 10;

/// How a part ended that did not end well.
enum Ended {
    /// It cannot go on.
    Error(RegistryError),
    /// The registry sent the whole blob where a part was asked for.
    Whole,
}

impl From<RegistryError> for Ended {
    fn from(error: RegistryError) -> Self {
        Ended::Error(error)
    }
}

/// Fetches a blob, or waits while somebody else does. It is complete but not hashed
/// then; the path of its partial file, none if it is in the store.
///
/// # Errors
/// Network, registry, disk. What came stays, for the next time.
pub(super) async fn download(
    session: &Session,
    store: &Store,
    layer: &Layer,
    tell: &(impl Fn(Progress) + Send + Sync),
) -> Result<Option<Arc<Partial>>, RegistryError> {
    let (digest, size) = (layer.digest, layer.size);
    let progress = |completed| tell(Progress::blob("pulling", &digest, size, completed));
    let mut partial = loop {
        if store.blob(&digest).is_some() {
            progress(size);
            return Ok(None);
        }
        match claim(session, store, digest, size).await? {
            Claim::Ours(partial) => break partial,
            Claim::Others(completed) => {
                progress(completed.min(size));
                tokio::time::sleep(4 * TELL).await;
            }
        }
    };
    // It may have come between the look and the claim.
    if store.blob(&digest).is_some() {
        Partial::discard(&partial.path);
        progress(size);
        return Ok(None);
    }
    for whole in [false, true] {
        if whole {
            partial.restart_whole()?;
        }
        let shared = Arc::new(partial);
        progress(shared.completed());
        match all_parts(session, &digest, &shared, &progress).await {
            Ok(()) => {
                progress(size);
                return Ok(Some(shared));
            }
            Err(Ended::Error(error)) => return Err(error),
            Err(Ended::Whole) => {}
        }
        partial = Arc::into_inner(shared)
            .ok_or_else(|| RegistryError::Nonsense("parts are still being written".into()))?;
    }
    Err(RegistryError::Nonsense("it neither sends parts nor wholes".into()))
}

async fn claim(
    session: &Session,
    store: &Store,
    digest: Digest,
    size: u64,
) -> Result<Claim, RegistryError> {
    let (store, options) = (store.clone(), session.registry.options.clone());
    let claimed = spawn_blocking(move || Partial::claim(&store, &digest, size, &options)).await;
    claimed.map_err(|error| RegistryError::Disk(error.to_string()))?
}

async fn all_parts(
    session: &Session,
    digest: &Digest,
    partial: &Arc<Partial>,
    progress: &(impl Fn(u64) + Send + Sync),
) -> Result<(), Ended> {
    let numbers = stream::iter((0..partial.parts.len()).map(Ok));
    let parts = numbers
        .try_for_each_concurrent(session.registry.options.parts.max(1), |n| {
            one_part(session, digest, partial.clone(), n)
        });
    let mut parts = std::pin::pin!(parts);
    let mut clock = tokio::time::interval(TELL);
    let mut told = partial.completed();
    loop {
        tokio::select! {
            ended = &mut parts => return ended,
            _ = clock.tick() => {
                let completed = partial.completed();
                if completed != told {
                    told = completed;
                    progress(completed);
                }
            }
        }
    }
}

/// Tries until the part is complete.
async fn one_part(
    session: &Session,
    digest: &Digest,
    partial: Arc<Partial>,
    n: usize,
) -> Result<(), Ended> {
    let options = &session.registry.options;
    let mut failures = 0;
    loop {
        let part = &partial.parts[n];
        let before = part.completed.load(Ordering::Relaxed);
        if before == part.size {
            return Ok(());
        }
        let error = match fetch(session, digest, &partial, n).await {
            Ok(()) => continue,
            Err(Ended::Error(error)) if error.is_passing() => error,
            Err(ended) => return Err(ended),
        };
        let gained = part.completed.load(Ordering::Relaxed) - before;
        failures = if gained >= WORTH { 1 } else { failures + 1 };
        if failures >= options.tries {
            return Err(RegistryError::Retries(error.to_string()).into());
        }
        tracing::debug!(part = n, %error, failures, "a part is tried again");
        tokio::time::sleep(options.back_off * 2u32.saturating_pow(failures - 1)).await;
    }
}

/// Asks for what is missing of a part and takes what comes, no more.
async fn fetch(
    session: &Session,
    digest: &Digest,
    partial: &Arc<Partial>,
    n: usize,
) -> Result<(), Ended> {
    let part = &partial.parts[n];
    let start = part.offset + part.completed.load(Ordering::Relaxed);
    let end = part.offset + part.size;
    let url = session.url(&format!("blobs/{digest}"))?;
    let range = format!("bytes={start}-{}", end - 1);
    let mut response = session.send(Call::new(Method::GET, url).header(RANGE, &range)).await?;
    match response.status() {
        StatusCode::PARTIAL_CONTENT if starts_at(response.headers(), start) => {}
        StatusCode::PARTIAL_CONTENT => {
            return Err(RegistryError::Nonsense("another part than was asked for".into()).into());
        }
        // The whole blob is the part, if the part is the whole blob.
        StatusCode::OK if start == 0 && part.size == partial.size => {}
        StatusCode::OK => return Err(Ended::Whole),
        _ => return Err(session.refusal("download", response).await.into()),
    }
    let mut missing = end - start;
    let mut buffer = Vec::with_capacity(RECORD);
    while missing > 0 {
        let chunk = match session.chunk(&mut response).await {
            Ok(Some(chunk)) => chunk,
            ended => {
                // What came before the end counts.
                append(partial, n, std::mem::take(&mut buffer)).await?;
                return match ended {
                    Err(error) => Err(error.into()),
                    _ => Err(RegistryError::Transport("the part ended early".into()).into()),
                };
            }
        };
        let wanted = usize::try_from(missing).unwrap_or(usize::MAX).min(chunk.len());
        buffer.extend_from_slice(&chunk[..wanted]);
        missing -= wanted as u64;
        if buffer.len() >= RECORD || missing == 0 {
            append(partial, n, std::mem::take(&mut buffer)).await?;
        }
    }
    Ok(())
}

async fn append(partial: &Arc<Partial>, n: usize, bytes: Vec<u8>) -> Result<(), RegistryError> {
    if bytes.is_empty() {
        return Ok(());
    }
    let partial = partial.clone();
    let written = spawn_blocking(move || {
        let part: &Part = &partial.parts[n];
        partial.append(part, &bytes)
    });
    written.await.map_err(|error| RegistryError::Disk(error.to_string()))?
}

/// Whether `Content-Range: bytes START-END/SIZE` begins where it should.
fn starts_at(headers: &HeaderMap, start: u64) -> bool {
    let range = headers.get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let first = range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next());
    first.and_then(|first| first.trim().parse().ok()) == Some(start)
}
