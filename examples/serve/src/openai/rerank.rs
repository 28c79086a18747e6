//! `POST /v1/rerank`, `/rerank` and their other names, in the shape that Jina, Cohere and llama.cpp share, and
//! `/api/rerank`, which is the same with errors as Ollama has them.

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use serde_json::{Value, json};

use crate::answer::{self, Document, Ranked, Rerank, Reranked};
use crate::app::Shared;
use crate::wire::{self, ApiError, Body, Result};

use super::error::OpenAiError;
use super::options;

/// Ranks documents by their relevance to a query.
///
/// # Errors
/// In OpenAI's envelope.
pub async fn rerank(State(app): State<Shared>, bytes: Bytes) -> Result<Response, OpenAiError> {
    let done = answer::rerank(&app, read(&bytes)?).await?;
    Ok(wire::json(&list(done)))
}

/// The same, beside Ollama's routes.
///
/// # Errors
/// Ollama's.
pub async fn api_rerank(State(app): State<Shared>, bytes: Bytes) -> Result<Response> {
    let done = answer::rerank(&app, read(&bytes)?).await?;
    Ok(wire::json(&list(done)))
}

/// Reads a request.
///
/// # Errors
/// 400: a mistake.
pub fn read(bytes: &Bytes) -> Result<Rerank> {
    let mut body = Body::parse("RerankRequest", bytes)?;
    // Before the options: some clients mean the number of results by the sampler's name.
    let names = ["top_n", "top_k"].map(|name| body.integer(name).map(|n| n.map(|n| (name, n))));
    let [top_n, top_k] = names;
    let top_n = top_n?.or(top_k?);
    let fields = body.take("rank_fields").filter(|fields| !fields.is_null());
    if fields.is_some_and(|fields| fields != json!(["text"])) {
        let problem = "rank_fields other than [\"text\"] are not supported; put all into \"text\"";
        return Err(ApiError::bad_request(problem));
    }
    let asked = options::asked(&mut body, &[])?;
    let query = body.text("query")?.filter(|query| !query.is_empty());
    let query = query.ok_or_else(|| ApiError::bad_request("query is required"))?;
    let documents = documents(body.take("documents"))?;
    let top_n = match top_n {
        None => usize::MAX,
        Some((name, top_n)) => usize::try_from(top_n)
            .ok()
            .filter(|&top_n| top_n > 0)
            .ok_or_else(|| ApiError::bad_request(format!("{name} must be at least 1")))?,
    };
    let return_documents = body.flag("return_documents")?.unwrap_or(false);
    Ok(Rerank { asked, query, documents, top_n, return_documents })
}

/// Texts, or objects with a text.
fn documents(list: Option<Value>) -> Result<Vec<Document>> {
    let wrong = || {
        let text = "documents must be a list of texts, or of objects with \"text\"";
        ApiError::bad_request(text)
    };
    let Some(Value::Array(list)) = list else { return Err(wrong()) };
    if list.is_empty() {
        return Err(ApiError::bad_request("documents must not be empty"));
    }
    let document = |value: Value| match &value {
        Value::String(text) => Ok(Document { text: text.clone(), shown: json!({"text": text}) }),
        Value::Object(object) => match object.get("text") {
            Some(Value::String(text)) => Ok(Document { text: text.clone(), shown: value }),
            _ => Err(wrong()),
        },
        _ => Err(wrong()),
    };
    list.into_iter().map(document).collect()
}

/// The reply. Not a `Value`: there the numbers would be written with twice the digits.
#[derive(Debug, Serialize)]
pub struct List {
    model: String,
    object: &'static str,
    results: Vec<Item>,
    usage: Value,
}

#[derive(Debug, Serialize)]
struct Item {
    index: usize,
    relevance_score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<Value>,
}

/// The whole reply.
pub fn list(done: Reranked) -> List {
    let item = |Ranked { index, score, document }| Item { index, relevance_score: score, document };
    List {
        model: done.model,
        object: "list",
        results: done.results.into_iter().map(item).collect(),
        usage: json!({"prompt_tokens": done.prompt_tokens, "total_tokens": done.prompt_tokens}),
    }
}
