//! Modelfiles: what a model is made of, as people write it and as `show` prints it.

use std::fmt;

use serde_json::{Map, Value as Json};
use tramontane::Message;

use crate::catalog::{Settings, params};
use crate::prompt::quote;
use crate::wire;

/// What the instructions of a Modelfile say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Modelfile {
    /// Models, files or folders; at least one.
    pub from: Vec<String>,
    /// Options, each of its type; `stop` is a list.
    pub parameters: Map<String, Json>,
    /// Options that nobody uses any more, and that were left out.
    pub deprecated: Vec<String>,
    /// The Go template.
    pub template: Option<String>,
    /// The system text.
    pub system: Option<String>,
    /// Files of adapters.
    pub adapters: Vec<String>,
    /// Licences.
    pub licenses: Vec<String>,
    /// What every conversation begins with.
    pub messages: Vec<Message>,
    /// Ollama's renderer.
    pub renderer: Option<String>,
    /// Ollama's parser.
    pub parser: Option<String>,
    /// The oldest version that runs it, without a `v`.
    pub requires: Option<String>,
    /// Files of a draft model.
    pub drafts: Vec<String>,
}

/// Why a Modelfile cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelfileError {
    /// Something is wrong on a line.
    #[error("(line {line}): {what}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// Something is wrong with it as a whole, or with a value.
    #[error("{0}")]
    Whole(String),
}

type Result<T> = std::result::Result<T, ModelfileError>;

const NO_FROM: &str = "no FROM line";
const BAD_ROLE: &str = "message role must be one of \"system\", \"user\", or \"assistant\"";
const BAD_COMMAND: &str = "command must be one of \"from\", \"license\", \"template\", \"system\", \
    \"adapter\", \"draft\", \"renderer\", \"parser\", \"parameter\", \"message\", or \"requires\"";
const BAD_VERSION: &str = "requires must be a valid semver (e.g. 0.14.0)";

/// Bytes of a Modelfile.
const MAX_SOURCE: usize = 16 << 20;

/// The instructions; a parameter and a message have a name more.
const COMMANDS: [&str; 11] = [
    "from",
    "license",
    "template",
    "system",
    "adapter",
    "draft",
    "renderer",
    "parser",
    "parameter",
    "message",
    "requires",
];

impl Modelfile {
    /// Reads a Modelfile in UTF-8, or in UTF-16 with a byte order mark.
    ///
    /// # Errors
    /// What is no instruction, no value of its option's type, or without `FROM`.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > MAX_SOURCE {
            return Err(ModelfileError::Whole("the Modelfile is larger than 16 MiB".into()));
        }
        let text = wire::text(bytes);
        let mut reader = Reader { text: &text, at: 0 };
        let mut commands = Vec::new();
        while let Some(command) = reader.command()? {
            commands.push(command);
        }
        if !commands.iter().any(|command| command.name == "from") {
            return Err(ModelfileError::Whole(NO_FROM.into()));
        }
        let mut file = Modelfile::default();
        for command in commands {
            file.add(command)?;
        }
        Ok(file)
    }

    fn add(&mut self, command: Command) -> Result<()> {
        let Command { name, key, value } = command;
        match name.as_str() {
            "from" => self.from.push(value),
            "license" => self.licenses.push(value),
            "template" => self.template = Some(value),
            "system" => self.system = Some(value),
            "adapter" => self.adapters.push(value),
            "draft" => self.drafts.push(value),
            "renderer" => self.renderer = Some(value),
            "parser" => self.parser = Some(value),
            "requires" => self.requires = Some(version(&value)?),
            "message" => self.messages.push(Message::new(key, value)),
            _ => return self.add_parameter(key, value),
        }
        Ok(())
    }

    fn add_parameter(&mut self, key: String, text: String) -> Result<()> {
        if params::DEPRECATED.contains(&key.as_str()) {
            self.deprecated.push(key);
            return Ok(());
        }
        let value = params::typed(&key, &text).map_err(ModelfileError::Whole)?;
        match (self.parameters.get_mut(&key), value) {
            (Some(Json::Array(old)), Json::Array(more)) => old.extend(more),
            (_, value) => {
                self.parameters.insert(key, value);
            }
        }
        Ok(())
    }
}

