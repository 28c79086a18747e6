//! What a line asks, with options as Ollama names them.

use serde_json::{Map, Value};
use tramontane::{
    Chat, EmbedOptions, EncodeOptions, Ending, Engine, Error, GenerateOptions, Message, Request,
};

use super::pump::Work;

/// How to generate, where a line does not say.
#[derive(Clone, Default)]
pub struct Options {
    pub generate: GenerateOptions,
    pub num_ctx: Option<usize>,
}

/// What is asked.
enum Text {
    /// To be continued.
    Prompt(String),
    /// To be answered.
    Messages(Vec<Value>),
    /// To become a vector.
    Embed(String),
}

/// One line of the input.
pub struct Question {
    text: Text,
    options: Options,
}

impl Question {
    /// Takes a line's fields; those of "options" count as the line's own.
    pub fn new(fields: &Map<String, Value>, defaults: &Options) -> Result<Question, String> {
        let mut options = defaults.clone();
        let mut text = None;
        for (name, value) in fields {
            let found = match (name.as_str(), value) {
                ("id", _) => continue,
                ("prompt", Value::String(prompt)) => Text::Prompt(prompt.clone()),
                ("messages", Value::Array(messages)) => Text::Messages(messages.clone()),
                ("embed", Value::String(text)) => Text::Embed(text.clone()),
                ("prompt" | "embed", _) => return Err(refuse(name, "a text", value)),
                ("messages", _) => return Err(refuse(name, "a list", value)),
                ("options", Value::Object(more)) => {
                    more.iter().try_for_each(|(name, value)| options.set(name, value))?;
                    continue;
                }
                _ => {
                    options.set(name, value)?;
                    continue;
                }
            };
            if text.replace(found).is_some() {
                return Err("more than one of \"prompt\", \"messages\" and \"embed\"".into());
            }
        }
        let text = text.ok_or("none of \"prompt\", \"messages\" and \"embed\"")?;
        Ok(Question { text, options })
    }

    /// Hands it in. Random numbers begin with `seed` if nobody said where.
    pub fn ask(self, engine: &Engine, seed: u64) -> Result<Work, Error> {
        let Options { mut generate, num_ctx } = self.options;
        generate.sampler.seed.get_or_insert(seed);
        let (tokens, own_text) = match &self.text {
            Text::Embed(text) => {
                let encoding = EncodeOptions::default().with_eos(true);
                let tokens = engine.model().tokenizer().encode(text, encoding);
                let options = EmbedOptions::default().with_num_ctx(num_ctx);
                return Ok(Work::Vector(engine.embed(&tokens, &options)?));
            }
            Text::Prompt(prompt) => {
                let encoding = EncodeOptions::default();
                (engine.model().tokenizer().encode(prompt, encoding), false)
            }
            Text::Messages(messages) => {
                let messages: Vec<_> = messages.iter().cloned().map(Message::from).collect();
                let chat = Chat::new(messages).with_ending(Ending::GenerationPrompt);
                (engine.model().chat_tokens(&chat)?, true)
            }
        };
        let request = Request::new(tokens, generate).with_num_ctx(num_ctx).with_own_text(own_text);
        Ok(Work::Text { reply: engine.submit(request)?, response: String::new() })
    }
}

impl Options {
    fn set(&mut self, name: &str, value: &Value) -> Result<(), String> {
        let known = match name {
            "num_ctx" => {
                let positions = value.as_u64().and_then(|n| usize::try_from(n).ok());
                let positions = positions.filter(|n| *n > 0);
                self.num_ctx =
                    Some(positions.ok_or_else(|| refuse(name, "a number of positions", value))?);
                true
            }
            // One text is a list of one.
            "stop" if value.is_string() => {
                self.generate.set(name, &Value::from(vec![value.clone()])).map_err(text)?
            }
            _ => self.generate.set(name, value).map_err(text)?,
        };
        known.then_some(()).ok_or_else(|| format!("unknown field \"{}\"", name.escape_debug()))
    }
}

fn text(error: Error) -> String {
    error.to_string()
}

fn refuse(name: &str, accepted: &str, value: &Value) -> String {
    let value: String = value.to_string().chars().take(40).collect();
    format!("\"{name}\" must be {accepted}, got {value}")
}
