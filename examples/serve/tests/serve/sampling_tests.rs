//! What a file recommends for the sampler: below the request, above Ollama's defaults.

use serde_json::{Value as Json, json};
use tramontane::gguf::Value;

use crate::support::{Server, server, store};

/// Two answers with different seeds.
async fn answers(server: &Server, options: Json) -> [String; 2] {
    let mut texts = Vec::new();
    for seed in [1, 2] {
        let mut options = options.clone();
        options["seed"] = seed.into();
        options["num_predict"] = 24.into();
        let body = json!({
            "model": "still", "prompt": "Once upon a time", "stream": false, "options": options
        });
        let reply = server.post("/api/generate", &body).await.json();
        texts.push(reply["response"].as_str().unwrap().to_owned());
    }
    texts.try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_recommends_and_the_request_decides() {
    let server = server().await;
    let bytes = store::model_with("general.sampling.temp", Value::F32(0.0));
    store::add(&server.app.store, "still", &[&bytes]);
    let [one, other] = answers(&server, json!({})).await;
    assert_eq!(one, other, "the temperature of the file is 0");
    let [one, other] = answers(&server, json!({"temperature": 1.5})).await;
    assert_ne!(one, other, "the request's counts more");
    let shown = server.post("/api/show", &json!({"model": "still"})).await.json();
    assert!(shown["parameters"].as_str().unwrap_or_default().is_empty(), "{shown}");
}
