//! The grammar of a whole answer, from its first token to its last: thoughts, then text and
//! calls whose names and arguments are those of the declared functions.

use serde_json::Value as Json;

use super::form::{Form, Kind};
use super::grammar::{Grammar, SPACE, TEXT, literal};
use super::syntax::{Messages, Syntax};
use super::{AnswerShape, ToolChoice, channels};
use crate::constrain::Constraint;
use crate::error::{Error, Result};
use crate::template::Tool;

/// What an answer is constrained to, and the functions whose arguments are any object.
///
/// # Errors
/// [`Error::Misuse`] for a choice of a function that is not declared, or of one where none is.
pub(super) fn constraint(
    syntax: &Syntax,
    shape: &AnswerShape<'_>,
) -> Result<(Option<Constraint>, Vec<String>)> {
    let tools = chosen(shape)?;
    let must = matches!(shape.choice, ToolChoice::Required | ToolChoice::Function(_));
    let free = tools.is_empty() && shape.content.is_none();
    if free && (shape.choice != ToolChoice::None || shape.tools.is_empty()) {
        return Ok((None, Vec::new()));
    }
    if !must && shape.content.is_none() && !free && !is_enforced(syntax) {
        return Ok((None, Vec::new()));
    }
    let form =
        syntax.form.clone().filter(|form| form.kind != Kind::Python || !form.mark.is_empty());
    let form = form.unwrap_or_else(|| Form::new(Kind::Objects, "", ""));
    let rules = format!("text: {TEXT}\nSPACE: {SPACE}\n");
    let mut grammar = Grammar { syntax, form, tools, shape, rules, loose: Vec::new() };
    // Nothing stands around the content.
    let alone = syntax.thoughts.is_empty() && syntax.wraps.is_empty() && syntax.messages.is_none();
    if grammar.tools.is_empty()
        && alone
        && let Some(content) = &shape.content
    {
        return Ok((Some(content.clone()), Vec::new()));
    }
    for (index, tool) in grammar.tools.clone().into_iter().enumerate() {
        grammar.arguments(index, tool)?;
    }
    if let Some(content) = &shape.content {
        let rule = content.rules("content")?;
        grammar.rules.push_str(&rule);
    }
    let start = match syntax.messages {
        Some(Messages::Channels) => channels::start(&mut grammar, must),
        Some(Messages::Recipients) => channels::recipients(&mut grammar, must),
        None => {
            if !grammar.tools.is_empty() {
                let calls = grammar.calls(must || shape.content.is_some())?;
                grammar.rule("calls", &calls);
            }
            grammar.start(must)
        }
    };
    grammar.rule("start", &start);
    Ok((Some(Constraint::lark(grammar.rules)), grammar.loose))
}

/// Whether free text is watched for calls: without a marker an answer in JSON could not be
/// told from one early enough, unless it names a declared function.
fn is_enforced(syntax: &Syntax) -> bool {
    syntax.form.as_ref().is_some_and(|form| form.kind != Kind::Python || !form.mark.is_empty())
}

/// The functions that the answer may call.
fn chosen<'a>(shape: &AnswerShape<'a>) -> Result<Vec<&'a Tool>> {
    match &shape.choice {
        ToolChoice::None => Ok(Vec::new()),
        ToolChoice::Function(name) => {
            let tool = shape.tools.iter().find(|tool| tool.name() == name);
            tool.map(|tool| vec![tool]).ok_or_else(|| {
                Error::misuse(format!("tool choice: no function called {name:?} is declared"))
            })
        }
        ToolChoice::Required if shape.tools.is_empty() => {
            Err(Error::misuse("tool choice: a call is required, but no function is declared"))
        }
        ToolChoice::Auto | ToolChoice::Required => Ok(shape.tools.iter().collect()),
    }
}

