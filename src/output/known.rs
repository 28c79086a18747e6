//! Markers that models are known to write, by the texts that tell of them.

use super::form::{Form, Kind};
use super::syntax::{Body, CALL_BEGIN, INNER, Messages, Opening, Syntax, Tag};

/// What encloses thoughts.
const THOUGHTS: [(&str, &str); 3] =
    [("<think>", "</think>"), ("[THINK]", "[/THINK]"), ("<|START_THINKING|>", "<|END_THINKING|>")];

/// What encloses answers behind thoughts.
const WRAPS: [(&str, &str); 2] =
    [("<response>", "</response>"), ("<|START_RESPONSE|>", "<|END_RESPONSE|>")];

/// Markers that go together. The first opening is the one that a grammar makes a model write.
struct Known {
    /// Each of these tells of them.
    signs: &'static [&'static str],
    openings: &'static [(&'static str, Body, &'static [&'static str])],
    drops: &'static [&'static str],
}

const TAG_END: &[&str] = &["</tool_call>"];
const PIPE_END: &[&str] = &["<|/tool_call|>", "</tool_call>"];
const DEEP_END: &[&str] = &["<｜tool▁calls▁end｜>"];

const KNOWN: [Known; 9] = [
    Known {
        signs: &["<tool_call>"],
        openings: &[("<tool_call>", Body::Objects, TAG_END), ("<function=", Body::Function, &[])],
        drops: &[],
    },
    Known {
        signs: &["<|tool_call|>", "functools["],
        openings: &[
            ("<|tool_call|>", Body::Objects, PIPE_END),
            ("<tool_call>", Body::Objects, PIPE_END),
            ("functools[", Body::Objects, PIPE_END),
        ],
        drops: &[],
    },
    Known { signs: &["[TOOL_CALLS]"], openings: &[("[TOOL_CALLS]", Body::Named, &[])], drops: &[] },
    Known {
        signs: &["<|python_tag|>"],
        openings: &[("<|python_tag|>", Body::Code, &[]), ("<function=", Body::Function, &[])],
        drops: &["<|eom_id|>", "<|eot_id|>"],
    },
    Known { signs: &["<function="], openings: &[("<function=", Body::Function, &[])], drops: &[] },
    Known {
        signs: &["<｜tool▁calls▁begin｜>"],
        openings: &[
            ("<｜tool▁calls▁begin｜>", Body::Fenced, DEEP_END),
            (CALL_BEGIN, Body::Fenced, DEEP_END),
        ],
        drops: &[],
    },
    Known {
        signs: &["<|START_ACTION|>", "Action: ```json", "Action:```json"],
        openings: &[
            ("<|START_ACTION|>", Body::Objects, &["<|END_ACTION|>"]),
            ("Action: ```json", Body::Objects, &["```"]),
            ("Action:```json", Body::Objects, &["```"]),
        ],
        drops: &[],
    },
    Known {
        signs: &["<|tool_call_start|>"],
        openings: &[("<|tool_call_start|>", Body::Objects, &["<|tool_call_end|>"])],
        drops: &[],
    },
    Known {
        signs: &["<|channel|>"],
        openings: &[("<|start|>", Body::Message, &[]), ("<|channel|>", Body::Message, &[])],
        drops: &["<|end|>", "<|call|>", "<|return|>"],
    },
];

/// Signs of recipients behind `>>>`.
const RECIPIENTS: [&str; 3] = [">>>all", ">>>${recipient}", ">>>' + recipient"];
/// Signs of calls in Python.
const PYTHON: [&str; 4] = ["<|tool_call_start|>", "tool_code", "[func_name", "[func("];

