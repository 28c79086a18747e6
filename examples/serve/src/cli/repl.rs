//! A conversation: lines that are asked, and commands that begin with `/`.

use reqwest::Method;
use rustyline::error::ReadlineError;
use serde_json::{Value, json};

use super::answer::{Settings, answer};
use super::client::Client;
use super::screen::{Result, Screen};
use super::{models, show};

/// What a line is.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// To be asked.
    Text(String),
    /// A command and its words.
    Command(String, Vec<String>),
    /// Nothing.
    Empty,
}

/// Reads a line, or several between `"""`.
#[derive(Debug, Default)]
pub struct Reader {
    open: Option<String>,
}

impl Reader {
    /// Whether further lines belong to what has begun.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The next line; none while `"""` is open.
    pub fn push(&mut self, line: &str) -> Option<Line> {
        if let Some(mut text) = self.open.take() {
            match line.split_once("\"\"\"") {
                Some((before, _)) => return Some(Line::Text(text + before)),
                None => {
                    text.push_str(line);
                    text.push('\n');
                    self.open = Some(text);
                    return None;
                }
            }
        }
        let trimmed = line.trim();
        if let Some(rest) = trimmed.strip_prefix("\"\"\"") {
            return match rest.split_once("\"\"\"") {
                Some((text, _)) => Some(Line::Text(text.to_owned())),
                None => {
                    let begun = if rest.is_empty() { String::new() } else { format!("{rest}\n") };
                    self.open = Some(begun);
                    None
                }
            };
        }
        Some(parse(trimmed))
    }
}

fn parse(line: &str) -> Line {
    if line.is_empty() {
        return Line::Empty;
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

/// A conversation on its way.
struct Talk<'a, 'b> {
    client: &'a Client,
    screen: &'a mut Screen<'b>,
    settings: &'a mut Settings,
    messages: Vec<Value>,
}

/// Whether to go on.
#[derive(PartialEq)]
enum Next {
    Line,
    End,
}

/// Talks until the user leaves.
pub async fn talk(
    client: &Client,
    screen: &mut Screen<'_>,
    settings: &mut Settings,
    about: &Value,
) -> Result {
    let messages = about["messages"].as_array().cloned().unwrap_or_default();
    for message in &messages {
        writeln!(screen.out, ">>> {}", message["content"].as_str().unwrap_or_default())?;
    }
    let mut editor = rustyline::DefaultEditor::new()?;
    let history = std::env::home_dir().map(|home| home.join(".ollama").join("history"));
    let history = history.filter(|_| std::env::var("OLLAMA_NOHISTORY").is_err());
    if let Some(path) = &history {
        // No history yet is as good.
        let _ = editor.load_history(path);
    }
    let mut reader = Reader::default();
    // The model's own history is put before the messages by the server.
    let mut talk = Talk { client, screen, settings, messages: Vec::new() };
    loop {
        let prompt = if reader.is_open() { "... " } else { ">>> " };
        let line = match editor.readline(prompt) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => {
                if !reader.is_open() {
                    writeln!(talk.screen.out, "\nUse Ctrl + d or /bye to exit.")?;
                }
                reader = Reader::default();
                continue;
            }
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error.into()),
        };
        let _ = editor.add_history_entry(line.as_str());
        let Some(line) = reader.push(&line) else { continue };
        match talk.line(line).await {
            Ok(Next::Line) => {}
            Ok(Next::End) => break,
            // The conversation goes on: nothing of it is lost.
            Err(error) => eprintln!("Error: {error}"),
        }
    }
    if let Some(path) = &history {
        let _ = editor.save_history(path);
    }
    Ok(())
}

const HELP: &str = "Available Commands:
  /set            Set session variables
  /show           Show model information
  /load <model>   Load a session or model
  /save <model>   Save your current session
  /clear          Clear session context
  /list           List models
  /bye            Exit
  /?, /help       Help for a command

Use \"\"\" to begin a multi-line message.
";

const HELP_SET: &str = "Available Commands:
  /set parameter ...     Set a parameter
  /set system <string>   Set system message
  /set history           Remember the conversation
  /set nohistory         Ask each line by itself
  /set wordwrap          Enable wordwrap
  /set nowordwrap        Disable wordwrap
  /set format json       Enable JSON mode
  /set noformat          Disable formatting
  /set verbose           Show LLM stats
  /set quiet             Disable LLM stats
  /set think             Enable thinking
  /set nothink           Disable thinking
";

const HELP_SHOW: &str = "Available Commands:
  /show info         Show details for this model
  /show license      Show model license
  /show modelfile    Show Modelfile for this model
  /show parameters   Show parameters for this model
  /show system       Show system message
  /show template     Show prompt template
";

impl Talk<'_, '_> {
    async fn line(&mut self, line: Line) -> Result<Next> {
        match line {
            Line::Empty => {}
            Line::Text(text) => self.ask(text).await?,
            Line::Command(name, words) => {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                return self.command(&name, &words).await;
            }
        }
        Ok(Next::Line)
    }

    async fn ask(&mut self, text: String) -> Result {
        let mut body = self.settings.body();
        let mut messages = Vec::new();
        if let Some(system) = &self.settings.system {
            messages.push(json!({"role": "system", "content": system}));
        }
        messages.extend(self.messages.iter().cloned());
        let question = json!({"role": "user", "content": text});
        messages.push(question.clone());
        body.insert("messages".into(), messages.into());
        let said = answer(self.client, self.screen, "/api/chat", body, self.settings).await?;
        if !self.settings.forget {
            self.messages.push(question);
            self.messages.push(json!({"role": "assistant", "content": said}));
        }
        Ok(())
    }

