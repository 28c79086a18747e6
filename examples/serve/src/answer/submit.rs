//! From a request to the engine: the model, its memory, the room in its context.

use std::time::Instant;

use axum::http::StatusCode;
use serde_json::json;
use tramontane::{Engine, Request, SamplerOptions};

use crate::app::Shared;
use crate::catalog::{self, LocalModel, Settings};
use crate::record::Record;
use crate::schedule::{Lease, Want};
use crate::task::{blocking, compute};
use crate::wire::{ApiError, KeepAlive, Result, STOPPED};

use super::able;
use super::form::Form;
use super::options::Options;
use super::request::{Asked, Prompt};
use super::stream::{Answer, Reading};
use super::tokens::Prompter;
use super::tools::Tools;

/// A model that is ready for one request.
pub(super) struct Ready {
    pub lease: Lease,
    pub options: Options,
    pub arrived: Instant,
}

/// The model of that name.
///
/// # Errors
/// 404 `model 'X' not found`, 400 `invalid model name`.
pub async fn find(app: &Shared, name: &str) -> Result<LocalModel> {
    Record::current().model(name);
    let found = catalog::find(app, name).await?;
    found.ok_or_else(|| ApiError::not_found(format!("model '{name}' not found")))
}

/// The model and what its layers say.
pub(super) async fn open(app: &Shared, asked: &Asked) -> Result<(LocalModel, Settings)> {
    let model = find(app, &asked.model).await?;
    let (shared, entry) = (app.clone(), model.clone());
    let settings = blocking(move || entry.settings(&shared.store)).await?;
    Ok((model, settings))
}

/// Has the model in memory.
pub(super) async fn ready(
    app: &Shared,
    model: &LocalModel,
    settings: &Settings,
    asked: &Asked,
    arrived: Instant,
) -> Result<Ready> {
    // What cannot be used is refused before a model is loaded for it.
    let early = Options::new(&settings.params, asked, &SamplerOptions::default())?;
    let lease = acquire(app, model, early.num_ctx, asked.keep_alive).await?;
    let options = Options::new(&settings.params, asked, lease.model().sampler_options())?;
    Ok(Ready { lease, options, arrived })
}

pub(super) async fn acquire(
    app: &Shared,
    model: &LocalModel,
    num_ctx: Option<usize>,
    keep_alive: Option<KeepAlive>,
) -> Result<Lease> {
    let details = {
        let (shared, model) = (app.clone(), model.clone());
        compute(move || model.details(&shared.store)).await?
    };
    let info = json!({"digest": model.digest, "details": details});
    let want = Want { num_ctx, keep_alive, info };
    let lease = app.scheduler.acquire(&model.name, &model.source, want).await;
    lease.map_err(|error| error.to_api(&model.name))
}

/// Whether the model makes texts.
pub(super) fn check_completes(lease: &Lease, asked: &Asked, what: &str) -> Result<()> {
    let metadata = lease.model().metadata();
    let architecture = metadata.opt_str("general.architecture").ok().flatten().unwrap_or("");
    let pools = metadata.get(&format!("{architecture}.pooling_type")).is_some();
    if pools || !lease.model().generates() {
        let text = format!("{:?} does not support {what}", asked.model);
        return Err(ApiError::bad_request(text));
    }
    Ok(())
}

/// Hands a prompt to the engine.
pub(super) fn submit(
    app: &Shared,
    asked: &Asked,
    ready: Ready,
    prompt: Prompt,
    form: Form,
) -> Result<Answer> {
    let Ready { lease, options, arrived } = ready;
    let num_ctx = lease.num_ctx();
    check_room(app, asked, prompt.tokens.len(), num_ctx, lease.model().context_length())?;
    let Form { constraint, visible, output } = form;
    let options = options.generate(prompt.tokens.len(), num_ctx, app.config.limits.predict);
    let options = options.with_constraint(constraint).with_visible(visible);
    let reading = Reading { special: options.special, output };
    let request = Request::new(prompt.tokens.clone(), options)
        .with_num_ctx(num_ctx)
        .with_own_text(prompt.own_text);
    let reply = engine(&lease)?.submit(request).inspect_err(|error| lease.note(error))?;
    Ok(Answer::new(app, asked, lease, reply, prompt, reading, arrived))
}

/// The engine of a lease.
pub(super) fn engine(lease: &Lease) -> Result<&Engine> {
    lease.engine().ok_or_else(|| ApiError::internal(STOPPED))
}

/// Whether a prompt of so many tokens can be answered.
fn check_room(
    app: &Shared,
    asked: &Asked,
    tokens: usize,
    num_ctx: usize,
    trained: usize,
) -> Result<()> {
    let allowed = app.config.limits.prompt;
    if tokens > allowed {
        return Err(ApiError::bad_request(format!(
            "the prompt has {tokens} tokens; this server takes {allowed}"
        )));
    }
    // One position is the answer's.
    if tokens < num_ctx || (asked.truncate && asked.shift) {
        return Ok(());
    }
    let text = if num_ctx >= trained {
        format!(
            "request ({tokens} tokens) exceeds the context that the model was trained for \
             ({trained} tokens); shorten the prompt, or use a model with a longer context"
        )
    } else if asked.shift {
        format!(
            "request ({tokens} tokens) exceeds the available context size ({num_ctx} tokens), try \
             increasing it"
        )
    } else {
        "the prompt is longer than the context length currently available to the model; shorten \
         the prompt, adjust the context length in settings, or use a model with a longer context \
         length"
            .into()
    };
    Err(ApiError::bad_request(text))
}

/// Has a model in memory, for requests without a prompt.
///
/// # Errors
/// 404, 400, 503, 500: as for any request.
pub async fn load(app: &Shared, asked: &Asked) -> Result<()> {
    let (model, settings) = open(app, asked).await?;
    let lease = ready(app, &model, &settings, asked, Instant::now()).await?.lease;
    if asked.think.is_none() {
        return Ok(());
    }
    let (asked, loaded) = (asked.clone(), lease.model().clone());
    blocking(move || {
        let prompter = Prompter::new(&loaded, settings.template.as_deref())?;
        able::check(&model, &asked, &Tools::default(), prompter.capabilities()).map(drop)
    })
    .await
}

/// A model in memory, for its vocabulary.
///
/// # Errors
/// 404, 400, 503, 500: as for any request.
pub async fn lease(app: &Shared, asked: &Asked) -> Result<Lease> {
    let (model, settings) = open(app, asked).await?;
    Ok(ready(app, &model, &settings, asked, Instant::now()).await?.lease)
}

/// Lets a model go, as soon as it is idle.
///
/// # Errors
/// 404, 400.
pub async fn unload(app: &Shared, name: &str) -> Result<()> {
    let model = find(app, name).await?;
    app.scheduler.unload(&model.source);
    Ok(())
}

impl crate::schedule::ScheduleError {
    /// What a client is told.
    pub fn to_api(&self, name: &str) -> ApiError {
        use crate::schedule::ScheduleError as E;
        let text = self.to_string();
        match self {
            E::Busy | E::ShuttingDown => ApiError::busy(text),
            E::NotFound => {
                ApiError::not_found(format!("model {name:?} not found, try pulling it first"))
            }
            E::Cancelled => ApiError::new(
                StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
                "request canceled",
            ),
            _ => ApiError::internal(text),
        }
    }
}
