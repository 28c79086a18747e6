//! Models that make vectors and scores of whole texts: what they can be asked, by every route.

use serde_json::{Value, json};
use tramontane::Format;
use tramontane::gguf::{Array, Metadata, TensorSpec, Value as Key, Writer};

use crate::support::store::{manifest, name};
use crate::support::{Server, server};

const WIDTH: usize = 32;
const POSITIONS: usize = 24;
const PIECES: [&str; 12] = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "\u{2581}a",
    "\u{2581}cat",
    "\u{2581}dog",
    "\u{2581}sleeps",
    "\u{2581}runs",
    "s",
    "\u{2581}.",
    "\u{2581}?",
];

/// A BERT of one layer and random weights, with a classifier.
fn encoder() -> Vec<u8> {
    let mut metadata = Metadata::new();
    let mut set = |key: &str, value: Key| metadata.set(key, value).unwrap();
    set("general.architecture", Key::String("bert".into()));
    for (name, value) in [
        ("block_count", 1),
        ("context_length", POSITIONS as u32),
        ("embedding_length", WIDTH as u32),
        ("feed_forward_length", 64),
        ("attention.head_count", 2),
    ] {
        set(&format!("bert.{name}"), Key::U32(value));
    }
    set("bert.attention.layer_norm_epsilon", Key::F32(1e-12));
    set("bert.attention.causal", Key::Bool(false));
    set("tokenizer.ggml.model", Key::String("bert".into()));
    set("tokenizer.ggml.tokens", Key::Array(Array::String(PIECES.into_iter().collect())));
    let kinds = [[3; 4], [1; 4], [1; 4]].concat();
    set("tokenizer.ggml.token_type", Key::Array(Array::I32(kinds)));

    let mut shapes: Vec<(String, Vec<u64>)> = Vec::new();
    let (width, inner) = (WIDTH as u64, 64);
    let mut add = |name: &str, dims: &[u64]| shapes.push((name.into(), dims.to_vec()));
    add("token_embd.weight", &[width, PIECES.len() as u64]);
    add("position_embd.weight", &[width, POSITIONS as u64]);
    for name in ["token_embd_norm", "blk.0.attn_output_norm", "blk.0.layer_output_norm"] {
        add(&format!("{name}.weight"), &[width]);
        add(&format!("{name}.bias"), &[width]);
    }
    for name in ["blk.0.attn_q", "blk.0.attn_k", "blk.0.attn_v", "blk.0.attn_output", "cls"] {
        add(&format!("{name}.weight"), &[width, width]);
        add(&format!("{name}.bias"), &[width]);
    }
    add("blk.0.ffn_up.weight", &[width, inner]);
    add("blk.0.ffn_down.weight", &[inner, width]);
    add("blk.0.ffn_up.bias", &[inner]);
    add("blk.0.ffn_down.bias", &[width]);
    add("cls.output.weight", &[width, 1]);
    let specs: Vec<TensorSpec> = shapes
        .into_iter()
        .map(|(name, dims)| TensorSpec { name, format: Format::F32, dims })
        .collect();
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, &metadata, &specs).unwrap();
    let mut seed = 7u64;
    for spec in &specs {
        let count: u64 = spec.dims.iter().product();
        let mut content = Vec::new();
        for _ in 0..count {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let value = (seed >> 40) as f32 / (1 << 23) as f32 - 1.0;
            content.extend(value.to_le_bytes());
        }
        writer.write(&content).unwrap();
    }
    writer.finish().unwrap();
    bytes
}

/// A server with the encoder as `enc`.
async fn with_encoder() -> Server {
    let server = server().await;
    let config = br#"{"model_format": "gguf", "model_family": "bert"}"#;
    let manifest = manifest(&server.app.store, config, &[&encoder()]);
    server.app.store.write_manifest(&name("enc"), &manifest).unwrap();
    server
}

async fn good(server: &Server, route: &str, body: Value) -> Value {
    let reply = server.post(route, &body).await;
    assert_eq!(reply.status, 200, "{route}: {}", reply.text());
    reply.json()
}

