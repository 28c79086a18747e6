//! The fields that generate and chat share.

use serde_json::Value;

use crate::answer::{Asked, Format};
use crate::record::Record;
use crate::wire::{ApiError, Body, KeepAlive, Result, Think};

/// Reads them; `stream` with them.
///
/// # Errors
/// 400 with Ollama's texts.
pub fn asked(body: &mut Body) -> Result<(Asked, bool)> {
    let top_logprobs = body.integer("top_logprobs")?.unwrap_or(0);
    let top_logprobs = usize::try_from(top_logprobs).ok().filter(|&count| count <= 20);
    let asked = Asked {
        options: body.object("options")?.unwrap_or_default(),
        keep_alive: KeepAlive::take(body)?,
        truncate: body.flag("truncate")?.unwrap_or(true),
        shift: body.flag("shift")?.unwrap_or(true),
        logprobs: body.flag("logprobs")?.unwrap_or(false) || top_logprobs.is_some_and(|n| n > 0),
        top_logprobs: top_logprobs
            .ok_or_else(|| ApiError::bad_request("top_logprobs must be between 0 and 20"))?,
        think: Think::take(body)?,
        format: format(body)?,
        ..Asked::of(body.text("model")?.unwrap_or_default())
    };
    Ok((asked, body.flag("stream")?.unwrap_or(true)))
}

/// `format`, or one of this server's own fields for it.
fn format(body: &mut Body) -> Result<Option<Format>> {
    let format = Format::take_format(body)?;
    Format::take(body, format)
}

/// Refuses pictures: this server runs text models.
///
/// # Errors
/// 400.
pub fn refuse_images(images: Option<Vec<Value>>, model: &str) -> Result<()> {
    match images.filter(|images| !images.is_empty()) {
        None => Ok(()),
        Some(_) => Err(ApiError::bad_request(format!(
            "{model:?} does not support images: this server runs text models"
        ))),
    }
}

/// A field that must hold a name.
///
/// # Errors
/// 400 `model is required`.
pub fn model(body: &mut Body) -> Result<String> {
    let model = body.text("model")?.filter(|name| !name.is_empty());
    // `name` is the old word for it.
    let model = match model {
        Some(model) => Some(model),
        None => body.text("name")?,
    };
    let model = model.filter(|name| !name.trim().is_empty());
    let model = model.ok_or_else(|| ApiError::bad_request("model is required"))?;
    Record::current().model(&model);
    Ok(model)
}

/// Whether a field asks for the model to go at once.
pub fn at_once(keep_alive: Option<KeepAlive>) -> bool {
    matches!(keep_alive, Some(KeepAlive::For(time)) if time.is_zero())
}
