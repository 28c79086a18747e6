//! A template's source → tokens, by the rules of Go's `text/template/parse`.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Left,
    Right,
    Space,
    Assign,
    Declare,
    Pipe,
    Comma,
    Other,
    Quoted,
    Raw,
    Char,
    Number,
    Variable,
    Field,
    Identifier,
    Bool,
    Dot,
    Keyword(Keyword),
    OpenParen,
    CloseParen,
    /// What follows is no token; [`Tokens::error`] says why.
    Error,
    End,
}

/// The words of the language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keyword {
    Block,
    Break,
    Continue,
    Define,
    Else,
    End,
    If,
    Nil,
    Range,
    Template,
    With,
}

impl Keyword {
    fn of(word: &str) -> Option<Self> {
        Some(match word {
            "block" => Keyword::Block,
            "break" => Keyword::Break,
            "continue" => Keyword::Continue,
            "define" => Keyword::Define,
            "else" => Keyword::Else,
            "end" => Keyword::End,
            "if" => Keyword::If,
            "nil" => Keyword::Nil,
            "range" => Keyword::Range,
            "template" => Keyword::Template,
            "with" => Keyword::With,
            _ => return None,
        })
    }
}

/// A token and where it is in the source.
#[derive(Debug, Clone, Copy)]
pub struct Token {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
}

/// All tokens; the last is [`Kind::End`] or [`Kind::Error`].
pub struct Tokens {
    pub list: Vec<Token>,
    pub error: Option<String>,
}

const LEFT: &str = "{{";
const RIGHT: &str = "}}";
/// A trim marker has a minus and a space.
const MARKER: usize = 2;

/// Splits `source`.
pub fn lex(source: &str) -> Tokens {
    let mut lexer = Lexer { source, at: 0, list: Vec::new() };
    let error = lexer.whole().err();
    let kind = if error.is_some() { Kind::Error } else { Kind::End };
    lexer.list.push(Token { kind, start: lexer.at, end: lexer.at });
    Tokens { list: lexer.list, error }
}

struct Lexer<'s> {
    source: &'s str,
    at: usize,
    list: Vec<Token>,
}

fn is_space(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\r' | '\n')
}

fn is_word(letter: char) -> bool {
    letter == '_' || letter.is_alphanumeric()
}

