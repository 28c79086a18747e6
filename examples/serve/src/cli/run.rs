//! `run`: one question, or a conversation.

use std::io::{IsTerminal, Read};

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::args::RunArgs;
use super::client::{Client, Refused};
use super::wrap::Wrap;
use super::{Result, Screen, human, repl, transfer};

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
    /// Whether each question stands alone.
    pub forget: bool,
    /// Columns of a line; 0: no wrapping.
    pub width: usize,
}

impl Settings {
    fn new(args: &RunArgs, terminal: bool) -> Self {
        let think = args.think.as_deref().map(|think| match think {
            "true" => json!(true),
            "false" => json!(false),
            level => json!(level),
        });
        Settings {
            model: args.model.clone(),
            format: args.format.as_ref().map(|format| json!(format)),
            think,
            keep_alive: args.keepalive.clone(),
            verbose: args.verbose,
            hide_thinking: args.hidethinking,
            width: if terminal && !args.nowordwrap { columns() } else { 0 },
            ..Settings::default()
        }
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

/// Width of the terminal; 80 if nobody says.
fn columns() -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    columns.unwrap_or(80)
}

/// Answers a question, or talks.
pub async fn run(client: &Client, screen: &mut Screen<'_>, args: &RunArgs) -> Result {
    let mut settings = Settings::new(args, screen.terminal);
    let about = about(client, args).await?;
    let prompt = prompt(args)?;
    let can = |what: &str| {
        let all = about["capabilities"].as_array().into_iter().flatten();
        all.into_iter().any(|capability| capability == what)
    };
    if can("embedding") && !can("completion") {
        return embed(client, screen, args, prompt).await;
    }
    match prompt {
        Some(prompt) => {
            let mut body = settings.body();
            body.insert("prompt".into(), prompt.into());
            answer(client, screen, "/api/generate", body, &settings).await.map(drop)
        }
        None => {
            // The model loads while the user thinks.
            client.stream("/api/generate", &Value::Object(settings.body())).await?.next().await?;
            repl::talk(client, screen, &mut settings, &about).await
        }
    }
}

/// What the server knows about the model, which is pulled if it is not here.
async fn about(client: &Client, args: &RunArgs) -> Result<Value> {
    let body = json!({"model": args.model});
    match client.call(Method::POST, "/api/show", &body).await {
        Err(error) if error.downcast_ref::<Refused>().is_some_and(|r| r.status == 404) => {
            transfer::pull(client, &args.model, args.insecure).await?;
            client.call(Method::POST, "/api/show", &body).await
        }
        shown => shown,
    }
}

/// What is piped in, and then what stands on the command line.
fn prompt(args: &RunArgs) -> Result<Option<String>> {
    let mut parts = Vec::new();
    let mut stdin = std::io::stdin();
    if !stdin.is_terminal() {
        let mut piped = String::new();
        stdin.read_to_string(&mut piped)?;
        parts.push(piped);
    }
    parts.push(args.prompt.join(" "));
    let prompt = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty());
    let prompt = prompt.collect::<Vec<_>>().join(" ");
    // A pipe without a word is no conversation either.
    if prompt.is_empty() && !std::io::stdin().is_terminal() {
        return Err("there is no prompt: write one, or pipe one in".into());
    }
    Ok(Some(prompt).filter(|prompt| !prompt.is_empty()))
}

async fn embed(
    client: &Client,
    screen: &mut Screen<'_>,
    args: &RunArgs,
    prompt: Option<String>,
) -> Result {
    let Some(prompt) = prompt else {
        let model = &args.model;
        return Err(format!(
            "embedding models require input text. Usage: ollama run {model} \"your text here\""
        )
        .into());
    };
    let mut body = json!({"model": args.model, "input": prompt});
    if args.truncate {
        body["truncate"] = true.into();
    }
    if let Some(dimensions) = args.dimensions {
        body["dimensions"] = dimensions.into();
    }
    let reply = client.call(Method::POST, "/api/embed", &body).await?;
    writeln!(screen.out, "{}", reply["embeddings"][0])?;
    Ok(())
}

/// Asks and prints the answer as it comes; its whole text. Ctrl+C ends it.
pub async fn answer(
    client: &Client,
    screen: &mut Screen<'_>,
    path: &str,
    body: Map<String, Value>,
    settings: &Settings,
) -> Result<String> {
    let mut lines = client.stream(path, &Value::Object(body)).await?;
    let (mut text, mut wrap) = (String::new(), Wrap::new(settings.width));
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
        if let Some(thought) = thought.as_str().filter(|_| !settings.hide_thinking) {
            write!(screen.out, "{}", wrap.push(thought))?;
        }
        let piece = piece.as_str().unwrap_or_default();
        text.push_str(piece);
        write!(screen.out, "{}", wrap.push(piece))?;
        screen.out.flush()?;
        last = line;
    }
    writeln!(screen.out, "{}", wrap.finish())?;
    if screen.terminal {
        writeln!(screen.out)?;
    }
    if settings.verbose {
        eprint!("{}", figures(&last));
    }
    Ok(text)
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
