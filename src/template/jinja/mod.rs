//! The template engine: jinja2's language, as far as Python's templates use it.

mod arguments;
mod bounds;
mod clock;
mod edit;
mod environment;
mod generator;
mod guard;
mod input;
mod members;
mod methods;
mod numbers;
mod operands;
mod percent;
mod python;
mod scan;
mod sequences;
mod strings;
mod texts;
mod translate;

use std::io::{self, Write};

use minijinja::{Environment, ErrorKind};

use super::{Chat, NoTools};
use crate::error::{Bounded, Error, Result};

/// Bytes of a template's source.
const MAX_SOURCE: usize = 256 << 10;
/// Steps of one rendering; a step also pays for 64 bytes of data.
const FUEL: u64 = 1_000_000;
/// Bytes of one rendering.
const MAX_OUTPUT: usize = 4 << 20;
/// Stack for parsing and rendering, whatever the caller's thread has left.
/// Reserved address space; untouched pages cost nothing.
const STACK: usize = 64 << 20;
/// The engine's name for the one template.
const NAME: &str = "chat";

/// A compiled template.
pub(super) struct Jinja(Environment<'static>);

impl Jinja {
    pub fn new(source: &str) -> Result<Self> {
        scan::check("bytes of a chat template", source.len(), MAX_SOURCE)?;
        // As in jinja2, all line breaks are alike.
        let source = source.replace("\r\n", "\n").replace('\r', "\n");
        let guarded = guard::guarded(&source, &scan::scan(&source)?);
        let mut env = environment::environment();
        on_large_stack(|| env.add_template_owned(NAME, guarded).map_err(|e| template_error(&e)))?;
        Ok(Jinja(env))
    }

    /// Stops the clock at `unix_seconds` since 1970.
    pub fn set_clock(&mut self, unix_seconds: u64) {
        environment::set_clock(&mut self.0, Some(unix_seconds));
    }

    /// Renders `chat`, with `tokens` (name and text) as variables, and marks in what people
    /// wrote so that no control piece arises from it.
    pub fn render(
        &self,
        chat: &Chat,
        no_tools: NoTools,
        tokens: &[(&'static str, String)],
        control_pieces: &[String],
    ) -> Result<String> {
        let variables = input::variables(chat, no_tools, tokens, control_pieces)?;
        on_large_stack(move || {
            let template = self.0.get_template(NAME).map_err(|e| template_error(&e))?;
            let mut output = Output { bytes: Vec::new(), wanted: 0 };
            let rendered = template.render_captured_to(variables, &mut output).map(drop);
            scan::check("bytes of a rendered chat", output.wanted, MAX_OUTPUT)?;
            rendered.map_err(|e| template_error(&e))?;
            String::from_utf8(output.bytes).map_err(|e| Error::Template(e.to_string()))
        })
    }
}

/// A writer that stops at [`MAX_OUTPUT`].
struct Output {
    bytes: Vec<u8>,
    wanted: usize,
}

impl Write for Output {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.wanted = self.bytes.len() + text.len();
        if self.wanted > MAX_OUTPUT {
            return Err(io::Error::other("the output is too long"));
        }
        self.bytes.extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs `work` where there is room to recurse. A panic in the engine becomes
/// an error.
fn on_large_stack<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("chat template".to_owned())
            .stack_size(STACK)
            .spawn_scoped(scope, work)
            .map_err(|e| Error::Template(format!("no thread to run it on: {e}")))?;
        thread.join().unwrap_or_else(|_| Err(Error::Template("the engine failed".to_owned())))
    })
}

fn template_error(error: &minijinja::Error) -> Error {
    if error.kind() == ErrorKind::OutOfFuel {
        return Error::Limit {
            what: Bounded::Template("steps of a chat template"),
            needed: FUEL + 1,
            allowed: FUEL,
        };
    }
    let mut text = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    if text.len() > 4096 {
        text.truncate(text.floor_char_boundary(4096));
    }
    match error.line() {
        Some(line) => Error::Template(format!("{text} (line {line})")),
        None => Error::Template(text),
    }
}
