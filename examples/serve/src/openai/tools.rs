//! The functions of a request, in the form of each API.

use serde_json::{Map, Value};
use tramontane::Tool;

use crate::answer::tools::{Choice, Names, Tools, function, tool};
use crate::wire::{ApiError, Body, Result};

const NAMES: Names = Names::Plain(64);
/// Anthropic allows longer names.
const LONG_NAMES: Names = Names::Plain(128);

/// Those of a chat; whether they came in the old fields, `functions` and `function_call`.
///
/// # Errors
/// 400 for what is no function or no choice.
pub fn of_chat(body: &mut Body) -> Result<(Tools, bool)> {
    let list = body.list("tools", "openai.Tool")?.unwrap_or_default();
    let old = body.list("functions", "openai.Function")?.unwrap_or_default();
    let parallel = body.flag("parallel_tool_calls")?.unwrap_or(true);
    let choice = body.take("tool_choice");
    let old_choice = body.take("function_call");
    if list.is_empty() && !old.is_empty() {
        let list = each(old, "functions", |one, place| function(object(one, place)?, NAMES, place));
        let choice = old_choice.as_ref().map(read_old).transpose()?;
        return Ok((Tools::new(list?, choice, false)?, true));
    }
    if !old.is_empty() {
        let text = "functions and tools are two forms of one field; send only tools";
        return Err(ApiError::bad_request(text).with_param("functions"));
    }
    let list = each(list, "tools", |one, place| tool(one, NAMES, place))?;
    let choice = choice.as_ref().map(Choice::read).transpose()?;
    Ok((Tools::new(list, choice, parallel)?, false))
}

/// Those of `/v1/responses`: without a layer around the function.
///
/// # Errors
/// As [`of_chat`].
pub fn of_responses(body: &mut Body) -> Result<Tools> {
    let list = body.list("tools", "openai.Tool")?.unwrap_or_default();
    let list = each(list, "tools", |one, place| {
        let mut fields = object(one, place)?;
        if fields.get("type").is_some_and(|kind| kind != "function")
            || fields.get("function").is_some()
        {
            return tool(fields.into(), NAMES, place);
        }
        fields.shift_remove("type");
        function(fields, NAMES, place)
    })?;
    let choice = body.take("tool_choice").as_ref().map(Choice::read).transpose()?;
    Tools::new(list, choice, body.flag("parallel_tool_calls")?.unwrap_or(true))
}

/// Those of `/v1/messages`.
///
/// # Errors
/// As [`of_chat`].
pub fn of_messages(body: &mut Body) -> Result<Tools> {
    let list = body.list("tools", "anthropic.Tool")?.unwrap_or_default();
    let list = each(list, "tools", of_anthropic)?;
    let Some(choice) = body.object("tool_choice")? else { return Tools::new(list, None, true) };
    let parallel = choice.get("disable_parallel_tool_use").is_none_or(|off| off != true);
    let wrong = |text: &str| Err(ApiError::bad_request(text).with_param("tool_choice"));
    let name = choice.get("name").and_then(Value::as_str);
    let choice = match (choice.get("type").and_then(Value::as_str), name) {
        (Some("auto"), _) => Choice::Auto,
        (Some("any"), _) => Choice::Required,
        (Some("none"), _) => Choice::None,
        (Some("tool"), Some(name)) => Choice::Function(name.into()),
        (Some("tool"), None) => return wrong("tool_choice: the tool has no name"),
        _ => {
            return wrong("tool_choice.type must be \"auto\", \"any\", \"tool\" or \"none\"");
        }
    };
    Tools::new(list, Some(choice), parallel)
}

fn of_anthropic(value: Value, place: &str) -> Result<Tool> {
    let mut fields = object(value, place)?;
    if let Some(kind) = fields.get("type").filter(|kind| *kind != "custom" && !kind.is_null()) {
        return Err(ApiError::bad_request(format!(
            "{place}: type {kind} is not supported: the model calls functions of the client only"
        ))
        .with_param(place));
    }
    let mut known = Map::new();
    for (name, own) in [
        ("name", "name"),
        ("description", "description"),
        ("input_schema", "parameters"),
        ("strict", "strict"),
    ] {
        if let Some(value) = fields.shift_remove(name).filter(|value| !value.is_null()) {
            known.insert(own.into(), value);
        }
    }
    function(known, LONG_NAMES, place)
}

/// The old field `function_call`.
fn read_old(value: &Value) -> Result<Choice> {
    let wrong = || {
        let text = "function_call must be \"none\", \"auto\" or the name of a function";
        ApiError::bad_request(text).with_param("function_call")
    };
    match (value.as_str(), value["name"].as_str()) {
        (Some("auto"), _) => Ok(Choice::Auto),
        (Some("none"), _) => Ok(Choice::None),
        (None, Some(name)) => Ok(Choice::Function(name.into())),
        _ => Err(wrong()),
    }
}

fn each(
    list: Vec<Value>,
    field: &str,
    read: impl Fn(Value, &str) -> Result<Tool>,
) -> Result<Vec<Tool>> {
    let list = list.into_iter().enumerate();
    list.map(|(at, one)| read(one, &format!("{field}[{at}]"))).collect()
}

fn object(value: Value, place: &str) -> Result<Map<String, Value>> {
    match value {
        Value::Object(fields) => Ok(fields),
        _ => Err(ApiError::bad_request(format!("{place} must be an object")).with_param(place)),
    }
}
