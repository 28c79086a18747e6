//! Answers as values of Rust types.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::constrain::Constraint;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::output::ToolChoice;
use crate::session::{GenerateOptions, Session};
use crate::template::Chat;

use super::schema::schema_of;
use super::turn::{Speaker, Turn, Wanted, turn};

impl Session {
    /// Has `chat` answered by a value of `T`: the answer is constrained to
    /// [its schema](crate::tools::schema_of), after thoughts if the model has some. The schema is not shown to the
    /// model; say in a message what is wanted. `options.constraint` is not used.
    ///
    /// ```
    /// # #[cfg(feature = "chat-template")] {
    /// use tramontane::{Chat, GenerateOptions, Message, Model};
    ///
    /// #[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
    /// struct Animal {
    ///     #[schemars(length(max = 12))]
    ///     name: String,
    ///     legs: u8,
    ///     can_fly: bool,
    /// }
    ///
    /// let model = Model::open("models/storyteller-q4_k_m.gguf")?;
    /// let mut session = model.session(&Default::default())?;
    /// let chat = Chat::new([Message::user("Describe a bird as JSON.")]);
    /// let bird: Animal = session.extract(&chat, &GenerateOptions::greedy())?;
    /// println!("{bird:?}"); // the built-in model knows nothing of birds, but it is an Animal
    /// # }
    /// # Ok::<(), tramontane::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Answer`] for an answer that was cut, or that is of the schema and still no
    /// `T`; [`Error::Unsupported`] for a schema that cannot be enforced; [`Error::Misuse`] for
    /// a last message of the assistant; and as [`chat`](Session::chat).
    pub fn extract<T: DeserializeOwned + JsonSchema>(
        &mut self,
        chat: &Chat,
        options: &GenerateOptions,
    ) -> Result<T> {
        extract(self, chat, options)
    }
}

impl Engine {
    /// [`Session::extract`] among the requests of an engine; waits for it, so in a task call
    /// it where blocking is allowed.
    ///
    /// # Errors
    /// As [`Session::extract`] and [`submit`](Engine::submit).
    pub fn extract<T: DeserializeOwned + JsonSchema>(
        &self,
        chat: &Chat,
        options: &GenerateOptions,
    ) -> Result<T> {
        extract(self, chat, options)
    }
}

fn extract<T: DeserializeOwned + JsonSchema, S: Speaker>(
    mut speaker: S,
    chat: &Chat,
    options: &GenerateOptions,
) -> Result<T> {
    let content = Some(Constraint::json_schema(schema_of::<T>()));
    let wanted = Wanted { tools: &[], choice: ToolChoice::None, parallel: false, content };
    value(turn(&mut speaker, chat, wanted, options, &mut |_| {}, &mut |_| {})?)
}

/// The value that an answer is.
fn value<T: DeserializeOwned>(turn: Turn) -> Result<T> {
    serde_json::from_str(&turn.text).map_err(|problem| {
        let cut = turn.was_cut();
        let problem = match turn.summary.finish_reason {
            Some(reason) if cut => format!(
                "it was cut ({reason:?}) after {} tokens; allow more, or ask for less",
                turn.summary.timings.generated_tokens
            ),
            _ => format!("it does not fit the type: {problem}"),
        };
        Error::Answer { problem, text: turn.text, cut }
    })
}

#[cfg(test)]
mod tests {
    use crate::session::FinishReason;

    use super::*;

    fn turn(text: &str, reason: FinishReason) -> Turn {
        let mut turn = Turn { text: text.into(), ..Turn::default() };
        turn.summary.finish_reason = Some(reason);
        turn
    }

    #[test]
    fn a_cut_answer_says_so_and_keeps_its_text() {
        let error = value::<Vec<u8>>(turn("[1, 2", FinishReason::Length)).err();
        let Some(Error::Answer { problem, text, cut: true }) = error else {
            panic!("{error:?}");
        };
        assert_eq!(text, "[1, 2");
        assert!(problem.contains("Length"), "{problem}");
    }

    #[test]
    fn a_whole_value_counts_also_if_the_end_token_did_not_come() {
        let value = value::<Vec<u8>>(turn("[1, 2]", FinishReason::Length));
        assert_eq!(value.ok(), Some(vec![1, 2]));
    }

    #[test]
    fn a_value_that_only_the_type_refuses_is_not_cut() {
        let error = value::<u8>(turn("300", FinishReason::EndOfText)).err();
        assert!(matches!(error, Some(Error::Answer { cut: false, .. })), "{error:?}");
    }
}
