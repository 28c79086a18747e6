//! The command line: formats, thoughts, what a model can do.

use clap::Parser;
use serde_json::{Value, json};
use tramontane_serve::cli::args::Args;
use tramontane_serve::cli::client::Client;
use tramontane_serve::cli::{Screen, talk};

use super::models::{good, models};

async fn ollama(address: &str, words: &[&str]) -> Result<String, String> {
    let args = Args::try_parse_from([&["ollama"], words].concat()).map_err(|e| e.to_string())?;
    let client = Client::new(Some(address), None).unwrap();
    let mut out = Vec::new();
    let mut screen = Screen { out: &mut out, terminal: false };
    let ran = talk(&client, &mut screen, args.command.unwrap()).await;
    ran.map_err(|error| error.to_string())?;
    Ok(String::from_utf8(out).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_has_the_form_that_the_command_line_says() {
    let server = models().await;
    let (address, _stop) = server.listen().await;
    let schema = r#"{"enum": ["yes"]}"#;
    let file = server.folder.path().join("schema.json");
    std::fs::write(&file, schema).unwrap();
    for form in [schema, file.to_str().unwrap()] {
        let said = ollama(&address, &["run", "storyteller", "--format", form, "Well?"]).await;
        assert_eq!(said.unwrap().trim(), "\"yes\"");
    }
    std::fs::write(&file, "{").unwrap();
    for (form, wanted) in [
        (file.to_str().unwrap(), "schema.json: EOF"),
        ("{]", "--format: the schema: "),
        ("xml", "invalid format: "),
    ] {
        let refused = ollama(&address, &["run", "storyteller", "--format", form, "Well?"]).await;
        let refused = refused.unwrap_err();
        assert!(refused.contains(wanted), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thoughts_are_shown_apart_or_not_at_all() {
    let server = models().await;
    let (address, _stop) = server.listen().await;
    let few = json!({"model": "few", "from": "thinker", "parameters": {"num_predict": 6},
        "stream": false});
    good(&server, "/api/create", &few).await;
    let shown = ollama(&address, &["run", "few", "Well?"]).await.unwrap();
    let inner = shown.strip_prefix("Thinking...\n").unwrap_or_else(|| panic!("{shown}"));
    let (thoughts, _) = inner.split_once("\n...done thinking.\n\n").unwrap();
    assert!(!thoughts.trim().is_empty(), "{shown}");
    let hidden = ollama(&address, &["run", "few", "--hidethinking", "Well?"]).await.unwrap();
    assert_eq!(hidden.trim(), "");
    let without = ollama(&address, &["run", "few", "--think=false", "Well?"]).await.unwrap();
    assert!(!without.contains("Thinking...") && !without.trim().is_empty(), "{without}");
    let refused = ollama(&address, &["run", "storyteller", "--think=high", "Well?"]).await;
    assert_eq!(refused.unwrap_err(), "\"storyteller\" does not support thinking");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_model_can_do_is_shown() {
    let server = models().await;
    let (address, _stop) = server.listen().await;
    for (model, wanted) in [
        ("storyteller", json!(["completion"])),
        ("caller", json!(["completion", "tools"])),
        ("thinker", json!(["completion", "thinking"])),
    ] {
        let about = good(&server, "/api/show", &json!({"model": model})).await.json();
        assert_eq!(about["capabilities"], wanted, "{model}");
        let shown = ollama(&address, &["show", model]).await.unwrap();
        for one in wanted.as_array().unwrap().iter().map(Value::as_str) {
            assert!(shown.contains(&format!("    {}\n", one.unwrap())), "{shown}");
        }
    }
}