/// The text that `show` prints for the model `name`, whose weights are at `from`.
pub fn generated(name: &str, from: &str, settings: &Settings) -> String {
    let file = Modelfile {
        from: vec![from.to_owned()],
        parameters: settings.params.clone(),
        template: settings.template.clone(),
        system: settings.system.clone().filter(|text| !text.is_empty()),
        licenses: settings.licenses.clone(),
        messages: settings.messages.clone(),
        ..Modelfile::default()
    };
    format!(
        "# Modelfile generated by \"ollama show\"\n\
         # To build a new Modelfile based on this, replace FROM with:\n\
         # FROM {name}\n\n{file}"
    )
}

/// The Modelfile that says the same; reading it gives an equal one.
impl fmt::Display for Modelfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, others) = self.from.split_at(self.from.len().min(1));
        let all = |f: &mut fmt::Formatter<'_>, name: &str, values: &[String]| {
            values.iter().try_for_each(|value| writeln!(f, "{name} {}", quoted(value)))
        };
        let one = |value: &Option<String>| value.iter().cloned().collect::<Vec<_>>();
        all(f, "FROM", first)?;
        all(f, "ADAPTER", &self.adapters)?;
        all(f, "DRAFT", &self.drafts)?;
        all(f, "FROM", others)?;
        all(f, "TEMPLATE", &one(&self.template))?;
        all(f, "SYSTEM", &one(&self.system))?;
        all(f, "RENDERER", &one(&self.renderer))?;
        all(f, "PARSER", &one(&self.parser))?;
        all(f, "REQUIRES", &one(&self.requires))?;
        for (key, value) in each_parameter(&self.parameters) {
            writeln!(f, "PARAMETER {key} {}", quoted(&plain(value)))?;
        }
        all(f, "LICENSE", &self.licenses)?;
        for message in &self.messages {
            writeln!(f, "MESSAGE {} {}", message.role(), quoted(&message.content()))?;
        }
        Ok(())
    }
}

/// The text `parameters` of `show`: a line for every value, sorted by key.
pub fn parameters_text(parameters: &Map<String, Json>) -> String {
    let line = |(key, value): (&String, &Json)| match value {
        Json::String(text) => format!("{key:<30} {}", quote(text)),
        value => format!("{key:<30} {}", plain(value)),
    };
    each_parameter(parameters).into_iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Keys and values, sorted by key, lists as several values of one key.
fn each_parameter(parameters: &Map<String, Json>) -> Vec<(&String, &Json)> {
    let mut keys: Vec<_> = parameters.keys().collect();
    keys.sort();
    let values = |key| match &parameters[key] {
        Json::Array(values) => values.iter().map(|value| (key, value)).collect(),
        value => vec![(key, value)],
    };
    keys.into_iter().flat_map(values).collect()
}

fn plain(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Number(number) if number.is_f64() => {
            let value = number.as_f64().unwrap_or_default();
            format!("{value}")
        }
        other => other.to_string(),
    }
}

/// A value as it can be read again: in quotes where it must be, and then in three if
/// it has one itself.
fn quoted(value: &str) -> String {
    let edges = value.starts_with(char::is_whitespace) || value.ends_with(char::is_whitespace);
    if !edges && !value.contains(['\n', '\r']) && !value.starts_with('"') {
        return value.to_owned();
    }
    if value.contains('"') { format!("\"\"\"{value}\"\"\"") } else { format!("\"{value}\"") }
}

/// One instruction.
struct Command {
    /// In lower case.
    name: String,
    /// Of a parameter its name, of a message its role.
    key: String,
    value: String,
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

fn is_blank(letter: char) -> bool {
    matches!(letter, ' ' | '\t')
}

fn is_line_end(letter: char) -> bool {
    matches!(letter, '\r' | '\n')
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    /// The line of what was read last.
    fn error<T>(&self, what: &'static str) -> Result<T> {
        let read = &self.text[..self.at];
        let line = 1 + read.matches('\n').count();
        Err(ModelfileError::Line { line, what })
    }

    fn skip(&mut self, skipped: fn(char) -> bool) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches(skipped).len();
    }

