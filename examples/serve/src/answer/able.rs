//! Whether a model can do what a request asks of it.

use tramontane::Thinking;

use crate::catalog::{Facts, LocalModel};
use crate::prompt::{Capabilities, PromptTemplate};
use crate::wire::{ApiError, Result, Think};

use super::request::Asked;
use super::tokens::Prompter;
use super::tools::Tools;

/// What a model that is not loaded can do with its template, or with `layer`, a Go template
/// that comes before it.
pub fn abilities(facts: &Facts, layer: Option<&str>) -> Capabilities {
    if let Ok(model) = facts.model()
        && let Ok(prompter) = Prompter::new(&model, layer)
    {
        return prompter.capabilities();
    }
    // A model that this version does not run: what the text says.
    match layer {
        Some(source) => PromptTemplate::parse(source)
            .map_or_else(|_| Capabilities::default(), |template| template.capabilities()),
        None => facts.chat_template().map_or_else(Capabilities::default, Capabilities::of_jinja),
    }
}

/// How much the model is to think, for the template. A model that can thinks if nothing is
/// said about it.
///
/// # Errors
/// 400 with Ollama's texts if the model cannot call functions, or cannot think.
pub(super) fn check(
    model: &LocalModel,
    asked: &Asked,
    tools: &Tools,
    can: Capabilities,
) -> Result<Option<Thinking>> {
    let mut missing = Vec::new();
    if tools.are_used() && !can.tools {
        missing.push(format!("{} does not support tools", model.full_name()));
    }
    let wants = !matches!(asked.think, None | Some(Think::No));
    if wants && !can.thinking && !asked.think_if_able {
        missing.push(format!("{:?} does not support thinking", asked.model));
    }
    if !missing.is_empty() {
        return Err(ApiError::bad_request(missing.join("\n")));
    }
    Ok(can.thinking.then(|| asked.think.map_or(Thinking::On, thinking)))
}

fn thinking(think: Think) -> Thinking {
    match think {
        Think::No => Thinking::Off,
        Think::Yes => Thinking::On,
        Think::Low => Thinking::Low,
        Think::Medium => Thinking::Medium,
        Think::High => Thinking::High,
        Think::Max => Thinking::Max,
    }
}
