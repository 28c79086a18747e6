//! One blob: its parts side by side, each tried again from where it ended.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::stream::{self, TryStreamExt};
use reqwest::header::{CONTENT_RANGE, HeaderMap, RANGE};
use reqwest::{Method, Response, StatusCode};

use crate::store::{Digest, Layer, Store};
use crate::task::blocking;

use super::partial::{Claim, Part, Partial};
use super::retry::back_off;
use super::session::{Call, Session};
use super::{Progress, RegistryError};

/// How often progress is told.
const TELL: Duration = Duration::from_millis(60);
/// A try that brought so many bytes was worth it: the count of tries begins anew.
const WORTH: u64 = 64 << 10;
/// Something is told at least so often, for those who wait between us and the client.
const TELL_AT_LEAST: Duration = Duration::from_secs(1);

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
    let partial = loop {
        if is_here(store, layer) {
            // Of a process that ended between the blob's rename and this.
            Partial::forget_records(&Partial::path(store, &digest));
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
    if is_here(store, layer) {
        Partial::discard(&partial.path);
        progress(size);
        return Ok(None);
    }
    let mut shared = Arc::new(partial);
    progress(shared.completed());
    let mut ended = all_parts(session, &digest, &shared, &progress).await;
    if let Err(Ended::Whole) = ended {
        shared = Arc::new(as_one_part(shared).await?);
        ended = all_parts(session, &digest, &shared, &progress).await;
    }
    match ended {
        Ok(()) => {
            progress(size);
            Ok(Some(shared))
        }
        Err(ended) => {
            if shared.completed() == 0 {
                // There is nothing to go on with.
                Partial::discard(&shared.path);
            }
            Err(match ended {
                Ended::Error(error) => error,
                Ended::Whole => RegistryError::Nonsense("neither parts nor a whole".into()),
            })
        }
    }
}

/// Whether the blob is in the store. One of another size is not: a damaged one is
/// replaced, and where the manifest is wrong, what comes will show it.
fn is_here(store: &Store, layer: &Layer) -> bool {
    let about = store.blob(&layer.digest).and_then(|path| std::fs::metadata(path).ok());
    about.is_some_and(|about| about.len() == layer.size)
}

/// The same download as one part, once nobody writes any more.
async fn as_one_part(mut shared: Arc<Partial>) -> Result<Partial, RegistryError> {
    let mut partial = loop {
        match Arc::try_unwrap(shared) {
            Ok(partial) => break partial,
            Err(still) => shared = still,
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    blocking(move || partial.join_parts().map(|()| partial)).await
}

async fn claim(
    session: &Session,
    store: &Store,
    digest: Digest,
    size: u64,
) -> Result<Claim, RegistryError> {
    let (store, options) = (store.clone(), session.registry.options.clone());
    blocking(move || Partial::claim(&store, &digest, size, &options)).await
}

async fn all_parts(
    session: &Session,
    digest: &Digest,
    partial: &Arc<Partial>,
    progress: &(impl Fn(u64) + Send + Sync),
) -> Result<(), Ended> {
    let numbers = stream::iter((0..partial.parts.len()).map(Ok));
    let parts = numbers.try_for_each_concurrent(session.registry.options.parts.max(1), |n| {
        one_part(session, digest, partial.clone(), n)
    });
    let mut parts = std::pin::pin!(parts);
    let mut clock = tokio::time::interval(TELL);
    let mut told = (partial.completed(), Instant::now());
    loop {
        tokio::select! {
            ended = &mut parts => return ended,
            _ = clock.tick() => {
                let completed = partial.completed();
                if completed != told.0 || told.1.elapsed() >= TELL_AT_LEAST {
                    told = (completed, Instant::now());
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
        // Of a small part, a sixteenth.
        let worth = WORTH.min(part.size.div_ceil(16));
        failures = if gained >= worth { 1 } else { failures + 1 };
        if failures >= options.tries {
            return Err(RegistryError::Retries(error.to_string()).into());
        }
        tracing::debug!(part = n, %error, failures, "a part is tried again");
        back_off(options, failures).await;
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
    let response = session.send(Call::new(Method::GET, url).header(RANGE, &range)).await?;
    let skip = match response.status() {
        StatusCode::PARTIAL_CONTENT => {
            check_range(response.headers(), start, partial.size)?;
            0
        }
        // The whole blob, if this part is the whole blob: its beginning may be here.
        StatusCode::OK if part.size == partial.size => start,
        StatusCode::OK => return Err(Ended::Whole),
        _ => return Err(session.refusal("download", response).await.into()),
    };
    take(session, response, skip, partial, n).await
}

/// Puts a body into its part, but for its first bytes.
async fn take(
    session: &Session,
    mut response: Response,
    mut skip: u64,
    partial: &Arc<Partial>,
    n: usize,
) -> Result<(), Ended> {
    let part = &partial.parts[n];
    let record = session.registry.options.record_bytes;
    let completed = part.completed.load(Ordering::Relaxed);
    let mut missing = part.size - completed;
    let record_at = |position: u64| record - (position % record as u64) as usize;
    let mut next = record_at(part.offset + completed);
    let mut buffer = Vec::with_capacity(record);
    while missing > 0 {
        let chunk = match session.chunk(&mut response).await {
            Ok(Some(chunk)) => chunk,
            ended => {
                // What came before the end counts.
                append(partial, n, std::mem::take(&mut buffer)).await?;
                return match ended {
                    Err(error) => Err(error.into()),
                    _ => Err(RegistryError::Transport("the blob ended early".into()).into()),
                };
            }
        };
        let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
        skip -= skipped as u64;
        let chunk = &chunk[skipped..];
        let wanted = usize::try_from(missing).unwrap_or(usize::MAX).min(chunk.len());
        buffer.extend_from_slice(&chunk[..wanted]);
        missing -= wanted as u64;
        while buffer.len() >= next {
            let rest = buffer.split_off(next);
            append(partial, n, std::mem::replace(&mut buffer, rest)).await?;
            next = record;
        }
    }
    Ok(append(partial, n, buffer).await?)
}

async fn append(partial: &Arc<Partial>, n: usize, bytes: Vec<u8>) -> Result<(), RegistryError> {
    if bytes.is_empty() {
        return Ok(());
    }
    let partial = partial.clone();
    blocking(move || {
        let part: &Part = &partial.parts[n];
        partial.append(part, &bytes)
    })
    .await
}

/// Looks at `Content-Range: bytes START-END/SIZE`; the size may be `*`.
fn check_range(headers: &HeaderMap, start: u64, size: u64) -> Result<(), RegistryError> {
    let range = headers.get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let range = range.and_then(|range| range.strip_prefix("bytes ")?.split_once('/'));
    let first = range.and_then(|(range, _)| range.split('-').next()?.trim().parse().ok());
    if first != Some(start) {
        return Err(RegistryError::Nonsense("another part than was asked for".into()));
    }
    match range.and_then(|(_, whole)| whole.trim().parse::<u64>().ok()) {
        Some(whole) if whole != size => {
            let text = format!("a blob has {whole} bytes there and {size} in the manifest");
            Err(RegistryError::Nonsense(text))
        }
        _ => Ok(()),
    }
}