impl Grammar<'_> {
    /// A rule for a marker in a place where free text may be, too.
    fn first(&mut self, name: &str, mark: &str) -> String {
        match self.syntax.control(mark) {
            Some(_) => {
                let mark = self.mark(mark);
                self.rule(name, &format!("SPACE {mark}"));
            }
            None => self.rule(&format!("{name}[lazy]"), &format!("{SPACE} {}", literal(mark))),
        }
        name.to_owned()
    }

    /// Thoughts, then the rest.
    fn start(&mut self, must: bool) -> String {
        let body = self.body(must);
        self.rule("body", &body);
        let end = self.shape.prompt_end.trim_end();
        let thoughts = self.syntax.thoughts.clone();
        if let Some(tag) = thoughts.iter().find(|tag| end.ends_with(&tag.open)) {
            let thoughts = self.until("thoughts", &tag.close);
            return match must || self.shape.content.is_some() {
                true => format!("{thoughts} SPACE body"),
                // The model may stop while it thinks.
                false => format!("{thoughts} body | text"),
            };
        }
        let closed = thoughts.iter().any(|tag| end.ends_with(&tag.close));
        let space = if must || self.shape.content.is_some() { " SPACE" } else { "" };
        let mut start = "body".to_owned();
        for (index, tag) in thoughts.iter().enumerate().filter(|_| !closed) {
            let open = self.first(&format!("think_{index}"), &tag.open);
            let rest = self.until(&format!("thoughts_{index}"), &tag.close);
            // The model may stop while it thinks.
            let stop = if space.is_empty() { " | text" } else { "" };
            start.push_str(&format!(" | {open} ({rest}{space} body{stop})"));
        }
        start
    }

    /// What follows thoughts.
    fn body(&mut self, must: bool) -> String {
        if self.tools.is_empty() {
            return match self.shape.content {
                Some(_) => self.wrapped("content"),
                None => self.without_marks(),
            };
        }
        if must {
            let head = self.opening();
            return format!("{head} calls");
        }
        if self.shape.content.is_some() {
            let head = match self.form.mark.clone() {
                mark if mark.is_empty() => String::new(),
                mark => self.first("mark", &mark),
            };
            return format!("{} | {head} calls", self.wrapped("content"));
        }
        self.watched()
    }

    /// The text of an answer, perhaps in tags of its own.
    fn wrapped(&self, content: &str) -> String {
        let mut all = content.to_owned();
        for wrap in &self.syntax.wraps {
            let (open, close) = (self.mark(&wrap.open), self.mark(&wrap.close));
            all.push_str(&format!(" | {open} SPACE {content} SPACE {close}"));
        }
        all
    }

    /// Free text in which the markers of calls do not come.
    fn without_marks(&mut self) -> String {
        let openings = self.syntax.opening_texts();
        let bytes = openings.filter(|text| self.syntax.control(text).is_none());
        let bytes: Vec<String> = bytes.map(literal).collect();
        if bytes.is_empty() {
            return self.free(&[]);
        }
        let marks = bytes.join(" | ");
        // A complement alone would have the bytes of control tokens, too.
        self.rule("PLAIN", &format!("~({TEXT} ({marks}) {TEXT}) & {TEXT}"));
        self.free(&[]).replace("text", "PLAIN")
    }

    /// Free text with the control tokens that are no business of the grammar.
    fn free(&self, more: &[&str]) -> String {
        let wraps = self.syntax.wraps.iter().flat_map(|tag| [tag.open.as_str(), &tag.close]);
        let ids = wraps.chain(more.iter().copied()).filter_map(|text| {
            let control = self.syntax.control(text)?;
            (!control.ends).then(|| control.id.to_string())
        });
        let ids = ids.collect::<Vec<_>>().join(",");
        if ids.is_empty() { "text".into() } else { format!("text (<[{ids}]> text)*") }
    }

    /// Free text, in which the marker begins a call.
    fn watched(&mut self) -> String {
        let mark = self.form.mark.clone();
        let others: Vec<String> =
            self.syntax.edges().filter(|text| *text != mark).map(str::to_owned).collect();
        let others: Vec<&str> = others.iter().map(String::as_str).collect();
        let free = self.free(&others);
        self.rule("free", &free);
        let behind = if self.shape.parallel { "body" } else { "SPACE" };
        if mark.is_empty() {
            let heads = self.named_heads();
            return format!("free | {heads}");
        }
        match self.syntax.control(&mark) {
            Some(_) => format!("free | free {} calls {behind}", self.mark(&mark)),
            None => {
                let head = self.until("head", &mark);
                format!("free | {head} calls {behind}")
            }
        }
    }

    /// Calls without a marker: those that name a declared function.
    fn named_heads(&mut self) -> String {
        let keys = if self.form.arguments == "parameters" {
            r#"("\"parameters\"" | "\"arguments\"")"#.to_owned()
        } else {
            literal(&format!("\"{}\"", self.form.arguments))
        };
        for (index, tool) in self.tools.clone().into_iter().enumerate() {
            let (key, name) = (
                literal(&format!("\"{}\"", self.form.name)),
                literal(&Json::from(tool.name()).to_string()),
            );
            self.rule(
                &format!("head_{index}[lazy]"),
                &format!("{SPACE} \"{{\" {SPACE} {key} {SPACE} \":\" {SPACE} {name} {SPACE} \",\" {SPACE} {keys} {SPACE} \":\" {SPACE}"),
            );
        }
        let one =
            |index: usize, _: &str| format!("head_{index} SPACE arguments_{index} SPACE \"}}\"");
        let more = match self.shape.parallel && self.syntax.several {
            true => {
                format!(" (/;?[ \\n]{{0,4}}/ {})*", self.each(|index, _| format!("object_{index}")))
            }
            false => String::new(),
        };
        if !more.is_empty() {
            self.objects();
        }
        format!("{}{more} SPACE", self.each(one))
    }
}
