//! Completions of one prompt.

use std::sync::Arc;
use std::time::Instant;

use tramontane::{EncodeOptions, Message, Model, OutputSyntax};

use crate::app::Shared;
use crate::catalog::{LocalModel, Settings};
use crate::prompt::PromptTemplate;
use crate::task::blocking;
use crate::wire::{ApiError, Result};

use super::able;
use super::call::Calls;
use super::form::Form;
use super::request::Prompt;
use super::submit;
use super::tokens::Prompter;
use super::tools::Tools;
use super::{Answer, Asked};

/// A prompt to complete.
#[derive(Debug, Clone)]
pub struct Generate {
    /// Model and options.
    pub asked: Asked,
    /// The prompt.
    pub prompt: String,
    /// What comes after the answer, for models that fill in.
    pub suffix: String,
    /// In the place of the model's system text.
    pub system: Option<String>,
    /// In the place of the model's template.
    pub template: Option<String>,
    /// Tokens of an earlier answer's prompt and text, to go on with.
    pub context: Vec<u32>,
    /// Whether the prompt goes to the model as it is.
    pub raw: bool,
}

impl Generate {
    /// To complete `prompt`; the rest as the model has it.
    pub fn of(asked: Asked, prompt: impl Into<String>) -> Self {
        Generate {
            asked,
            prompt: prompt.into(),
            suffix: String::new(),
            system: None,
            template: None,
            context: Vec::new(),
            raw: false,
        }
    }
}

/// Completes a prompt.
///
/// # Errors
/// What the client did wrong (400, 404), what is not possible now (503), or the model's
/// fault (500).
pub async fn generate(app: Shared, mut generate: Generate) -> Result<Answer> {
    let arrived = Instant::now();
    let asked = generate.asked.clone();
    let (model, mut settings) = submit::open(&app, &asked).await?;
    if let Some(template) = generate.template.take().filter(|text| !text.is_empty()) {
        settings.template = Some(template);
    }
    check_suffix(&generate, &model, &settings)?;
    let ready = submit::ready(&app, &model, &settings, &asked, arrived).await?;
    submit::check_completes(&ready.lease, &asked, "generate")?;
    let loaded = ready.lease.model().clone();
    let (prompt, form) = blocking(move || {
        let asked = generate.asked.clone();
        let (prompt, syntax) = tokens(&loaded, &model, &settings, generate)?;
        let (tools, calls) = (Tools::default(), Calls::default());
        let form = Form::new(&loaded, &syntax, &asked, &tools, calls, &prompt)?;
        Ok::<_, ApiError>((prompt, form))
    })
    .await?;
    submit::submit(&app, &asked, ready, prompt, form)
}

/// Only a Go template says how a model fills in.
fn check_suffix(generate: &Generate, model: &LocalModel, settings: &Settings) -> Result<()> {
    if generate.suffix.is_empty() || generate.raw {
        return Ok(());
    }
    let template = settings.template.as_deref().map(PromptTemplate::parse);
    match template {
        Some(Ok(template)) if template.capabilities().insert => Ok(()),
        _ => {
            let name = model.full_name();
            Err(ApiError::bad_request(format!("{name} does not support insert; leave suffix out")))
        }
    }
}

/// The prompt, and how the answer to it is written.
fn tokens(
    model: &Model,
    local: &LocalModel,
    settings: &Settings,
    generate: Generate,
) -> Result<(Prompt, Arc<OutputSyntax>)> {
    let n_vocab = model.n_vocab();
    if let Some(bad) = generate.context.iter().find(|&&token| token as usize >= n_vocab) {
        return Err(ApiError::bad_request(format!(
            "context: token {bad} is outside the vocabulary of {n_vocab}"
        )));
    }
    if generate.raw {
        let whole = EncodeOptions::default().with_special(true);
        let tokens = model.tokenizer().encode(&generate.prompt, whole);
        return Ok((Prompt::of(tokens), Arc::default()));
    }
    let prompter = Prompter::new(model, settings.template.as_deref())?;
    let tools = Tools::default();
    let thinking = able::check(local, &generate.asked, &tools, prompter.capabilities())?;
    let system = generate.system.as_deref().or(settings.system.as_deref()).unwrap_or_default();
    let Generate { prompt, suffix, context, .. } = generate;
    let new = if prompter.has_template() {
        // A history of its own stands for the model's.
        let history: &[Message] = if context.is_empty() { &settings.messages } else { &[] };
        prompter.turn(system, history, &prompt, &suffix, thinking)?
    } else {
        Prompt::of(model.tokenizer().encode_after(&context, &prompt))
    };
    let bos = model.tokenizer().bos().filter(|_| !context.is_empty());
    let skip = usize::from(bos.is_some() && new.tokens.first().copied() == bos);
    let tokens = [&context, &new.tokens[skip..]].concat();
    Ok((Prompt { tokens, ..new }, prompter.syntax()))
}
