//! Conversations folded to what a template takes, so that no word is lost.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::calls;
use super::chat::{self, Chat, Ending};
use super::folds::{Fold, Folded};
use super::history::{Form, History, Renderer};
use super::marks::strip_marks;
use super::message::{Message, ToolCall};
use super::shape::{Shape, call_probe, probe};
use super::tidy::tidied;
use crate::error::{Error, Result};
use crate::tokenizer::Prompt;

impl Shape {
    /// Has `engine` render a conversation, folded to this shape, and looks whether all words
    /// are there. What `engine` returns may have the marks of
    /// [`Model::mark`](crate::Model::mark).
    ///
    /// # Errors
    /// Those of `engine`, and [`Error::Template`] if words are missing.
    pub fn render(&self, chat: &Chat, engine: &Renderer<'_>) -> Result<Folded> {
        chat.check_depth()?;
        let chat = tidied(chat);
        let mut problem = None;
        // What the template shows as it is stays as it is.
        for shape in [self.open(), self.clone()].into_iter().chain(self.stricter()) {
            match attempt(&shape, &chat, engine) {
                Err(Error::Template(said)) => _ = problem.get_or_insert(said),
                other => return other,
            }
        }
        Err(Error::Template(problem.unwrap_or_default()))
    }
}

fn attempt(shape: &Shape, chat: &Chat, engine: &Renderer<'_>) -> Result<Folded> {
    // Words that stand nowhere else: one of the client's may be a part of the template.
    let (marked, _) = folded(shape, &chat.with_probes());
    check_probes(chat, &chat::rendered(&marked, engine)?)?;
    let (folded, folds) = folded(shape, chat);
    let text = chat::rendered(&folded, engine)?;
    check_words(chat, &strip_marks(&text))?;
    let continues = folded.continues_last();
    Ok(Folded { prompt: Prompt::from_marked(text), continues, folds })
}

/// A message on its way.
struct Turn {
    message: Message,
    /// Whether it belongs into a neighbouring message of the user.
    moved: bool,
}

fn folded(shape: &Shape, chat: &Chat) -> (Chat, Vec<Fold>) {
    let mut folds = BTreeSet::new();
    let messages = calls::formed(shape, &chat.messages, &mut folds);
    let mut turns: Vec<Turn> = messages.iter().map(|message| said(shape, message)).collect();
    let silent = turns.last().is_some_and(|last| says_nothing(&last.message));
    if chat.ending == Ending::Auto && silent && turns.len() > 1 {
        // Nothing to continue: the answer begins anew.
        turns.pop();
    }
    if !shape.takes(History::Silence) {
        turns.retain(|turn| !says_nothing(&turn.message));
    }
    roles(shape, &mut turns, &mut folds);
    let mut turns = joined(shape, turns, &mut folds);
    open(shape, &mut turns, &mut folds);
    let formed = turns.into_iter().map(|turn| formed(shape, turn.message, &mut folds));
    let mut folded = Chat { messages: formed.collect(), ..shape.calls.with_tools(chat.clone()) };
    if chat.ending == Ending::Auto && chat.messages.last().is_some_and(Message::calls) {
        // Calls that became text are over all the same.
        folded.ending = Ending::GenerationPrompt;
    }
    (folded, folds.into_iter().collect())
}

/// Content that is missing is an empty text, but where a call of a tool stands for it and
/// the template knows that.
fn said(shape: &Shape, message: &Message) -> Turn {
    let missing = message.get("content").is_none_or(Json::is_null);
    let may_be = message.calls() && shape.takes(History::NullContent);
    let message = match missing && !may_be && message.as_json().is_object() {
        true => message.clone().with("content", ""),
        false => message.clone(),
    };
    Turn { message, moved: false }
}

fn says_nothing(message: &Message) -> bool {
    message.can_be_continued()
        && message.thinking().is_none_or(str::is_empty)
        && message.texts().iter().all(|text| text.trim().is_empty())
}

