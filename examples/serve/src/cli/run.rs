//! `run`: one question, or a conversation.

use std::io::{IsTerminal, Read};

use reqwest::Method;
use serde_json::{Value, json};

use super::answer::{Settings, answer};
use super::args::RunArgs;
use super::client::{Client, Refused};
use super::screen::{Result, Screen};
use super::{repl, transfer};

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
