//! The model store, on disk as Ollama's: `manifests/` and `blobs/`.
