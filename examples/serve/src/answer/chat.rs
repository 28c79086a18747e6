//! Conversations.

use std::time::Instant;

use tramontane::{Message, Model};

use crate::app::Shared;
use crate::catalog::{LocalModel, Settings};
use crate::task::blocking;
use crate::wire::Result;

use super::able;
use super::call::Calls;
use super::fit::{fitting, is_system};
use super::form::Form;
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
    let Opened { model, settings, ready } = open(&app, &chat.asked).await?;
    let asked = chat.asked.clone();
    let (loaded, num_ctx) = (ready.lease.model().clone(), ready.lease.num_ctx());
    let num_ctx = asked.truncate.then_some(num_ctx);
    let work = move || {
        let prompter = Prompter::new(&loaded, settings.template.as_deref())?;
        answered(&loaded, &model, &settings, &prompter, chat, num_ctx)
    };
    let (prompt, form) = blocking(work).await?;
    submit::submit(&app, &asked, ready, prompt, form)
}

/// How many tokens the prompt of a conversation has, before anything is left out.
///
/// # Errors
/// As [`chat`].
pub async fn count(app: &Shared, chat: Chat) -> Result<usize> {
    let Opened { model, settings, ready } = open(app, &chat.asked).await?;
    let loaded = ready.lease.model().clone();
    let work = move || {
        let prompter = Prompter::new(&loaded, settings.template.as_deref())?;
        let prompt = fitting(&prompter, rendered(&model, &settings, &prompter, chat)?, None)?;
        Ok(prompt.tokens.len())
    };
    blocking(work).await
}

/// A model for a conversation.
struct Opened {
    model: LocalModel,
    settings: Settings,
    ready: Ready,
}

async fn open(app: &Shared, asked: &Asked) -> Result<Opened> {
    let arrived = Instant::now();
    let (model, settings) = submit::open(app, asked).await?;
    let ready = submit::ready(app, &model, &settings, asked, arrived).await?;
    submit::check_completes(&ready.lease, asked, "chat")?;
    Ok(Opened { model, settings, ready })
}

/// The prompt of what fits of the conversation, and the form of the answer to it.
fn answered(
    loaded: &Model,
    model: &LocalModel,
    settings: &Settings,
    prompter: &Prompter<'_>,
    chat: Chat,
    num_ctx: Option<usize>,
) -> Result<(Prompt, Form)> {
    let (asked, tools) = (chat.asked.clone(), chat.tools.clone());
    let chat = rendered(model, settings, prompter, chat)?;
    let calls = Calls::after(&chat.messages);
    let prompt = fitting(prompter, chat, num_ctx)?;
    let form = Form::new(loaded, &prompter.syntax(), &asked, &tools, calls, &prompt)?;
    Ok((prompt, form))
}

/// The conversation as templates take it.
fn rendered(
    model: &LocalModel,
    settings: &Settings,
    prompter: &Prompter<'_>,
    chat: Chat,
) -> Result<tramontane::Chat> {
    let Chat { asked, messages, tools } = chat;
    let thinking = able::check(model, &asked, &tools, prompter.capabilities())?;
    let chat = tramontane::Chat::new(whole(settings, messages)).with_thinking(thinking);
    Ok(match tools.shown() {
        [] => chat,
        shown => chat.with_tools(shown),
    })
}

/// A system text (the client's own, else the model's), the model's history, and then
/// what the client sent.
fn whole(settings: &Settings, mut messages: Vec<Message>) -> Vec<Message> {
    let own = messages.first().is_some_and(is_system);
    let system = if own {
        Some(messages.remove(0))
    } else {
        let text = settings.system.clone().filter(|text| !text.is_empty());
        text.map(Message::system)
    };
    system.into_iter().chain(settings.messages.iter().cloned()).chain(messages).collect()
}
