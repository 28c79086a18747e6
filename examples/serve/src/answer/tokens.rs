//! Messages and prompts → tokens, by the template that the model has: a Go template
//! among its layers, else the Jinja template of its file.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tramontane::template::Shape;
use tramontane::{Chat, Error, Model};

use crate::prompt::{Mark, Message, PromptTemplate};
use crate::wire::{ApiError, Result};

use super::request::Prompt;

/// The template in use.
pub struct Prompter<'m> {
    kind: Kind,
    model: &'m Model,
    thinks: bool,
}

enum Kind {
    Go(PromptTemplate, Arc<Known>),
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
                let known = Known::of(source)?;
                let think = known.template.capabilities().thinking.then_some(thinks);
                Kind::Go(known.template.clone().with_think(think), known)
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

    /// The tokens of a conversation, up to where the answer begins or goes on. It is folded
    /// to what the template takes.
    ///
    /// # Errors
    /// 400 if the template refuses it, or leaves words out.
    pub fn chat(&self, messages: &[Message]) -> Result<Prompt> {
        let chat = Chat::new(messages.iter().map(to_library).collect::<Vec<_>>());
        let prompt = match &self.kind {
            Kind::Go(template, known) => {
                let engine = |chat: &Chat| render(template, chat, &|text| self.model.mark(text));
                self.model.encode_folded(known.shape().render(&chat, &engine)?)
            }
            Kind::Jinja if self.thinks => self.model.chat_prompt(&chat)?,
            Kind::Jinja => self.model.chat_prompt(&chat.with_variable("enable_thinking", false))?,
            Kind::None => {
                let texts: Vec<_> = messages.iter().map(|m| m.content.as_str()).collect();
                let tokens = self.model.tokenizer().encode(&texts.join("\n"), Default::default());
                return Ok(Prompt { own_text: true, ..Prompt::of(tokens) });
            }
        };
        let folds = prompt.folds.iter().map(|fold| fold.as_str()).collect();
        Ok(Prompt { own_text: !prompt.continues, folds, ..Prompt::of(prompt.tokens) })
    }

    /// The tokens of one turn.
    ///
    /// # Errors
    /// As [`chat`](Prompter::chat).
    pub fn turn(
        &self,
        system: &str,
        history: &[Message],
        prompt: &str,
        suffix: &str,
    ) -> Result<Prompt> {
        if let Kind::Go(template, _) = &self.kind
            && !suffix.is_empty()
        {
            let text =
                template.render_generate(system, prompt, suffix, &|text| self.model.mark(text));
            let text = text.map_err(|error| ApiError::bad_request(error.to_string()))?;
            let prompt = tramontane::Prompt::from_marked(text);
            let tokens = self.model.tokenizer().encode_chat(&prompt);
            return Ok(Prompt { own_text: true, ..Prompt::of(tokens) });
        }
        let message =
            |role: &str, content: &str| Message { role: role.into(), content: content.into() };
        let system = (!system.is_empty()).then(|| message("system", system));
        let messages: Vec<_> = system
            .into_iter()
            .chain(history.iter().cloned())
            .chain([message("user", prompt)])
            .collect();
        self.chat(&messages)
    }
}

fn to_library(message: &Message) -> tramontane::Message {
    tramontane::Message::new(&message.role, &message.content)
}

/// A conversation by a Go template.
fn render(template: &PromptTemplate, chat: &Chat, mark: Mark<'_>) -> Result<String, Error> {
    let messages = chat.messages.iter().map(|message| Message {
        role: message.role().to_owned(),
        content: message.content().into_owned(),
    });
    let text = template.render_chat(&messages.collect::<Vec<_>>(), mark);
    text.map_err(|error| Error::Template(error.to_string()))
}

/// A Go template and what it takes.
struct Known {
    source: String,
    template: PromptTemplate,
    shape: OnceLock<Shape>,
}

/// Those in use: parsing and probing one takes longer than rendering it.
static KNOWN: Mutex<Vec<Arc<Known>>> = Mutex::new(Vec::new());
/// How many are kept, newest last.
const KEPT: usize = 8;

impl Known {
    fn of(source: &str) -> Result<Arc<Self>> {
        let mut all = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = all.iter().position(|known| known.source == source) {
            let known = all.remove(at);
            all.push(known.clone());
            return Ok(known);
        }
        drop(all);
        let parsed = PromptTemplate::parse(source);
        let template = parsed.map_err(|error| ApiError::internal(error.to_string()))?;
        let (source, shape) = (source.to_owned(), OnceLock::new());
        let known = Arc::new(Known { source, template, shape });
        let mut all = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(known.clone());
        let surplus = all.len().saturating_sub(KEPT);
        all.drain(..surplus);
        Ok(known)
    }

    fn shape(&self) -> &Shape {
        let engine = |chat: &Chat| render(&self.template, chat, &|text| text.into());
        self.shape.get_or_init(|| Shape::probe(&engine))
    }
}

fn has_jinja(model: &Model) -> bool {
    model.metadata().get("tokenizer.chat_template").is_some()
}
