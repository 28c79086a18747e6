//! Messages with a header: channels and recipients of harmony, recipients behind `>>>`.

use serde_json::json;

use super::context::{Context, End};
use super::markers::{Match, near, starts};
use super::object::{Item, of_object};
use super::syntax::Messages;
use crate::template::ToolCall;

/// Longer headers are none.
const HEADER: usize = 512;
const START: &str = "<|start|>";
const CHANNEL: &str = "<|channel|>";
const MESSAGE: &str = "<|message|>";
const CONSTRAIN: &str = "<|constrain|>";
/// What ends a message. The last two begin the next one.
const ENDS: [&str; 5] = ["<|end|>", "<|call|>", "<|return|>", START, CHANNEL];
const RECIPIENT: &str = ">>>";

/// What a text is the header of.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Message {
    /// More text will tell.
    Wait,
    /// Of nothing. So far it was read to find that out.
    None(usize),
    /// Of thoughts, behind so much.
    Thoughts(usize),
    /// Of the answer's text, behind so much.
    Text(usize),
    /// Of a call, or what looks like one; the whole message is so long.
    Call { len: usize, call: Option<ToolCall> },
}

/// Reads the header that `text` begins with. `opened`: its opening stands in the prompt.
pub(super) fn message(context: &Context, text: &str, opened: bool, end: End) -> Message {
    match context.syntax.messages {
        Some(Messages::Channels) => channels(context, text, opened, end),
        Some(Messages::Recipients) => recipients(context, text, opened, end),
        None => Message::None(0),
    }
}

/// `<|start|>assistant to=R<|channel|>C to=R <|constrain|>json<|message|>`; all but the last
/// mark may be missing.
fn channels(context: &Context, text: &str, opened: bool, end: End) -> Message {
    let short = near(text, HEADER);
    let Some((header, _)) = short.split_once(MESSAGE) else {
        return match end {
            _ if short.len() < text.len() || !opened && !text.starts_with("<|") => {
                Message::None(short.len())
            }
            None => Message::Wait,
            // Nothing was said yet.
            Some(_) if parsed(header_words(text)).is_some_and(|(_, to)| to.is_none()) => {
                Message::Text(text.len())
            }
            Some(_) => Message::None(text.len()),
        };
    };
    let body = header.len() + MESSAGE.len();
    match parsed(header_words(header)) {
        None => Message::None(header.len()),
        Some(("analysis", None)) => Message::Thoughts(body),
        Some((_, None)) => Message::Text(body),
        Some((_, Some(to))) => {
            let name = to.strip_prefix("functions.").unwrap_or(to);
            channel_call(context, name, text, body, end)
        }
    }
}

/// The words of a header, its marks among them.
fn header_words(header: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for part in header.split_inclusive("|>") {
        let (text, mark) = part.find("<|").map_or((part, ""), |at| part.split_at(at));
        words.extend(text.split_whitespace());
        words.extend((!mark.is_empty()).then_some(mark));
    }
    words
}

/// Channel and recipient of a header; `None` if it is not one of the assistant.
fn parsed(words: Vec<&str>) -> Option<(&str, Option<&str>)> {
    let (mut channel, mut to) = ("", None);
    let mut words = words.into_iter().peekable();
    while let Some(word) = words.next() {
        match word {
            START => {
                words.next_if_eq(&"assistant");
            }
            CHANNEL => channel = words.next().unwrap_or_default(),
            CONSTRAIN | "json" | "code" | "text" => {}
            _ => match word.strip_prefix("to=") {
                Some(recipient) if to.is_none() && !recipient.is_empty() => to = Some(recipient),
                _ => return None,
            },
        }
    }
    ["", "analysis", "commentary", "final"].contains(&channel).then_some((channel, to))
}

/// A call whose arguments begin at `body`.
fn channel_call(context: &Context, name: &str, text: &str, body: usize, end: End) -> Message {
    let rest = text[body..].trim_start();
    let at = text.len() - rest.len();
    let ended = |len: usize, call| {
        let rest = text[len..].trim_start_matches(|c: char| c.is_whitespace() || "}]".contains(c));
        let at = text.len() - rest.len();
        match starts(rest, ENDS, end.is_some()) {
            Match::Full(index, length) => {
                Some(Message::Call { len: at + if index < 3 { length } else { 0 }, call })
            }
            Match::Partial => Some(Message::Wait),
            Match::No if rest.is_empty() => Some(Message::Call { len: text.len(), call }),
            Match::No => None,
        }
    };
    let nothing = match starts(rest, ENDS, end.is_some()) {
        Match::Full(..) => true,
        Match::Partial => return Message::Wait,
        Match::No => rest.is_empty() && end == Some(false),
    };
    let item = match nothing {
        true => Item::Found { len: 0, call: context.call(name, json!({})) },
        false => of_object(context, name, rest, end),
    };
    let whole = match item {
        Item::Wait => return Message::Wait,
        Item::Found { len, call } => ended(at + len, call),
        Item::Fail(_) => None,
    };
    whole.unwrap_or_else(|| raw(text, body, end))
}

/// A message that stays text, up to its end.
fn raw(text: &str, body: usize, end: End) -> Message {
    let found = |mark: &str| text[body..].find(mark).map(|at| (at, mark.len()));
    let first = ENDS[..3].iter().filter_map(|mark| found(mark)).min();
    match (first, end) {
        (Some((at, length)), _) => Message::Call { len: body + at + length, call: None },
        (None, None) => Message::Wait,
        (None, Some(_)) => Message::Call { len: text.len(), call: None },
    }
}

/// `>>>all` or `>>>f`, and a line break.
fn recipients(context: &Context, text: &str, opened: bool, end: End) -> Message {
    let head = match (starts(text, [RECIPIENT], end.is_some()), opened) {
        (Match::Full(_, length), _) => length,
        (Match::Partial, _) if !text.is_empty() => return Message::Wait,
        (_, true) => 0,
        _ => return Message::None(0),
    };
    let short = near(&text[head..], HEADER);
    let Some((name, _)) = short.split_once('\n') else {
        let name = |known: &str| known.starts_with(short.trim());
        let known = head + short.len() == text.len()
            && (name("all") || context.tools.iter().any(|tool| name(tool.name())));
        return match end {
            None if known => Message::Wait,
            _ => Message::None(head + short.len()),
        };
    };
    let body = head + name.len() + 1;
    match name.trim() {
        "all" => Message::Text(body),
        name if context.declares(name) => recipient_call(context, name, text, body, end),
        _ => Message::None(body),
    }
}

fn recipient_call(context: &Context, name: &str, text: &str, body: usize, end: End) -> Message {
    let rest = text[body..].trim_start();
    let at = text.len() - rest.len();
    if rest.is_empty() && end.is_none() {
        return Message::Wait;
    }
    if rest.starts_with('{') {
        match of_object(context, name, rest, end) {
            Item::Wait => return Message::Wait,
            Item::Found { len, call } => return Message::Call { len: at + len, call },
            Item::Fail(_) => {}
        }
    }
    let stop = rest.find(RECIPIENT);
    let argument = rest[..stop.unwrap_or(rest.len())].trim_end();
    let call = match (stop, end) {
        (None, None) => return Message::Wait,
        (None, Some(true)) => None,
        _ if argument.is_empty() => context.call(name, json!({})),
        _ if argument.starts_with('{') => None,
        _ if context.takes_code(name) => context.call(name, json!({"code": argument})),
        _ => None,
    };
    Message::Call { len: stop.map_or(text.len(), |stop| at + stop), call }
}
