//! Tokens → the tree, with the errors that Go's parser finds.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::TemplateError;
use super::lex::{Keyword, Kind, Token, lex};
use super::literal::unquote;
use super::node::{Branch, Node, Span};

/// Blocks and parentheses within each other.
const MAX_DEPTH: usize = 128;

/// A template and those that it defines.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// What it does.
    pub root: Vec<Node>,
    /// Templates by name.
    pub defined: BTreeMap<Arc<str>, Arc<Vec<Node>>>,
}

/// Parses `source`; `knows` tells the names of functions.
///
/// # Errors
/// What Go's parser refuses, and blocks deeper than 128.
pub fn parse(source: &str, knows: fn(&str) -> bool) -> Result<Tree, TemplateError> {
    let tokens = lex(source);
    let mut parser = Parser {
        source,
        tokens: tokens.list,
        lexical: tokens.error,
        at: 0,
        knows,
        variables: vec!["$".into()],
        ranges: 0,
        depth: 0,
        defined: BTreeMap::new(),
    };
    let root = parser.top()?;
    Ok(Tree { root, defined: parser.defined })
}

pub(super) struct Parser<'s> {
    pub(super) source: &'s str,
    pub(super) tokens: Vec<Token>,
    pub(super) lexical: Option<String>,
    pub(super) at: usize,
    pub(super) knows: fn(&str) -> bool,
    pub(super) variables: Vec<Arc<str>>,
    ranges: usize,
    depth: usize,
    defined: BTreeMap<Arc<str>, Arc<Vec<Node>>>,
}

/// What ends a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closing {
    End,
    Else,
}

/// What one action is.
enum Action {
    Node(Node),
    Closing(Closing),
    Nothing,
}

pub(super) type Result<T, E = TemplateError> = std::result::Result<T, E>;

