//! Stores, and what is put into them.

use std::fs;
use std::io::Write;

use serde_json::json;

use tramontane::Gguf;
use tramontane::gguf::{TensorSpec, Value, Writer};
use tramontane_serve::name::ModelName;
use tramontane_serve::store::{Digest, Store};

pub fn name(text: &str) -> ModelName {
    ModelName::parse(text).unwrap()
}

pub fn put(store: &Store, bytes: &[u8]) -> (Digest, u64) {
    let mut blob = store.begin_blob().unwrap();
    blob.write_all(bytes).unwrap();
    blob.finish(None, None).unwrap()
}

/// A manifest of blobs that are put first.
pub fn manifest(store: &Store, config: &[u8], layers: &[&[u8]]) -> Vec<u8> {
    let layer = |kind: &str, bytes: &[u8]| {
        let (digest, size) = put(store, bytes);
        json!({"mediaType": kind, "digest": digest, "size": size})
    };
    let layers: Vec<_> =
        layers.iter().map(|bytes| layer("application/vnd.ollama.image.model", bytes)).collect();
    let config = layer("application/vnd.docker.container.image.v1+json", config);
    let kind = "application/vnd.docker.distribution.manifest.v2+json";
    json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers})
        .to_string()
        .into_bytes()
}

pub fn add(store: &Store, model: &str, layers: &[&[u8]]) {
    let bytes = manifest(store, b"{}", layers);
    store.write_manifest(&name(model), &bytes).unwrap();
}

pub fn blobs(store: &Store) -> Vec<String> {
    let files = fs::read_dir(store.root().join("blobs")).unwrap();
    let mut names: Vec<_> =
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub fn assert_clean(store: &Store) {
    let report = store.verify(&mut |_, _| {}).unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
}

/// The file of the built-in model with another value of a key.
pub fn model_with(key: &str, value: Value) -> Vec<u8> {
    let file = Gguf::from_bytes(tramontane_serve::builtin::BYTES).unwrap();
    let mut metadata = file.metadata().clone();
    metadata.set(key, value).unwrap();
    let specs: Vec<TensorSpec> = file.tensors().iter().map(TensorSpec::from).collect();
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, &metadata, &specs).unwrap();
    for tensor in file.tensors() {
        writer.write(tensor.bytes()).unwrap();
    }
    writer.finish().unwrap();
    bytes
}
