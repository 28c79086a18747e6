//! The syntax of a template, found out by having it render small conversations.

use serde_json::json;

use super::form::{Control, Form, Kind};
use super::known::{self, by_markers};
use super::syntax::{Body, Messages, Opening, Syntax};
use crate::template::{Chat, Ending, Message, Renderer, Tool, ToolCall};
use crate::tokenizer::Tokenizer;

/// Words that no template has of its own.
const NAME: &str = "zebra_count";
const KEY: &str = "zebra_field";
const VALUE: &str = "zebra_stripe";
const ASKED: &str = "zebra_asked";
const SAID: &str = "zebra_said";

/// What a template shows of the probes.
struct Shown {
    /// What stands between the answer's beginning and the name of the function.
    before: String,
    /// What follows the name: arguments, and what ends the answer.
    behind: String,
}

/// The syntax of the template that `render` is the engine of.
pub(super) fn probe(render: &Renderer<'_>, source: &str, tokenizer: &Tokenizer) -> Syntax {
    let vocabulary: String = known::texts().filter(|text| tokenizer.id(text).is_some()).collect();
    let mut syntax = by_template(render, source, &vocabulary);
    let control = |text: &str| {
        let id = tokenizer.id(text).filter(|id| tokenizer.is_control(*id))?;
        Some(Control { text: text.to_owned(), id, ends: tokenizer.is_end_of_generation(id) })
    };
    let mut controls: Vec<Control> = syntax.marks().filter_map(control).collect();
    controls.sort_by_key(|control| control.id);
    controls.dedup();
    syntax.controls = controls;
    syntax
}

/// The same, with the markers that the vocabulary has.
pub(super) fn by_template(render: &Renderer<'_>, source: &str, vocabulary: &str) -> Syntax {
    let rendered = rendered_call(render).unwrap_or_default();
    let mut syntax = by_markers(&format!("{source}{vocabulary}{rendered}"));
    syntax.thinks = by_markers(source).thinks;
    let by_source = by_markers(&format!("{source}{rendered}")).form;
    // A template that shows functions but no calls leaves their form to the vocabulary.
    let tools = shows_tools(render);
    match shown(render, &rendered) {
        Some(shown) => read(&mut syntax, &shown),
        None => syntax.form = by_source.or(syntax.form.filter(|_| tools)),
    }
    syntax.calls = tools && syntax.form.is_some();
    syntax
}

fn tools() -> Vec<Tool> {
    let parameters = json!({
        "type": "object", "properties": {KEY: {"type": "string"}}, "required": [KEY],
    });
    vec![Tool::function(NAME, "Counts", parameters)]
}

fn rendering(render: &Renderer<'_>, messages: Vec<Message>, ending: Ending) -> Option<String> {
    let chat = Chat::new(messages).with_tools(tools()).with_ending(ending);
    // Another name of the tools, in templates that ask for it.
    let named: Vec<_> = tools().iter().map(|tool| tool.as_json().clone()).collect();
    let plain = render(&chat).ok().filter(|text| text.contains(NAME));
    plain.or_else(|| render(&chat.with_variable("xml_tools", named)).ok())
}

fn shows_tools(render: &Renderer<'_>) -> bool {
    let text = rendering(render, vec![Message::user(ASKED)], Ending::GenerationPrompt);
    text.is_some_and(|text| text.contains(NAME))
}

/// A conversation that ends with a call: the object of arguments as it is or as text, as
/// templates want it.
fn rendered_call(render: &Renderer<'_>) -> Option<String> {
    let object = json!({KEY: VALUE});
    let text = json!(object.to_string());
    [object, text].into_iter().find_map(|arguments| {
        let call = ToolCall::new(NAME, arguments).with_id("abcdefghi");
        let asks = Message::assistant("").with_tool_calls([call]);
        let answer = Message::tool(NAME, "4").with_tool_call_id("abcdefghi");
        let asked = [Message::user(ASKED), asks, answer];
        let shown = |length: usize| {
            rendering(render, asked[..length].to_vec(), Ending::Closed).filter(|text| {
                // Text within text is a template that wants the object.
                text.contains(VALUE) && !text.contains(&format!("\\\"{VALUE}"))
            })
        };
        shown(2).or_else(|| shown(3))
    })
}

