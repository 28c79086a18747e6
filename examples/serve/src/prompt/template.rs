//! The Go template of a model, and what was found out about it.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::capability::{self, Capabilities};
use super::cut;
use super::go::{self, TemplateError};

/// The Go template of a model.
#[derive(Debug, Clone)]
pub struct PromptTemplate {
    pub(super) parsed: Arc<Parsed>,
}

/// A template, and what was found out about it.
#[derive(Debug)]
pub(super) struct Parsed {
    pub whole: go::Template,
    /// Up to where the answer begins, for the last turn of templates that know only turns.
    pub opening: go::Template,
    variables: BTreeSet<String>,
    /// Texts that it has in quotes.
    pub literals: BTreeSet<String>,
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
        Ok(PromptTemplate { parsed: Arc::new(parsed) })
    }

    /// The source, as given.
    pub fn source(&self) -> &str {
        self.parsed.whole.source()
    }

    /// The fields and variables that it uses, in lower case.
    pub fn variables(&self) -> &BTreeSet<String> {
        &self.parsed.variables
    }

    /// What a model with this template can do, by Ollama's rules.
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
