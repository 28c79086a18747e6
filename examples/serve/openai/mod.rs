//! stub
use axum::{extract::State,body::Bytes,response::Response}; use crate::app::Shared;
pub async fn chat_completions(State(_): State<Shared>, _: Bytes)->Response{unimplemented!()}
pub async fn completions(State(_): State<Shared>, _: Bytes)->Response{unimplemented!()}
pub async fn embeddings(State(_): State<Shared>, _: Bytes)->Response{unimplemented!()}
pub async fn responses(State(_): State<Shared>, _: Bytes)->Response{unimplemented!()}
pub async fn messages(State(_): State<Shared>, _: Bytes)->Response{unimplemented!()}
pub async fn models(State(_): State<Shared>)->Response{unimplemented!()}
pub async fn model(State(_): State<Shared>)->Response{unimplemented!()}
