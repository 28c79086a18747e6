//! Runs a template: writes the text that its tree makes of a value.

use std::sync::Arc;

use super::error::TemplateError;
use super::node::{Branch, Command, Node, Pipe, Span, Term, TermKind};
use super::output::{MAX_OUTPUT, Output, Sink};
use super::template::Template;
use super::value::Value;
use super::{format, function};

/// Templates that call each other, or themselves.
const MAX_CALLS: usize = 64;
/// Blocks, pipelines and calls within each other, while it runs.
const MAX_DEPTH: usize = 512;

impl Template {
    /// Appends what it makes of `dot`. Needs room to recurse: see [`super::on_large_stack`].
    ///
    /// # Errors
    /// What fails in Go, and what runs past the limits.
    pub fn render(&self, dot: &Value, output: &mut Output) -> Result<(), TemplateError> {
        execute(self, dot, output)
    }
}

/// Appends to `output` what `template` makes of `dot`.
///
/// # Errors
/// What fails in Go, and what runs past the limits.
fn execute(template: &Template, dot: &Value, output: &mut Output) -> Result<(), TemplateError> {
    let mut run = Run {
        template,
        name: "",
        output,
        variables: vec![("$".into(), dot.clone())],
        base: 0,
        calls: 0,
        depth: 0,
    };
    match run.list(&template.tree().root, dot) {
        Ok(()) => Ok(()),
        Err(Stop::Error(error)) => Err(*error),
        // The parser lets neither stand outside a range.
        Err(Stop::Break | Stop::Continue) => Err(TemplateError::Limit("a loop ended twice")),
    }
}

struct Run<'t> {
    template: &'t Template,
    /// The defined template that runs.
    name: &'t str,
    output: &'t mut Output,
    variables: Vec<(Arc<str>, Value)>,
    /// Where the variables of the running template begin.
    base: usize,
    calls: usize,
    depth: usize,
}

/// Why a list of nodes is left.
enum Stop {
    Break,
    Continue,
    Error(Box<TemplateError>),
}

impl From<TemplateError> for Stop {
    fn from(error: TemplateError) -> Self {
        Stop::Error(Box::new(error))
    }
}

type Done<T = ()> = Result<T, Stop>;

impl<'t> Run<'t> {
    fn spend(&mut self, steps: usize) -> Done {
        let left = self.output.fuel.checked_sub(steps as u64);
        self.output.fuel =
            left.ok_or(TemplateError::Limit("it takes more than a million steps"))?;
        Ok(())
    }

    fn write(&mut self, text: &str) -> Done {
        self.spend(text.len() / 64)?;
        if self.output.text.len() + text.len() > MAX_OUTPUT {
            return Err(TemplateError::Limit("it writes more than 4 MiB").into());
        }
        self.output.text.push_str(text);
        Ok(())
    }

    fn fail<T>(&self, at: Span, what: impl Into<String>) -> Done<T> {
        let source = self.template.source();
        let before = source.get(..at.start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let context = source.get(at.start..at.end).unwrap_or_default().trim();
        let context = match context.char_indices().nth(20) {
            Some((cut, _)) => format!("{}...", &context[..cut]),
            None => context.to_owned(),
        };
        Err(Stop::from(TemplateError::Failed {
            line: 1 + before.matches('\n').count(),
            column: before.len() - line_start,
            name: self.name.to_owned(),
            context,
            what: what.into(),
        }))
    }

    fn enter(&mut self) -> Done {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(TemplateError::Limit("it is nested too deep").into());
        }
        self.spend(1)
    }

    fn list(&mut self, list: &'t [Node], dot: &Value) -> Done {
        self.enter()?;
        for node in list {
            self.spend(1)?;
            self.node(node, dot)?;
        }
        self.depth -= 1;
        Ok(())
    }

