//! From what a request asks of the answer's form to a constraint and a reader of the output.

use tramontane::{AnswerShape, Constraint, Model, OutputSyntax, Tool, ToolChoice};

use crate::wire::{ApiError, Result};

use super::call::Calls;
use super::closed::closed_tool;
use super::format::refused;
use super::output::Output;
use super::request::{Asked, Prompt};
use super::tools::Tools;

/// The form that an answer is held to, and how it is read.
pub(super) struct Form {
    pub constraint: Option<Constraint>,
    /// Control tokens that the reader must see.
    pub visible: Vec<u32>,
    pub output: Output,
}

impl Form {
    /// The form of an answer to `prompt`, whose calls get their ids from `calls`. Compiles what the
    /// answer is constrained to: this takes a while.
    ///
    /// # Errors
    /// 400 for a format, or the parameters of a strict function, that cannot be kept.
    pub fn new(
        model: &Model,
        syntax: &OutputSyntax,
        asked: &Asked,
        tools: &Tools,
        calls: Calls,
        prompt: &Prompt,
    ) -> Result<Self> {
        let content = content(model, asked)?;
        check_strict(model, tools)?;
        let callable = tools.callable();
        let closed: Vec<Tool> = callable.iter().map(closed_tool).collect();
        let mut shape = AnswerShape::default();
        shape.tools = match tools.choice() {
            // So that the model does not begin a call.
            ToolChoice::None if syntax.calls() => tools.declared(),
            _ => &closed,
        };
        shape.choice = tools.choice().clone();
        shape.parallel = tools.parallel();
        shape.content = content.clone();
        shape.prompt_end = &prompt.end;
        let constraint = syntax.constraint(&shape)?;
        if constraint != content
            && let Some(constraint) = &constraint
        {
            let field = asked.format.as_ref().map_or("tools", |format| format.field);
            model.check_constraint(constraint).map_err(|error| refused(field, &error))?;
        }
        if !syntax.thinks() && !tools.are_used() {
            return Ok(Form { constraint, visible: Vec::new(), output: Output::plain() });
        }
        let loose = if tools.are_used() { syntax.loose_functions(&shape)? } else { Vec::new() };
        if !loose.is_empty() {
            tracing::info!(?loose, "functions whose arguments are any object");
        }
        let parser = syntax.parser(&callable, &prompt.end);
        let output = Output::parsed(parser, calls, loose);
        Ok(Form { constraint, visible: syntax.marker_tokens(model.tokenizer()), output })
    }
}

/// The constraint of the format, which can be kept.
fn content(model: &Model, asked: &Asked) -> Result<Option<Constraint>> {
    let Some(format) = &asked.format else { return Ok(None) };
    let constraint = format.constraint()?;
    model.check_constraint(&constraint).map_err(|error| refused(format.field, &error))?;
    Ok(Some(constraint))
}

/// Parameters of other functions that cannot be kept are any JSON object; those of a strict
/// one are a promise.
fn check_strict(model: &Model, tools: &Tools) -> Result<()> {
    for tool in tools.shown() {
        let function = &tool.as_json()["function"];
        if function["strict"] == true && function["parameters"].is_object() {
            let parameters = Constraint::json_schema(function["parameters"].clone());
            model.check_constraint(&parameters).map_err(|error| {
                let text = format!("tools: {:?} is strict, but {error}", tool.name());
                ApiError::bad_request(text).with_param("tools")
            })?;
        }
    }
    Ok(())
}
