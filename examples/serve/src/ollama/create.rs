//! `POST /api/create`

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use serde_json::{Map, Value};
use tramontane::Message;

use crate::app::Shared;
use crate::catalog::{self, Recipe, params};
use crate::name::{ModelName, is_path};
use crate::prompt::PromptTemplate;
use crate::store::Digest;
use crate::task::blocking;
use crate::wire::{ApiError, Body, Result};

use super::fields;
use super::transfer::{self, Sink};

/// Makes a model of another one, or of a GGUF file that was uploaded as a blob.
///
/// # Errors
/// 400 with Ollama's texts; what happens later is a line.
pub async fn create(State(app): State<Shared>, bytes: Bytes) -> Result<Response> {
    let mut body = Body::parse("CreateRequest", &bytes)?;
    let name = fields::model(&mut body).map_err(|_| ApiError::bad_request("invalid model name"))?;
    let name = catalog::parse(&name)?;
    refuse_later(&mut body)?;
    let stream = body.flag("stream")?.unwrap_or(true);
    let recipe = recipe(&mut body)?;
    let work = move |sink: Sink| async move {
        let made = make(&app, &sink, name, recipe).await;
        made.map_err(|error| error.message)
    };
    transfer::reply(work, stream).await
}

async fn make(app: &Shared, sink: &Sink, name: ModelName, mut recipe: Recipe) -> Result<()> {
    if let Some(from) = recipe.from.clone() {
        recipe.base = base(app, sink, &from).await?;
    }
    let (app, told) = (app.clone(), sink.clone());
    blocking(move || {
        recipe.make(&app.store, &name, app.config.no_prune, &|status| told.status(status))
    })
    .await?;
    sink.status("success");
    Ok(())
}

/// The model to begin with; it is pulled if it is not here.
async fn base(app: &Shared, sink: &Sink, from: &str) -> Result<Option<catalog::LocalModel>> {
    if let Some(model) = catalog::find(app, from).await? {
        return Ok(Some(model));
    }
    let name = catalog::parse(from)?;
    let pulled = app.registry.pull(&app.store, &name, false, |progress| {
        // The end of the pull is not the end of this.
        if progress.status != "success" {
            sink.tell(progress);
        }
    });
    pulled.await.map_err(|error| ApiError::internal(error.to_string()))?;
    catalog::find(app, from).await
}

fn refuse_later(body: &mut Body) -> Result<()> {
    let quantize = body.text("quantize")?.or(body.text("quantization")?);
    if quantize.is_some_and(|kind| !kind.is_empty()) {
        return Err(ApiError::bad_request(
            "quantize is not supported yet; create the model from a quantized GGUF file",
        ));
    }
    let later = [
        ("adapters", "adapters are not supported yet; merge the adapter into the GGUF file first"),
        ("draft_files", "draft models are not supported yet"),
        ("draft_quantize", "draft models are not supported yet"),
        ("remote_host", "remote models are not supported"),
    ];
    for (field, text) in later {
        let empty = |value: &Value| {
            value.as_object().is_some_and(Map::is_empty) || value.as_str() == Some("")
        };
        if body.take(field).is_some_and(|value| !empty(&value)) {
            return Err(ApiError::bad_request(text));
        }
    }
    Ok(())
}

fn recipe(body: &mut Body) -> Result<Recipe> {
    let recipe = Recipe {
        from: body.text("from")?.filter(|from| !from.is_empty()),
        base: None,
        file: file(body.object("files")?)?,
        template: body.text("template")?,
        system: body.text("system")?,
        licenses: licenses(body)?,
        params: params::all_checked(body.object("parameters")?.unwrap_or_default())
            .map_err(ApiError::bad_request)?,
        messages: messages(body)?,
        config: config(body)?,
    };
    if recipe.from.is_none() && recipe.file.is_none() {
        return Err(ApiError::bad_request("neither 'from' or 'files' was specified"));
    }
    if let Some(path) = recipe.from.as_deref().filter(|from| is_path(from)) {
        return Err(ApiError::bad_request(format!(
            "from {path:?} is a path, not a model: send the file to /api/blobs/:digest and name it \
             in files, or let the command create do it"
        )));
    }
    if let Some(Err(error)) = recipe.template.as_deref().map(PromptTemplate::parse) {
        return Err(ApiError::bad_request(format!("template error: {error}")));
    }
    Ok(recipe)
}

/// The GGUF file among the files.
fn file(files: Option<Map<String, Value>>) -> Result<Option<Digest>> {
    let Some(files) = files else { return Ok(None) };
    if files.is_empty() {
        return Err(ApiError::bad_request("no files provided to convert"));
    }
    let mut found = None;
    for (name, digest) in &files {
        let inside = !name.is_empty()
            && std::path::Path::new(name)
                .components()
                .all(|part| matches!(part, std::path::Component::Normal(_)))
            && !name.contains('\\');
        if !inside {
            return Err(ApiError::bad_request("file path must be relative"));
        }
        let digest = digest.as_str().and_then(|digest| digest.parse().ok());
        let digest = digest.ok_or_else(|| ApiError::bad_request("invalid digest format"))?;
        if !name.to_ascii_lowercase().ends_with(".gguf") && files.len() > 1 {
            return Err(ApiError::bad_request(
                "safetensors models are not supported yet; convert the model to one GGUF file",
            ));
        }
        if found.replace(digest).is_some() {
            return Err(ApiError::bad_request("split GGUF files are not supported yet in create"));
        }
    }
    Ok(found)
}

fn licenses(body: &mut Body) -> Result<Vec<String>> {
    match body.take("license") {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![text]),
        Some(Value::Array(list)) => {
            let texts = list.iter().map(|text| text.as_str().map(str::to_owned));
            texts.collect::<Option<_>>().ok_or_else(|| ApiError::bad_request("unknown type"))
        }
        Some(_) => Err(ApiError::bad_request("unknown type")),
    }
}

fn messages(body: &mut Body) -> Result<Vec<Message>> {
    let list = body.list("messages", "api.Message")?.unwrap_or_default();
    let one = |value| {
        let mut body = Body::from_value("Message", value)?;
        let role = body.text("role")?.unwrap_or_default().to_lowercase();
        Ok(Message::new(role, body.text("content")?.unwrap_or_default()))
    };
    list.into_iter().map(one).collect()
}

/// What is written into the config as it is.
fn config(body: &mut Body) -> Result<Map<String, Value>> {
    let mut config = Map::new();
    for field in ["renderer", "parser", "requires"] {
        if let Some(text) = body.text(field)?.filter(|text| !text.is_empty()) {
            config.insert(field.into(), text.into());
        }
    }
    let info = body.object("info")?.unwrap_or_default();
    let texts = [
        ("model_family", "model_family"),
        ("base_name", "base_name"),
        ("quantization_level", "file_type"),
        ("parameter_size", "model_type"),
    ];
    for (field, key) in texts {
        match info.get(field) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) => drop(config.insert(key.into(), text.clone().into())),
            Some(_) => return Err(wrong_info(field, "string")),
        }
    }
    for field in ["context_length", "embedding_length"] {
        match info.get(field) {
            None | Some(Value::Null) => {}
            Some(number) => {
                let number = number.as_u64();
                let number = number.ok_or_else(|| wrong_info(field, "non-negative integer"))?;
                config.insert(field.into(), number.into());
            }
        }
    }
    Ok(config)
}

fn wrong_info(field: &str, kind: &str) -> ApiError {
    ApiError::bad_request(format!("info field {field:?} must be a {kind}"))
}
