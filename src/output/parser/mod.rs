//! Takes an answer apart as it comes.
//!
//! What it finds depends on the text alone, not on the pieces in which it comes: each step
//! looks at the text from one place on and either waits for more or decides what no further
//! text can change.

mod calls;
mod look;

use std::ops::Range;

use self::look::{Finders, Sign, signs};
use super::OutputEvent;
use super::attempts::Attempts;
use super::context::{Context, End};
use super::markers::{Find, Match, starts};
use super::region::Place;
use super::sink::{Sink, To};
use super::syntax::{Body, Messages};
use super::whole::{FENCE, fence};

/// Text that was read in vain, and is read again as what it also may be: so much of it, and
/// this many times what came so far.
const REREAD: usize = 1 << 16;
const REREAD_FACTOR: usize = 8;
/// The beginning of a header whose opening stands in the prompt.
const RECIPIENT: &str = "to=";

/// Takes an answer apart as it comes.
#[derive(Debug, Clone)]
pub struct OutputParser {
    context: Context,
    finders: Finders,
    /// What came and is not decided.
    buffer: String,
    /// Where in it the undecided part begins.
    at: usize,
    /// Bytes that came before the buffer.
    before: usize,
    state: State,
    sink: Sink,
    attempts: Attempts,
    reread: usize,
    /// The last piece could end a call.
    likely: bool,
    /// A fence before calls: it is text if it holds something else.
    fence: Option<String>,
}

/// What the undecided text is a part of.
#[derive(Debug, Clone, PartialEq)]
enum State {
    /// The beginning of the answer's text. `bare`: it may be calls without a marker.
    Start {
        bare: bool,
    },
    /// The same, and it may be the rest of a header that the prompt opened.
    Opened,
    /// An answer that may be calls as a whole.
    Whole,
    Text,
    /// Thoughts, in one of the tags or in a channel. `fresh`: nothing of them came yet.
    Thoughts {
        tag: Option<usize>,
        fresh: bool,
    },
    /// What may be calls at the end of thoughts.
    Tail {
        tag: usize,
    },
    Region(Region),
    /// A header and what it says of the message.
    Message {
        opened: bool,
    },
    /// Behind calls.
    Behind,
}

/// Calls behind a marker. Until one is found nothing is taken from the buffer.
#[derive(Debug, Clone, PartialEq, Default)]
struct Region {
    opening: usize,
    /// How far it was read.
    read: usize,
    place: Place,
    /// A call was found.
    taken: bool,
    /// What looked like calls before.
    others: Vec<Range<usize>>,
}

impl OutputParser {
    pub(super) fn new(context: Context, prompt_end: &str) -> Self {
        let state = opened(&context, prompt_end);
        OutputParser {
            finders: Finders::new(&context),
            context,
            buffer: String::new(),
            at: 0,
            before: 0,
            state,
            sink: Sink::default(),
            attempts: Attempts::default(),
            reread: 0,
            likely: false,
            fence: None,
        }
    }

    /// Takes the next piece of text; gives what is certain with it.
    pub fn push(&mut self, text: &str) -> Vec<OutputEvent> {
        self.buffer.push_str(text);
        self.likely = text.contains(['}', ']', ')', '>', '`', ';']);
        while self.step(None) {}
        if 2 * self.at >= self.buffer.len() {
            self.buffer.drain(..self.at);
            self.before += self.at;
            self.at = 0;
        }
        self.sink.take()
    }

    /// Ends the answer. `cut`: by a limit, not by the model. What is left over of a call that
    /// is not complete is text.
    pub fn finish(&mut self, cut: bool) -> Vec<OutputEvent> {
        while self.step(Some(cut)) {}
        self.take(self.buffer.len() - self.at);
        self.sink.finish();
        self.sink.take()
    }