/// Gives messages roles that the template shows.
fn roles(shape: &Shape, turns: &mut Vec<Turn>, folds: &mut BTreeSet<Fold>) {
    for turn in turns.iter_mut().filter(|turn| turn.message.role() == "developer") {
        turn.message = turn.message.clone().with("role", "system");
        folds.insert(Fold::Developer);
    }
    let first = |turns: &[Turn]| turns.iter().take_while(|t| t.message.role() == "system").count();
    let leading = first(turns);
    if leading > 1 && shape.takes(History::System) && !shape.takes(History::Systems) {
        let systems = turns.drain(..leading).reduce(join);
        turns.splice(..0, systems);
        folds.insert(Fold::Systems);
    }
    let leading = first(turns);
    let only = leading == turns.len();
    for (at, turn) in turns.iter_mut().enumerate() {
        let (history, fold) = match turn.message.role() {
            "system" if at >= leading => (History::LateSystem, Fold::System),
            "system" if only => (History::OnlySystem, Fold::System),
            "system" => (History::System, Fold::System),
            "tool" => (History::Tool, Fold::Tool),
            _ => continue,
        };
        if !shape.takes(history) {
            turn.message = turn.message.clone().with("role", "user");
            turn.moved = fold == Fold::System;
            folds.insert(fold);
        }
    }
}

/// Joins messages of one role where one of them belongs into the other, or the template
/// does not take two of them in a row.
fn joined(shape: &Shape, turns: Vec<Turn>, folds: &mut BTreeSet<Fold>) -> Vec<Turn> {
    // What was moved goes before the user's next words, or else behind the last ones.
    let mut forward: Vec<Turn> = Vec::with_capacity(turns.len());
    for turn in turns {
        let into_next = forward.last().is_some_and(|last| last.moved && can_join(last, &turn));
        match forward.pop_if(|_| into_next) {
            Some(last) => {
                let moved = turn.moved;
                forward.push(Turn { moved, ..join(last, turn) });
            }
            None => forward.push(turn),
        }
    }
    let mut all: Vec<Turn> = Vec::with_capacity(forward.len());
    for turn in forward {
        let twice = match turn.message.role() {
            "user" => shape.takes(History::UserTwice),
            "assistant" => shape.takes(History::AssistantTwice),
            _ => true,
        };
        let neighbours = all.last().is_some_and(|last| can_join(last, &turn));
        match all.pop_if(|_| neighbours && (turn.moved || !twice)) {
            Some(last) => {
                if !turn.moved {
                    folds.insert(Fold::Turns);
                }
                all.push(join(last, turn));
            }
            None => all.push(turn),
        }
    }
    all
}

fn can_join(one: &Turn, other: &Turn) -> bool {
    let plain = |turn: &Turn| turn.message.is_text() && !turn.message.calls();
    one.message.role() == other.message.role() && plain(one) && plain(other)
}

fn join(one: Turn, other: Turn) -> Turn {
    let texts = [text(&one.message), text(&other.message)];
    let texts: Vec<_> = texts.iter().filter(|text| !text.is_empty()).map(|text| &**text).collect();
    let content = texts.join("\n\n");
    Turn { message: one.message.with("content", content), moved: one.moved }
}

/// A history that begins with the assistant gets a user's message before it.
fn open(shape: &Shape, turns: &mut Vec<Turn>, folds: &mut BTreeSet<Fold>) {
    let first = turns.iter().position(|turn| turn.message.role() != "system");
    let Some(first) = first.filter(|&at| turns[at].message.role() == "assistant") else { return };
    if !shape.takes(History::AssistantFirst) {
        turns.insert(first, Turn { message: Message::user(""), moved: false });
        folds.insert(Fold::Opening);
    }
}