/// `}}` or ` -}}`, at the start of `rest`: its length, and whether it trims.
fn right_delimiter(rest: &str) -> Option<(usize, bool)> {
    if rest.starts_with(RIGHT) {
        return Some((RIGHT.len(), false));
    }
    let mut letters = rest.chars();
    let trims = letters.next().is_some_and(is_space)
        && letters.next() == Some('-')
        && rest[MARKER..].starts_with(RIGHT);
    trims.then_some((MARKER + RIGHT.len(), true))
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn push(&mut self, kind: Kind, length: usize) {
        self.list.push(Token { kind, start: self.at, end: self.at + length });
        self.at += length;
    }

    fn whole(&mut self) -> Result<(), String> {
        while self.text() {
            let marked = self.rest()[LEFT.len()..].strip_prefix('-');
            let marker =
                if marked.is_some_and(|rest| rest.starts_with(is_space)) { MARKER } else { 0 };
            if self.rest()[LEFT.len() + marker..].starts_with("/*") {
                self.at += LEFT.len() + marker;
                self.comment()?;
            } else {
                self.push(Kind::Left, LEFT.len());
                self.at += marker;
                self.action()?;
            }
        }
        Ok(())
    }

    /// The text up to the next action; whether there is one.
    fn text(&mut self) -> bool {
        let rest = self.rest();
        let Some(length) = rest.find(LEFT) else {
            if !rest.is_empty() {
                self.push(Kind::Text, rest.len());
            }
            return false;
        };
        let marked = rest[length + LEFT.len()..].strip_prefix('-');
        let text = match marked {
            Some(rest_of_action) if rest_of_action.starts_with(is_space) => {
                rest[..length].trim_end_matches(is_space)
            }
            _ => &rest[..length],
        };
        let start = self.at;
        if !text.is_empty() {
            self.push(Kind::Text, text.len());
        }
        self.at = start + length;
        true
    }

    fn comment(&mut self) -> Result<(), String> {
        let length = self.rest()[2..].find("*/").ok_or("unclosed comment")?;
        self.at += length + 4;
        let (length, trims) =
            right_delimiter(self.rest()).ok_or("comment ends before closing delimiter")?;
        self.close(length, trims);
        Ok(())
    }

    fn close(&mut self, length: usize, trims: bool) {
        self.at += length;
        if trims {
            self.at += self.rest().len() - self.rest().trim_start_matches(is_space).len();
        }
    }

    fn action(&mut self) -> Result<(), String> {
        let mut parens = 0usize;
        loop {
            let rest = self.rest();
            if let Some((length, trims)) = right_delimiter(rest) {
                if parens > 0 {
                    return Err("unclosed left paren".into());
                }
                self.list.push(Token { kind: Kind::Right, start: self.at, end: self.at + length });
                self.close(length, trims);
                return Ok(());
            }
            let letter = rest.chars().next().ok_or("unclosed action")?;
            match letter {
                '(' => {
                    parens += 1;
                    self.push(Kind::OpenParen, 1);
                }
                ')' => {
                    parens = parens.checked_sub(1).ok_or("unexpected right paren")?;
                    self.push(Kind::CloseParen, 1);
                }
                _ => self.inside(letter)?,
            }
        }
    }

    fn inside(&mut self, letter: char) -> Result<(), String> {
        let rest = self.rest();
        match letter {
            _ if is_space(letter) => self.space(),
            '=' => self.push(Kind::Assign, 1),
            ':' if rest.starts_with(":=") => self.push(Kind::Declare, 2),
            ':' => return Err("expected :=".into()),
            '|' => self.push(Kind::Pipe, 1),
            ',' => self.push(Kind::Comma, 1),
            '"' => self.quoted(Kind::Quoted, '"', "unterminated quoted string")?,
            '\'' => self.quoted(Kind::Char, '\'', "unterminated character constant")?,
            '`' => {
                let length = rest[1..].find('`').ok_or("unterminated raw quoted string")?;
                self.push(Kind::Raw, length + 2);
            }
            '$' => self.name(Kind::Variable, Kind::Variable)?,
            '.' if !rest[1..].starts_with(|next: char| next.is_ascii_digit()) => {
                self.name(Kind::Field, Kind::Dot)?;
            }
            '.' | '+' | '-' | '0'..='9' => self.number()?,
            _ if is_word(letter) => self.word()?,
            ' '..='~' => self.push(Kind::Other, 1),
            _ => {
                let code = u32::from(letter);
                return Err(format!("unrecognized character in action: U+{code:04X}"));
            }
        }
        Ok(())
    }

    /// Spaces, without one that belongs to a trimming delimiter.
    fn space(&mut self) {
        let rest = self.rest();
        let length = rest.len() - rest.trim_start_matches(is_space).len();
        let before = right_delimiter(&rest[length - 1..]).is_some_and(|(_, trims)| trims);
        self.push(Kind::Space, if before { length - 1 } else { length });
    }

    fn quoted(&mut self, kind: Kind, quote: char, unterminated: &str) -> Result<(), String> {
        let mut letters = self.rest().char_indices().skip(1);
        while let Some((at, letter)) = letters.next() {
            match letter {
                '\n' => break,
                '\\' if !matches!(letters.next(), Some((_, next)) if next != '\n') => break,
                '\\' => {}
                _ if letter == quote => {
                    self.push(kind, at + 1);
                    return Ok(());
                }
                _ => {}
            }
        }
        Err(unterminated.into())
    }

    /// A field or variable; alone it is `bare`.
    fn name(&mut self, kind: Kind, bare: Kind) -> Result<(), String> {
        let rest = self.rest();
        let end = rest[1..].find(|c| !is_word(c)).map_or(rest.len(), |at| at + 1);
        self.check_terminated(end)?;
        self.push(if end == 1 { bare } else { kind }, end);
        Ok(())
    }

    fn word(&mut self) -> Result<(), String> {
        let rest = self.rest();
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        self.check_terminated(end)?;
        let kind = match (&rest[..end], Keyword::of(&rest[..end])) {
            (_, Some(keyword)) => Kind::Keyword(keyword),
            ("true" | "false", _) => Kind::Bool,
            _ => Kind::Identifier,
        };
        self.push(kind, end);
        Ok(())
    }

    fn check_terminated(&self, end: usize) -> Result<(), String> {
        let rest = &self.rest()[end..];
        match rest.chars().next() {
            None | Some('.' | ',' | '|' | ':' | ')' | '(') => Ok(()),
            Some(letter) if is_space(letter) || rest.starts_with(RIGHT) => Ok(()),
            Some(letter) => Err(format!("bad character U+{:04X} '{letter}'", u32::from(letter))),
        }
    }

    fn number(&mut self) -> Result<(), String> {
        let rest = self.rest();
        let mut left = rest.trim_start_matches(['+', '-']);
        if rest.len() - left.len() > 1 {
            left = &rest[1..];
        }
        let hexadecimal = left.starts_with("0x") || left.starts_with("0X");
        let digits: fn(char) -> bool = match left.get(..2) {
            Some("0x" | "0X") => |c| c.is_ascii_hexdigit() || c == '_',
            Some("0o" | "0O" | "0b" | "0B") => |c| c.is_ascii_digit() || c == '_',
            _ => |c| c.is_ascii_digit() || c == '_',
        };
        if matches!(left.get(..2), Some("0x" | "0X" | "0o" | "0O" | "0b" | "0B")) {
            left = &left[2..];
        }
        left = left.trim_start_matches(digits);
        if let Some(fraction) = left.strip_prefix('.') {
            left = fraction.trim_start_matches(digits);
        }
        if let Some(exponent) = left.strip_prefix(['e', 'E']).filter(|_| !hexadecimal) {
            let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            left = exponent.trim_start_matches(|c: char| c.is_ascii_digit() || c == '_');
        }
        if let Some(next) = left.chars().next().filter(|&next| is_word(next)) {
            let length = rest.len() - left.len() + next.len_utf8();
            return Err(format!("bad number syntax: {:?}", &rest[..length]));
        }
        self.push(Kind::Number, rest.len() - left.len());
        Ok(())
    }
}
