//! The values that a template gets: all messages at once, or turn by turn if it knows
//! only system, prompt and response.

use std::borrow::Cow;

use tramontane::template::PLAIN_TEXT_MARK;
use tramontane::{Chat, Message, Thinking};

use super::go::{self, Map, Output, TemplateError, Value};
use super::template::{Mark, PromptTemplate};
use super::tools;

type Result<T> = std::result::Result<T, TemplateError>;

impl PromptTemplate {
    /// The prompt of a conversation, up to where the answer begins; with marks, which
    /// [`tramontane::template::strip_marks`] takes out for display.
    ///
    /// # Errors
    /// What the template fails at, or that it goes past its limits.
    pub fn render_chat(&self, chat: &Chat, mark: Mark<'_>) -> Result<String> {
        let think = Think { source: self.parsed.whole.source(), thinking: chat.thinking };
        let (system, messages) = collate(self, &chat.messages, mark);
        if self.variables().contains("messages") {
            let dot = think.root([
                ("System", Value::text(system)),
                ("Messages", Value::list(messages.iter().map(Marked::value).collect::<Vec<_>>())),
                ("Tools", tools::tools(chat.tools.iter().flatten(), mark)),
                ("Response", Value::text("")),
            ]);
            return once(self, &dot);
        }
        go::on_large_stack(|| turns(self, messages, think))
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
        thinking: Option<Thinking>,
        mark: Mark<'_>,
    ) -> Result<String> {
        if !suffix.is_empty() {
            let dot = Think { source: self.parsed.whole.source(), thinking }.root([
                ("Prompt", Value::text(&*mark(prompt))),
                ("Suffix", Value::text(&*mark(suffix))),
                ("Response", Value::text("")),
            ]);
            return once(self, &dot);
        }
        let system = (!system.is_empty()).then(|| Message::system(system));
        let messages: Vec<_> = system.into_iter().chain([Message::user(prompt)]).collect();
        self.render_chat(&Chat::new(messages).with_thinking(thinking), mark)
    }
}

fn once(template: &PromptTemplate, dot: &Value) -> Result<String> {
    go::on_large_stack(|| {
        let mut output = Output::default();
        template.parsed.whole.render(dot, &mut output)?;
        Ok(output.text)
    })
}

/// Whether the model is to think, as a template knows it.
#[derive(Clone, Copy)]
struct Think<'s> {
    source: &'s str,
    thinking: Option<Thinking>,
}

impl Think<'_> {
    fn root<const N: usize>(self, entries: [(&str, Value); N]) -> Value {
        let level = self.thinking.and_then(|thinking| thinking.level_in(self.source));
        let think = [
            ("Think", Value::Bool(self.thinking.is_some_and(Thinking::is_on))),
            ("ThinkLevel", Value::text(level.unwrap_or_default())),
            ("IsThinkSet", Value::Bool(self.thinking.is_some())),
        ];
        Value::map(Map::of(entries.into_iter().chain(think)))
    }
}

/// A message with marks.
struct Marked {
    role: String,
    content: String,
    thinking: String,
    calls: Value,
    tool_name: String,
    tool_call_id: String,
}

impl Marked {
    fn new(template: &PromptTemplate, message: &Message, mark: Mark<'_>) -> Self {
        let text = |text: Option<&str>| mark(text.unwrap_or_default()).into_owned();
        let content = message.content();
        let id = message.get("tool_call_id").and_then(|id| id.as_str());
        Marked {
            role: role(template, message.role(), mark).into_owned(),
            content: text(Some(&content)),
            thinking: text(message.thinking()),
            calls: tools::calls(message, mark),
            tool_name: text(message.tool_name()),
            tool_call_id: text(id),
        }
    }

    /// Whether there is nothing in it but text, so that more can be put behind it.
    fn is_text(&self) -> bool {
        self.role != "tool" && !self.calls.is_true() && self.thinking.is_empty()
    }

    /// What a template may ask of it.
    fn value(&self) -> Value {
        let text = |text: &str| Value::text(text);
        Value::map(Map::structure(
            "template.message",
            vec![
                ("Role", Some("Role"), text(&self.role)),
                ("Content", Some("Content"), text(&self.content)),
                ("Thinking", Some("Thinking"), text(&self.thinking)),
                ("Images", Some("Images"), Value::list([])),
                ("ToolCalls", Some("ToolCalls"), self.calls.clone()),
                ("ToolName", Some("ToolName"), text(&self.tool_name)),
                ("ToolCallID", Some("ToolCallID"), text(&self.tool_call_id)),
            ],
        ))
    }
}

/// Messages with marks, neighbours of one role made one (but not those of tools, nor any
/// with calls or thoughts), and the texts of all that are the system's.
fn collate(
    template: &PromptTemplate,
    messages: &[Message],
    mark: Mark<'_>,
) -> (String, Vec<Marked>) {
    let mut system = Vec::new();
    let mut collated: Vec<Marked> = Vec::with_capacity(messages.len());
    for message in messages {
        let message = Marked::new(template, message, mark);
        if message.role == "system" {
            system.push(message.content.clone());
        }
        match collated.last_mut() {
            Some(last) if last.role == message.role && last.is_text() && message.is_text() => {
                last.content.push_str("\n\n");
                last.content.push_str(&message.content);
            }
            _ => collated.push(message),
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

/// One turn of a template that knows no messages.
#[derive(Default)]
struct Turn {
    system: String,
    prompt: String,
    response: String,
}

impl Turn {
    fn dot(self, think: Think<'_>) -> Value {
        think.root([
            ("System", Value::text(self.system)),
            ("Prompt", Value::text(self.prompt)),
            ("Response", Value::text(self.response)),
        ])
    }
}

/// Turn after turn; the last ends where the response begins, or with its beginning.
fn turns(template: &PromptTemplate, messages: Vec<Marked>, think: Think<'_>) -> Result<String> {
    let mut output = Output::default();
    let mut turn = Turn::default();
    for message in messages {
        let over = match message.role.as_str() {
            "system" => !turn.prompt.is_empty() || !turn.response.is_empty(),
            "user" => !turn.response.is_empty(),
            _ => false,
        };
        if over {
            let dot = std::mem::take(&mut turn).dot(think);
            template.parsed.whole.render(&dot, &mut output)?;
        }
        match message.role.as_str() {
            "system" => turn.system = message.content,
            "user" => turn.prompt = message.content,
            "assistant" => turn.response = message.content,
            _ => {}
        }
    }
    template.parsed.opening.render(&turn.dot(think), &mut output)?;
    Ok(output.text)
}