/// The content in the form that the template reads.
fn formed(shape: &Shape, message: Message, folds: &mut BTreeSet<Fold>) -> Message {
    match (shape.form(message.role()), message.get("content")) {
        (Form::Parts, Some(Json::String(_))) => {
            folds.insert(Fold::Parts);
            message.in_form(Form::Parts)
        }
        (Form::Text, Some(Json::Array(_))) if message.is_text() => {
            folds.insert(Fold::Texts);
            let content = text(&message).into_owned();
            message.with("content", content)
        }
        _ => message,
    }
}

/// The text of a content; parts are lines.
fn text(message: &Message) -> Cow<'_, str> {
    match message.texts()[..] {
        [only] => Cow::Borrowed(only),
        ref parts => Cow::Owned(parts.join("\n")),
    }
}

/// Whether a rendering shows the probes in the place of the texts of `chat`.
fn check_probes(chat: &Chat, text: &str) -> Result<()> {
    let mut from = 0;
    for (at, message) in chat.messages.iter().enumerate() {
        for (part, said) in message.texts().into_iter().enumerate() {
            if said.trim().is_empty() {
                continue;
            }
            let found = find(text, &probe(at, part), from);
            from = found.ok_or_else(|| lost(at, message, "the text"))?;
        }
        for number in 0..message.tool_calls().len() {
            let found = find(text, &call_probe(at, number), from);
            from = found.ok_or_else(|| lost(at, message, "the tool calls"))?;
        }
    }
    Ok(())
}

/// Where a probe ends. Most come in order: many are not each looked for from the beginning.
fn find(text: &str, probe: &str, from: usize) -> Option<usize> {
    let found = text[from..].find(probe).map(|found| from + found).or_else(|| text.find(probe))?;
    Some(found + probe.len())
}

/// Looks for the words of all messages, in their order: what a template leaves out may
/// depend on what they are.
fn check_words(chat: &Chat, text: &str) -> Result<()> {
    let mut from = 0;
    for (at, message) in chat.messages.iter().enumerate() {
        for said in message.texts() {
            // Templates leave out what was thought in earlier turns.
            let said = match said.rsplit_once("</think>") {
                Some((_, answer)) if message.role() == "assistant" => answer,
                _ => said,
            };
            match end_of(said.trim(), text, from) {
                Some(end) => from = end,
                // A system text may stand elsewhere.
                None if end_of(said.trim(), text, 0).is_some() => {}
                None => return Err(lost(at, message, "the text")),
            }
        }
        let mut calls = message.tool_calls().into_iter();
        if calls.any(|call| said_of(&call).iter().any(|said| end_of(said, text, 0).is_none())) {
            return Err(lost(at, message, "the tool calls"));
        }
    }
    Ok(())
}

/// The name of a call's function, and arguments that are no object: templates differ in what
/// they make of those.
fn said_of(call: &ToolCall) -> Vec<&str> {
    let arguments = call.as_json().get("function").and_then(|function| function.get("arguments"));
    let said = match arguments {
        Some(Json::String(text)) => vec![text.as_str()],
        Some(Json::Array(items)) => items.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    };
    [call.name()].into_iter().chain(said).collect()
}

fn lost(at: usize, message: &Message, what: &str) -> Error {
    let (number, role) = (at + 1, message.role());
    Error::Template(format!(
        "it does not show {what} of message {number} (role {role:?}); leave the message out, or \
         give it another role"
    ))
}

/// Where `said` ends in `text` behind `from`: as it is, or word by word.
fn end_of(said: &str, text: &str, from: usize) -> Option<usize> {
    let after = |word: &str, from: usize| text[from..].find(word).map(|at| from + at + word.len());
    if let Some(end) = after(said, from) {
        return Some(end);
    }
    said.split_whitespace().try_fold(from, |from, word| {
        // Answers of tools are written as JSON; Go's has no `<`, `>` and `&`.
        let json = || Some(Json::from(word).to_string().get(1..)?.strip_suffix('"')?.to_owned());
        let go = |json: String| {
            json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
        };
        after(word, from).or_else(|| after(&json()?, from)).or_else(|| after(&go(json()?), from))
    })
}
