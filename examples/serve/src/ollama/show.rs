//! `POST /api/show`

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use serde_json::{Map, Value, json};

use crate::answer;
use crate::app::Shared;
use crate::catalog::{self, Facts, LocalModel, Settings};
use crate::modelfile;
use crate::name::ModelName;
use crate::schedule::Source;
use crate::task::blocking;
use crate::wire::{self, ApiError, Body, Result};

use super::fields;
use super::list::local_time;

/// Everything about a model.
///
/// # Errors
/// 400 for a name that is none, 404.
pub async fn show(State(app): State<Shared>, bytes: Bytes) -> Result<Response> {
    let mut body = Body::parse("ShowRequest", &bytes)?;
    let name = fields::model(&mut body)?;
    let verbose = body.flag("verbose")?.unwrap_or(false);
    let system = body.text("system")?.filter(|text| !text.is_empty());
    let options = body.object("options")?.unwrap_or_default();
    let model = catalog::find(&app, &name).await?.ok_or_else(|| {
        let short = ModelName::parse(&name).map_or_else(|_| name.clone(), |name| name.short());
        ApiError::not_found(format!("model '{short}' not found"))
    })?;
    let about = blocking(move || {
        let mut settings = model.settings(&app.store)?;
        settings.system = system.or(settings.system);
        settings.params.extend(options);
        describe(&app, &model, &settings, verbose)
    });
    Ok(wire::json(&about.await?))
}

fn describe(app: &Shared, model: &LocalModel, s: &Settings, verbose: bool) -> Result<Value> {
    let facts = Facts::read(&model.source)?;
    let jinja = facts.chat_template().unwrap_or_default();
    let template = s.template.clone().unwrap_or_else(|| jinja.to_owned());
    let mut about = Map::new();
    let mut put = |key: &str, value: Value| about.insert(key.to_owned(), value);
    if !s.licenses.is_empty() {
        put("license", s.licenses.join("\n").into());
    }
    put("modelfile", modelfile_text(model, s).into());
    put("parameters", modelfile::parameters_text(&s.params).into());
    put("template", template.into());
    if let Some(system) = s.system.as_ref().filter(|text| !text.is_empty()) {
        put("system", system.clone().into());
    }
    put("details", json!(details(app, model, &facts)));
    if !s.messages.is_empty() {
        let one = |m: &tramontane::Message| json!({"role": m.role(), "content": m.content()});
        put("messages", s.messages.iter().map(one).collect());
    }
    put("model_info", facts.model_info(verbose).into());
    if verbose {
        put("tensors", facts.tensors().into());
    }
    put("capabilities", json!(capabilities(&facts, s.template.as_deref())));
    put("modified_at", local_time(model.modified).into());
    if let Some(entry) = &model.entry
        && let Some(requires) = catalog::ModelConfig::read(&app.store, entry)?.requires
    {
        put("requires", requires.into());
    }
    Ok(Value::Object(about))
}

/// What the store's config says, and what only the file knows.
fn details(app: &Shared, model: &LocalModel, facts: &Facts) -> catalog::Details {
    let mut details = model.details(&app.store);
    let file = facts.details();
    details.context_length = details.context_length.or(file.context_length);
    details.embedding_length = details.embedding_length.or(file.embedding_length);
    details
}

/// What clients may ask of the model.
pub fn capabilities(facts: &Facts, layer: Option<&str>) -> Vec<&'static str> {
    if facts.is_embedding() {
        return vec!["embedding"];
    }
    let can = answer::abilities(facts, layer);
    let all = [
        ("completion", true),
        ("tools", can.tools),
        ("insert", can.insert),
        ("thinking", can.thinking),
    ];
    all.into_iter().filter(|(_, can)| *can).map(|(name, _)| name).collect()
}

fn modelfile_text(model: &LocalModel, settings: &Settings) -> String {
    let from = match &model.source {
        Source::File(path) => path.display().to_string(),
        Source::Builtin => model.name.clone(),
    };
    modelfile::generated(&model.name, &from, settings)
}