    async fn command(&mut self, name: &str, words: &[&str]) -> Result<Next> {
        match (name, words) {
            ("bye" | "exit", _) => return Ok(Next::End),
            ("?" | "help", ["set", ..]) => self.say(HELP_SET)?,
            ("?" | "help", ["show", ..]) => self.say(HELP_SHOW)?,
            ("?" | "help", _) => self.say(HELP)?,
            ("clear", _) => {
                self.messages.clear();
                self.say("Cleared session context\n")?;
            }
            ("list" | "ls", _) => models::list(self.client, self.screen, None).await?,
            ("load", [model]) => self.load(model).await?,
            ("save", [model]) => self.save(model).await?,
            ("load" | "save", _) => self.say(&format!("Usage:\n  /{name} <modelname>\n"))?,
            ("set", words) => self.set(words)?,
            ("show", words) => self.show(words).await?,
            _ => {
                let text = format!("Unknown command '/{name}'. Type /? for help\n");
                self.say(&text)?;
            }
        }
        Ok(Next::Line)
    }

    fn say(&mut self, text: &str) -> Result {
        self.screen.out.write_all(text.as_bytes())?;
        Ok(())
    }

    async fn load(&mut self, model: &str) -> Result {
        self.client.call(Method::POST, "/api/show", &json!({"model": model})).await?;
        self.settings.model = model.to_owned();
        self.messages.clear();
        self.say(&format!("Loading model '{model}'\n"))?;
        let body = Value::Object(self.settings.body());
        self.client.stream("/api/generate", &body).await?.next().await.map(drop)
    }

    async fn save(&mut self, model: &str) -> Result {
        let mut body = json!({
            "model": model,
            "from": self.settings.model,
            "messages": self.messages,
            "stream": false,
        });
        if !self.settings.options.is_empty() {
            body["parameters"] = self.settings.options.clone().into();
        }
        if let Some(system) = &self.settings.system {
            body["system"] = system.as_str().into();
        }
        self.client.call(Method::POST, "/api/create", &body).await?;
        self.say(&format!("Created new model '{model}'\n"))
    }

    fn set(&mut self, words: &[&str]) -> Result {
        let said = change(self.settings, words)?;
        self.say(&said)
    }

    async fn show(&mut self, words: &[&str]) -> Result {
        let body = json!({"model": self.settings.model});
        let about = self.client.call(Method::POST, "/api/show", &body).await?;
        match words {
            ["info"] => show::overview(self.screen.out, &about, false),
            [part @ ("license" | "modelfile" | "parameters" | "system" | "template")] => {
                let own = match *part {
                    "system" => self.settings.system.as_deref(),
                    _ => None,
                };
                let text = own.or(about[*part].as_str()).unwrap_or_default();
                let none = format!("No {part} was specified for this model.");
                let text = if text.is_empty() { &none } else { text };
                self.say(&format!("{text}\n"))
            }
            _ => self.say(HELP_SHOW),
        }
    }
}

/// What `/set` changes; what to say about it.
///
/// # Errors
/// A value that does not fit.
pub fn change(settings: &mut Settings, words: &[&str]) -> Result<String> {
    let said = match words {
        ["parameter", name, values @ ..] if !values.is_empty() => {
            let value = crate::modelfile::parameter(name, values)?;
            settings.options.insert((*name).to_owned(), value);
            format!("Set parameter '{name}' to '{}'\n", values.join(", "))
        }
        ["parameter", ..] => PARAMETERS.into(),
        ["system", words @ ..] if !words.is_empty() => {
            let text = words.join(" ");
            settings.system = Some(text.trim_matches('"').to_owned());
            "Set system message.\n".into()
        }
        ["history"] => {
            settings.forget = false;
            "Set 'history' mode.\n".into()
        }
        ["nohistory"] => {
            settings.forget = true;
            "Set 'nohistory' mode.\n".into()
        }
        ["wordwrap"] => {
            settings.width = 80;
            "Set 'wordwrap' mode.\n".into()
        }
        ["nowordwrap"] => {
            settings.width = 0;
            "Set 'nowordwrap' mode.\n".into()
        }
        ["format", "json"] => {
            settings.format = Some("json".into());
            "Set format to 'json' mode.\n".into()
        }
        ["noformat"] => {
            settings.format = None;
            "Disabled format.\n".into()
        }
        ["verbose"] => {
            settings.verbose = true;
            "Set 'verbose' mode.\n".into()
        }
        ["quiet"] => {
            settings.verbose = false;
            "Set 'quiet' mode.\n".into()
        }
        ["think"] => {
            settings.think = Some(true.into());
            "Set 'think' mode.\n".into()
        }
        ["think", level] => {
            settings.think = Some((*level).into());
            format!("Set 'think' mode to '{level}'.\n")
        }
        ["nothink"] => {
            settings.think = Some(false.into());
            "Set 'nothink' mode.\n".into()
        }
        _ => HELP_SET.into(),
    };
    Ok(said)
}

const PARAMETERS: &str = "Available Parameters:
  /set parameter seed <int>             Random number seed
  /set parameter num_predict <int>      Max number of tokens to predict
  /set parameter top_k <int>            Pick from top k num of tokens
  /set parameter top_p <float>          Pick token based on sum of probabilities
  /set parameter min_p <float>          Pick token based on top token probability * min_p
  /set parameter num_ctx <int>          Set the context size
  /set parameter temperature <float>    Set creativity level
  /set parameter repeat_penalty <float> How strongly to penalize repetitions
  /set parameter repeat_last_n <int>    Set how far back to look for repetitions
  /set parameter stop <string> <string> ...   Set the stop parameters
";
