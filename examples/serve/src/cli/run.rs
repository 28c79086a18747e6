//! `run`: one question, or a conversation.

use std::ffi::OsString;
use std::io::{IsTerminal, Read};

use reqwest::Method;
use serde_json::{Value, json};

use crate::wire;

use super::answer::{Settings, answer};
use super::args::RunArgs;
use super::client::{Client, Refused};
use super::near::nearest;
use super::screen::{Result, Screen};
use super::{repl, transfer};

/// What `run` is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Answer this.
    Answer(String),
    /// Have the model in memory, and say nothing: `run MODEL ""`, or a pipe without a
    /// word in it.
    Load,
    /// Talk with a person.
    Talk,
}

/// Answers a question, or talks.
pub async fn run(client: &Client, screen: &mut Screen<'_>, args: &RunArgs) -> Result {
    let mut settings = Settings::new(args, screen.terminal)?;
    let about = about(client, args).await?;
    let task = task(&args.prompt, piped()?.as_deref(), screen.terminal);
    let can = |what: &str| {
        let all = about["capabilities"].as_array().into_iter().flatten();
        all.into_iter().any(|capability| capability == what)
    };
    if can("embedding") && !can("completion") {
        return embed(client, screen, args, task).await;
    }
    match task {
        Task::Answer(prompt) => {
            let mut body = settings.body();
            body.insert("prompt".into(), prompt.into());
            answer(client, screen, "/api/generate", body, &settings).await.map(drop)
        }
        Task::Load => load(client, &settings).await,
        Task::Talk => {
            // The model loads while the user thinks.
            load(client, &settings).await?;
            repl::talk(client, screen, &mut settings, &about).await
        }
    }
}

/// Has the model in memory.
async fn load(client: &Client, settings: &Settings) -> Result {
    let body = Value::Object(settings.body());
    client.stream("/api/generate", &body).await?.next().await.map(drop)
}

/// What the server knows about the model, which is pulled if it is not here.
async fn about(client: &Client, args: &RunArgs) -> Result<Value> {
    let body = json!({"model": args.model});
    match client.call(Method::POST, "/api/show", &body).await {
        Err(error) if error.downcast_ref::<Refused>().is_some_and(|r| r.status == 404) => {
            if let Err(error) = transfer::pull(client, &args.model, args.insecure).await {
                return Err(not_here(client, &args.model, &error.to_string()).await.into());
            }
            client.call(Method::POST, "/api/show", &body).await
        }
        shown => shown,
    }
}

/// Why a model cannot be run, and which were perhaps meant.
async fn not_here(client: &Client, model: &str, error: &str) -> String {
    let listed = client.get("/api/tags").await.unwrap_or_default();
    let models = listed["models"].as_array().into_iter().flatten();
    let names: Vec<&str> = models.filter_map(|model| model["name"].as_str()).collect();
    let near = nearest(model, names.iter().copied());
    let hint = match near[..] {
        [] => "the command list shows which models are here".to_owned(),
        ref near => format!("here there is {}", near.join(", ")),
    };
    format!("model {model:?} is not here and could not be pulled ({error}); {hint}")
}

/// What comes through a pipe, whatever its bytes; none from a terminal.
fn piped() -> Result<Option<Vec<u8>>> {
    let mut stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    stdin.read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// What is piped in, and then what stands on the command line. Only with neither of them,
/// and with a person on both sides, there is a conversation.
pub fn task(words: &[OsString], piped: Option<&[u8]>, terminal: bool) -> Task {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let parts = [piped.map(wire::text).unwrap_or_default(), words.join(" ")];
    let prompt = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty());
    let prompt = prompt.collect::<Vec<_>>().join(" ");
    match prompt.is_empty() {
        false => Task::Answer(prompt),
        true if words.is_empty() && piped.is_none() && terminal => Task::Talk,
        true => Task::Load,
    }
}

async fn embed(client: &Client, screen: &mut Screen<'_>, args: &RunArgs, task: Task) -> Result {
    let prompt = match task {
        Task::Answer(prompt) => prompt,
        Task::Load if !args.prompt.is_empty() => {
            return load(client, &Settings::new(args, false)?).await;
        }
        Task::Load | Task::Talk => {
            let model = &args.model;
            return Err(format!(
                "embedding models require input text. Usage: ollama run {model} \"your text here\""
            )
            .into());
        }
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
