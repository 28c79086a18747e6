//! One answer to a conversation, taken apart.

use crate::constrain::Constraint;
use crate::engine::{Engine, Request};
use crate::error::{Error, Result};
use crate::model::{ChatPrompt, Model};
use crate::output::{AnswerShape, OutputEvent, ToolChoice};
use crate::session::{Canceller, FinishReason, GenerateOptions, Session, Summary};
use crate::template::{Chat, Tool, ToolCall};

/// Bytes of a prompt's end in which a thought can have been opened.
const PROMPT_END: usize = 512;

/// Who answers.
pub(super) trait Speaker {
    fn model(&self) -> &Model;

    /// Generates the answer to a prompt: tells how to end it, then its texts.
    fn answer(
        &mut self,
        prompt: ChatPrompt,
        options: &GenerateOptions,
        begin: &mut dyn FnMut(Canceller),
        text: &mut dyn FnMut(&str),
    ) -> Result<Summary>;
}

impl Speaker for &mut Session {
    fn model(&self) -> &Model {
        Session::model(self)
    }

    fn answer(
        &mut self,
        prompt: ChatPrompt,
        options: &GenerateOptions,
        begin: &mut dyn FnMut(Canceller),
        text: &mut dyn FnMut(&str),
    ) -> Result<Summary> {
        let mut generation = self.answer_prompt(&prompt, options)?;
        begin(generation.canceller());
        for piece in generation.by_ref() {
            text(&piece?.text);
        }
        Ok(generation.summary())
    }
}

impl Speaker for &Engine {
    fn model(&self) -> &Model {
        Engine::model(self)
    }

    fn answer(
        &mut self,
        prompt: ChatPrompt,
        options: &GenerateOptions,
        begin: &mut dyn FnMut(Canceller),
        text: &mut dyn FnMut(&str),
    ) -> Result<Summary> {
        let ChatPrompt { tokens, continues, .. } = prompt;
        let request = Request::new(tokens, options.clone()).with_own_text(!continues);
        let mut reply = self.submit(request)?;
        begin(reply.canceller());
        for piece in reply.blocking_iter() {
            text(&piece?.text);
        }
        Ok(reply.summary())
    }
}

/// What an answer is to be.
pub(super) struct Wanted<'a> {
    pub tools: &'a [Tool],
    pub choice: ToolChoice,
    pub parallel: bool,
    pub content: Option<Constraint>,
}

/// An answer.
#[derive(Debug, Clone, Default)]
pub(super) struct Turn {
    pub thinking: String,
    pub text: String,
    pub calls: Vec<ToolCall>,
    pub summary: Summary,
}

impl Turn {
    /// Whether something other than the model ended it.
    pub fn was_cut(&self) -> bool {
        was_cut(self.summary.finish_reason)
    }
}

fn was_cut(reason: Option<FinishReason>) -> bool {
    !matches!(reason, Some(FinishReason::EndOfText | FinishReason::StopString))
}

/// Has the answer to `chat` generated.
pub(super) fn turn<S: Speaker>(
    speaker: &mut S,
    chat: &Chat,
    wanted: Wanted<'_>,
    options: &GenerateOptions,
    begin: &mut dyn FnMut(Canceller),
    event: &mut dyn FnMut(&OutputEvent),
) -> Result<Turn> {
    if chat.continues_last() {
        let problem = "the last message is the assistant's; add a message to answer";
        return Err(Error::misuse(problem));
    }
    // The model's parts are shared: a clone lets the speaker be borrowed.
    let model = speaker.model().clone();
    let folded = model.chat_template()?.fold(chat)?;
    let prompt_end = end(&folded.prompt.to_string());
    let syntax = model.output_syntax();
    let Wanted { tools, choice, parallel, content } = wanted;
    let mut shape = AnswerShape { tools, choice, parallel, content, prompt_end: &prompt_end };
    let constraint = syntax.constraint(&shape)?;
    let options = options
        .clone()
        .with_constraint(constraint)
        .with_visible(syntax.marker_tokens(model.tokenizer()));
    // Calls that must not be are text.
    if shape.choice == ToolChoice::None {
        shape.tools = &[];
    }
    let before = chat.messages.iter().map(|message| message.tool_calls().len()).sum::<usize>();
    let mut parser = syntax.parser(shape.tools, &prompt_end);
    let mut turn = Turn::default();
    let mut take = |turn: &mut Turn, events: Vec<OutputEvent>| {
        for found in events {
            let found = match found {
                OutputEvent::Call(call) if call.id().is_none() => {
                    OutputEvent::Call(call.with_id(id(before + turn.calls.len() + 1)))
                }
                found => found,
            };
            event(&found);
            match found {
                OutputEvent::Thinking(text) => turn.thinking += &text,
                OutputEvent::Text(text) => turn.text += &text,
                OutputEvent::Call(call) => turn.calls.push(call),
            }
        }
    };
    let prompt = model.encode_folded(folded);
    let summary = speaker.answer(prompt, &options, begin, &mut |text| {
        take(&mut turn, parser.push(text));
    })?;
    take(&mut turn, parser.finish(was_cut(summary.finish_reason)));
    turn.summary = summary;
    Ok(turn)
}

/// The id of the `number`-th call of a conversation: nine letters and digits, which is what
/// Mistral's templates insist on.
fn id(number: usize) -> String {
    format!("call{number:05}")
}

/// The last bytes of a text, whole characters.
fn end(text: &str) -> String {
    let start = text.len().saturating_sub(PROMPT_END);
    text[text.ceil_char_boundary(start)..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompts_end_is_whole_characters() {
        assert_eq!(end("short"), "short");
        let long = "é".repeat(PROMPT_END);
        assert_eq!(end(&long), "é".repeat(PROMPT_END / 2));
        let odd = format!("{long}x");
        assert_eq!(end(&odd), format!("{}x", "é".repeat(PROMPT_END / 2 - 1)));
    }
}
