//! Vectors of texts.

use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use tramontane::{EmbedOptions, Embedding, EncodeOptions, Error, Model, Pending, SamplerOptions};

use crate::app::Shared;
use crate::record::Record;
use crate::schedule::Lease;
use crate::task::compute;
use crate::wire::{ApiError, KeepAlive, Result};

use super::submit;
use super::{Asked, Options};

/// Texts to make vectors of.
#[derive(Debug, Clone)]
pub struct Embed {
    /// The model, as the client wrote it.
    pub model: String,
    /// The texts.
    pub inputs: Vec<String>,
    /// Whether texts longer than the context are cut; else an error.
    pub truncate: bool,
    /// How many numbers of each vector are wanted; 0: all.
    pub dimensions: usize,
    /// How long the model stays in memory.
    pub keep_alive: Option<KeepAlive>,
    /// Ollama's options; `num_ctx` counts.
    pub options: Map<String, Value>,
}

/// The vectors.
#[derive(Debug, Clone)]
pub struct Embedded {
    /// The model, as the client wrote it.
    pub model: String,
    /// One for each text, in their order, of length 1.
    pub embeddings: Vec<Vec<f32>>,
    /// Tokens of all texts.
    pub prompt_tokens: usize,
    /// From the request's arrival to the end.
    pub total: Duration,
    /// Until the model was ready.
    pub load: Duration,
}

/// Texts in the engine at the same time, of one request.
const AT_ONCE: usize = 16;

/// Makes vectors.
///
/// # Errors
/// What the client did wrong (400, 404), what is not possible now (503), or the model's
/// fault (500).
pub async fn embed(app: &Shared, embed: Embed) -> Result<Embedded> {
    let arrived = Instant::now();
    let asked = Asked {
        options: embed.options,
        keep_alive: embed.keep_alive,
        ..Asked::of(embed.model.clone())
    };
    let (model, settings) = submit::open(app, &asked).await?;
    let num_ctx = Options::new(&settings.params, &asked, &SamplerOptions::default())?.num_ctx;
    let lease = submit::acquire(app, &model, num_ctx, asked.keep_alive).await?;
    let load = arrived.elapsed();
    let (loaded, inputs) = (lease.model().clone(), embed.inputs);
    let tokens = compute(move || encode(&loaded, &inputs)).await?;
    let mut embedded = Embedded {
        model: embed.model,
        embeddings: Vec::with_capacity(tokens.len()),
        prompt_tokens: 0,
        total: Duration::ZERO,
        load,
    };
    for some in tokens.chunks(AT_ONCE) {
        for one in together(&lease, some, embed.truncate).await? {
            embedded.prompt_tokens += one.tokens;
            embedded.embeddings.push(cut(one.vector, embed.dimensions));
        }
    }
    Record::current().read(embedded.prompt_tokens);
    embedded.total = arrived.elapsed();
    Ok(embedded)
}

fn encode(model: &Model, inputs: &[String]) -> Vec<Vec<u32>> {
    let encoding = EncodeOptions::default().with_eos(true);
    inputs.iter().map(|text| model.tokenizer().encode(text, encoding)).collect()
}

/// The vectors of a few texts: all are in the engine before the first is waited for.
async fn together(lease: &Lease, inputs: &[Vec<u32>], truncate: bool) -> Result<Vec<Embedding>> {
    let num_ctx = lease.num_ctx().min(lease.model().context_length());
    let options = EmbedOptions::default().with_truncate(truncate).with_num_ctx(num_ctx);
    let mut replies = Vec::with_capacity(inputs.len());
    for tokens in inputs {
        if tokens.len() > num_ctx && !truncate {
            return Err(ApiError::bad_request("the input length exceeds the context length"));
        }
        let reply = submit::engine(lease)?.embed(tokens, &options);
        replies.push(reply.inspect_err(|error| lease.note(error)).map_err(
            |error| match error {
                // A reranker: the client's choice of model.
                Error::Unsupported { .. } => ApiError::bad_request(error.to_string()),
                error => error.into(),
            },
        )?);
    }
    let mut embeddings = Vec::with_capacity(inputs.len());
    for reply in replies {
        embeddings.push(vector(reply).await?);
    }
    Ok(embeddings)
}

async fn vector(pending: Pending<Embedding>) -> Result<Embedding> {
    pending.await.map_err(|error| match error {
        Error::NonFinite(_) => ApiError::bad_request("embedding contains NaN or Inf values"),
        error => error.into(),
    })
}

/// The first numbers, brought to length 1 again.
fn cut(mut vector: Vec<f32>, dimensions: usize) -> Vec<f32> {
    if dimensions == 0 || dimensions >= vector.len() {
        return vector;
    }
    vector.truncate(dimensions);
    let length = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
    }
    vector
}
