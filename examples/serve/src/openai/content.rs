//! The content of a message: a text, or a list of parts. The parts of one message are
//! one message to the model, each on a line of its own.

use serde_json::Value;

use crate::prompt::Message;
use crate::wire::{ApiError, Body, Result, go_type};

use super::unsupported;

/// Kinds of parts that are no text, and what they are.
const REFUSED: [(&str, &str); 12] = [
    ("image_url", "images"),
    ("input_image", "images"),
    ("image", "images"),
    ("input_audio", "sounds"),
    ("audio", "sounds"),
    ("video_url", "videos"),
    ("file", "files"),
    ("input_file", "files"),
    ("document", "documents"),
    ("search_result", "search results"),
    ("tool_use", "tools"),
    ("tool_result", "tools"),
];

/// One message.
///
/// # Errors
/// 400 for what is no message, and for content that is not text.
pub fn message(value: Value) -> Result<Message> {
    let mut body = match value {
        value @ Value::Object(_) => Body::from_value("Message", value)?,
        _ => return Err(ApiError::bad_request("invalid message format")),
    };
    let role = body.text("role")?.unwrap_or_default().to_lowercase();
    unsupported::calls(&mut body, &role)?;
    let role = match role.as_str() {
        "" => return Err(ApiError::bad_request("a message has no role")),
        // OpenAI's newer word, not worth a note in the reply.
        "developer" => "system".into(),
        _ => role,
    };
    Ok(Message { role, content: text(body.take("content").unwrap_or_default())? })
}

/// The text of a message's content; none is an empty one, as in histories whose answer was
/// only a thought, or was cancelled.
///
/// # Errors
/// 400 for parts that are not text.
pub fn text(content: Value) -> Result<String> {
    let parts = match content {
        Value::Null => return Ok(String::new()),
        Value::String(text) => return Ok(text),
        Value::Array(parts) => parts,
        other => {
            let kind = go_type(&other);
            return Err(ApiError::bad_request(format!("invalid message content type: {kind}")));
        }
    };
    let texts = parts.into_iter().filter_map(|one| part(one).transpose());
    Ok(texts.collect::<Result<Vec<_>>>()?.join("\n"))
}

/// The text of one part; none if the model is not to see it.
fn part(value: Value) -> Result<Option<String>> {
    let mut body = match value {
        value @ Value::Object(_) => Body::from_value("Content", value)?,
        // A list of texts.
        Value::String(text) => return Ok(Some(text)),
        Value::Null => return Ok(None),
        _ => return Err(ApiError::bad_request("invalid message format")),
    };
    let kind = body.text("type")?.unwrap_or_default();
    let field = match kind.as_str() {
        "text" | "input_text" | "output_text" => "text",
        "refusal" => "refusal",
        // What was thought in earlier turns is not shown again.
        "thinking" | "redacted_thinking" => return Ok(None),
        kind => return Err(refuse(kind)),
    };
    body.text(field)
}

fn refuse(kind: &str) -> ApiError {
    ApiError::bad_request(match REFUSED.iter().find(|(name, _)| *name == kind) {
        Some((_, "tools")) => {
            format!("tools are not supported yet: leave parts of type {kind:?} out")
        }
        Some((_, what)) => format!(
            "{what} are not supported (part of type {kind:?}): this server runs text models"
        ),
        None => format!("unknown type {kind:?} of a part of a message; \"text\" is supported"),
    })
}
