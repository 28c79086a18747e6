//! Pulling a model.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use reqwest::header::ACCEPT;
use reqwest::{Method, StatusCode};

use crate::name::ModelName;
use crate::store::{Digest, Layer, Manifest, Store, StoreError, media};
use crate::task::blocking;

use super::download::download;
use super::partial::Partial;
use super::retry::retry;
use super::session::{Call, Session};
use super::{Progress, Registry, RegistryError};

/// Tries to get a manifest: somebody waits for the first line.
const MANIFEST_TRIES: u32 = 3;
/// Bytes of a blob at most.
const LARGEST: u64 = 4 << 40;

impl Registry {
    /// Fetches a model into the store. Dropping the future ends it; what came stays for
    /// the next time.
    ///
    /// # Errors
    /// Network, registry, disk: one sentence. The store is as it was, but for blobs.
    pub async fn pull(
        &self,
        store: &Store,
        name: &ModelName,
        insecure: bool,
        tell: impl Fn(Progress) + Send + Sync,
    ) -> Result<(), RegistryError> {
        tell(Progress::status("pulling manifest"));
        let session = Session::new(self, name, insecure)?;
        let tries = MANIFEST_TRIES.min(self.options.tries);
        let (bytes, manifest) =
            retry(&self.options, tries, RegistryError::is_hiccup, || manifest(&session, name))
                .await?;
        let layers = layers(&manifest)?;
        let digests: Vec<Digest> = layers.iter().map(|layer| layer.digest).collect();
        let _pin = on_disk(store, move |store| Ok(store.pin(&digests)?)).await?;
        let mut new = Vec::new();
        for layer in &layers {
            if let Some(partial) = download(&session, store, layer, &tell).await? {
                new.push((layer.clone(), partial));
            }
        }
        tell(Progress::status("verifying sha256 digest"));
        on_disk(store, move |store| {
            // All of them, so that no wrong one is met again by the next pull.
            let adopted = new.iter().map(|(layer, partial)| adopt(store, layer, partial));
            adopted.fold(Ok(()), Result::and)
        })
        .await?;
        tell(Progress::status("writing manifest"));
        let unused = {
            let name = name.clone();
            on_disk(store, move |store| {
                let old = store.write_manifest(&name, &bytes)?;
                Ok(old.map(|old| unused(&old.manifest, &manifest)).unwrap_or_default())
            })
            .await?
        };
        if !unused.is_empty() && store.prunes() {
            tell(Progress::status("removing unused layers"));
            on_disk(store, move |store| {
                store.release(&unused);
                Ok(())
            })
            .await?;
        }
        tell(Progress::status("success"));
        Ok(())
    }
}

/// Runs what waits for the disk where it holds up nobody.
pub(super) async fn on_disk<T: Send + 'static>(
    store: &Store,
    work: impl FnOnce(&Store) -> Result<T, RegistryError> + Send + 'static,
) -> Result<T, RegistryError> {
    let store = store.clone();
    blocking(move || work(&store)).await
}

async fn manifest(
    session: &Session,
    name: &ModelName,
) -> Result<(Vec<u8>, Manifest), RegistryError> {
    let url = session.url(&format!("manifests/{}", name.tag()))?;
    let response =
        session.send(Call::new(Method::GET, url).header(ACCEPT, media::MANIFEST)).await?;
    match response.status() {
        status if status.is_success() => {}
        StatusCode::NOT_FOUND => return Err(RegistryError::NoModel),
        _ => return Err(session.refusal("pull model manifest", response).await),
    }
    // Bounded before it is in memory.
    let most = usize::try_from(Manifest::LARGEST).unwrap_or(usize::MAX);
    let bytes = session.read(response, most).await?;
    let manifest = Manifest::parse(&bytes)
        .map_err(|problem| RegistryError::Nonsense(format!("manifest: {problem}")))?;
    if manifest.layers.is_empty() {
        return Err(RegistryError::Nonsense("manifest: it has no layers".into()));
    }
    if manifest.layers.iter().any(|layer| layer.media_type == media::TENSOR) {
        return Err(RegistryError::NotGguf);
    }
    Ok((bytes, manifest))
}

/// Each blob once, the config last.
fn layers(manifest: &Manifest) -> Result<Vec<Layer>, RegistryError> {
    let mut seen = HashMap::new();
    let mut layers = Vec::new();
    for layer in manifest.all() {
        let (digest, size) = (layer.digest, layer.size);
        if size > LARGEST {
            let text = format!("manifest: {digest} has {size} bytes; {LARGEST} are the most");
            return Err(RegistryError::Nonsense(text));
        }
        match seen.insert(digest, size) {
            None => layers.push(layer.clone()),
            Some(other) if other == size => {}
            Some(_) => {
                let text = format!("manifest: {digest} has two sizes");
                return Err(RegistryError::Nonsense(text));
            }
        }
    }
    Ok(layers)
}

/// Gives a complete download its name, if its hash is right; else removes it.
fn adopt(store: &Store, layer: &Layer, partial: &Arc<Partial>) -> Result<(), RegistryError> {
    match store.adopt_partial(&partial.path, &layer.digest, layer.size) {
        Ok(()) => {
            Partial::forget_records(&partial.path);
            Ok(())
        }
        Err(StoreError::Mismatch { wanted, got }) => {
            Partial::discard(&partial.path);
            Err(RegistryError::Mismatch { wanted, got })
        }
        Err(error) => Err(error.into()),
    }
}

fn unused(old: &Manifest, new: &Manifest) -> Vec<Digest> {
    let needed: HashSet<Digest> = new.all().map(|layer| layer.digest).collect();
    let old = old.all().map(|layer| layer.digest);
    old.filter(|digest| !needed.contains(digest)).collect()
}
