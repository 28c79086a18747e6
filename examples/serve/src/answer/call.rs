//! Calls of functions that the model makes, and their ids.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use serde_json::Value;
use tramontane::{Message, ToolCall};

use super::tools::is_plain;

/// A call of a function, by the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Which of the answer's calls it is, from 0.
    pub index: usize,
    /// What the function's result will refer to; no other call of the conversation has it.
    pub id: String,
    /// The function.
    pub name: String,
    /// Its arguments, an object in the order in which the model wrote it.
    pub arguments: Value,
}

impl Call {
    /// The arguments as text, for APIs that send it so.
    pub fn arguments_text(&self) -> String {
        self.arguments.to_string()
    }
}

/// Gives the calls of one answer their places and ids.
#[derive(Debug, Default)]
pub(super) struct Calls {
    count: usize,
    /// Ids of the conversation.
    taken: HashSet<String>,
}

/// Bytes of an id that the model wrote, at most.
const LONGEST: usize = 64;
/// Letters of an id behind `call_`.
const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

impl Calls {
    /// For an answer to a conversation.
    pub fn after(messages: &[Message]) -> Self {
        let calls = messages.iter().flat_map(Message::tool_calls);
        Calls { count: 0, taken: calls.filter_map(|call| call.id().map(str::to_owned)).collect() }
    }

    /// The next call. An id that the model wrote is kept if it is one and is new.
    pub fn next(&mut self, call: &ToolCall) -> Call {
        let legal = |id: &&str| {
            (2..=LONGEST).contains(&id.len())
                && id.bytes().all(is_plain)
                && !self.taken.contains(*id)
        };
        let id = match call.id().filter(legal) {
            Some(id) => id.to_owned(),
            None => self.new_id(),
        };
        self.taken.insert(id.clone());
        let index = self.count;
        self.count += 1;
        let arguments = match call.arguments() {
            object @ Value::Object(_) => object,
            _ => Value::Object(Default::default()),
        };
        Call { index, id, name: call.name().to_owned(), arguments }
    }

    fn new_id(&self) -> String {
        loop {
            // Each `RandomState` is seeded anew.
            let mut random = RandomState::new().hash_one(self.count);
            let letters = std::iter::repeat_with(|| {
                let letter = LETTERS[(random % 36) as usize];
                random /= 36;
                char::from(letter)
            });
            let id: String = "call_".chars().chain(letters.take(8)).collect();
            if !self.taken.contains(&id) {
                return id;
            }
        }
    }
}
