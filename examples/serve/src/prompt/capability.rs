//! What can be read from a template: the variables it uses, and the tags of thoughts.

use std::collections::BTreeSet;

use super::go::{Branch, Node, Pipe, Term, TermKind, Tree};

/// What a model with a template can do, beyond chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// Fill in between a prompt and a suffix.
    pub insert: bool,
    /// Call functions.
    pub tools: bool,
    /// Think aloud first.
    pub thinking: bool,
}

impl Capabilities {
    /// What a model with this Jinja template can do, by Ollama's rules: texts in its source.
    pub fn of_jinja(source: &str) -> Self {
        let has = |text: &str| source.contains(text);
        let splits = has("content.split('</think>')") || has("content.split(\"</think>\")");
        let splits = splits && !has("reasoning_content") && !has("<SPECIAL_12>");
        Capabilities {
            insert: false,
            tools: has("tools") || has("tool_call"),
            thinking: (has("<think>") && has("</think>")) || splits,
        }
    }

    /// What either says.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Capabilities {
            insert: self.insert || other.insert,
            tools: self.tools || other.tools,
            thinking: self.thinking || other.thinking,
        }
    }
}

/// Names of all fields and variables, in lower case.
pub fn variables(tree: &Tree) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    each_term(tree, &mut |term| {
        let names = match &term.kind {
            TermKind::Field(names) | TermKind::Chain(_, names) => names,
            TermKind::Variable(name, names) => {
                found.insert(name.to_lowercase());
                names
            }
            _ => return,
        };
        found.extend(names.iter().map(|name| name.to_lowercase()));
    });
    found
}

/// All texts in quotes.
pub fn literals(tree: &Tree) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    each_term(tree, &mut |term| {
        if let TermKind::Text(text) = &term.kind {
            found.insert(text.to_string());
        }
    });
    found
}

fn each_term<'t>(tree: &'t Tree, visit: &mut dyn FnMut(&'t Term)) {
    let defined = tree.defined.values().map(|body| body.as_slice());
    for nodes in defined.chain([tree.root.as_slice()]) {
        in_list(nodes, visit);
    }
}

fn in_list<'t>(nodes: &'t [Node], visit: &mut dyn FnMut(&'t Term)) {
    for node in nodes {
        match node {
            Node::Action(pipe) | Node::Template { pipe: Some(pipe), .. } => in_pipe(pipe, visit),
            Node::If(branch) | Node::With(branch) | Node::Range(branch) => {
                in_pipe(&branch.pipe, visit);
                in_list(&branch.body, visit);
                in_list(branch.otherwise.as_deref().unwrap_or_default(), visit);
            }
            Node::Text(_) | Node::Template { .. } | Node::Break | Node::Continue => {}
        }
    }
}

fn in_pipe<'t>(pipe: &'t Pipe, visit: &mut dyn FnMut(&'t Term)) {
    for term in pipe.commands.iter().flat_map(|command| &command.terms) {
        in_term(term, visit);
    }
}

fn in_term<'t>(term: &'t Term, visit: &mut dyn FnMut(&'t Term)) {
    visit(term);
    match &term.kind {
        TermKind::Pipe(pipe) => in_pipe(pipe, visit),
        TermKind::Chain(inner, _) => in_term(inner, visit),
        _ => {}
    }
}

/// The texts around a message's `.Thinking`: the first and last of the list that it
/// stands in, within a range over messages.
pub fn thinking_tags(root: &[Node]) -> Option<(String, String)> {
    let mut tags = (String::new(), String::new());
    thoughts(root, false, &mut tags);
    (!tags.0.is_empty() && !tags.1.is_empty()).then_some(tags)
}

fn thoughts(list: &[Node], of_messages: bool, tags: &mut (String, String)) {
    for node in list {
        match node {
            Node::Action(pipe) | Node::Template { pipe: Some(pipe), .. } => {
                note(list, pipe, of_messages, tags);
            }
            Node::Range(branch) => {
                let inner = starts_with_field(&branch.pipe, "Messages");
                // The innermost range counts, and its own list is part of it.
                note(list, &branch.pipe, inner, tags);
                in_branch(branch, inner, tags);
            }
            Node::If(branch) | Node::With(branch) => {
                note(list, &branch.pipe, of_messages, tags);
                in_branch(branch, of_messages, tags);
            }
            Node::Text(_) | Node::Template { .. } | Node::Break | Node::Continue => {}
        }
    }
}

fn in_branch(branch: &Branch, of_messages: bool, tags: &mut (String, String)) {
    thoughts(&branch.body, of_messages, tags);
    thoughts(branch.otherwise.as_deref().unwrap_or_default(), of_messages, tags);
}

fn note(list: &[Node], pipe: &Pipe, of_messages: bool, tags: &mut (String, String)) {
    if !of_messages || !starts_with_field(pipe, "Thinking") {
        return;
    }
    if let Some(Node::Text(text)) = list.first() {
        tags.0 = text.trim().to_owned();
    }
    if let Some(Node::Text(text)) = list.last() {
        tags.1 = text.trim().to_owned();
    }
}

fn starts_with_field(pipe: &Pipe, wanted: &str) -> bool {
    let mut found = false;
    in_pipe(pipe, &mut |term| {
        found |= matches!(&term.kind, TermKind::Field(names)
            if names.first().is_some_and(|name| &**name == wanted));
    });
    found
}
