//! Rules → Lark.
//!
//! In GBNF characters are matched one by one; Lark has terminals, which are regular
//! expressions and match as much as they can. What no recursion goes through becomes
//! terminals, as large as possible: a whole grammar without recursion is one terminal, and
//! matches exactly the same texts. What could go on with what follows it is written character
//! by character, which is slow (`ends.rs`). Of two alternatives with the same beginning,
//! outside terminals, the longer one can still win where the shorter one was meant: the texts
//! that are left are texts of the grammar all the same.

use std::fmt::Write as _;

use super::super::lark::literal;
use super::ends::{Form, forms, is_plain};
use super::parse::{Expr, Grammar};

/// The grammar's text; its start is the rule `root`.
pub(super) fn lark(grammar: &Grammar) -> String {
    let forms = forms(grammar);
    let plain: Vec<bool> = forms.iter().map(|form| *form == Form::Terminal).collect();
    let mut writer = Writer { plain: &plain, text: String::new(), parts: 0, characters: false };
    let root = writer.rule(grammar.root);
    let _ = writeln!(writer.text, "start: {root}");
    for (index, expr) in grammar.rules.iter().enumerate() {
        let name = writer.rule(index);
        writer.characters = forms[index] == Form::Characters;
        let body = if plain[index] { writer.terminal(expr) } else { writer.body(expr) };
        let _ = writeln!(writer.text, "{name}: {body}");
    }
    writer.text
}

struct Writer<'a> {
    plain: &'a [bool],
    text: String,
    /// Parts of rules that have a name of their own, so that nothing is nested.
    parts: usize,
    /// Whether terminals are single characters.
    characters: bool,
}

impl Writer<'_> {
    fn rule(&self, index: usize) -> String {
        match self.plain[index] {
            true => format!("T{index}"),
            false => format!("r{index}"),
        }
    }

    fn define(&mut self, prefix: &str, body: &str) -> String {
        self.parts += 1;
        let name = format!("{prefix}{}", self.parts);
        let _ = writeln!(self.text, "{name}: {body}");
        name
    }

    /// The body of a rule.
    fn body(&mut self, expr: &Expr) -> String {
        if self.is_lexeme(expr) {
            return self.lexeme(std::slice::from_ref(expr));
        }
        match expr {
            Expr::Sequence(all) if all.is_empty() => "\"\"".into(),
            Expr::Choice(all) => {
                let all: Vec<String> = all.iter().map(|expr| self.body(expr)).collect();
                all.join(" | ")
            }
            Expr::Sequence(all) => {
                let mut parts = Vec::new();
                let mut rest = all.as_slice();
                while let Some(first) = rest.first() {
                    let run = match self.characters {
                        true => 0,
                        false => rest.iter().take_while(|expr| self.is_lexeme(expr)).count(),
                    };
                    if run > 0 {
                        parts.push(self.lexeme(&rest[..run]));
                        rest = &rest[run..];
                    } else {
                        parts.push(self.atom(first));
                        rest = &rest[1..];
                    }
                }
                parts.join(" ")
            }
            _ => self.atom(expr),
        }
    }

    /// Whether an element of a rule becomes a terminal as a whole.
    fn is_lexeme(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Sequence(_) | Expr::Choice(_) | Expr::Repeat(..) if self.characters => false,
            Expr::Literal(text) if self.characters => text.chars().count() <= 1,
            _ => is_plain(expr, self.plain),
        }
    }

    /// Neighbours without recursion, as one terminal.
    fn lexeme(&mut self, run: &[Expr]) -> String {
        let parts: Vec<String> = run.iter().map(|expr| self.terminal_atom(expr)).collect();
        let body = parts.join(" ");
        // An empty terminal is none.
        if run.iter().all(|expr| {
            *expr == Expr::Literal(String::new()) || *expr == Expr::Sequence(Vec::new())
        }) {
            return "\"\"".into();
        }
        self.define("X", &body)
    }

    fn atom(&mut self, expr: &Expr) -> String {
        match expr {
            Expr::Rule(rule) => self.rule(*rule),
            Expr::Token(token) => token.clone(),
            Expr::Repeat(inner, least, most) => {
                let inner = if self.is_lexeme(inner) {
                    self.lexeme(std::slice::from_ref(inner))
                } else {
                    self.atom(inner)
                };
                let repeated = repeated(&inner, *least, *most);
                if repeated == "\"\"" { repeated } else { self.define("p", &repeated) }
            }
            Expr::Sequence(_) | Expr::Choice(_) => {
                let body = self.body(expr);
                self.define("p", &body)
            }
            Expr::Literal(text) if self.characters && text.chars().count() > 1 => {
                let each = text.chars().map(|c| Expr::Literal(c.into()));
                let each: Vec<String> =
                    each.map(|c| self.lexeme(std::slice::from_ref(&c))).collect();
                each.join(" ")
            }
            Expr::Literal(_) | Expr::Class { .. } | Expr::Any => {
                self.lexeme(std::slice::from_ref(expr))
            }
        }
    }

    /// The body of a terminal.
    fn terminal(&mut self, expr: &Expr) -> String {
        match expr {
            Expr::Choice(all) => {
                let all: Vec<String> = all.iter().map(|expr| self.terminal(expr)).collect();
                all.join(" | ")
            }
            Expr::Sequence(all) if all.is_empty() => "\"\"".into(),
            Expr::Sequence(all) => {
                let all: Vec<String> = all.iter().map(|expr| self.terminal_atom(expr)).collect();
                all.join(" ")
            }
            _ => self.terminal_atom(expr),
        }
    }

    fn terminal_atom(&mut self, expr: &Expr) -> String {
        match expr {
            Expr::Literal(text) => literal(text),
            Expr::Class { negated, ranges } => class(*negated, ranges),
            Expr::Any => "/(?s:.)/".into(),
            Expr::Rule(rule) => self.rule(*rule),
            Expr::Repeat(inner, least, most) => {
                let inner = self.terminal_atom(inner);
                let repeated = repeated(&inner, *least, *most);
                if repeated == "\"\"" { repeated } else { self.define("P", &repeated) }
            }
            Expr::Sequence(_) | Expr::Choice(_) => {
                let body = self.terminal(expr);
                self.define("P", &body)
            }
            Expr::Token(token) => token.clone(),
        }
    }
}

fn repeated(inner: &str, least: usize, most: Option<usize>) -> String {
    match (least, most) {
        (_, Some(0)) => "\"\"".into(),
        (0, None) => format!("{inner}*"),
        (1, None) => format!("{inner}+"),
        (0, Some(1)) => format!("{inner}?"),
        (least, None) => format!("{inner}{{{least},}}"),
        (least, Some(most)) => format!("{inner}{{{least},{most}}}"),
    }
}

fn class(negated: bool, ranges: &[(char, char)]) -> String {
    if ranges.is_empty() {
        // Of `[^]`.
        return "/(?s:.)/".into();
    }
    let mut class = String::from(if negated { "/[^" } else { "/[" });
    for (first, last) in ranges {
        let _ = write!(class, "\\u{{{:x}}}-\\u{{{:x}}}", u32::from(*first), u32::from(*last));
    }
    class + "]/"
}
