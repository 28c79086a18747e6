//! Models as a registry has them, and pulls of them.

pub mod mock;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use tramontane_serve::name::ModelName;
use tramontane_serve::registry::{Progress, Registry, RegistryError, RegistryOptions};
use tramontane_serve::store::{Digest, Manifest, Store};

/// A model as a registry has it: its blobs, the config last.
#[derive(Debug, Clone)]
pub struct Model {
    pub blobs: Vec<Vec<u8>>,
    pub manifest: Value,
}

const TYPES: [&str; 4] = [
    "application/vnd.ollama.image.model",
    "application/vnd.ollama.image.template",
    "application/vnd.ollama.image.params",
    "application/vnd.docker.container.image.v1+json",
];

impl Model {
    /// Weights of so many bytes that differ from seed to seed, and three small blobs,
    /// of which the template is the same in all models.
    pub fn new(seed: u64, weights: usize) -> Self {
        Model::of(vec![
            noise(seed, weights),
            b"{{ .Prompt }}".to_vec(),
            format!("{{\"seed\":{seed}}}").into_bytes(),
            format!("{{\"model_format\":\"gguf\",\"n\":{seed}}}").into_bytes(),
        ])
    }

    /// Of these blobs; the last is the config.
    pub fn of(blobs: Vec<Vec<u8>>) -> Self {
        let layer = |(n, blob): (usize, &Vec<u8>)| {
            let (digest, size) = (Digest::of(blob).to_string(), blob.len());
            let kind = if n + 1 == blobs.len() { TYPES[3] } else { TYPES[n.min(2)] };
            json!({"mediaType": kind, "digest": digest, "size": size})
        };
        let mut layers: Vec<Value> = blobs.iter().enumerate().map(layer).collect();
        let config = layers.pop().unwrap();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": config,
            "layers": layers,
        });
        Model { blobs, manifest }
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.manifest.to_string().into_bytes()
    }

    pub fn digest(&self, n: usize) -> Digest {
        Digest::of(&self.blobs[n])
    }

    /// Puts it into a store, past the registry.
    pub fn install(&self, store: &Store, name: &ModelName) {
        for blob in &self.blobs {
            let mut writer = store.begin_blob().unwrap();
            writer.write_all(blob).unwrap();
            writer.finish(None, None).unwrap();
        }
        store.write_manifest(name, &self.bytes()).unwrap();
    }

    /// Panics unless the store has it, byte for byte.
    pub fn assert_in(&self, store: &Store, name: &ModelName) {
        let (entry, bytes) = store.manifest_bytes(name).unwrap();
        assert_eq!(bytes, self.bytes());
        let manifest = Manifest::parse(&bytes).unwrap();
        assert_eq!(entry.manifest, manifest);
        for (layer, blob) in manifest.all().zip(&self.blobs) {
            assert_eq!(&fs::read(store.blob(&layer.digest).unwrap()).unwrap(), blob);
        }
    }
}

/// Bytes without a pattern, always the same for a seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    (0..length).map(|_| (state.next() >> 32) as u8).collect()
}

/// xorshift64
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Small parts, short waits.
pub fn options() -> RegistryOptions {
    RegistryOptions {
        parts: 4,
        part_bytes: (16 << 10, 64 << 10),
        record_bytes: 4 << 10,
        sent_bytes: 32 << 10,
        tries: 4,
        back_off: Duration::from_millis(2),
        idle: Duration::from_secs(1),
        ..RegistryOptions::default()
    }
}

pub fn registry() -> Registry {
    Registry::new(options()).unwrap()
}

/// A store in a folder that goes when it is dropped.
pub fn store() -> (Store, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("models"), false).unwrap();
    store.prepare().unwrap();
    (store, folder)
}

pub fn name_at(host: &str, model: &str) -> ModelName {
    ModelName::parse(&format!("{host}/library/{model}:latest")).unwrap()
}

/// A pull of at most 20 s and what it told.
pub async fn pull(
    registry: &Registry,
    store: &Store,
    name: &ModelName,
) -> (Result<(), RegistryError>, Vec<Progress>) {
    let told = std::sync::Mutex::new(Vec::new());
    let pull = registry.pull(store, name, true, |progress| told.lock().unwrap().push(progress));
    let ended = tokio::time::timeout(Duration::from_secs(20), pull).await.expect("it ends");
    (ended, told.into_inner().unwrap())
}

/// Panics if something in the store is not what its name says.
pub fn assert_clean(store: &Store) {
    let report = store.verify(&mut |_, _| ()).unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    for file in files(&store.root().join("blobs")) {
        if let Ok(digest) = file.parse::<Digest>() {
            let bytes = fs::read(store.blob_path(&digest)).unwrap();
            assert_eq!(Digest::of(&bytes), digest, "a wrong file has a final name");
        }
    }
}

/// The names of the files in a folder, in order.
pub fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

/// `N Offset Size Completed` of a download on its way, as its files say it.
pub fn records(store: &Store, digest: &Digest) -> Vec<[u64; 4]> {
    let prefix = format!("{}-partial-", digest.file_name());
    let blobs = store.root().join("blobs");
    let ours = files(&blobs).into_iter().filter(|name| name.starts_with(&prefix));
    let read = |name: String| -> Option<[u64; 4]> {
        let record: Value = serde_json::from_slice(&fs::read(blobs.join(name)).ok()?).ok()?;
        let field = |name: &str| record[name].as_u64();
        Some([field("N")?, field("Offset")?, field("Size")?, field("Completed")?])
    };
    let mut records: Vec<[u64; 4]> = ours.filter_map(read).collect();
    records.sort_unstable();
    records
}