    fn node(&mut self, node: &'t Node, dot: &Value) -> Done {
        match node {
            Node::Text(text) => self.write(text),
            Node::Action(pipe) => {
                let value = self.pipe(pipe, dot)?;
                if pipe.variables.is_empty() { self.print(&value) } else { Ok(()) }
            }
            Node::If(branch) => self.condition(branch, dot, false),
            Node::With(branch) => self.condition(branch, dot, true),
            Node::Range(branch) => {
                let variables = self.variables.len();
                self.range(branch, dot)?;
                self.variables.truncate(variables);
                Ok(())
            }
            Node::Template { name, pipe, at } => self.call(name, pipe.as_ref(), *at, dot),
            Node::Break => Err(Stop::Break),
            Node::Continue => Err(Stop::Continue),
        }
    }

    fn print(&mut self, value: &Value) -> Done {
        match value {
            Value::Nil => self.write("<no value>"),
            Value::Text(text) => self.write(text),
            value => {
                let text = format::shown(value);
                let text = self.whole(text)?;
                self.write(&text)
            }
        }
    }

    /// A text that was made, paid for.
    fn whole(&mut self, sink: Sink) -> Done<String> {
        let text = sink.finish().ok_or(TemplateError::Limit("it makes a text of over 4 MiB"))?;
        self.spend(text.len() / 16)?;
        Ok(text)
    }

    fn condition(&mut self, branch: &'t Branch, dot: &Value, with: bool) -> Done {
        let variables = self.variables.len();
        let value = self.pipe(&branch.pipe, dot)?;
        if value.is_true() {
            self.list(&branch.body, if with { &value } else { dot })?;
        } else if let Some(otherwise) = &branch.otherwise {
            self.list(otherwise, dot)?;
        }
        self.variables.truncate(variables);
        Ok(())
    }

    fn range(&mut self, branch: &'t Branch, dot: &Value) -> Done {
        let value = self.pipe(&branch.pipe, dot)?;
        let mut any = false;
        let done = self.each(branch, &value, &mut any);
        match done {
            Err(Stop::Break) => Ok(()),
            Err(stop) => Err(stop),
            Ok(()) => match &branch.otherwise {
                Some(otherwise) if !any => self.list(otherwise, dot),
                _ => Ok(()),
            },
        }
    }

    /// Runs the body for every element; `any` tells whether there was one.
    fn each(&mut self, branch: &'t Branch, value: &Value, any: &mut bool) -> Done {
        let at = branch.pipe.at;
        let mut all = |(key, item): (Value, Value)| {
            *any = true;
            self.iteration(branch, key, item)
        };
        match value {
            Value::List(list) => {
                let items = list.items().iter().enumerate();
                items.map(|(i, item)| (index(i), item.clone())).try_for_each(&mut all)
            }
            Value::Map(map) if map.struct_name().is_none() => {
                let entries = map.entries().map(|(key, item)| (key.clone(), item.clone()));
                entries.map(|(key, item)| (Value::Text(key), item)).try_for_each(&mut all)
            }
            Value::Int(count) if branch.pipe.variables.len() < 2 => {
                (0..*count).map(|i| (Value::Int(i), Value::Int(i))).try_for_each(&mut all)
            }
            Value::Int(count) => {
                let what = format!("can't use {count} to iterate over more than one variable");
                self.fail(at, what)
            }
            Value::Text(text) => {
                let letters = text.char_indices();
                let letters = letters.map(|(i, letter)| (index(i), u32::from(letter).into()));
                letters.map(|(i, code)| (i, Value::Int(code))).try_for_each(&mut all)
            }
            Value::Nil => Ok(()),
            Value::Bool(_) | Value::Float(_) | Value::Map(_) => {
                let shown = format::shown(value).finish().unwrap_or_default();
                self.fail(at, format!("range can't iterate over {shown}"))
            }
        }
    }

