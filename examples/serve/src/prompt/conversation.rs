//! The values that a template gets: all messages at once, or turn by turn if it knows
//! only system, prompt and response.

use std::borrow::Cow;

use tramontane::template::PLAIN_TEXT_MARK;

use super::go::{self, Map, Output, TemplateError, Value};
use super::template::{Mark, Message, PromptTemplate};

type Result<T> = std::result::Result<T, TemplateError>;

impl PromptTemplate {
    /// The prompt of a conversation, up to where the answer begins; with marks, which
    /// [`tramontane::template::strip_marks`] takes out for display.
    ///
    /// # Errors
    /// What the template fails at, or that it goes past its limits.
    pub fn render_chat(&self, messages: &[Message], mark: Mark<'_>) -> Result<String> {
        chat(self, messages, mark)
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
    ) -> Result<String> {
        if !suffix.is_empty() {
            return insert(self, prompt, suffix, mark);
        }
        let message =
            |role: &str, content: &str| Message { role: role.into(), content: content.into() };
        let system = (!system.is_empty()).then(|| message("system", system));
        let messages: Vec<_> = system.into_iter().chain([message("user", prompt)]).collect();
        self.render_chat(&messages, mark)
    }
}

/// The text of a conversation, up to where the answer begins.
///
/// # Errors
/// What the template fails at.
fn chat(template: &PromptTemplate, messages: &[Message], mark: Mark<'_>) -> Result<String> {
    let (system, messages) = collate(template, messages, mark);
    if template.variables().contains("messages") {
        let messages: Vec<_> = messages.iter().map(message).collect();
        let dot = root(
            template,
            [
                ("System", Value::text(system)),
                ("Messages", Value::list(messages)),
                ("Tools", Value::list([])),
                ("Response", Value::text("")),
            ],
        );
        return once(template, &dot);
    }
    go::on_large_stack(|| turns(template, messages))
}

/// The text of a gap that the answer is to fill.
///
/// # Errors
/// What the template fails at.
fn insert(template: &PromptTemplate, prompt: &str, suffix: &str, mark: Mark<'_>) -> Result<String> {
    let dot = root(
        template,
        [
            ("Prompt", Value::text(&*mark(prompt))),
            ("Suffix", Value::text(&*mark(suffix))),
            ("Response", Value::text("")),
        ],
    );
    once(template, &dot)
}

fn once(template: &PromptTemplate, dot: &Value) -> Result<String> {
    go::on_large_stack(|| {
        let mut output = Output::default();
        template.parsed.whole.render(dot, &mut output)?;
        Ok(output.text)
    })
}

fn root<const N: usize>(template: &PromptTemplate, entries: [(&str, Value); N]) -> Value {
    let think = [
        ("Think", Value::Bool(template.think == Some(true))),
        ("ThinkLevel", Value::text("")),
        ("IsThinkSet", Value::Bool(template.think.is_some())),
    ];
    Value::map(Map::of(entries.into_iter().chain(think)))
}

/// Messages with marks, neighbours of one role made one (but not those of tools), and
/// the texts of all that are the system's.
fn collate(
    template: &PromptTemplate,
    messages: &[Message],
    mark: Mark<'_>,
) -> (String, Vec<Message>) {
    let mut system = Vec::new();
    let mut collated: Vec<Message> = Vec::with_capacity(messages.len());
    for message in messages {
        let content = mark(&message.content);
        if message.role == "system" {
            system.push(content.clone());
        }
        let role = role(template, &message.role, mark);
        match collated.last_mut() {
            Some(last) if last.role == role && role != "tool" => {
                last.content.push_str("\n\n");
                last.content.push_str(&content);
            }
            _ => collated.push(Message { role: role.into_owned(), content: content.into_owned() }),
        }
    }
    (system.join("\n\n"), collated)
}

/// A role that the template does not name is text of people, around which the template
/// may write half of a control token: it cannot be told from one with a mark.
fn role<'r>(template: &PromptTemplate, role: &'r str, mark: Mark<'_>) -> Cow<'r, str> {
    if matches!(role, "system" | "user" | "assistant" | "tool")
        || template.parsed.literals.contains(role)
    {
        return Cow::Borrowed(role);
    }
    let mut letters = role.chars();
    match letters.next() {
        None => Cow::Borrowed(role),
        Some(first) => Cow::Owned(format!("{first}{PLAIN_TEXT_MARK}{}", mark(letters.as_str()))),
    }
}

/// What a template may ask of a message.
fn message(message: &Message) -> Value {
    let text = |text: &str| Value::text(text);
    Value::map(Map::structure(
        "template.message",
        vec![
            ("Role", Some("Role"), text(&message.role)),
            ("Content", Some("Content"), text(&message.content)),
            ("Thinking", Some("Thinking"), text("")),
            ("Images", Some("Images"), Value::list([])),
            ("ToolCalls", Some("ToolCalls"), Value::list([])),
            ("ToolName", Some("ToolName"), text("")),
            ("ToolCallID", Some("ToolCallID"), text("")),
        ],
    ))
}

/// One turn of a template that knows no messages.
#[derive(Default)]
struct Turn {
    system: String,
    prompt: String,
    response: String,
}

impl Turn {
    fn dot(self, template: &PromptTemplate) -> Value {
        root(
            template,
            [
                ("System", Value::text(self.system)),
                ("Prompt", Value::text(self.prompt)),
                ("Response", Value::text(self.response)),
            ],
        )
    }
}

/// Turn after turn; the last ends where the response begins, or with its beginning.
fn turns(template: &PromptTemplate, messages: Vec<Message>) -> Result<String> {
    let mut output = Output::default();
    let mut turn = Turn::default();
    for message in messages {
        let over = match message.role.as_str() {
            "system" => !turn.prompt.is_empty() || !turn.response.is_empty(),
            "user" => !turn.response.is_empty(),
            _ => false,
        };
        if over {
            let dot = std::mem::take(&mut turn).dot(template);
            template.parsed.whole.render(&dot, &mut output)?;
        }
        match message.role.as_str() {
            "system" => turn.system = message.content,
            "user" => turn.prompt = message.content,
            "assistant" => turn.response = message.content,
            _ => {}
        }
    }
    template.parsed.opening.render(&turn.dot(template), &mut output)?;
    Ok(output.text)
}
