//! Messages and prompts → tokens, by the template that the model has: a Go template
//! among its layers, else the Jinja template of its file.

use tramontane::{Chat, Ending, Model, Prompt};

use crate::prompt::{Message, PromptTemplate};
use crate::wire::{ApiError, Result};

/// The template in use.
pub struct Prompter<'m> {
    kind: Kind,
    model: &'m Model,
    thinks: bool,
}

enum Kind {
    Go(PromptTemplate),
    Jinja,
    None,
}

impl<'m> Prompter<'m> {
    /// The template of `model`, or `layer`, a Go template that comes before it.
    ///
    /// # Errors
    /// 500 for a layer that is no template.
    pub fn new(model: &'m Model, layer: Option<&str>, thinks: bool) -> Result<Self> {
        let kind = match layer {
            Some(source) => {
                let parsed = PromptTemplate::parse(source);
                let template = parsed.map_err(|error| ApiError::internal(error.to_string()))?;
                let think = template.capabilities().thinking.then_some(thinks);
                Kind::Go(template.with_think(think))
            }
            None if has_jinja(model) => Kind::Jinja,
            None => Kind::None,
        };
        Ok(Prompter { kind, model, thinks })
    }

    /// Whether prompts are put into a form at all.
    pub fn has_template(&self) -> bool {
        !matches!(self.kind, Kind::None)
    }

    /// The tokens of a conversation, up to where the answer begins.
    ///
    /// # Errors
    /// 400 if the template refuses it.
    pub fn chat(&self, model: &Model, messages: &[Message]) -> Result<Vec<u32>> {
        match &self.kind {
            Kind::Go(template) => {
                let text = template.render_chat(messages, &|text| model.mark(text));
                let text = text.map_err(|error| ApiError::bad_request(error.to_string()))?;
                Ok(model.tokenizer().encode_chat(&Prompt::from_marked(text)))
            }
            Kind::Jinja => self.jinja(messages),
            Kind::None => {
                let texts: Vec<_> = messages.iter().map(|m| m.content.as_str()).collect();
                Ok(model.tokenizer().encode(&texts.join("\n"), Default::default()))
            }
        }
    }

    /// The tokens of one turn.
    ///
    /// # Errors
    /// 400 if the template refuses it.
    pub fn turn(
        &self,
        model: &Model,
        system: &str,
        history: &[Message],
        prompt: &str,
        suffix: &str,
    ) -> Result<Vec<u32>> {
        if let Kind::Go(template) = &self.kind
            && (!suffix.is_empty() || history.is_empty())
        {
            let text = template.render_generate(system, prompt, suffix, &|text| model.mark(text));
            let text = text.map_err(|error| ApiError::bad_request(error.to_string()))?;
            return Ok(model.tokenizer().encode_chat(&Prompt::from_marked(text)));
        }
        let message =
            |role: &str, content: &str| Message { role: role.into(), content: content.into() };
        let system = (!system.is_empty()).then(|| message("system", system));
        let messages: Vec<_> = system
            .into_iter()
            .chain(history.iter().cloned())
            .chain([message("user", prompt)])
            .collect();
        self.chat(model, &messages)
    }

    fn jinja(&self, messages: &[Message]) -> Result<Vec<u32>> {
        let messages = messages.iter().map(|m| tramontane::Message::new(&m.role, &m.content));
        let messages: Vec<_> = messages.collect();
        let mut chat = Chat::new(messages).with_ending(Ending::GenerationPrompt);
        if !self.thinks {
            chat = chat.with_variable("enable_thinking", false);
        }
        Ok(self.model.chat_tokens(&chat)?)
    }
}

fn has_jinja(model: &Model) -> bool {
    model.metadata().get("tokenizer.chat_template").is_some()
}
