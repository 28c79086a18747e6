//! Conversations → the text that the model reads, by the Go template of a pulled model,
//! as Ollama renders it.
//!
//! Text of people is marked ([`tramontane::Model::mark`]), so that it never becomes a
//! control token. A template sees the marks: `len`, `slice` and comparisons of a text
//! that spells control tokens may differ from Ollama's. A role is marked too, unless it
//! is one of the usual four or the template names it.

mod capability;
mod conversation;
mod cut;
mod go;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

pub use capability::Capabilities;
pub use go::{TemplateError, quote};

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user`, `assistant`, or what the template knows.
    pub role: String,
    /// Its text.
    pub content: String,
}

/// The Go template of a model.
#[derive(Debug, Clone)]
pub struct PromptTemplate {
    parsed: Arc<Parsed>,
    think: Option<bool>,
}

/// A template, and what was found out about it.
#[derive(Debug)]
struct Parsed {
    whole: go::Template,
    /// Up to where the answer begins, for the last turn of templates that know only turns.
    opening: go::Template,
    variables: BTreeSet<String>,
    /// Texts that it has in quotes.
    literals: BTreeSet<String>,
    thinking_tags: Option<(String, String)>,
}

/// What of a text is safe to put into a prompt; see [`tramontane::Model::mark`].
pub type Mark<'m> = &'m dyn for<'t> Fn(&'t str) -> Cow<'t, str>;

/// What models without any template get.
const PLAIN: &str = "{{ .Prompt }}";

impl PromptTemplate {
    /// Parses a template. One that uses neither messages nor the response writes the
    /// response at its end; an empty one writes the prompt.
    ///
    /// # Errors
    /// What Go's parser refuses, in its words.
    pub fn parse(source: &str) -> Result<Self, TemplateError> {
        let source = if source.is_empty() { PLAIN } else { source };
        let parsed = go::on_large_stack(|| Parsed::new(source))?;
        Ok(PromptTemplate { parsed: Arc::new(parsed), think: None })
    }

    /// Tells the template whether to have the model think.
    pub fn with_think(mut self, think: Option<bool>) -> Self {
        self.think = think;
        self
    }

    /// The fields and variables that it uses, in lower case.
    pub fn variables(&self) -> &BTreeSet<String> {
        &self.parsed.variables
    }

    /// What a model with this template can do.
    pub fn capabilities(&self) -> Capabilities {
        let variables = self.variables();
        Capabilities {
            insert: variables.contains("suffix"),
            tools: variables.contains("tools"),
            thinking: self.thinking_tags().is_some(),
        }
    }

    /// What stands before and after a thought.
    pub fn thinking_tags(&self) -> Option<(&str, &str)> {
        self.parsed.thinking_tags.as_ref().map(|(before, after)| (&**before, &**after))
    }

    /// The prompt of a conversation, up to where the answer begins; with marks, which
    /// [`tramontane::template::strip_marks`] takes out for display.
    ///
    /// # Errors
    /// What the template fails at, or that it goes past its limits.
    pub fn render_chat(
        &self,
        messages: &[Message],
        mark: Mark<'_>,
    ) -> Result<String, TemplateError> {
        conversation::chat(self, messages, mark)
    }

    /// The prompt of one turn, or of a gap between `prompt` and `suffix`; otherwise as
    /// [`PromptTemplate::render_chat`].
    ///
    /// # Errors
    /// What the template fails at, or that it goes past its limits.
    pub fn render_generate(
        &self,
        system: &str,
        prompt: &str,
        suffix: &str,
        mark: Mark<'_>,
    ) -> Result<String, TemplateError> {
        if !suffix.is_empty() {
            return conversation::insert(self, prompt, suffix, mark);
        }
        let message =
            |role: &str, content: &str| Message { role: role.into(), content: content.into() };
        let system = (!system.is_empty()).then(|| message("system", system));
        let messages: Vec<_> = system.into_iter().chain([message("user", prompt)]).collect();
        self.render_chat(&messages, mark)
    }
}

impl Parsed {
    fn new(source: &str) -> Result<Self, TemplateError> {
        let mut whole = go::Template::parse(source)?;
        let mut variables = capability::variables(whole.tree());
        if !variables.contains("messages") && !variables.contains("response") {
            whole.push(cut::response());
            variables.insert("response".into());
        }
        Ok(Parsed {
            opening: whole.with_root(cut::before_answer(&whole.tree().root)),
            literals: capability::literals(whole.tree()),
            thinking_tags: capability::thinking_tags(&whole.tree().root),
            variables,
            whole,
        })
    }
}
