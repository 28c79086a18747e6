//! Steps of a parser where calls may be.

use super::{OutputParser, Region, State};
use crate::output::context::End;
use crate::output::markers::{Match, starts};
use crate::output::message::{Message, message};
use crate::output::region::{Next, next};
use crate::output::sink::To;
use crate::output::syntax::Opening;
use crate::output::tail::{Tail, tail};
use crate::output::whole::{FENCE, Whole, whole};
use crate::template::ToolCall;

impl OutputParser {
    pub(super) fn whole(&mut self, end: End) -> bool {
        if !self.due(0, end) {
            return false;
        }
        match whole(&self.context, self.rest(), end) {
            Whole::Wait => self.wait(0),
            Whole::Text => self.go_on(State::Text),
            Whole::Calls(calls) => self.calls(calls),
        }
    }

    /// The rest of the answer is calls.
    fn calls(&mut self, calls: Vec<ToolCall>) -> bool {
        self.take(self.rest().len());
        for call in calls {
            self.sink.call(call);
        }
        self.go_on(State::Behind)
    }

    pub(super) fn tail(&mut self, tag: usize, end: End) -> bool {
        if !self.due(0, end) {
            return false;
        }
        let Some(known) = self.context.syntax.thoughts.get(tag) else {
            return self.go_on(State::Text);
        };
        match tail(&self.context, known, self.rest(), end) {
            Tail::Wait => self.wait(0),
            Tail::Calls(calls) => self.calls(calls),
            Tail::Thoughts(read) => {
                let length = self.opening_length();
                self.refuse(
                    To::Thinking,
                    length,
                    read,
                    State::Thoughts { tag: Some(tag), fresh: false },
                )
            }
        }
    }

    pub(super) fn region(&mut self, mut region: Region, end: End) -> bool {
        if !self.due(region.read, end) {
            self.state = State::Region(region);
            return false;
        }
        let Some(opening) = self.context.syntax.openings.get(region.opening) else {
            return self.go_on(State::Text);
        };
        let rest = self.rest().get(region.read..).unwrap_or_default();
        match next(&self.context, opening, region.place, rest, end) {
            Next::Wait => {
                self.wait(region.read);
                self.state = State::Region(region);
                return false;
            }
            Next::Skip(length, place) => {
                region.place = place;
                region.read += length;
            }
            Next::Item { len, call } => {
                region.place.items = true;
                let item = region.read..region.read + len;
                region.read = item.end;
                match call {
                    Some(call) => self.accept(&mut region, call),
                    None if region.taken => {
                        self.write(To::Content, len);
                        region.read = 0;
                    }
                    None => region.others.push(item),
                }
            }
            Next::Close(length) => {
                let length = region.read + length;
                return self.leave(&region, length, true, length);
            }
            Next::Over(read) => {
                return self.leave(&region, region.read, false, region.read + read);
            }
        }
        if region.taken {
            self.take(region.read);
            region.read = 0;
        }
        self.go_on(State::Region(region))
    }

    /// A call, and before it what looked like some.
    fn accept(&mut self, region: &mut Region, call: ToolCall) {
        for other in region.others.drain(..) {
            let range = self.at + other.start..self.at + other.end;
            self.sink.write(To::Content, self.buffer.get(range).unwrap_or_default());
        }
        self.sink.call(call);
        region.taken = true;
    }

    /// A region of `length` bytes is over. Without a call it is text: all of it if it looked
    /// like calls or has its end, else its opening only.
    fn leave(&mut self, region: &Region, length: usize, closed: bool, read: usize) -> bool {
        if region.taken {
            self.take(length);
            return self.go_on(State::Behind);
        }
        if closed || !region.others.is_empty() {
            self.write(To::Content, length);
            return self.go_on(State::Text);
        }
        let opening = self.context.syntax.openings.get(region.opening);
        let opening = opening.map_or(0, |opening| opening.text.len());
        self.refuse(To::Content, opening, read, State::Text)
    }

    pub(super) fn message(&mut self, opened: bool, end: End) -> bool {
        if !self.due(0, end) {
            return false;
        }
        match message(&self.context, self.rest(), opened, end) {
            Message::Wait => self.wait(0),
            // The prompt opened no header, after all.
            Message::None(read) if opened => {
                self.refuse(To::Content, 0, read, State::Start { bare: true })
            }
            Message::None(read) => {
                let length = self.opening_length();
                self.refuse(To::Content, length, read, State::Text)
            }
            Message::Thoughts(length) => {
                self.take(length);
                self.sink.separate();
                self.go_on(State::Thoughts { tag: None, fresh: true })
            }
            Message::Text(length) => {
                self.take(length);
                self.sink.separate();
                let bare = !self.sink.has_content();
                self.go_on(if bare { State::Start { bare } } else { State::Text })
            }
            Message::Call { len, call: Some(call) } => {
                self.take(len);
                self.sink.call(call);
                self.go_on(State::Behind)
            }
            Message::Call { len, call: None } => {
                self.write(To::Content, len);
                self.go_on(State::Text)
            }
        }
    }

    /// The length of the opening that the undecided text begins with.
    pub(super) fn opening_length(&self) -> usize {
        match starts(self.rest(), self.context.syntax.opening_texts(), true) {
            Match::Full(_, length) => length,
            _ => 0,
        }
    }

    pub(super) fn behind(&mut self, end: End) -> bool {
        let space = self.rest().len() - self.rest().trim_start().len();
        self.take(space);
        let rest = self.rest();
        if rest.is_empty() {
            return false;
        }
        let ended = end.is_some();
        // Marks at the end are doubled at times.
        let syntax = &self.context.syntax;
        let closings = syntax.openings.iter().flat_map(Opening::closings);
        let closings = closings.filter(|close| *close != FENCE);
        let marks = closings.chain(syntax.drops.iter().map(String::as_str));
        let fence = self.fence.as_ref().map(|_| FENCE);
        match starts(rest, marks.chain(fence), ended) {
            Match::Partial => return false,
            Match::Full(_, length) => {
                if rest.starts_with(FENCE) {
                    self.fence = None;
                }
                self.take(length);
                return true;
            }
            Match::No => {}
        }
        let behind = rest.trim_start_matches(|c: char| c.is_whitespace() || ",;".contains(c));
        let separators = rest.len() - behind.len();
        if separators > 0 {
            match starts(behind, syntax.opening_texts(), ended) {
                Match::Partial => return false,
                Match::Full(..) => self.take(separators),
                Match::No => {}
            }
        }
        let state = self.text_state();
        self.go_on(state)
    }
}
