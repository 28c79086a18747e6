//! Messages and prompts → tokens, by the template that the model has: a Go template
//! among its layers, else the Jinja template of its file.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tramontane::template::{Folded, Shape, strip_marks};
use tramontane::{Chat, ChatPrompt, Error, Message, Model, OutputSyntax, Thinking};

use crate::prompt::{Capabilities, Mark, PromptTemplate};
use crate::wire::{ApiError, Result};

use super::request::Prompt;

/// Bytes of a prompt's end that say where an answer begins.
const END: usize = 200;

/// The template in use.
pub struct Prompter<'m> {
    kind: Kind,
    model: &'m Model,
}

enum Kind {
    Go(Arc<Known>),
    Jinja,
    None,
}

impl<'m> Prompter<'m> {
    /// The template of `model`, or `layer`, a Go template that comes before it.
    ///
    /// # Errors
    /// 500 for a layer that is no template.
    pub fn new(model: &'m Model, layer: Option<&str>) -> Result<Self> {
        let kind = match layer {
            Some(source) => Kind::Go(Known::of(source, model)?),
            None if has_jinja(model) => Kind::Jinja,
            None => Kind::None,
        };
        Ok(Prompter { kind, model })
    }

    /// Whether prompts are put into a form at all.
    pub fn has_template(&self) -> bool {
        !matches!(self.kind, Kind::None)
    }

    /// How the model writes thoughts and calls, by the template in use.
    pub fn syntax(&self) -> Arc<OutputSyntax> {
        match &self.kind {
            Kind::Go(known) => known.syntax(self.model),
            Kind::Jinja | Kind::None => Arc::new(self.model.output_syntax().clone()),
        }
    }

    /// What the model can do with the template in use: what Ollama's rules say, and what was
    /// found out by having the template render.
    pub fn capabilities(&self) -> Capabilities {
        let by_rules = match &self.kind {
            Kind::Go(known) => known.template.capabilities(),
            Kind::Jinja => self.model.chat_template().map_or_else(
                |_| Capabilities::default(),
                |template| Capabilities::of_jinja(template.source()),
            ),
            Kind::None => return Capabilities::default(),
        };
        let syntax = self.syntax();
        by_rules.or(Capabilities {
            insert: false,
            tools: syntax.calls(),
            thinking: syntax.thinks(),
        })
    }

    /// The tokens of a conversation, up to where the answer begins or goes on. It is folded
    /// to what the template takes.
    ///
    /// # Errors
    /// 400 if the template refuses it, or leaves words out.
    pub fn chat(&self, chat: &Chat) -> Result<Prompt> {
        let folded = match &self.kind {
            Kind::Go(known) => {
                let engine = |chat: &Chat| known.render(chat, &|text| self.model.mark(text));
                known.shape().render(chat, &engine)?
            }
            Kind::Jinja => self.model.chat_template()?.fold(chat)?,
            Kind::None => {
                let texts: Vec<_> = chat.messages.iter().map(Message::content).collect();
                let tokens = self.model.tokenizer().encode(&texts.join("\n"), Default::default());
                return Ok(Prompt { own_text: true, ..Prompt::of(tokens) });
            }
        };
        let end = end_of(&folded);
        let ChatPrompt { tokens, continues, folds, .. } = self.model.encode_folded(folded);
        let folds = folds.iter().map(|fold| fold.as_str()).collect();
        Ok(Prompt { own_text: !continues, folds, end, ..Prompt::of(tokens) })
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
        thinking: Option<Thinking>,
    ) -> Result<Prompt> {
        if let Kind::Go(known) = &self.kind
            && !suffix.is_empty()
        {
            let mark: Mark<'_> = &|text| self.model.mark(text);
            let text = known.template.render_generate(system, prompt, suffix, thinking, mark);
            let text = text.map_err(|error| ApiError::bad_request(error.to_string()))?;
            let prompt = tramontane::Prompt::from_marked(text);
            let tokens = self.model.tokenizer().encode_chat(&prompt);
            return Ok(Prompt { own_text: true, ..Prompt::of(tokens) });
        }
        let system = (!system.is_empty()).then(|| Message::system(system));
        let messages: Vec<_> = system
            .into_iter()
            .chain(history.iter().cloned())
            .chain([Message::user(prompt)])
            .collect();
        self.chat(&Chat::new(messages).with_thinking(thinking))
    }
}

/// The end of a rendered prompt, without marks.
fn end_of(folded: &Folded) -> String {
    let text = folded.prompt.marked();
    // Marks are three bytes long.
    let from = text.floor_char_boundary(text.len().saturating_sub(4 * END));
    let plain = strip_marks(&text[from..]);
    plain[plain.ceil_char_boundary(plain.len().saturating_sub(END))..].to_owned()
}

/// A Go template and what it takes.
struct Known {
    /// Which texts are tokens of their own.
    vocabulary: u64,
    template: PromptTemplate,
    shape: OnceLock<Shape>,
    syntax: OnceLock<Arc<OutputSyntax>>,
}

/// Those in use: parsing and probing one takes longer than rendering it.
static KNOWN: Mutex<Vec<Arc<Known>>> = Mutex::new(Vec::new());
/// How many are kept, newest last.
const KEPT: usize = 8;

impl Known {
    fn of(source: &str, model: &Model) -> Result<Arc<Self>> {
        let vocabulary = vocabulary(model);
        let is_known =
            |known: &Arc<Self>| known.template.source() == source && known.vocabulary == vocabulary;
        let mut all = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = all.iter().position(is_known) {
            let known = all.remove(at);
            all.push(known.clone());
            return Ok(known);
        }
        drop(all);
        let parsed = PromptTemplate::parse(source);
        let template = parsed.map_err(|error| ApiError::internal(error.to_string()))?;
        let (shape, syntax) = (OnceLock::new(), OnceLock::new());
        let known = Arc::new(Known { vocabulary, template, shape, syntax });
        let mut all = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(known.clone());
        let surplus = all.len().saturating_sub(KEPT);
        all.drain(..surplus);
        Ok(known)
    }

    fn render(&self, chat: &Chat, mark: Mark<'_>) -> tramontane::Result<String> {
        let text = self.template.render_chat(chat, mark);
        text.map_err(|error| Error::Template(error.to_string()))
    }

    fn shape(&self) -> &Shape {
        self.shape.get_or_init(|| Shape::probe(&|chat| self.render(chat, &|text| text.into())))
    }

    fn syntax(&self, model: &Model) -> Arc<OutputSyntax> {
        let own = |chat: &Chat| {
            let engine = |chat: &Chat| self.render(chat, &|text| text.into());
            self.shape().render(chat, &engine)?.own_text()
        };
        let probe = || OutputSyntax::probe(&own, self.template.source(), model.tokenizer()).into();
        self.syntax.get_or_init(probe).clone()
    }
}

/// The same for the same control tokens.
fn vocabulary(model: &Model) -> u64 {
    let mut hasher = DefaultHasher::new();
    model.n_vocab().hash(&mut hasher);
    model.tokenizer().control_pieces().for_each(|piece| piece.hash(&mut hasher));
    hasher.finish()
}

fn has_jinja(model: &Model) -> bool {
    model.metadata().get("tokenizer.chat_template").is_some()
}
