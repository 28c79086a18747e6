//! A conversation as the values that a template sees.

use minijinja::value::Value;
use serde_json::{Map, Value as Json};

use super::scan::check;
use crate::error::Result;
use crate::template::marks::Marker;
use crate::template::message::{Message, Tool};
use crate::template::{Chat, Ending, NoTools};

/// Bytes of a conversation: its text, and 32 for each value.
const MAX_INPUT: usize = 8 << 20;
/// Levels of lists and maps in a message, a tool or a variable.
const MAX_DEPTH: usize = 64;

/// Converts and marks, within a budget of bytes.
struct Input<'a> {
    marker: Marker<'a>,
    used: usize,
}

impl Input<'_> {
    fn value(&mut self, json: &Json, depth: usize) -> Result<Value> {
        check("levels of lists and maps in a message", depth, MAX_DEPTH)?;
        self.spend(32)?;
        Ok(match json {
            Json::Null => Value::from(()),
            Json::Bool(flag) => Value::from(*flag),
            Json::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(integer), _, _) => Value::from(integer),
                (_, Some(integer), _) => Value::from(integer),
                (_, _, float) => Value::from(float.unwrap_or(f64::NAN)),
            },
            Json::String(text) => self.text(text)?,
            Json::Array(items) => {
                let values: Result<Vec<_>> =
                    items.iter().map(|item| self.value(item, depth + 1)).collect();
                Value::from(values?)
            }
            Json::Object(entries) => Value::from_pairs(self.entries(entries, depth)?),
        })
    }

    fn list<'j>(&mut self, items: impl Iterator<Item = &'j Json>) -> Result<Value> {
        let values: Result<Vec<_>> = items.map(|item| self.value(item, 1)).collect();
        values.map(Value::from)
    }

    fn entries(&mut self, map: &Map<String, Json>, depth: usize) -> Result<Vec<(Value, Value)>> {
        map.iter().map(|(key, item)| Ok((self.text(key)?, self.value(item, depth + 1)?))).collect()
    }

    fn text(&mut self, text: &str) -> Result<Value> {
        self.spend(text.len())?;
        Ok(Value::from(&*self.marker.mark(text)))
    }

    fn spend(&mut self, bytes: usize) -> Result<()> {
        self.used += bytes;
        check("bytes of a conversation", self.used, MAX_INPUT)
    }
}

/// The variables of transformers' `apply_chat_template`; `tokens` are the
/// texts of `bos_token` and `eos_token`, which stay unmarked.
pub(super) fn variables(
    chat: &Chat,
    no_tools: NoTools,
    tokens: &[(&'static str, String)],
    control_pieces: &[String],
) -> Result<Value> {
    let mut input = Input { marker: Marker::new(control_pieces), used: 0 };
    let mut all: Vec<(Value, Value)> = vec![(Value::from("documents"), Value::from(()))];
    all.extend(tokens.iter().map(|(name, text)| (Value::from(*name), Value::from(&**text))));
    // Later entries win: a caller's variable over a token, but not over these.
    all.extend(input.entries(&chat.variables, 0)?);
    let tools = match (&chat.tools, no_tools) {
        (Some(tools), _) => Some(input.list(tools.iter().map(Tool::as_json))?),
        (None, NoTools::None) => Some(Value::from(())),
        (None, NoTools::Undefined) => None,
    };
    all.extend(tools.map(|tools| (Value::from("tools"), tools)));
    let messages = input.list(chat.messages.iter().map(Message::as_json))?;
    all.push((Value::from("messages"), messages));
    let opens = matches!(chat.ending, Ending::Auto | Ending::GenerationPrompt);
    let opens = opens && !chat.continues_last();
    all.push((Value::from("add_generation_prompt"), Value::from(opens)));
    Ok(Value::from_pairs(all))
}
