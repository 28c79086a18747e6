//! A template up to its response: what a turn says before the model answers.

use super::go::{Branch, Command, Node, Pipe, Span, Term, TermKind};

/// `{{ .Response }}`
pub fn response() -> Node {
    let at = Span::default();
    let term = Term { kind: TermKind::Field(vec!["Response".into()]), at };
    let commands = vec![Command { terms: vec![term], at }];
    Node::Action(Pipe { at, variables: Vec::new(), assigns: false, commands })
}

/// The nodes up to and with the first that writes the response; the rest is gone. In
/// conditions and calls the response does not count.
pub fn before_answer(root: &[Node]) -> Vec<Node> {
    list(root, &mut false)
}

fn list(nodes: &[Node], done: &mut bool) -> Vec<Node> {
    let mut kept = Vec::new();
    for each in nodes {
        if *done {
            break;
        }
        kept.extend(node(each, done));
    }
    kept
}

fn node(node: &Node, done: &mut bool) -> Option<Node> {
    Some(match node {
        Node::If(inner) => Node::If(branch(inner, done)),
        Node::With(inner) => Node::With(branch(inner, done)),
        Node::Range(inner) => Node::Range(branch(inner, done)),
        Node::Action(inner) => Node::Action(pipe(inner, done)?),
        other => other.clone(),
    })
}

fn branch(branch: &Branch, done: &mut bool) -> Branch {
    Branch {
        pipe: branch.pipe.clone(),
        body: list(&branch.body, done),
        otherwise: branch.otherwise.as_ref().map(|otherwise| list(otherwise, done)),
    }
}

fn pipe(pipe: &Pipe, done: &mut bool) -> Option<Pipe> {
    let mut commands = Vec::new();
    for command in &pipe.commands {
        if *done {
            break;
        }
        let mut terms = Vec::new();
        for each in &command.terms {
            if *done {
                break;
            }
            terms.extend(term(each, done));
        }
        if terms.is_empty() {
            return None;
        }
        commands.push(Command { terms, at: command.at });
    }
    (!commands.is_empty()).then(|| Pipe { commands, ..pipe.clone() })
}

fn term(term: &Term, done: &mut bool) -> Option<Term> {
    let kind = match &term.kind {
        TermKind::Field(names) => {
            *done = names.iter().any(|name| &**name == "Response");
            term.kind.clone()
        }
        TermKind::Pipe(inner) => TermKind::Pipe(Box::new(pipe(inner, done)?)),
        other => other.clone(),
    };
    Some(Term { kind, at: term.at })
}
