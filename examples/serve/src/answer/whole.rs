//! A whole answer, for those who do not stream.

use crate::wire::{ApiError, STOPPED};

use super::call::Call;
use super::step::{Done, Logprob, Step};
use super::stream::Answer;

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Whole {
    /// What the model said, in its order; neighbours of one kind are one.
    pub parts: Vec<Part>,
    /// Of all tokens, if they were asked for.
    pub all_logprobs: Vec<Logprob>,
    /// Its figures.
    pub done: Done,
}

/// A part of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Thoughts.
    Thinking(String),
    /// Text, with the log probabilities of its tokens if they were asked for.
    Text(String, Vec<Logprob>),
    /// A call of a function.
    Call(Call),
}

impl Whole {
    /// Puts steps together up to the last one, `done`.
    pub fn of(steps: impl IntoIterator<Item = Step>, done: Done) -> Self {
        let mut whole = Whole { parts: Vec::new(), all_logprobs: Vec::new(), done };
        for step in steps {
            whole.add(step);
        }
        whole
    }

    fn add(&mut self, step: Step) {
        match step {
            Step::Thinking(text, logprobs) => {
                self.all_logprobs.extend(logprobs);
                match self.parts.last_mut() {
                    Some(Part::Thinking(said)) => said.push_str(&text),
                    _ => self.parts.push(Part::Thinking(text)),
                }
            }
            Step::Text(text, logprobs) => {
                self.all_logprobs.extend(logprobs.iter().cloned());
                match self.parts.last_mut() {
                    Some(Part::Text(said, list)) => {
                        said.push_str(&text);
                        list.extend(logprobs);
                    }
                    _ if text.is_empty() && logprobs.is_empty() => {}
                    _ => self.parts.push(Part::Text(text, logprobs)),
                }
            }
            Step::Markup(logprobs) => self.all_logprobs.extend(logprobs),
            Step::Call(call) => self.parts.push(Part::Call(call)),
            Step::Done(_) | Step::Failed(_) => {}
        }
    }

    /// All text.
    pub fn text(&self) -> String {
        self.parts
            .iter()
            .filter_map(|part| match part {
                Part::Text(text, _) => Some(text.as_str()),
                _ => None,
            })
            .collect()
    }

    /// All thoughts.
    pub fn thinking(&self) -> String {
        self.parts
            .iter()
            .filter_map(|part| match part {
                Part::Thinking(text) => Some(text.as_str()),
                _ => None,
            })
            .collect()
    }

    /// Log probabilities of the tokens of all text.
    pub fn logprobs(&self) -> Vec<Logprob> {
        let of_texts = self.parts.iter().filter_map(|part| match part {
            Part::Text(_, logprobs) => Some(logprobs),
            _ => None,
        });
        of_texts.flatten().cloned().collect()
    }

    /// All calls.
    pub fn calls(&self) -> impl Iterator<Item = &Call> {
        self.parts.iter().filter_map(|part| match part {
            Part::Call(call) => Some(call),
            _ => None,
        })
    }
}

impl Answer {
    /// Waits for the whole answer.
    ///
    /// # Errors
    /// That of the last step.
    pub async fn whole(mut self) -> Result<Whole, ApiError> {
        let mut steps = Vec::new();
        loop {
            match self.next().await {
                Some(Step::Done(done)) => return Ok(Whole::of(steps, *done)),
                Some(Step::Failed(error)) => return Err(error),
                Some(step) => steps.push(step),
                None => return Err(ApiError::internal(STOPPED)),
            }
        }
    }
}
