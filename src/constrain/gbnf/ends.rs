//! Where terminals end.
//!
//! A terminal of Lark matches as much as it can, so one that could go on with what follows it
//! never lets that begin: of `ws "\n"` with `ws ::= [ \n]*` the line break is never reached.
//! What is like that is taken apart into single characters, whose ends are certain.

use super::parse::{Expr, Grammar};

/// How a rule is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As one terminal.
    Terminal,
    /// With neighbours without recursion as terminals.
    Rule,
    /// With a terminal for each character.
    Characters,
}

/// The form of each rule.
pub(super) fn forms(grammar: &Grammar) -> Vec<Form> {
    let mut characters = vec![false; grammar.rules.len()];
    loop {
        let plain = plain(grammar, &characters);
        let mut search = Search::new(grammar, &plain, &characters);
        match search.run() {
            Some(rule) if !characters[rule] => characters[rule] = true,
            _ => {
                let form = |(plain, characters): (&bool, &bool)| match (plain, characters) {
                    (true, _) => Form::Terminal,
                    (_, true) => Form::Characters,
                    _ => Form::Rule,
                };
                return plain.iter().zip(&characters).map(form).collect();
            }
        }
    }
}

/// Which rules are terminals: those that lead to no recursion, no control token and nothing
/// that is taken apart.
fn plain(grammar: &Grammar, characters: &[bool]) -> Vec<bool> {
    let mut plain = vec![false; grammar.rules.len()];
    // Rules all of whose parts are plain are plain; what is left goes round in circles.
    loop {
        let found: Vec<usize> = (0..plain.len())
            .filter(|&rule| !plain[rule] && !characters[rule])
            .filter(|&rule| is_plain(&grammar.rules[rule], &plain))
            .collect();
        if found.is_empty() {
            return plain;
        }
        for rule in found {
            plain[rule] = true;
        }
    }
}

/// Whether an expression can be a part of a terminal.
pub(super) fn is_plain(expr: &Expr, rules: &[bool]) -> bool {
    match expr {
        Expr::Literal(_) | Expr::Class { .. } | Expr::Any => true,
        Expr::Token(_) => false,
        Expr::Rule(rule) => rules[*rule],
        Expr::Sequence(all) | Expr::Choice(all) => all.iter().all(|expr| is_plain(expr, rules)),
        Expr::Repeat(inner, ..) => is_plain(inner, rules),
    }
}

/// Characters, as ranges.
#[derive(Debug, Clone, Default, PartialEq)]
struct Set(Vec<(u32, u32)>);

impl Set {
    const ALL: (u32, u32) = (0, 0x10_FFFF);

    fn of(negated: bool, ranges: &[(char, char)]) -> Self {
        let ranges = ranges.iter().map(|&(first, last)| (u32::from(first), u32::from(last)));
        let set = Set::default().with(&Set(ranges.collect()));
        if !negated {
            return set;
        }
        let (mut gaps, mut from) = (Vec::new(), 0);
        for (first, last) in set.0 {
            if first > from {
                gaps.push((from, first - 1));
            }
            from = last + 1;
        }
        gaps.push((from, Set::ALL.1));
        Set(gaps)
    }

    fn with(mut self, other: &Set) -> Self {
        if other.0.is_empty() {
            return self;
        }
        self.0.extend(&other.0);
        self.0.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(self.0.len());
        for (first, last) in self.0 {
            match merged.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last)
                }
                _ => merged.push((first, last)),
            }
        }
        Set(merged)
    }

    fn meets(&self, other: &Set) -> bool {
        let meets = |a: &(u32, u32)| other.0.iter().any(|b| a.0 <= b.1 && b.0 <= a.1);
        self.0.iter().any(meets)
    }
}

/// What begins an expression's texts, what can make one of them longer, what is in them, and
/// whether one is empty.
#[derive(Debug, Clone, Default, PartialEq)]
struct Edges {
    first: Set,
    longer: Set,
    all: Set,
    empty: bool,
}