    fn iteration(&mut self, branch: &'t Branch, key: Value, item: Value) -> Done {
        let mark = self.variables.len();
        let Pipe { variables, assigns, at, .. } = &branch.pipe;
        let values = match variables.len() {
            0 => vec![],
            1 => vec![item.clone()],
            _ => vec![key, item.clone()],
        };
        for (back, (name, value)) in variables.iter().zip(values).enumerate() {
            if *assigns {
                self.assign(name, value, *at)?;
            } else {
                // The pipeline has declared them, just before.
                let place = mark - variables.len() + back;
                self.variables[place].1 = value;
            }
        }
        let depth = self.depth;
        let done = self.list(&branch.body, &item);
        self.depth = depth;
        self.variables.truncate(mark);
        match done {
            Err(Stop::Continue) => Ok(()),
            done => done,
        }
    }

    fn call(&mut self, name: &'t str, pipe: Option<&'t Pipe>, at: Span, dot: &Value) -> Done {
        let Some(body) = self.template.tree().defined.get(name) else {
            return self.fail(at, format!("template {name:?} not defined"));
        };
        if self.calls == MAX_CALLS {
            return self.fail(at, format!("exceeded maximum template depth ({MAX_CALLS})"));
        }
        let dot = match pipe {
            Some(pipe) => self.pipe(pipe, dot)?,
            None => Value::Nil,
        };
        let (base, mark) = (self.base, self.variables.len());
        let caller = std::mem::replace(&mut self.name, name);
        self.base = mark;
        // The first of all is the whole template's own `$`.
        let dollar = self.variables[0].0.clone();
        self.variables.push((dollar, dot.clone()));
        self.calls += 1;
        self.list(body, &dot)?;
        self.calls -= 1;
        self.variables.truncate(mark);
        self.base = base;
        self.name = caller;
        Ok(())
    }

    fn find(&mut self, name: &str) -> Done<Option<usize>> {
        let visible = &self.variables[self.base..];
        let place = visible.iter().rposition(|(other, _)| **other == *name);
        let searched = visible.len() - place.unwrap_or(0);
        let place = place.map(|place| self.base + place);
        self.spend(searched / 64)?;
        Ok(place)
    }

    fn assign(&mut self, name: &str, value: Value, at: Span) -> Done {
        match self.find(name)? {
            Some(place) => {
                self.variables[place].1 = value;
                Ok(())
            }
            None => self.fail(at, format!("undefined variable: {name}")),
        }
    }

    fn pipe(&mut self, pipe: &'t Pipe, dot: &Value) -> Done<Value> {
        self.enter()?;
        let mut last = None;
        for command in &pipe.commands {
            last = Some(self.command(command, dot, last)?);
        }
        let value = last.unwrap_or_default();
        for name in &pipe.variables {
            if pipe.assigns {
                self.assign(name, value.clone(), pipe.at)?;
            } else {
                self.variables.push((name.clone(), value.clone()));
            }
        }
        self.depth -= 1;
        Ok(value)
    }

    fn command(&mut self, command: &'t Command, dot: &Value, last: Option<Value>) -> Done<Value> {
        let Some((first, arguments)) = command.terms.split_first() else {
            return Ok(Value::Nil);
        };
        if let TermKind::Function(name) = &first.kind {
            return self.function(name, arguments, command.at, dot, last);
        }
        if !arguments.is_empty() || last.is_some() {
            let what = match &first.kind {
                TermKind::Field(names) => arguments_for(names),
                TermKind::Variable(_, names) | TermKind::Chain(_, names) if !names.is_empty() => {
                    arguments_for(names)
                }
                _ => {
                    let Span { start, end } = first.at;
                    let shown = self.template.source().get(start..end).unwrap_or_default();
                    format!("can't give argument to non-function {shown}")
                }
            };
            return self.fail(first.at, what);
        }
        match first.kind {
            TermKind::Nil => self.fail(first.at, "nil is not a command"),
            _ => self.term(first, dot),
        }
    }