    /// One step; whether there may be another one.
    fn step(&mut self, end: End) -> bool {
        if let State::Region(region) = &mut self.state {
            let region = std::mem::take(region);
            return self.region(region, end);
        }
        match self.state {
            State::Region(_) => false,
            State::Start { bare } => self.start(bare, false, end),
            State::Opened => self.start(true, true, end),
            State::Whole => self.whole(end),
            State::Text => self.text(end),
            State::Thoughts { tag, fresh } => self.thoughts(tag, fresh, end),
            State::Tail { tag } => self.tail(tag, end),
            State::Message { opened } => self.message(opened, end),
            State::Behind => self.behind(end),
        }
    }

    fn rest(&self) -> &str {
        self.buffer.get(self.at..).unwrap_or_default()
    }

    fn take(&mut self, length: usize) {
        self.at += length;
    }

    /// Gives so much of the undecided text to one of the two texts.
    fn write(&mut self, to: To, length: usize) {
        if length == 0 {
            return;
        }
        if let Some(fence) = self.fence.take() {
            self.sink.write(to, &fence);
        }
        let text = self.buffer.get(self.at..self.at + length).unwrap_or_default();
        self.sink.write(to, text);
        self.take(length);
    }

    /// The state for text that is no call and no thought.
    fn text_state(&self) -> State {
        if self.sink.has_content() { State::Text } else { State::Start { bare: false } }
    }

    /// Whether what follows is worth another reading, should this one be in vain.
    fn may_reread(&self) -> bool {
        let came = self.before + self.at;
        self.reread <= REREAD.saturating_add(came.saturating_mul(REREAD_FACTOR))
    }

    /// Whether to look at the text from `from` on. Without the end a look may be in vain.
    fn due(&self, from: usize, end: End) -> bool {
        let length = self.rest().len().saturating_sub(from);
        end.is_some() || self.attempts.due(length, self.likely, self.before + self.buffer.len())
    }

    fn wait(&mut self, from: usize) -> bool {
        self.attempts.in_vain(self.rest().len().saturating_sub(from));
        false
    }

    fn go_on(&mut self, state: State) -> bool {
        self.attempts.done();
        self.state = state;
        true
    }

    /// What was read up to `read` is no call: its first `length` bytes are text, and the rest
    /// is read again.
    fn refuse(&mut self, to: To, length: usize, read: usize, state: State) -> bool {
        self.reread += read;
        self.write(to, length);
        self.go_on(state)
    }

    fn start(&mut self, bare: bool, opened: bool, end: End) -> bool {
        let space = self.rest().len() - self.rest().trim_start().len();
        self.write(To::Content, space);
        let rest = self.rest();
        if rest.is_empty() {
            return false;
        }
        if opened {
            match starts(rest, [RECIPIENT], end.is_some()) {
                Match::Full(..) => return self.go_on(State::Message { opened: true }),
                Match::Partial => return false,
                Match::No => {}
            }
        }
        let (markers, signs): (Vec<&str>, Vec<Sign>) = signs(&self.context).into_iter().unzip();
        match starts(rest, markers, end.is_some()) {
            Match::Partial => false,
            Match::Full(index, length) => match signs.get(index) {
                Some(Sign::Open(opening)) => self.open(*opening, length),
                Some(Sign::Thoughts(tag)) => {
                    self.take(length);
                    self.sink.separate();
                    self.go_on(State::Thoughts { tag: Some(*tag), fresh: true })
                }
                Some(Sign::Fence) if bare => self.go_on(State::Whole),
                Some(Sign::Drop) => {
                    self.take(length);
                    self.sink.separate();
                    self.go_on(State::Start { bare })
                }
                Some(Sign::Fence) | None => self.go_on(State::Text),
            },
            Match::No if bare && self.context.calls() && rest.starts_with(['{', '[']) => {
                self.go_on(State::Whole)
            }
            Match::No => self.go_on(State::Text),
        }
    }