    fn take(&mut self, taken: fn(char) -> bool) -> &'t str {
        let before = self.rest();
        self.skip(taken);
        &before[..before.len() - self.rest().len()]
    }

    fn command(&mut self) -> Result<Option<Command>> {
        loop {
            self.skip(|letter| is_blank(letter) || is_line_end(letter));
            if !self.rest().starts_with('#') {
                break;
            }
            self.skip(|letter| !is_line_end(letter));
        }
        if self.rest().is_empty() {
            return Ok(None);
        }
        let name = self.take(|letter| letter.is_ascii_alphabetic()).to_ascii_lowercase();
        let known = COMMANDS.contains(&name.as_str());
        if self.rest().is_empty() && !name.is_empty() {
            return Err(ModelfileError::Whole("unexpected EOF".into()));
        }
        if !known || !self.rest().starts_with(is_blank) {
            return self.error(BAD_COMMAND);
        }
        let key = match name.as_str() {
            "parameter" => self.key(|letter| letter.is_ascii_alphanumeric() || letter == '_')?,
            "message" => {
                let role = self.key(|letter| letter.is_ascii_alphabetic())?;
                if !matches!(role.as_str(), "system" | "user" | "assistant") {
                    return self.error(BAD_ROLE);
                }
                role
            }
            _ => String::new(),
        };
        let value = self.value()?;
        Ok(Some(Command { name, key, value }))
    }

    /// A word between the instruction and its value.
    fn key(&mut self, letters: fn(char) -> bool) -> Result<String> {
        self.skip(is_blank);
        let key = self.take(letters);
        if self.rest().starts_with(is_blank) {
            return Ok(key.to_owned());
        }
        let what = if self.rest().is_empty() { String::new() } else { format!(": {key}") };
        Err(ModelfileError::Whole(format!("unexpected EOF{what}")))
    }

    /// The rest of the line, or what stands in quotes, to the first line that ends with
    /// them.
    fn value(&mut self) -> Result<String> {
        self.skip(is_blank);
        let rest = self.rest();
        let quotes = if rest.starts_with("\"\"\"") {
            "\"\"\""
        } else if rest.starts_with('"') {
            "\""
        } else {
            ""
        };
        let inner = &rest[quotes.len()..];
        let mut end = 0;
        loop {
            let line = inner[end..].find(is_line_end).map_or(inner.len(), |length| end + length);
            // Only this line is looked at: what is before it did not end the value.
            let text = inner[end..line].trim_end();
            let closed = text.strip_suffix(quotes);
            if let Some(text) = closed {
                let value = &inner[..end + text.len()];
                self.at += quotes.len() + line;
                return Ok(value.chars().filter(|&letter| is_kept(letter)).collect());
            }
            end = line + inner[line..].chars().next().map_or(0, char::len_utf8);
            if end == line {
                return Err(ModelfileError::Whole("unexpected EOF".into()));
            }
        }
    }
}

/// Control characters are no text.
fn is_kept(letter: char) -> bool {
    !letter.is_control() || matches!(letter, '\n' | '\r' | '\t')
}

/// A semantic version without its `v`; `1` and `1.2` will do.
fn version(text: &str) -> Result<String> {
    let bare = text.strip_prefix('v').unwrap_or(text);
    let (core, build) = bare.split_once('+').map_or((bare, None), |(core, b)| (core, Some(b)));
    let (core, pre) = core.split_once('-').map_or((core, None), |(core, pre)| (core, Some(pre)));
    let numbers: Vec<_> = core.split('.').collect();
    let number = |n: &&str| {
        !n.is_empty()
            && n.bytes().all(|b| b.is_ascii_digit())
            && (n.len() == 1 || !n.starts_with('0'))
    };
    let word = |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let is_number = |w: &str| w.bytes().all(|b| b.is_ascii_digit());
    let pre_word = |w: &str| word(w) && (!is_number(w) || w.len() == 1 || !w.starts_with('0'));
    let whole = numbers.len() == 3;
    let good = (1..=3).contains(&numbers.len())
        && numbers.iter().all(number)
        && pre.is_none_or(|pre| whole && pre.split('.').all(pre_word))
        && build.is_none_or(|build| whole && build.split('.').all(word));
    if good { Ok(bare.to_owned()) } else { Err(ModelfileError::Whole(BAD_VERSION.into())) }
}

/// The value of an option that stands on a command line: of the option's type; `stop`
/// takes several.
///
/// # Errors
/// An option that is none, a value of another type.
pub fn parameter(key: &str, values: &[&str]) -> Result<Json> {
    match (key, values) {
        ("stop", values) => Ok(values.iter().copied().map(Json::from).collect()),
        (key, values) => params::typed(key, &values.join(" ")).map_err(ModelfileError::Whole),
    }
}
