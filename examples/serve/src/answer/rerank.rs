//! How relevant documents are to a query.

use serde_json::Value;
use tramontane::{Bounded, EmbedOptions, Error, Pending, SamplerOptions, Score};

use crate::app::Shared;
use crate::record::Record;
use crate::schedule::Lease;
use crate::task::compute;
use crate::wire::{ApiError, Result};

use super::submit;
use super::{Asked, Options};

/// Documents to rank.
#[derive(Debug, Clone)]
pub struct Rerank {
    /// The model, how long it stays, and `num_ctx`.
    pub asked: Asked,
    /// What is searched.
    pub query: String,
    /// What was found.
    pub documents: Vec<Document>,
    /// How many of the best are wanted.
    pub top_n: usize,
    /// Whether the reply repeats them.
    pub return_documents: bool,
}

/// A document.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// What the query is compared with.
    pub text: String,
    /// What the reply repeats: all that the client sent.
    pub shown: Value,
}

/// The ranks.
#[derive(Debug, Clone)]
pub struct Reranked {
    /// The model, as the client wrote it.
    pub model: String,
    /// The best first; of equal ones that which came first.
    pub results: Vec<Ranked>,
    /// Tokens of all pairs.
    pub prompt_tokens: usize,
}

/// One document.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    /// Its place in the request.
    pub index: usize,
    /// The higher the more relevant.
    pub score: f32,
    /// What was sent, if it is wanted.
    pub document: Option<Value>,
}

/// Pairs in the engine at the same time, of one request.
const AT_ONCE: usize = 16;

/// Ranks documents.
///
/// # Errors
/// What the client did wrong (400, 404), what is not possible now (503), or the model's
/// fault (500).
pub async fn rerank(app: &Shared, rerank: Rerank) -> Result<Reranked> {
    let Rerank { asked, query, documents, top_n, return_documents } = rerank;
    let (model, settings) = submit::open(app, &asked).await?;
    let num_ctx = Options::new(&settings.params, &asked, &SamplerOptions::default())?.num_ctx;
    let lease = submit::acquire(app, &model, num_ctx, asked.keep_alive).await?;
    let mut scores = Vec::with_capacity(documents.len());
    for some in documents.chunks(AT_ONCE) {
        scores.extend(together(&lease, &asked, &query, some).await?);
    }
    let prompt_tokens = scores.iter().map(|score| score.tokens).sum();
    Record::current().read(prompt_tokens);
    let results = ranked(&scores, documents, top_n, return_documents);
    Ok(Reranked { model: asked.model, results, prompt_tokens })
}

/// The scores of a few documents: all are in the engine before the first is waited for.
async fn together(
    lease: &Lease,
    asked: &Asked,
    query: &str,
    documents: &[Document],
) -> Result<Vec<Score>> {
    let num_ctx = lease.num_ctx().min(lease.model().context_length());
    let options = EmbedOptions::default().with_truncate(asked.truncate).with_num_ctx(num_ctx);
    let engine = submit::engine(lease)?.clone();
    let query = query.to_owned();
    let documents: Vec<String> = documents.iter().map(|document| document.text.clone()).collect();
    let pending = compute(move || -> tramontane::Result<Vec<Pending<Score>>> {
        documents.iter().map(|document| engine.rerank(&query, document, &options)).collect()
    });
    let pending = pending.await?.map_err(|error| refused(lease, asked, error))?;
    let mut scores = Vec::with_capacity(pending.len());
    for one in pending {
        scores.push(one.await.map_err(|error| refused(lease, asked, error))?);
    }
    Ok(scores)
}

fn refused(lease: &Lease, asked: &Asked, error: Error) -> ApiError {
    lease.note(&error);
    match error {
        Error::Misuse(_) => {
            ApiError::bad_request(format!("{:?} does not support rerank", asked.model))
        }
        Error::Limit { what: Bounded::Context, .. } => {
            ApiError::bad_request("the query and a document together exceed the context length")
        }
        Error::NonFinite(_) => ApiError::bad_request("a score is NaN or Inf"),
        error => error.into(),
    }
}

/// The best `top_n`, the best first.
fn ranked(
    scores: &[Score],
    mut documents: Vec<Document>,
    top_n: usize,
    return_documents: bool,
) -> Vec<Ranked> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    // The sort is stable.
    order.sort_by(|&a, &b| scores[b].score.total_cmp(&scores[a].score));
    order.truncate(top_n);
    let one = |index: usize| {
        let document = return_documents.then(|| std::mem::take(&mut documents[index].shown));
        Ranked { index, score: scores[index].score, document }
    };
    order.into_iter().map(one).collect()
}
