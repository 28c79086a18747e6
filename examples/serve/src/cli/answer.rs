//! Asks a model, and prints what comes back.

use serde_json::{Map, Value, json};

use super::args::RunArgs;
use super::client::Client;
use super::human;
use super::screen::{Result, Screen, columns};
use super::thoughts::Thoughts;
use super::wrap::Wrap;

/// What is asked the same way every time.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The model.
    pub model: String,
    /// Ollama's options.
    pub options: Map<String, Value>,
    /// In the place of the model's system text.
    pub system: Option<String>,
    /// `json`, or a schema.
    pub format: Option<Value>,
    /// Whether the model is to think first.
    pub think: Option<Value>,
    /// How long the model stays in memory.
    pub keep_alive: Option<String>,
    /// Whether counts and times are shown.
    pub verbose: bool,
    /// Whether thoughts are not shown.
    pub hide_thinking: bool,
    /// Whether lines are not remembered for the next conversation.
    pub no_history: bool,
    /// Columns of a line; 0: no wrapping.
    pub width: usize,
}

impl Settings {
    /// What the command line says.
    ///
    /// # Errors
    /// A format that is a file and cannot be read, or is no JSON.
    pub fn new(args: &RunArgs, terminal: bool) -> Result<Self> {
        let think = args.think.as_deref().map(|think| match think {
            "true" => json!(true),
            "false" => json!(false),
            level => json!(level),
        });
        Ok(Settings {
            model: args.model.clone(),
            format: args.format.as_deref().map(format).transpose()?,
            think,
            keep_alive: args.keepalive.clone(),
            verbose: args.verbose,
            hide_thinking: args.hidethinking,
            width: if terminal && !args.nowordwrap { columns() } else { 0 },
            ..Settings::default()
        })
    }

    /// The fields of a request.
    pub fn body(&self) -> Map<String, Value> {
        let mut body = Map::new();
        body.insert("model".into(), self.model.as_str().into());
        if !self.options.is_empty() {
            body.insert("options".into(), self.options.clone().into());
        }
        let fields = [
            ("format", self.format.clone()),
            ("think", self.think.clone()),
            ("keep_alive", self.keep_alive.as_deref().map(Value::from)),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                body.insert(name.into(), value);
            }
        }
        body
    }
}

/// The form of an answer: `json`, a JSON schema, or a file that has one.
fn format(text: &str) -> Result<Value> {
    let parse = |schema: &str, name: &str| -> Result<Value> {
        serde_json::from_str(schema).map_err(|error| format!("--format: {name}: {error}").into())
    };
    if text.trim_start().starts_with('{') {
        return parse(text, "the schema");
    }
    if text != "json" && std::path::Path::new(text).is_file() {
        let bytes = std::fs::read(text).map_err(|error| format!("--format: {text}: {error}"))?;
        return parse(&crate::wire::text(&bytes), text);
    }
    // The server says what else there is.
    Ok(text.into())
}

/// What a model said.
#[derive(Debug, Default)]
pub struct Said {
    /// Its thoughts.
    pub thinking: String,
    /// Its answer.
    pub text: String,
}

/// Asks and prints the answer as it comes. Ctrl+C ends it.
pub async fn answer(
    client: &Client,
    screen: &mut Screen<'_>,
    path: &str,
    body: Map<String, Value>,
    settings: &Settings,
) -> Result<Said> {
    let mut lines = client.stream(path, &Value::Object(body)).await?;
    let (mut said, mut wrap) = (Said::default(), Wrap::new(settings.width));
    let mut thoughts = Thoughts::new(screen.terminal && console::colors_enabled());
    let mut last = Value::Null;
    loop {
        let next = tokio::select! {
            next = lines.next() => next?,
            _ = tokio::signal::ctrl_c() => None,
        };
        let Some(line) = next else { break };
        let (thought, piece) = match path {
            "/api/chat" => (&line["message"]["thinking"], &line["message"]["content"]),
            _ => (&line["thinking"], &line["response"]),
        };
        let thought = thought.as_str().unwrap_or_default();
        said.thinking.push_str(thought);
        if !thought.is_empty() && !settings.hide_thinking {
            write!(screen.out, "{}{}", thoughts.begin(thought), wrap.push(thought))?;
        }
        let piece = piece.as_str().unwrap_or_default();
        said.text.push_str(piece);
        if !piece.is_empty() {
            end_thoughts(screen, &mut thoughts, &mut wrap, settings)?;
        }
        write!(screen.out, "{}", wrap.push(piece))?;
        screen.out.flush()?;
        last = line;
    }
    end_thoughts(screen, &mut thoughts, &mut wrap, settings)?;
    writeln!(screen.out, "{}", wrap.finish())?;
    if screen.terminal {
        writeln!(screen.out)?;
    }
    if settings.verbose {
        eprint!("{}", figures(&last));
    }
    Ok(said)
}

/// The answer begins on a line of its own.
fn end_thoughts(
    screen: &mut Screen<'_>,
    thoughts: &mut Thoughts,
    wrap: &mut Wrap,
    settings: &Settings,
) -> Result {
    let end = thoughts.end();
    if !end.is_empty() {
        write!(screen.out, "{}{end}", wrap.finish())?;
        *wrap = Wrap::new(settings.width);
    }
    Ok(())
}

/// Ollama's lines of `--verbose`.
pub fn figures(done: &Value) -> String {
    let number = |key: &str| done[key].as_u64();
    let mut text = String::new();
    let mut line = |title: &str, value: Option<String>| {
        if let Some(value) = value {
            text += &format!("{title:<22}{value}\n");
        }
    };
    let time = |key: &str| number(key).map(human::duration);
    let count = |key: &str| number(key).map(|count| format!("{count} token(s)"));
    let rate = |count: &str, time: &str| {
        let (count, time) = (number(count)?, number(time).filter(|&time| time > 0)?);
        Some(format!("{:.2} tokens/s", count as f64 / (time as f64 / 1e9)))
    };
    line("total duration:", time("total_duration"));
    line("load duration:", time("load_duration"));
    line("prompt eval count:", count("prompt_eval_count"));
    line("prompt eval duration:", time("prompt_eval_duration"));
    line("prompt eval rate:", rate("prompt_eval_count", "prompt_eval_duration"));
    line("eval count:", count("eval_count"));
    line("eval duration:", time("eval_duration"));
    line("eval rate:", rate("eval_count", "eval_duration"));
    text
}
