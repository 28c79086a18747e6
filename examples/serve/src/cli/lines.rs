//! Lines of a conversation: what is asked, commands, and texts of several lines.

/// Begins and ends a text of several lines.
const QUOTES: &str = "\"\"\"";

/// What a line is.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// To be asked.
    Text(String),
    /// The model's new system text.
    System(String),
    /// A command and its words.
    Command(String, Vec<String>),
    /// Nothing.
    Empty,
}

/// What a text of several lines becomes.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Text,
    System,
}

impl Kind {
    fn line(self, text: String) -> Line {
        match self {
            Kind::Text => Line::Text(text),
            Kind::System => Line::System(text),
        }
    }
}

/// Reads lines. `"""` at the beginning of a message, or of a system text, opens a text of
/// several lines; `"""` at the end of a line closes it, and only there: inside a line it
/// is text.
#[derive(Debug, Default)]
pub struct Reader {
    open: Option<(Kind, String)>,
}

impl Reader {
    /// Whether further lines belong to what has begun.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// What was typed, or pasted: several lines at once. None while a text is open.
    pub fn push(&mut self, typed: &str) -> Option<Line> {
        if !self.is_open() && opening(typed.trim()).is_none() {
            return Some(parse(typed.trim()));
        }
        let mut lines = typed.split('\n');
        while let Some(line) = lines.next() {
            let Some(done) = self.line(line.strip_suffix('\r').unwrap_or(line)) else { continue };
            let rest = lines.collect::<Vec<_>>().join("\n");
            return Some(match done {
                // Pasted after the end: nothing of it is lost.
                Line::Text(text) if !rest.trim().is_empty() => Line::Text(text + "\n" + &rest),
                done => done,
            });
        }
        None
    }

    fn line(&mut self, line: &str) -> Option<Line> {
        let (kind, mut text, line) = match self.open.take() {
            Some((kind, text)) => (kind, text, line),
            None => {
                let (kind, rest) = opening(line.trim())?;
                if rest.is_empty() {
                    self.open = Some((kind, String::new()));
                    return None;
                }
                (kind, String::new(), rest)
            }
        };
        match line.trim_end().strip_suffix(QUOTES) {
            Some(before) => Some(kind.line(text + before)),
            None => {
                text.push_str(line);
                text.push('\n');
                self.open = Some((kind, text));
                None
            }
        }
    }
}

/// What stands after `"""`, if a text of several lines begins here.
fn opening(line: &str) -> Option<(Kind, &str)> {
    if let Some(rest) = line.strip_prefix(QUOTES) {
        return Some((Kind::Text, rest));
    }
    Some((Kind::System, system(line)?.strip_prefix(QUOTES)?))
}

/// The rest of `/set system …`.
fn system(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("/set")?;
    let rest = rest.strip_prefix(char::is_whitespace)?.trim_start().strip_prefix("system")?;
    let rest = rest.strip_prefix(char::is_whitespace)?.trim_start();
    (!rest.is_empty()).then_some(rest)
}

fn parse(line: &str) -> Line {
    if line.is_empty() {
        return Line::Empty;
    }
    if let Some(text) = system(line) {
        return Line::System(text.trim_matches('"').to_owned());
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    match words.next() {
        // A path is no command.
        Some(first) if first.starts_with('/') && !first[1..].contains('/') => {
            Line::Command(first[1..].to_owned(), words.collect())
        }
        _ => Line::Text(line.to_owned()),
    }
}
