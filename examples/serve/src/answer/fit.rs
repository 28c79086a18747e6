//! Which messages of a conversation fit the context.

use tramontane::{Chat, Message};

use crate::wire::{ApiError, Result};

use super::request::Prompt;
use super::tokens::Prompter;

/// The tokens of the newest messages that fit `num_ctx` positions. All system messages stay
/// whatever happens, and the last message; if that is the result of a call, the call, the
/// results beside it and the newest question stay too. A call goes with its results.
///
/// # Errors
/// 400 for a conversation without messages, or that the template refuses.
pub(super) fn fitting(
    prompter: &Prompter<'_>,
    mut chat: Chat,
    num_ctx: Option<usize>,
) -> Result<Prompt> {
    if chat.messages.is_empty() {
        return Err(ApiError::bad_request("a conversation needs at least one message"));
    }
    let mut dropped_messages = 0;
    loop {
        let prompt = prompter.chat(&chat)?;
        let tokens = prompt.tokens.len();
        // Rendering as often as messages are dropped is quadratic: all that surely do
        // not fit go at once, by their share of the text.
        let over = num_ctx.map_or(0, |num_ctx| tokens.saturating_sub(num_ctx));
        if over == 0 || oldest(&chat.messages).is_none() {
            return Ok(Prompt { dropped_messages, ..prompt });
        }
        dropped_messages += drop_oldest(&mut chat.messages, over, tokens);
    }
}

/// Whether a message is the system's.
pub(super) fn is_system(message: &Message) -> bool {
    // The second is OpenAI's newer word.
    matches!(message.role(), "system" | "developer")
}

fn is_result(message: &Message) -> bool {
    matches!(message.role(), "tool" | "function")
}

/// The oldest turn that may go: a message, or one that calls with all results.
fn oldest(messages: &[Message]) -> Option<std::ops::Range<usize>> {
    let last = messages.iter().rposition(|message| !is_result(message)).unwrap_or(0);
    let kept = if messages.last().is_some_and(is_result) {
        messages.iter().rposition(|message| message.role() == "user")
    } else {
        None
    };
    let start = (0..last).find(|&at| {
        let message = &messages[at];
        !is_system(message) && !is_result(message) && Some(at) != kept
            // Results whose call is not there.
            || is_result(message) && (at == 0 || is_system(&messages[at - 1]))
    })?;
    let results = messages[start + 1..last].iter().take_while(|message| is_result(message));
    Some(start..start + 1 + results.count())
}

/// Drops the oldest turn, and further ones while much more than half of what must go
/// is still there. How many messages went.
fn drop_oldest(messages: &mut Vec<Message>, over: usize, tokens: usize) -> usize {
    let bytes: usize = messages.iter().map(size).sum();
    let surplus = (bytes as f64 * over as f64 / tokens.max(1) as f64 / 2.0) as usize;
    let (mut count, mut gone) = (0, 0);
    while let Some(turn) = oldest(messages) {
        let length: usize = messages[turn.clone()].iter().map(size).sum();
        if count > 0 && gone + length > surplus {
            break;
        }
        gone += length;
        count += turn.len();
        messages.drain(turn);
    }
    count
}

/// About how much text a message is in the prompt.
fn size(message: &Message) -> usize {
    let calls = message.get("tool_calls").map_or(0, |calls| calls.to_string().len());
    message.content().len() + message.thinking().map_or(0, str::len) + calls
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tramontane::ToolCall;

    fn call(id: &str) -> Message {
        Message::assistant("").with_tool_calls([ToolCall::new("f", json!({})).with_id(id)])
    }

    fn result(id: &str) -> Message {
        Message::tool("f", "5").with_tool_call_id(id)
    }

    /// Drops turn after turn; the roles that are left each time.
    fn dropped(mut messages: Vec<Message>) -> Vec<String> {
        let mut left = Vec::new();
        while oldest(&messages).is_some() {
            drop_oldest(&mut messages, 1, 1_000_000);
            let roles: Vec<_> = messages.iter().map(|m| m.role().chars().next().unwrap()).collect();
            left.push(roles.into_iter().collect());
        }
        left
    }

    #[test]
    fn a_call_goes_with_its_results() {
        let before = vec![Message::system("s"), Message::user("q"), call("1"), result("1")];
        let two = vec![call("2"), result("2"), result("2")];
        let after = vec![Message::assistant("a"), Message::user("q")];
        let all = [before.clone(), two.clone(), after].concat();
        assert_eq!(dropped(all), ["satattau", "sattau", "sau", "su"]);
        // The loop is running: the question and the newest results stay.
        assert_eq!(dropped([before, two].concat()), ["suatt"]);
    }

    #[test]
    fn results_without_a_call_go_too() {
        let all = vec![result("1"), result("2"), Message::user("q"), Message::user("r")];
        assert_eq!(dropped(all), ["uu", "u"]);
        assert_eq!(dropped(vec![Message::system("s"), result("1")]), Vec::<String>::new());
        assert_eq!(dropped(vec![result("1")]), Vec::<String>::new());
    }
}
