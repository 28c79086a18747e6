//! Models that this version does not run: one sentence says so, in every way to them.

use clap::Parser;
use serde_json::json;
use tramontane::gguf::Value;
use tramontane_serve::cli::args::Args;
use tramontane_serve::cli::client::Client;
use tramontane_serve::cli::{Screen, talk};

use crate::support::{server, store};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_of_another_kind_is_refused_with_its_name() {
    let server = server().await;
    let (address, _stop) = server.listen().await;
    let network = "architecture \"mamba9\" is not supported; supported: ";
    for (key, value, sentence) in
        [("general.architecture", "mamba9", network), ("tokenizer.ggml.model", "runes", "runes")]
    {
        let bytes = store::model_with(key, Value::String(value.into()));
        let (weights, modelfile) =
            (server.folder.path().join("x.gguf"), server.folder.path().join("Modelfile"));
        std::fs::write(&weights, &bytes).unwrap();
        std::fs::write(&modelfile, "FROM ./x.gguf\n").unwrap();
        let modelfile = modelfile.display().to_string();
        let run = async |words: &[&str]| {
            let args = Args::try_parse_from([&["ollama"], words].concat()).unwrap();
            let client = Client::new(Some(&address), None).unwrap();
            let mut screen = Screen { out: &mut Vec::new(), terminal: false };
            let ran = talk(&client, &mut screen, args.command.unwrap()).await;
            ran.unwrap_err().to_string()
        };
        let refused = run(&["create", "x", "-f", &modelfile]).await;
        assert!(refused.contains(sentence), "{refused}");
        assert!(!refused.contains("not in GGUF format"), "{refused}");
        let listed = server.get("/api/tags").await.json();
        assert!(!listed.to_string().contains("\"x:latest\""), "{listed}");

        // One that was pulled.
        store::add(&server.app.store, "pulled", &[&bytes]);
        let refused = run(&["run", "pulled", "Hi"]).await;
        assert!(
            refused.contains("unable to load model") && refused.contains(sentence),
            "{refused}"
        );
        let reply = server.post("/api/generate", &json!({"model": "pulled", "prompt": "x"})).await;
        assert!(reply.status.is_server_error() && reply.error().contains(sentence));
    }
}