    fn term(&mut self, term: &'t Term, dot: &Value) -> Done<Value> {
        self.spend(1)?;
        match &term.kind {
            TermKind::Dot => Ok(dot.clone()),
            TermKind::Nil => Ok(Value::Nil),
            TermKind::Bool(value) => Ok(Value::Bool(*value)),
            TermKind::Int(value) => Ok(Value::Int(*value)),
            TermKind::Float(value) => Ok(Value::Float(*value)),
            TermKind::Text(text) => Ok(Value::Text(text.clone())),
            TermKind::Field(names) => self.fields(dot.clone(), names, term.at),
            TermKind::Variable(name, names) => match self.find(name)? {
                Some(place) => self.fields(self.variables[place].1.clone(), names, term.at),
                None => self.fail(term.at, format!("undefined variable: {name}")),
            },
            TermKind::Function(name) => self.function(name, &[], term.at, dot, None),
            TermKind::Pipe(pipe) => self.pipe(pipe, dot),
            TermKind::Chain(inner, names) => {
                let value = self.term(inner, dot)?;
                self.fields(value, names, term.at)
            }
        }
    }

    /// Field after field. What is asked of nothing at all is nothing; what is asked of a
    /// key that is missing is an error.
    fn fields(&mut self, start: Value, names: &[Arc<str>], at: Span) -> Done<Value> {
        let from_nothing = matches!(start, Value::Nil);
        let mut value = start;
        for name in names {
            self.spend(1)?;
            value = match &value {
                Value::Nil if from_nothing => Value::Nil,
                Value::Nil => {
                    let what = format!("nil pointer evaluating interface {{}}.{name}");
                    return self.fail(at, what);
                }
                Value::Map(map) => match map.get(name) {
                    Some(found) => found.clone(),
                    None if map.struct_name().is_none() => Value::Nil,
                    None => return self.no_field(name, &value, at),
                },
                other => return self.no_field(name, other, at),
            };
        }
        Ok(value)
    }

    fn no_field(&self, name: &str, value: &Value, at: Span) -> Done<Value> {
        self.fail(at, format!("can't evaluate field {name} in type {}", value.type_name()))
    }

    fn function(
        &mut self,
        name: &'t str,
        terms: &'t [Term],
        at: Span,
        dot: &Value,
        last: Option<Value>,
    ) -> Done<Value> {
        self.enter()?;
        let count = terms.len() + usize::from(last.is_some());
        if let Err(what) = function::check_count(name, count) {
            return self.fail(at, what);
        }
        let value = if matches!(name, "and" | "or") {
            self.decide(name == "or", terms, dot, last)?
        } else {
            let mut values = Vec::with_capacity(count);
            for term in terms {
                values.push(self.term(term, dot)?);
            }
            values.extend(last);
            self.spend(function::compared(name, &values) / 64)?;
            match function::call(name, &values) {
                Ok(function::Made::Value(value)) => value,
                Ok(function::Made::Text(sink)) => Value::text(self.whole(sink)?),
                Err(what) => return self.fail(at, format!("error calling {name}: {what}")),
            }
        };
        self.depth -= 1;
        Ok(value)
    }

    /// The first operand that decides, or the last one.
    fn decide(
        &mut self,
        wanted: bool,
        terms: &'t [Term],
        dot: &Value,
        last: Option<Value>,
    ) -> Done<Value> {
        let mut value = Value::Nil;
        for term in terms {
            value = self.term(term, dot)?;
            if value.is_true() == wanted {
                return Ok(value);
            }
        }
        Ok(last.unwrap_or(value))
    }
}

fn index(at: usize) -> Value {
    Value::Int(i64::try_from(at).unwrap_or(i64::MAX))
}

fn arguments_for(names: &[Arc<str>]) -> String {
    let name = names.last().map_or("", |name| &**name);
    format!("{name} is not a method but has arguments")
}