impl Parser<'_> {
    pub(super) fn peek(&self) -> Token {
        // The last token is never passed.
        self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    pub(super) fn next(&mut self) -> Token {
        let token = self.peek();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    pub(super) fn peek_word(&mut self) -> Token {
        while self.peek().kind == Kind::Space {
            self.at += 1;
        }
        self.peek()
    }

    fn next_word(&mut self) -> Token {
        self.peek_word();
        self.next()
    }

    pub(super) fn text(&self, token: Token) -> &str {
        &self.source[token.start..token.end]
    }

    pub(super) fn shared(&self, token: Token) -> Arc<str> {
        self.text(token).into()
    }

    pub(super) fn error<T>(&self, what: impl Into<String>) -> Result<T> {
        let token = self.tokens[self.at.saturating_sub(1)];
        let line = 1 + self.source[..token.start].matches('\n').count();
        Err(TemplateError::Syntax { line, what: what.into() })
    }

    pub(super) fn unexpected<T>(&self, token: Token, context: &str) -> Result<T> {
        let shown = match token.kind {
            Kind::Error => {
                let what = self.lexical.clone().unwrap_or_default();
                let line = 1 + self.source[..token.start].matches('\n').count();
                return Err(TemplateError::Syntax { line, what });
            }
            Kind::End => "EOF".to_owned(),
            Kind::Keyword(_) => format!("<{}>", self.text(token)),
            _ => match self.text(token).char_indices().nth(10) {
                Some((cut, _)) => format!("{:?}...", &self.text(token)[..cut]),
                None => format!("{:?}", self.text(token)),
            },
        };
        self.error(format!("unexpected {shown} in {context}"))
    }

    fn expect(&mut self, kind: Kind, context: &str) -> Result<Token> {
        let token = self.next_word();
        if token.kind == kind { Ok(token) } else { self.unexpected(token, context) }
    }

    /// One level deeper, for `work`.
    pub(super) fn deeper<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth == MAX_DEPTH {
            return self.error(format!("blocks are nested deeper than {MAX_DEPTH}"));
        }
        self.depth += 1;
        let done = work(self);
        self.depth -= 1;
        done
    }

    fn top(&mut self) -> Result<Vec<Node>> {
        let mut root = Vec::new();
        loop {
            let token = self.next();
            match token.kind {
                Kind::End => return Ok(root),
                Kind::Text => root.push(Node::Text(self.shared(token))),
                Kind::Left if self.peek_word().kind == Kind::Keyword(Keyword::Define) => {
                    self.next();
                    self.define()?;
                }
                Kind::Left => match self.action()? {
                    Action::Node(node) => root.push(node),
                    Action::Nothing => {}
                    Action::Closing(Closing::End) => return self.error("unexpected {{end}}"),
                    Action::Closing(Closing::Else) => return self.error("unexpected {{else}}"),
                },
                _ => return self.unexpected(token, "input"),
            }
        }
    }

    /// The nodes up to `end` or `else`.
    fn list(&mut self) -> Result<(Vec<Node>, Closing)> {
        self.deeper(|parser| {
            let mut list = Vec::new();
            loop {
                let token = parser.next_word();
                match token.kind {
                    Kind::End => return parser.error("unexpected EOF"),
                    Kind::Text => list.push(Node::Text(parser.shared(token))),
                    Kind::Left => match parser.action()? {
                        Action::Node(node) => list.push(node),
                        Action::Nothing => {}
                        Action::Closing(closing) => return Ok((list, closing)),
                    },
                    _ => return parser.unexpected(token, "input"),
                }
            }
        })
    }

    fn action(&mut self) -> Result<Action> {
        let token = self.peek_word();
        if let Kind::Keyword(keyword) = token.kind
            && !matches!(keyword, Keyword::Define | Keyword::Nil)
        {
            self.next();
            return self.keyword(keyword);
        }
        let pipe = self.pipe("command", Kind::Right)?;
        Ok(Action::Node(Node::Action(pipe)))
    }

    fn keyword(&mut self, keyword: Keyword) -> Result<Action> {
        Ok(match keyword {
            Keyword::If => Action::Node(Node::If(self.branch(Keyword::If, "if")?)),
            Keyword::With => Action::Node(Node::With(self.branch(Keyword::With, "with")?)),
            Keyword::Range => Action::Node(Node::Range(self.branch(Keyword::Range, "range")?)),
            Keyword::Break => Action::Node(self.leave(Node::Break, "{{break}}")?),
            Keyword::Continue => Action::Node(self.leave(Node::Continue, "{{continue}}")?),
            Keyword::Template => Action::Node(self.call()?),
            Keyword::Block => Action::Node(self.block()?),
            Keyword::End => {
                self.expect(Kind::Right, "end")?;
                Action::Closing(Closing::End)
            }
            Keyword::Else => {
                let next = self.peek_word().kind;
                if !matches!(next, Kind::Keyword(Keyword::If | Keyword::With)) {
                    self.expect(Kind::Right, "else")?;
                }
                Action::Closing(Closing::Else)
            }
            Keyword::Define | Keyword::Nil => Action::Nothing,
        })
    }

    fn leave(&mut self, node: Node, name: &str) -> Result<Node> {
        self.expect(Kind::Right, name)?;
        if self.ranges == 0 {
            return self.error(format!("{name} outside {{{{range}}}}"));
        }
        Ok(node)
    }

    fn branch(&mut self, keyword: Keyword, context: &str) -> Result<Branch> {
        let variables = self.variables.len();
        let pipe = self.pipe(context, Kind::Right)?;
        let in_range = usize::from(keyword == Keyword::Range);
        self.ranges += in_range;
        let list = self.list();
        self.ranges -= in_range;
        let (body, closing) = list?;
        let otherwise = match closing {
            Closing::End => None,
            Closing::Else => Some(self.otherwise(keyword, context)?),
        };
        self.variables.truncate(variables);
        Ok(Branch { pipe, body, otherwise })
    }

    fn otherwise(&mut self, keyword: Keyword, context: &str) -> Result<Vec<Node>> {
        // `{{else if` and `{{else with` share the `{{end}}`.
        let again = keyword != Keyword::Range && self.peek_word().kind == Kind::Keyword(keyword);
        if again {
            self.next();
            let inner = self.deeper(|parser| parser.branch(keyword, context))?;
            let node = if keyword == Keyword::If { Node::If(inner) } else { Node::With(inner) };
            return Ok(vec![node]);
        }
        match self.list()? {
            (list, Closing::End) => Ok(list),
            (_, Closing::Else) => self.error("expected end; found {{else}}"),
        }
    }

    fn template_name(&mut self, context: &str) -> Result<Arc<str>> {
        let token = self.next_word();
        if !matches!(token.kind, Kind::Quoted | Kind::Raw) {
            return self.unexpected(token, context);
        }
        self.unquoted(token).map(Arc::from)
    }

    pub(super) fn unquoted(&self, token: Token) -> Result<String> {
        match unquote(self.text(token)) {
            Some(text) => Ok(text),
            None => self.error("invalid syntax"),
        }
    }

    fn call(&mut self) -> Result<Node> {
        let start = self.peek_word().start;
        let name = self.template_name("template clause")?;
        let mut pipe = None;
        if self.peek_word().kind == Kind::Right {
            self.next();
        } else {
            pipe = Some(self.pipe("template clause", Kind::Right)?);
        }
        let at = self.since(start);
        Ok(Node::Template { name, pipe, at })
    }

    fn define(&mut self) -> Result<()> {
        let name = self.template_name("define clause")?;
        self.expect(Kind::Right, "define clause")?;
        self.body(name, "define clause")
    }

    fn block(&mut self) -> Result<Node> {
        let start = self.peek_word().start;
        let name = self.template_name("block clause")?;
        let pipe = Some(self.pipe("block clause", Kind::Right)?);
        let at = self.since(start);
        self.body(name.clone(), "block clause")?;
        Ok(Node::Template { name, pipe, at })
    }

    /// The body of another template, which sees no variable from outside.
    fn body(&mut self, name: Arc<str>, context: &str) -> Result<()> {
        let variables = std::mem::replace(&mut self.variables, vec!["$".into()]);
        let ranges = std::mem::take(&mut self.ranges);
        let (list, closing) = self.list()?;
        self.variables = variables;
        self.ranges = ranges;
        if closing == Closing::Else {
            return self.error(format!("unexpected {{{{else}}}} in {context}"));
        }
        let old = self.defined.get(&name);
        if old.is_none_or(|old| is_blank(old)) {
            self.defined.insert(name, Arc::new(list));
        } else if !is_blank(&list) {
            return self.error(format!("multiple definition of template {name:?}"));
        }
        Ok(())
    }

    pub(super) fn since(&self, start: usize) -> Span {
        let last = self.tokens[self.at.saturating_sub(1)];
        let end = if last.kind == Kind::Right { last.start } else { last.end };
        Span { start, end: end.max(start) }
    }
}

/// Whether a template writes white space at most.
fn is_blank(list: &[Node]) -> bool {
    list.iter().all(|node| matches!(node, Node::Text(text) if text.trim().is_empty()))
}
