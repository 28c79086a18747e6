//! Pushing a model.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION};
use reqwest::{Method, StatusCode, Url};

use crate::name::ModelName;
use crate::store::{Entry, Layer, Store, StoreError, media};
use crate::task::blocking;

use super::pull::on_disk;
use super::retry::back_off;
use super::session::{Call, Session, check_move};
use super::{Progress, Registry, RegistryError};

impl Registry {
    /// Sends a model to its registry.
    ///
    /// # Errors
    /// Network, registry, disk: one sentence.
    pub async fn push(
        &self,
        store: &Store,
        name: &ModelName,
        insecure: bool,
        tell: impl Fn(Progress) + Send + Sync,
    ) -> Result<(), RegistryError> {
        tell(Progress::status("retrieving manifest"));
        let (entry, bytes) = match entry(store, name).await {
            Ok(found) => found,
            Err(error) => {
                tell(Progress::status("couldn't retrieve manifest"));
                return Err(error);
            }
        };
        let session = Session::new(self, name, insecure)?;
        for layer in entry.manifest.all() {
            upload(&session, store, layer, &tell).await?;
        }
        tell(Progress::status("pushing manifest"));
        let url = session.url(&format!("manifests/{}", name.tag()))?;
        let mut call = Call::new(Method::PUT, url).header(CONTENT_TYPE, media::MANIFEST);
        call.body = Some(bytes);
        let response = session.send(call).await?;
        if !response.status().is_success() {
            return Err(session.refusal("push manifest", response).await);
        }
        tell(Progress::status("success"));
        Ok(())
    }
}

/// The model, and its manifest byte for byte.
async fn entry(store: &Store, name: &ModelName) -> Result<(Entry, Vec<u8>), RegistryError> {
    let name = name.clone();
    on_disk(store, move |store| Ok(store.manifest_bytes(&name)?)).await
}

/// Sends a blob that the registry does not have. What was sent is sent again if the
/// connection breaks: not every registry says how much it has.
async fn upload(
    session: &Session,
    store: &Store,
    layer: &Layer,
    tell: &(impl Fn(Progress) + Send + Sync),
) -> Result<(), RegistryError> {
    let progress =
        |completed| tell(Progress::blob("pushing", &layer.digest, layer.size, completed));
    progress(0);
    let options = &session.registry.options;
    let mut failures = 0;
    loop {
        let error = match upload_once(session, store, layer, &progress).await {
            Err(error) if error.is_passing() => error,
            ended => return ended,
        };
        failures += 1;
        if failures >= options.tries {
            return Err(RegistryError::Retries(error.to_string()));
        }
        tracing::debug!(digest = %layer.digest, %error, failures, "a blob is sent again");
        back_off(options, failures).await;
    }
}

async fn upload_once(
    session: &Session,
    store: &Store,
    layer: &Layer,
    progress: &(impl Fn(u64) + Send + Sync),
) -> Result<(), RegistryError> {
    let head = Call::new(Method::HEAD, session.url(&format!("blobs/{}", layer.digest))?);
    if session.send(head).await?.status().is_success() {
        progress(layer.size);
        return Ok(());
    }
    let file = open(store, layer).await?;
    let mut call = Call::new(Method::POST, session.url("blobs/uploads/")?);
    call = call.header(CONTENT_LENGTH, "0");
    let mut location = next(session, call, StatusCode::ACCEPTED).await?;
    let most = session.registry.options.sent_bytes.max(1);
    let mut at = 0;
    while at < layer.size {
        let length = most.min(layer.size - at);
        let mut call = Call::new(Method::PATCH, location)
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_RANGE, &format!("{at}-{}", at + length - 1));
        call.body = Some(read(&file, at, length).await?);
        location = next(session, call, StatusCode::ACCEPTED).await?;
        at += length;
        progress(at);
    }
    location.query_pairs_mut().append_pair("digest", &layer.digest.to_string());
    let call = Call::new(Method::PUT, location).header(CONTENT_LENGTH, "0");
    next(session, call, StatusCode::CREATED).await.map(drop)
}

/// Sends a step of an upload; where the next one goes.
async fn next(session: &Session, call: Call, wanted: StatusCode) -> Result<Url, RegistryError> {
    let asked = call.url.clone();
    let response = session.send(call).await?;
    if response.status() != wanted {
        return Err(session.refusal("upload", response).await);
    }
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let Some(location) = location else { return Ok(asked) };
    let url = asked.join(location);
    let url = url.map_err(|error| RegistryError::Nonsense(error.to_string()))?;
    // The model goes to the registry, or where that says.
    check_move(&asked, &url)?;
    Ok(url)
}

/// A blob that has the size that the manifest says.
async fn open(store: &Store, layer: &Layer) -> Result<Arc<File>, RegistryError> {
    let (digest, wanted) = (layer.digest, layer.size);
    on_disk(store, move |store| {
        let path = store.blob(&digest).ok_or(StoreError::MissingBlob(digest))?;
        let failed = |error: std::io::Error| RegistryError::Disk(error.to_string());
        let file = File::open(&path).map_err(failed)?;
        match file.metadata().map_err(failed)?.len() {
            got if got == wanted => Ok(Arc::new(file)),
            got => Err(StoreError::Size { digest, wanted, got }.into()),
        }
    })
    .await
}

async fn read(file: &Arc<File>, at: u64, length: u64) -> Result<Vec<u8>, RegistryError> {
    let file = file.clone();
    blocking(move || {
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let read = file.read_exact_at(&mut bytes, at).map(|()| bytes);
        read.map_err(|error| RegistryError::Disk(error.to_string()))
    })
    .await
}