impl Edges {
    fn empty() -> Self {
        Edges { empty: true, ..Edges::default() }
    }

    fn then(self, next: &Edges) -> Edges {
        let first = if self.empty { self.first.clone().with(&next.first) } else { self.first };
        let longer = if next.empty {
            next.longer.clone().with(&self.longer).with(&next.first)
        } else {
            next.longer.clone()
        };
        Edges { first, longer, all: self.all.with(&next.all), empty: self.empty && next.empty }
    }

    fn or(self, other: &Edges) -> Edges {
        let mut longer = self.longer.with(&other.longer);
        // A text of one can be the beginning of one of the other.
        if self.first.meets(&other.first) {
            longer = longer.with(&self.all).with(&other.all);
        }
        if self.empty {
            longer = longer.with(&other.first);
        }
        if other.empty {
            longer = longer.with(&self.first);
        }
        let (first, all) = (self.first.with(&other.first), self.all.with(&other.all));
        Edges { first, longer, all, empty: self.empty || other.empty }
    }

    fn repeated(self, least: usize, most: Option<usize>) -> Edges {
        let Edges { first, mut longer, all, empty } = self;
        if least == 0 || most != Some(1) {
            longer = longer.with(&first);
        }
        Edges { first, longer, all, empty: empty || least == 0 }
    }
}

/// Looks for a terminal that could go on with what follows it.
struct Search<'g> {
    grammar: &'g Grammar,
    plain: &'g [bool],
    characters: &'g [bool],
    edges: Vec<Edges>,
    /// What may follow each rule.
    follow: Vec<Set>,
    changed: bool,
    found: Option<usize>,
}

impl<'g> Search<'g> {
    fn new(grammar: &'g Grammar, plain: &'g [bool], characters: &'g [bool]) -> Self {
        let count = grammar.rules.len();
        let (edges, follow) = (vec![Edges::default(); count], vec![Set::default(); count]);
        Search { grammar, plain, characters, edges, follow, changed: false, found: None }
    }

    /// The rule to take apart.
    fn run(&mut self) -> Option<usize> {
        loop {
            let edges: Vec<Edges> =
                self.grammar.rules.iter().map(|rule| self.edges(rule)).collect();
            if edges == self.edges {
                break;
            }
            self.edges = edges;
        }
        loop {
            self.changed = false;
            for (index, rule) in self.grammar.rules.iter().enumerate() {
                if !self.plain[index] {
                    let follow = self.follow[index].clone();
                    self.visit(index, rule, &follow);
                }
            }
            if !self.changed || self.found.is_some() {
                return self.found;
            }
        }
    }

    fn edges(&self, expr: &Expr) -> Edges {
        let one = |first: Set| Edges { all: first.clone(), first, ..Edges::default() };
        match expr {
            Expr::Literal(text) => match text.chars().next() {
                None => Edges::empty(),
                Some(first) => {
                    let all: Vec<(char, char)> = text.chars().map(|c| (c, c)).collect();
                    let first = Set::of(false, &[(first, first)]);
                    Edges { first, all: Set::of(false, &all), ..Edges::default() }
                }
            },
            Expr::Class { negated, ranges } => one(Set::of(*negated, ranges)),
            Expr::Any => one(Set(vec![Set::ALL])),
            Expr::Token(_) => Edges::default(),
            Expr::Rule(rule) => self.edges[*rule].clone(),
            Expr::Sequence(all) => {
                all.iter().fold(Edges::empty(), |before, next| before.then(&self.edges(next)))
            }
            Expr::Choice(all) => {
                let all = all.iter().map(|expr| self.edges(expr));
                all.reduce(|before, next| before.or(&next)).unwrap_or_default()
            }
            Expr::Repeat(inner, least, most) => self.edges(inner).repeated(*least, *most),
        }
    }

