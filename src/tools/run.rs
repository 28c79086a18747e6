//! The loop of answers and calls: until the model answers without a call.

use serde_json::Value as Json;

use crate::engine::Engine;
use crate::error::{Bounded, Error, Result};
use crate::output::{OutputEvent, ToolChoice};
use crate::session::{Canceller, FinishReason, GenerateOptions, Session, Summary};
use crate::template::{Chat, Message, ToolCall};

use super::tool_set::ToolSet;
use super::turn::{Speaker, Turn, Wanted, turn};

/// How a conversation with functions goes.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ToolOptions {
    /// What to generate and when to end, for each answer. Its
    /// [constraint](GenerateOptions::constraint) holds for texts; calls are an alternative.
    pub generate: GenerateOptions,
    /// Whether the first answer may, or must, call functions. The later ones may, or must not
    /// if this is [`ToolChoice::None`]. Default: [`ToolChoice::Auto`].
    pub first: ToolChoice,
    /// Whether one answer may have several calls. Default: true.
    pub parallel: bool,
    /// Answers at most; when the last still calls functions, that is an error. Default: 8.
    pub max_rounds: usize,
}

impl ToolOptions {
    setters! {
        with_generate(generate: GenerateOptions);
        with_first(first: ToolChoice);
        with_parallel(parallel: bool);
        with_max_rounds(max_rounds: usize);
    }
}

impl Default for ToolOptions {
    fn default() -> Self {
        ToolOptions {
            generate: GenerateOptions::default(),
            first: ToolChoice::Auto,
            parallel: true,
            max_rounds: 8,
        }
    }
}

