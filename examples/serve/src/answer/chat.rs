//! Conversations.

use std::time::Instant;

use crate::app::Shared;
use crate::catalog::Settings;
use crate::prompt::Message;
use crate::task::blocking;
use crate::wire::{ApiError, Result, Think};

use super::request::{Asked, Chat, Prompt};
use super::stream::Answer;
use super::submit::{self, Ready};
use super::tokens::Prompter;

/// Goes on with a conversation.
///
/// # Errors
/// What the client did wrong (400, 404), what is not possible now (503), or the model's
/// fault (500).
pub async fn chat(app: Shared, chat: Chat) -> Result<Answer> {
    let (ready, asked, prompt) = prepare(&app, chat, true).await?;
    submit::submit(&app, &asked, ready, prompt)
}

/// How many tokens the prompt of a conversation has, before anything is left out.
///
/// # Errors
/// As [`chat`].
pub async fn count(app: &Shared, chat: Chat) -> Result<usize> {
    let (_, _, prompt) = prepare(app, chat, false).await?;
    Ok(prompt.tokens.len())
}

/// The model, ready, and the prompt; if `cut`, of what fits of the conversation.
async fn prepare(app: &Shared, chat: Chat, cut: bool) -> Result<(Ready, Asked, Prompt)> {
    let arrived = Instant::now();
    let Chat { asked, messages } = chat;
    let (model, settings) = submit::open(app, &asked).await?;
    let ready = submit::ready(app, &model, &settings, &asked, arrived).await?;
    submit::check_completes(&ready.lease, &asked, "chat")?;
    let (loaded, num_ctx) = (ready.lease.model().clone(), ready.lease.num_ctx());
    let (cut, thinks) = (cut && asked.truncate, asked.think != Some(Think::No));
    let prompt = blocking(move || {
        let messages = whole(&settings, messages);
        let prompter = Prompter::new(&loaded, settings.template.as_deref(), thinks)?;
        fitting(&prompter, messages, cut.then_some(num_ctx))
    })
    .await?;
    Ok((ready, asked, prompt))
}

/// A system text (the client's own, else the model's), the model's history, and then
/// what the client sent.
fn whole(settings: &Settings, mut messages: Vec<Message>) -> Vec<Message> {
    let own = messages.first().is_some_and(is_system);
    let system = if own {
        Some(messages.remove(0))
    } else {
        let text = settings.system.clone().filter(|text| !text.is_empty());
        text.map(|content| Message { role: "system".into(), content })
    };
    system.into_iter().chain(settings.messages.iter().cloned()).chain(messages).collect()
}

/// The tokens of the newest messages that fit `num_ctx` positions: all system messages
/// and the last message stay whatever happens.
fn fitting(
    prompter: &Prompter<'_>,
    mut messages: Vec<Message>,
    num_ctx: Option<usize>,
) -> Result<Prompt> {
    if messages.is_empty() {
        return Err(ApiError::bad_request("a conversation needs at least one message"));
    }
    let mut dropped_messages = 0;
    loop {
        let prompt = prompter.chat(&messages)?;
        let tokens = prompt.tokens.len();
        // Rendering as often as messages are dropped is quadratic: all that surely do
        // not fit go at once, by their share of the text.
        let over = num_ctx.map_or(0, |num_ctx| tokens.saturating_sub(num_ctx));
        let droppable =
            |m: &[Message]| m.split_last().is_some_and(|(_, old)| old.iter().any(old_turn));
        if over == 0 || !droppable(&messages) {
            return Ok(Prompt { dropped_messages, ..prompt });
        }
        dropped_messages += drop_oldest(&mut messages, over, tokens);
    }
}

fn old_turn(message: &Message) -> bool {
    !is_system(message)
}

fn is_system(message: &Message) -> bool {
    // The second is OpenAI's newer word.
    matches!(message.role.as_str(), "system" | "developer")
}

/// Drops the oldest message, and further ones while much more than half of what must go
/// is still there. How many went.
fn drop_oldest(messages: &mut Vec<Message>, over: usize, tokens: usize) -> usize {
    let bytes: usize = messages.iter().map(|message| message.content.len()).sum();
    let surplus = (bytes as f64 * over as f64 / tokens.max(1) as f64 / 2.0) as usize;
    let (mut count, mut gone) = (0, 0);
    while let Some(at) = messages.iter().position(old_turn).filter(|at| at + 1 < messages.len()) {
        let length = messages[at].content.len();
        if count > 0 && gone + length > surplus {
            break;
        }
        gone += length;
        count += 1;
        messages.remove(at);
    }
    count
}
