//! The line that a person types: recall, and what stands there before the first letter.

use std::borrow::Cow;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::{Hint, Hinter};
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{Context, Helper};

use super::history::History;
use super::screen::Result;

/// What came of asking for a line.
pub enum Typed {
    /// A line, or several that were pasted.
    Line(String),
    /// Ctrl+C.
    Interrupted,
    /// Ctrl+D.
    End,
}

/// Reads lines.
pub struct Editor {
    editor: rustyline::Editor<Placeholder, DefaultHistory>,
    history: History,
}

impl Editor {
    /// With the lines of earlier conversations.
    pub fn new(history: History) -> Result<Self> {
        let mut editor = rustyline::Editor::new()?;
        for line in history.lines() {
            editor.add_history_entry(line)?;
        }
        editor.set_helper(Some(Placeholder::default()));
        Ok(Editor { editor, history })
    }

    /// Waits for a line; `open` while a text of several lines is. It is remembered if
    /// that is wanted.
    pub fn read(&mut self, open: bool, remember: bool) -> Result<Typed> {
        if let Some(helper) = self.editor.helper_mut() {
            helper.open = open;
        }
        match self.editor.readline(if open { "... " } else { ">>> " }) {
            Ok(line) => {
                if remember {
                    self.editor.add_history_entry(line.as_str())?;
                    self.history.add(&line);
                }
                Ok(Typed::Line(line))
            }
            Err(ReadlineError::Interrupted) => Ok(Typed::Interrupted),
            Err(ReadlineError::Eof) => Ok(Typed::End),
            Err(error) => Err(error.into()),
        }
    }
}

/// Grey words where nothing is typed yet.
#[derive(Default)]
struct Placeholder {
    open: bool,
}

struct Grey(&'static str);

impl Hint for Grey {
    fn display(&self) -> &str {
        self.0
    }

    fn completion(&self) -> Option<&str> {
        None
    }
}

impl Hinter for Placeholder {
    type Hint = Grey;

    fn hint(&self, line: &str, _: usize, _: &Context<'_>) -> Option<Grey> {
        let text = match self.open {
            false => "Send a message (/? for help)",
            true => "Use \"\"\" to end multi-line input",
        };
        line.is_empty().then_some(Grey(text))
    }
}

impl Highlighter for Placeholder {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(format!("\x1b[38;5;245m{hint}\x1b[0m"))
    }
}

impl Completer for Placeholder {
    type Candidate = String;
}

impl Validator for Placeholder {}

impl Helper for Placeholder {}