    /// At an opening of `length` bytes.
    fn open(&mut self, opening: usize, length: usize) -> bool {
        let Some(found) = self.context.syntax.openings.get(opening) else { return false };
        let (body, read) = (found.body, found.consumed());
        if !self.may_reread() {
            self.write(To::Content, length);
            return self.go_on(State::Text);
        }
        match body {
            Body::Message => self.go_on(State::Message { opened: false }),
            _ => self.go_on(State::Region(Region { opening, read, ..Region::default() })),
        }
    }

    fn text(&mut self, end: End) -> bool {
        let (at, index) = match self.finders.text.find(self.rest(), end.is_some()) {
            Find::Hold(at) => {
                self.write(To::Content, at);
                return false;
            }
            Find::At(at, index) => (at, index),
        };
        self.write(To::Content, at);
        let length = self.finders.text.marker(index).len();
        if index < self.context.syntax.openings.len() {
            return self.open(index, length);
        }
        if self.finders.text.marker(index) != FENCE {
            self.take(length);
            self.sink.separate();
            return self.go_on(self.text_state());
        }
        let header = match fence(self.rest(), end) {
            None => return false,
            Some(None) => length,
            Some(Some(header)) => {
                let behind = self.rest().get(header..).unwrap_or_default();
                match starts(behind, self.context.syntax.opening_texts(), end.is_some()) {
                    Match::Partial => return false,
                    Match::No => length,
                    Match::Full(..) => {
                        self.fence = self.rest().get(..header).map(str::to_owned);
                        self.take(header);
                        return true;
                    }
                }
            }
        };
        self.write(To::Content, header);
        true
    }

    fn thoughts(&mut self, tag: Option<usize>, fresh: bool, end: End) -> bool {
        let known = tag.and_then(|tag| self.context.syntax.thoughts.get(tag)).cloned();
        if fresh {
            let space = self.rest().len() - self.rest().trim_start().len();
            self.take(space);
            let open = known.as_ref().map(|tag| tag.open.as_str());
            match starts(self.rest(), open, end.is_some()) {
                Match::Full(_, length) => self.take(length),
                Match::Partial => return false,
                Match::No => {}
            }
            return self.go_on(State::Thoughts { tag, fresh: false });
        }
        let finder = tag.and_then(|tag| self.finders.thoughts.get(tag));
        let finder = finder.unwrap_or(&self.finders.channel);
        let (at, index) = match finder.find(self.rest(), end.is_some()) {
            Find::Hold(at) => {
                self.write(To::Thinking, at);
                return false;
            }
            Find::At(at, index) => (at, index),
        };
        let marker = finder.marker(index).len();
        self.write(To::Thinking, at);
        match (tag, index) {
            (Some(tag), 1..) if self.may_reread() => self.go_on(State::Tail { tag }),
            (Some(_), 1..) => {
                self.write(To::Thinking, marker);
                true
            }
            (Some(_), 0) => {
                self.take(marker);
                self.sink.separate();
                let bare = !self.sink.has_content();
                self.go_on(if bare { State::Start { bare } } else { State::Text })
            }
            // The mark at the end of a message; one at the beginning stays.
            (None, _) => {
                let ends = index < self.context.syntax.drops.len();
                self.take(if ends { marker } else { 0 });
                self.sink.separate();
                self.go_on(self.text_state())
            }
        }
    }
}

/// What the end of a prompt opened.
fn opened(context: &Context, prompt_end: &str) -> State {
    let end = prompt_end.trim_end();
    let tags = &context.syntax.thoughts;
    if let Some(tag) = tags.iter().position(|tag| end.ends_with(&tag.open)) {
        return State::Thoughts { tag: Some(tag), fresh: true };
    }
    match context.syntax.messages {
        Some(Messages::Channels) if end.ends_with("<|start|>assistant") => State::Opened,
        Some(Messages::Channels) if end.ends_with("analysis<|message|>") => {
            State::Thoughts { tag: None, fresh: true }
        }
        Some(Messages::Recipients) if end.ends_with(">>>") => State::Message { opened: true },
        _ => State::Start { bare: true },
    }
}
