//! `list`, `ps`, `cp`, `rm`, `stop`, `verify`

use std::path::PathBuf;

use reqwest::Method;
use serde_json::{Value, json};

use super::client::Client;
use super::screen::{Result, Screen};
use super::{human, table, transfer};

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn short_digest(model: &Value) -> String {
    text(model, "digest").chars().take(12).collect()
}

fn models(reply: &Value) -> Vec<Value> {
    reply["models"].as_array().cloned().unwrap_or_default()
}

/// Which models are here.
pub async fn list(client: &Client, screen: &mut Screen<'_>, prefix: Option<&str>) -> Result {
    let reply = client.get("/api/tags").await?;
    let prefix = prefix.unwrap_or_default().to_lowercase();
    let now = jiff::Timestamp::now();
    let fitting = models(&reply);
    let fitting = fitting.iter().filter(|m| text(m, "name").to_lowercase().starts_with(&prefix));
    let row = |model: &Value| {
        vec![
            text(model, "name").to_owned(),
            short_digest(model),
            human::bytes(model["size"].as_u64().unwrap_or(0)),
            human::moment(text(model, "modified_at"), now),
        ]
    };
    table::print(
        screen.out,
        &["NAME", "ID", "SIZE", "MODIFIED"],
        &fitting.map(row).collect::<Vec<_>>(),
    )
}

/// Which models are in memory.
pub async fn ps(client: &Client, screen: &mut Screen<'_>) -> Result {
    let reply = client.get("/api/ps").await?;
    let now = jiff::Timestamp::now();
    let row = |model: &Value| {
        let (size, vram) = (number(model, "size"), number(model, "size_vram"));
        let processor = match vram {
            0 => "100% CPU".to_owned(),
            vram if vram >= size => "100% GPU".to_owned(),
            vram => {
                let cpu = 100 - 100 * vram / size.max(1);
                format!("{cpu}%/{}% CPU/GPU", 100 - cpu)
            }
        };
        let expires = text(model, "expires_at");
        let until = match expires.parse::<jiff::Timestamp>() {
            Ok(time) if time < now => "Stopping...".into(),
            _ => human::moment(expires, now),
        };
        let context = number(model, "context_length").to_string();
        let (name, id) = (text(model, "name").to_owned(), short_digest(model));
        vec![name, id, human::bytes(size), processor, context, until]
    };
    let rows: Vec<_> = models(&reply).iter().map(row).collect();
    table::print(screen.out, &["NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"], &rows)
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or(0)
}

/// A second name.
pub async fn copy(client: &Client, screen: &mut Screen<'_>, from: &str, to: &str) -> Result {
    let body = json!({"source": from, "destination": to});
    client.call(Method::POST, "/api/copy", &body).await?;
    writeln!(screen.out, "copied '{from}' to '{to}'")?;
    Ok(())
}

/// Removes models, out of memory first. One that cannot be removed does not keep the
/// others.
pub async fn remove(client: &Client, screen: &mut Screen<'_>, models: &[String]) -> Result {
    let mut failed = Vec::new();
    for model in models {
        // Not in memory is as good.
        let _ = stop(client, model).await;
        match client.call(Method::DELETE, "/api/delete", &json!({"model": model})).await {
            Ok(_) => writeln!(screen.out, "deleted '{model}'")?,
            Err(error) => failed.push(error.to_string()),
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\nError: ").into()) }
}

/// Out of memory.
pub async fn stop(client: &Client, model: &str) -> Result {
    let body = json!({"model": model, "keep_alive": 0, "stream": false});
    let stopped = client.call(Method::POST, "/api/generate", &body).await;
    stopped.map(drop).map_err(|error| match error.to_string().contains("not found") {
        true => format!("couldn't find model {model:?} to stop").into(),
        false => error,
    })
}

/// Hashes every file of the store.
pub fn verify(models: Option<PathBuf>) -> Result {
    let args = crate::config::ServeArgs { models, ..Default::default() };
    let folder = crate::config::Config::new(&args)?.models;
    let store = crate::store::Store::open(&folder, true)?;
    let bar = transfer::bytes_bar("verifying", 0);
    let report = store.verify(&mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    for problem in &report.problems {
        println!("{problem}");
    }
    for obstacle in &report.obstacles {
        println!("not understood, so nothing is removed: {obstacle}");
    }
    println!(
        "{} models, {} files as they should be, {} problems, {} files that no model needs",
        report.models,
        report.blobs,
        report.problems.len(),
        report.unneeded.len()
    );
    if report.problems.is_empty() { Ok(()) } else { Err("the store is damaged".into()) }
}