/// A vector, whatever digits it is written with.
fn numbers(vector: &Value) -> Vec<f32> {
    vector.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

async fn refused(server: &Server, route: &str, body: Value) -> String {
    let reply = server.post(route, &body).await;
    assert_eq!(reply.status, 400, "{route}: {}", reply.text());
    let error = &reply.json()["error"];
    error["message"].as_str().or(error.as_str()).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encoder_says_what_it_can_do() {
    let server = with_encoder().await;
    let shown = good(&server, "/api/show", json!({"model": "enc"})).await;
    assert_eq!(shown["capabilities"], json!(["embedding"]));
    let tags = server.get("/api/tags").await.json();
    let of = |wanted: &str| {
        let models = tags["models"].as_array().unwrap();
        models.iter().find(|model| model["name"] == wanted).unwrap().get("capabilities").cloned()
    };
    assert_eq!(of("enc:latest"), Some(json!(["embedding"])));
    assert_eq!(of("storyteller:latest"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encoder_generates_no_text() {
    let server = with_encoder().await;
    let messages = json!([{"role": "user", "content": "a cat"}]);
    let chat = json!({"model": "enc", "messages": messages, "max_tokens": 1});
    let prompt = json!({"model": "enc", "prompt": "a cat"});
    for (route, body, what) in [
        ("/api/generate", &prompt, "generate"),
        ("/api/chat", &chat, "chat"),
        ("/v1/completions", &prompt, "generate"),
        ("/v1/chat/completions", &chat, "chat"),
        ("/v1/messages", &chat, "chat"),
    ] {
        let said = refused(&server, route, body.clone()).await;
        assert_eq!(said, format!("\"enc\" does not support {what}"), "{route}");
    }
    good(&server, "/api/embed", json!({"model": "enc", "input": "a cat"})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vectors_are_the_same_by_every_route() {
    let server = with_encoder().await;
    let texts = ["A cat sleeps.", "dogs", "?"];
    let many = good(&server, "/api/embed", json!({"model": "enc", "input": texts})).await;
    // [CLS] a cat sleeps . [SEP], [CLS] dog s [SEP], [CLS] ? [SEP]
    assert_eq!(many["prompt_eval_count"], 6 + 4 + 3);
    let openai = good(&server, "/v1/embeddings", json!({"model": "enc", "input": texts})).await;
    for (i, text) in texts.iter().enumerate() {
        let vector = &many["embeddings"][i];
        assert_eq!(vector.as_array().unwrap().len(), WIDTH);
        let vector = numbers(vector);
        assert!((vector.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
        assert_eq!(numbers(&openai["data"][i]["embedding"]), vector);
        let one = good(&server, "/api/embeddings", json!({"model": "enc", "prompt": text})).await;
        assert_eq!(numbers(&one["embedding"]), vector);
    }
    assert_ne!(many["embeddings"][0], many["embeddings"][1]);
}

/// The positions that the encoder has learned are the limit, whatever the server's is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_texts_are_cut_or_refused() {
    let server = with_encoder().await;
    let input = "cat ".repeat(100);
    let cut = good(&server, "/api/embed", json!({"model": "enc", "input": input})).await;
    assert_eq!(cut["prompt_eval_count"], POSITIONS);
    let body = json!({"model": "enc", "input": input, "truncate": false});
    let said = refused(&server, "/api/embed", body).await;
    assert_eq!(said, "the input length exceeds the context length");
    let body = json!({"model": "enc", "query": "cat", "documents": [input]});
    let cut = good(&server, "/api/rerank", body.clone()).await;
    assert_eq!(cut["usage"]["prompt_tokens"], POSITIONS);
    let mut strict = body;
    strict["truncate"] = json!(false);
    let said = refused(&server, "/v1/rerank", strict).await;
    assert!(said.contains("exceed the context length"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_are_ranked_by_every_route() {
    let server = with_encoder().await;
    let documents = json!(["a dog runs", {"text": "cats"}, "a cat sleeps .", "?"]);
    let body = json!({"model": "enc", "query": "a cat", "documents": documents});
    let first = good(&server, "/v1/rerank", body.clone()).await;
    for route in ["/rerank", "/api/rerank"] {
        assert_eq!(good(&server, route, body.clone()).await, first, "{route}");
    }
    assert_eq!((&first["model"], &first["object"]), (&json!("enc"), &json!("list")));
    // [CLS] a cat [SEP] … [SEP]: 5 tokens beside those of each document.
    let tokens = 4 * 5 + 3 + 2 + 4 + 1;
    assert_eq!(first["usage"], json!({"prompt_tokens": tokens, "total_tokens": tokens}));
    let results = first["results"].as_array().unwrap();
    let score = |result: &Value| result["relevance_score"].as_f64().unwrap();
    assert!(results.windows(2).all(|pair| score(&pair[0]) > score(&pair[1])), "{first}");
    let mut indices: Vec<_> =
        results.iter().map(|result| result["index"].as_u64().unwrap()).collect();
    indices.sort_unstable();
    assert_eq!(indices, [0, 1, 2, 3]);
    assert!(results.iter().all(|result| result.get("document").is_none()));

    let mut two = body.clone();
    (two["top_n"], two["return_documents"]) = (json!(2), json!(true));
    let two = good(&server, "/v1/rerank", two).await;
    assert_eq!(two["results"].as_array().unwrap().len(), 2);
    for (best, result) in results.iter().zip(two["results"].as_array().unwrap()) {
        assert_eq!(result["relevance_score"], best["relevance_score"]);
        let document = &documents[result["index"].as_u64().unwrap() as usize];
        let text = document.get("text").unwrap_or(document);
        assert_eq!(result["document"], json!({"text": text}));
    }
}

/// A client's own fields come back; the number of results counts by its other name too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_come_back_whole_and_other_names_count() {
    let server = with_encoder().await;
    let own = json!({"text": "a dog", "id": 7});
    let mut body = json!({"model": "enc", "query": "a cat", "documents": [own, "b"]});
    (body["top_k"], body["return_documents"]) = (json!(2), json!(true));
    let both = good(&server, "/v2/rerank", body.clone()).await;
    let both = both["results"].as_array().unwrap();
    assert!(both.len() == 2 && both.iter().any(|result| result["document"] == own), "{both:?}");
    body["top_k"] = json!(1);
    let one = good(&server, "/reranking", body.clone()).await;
    assert_eq!(one["results"].as_array().unwrap().len(), 1);
    body["rank_fields"] = json!(["title", "text"]);
    let error = refused(&server, "/v1/rerank", body).await;
    assert!(error.contains("rank_fields"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn models_without_a_classifier_rank_nothing() {
    let server = server().await;
    let body = json!({"model": "storyteller", "query": "a", "documents": ["b"]});
    for route in ["/v1/rerank", "/api/rerank"] {
        let said = refused(&server, route, body.clone()).await;
        assert_eq!(said, "\"storyteller\" does not support rerank", "{route}");
    }
    let body = json!({"model": "no", "query": "a", "documents": ["b"]});
    assert_eq!(server.post("/v1/rerank", &body).await.status, 404);
}
