//! What comes along with a model: one odd byte, or one odd option, makes no model unusable.

use std::io::Write;

use serde_json::json;

use crate::support::store::{add, name};
use crate::support::{server, server_with};

const KIND: &str = "application/vnd.ollama.image.";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_bytes_in_texts_are_no_obstacle() {
    let server = server().await;
    let store = &server.app.store;
    let layer = |kind: &str, bytes: &[u8]| {
        let mut blob = store.begin_blob().unwrap();
        blob.write_all(bytes).unwrap();
        let (digest, size) = blob.finish(None, None).unwrap();
        json!({"mediaType": kind, "digest": digest, "size": size})
    };
    let of = |kind: &str, bytes: &[u8]| layer(&format!("{KIND}{kind}"), bytes);
    let params =
        b"{\"stop\": [\"caf\xe9\"], \"temperature\": [0], \"num_predict\": \"3\", \"new\": 1}";
    let manifest = json!({
        "config": layer("application/vnd.docker.container.image.v1+json", b"{\"model_family\": \"\xff\"}"),
        "layers": [
            of("model", tramontane_serve::builtin::BYTES),
            of("system", b"Sois gentil, caf\xe9"),
            of("license", b"\xa9 somebody"),
            of("license", b"\xff\xfeM\0I\0T\0"),
            of("template", b"\xef\xbb\xbf{{ .System }} \xe9 {{ .Prompt }}"),
            of("params", params),
            of("messages", b"null"),
        ],
    });
    store.write_manifest(&name("odd"), manifest.to_string().as_bytes()).unwrap();
    let about = server.post("/api/show", &json!({"model": "odd"})).await.json();
    assert_eq!(about["system"], "Sois gentil, caf\u{fffd}");
    assert_eq!(about["license"], "\u{fffd} somebody\nMIT");
    assert_eq!(about["template"], "{{ .System }} \u{fffd} {{ .Prompt }}");
    let shown = about["parameters"].as_str().unwrap();
    assert!(shown.contains("caf\u{fffd}") && !shown.contains("temperature"), "{shown}");
    let body = json!({"model": "odd", "prompt": "Once", "stream": false});
    let reply = server.post("/api/generate", &body).await;
    assert_eq!(reply.json()["eval_count"], 3, "{}", reply.text());
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let body = json!({"model": "odd", "messages": messages, "stream": false});
    assert_eq!(server.post("/api/chat", &body).await.status, 200);
    assert_eq!(server.get("/api/tags").await.json()["models"][0]["name"], "odd:latest");
}

/// A prompt that is longer than the model can take: the advice must help.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_context_beyond_the_models_is_not_advised() {
    let server = server().await;
    let ask = |num_ctx: usize| {
        let prompt = "cat ".repeat(700);
        let options = json!({"num_ctx": num_ctx, "num_predict": 1});
        json!({"model": "storyteller", "prompt": prompt, "options": options, "truncate": false,
            "stream": false})
    };
    let told = server.post("/api/generate", &ask(4096)).await.error();
    assert!(told.contains("trained for (512 tokens); shorten the prompt"), "{told}");
    let told = server.post("/api/generate", &ask(256)).await.error();
    assert!(told.contains("try increasing it"), "{told}");
}

/// The built-in model does not vanish with the first pull; among models that came from
/// Ollama it is not listed, but it runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_built_in_model_stays_where_it_was_seen() {
    let names = |list: &serde_json::Value| -> Vec<String> {
        let models = list["models"].as_array().unwrap().iter();
        models.map(|model| model["name"].as_str().unwrap().to_owned()).collect()
    };
    let fresh = server().await;
    assert_eq!(names(&fresh.get("/api/tags").await.json()), ["storyteller:latest"]);
    add(&fresh.app.store, "other", &[tramontane_serve::builtin::BYTES]);
    let listed = names(&fresh.get("/api/tags").await.json());
    assert_eq!(listed, ["other:latest", "storyteller:latest"]);
    let folder = tempfile::tempdir().unwrap();
    let store = tramontane_serve::store::Store::open(folder.path(), false).unwrap();
    add(&store, "other", &[tramontane_serve::builtin::BYTES]);
    let models = folder.path().to_owned();
    let old = server_with(|args| args.models = Some(models)).await;
    assert_eq!(names(&old.get("/api/tags").await.json()), ["other:latest"]);
    assert_eq!(old.post("/api/show", &json!({"model": "storyteller"})).await.status, 200);
}