/// The syntax whose markers `text` has.
pub(super) fn by_markers(text: &str) -> Syntax {
    let mut syntax = Syntax::default();
    let tag = |(open, close): &(&str, &str)| Tag { open: (*open).into(), close: (*close).into() };
    let has = |tag: &&(&str, &str)| text.contains(tag.0) && text.contains(tag.1);
    syntax.thoughts = THOUGHTS.iter().filter(has).map(tag).collect();
    if syntax.thoughts.is_empty() && text.contains("</think>") {
        syntax.thoughts = vec![tag(&THOUGHTS[0])];
    }
    syntax.wraps = WRAPS.iter().filter(has).map(tag).collect();
    for known in KNOWN.iter().filter(|known| known.signs.iter().any(|sign| text.contains(sign))) {
        for (opening, body, close) in known.openings {
            syntax.open(opening, *body, close);
        }
        syntax.drops.extend(known.drops.iter().map(|drop| (*drop).to_owned()));
    }
    syntax.python = PYTHON.iter().any(|sign| text.contains(sign));
    syntax.several = text.contains("<|python_tag|>") || text.contains("<|eom_id|>");
    if text.contains("<|channel|>") {
        syntax.messages = Some(Messages::Channels);
    } else if RECIPIENTS.iter().any(|sign| text.contains(sign)) {
        syntax.messages = Some(Messages::Recipients);
        syntax.open(">>>", Body::Message, &[]);
    }
    syntax.form = usual_form(&syntax, text);
    syntax.thinks = !syntax.thoughts.is_empty() || text.contains("<|channel|>");
    syntax.calls = syntax.form.is_some();
    syntax
}

/// The form of calls that the markers of `text` stand for.
fn usual_form(syntax: &Syntax, text: &str) -> Option<Form> {
    match syntax.messages {
        Some(Messages::Channels) => return Some(Form::new(Kind::Channels, "<|channel|>", "")),
        Some(Messages::Recipients) => return Some(Form::new(Kind::Recipients, ">>>", "")),
        None => {}
    }
    let Some(opening) = syntax.openings.first() else {
        let python = Form { list: true, ..Form::new(Kind::Python, "", "") };
        return syntax.python.then_some(python);
    };
    let mut form = form(opening);
    if form.kind == Kind::Objects && text.contains("<parameter=") {
        form.kind = Kind::Parameters;
    }
    if form.kind == Kind::Objects && syntax.python && !form.mark.is_empty() {
        form.kind = Kind::Python;
    }
    if opening.body == Body::Named && text.contains("[ARGS]") {
        form.kind = Kind::Named;
    }
    Some(form)
}

/// The usual form of calls behind an opening.
pub(super) fn form(opening: &Opening) -> Form {
    let close = opening.close.first().map_or("", String::as_str);
    let objects = Form::new(Kind::Objects, &opening.text, close);
    match opening.text.as_str() {
        "<tool_call>" => objects,
        "<|START_ACTION|>" => {
            Form { name: "tool_name".into(), arguments: "parameters".into(), list: true, ..objects }
        }
        // Llama's calls have no marker: it is for programs.
        _ if opening.body == Body::Code => {
            Form { arguments: "parameters".into(), ..Form::new(Kind::Objects, "", "") }
        }
        // No end is shown for these where they stand in a list.
        "<|tool_call|>" => Form { list: true, close: String::new(), ..objects },
        _ => match opening.body {
            Body::Function => Form::new(Kind::Function, &opening.text, "</function>"),
            Body::Fenced => Form::new(Kind::Fenced, &opening.text, close),
            _ => Form { list: true, ..objects },
        },
    }
}

/// Every text that may be a token of a vocabulary.
pub(super) fn texts() -> impl Iterator<Item = &'static str> {
    let tags = THOUGHTS.into_iter().chain(WRAPS).flat_map(|(open, close)| [open, close]);
    let known = KNOWN.iter().flat_map(|known| {
        let openings = known
            .openings
            .iter()
            .flat_map(|(open, _, close)| std::iter::once(open).chain(close.iter()));
        openings.chain(known.drops)
    });
    tags.chain(known.copied()).chain(INNER)
}

impl Syntax {
    /// With one more opening; one that is known gets what is new of its ends.
    pub(super) fn open(&mut self, text: &str, body: Body, close: &[&str]) {
        let index = self.openings.iter().position(|opening| opening.text == text);
        let index = index.unwrap_or_else(|| {
            self.openings.push(Opening { text: text.to_owned(), body, close: Vec::new() });
            self.openings.len() - 1
        });
        let Some(opening) = self.openings.get_mut(index) else { return };
        for close in close {
            if opening.closings().all(|known| known != *close) {
                opening.close.push((*close).to_owned());
            }
        }
    }
}