    /// Looks into a part of a rule that is none. `follow`: what may come after it.
    fn visit(&mut self, rule: usize, expr: &Expr, follow: &Set) {
        if is_plain(expr, self.plain) {
            self.check(rule, std::slice::from_ref(expr), follow);
            return;
        }
        match expr {
            Expr::Rule(other) => {
                let all = self.follow[*other].clone().with(follow);
                self.changed |= all != self.follow[*other];
                self.follow[*other] = all;
            }
            Expr::Choice(all) => all.iter().for_each(|expr| self.visit(rule, expr, follow)),
            Expr::Repeat(inner, _, most) => {
                let mut follow = follow.clone();
                if *most != Some(1) {
                    follow = follow.with(&self.edges(inner).first);
                }
                self.visit(rule, inner, &follow);
            }
            Expr::Sequence(all) => {
                let mut follow = follow.clone();
                let mut rest = all.as_slice();
                while let Some((last, before)) = rest.split_last() {
                    let run = if self.characters[rule] {
                        0
                    } else {
                        rest.iter().rev().take_while(|expr| is_plain(expr, self.plain)).count()
                    };
                    let start = rest.len() - run.max(1);
                    match run {
                        0 => self.visit(rule, last, &follow),
                        _ => self.check(rule, &rest[start..], &follow),
                    }
                    let edges = rest[start..]
                        .iter()
                        .fold(Edges::empty(), |before, next| before.then(&self.edges(next)));
                    let after = if edges.empty { follow } else { Set::default() };
                    follow = after.with(&edges.first);
                    rest = if run == 0 { before } else { &rest[..start] };
                }
            }
            Expr::Literal(_) | Expr::Class { .. } | Expr::Any | Expr::Token(_) => {}
        }
    }

    /// Whether neighbours that become one terminal end where what follows begins.
    fn check(&mut self, rule: usize, run: &[Expr], follow: &Set) {
        let all = run.iter().fold(Edges::empty(), |before, next| before.then(&self.edges(next)));
        if self.found.is_some() || !all.longer.meets(follow) {
            return;
        }
        match run.last().and_then(|last| self.last_rule(last, follow)) {
            // Another rule's end.
            Some(other) => self.found = Some(other),
            // Of single characters only the rules among them are looked into.
            _ if self.characters[rule] => {
                if let [expr] = run {
                    self.inside(expr, follow);
                }
            }
            _ => self.found = Some(rule),
        }
    }

    /// The innermost rule at the end of `expr` that could go on with what follows.
    fn last_rule(&self, expr: &Expr, follow: &Set) -> Option<usize> {
        match expr {
            Expr::Rule(rule) if self.edges[*rule].longer.meets(follow) => {
                self.last_rule(&self.grammar.rules[*rule], follow).or(Some(*rule))
            }
            Expr::Sequence(all) => self.last_rule(all.last()?, follow),
            _ => None,
        }
    }

    /// Looks for a rule in a part that is written character by character.
    fn inside(&mut self, expr: &Expr, follow: &Set) {
        match expr {
            Expr::Rule(other) => {
                if self.plain[*other]
                    && let Some(found) = self.last_rule(expr, follow)
                {
                    self.found = Some(found);
                }
            }
            Expr::Choice(all) => all.iter().for_each(|expr| self.inside(expr, follow)),
            Expr::Repeat(inner, ..) => {
                let follow = follow.clone().with(&self.edges(inner).first);
                self.inside(inner, &follow);
            }
            Expr::Sequence(all) => {
                let mut follow = follow.clone();
                for expr in all.iter().rev() {
                    self.inside(expr, &follow);
                    let edges = self.edges(expr);
                    let after = if edges.empty { follow } else { Set::default() };
                    follow = after.with(&edges.first);
                }
            }
            Expr::Literal(_) | Expr::Class { .. } | Expr::Any | Expr::Token(_) => {}
        }
    }
}