/// The parts of the call in the rendering.
fn shown(render: &Renderer<'_>, call: &str) -> Option<Shown> {
    let value = call.rfind(VALUE)?;
    let name = call.get(..value)?.rfind(NAME)?;
    let prompt = rendering(render, vec![Message::user(ASKED)], Ending::GenerationPrompt)?;
    let said = vec![Message::user(ASKED), Message::assistant(SAID)];
    let end = rendering(render, said, Ending::Closed)
        .and_then(|text| Some(text.split_once(SAID)?.1.trim().to_owned()))
        .unwrap_or_default();
    let same = prompt.char_indices().zip(call.char_indices()).find(|((_, a), (_, b))| a != b);
    let start = same.map_or(prompt.len(), |((at, _), _)| at).min(name);
    // What both have in common may end within a marker.
    let shared = call.get(..start)?;
    let inside = shared.rfind(['<', '[']).filter(|at| !shared[*at..].contains(['>', ']', '\n']));
    let start = inside.unwrap_or(start);
    let behind = call.get(name + NAME.len()..)?;
    // The answer's end is no part of the call.
    let behind = match behind.find(VALUE) {
        Some(at) if !end.is_empty() => {
            let stop = behind.get(at..)?.find(&end).map_or(behind.len(), |stop| at + stop);
            behind.get(..stop)?
        }
        _ => behind,
    };
    Some(Shown { before: call.get(start..name)?.to_owned(), behind: behind.to_owned() })
}

/// The form of the call that is shown.
fn read(syntax: &mut Syntax, shown: &Shown) {
    if syntax.messages == Some(Messages::Channels) {
        return;
    }
    let (before, behind) = (shown.before.as_str(), shown.behind.as_str());
    if behind.trim_start().starts_with('(') {
        syntax.python = true;
        let close = syntax.openings.iter().find(|opening| before.contains(&opening.text)).cloned();
        let close =
            close.unwrap_or(Opening { text: String::new(), body: Body::Objects, close: vec![] });
        syntax.form = Some(Form {
            list: true,
            ..Form::new(Kind::Python, &close.text, close.close.first().map_or("", String::as_str))
        });
        return;
    }
    let marked = syntax.openings.iter().filter(|opening| before.contains(&opening.text));
    let marked = marked.min_by_key(|opening| before.find(&opening.text)).cloned();
    let keys = keys(before, behind);
    if let Some(opening) = marked {
        let mut form = known::form(&opening);
        form.kind = match form.kind {
            Kind::Objects if before.contains("<function=") => Kind::Parameters,
            Kind::Function if behind.contains("<parameter=") => Kind::Parameters,
            Kind::Objects if opening.body == Body::Named && keys.is_none() => Kind::Named,
            kind => kind,
        };
        let head = before.find(&opening.text).and_then(|at| before.get(at + opening.text.len()..));
        form.list = head.is_some_and(|head| head.trim_start().starts_with('['));
        if let Some((name, arguments)) = keys {
            (form.name, form.arguments) = (name, arguments);
        }
        if form.kind != Kind::Function {
            let close = opening.closings().find(|close| behind.contains(close));
            form.close = close.unwrap_or_default().to_owned();
        }
        syntax.form = Some(form);
    } else if syntax.messages == Some(Messages::Recipients) {
        syntax.form = Some(Form::new(Kind::Recipients, ">>>", ""));
    } else if let Some((name, arguments)) = keys {
        // One call in the template is no reason against several in the answer.
        syntax.several = true;
        syntax.form = Some(unknown(syntax, before, behind, name, arguments));
    }
}

/// The keys of name and arguments in a call object.
fn keys(before: &str, behind: &str) -> Option<(String, String)> {
    let key = |text: &str| {
        let text = text.trim_end().strip_suffix(':')?.trim_end().strip_suffix('"')?;
        text.rsplit_once('"').map(|(_, key)| key.to_owned())
    };
    let name = key(before.strip_suffix('"')?)?;
    let inside = behind.split_once(KEY)?.0.trim_end().strip_suffix('"')?;
    let arguments = key(inside.trim_end().strip_suffix('{')?)?;
    Some((name, arguments))
}

/// Call objects between markers that nobody told of: what stands around them.
fn unknown(
    syntax: &mut Syntax,
    before: &str,
    behind: &str,
    name: String,
    arguments: String,
) -> Form {
    let object = before.find('{').unwrap_or(before.len());
    let (mark, _) = before.split_at(object);
    let mark = mark.trim();
    let list = mark.ends_with('[');
    let mark = mark.trim_end_matches('[').trim_end().to_owned();
    let rest = behind.rsplit_once('}').map_or("", |(_, rest)| rest.trim());
    let close = if list { rest.trim_start_matches(']').trim() } else { rest }.to_owned();
    if !mark.is_empty() {
        let close: Vec<&str> =
            Some(close.as_str()).filter(|close| !close.is_empty()).into_iter().collect();
        syntax.open(&mark, Body::Objects, &close);
    }
    Form {
        kind: Kind::Objects,
        close: if mark.is_empty() { String::new() } else { close },
        mark,
        name,
        arguments,
        list,
    }
}
