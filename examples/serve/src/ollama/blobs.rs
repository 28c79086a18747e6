//! `HEAD` and `POST /api/blobs/:digest`

use std::io::Write;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use futures_util::StreamExt;
use tokio::sync::mpsc;

use crate::app::Shared;
use crate::store::{Digest, Store, StoreError};
use crate::task::{blocking, compute};
use crate::wire::{ApiError, Result};

/// Whether the blob is there.
///
/// # Errors
/// 400 `invalid digest format`, 404.
pub async fn has_blob(State(app): State<Shared>, Path(digest): Path<String>) -> Result<StatusCode> {
    let parsed = parse(&digest)?;
    blocking(move || match app.store.blob(&parsed) {
        Some(_) => Ok(StatusCode::OK),
        None => Err(ApiError::not_found(format!("blob {digest:?} not found"))),
    })
    .await
}

/// Takes a blob: it stands under its name only if it is what its digest says.
///
/// # Errors
/// 400 `invalid digest format`, `digest mismatch, …`; 500 for a full disk.
pub async fn put_blob(
    State(app): State<Shared>,
    Path(digest): Path<String>,
    body: Body,
) -> Result<StatusCode> {
    let digest = parse(&digest)?;
    let (store, known) = (app.store.clone(), digest);
    if compute(move || store.blob(&known).is_some()).await? {
        return Ok(StatusCode::OK);
    }
    // A few chunks between the network and the disk.
    let (sender, chunks) = mpsc::channel(8);
    let writing = blocking(move || write(&app.store, &digest, chunks));
    let reading = async move {
        let mut stream = body.into_data_stream();
        while let Some(chunk) = stream.next().await {
            // Cut: what was sent is thrown away with the sender.
            let Ok(chunk) = chunk else { return };
            if sender.send(Some(chunk)).await.is_err() {
                return;
            }
        }
        let _ = sender.send(None).await;
    };
    let ((), written) = tokio::join!(reading, writing);
    written
}

/// Writes what comes until its end; a client that goes away before leaves nothing.
fn write(
    store: &Store,
    digest: &Digest,
    mut chunks: mpsc::Receiver<Option<Bytes>>,
) -> Result<StatusCode> {
    let mut blob = store.begin_blob().map_err(failed)?;
    loop {
        match chunks.blocking_recv() {
            Some(Some(chunk)) => {
                blob.write_all(&chunk).map_err(|error| ApiError::internal(error.to_string()))?;
            }
            Some(None) => break,
            None => return Err(ApiError::bad_request("unexpected EOF")),
        }
    }
    blob.finish(Some(digest), None).map_err(failed)?;
    Ok(StatusCode::CREATED)
}

fn failed(error: StoreError) -> ApiError {
    match error {
        StoreError::Mismatch { .. } => ApiError::bad_request(error.to_string()),
        error => ApiError::internal(error.to_string()),
    }
}

fn parse(digest: &str) -> Result<Digest> {
    digest.parse().map_err(|_| ApiError::bad_request("invalid digest format"))
}
