//! A conversation: lines that are asked, and commands that begin with `/`.

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::answer::{Settings, answer};
use super::client::Client;
use super::editor::{Editor, Typed};
use super::history::History;
use super::lines::{Line, Reader};
use super::screen::{Result, Screen};
use super::{models, show};

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
    let mut editor = Editor::new(History::of_user())?;
    let mut reader = Reader::default();
    // The model's own history is put before the messages by the server.
    let mut talk = Talk { client, screen, settings, messages: Vec::new() };
    loop {
        let line = match editor.read(reader.is_open(), !talk.settings.no_history)? {
            Typed::Line(line) => line,
            Typed::Interrupted => {
                if !reader.is_open() {
                    writeln!(talk.screen.out, "\nUse Ctrl + d or /bye to exit.")?;
                }
                reader = Reader::default();
                continue;
            }
            Typed::End => break,
        };
        let Some(line) = reader.push(&line) else { continue };
        match talk.line(line).await {
            Ok(Next::Line) => {}
            Ok(Next::End) => break,
            // The conversation goes on: nothing of it is lost.
            Err(error) => eprintln!("Error: {error}"),
        }
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
  /? shortcuts    Help for keyboard shortcuts

Use \"\"\" to begin a multi-line message.
";

const HELP_SHORTCUTS: &str = "Available keyboard shortcuts:
  Ctrl + a            Move to the beginning of the line (Home)
  Ctrl + e            Move to the end of the line (End)
   Alt + b            Move back (left) one word
   Alt + f            Move forward (right) one word
  Ctrl + k            Delete the sentence after the cursor
  Ctrl + u            Delete the sentence before the cursor
  Ctrl + w            Delete the word before the cursor

  Ctrl + l            Clear the screen
  Ctrl + r            Search the lines of earlier conversations
  Ctrl + c            Stop the model from responding
  Ctrl + d            Exit ollama (/bye)
";

const HELP_SET: &str = "Available Commands:
  /set parameter ...     Set a parameter
  /set system <string>   Set system message
  /set history           Enable history: lines are recalled, now and next time
  /set nohistory         Disable history
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
            Line::Text(text) if text.trim().is_empty() => {}
            Line::Text(text) => self.ask(text).await?,
            Line::System(text) => {
                self.settings.system = Some(text);
                self.say("Set system message.\n")?;
            }
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
        self.messages.push(question);
        let mut message = json!({"role": "assistant", "content": said.text});
        if !said.thinking.is_empty() {
            message["thinking"] = said.thinking.into();
        }
        self.messages.push(message);
        Ok(())
    }

    async fn command(&mut self, name: &str, words: &[&str]) -> Result<Next> {
        match (name, words) {
            ("bye" | "exit", _) => return Ok(Next::End),
            ("?" | "help", ["set", ..]) => self.say(HELP_SET)?,
            ("?" | "help", ["show", ..]) => self.say(HELP_SHOW)?,
            ("?" | "help", ["shortcut" | "shortcuts", ..]) => self.say(HELP_SHORTCUTS)?,
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
            ["parameters"] => {
                let text = parameters(&about, &self.settings.options);
                self.say(&text)
            }
            [part @ ("license" | "modelfile" | "system" | "template")] => {
                let own = match *part {
                    "system" => self.settings.system.as_deref(),
                    _ => None,
                };
                let text = own.or(about[*part].as_str()).unwrap_or_default();
                let what = match *part {
                    "system" => "system message",
                    "template" => "prompt template",
                    part => part,
                };
                let none = format!("No {what} was specified for this model.");
                let text = if text.is_empty() { &none } else { text };
                self.say(&format!("{text}\n"))
            }
            _ => self.say(HELP_SHOW),
        }
    }
}

/// The model's options, and those of this conversation.
pub fn parameters(about: &Value, own: &Map<String, Value>) -> String {
    let mut text = "Model defined parameters:\n".to_owned();
    let models = about["parameters"].as_str().unwrap_or_default();
    if models.is_empty() {
        text += "  No additional parameters were specified for this model.\n";
    }
    for line in models.lines() {
        text += &format!("  {line}\n");
    }
    text += "\n";
    if !own.is_empty() {
        text += "User defined parameters:\n";
        for line in crate::modelfile::parameters_text(own).lines() {
            text += &format!("  {line}\n");
        }
        text += "\n";
    }
    text
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
        ["history"] => {
            settings.no_history = false;
            "Set 'history' mode.\n".into()
        }
        ["nohistory"] => {
            settings.no_history = true;
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
        ["format", ..] => {
            "Invalid or missing format. For 'json' mode use '/set format json'\n".into()
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
