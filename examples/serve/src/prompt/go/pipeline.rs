//! The parser's half for what stands within an action: declarations, pipelines, commands
//! and their operands.

use std::sync::Arc;

use super::lex::{Keyword, Kind};
use super::literal::{Number, number};
use super::node::{Command, Pipe, Span, Term, TermKind};
use super::parse::{Parser, Result};

/// Variables that can be seen at one place.
const MAX_VARIABLES: usize = 1024;

impl Parser<'_> {
    pub(super) fn pipe(&mut self, context: &str, end: Kind) -> Result<Pipe> {
        let start = self.peek_word().start;
        let (variables, assigns) = self.declarations(context)?;
        let mut commands = Vec::new();
        loop {
            let token = self.peek_word();
            if token.kind == end {
                self.next();
                break;
            }
            if is_operand(token.kind) {
                commands.push(self.command()?);
            } else {
                self.next();
                return self.unexpected(token, context);
            }
        }
        if commands.is_empty() {
            return self.error(format!("missing value for {context}"));
        }
        let literal =
            |command: &Command| command.terms.first().is_some_and(|term| is_literal(&term.kind));
        if let Some(stage) = commands.iter().skip(1).position(literal) {
            return self.error(format!("non executable command in pipeline stage {}", stage + 2));
        }
        Ok(Pipe { at: self.since(start), variables, assigns, commands })
    }

    /// `$x :=`, `$x =` or, for a range, `$i, $x :=`.
    fn declarations(&mut self, context: &str) -> Result<(Vec<Arc<str>>, bool)> {
        let mut names = Vec::new();
        loop {
            let start = self.at;
            if self.peek_word().kind != Kind::Variable {
                return Ok((names, false));
            }
            let variable = self.next();
            let kind = self.peek_word().kind;
            match kind {
                Kind::Assign | Kind::Declare | Kind::Comma => {
                    self.next();
                    if self.variables.len() == MAX_VARIABLES {
                        return self.error(format!("more than {MAX_VARIABLES} variables"));
                    }
                    let name = self.shared(variable);
                    self.variables.push(name.clone());
                    names.push(name);
                }
                _ => {
                    self.at = start;
                    return Ok((names, false));
                }
            }
            if kind != Kind::Comma {
                return Ok((names, kind == Kind::Assign));
            }
            if context != "range" || names.len() > 1 {
                return self.error(format!("too many declarations in {context}"));
            }
            let next = self.peek_word().kind;
            if !matches!(next, Kind::Variable | Kind::Right | Kind::CloseParen) {
                return self.error("range can only initialize variables");
            }
        }
    }

    fn command(&mut self) -> Result<Command> {
        let start = self.peek_word().start;
        let mut terms = Vec::new();
        loop {
            self.peek_word();
            if let Some(term) = self.operand()? {
                terms.push(term);
            }
            let token = self.next();
            match token.kind {
                Kind::Space => continue,
                Kind::Right | Kind::CloseParen => self.at -= 1,
                Kind::Pipe => {}
                _ => return self.unexpected(token, "operand"),
            }
            break;
        }
        if terms.is_empty() {
            return self.error("empty command");
        }
        let end = terms.last().map_or(start, |term| term.at.end);
        Ok(Command { terms, at: Span { start, end } })
    }

    /// A term and the fields after it.
    fn operand(&mut self) -> Result<Option<Term>> {
        let Some(term) = self.term()? else { return Ok(None) };
        let mut fields = Vec::new();
        while self.peek().kind == Kind::Field {
            let token = self.next();
            fields.push(self.text(token)[1..].into());
        }
        if fields.is_empty() {
            return Ok(Some(term));
        }
        let at = self.since(term.at.start);
        let kind = match term.kind {
            TermKind::Field(mut names) => {
                names.extend(fields);
                TermKind::Field(names)
            }
            TermKind::Variable(name, mut names) => {
                names.extend(fields);
                TermKind::Variable(name, names)
            }
            ref kind if is_literal(kind) => {
                let shown = &self.source[term.at.start..term.at.end];
                return self.error(format!("unexpected . after term {shown:?}"));
            }
            _ => TermKind::Chain(Box::new(term), fields),
        };
        Ok(Some(Term { kind, at }))
    }

    fn term(&mut self) -> Result<Option<Term>> {
        let token = self.peek_word();
        if !is_operand(token.kind) {
            return Ok(None);
        }
        self.next();
        let kind = match token.kind {
            Kind::Identifier if !(self.knows)(self.text(token)) => {
                return self.error(format!("function {:?} not defined", self.text(token)));
            }
            Kind::Identifier => TermKind::Function(self.shared(token)),
            Kind::Dot => TermKind::Dot,
            Kind::Keyword(_) => TermKind::Nil,
            Kind::Variable => {
                let name = self.shared(token);
                if !self.variables.contains(&name) {
                    return self.error(format!("undefined variable {name:?}"));
                }
                TermKind::Variable(name, Vec::new())
            }
            Kind::Field => TermKind::Field(vec![self.text(token)[1..].into()]),
            Kind::Bool => TermKind::Bool(self.text(token) == "true"),
            Kind::Number => match number(self.text(token)) {
                Ok(Number::Int(value)) => TermKind::Int(value),
                Ok(Number::Float(value)) => TermKind::Float(value),
                Err(what) => return self.error(what),
            },
            Kind::Char => {
                let text = self.unquoted(token)?;
                let mut letters = text.chars();
                match (letters.next(), letters.next()) {
                    (Some(letter), None) => TermKind::Int(u32::from(letter).into()),
                    _ => return self.error("malformed character constant"),
                }
            }
            Kind::OpenParen => {
                let pipe =
                    self.deeper(|parser| parser.pipe("parenthesized pipeline", Kind::CloseParen))?;
                TermKind::Pipe(Box::new(pipe))
            }
            _ => TermKind::Text(self.unquoted(token)?.into()),
        };
        Ok(Some(Term { kind, at: Span { start: token.start, end: self.since(token.start).end } }))
    }
}

fn is_operand(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Bool
            | Kind::Char
            | Kind::Dot
            | Kind::Field
            | Kind::Identifier
            | Kind::Number
            | Kind::Keyword(Keyword::Nil)
            | Kind::Quoted
            | Kind::Raw
            | Kind::Variable
            | Kind::OpenParen
    )
}

/// What can neither take an argument nor has fields.
fn is_literal(kind: &TermKind) -> bool {
    matches!(
        kind,
        TermKind::Bool(_)
            | TermKind::Dot
            | TermKind::Nil
            | TermKind::Int(_)
            | TermKind::Float(_)
            | TermKind::Text(_)
    )
}