/// What happens while a conversation with functions goes on.
#[derive(Debug)]
#[non_exhaustive]
pub enum ToolEvent<'e> {
    /// An answer begins. The canceller ends it, and the loop with it: calls of a cancelled
    /// answer are not run.
    Round(Canceller),
    /// More of the model's thoughts.
    Thinking(&'e str),
    /// More of the answer's text.
    Text(&'e str),
    /// A complete call. It is run when the answer is complete.
    Call(&'e ToolCall),
    /// What the function of a call returned.
    Result(&'e ToolCall, &'e Json),
}

/// How a conversation with functions ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ToolRun {
    /// The text of the last answer.
    pub text: String,
    /// The thoughts before it.
    pub thinking: String,
    /// Answers generated.
    pub rounds: usize,
    /// Calls that were run.
    pub calls: usize,
    /// Of the last answer: why it ended, counts and times.
    pub summary: Summary,
}

impl Session {
    /// Has `chat` answered by a model that may call `tools`: runs the calls of an answer,
    /// gives their results to the model, and so on until an answer has no call.
    ///
    /// The chat gets `tools` as its [`tools`](Chat::tools), and every answer and result as
    /// messages. Names and arguments of calls are constrained to the schemas of the functions;
    /// an answer that is cut keeps the calls that are complete.
    ///
    /// ```
    /// # #[cfg(feature = "chat-template")] {
    /// use tramontane::{Chat, GenerateOptions, Message, Model, ToolChoice, ToolEvent, ToolOptions, ToolSet};
    ///
    /// #[derive(serde::Deserialize, schemars::JsonSchema)]
    /// struct Add {
    ///     a: u16,
    ///     b: u16,
    /// }
    ///
    /// let tools = ToolSet::new().with("add", "Adds two numbers", |args: Add| {
    ///     Ok::<_, String>(u32::from(args.a) + u32::from(args.b))
    /// });
    /// let model = Model::open("models/storyteller-q4_k_m.gguf")?;
    /// let mut session = model.session(&Default::default())?;
    /// let mut chat = Chat::new([Message::user("What is 2 plus 3?")]);
    /// // The built-in model cannot decide to call a function, so its first answer must.
    /// let options = ToolOptions::default()
    ///     .with_first(ToolChoice::Required)
    ///     .with_parallel(false)
    ///     .with_generate(GenerateOptions::greedy().with_num_predict(200));
    /// let run = session.run_tools(&mut chat, &tools, &options, |event| match event {
    ///     ToolEvent::Call(call) => println!("{} {}", call.name(), call.arguments()),
    ///     ToolEvent::Result(_, result) => println!("= {result}"),
    ///     _ => {}
    /// })?;
    /// assert_eq!(run.calls, 1);
    /// let roles: Vec<&str> = chat.messages.iter().map(Message::role).collect();
    /// assert_eq!(roles, ["user", "assistant", "tool", "assistant"]);
    /// # }
    /// # Ok::<(), tramontane::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Limit`] if the last of [`max_rounds`](ToolOptions::max_rounds) answers calls
    /// functions; the chat has their results then, and can be gone on with.
    /// [`Error::Misuse`] for a choice of a function that is not in the set, or a last message
    /// of the assistant. Otherwise as [`chat`](Session::chat). The chat keeps the rounds that
    /// are complete.
    pub fn run_tools(
        &mut self,
        chat: &mut Chat,
        tools: &ToolSet,
        options: &ToolOptions,
        on_event: impl FnMut(ToolEvent<'_>),
    ) -> Result<ToolRun> {
        run(self, chat, tools, options, on_event)
    }
}

impl Engine {
    /// [`Session::run_tools`] among the requests of an engine; waits for it, so in a task call
    /// it where blocking is allowed.
    ///
    /// # Errors
    /// As [`Session::run_tools`] and [`submit`](Engine::submit).
    pub fn run_tools(
        &self,
        chat: &mut Chat,
        tools: &ToolSet,
        options: &ToolOptions,
        on_event: impl FnMut(ToolEvent<'_>),
    ) -> Result<ToolRun> {
        run(self, chat, tools, options, on_event)
    }
}

fn run<S: Speaker>(
    mut speaker: S,
    chat: &mut Chat,
    tools: &ToolSet,
    options: &ToolOptions,
    mut on_event: impl FnMut(ToolEvent<'_>),
) -> Result<ToolRun> {
    let declared = tools.tools();
    chat.tools = Some(declared.clone());
    let mut calls = 0;
    for round in 1..=options.max_rounds.max(1) {
        let choice = match &options.first {
            first if round == 1 => first.clone(),
            ToolChoice::None => ToolChoice::None,
            _ => ToolChoice::Auto,
        };
        let content = options.generate.constraint.clone();
        let wanted = Wanted { tools: &declared, choice, parallel: options.parallel, content };
        let (turn, canceller) = one(&mut speaker, chat, wanted, options, &mut on_event)?;
        let Turn { text, thinking, mut summary, .. } = turn.clone();
        let called = !turn.calls.is_empty() && !canceller.is_cancelled();
        if called {
            calls += turn.calls.len();
            answer_calls(chat, tools, turn, &mut on_event);
        } else if !(text.is_empty() && thinking.is_empty()) {
            chat.push(assistant(&text, &thinking));
        }
        if canceller.is_cancelled() {
            summary.finish_reason = Some(FinishReason::Cancelled);
        } else if called {
            continue;
        }
        return Ok(ToolRun { text, thinking, rounds: round, calls, summary });
    }
    Err(Error::limit(Bounded::Rounds, options.max_rounds.saturating_add(1), options.max_rounds))
}

/// One answer, with its events.
fn one<S: Speaker>(
    speaker: &mut S,
    chat: &Chat,
    wanted: Wanted<'_>,
    options: &ToolOptions,
    on_event: &mut impl FnMut(ToolEvent<'_>),
) -> Result<(Turn, Canceller)> {
    let mut canceller = Canceller::new();
    let on_event = std::cell::RefCell::new(on_event);
    let turn = turn(
        speaker,
        chat,
        wanted,
        &options.generate,
        &mut |of_answer| {
            canceller = of_answer.clone();
            (on_event.borrow_mut())(ToolEvent::Round(of_answer));
        },
        &mut |event| match event {
            OutputEvent::Thinking(text) => (on_event.borrow_mut())(ToolEvent::Thinking(text)),
            OutputEvent::Text(text) => (on_event.borrow_mut())(ToolEvent::Text(text)),
            OutputEvent::Call(call) => (on_event.borrow_mut())(ToolEvent::Call(call)),
        },
    )?;
    Ok((turn, canceller))
}

/// Runs the calls of an answer; the chat gets it and its results.
fn answer_calls(
    chat: &mut Chat,
    tools: &ToolSet,
    turn: Turn,
    on_event: &mut impl FnMut(ToolEvent<'_>),
) {
    let results: Vec<Message> = turn
        .calls
        .iter()
        .map(|call| {
            let result = tools.call(call);
            on_event(ToolEvent::Result(call, &result));
            let content = match result {
                Json::String(text) => text,
                other => other.to_string(),
            };
            Message::tool(call.name(), content).with_tool_call_id(call.id().unwrap_or_default())
        })
        .collect();
    chat.push(assistant(&turn.text, &turn.thinking).with_tool_calls(turn.calls));
    results.into_iter().for_each(|result| chat.push(result));
}

fn assistant(text: &str, thinking: &str) -> Message {
    match thinking {
        "" => Message::assistant(text),
        thinking => Message::assistant(text).with_thinking(thinking),
    }
}
