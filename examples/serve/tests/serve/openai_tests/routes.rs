//! OpenAI's and Anthropic's routes with the built-in model, through the router.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::support::{Reply, Server, server, server_with};

const ROUTES: [&str; 4] =
    ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"];

/// Tokens of an answer: a debug build takes its time for each.
const MOST: usize = 6;

/// A request of each route that always has the same answer.
fn request(route: &str, changes: Value) -> Value {
    let messages = json!([{"role": "user", "content": "Tell me about a dog."}]);
    let mut request = match route {
        "/v1/completions" => json!({"prompt": "Once upon a time", "max_tokens": MOST}),
        "/v1/responses" => json!({"input": messages, "max_output_tokens": MOST}),
        _ => json!({"messages": messages, "max_tokens": MOST}),
    };
    request["model"] = "storyteller".into();
    request["temperature"] = 0.into();
    for (name, value) in changes.as_object().unwrap() {
        request[name] = value.clone();
    }
    request
}

/// `changes`, and an answer of one token: where its text does not matter.
fn one(route: &str, mut changes: Value) -> Value {
    let limit = if route == "/v1/responses" { "max_output_tokens" } else { "max_tokens" };
    changes[limit] = 1.into();
    changes
}

/// The name and data of each event.
fn events(reply: &Reply) -> Vec<(String, Value)> {
    assert_eq!(reply.headers["content-type"], "text/event-stream");
    let events = reply.text().split("\n\n").filter(|event| !event.is_empty()).map(|event| {
        let name = event.lines().find_map(|line| line.strip_prefix("event: ")).unwrap_or_default();
        let data = event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
        (name.to_owned(), serde_json::from_str(data).unwrap_or_else(|_| data.into()))
    });
    events.collect()
}

/// The text of a whole reply.
fn text(route: &str, reply: &Value) -> String {
    let text = match route {
        "/v1/chat/completions" => &reply["choices"][0]["message"]["content"],
        "/v1/completions" => &reply["choices"][0]["text"],
        "/v1/responses" => &reply["output"][0]["content"][0]["text"],
        _ => &reply["content"][0]["text"],
    };
    text.as_str().unwrap_or_else(|| panic!("{reply}")).to_owned()
}

/// The texts of the events, joined.
fn streamed_text(route: &str, events: &[(String, Value)]) -> String {
    let texts = events.iter().filter_map(|(name, data)| match route {
        "/v1/chat/completions" => data["choices"][0]["delta"]["content"].as_str(),
        "/v1/completions" => data["choices"][0]["text"].as_str(),
        _ if name == "response.output_text.delta" => data["delta"].as_str(),
        _ if name == "content_block_delta" => data["delta"]["text"].as_str(),
        _ => None,
    });
    texts.collect()
}

/// Tokens read and made.
fn usage(usage: &Value) -> (u64, u64) {
    let number = |names: [&str; 2]| {
        let found = names.iter().find_map(|name| usage[*name].as_u64());
        found.unwrap_or_else(|| panic!("{usage}"))
    };
    let (read, made) =
        (number(["prompt_tokens", "input_tokens"]), number(["completion_tokens", "output_tokens"]));
    if let Some(total) = usage.get("total_tokens") {
        assert_eq!(total.as_u64(), Some(read + made), "{usage}");
    }
    (read, made)
}

async fn good(server: &Server, route: &str, changes: Value) -> Value {
    let reply = server.post(route, &request(route, changes)).await;
    assert_eq!(reply.status, StatusCode::OK, "{route}: {}", reply.text());
    reply.json()
}

async fn streamed(server: &Server, route: &str, mut changes: Value) -> Vec<(String, Value)> {
    changes["stream"] = true.into();
    changes["stream_options"] = json!({"include_usage": true});
    let reply = server.post(route, &request(route, changes)).await;
    assert_eq!(reply.status, StatusCode::OK, "{route}: {}", reply.text());
    events(&reply)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_says_what_the_whole_reply_says() {
    let server = server().await;
    for route in ROUTES {
        let whole = good(&server, route, json!({})).await;
        let events = streamed(&server, route, json!({})).await;
        let said = text(route, &whole);
        assert!(said.len() > 8, "{route}: {said:?}");
        assert_eq!(streamed_text(route, &events), said, "{route}");

        let figures = usage(&whole["usage"]);
        assert_eq!(figures.1, MOST as u64, "{route}");
        assert!(figures.0 > 3, "{route}");
        let last = events.iter().rev().map(|(_, data)| data);
        let streamed = match route {
            "/v1/responses" => last.map(|data| &data["response"]["usage"]).next().unwrap(),
            _ => last.map(|data| &data["usage"]).find(|usage| usage.is_object()).unwrap(),
        };
        assert_eq!(usage(streamed), figures, "{route}");
        if route == "/v1/messages" {
            assert_eq!(events[0].1["message"]["usage"]["input_tokens"], figures.0);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_says_why_it_ended() {
    let server = server().await;
    let reason = |route: &str, reply: &Value| match route {
        "/v1/responses" => reply["incomplete_details"]["reason"].clone(),
        "/v1/messages" => reply["stop_reason"].clone(),
        _ => reply["choices"][0]["finish_reason"].clone(),
    };
    let limits = ["length", "length", "max_output_tokens", "max_tokens"];
    for (route, limit) in ROUTES.into_iter().zip(limits) {
        let long = good(&server, route, json!({})).await;
        assert_eq!(reason(route, &long), limit, "{route}");
        if route == "/v1/responses" {
            assert_eq!(long["status"], "incomplete");
            continue;
        }
        // A word of the answer ends the next one.
        let said = text(route, &long);
        let word = said.split_whitespace().nth(1).unwrap();
        let stop = if route == "/v1/messages" { "stop_sequences" } else { "stop" };
        let short = good(&server, route, json!({stop: [word, "never said"]})).await;
        let before = said.split_once(word).unwrap().0;
        assert_eq!(text(route, &short), before, "{route}: {word:?} in {said:?}");
        let ended = if route == "/v1/messages" { "stop_sequence" } else { "stop" };
        assert_eq!(reason(route, &short), ended, "{route}");
        if route == "/v1/messages" {
            let one = good(&server, route, json!({stop: [word]})).await;
            assert_eq!(one["stop_sequence"], word);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_read_before_is_counted() {
    let server = server().await;
    let cached =
        |reply: &Value| reply["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
    // Less than a block of tokens is computed again.
    let long = "The dog ran to the big tree and sat down. ".repeat(10);
    let ask = json!({"messages": [{"role": "user", "content": long}], "max_tokens": 2});
    let first = good(&server, ROUTES[0], ask.clone()).await;
    let second = good(&server, ROUTES[0], ask).await;
    assert_eq!(cached(&first), 0);
    assert!(cached(&second) > 0, "{second}");
    assert_eq!(usage(&first["usage"]), usage(&second["usage"]));
    assert_ne!(first["id"], second["id"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_probabilities_belong_to_the_text() {
    let server = server().await;
    let chat = good(&server, ROUTES[0], json!({"logprobs": true, "top_logprobs": 3})).await;
    let tokens = chat["choices"][0]["logprobs"]["content"].as_array().unwrap();
    let joined: String = tokens.iter().map(|one| one["token"].as_str().unwrap()).collect();
    assert_eq!(joined.trim_start(), text(ROUTES[0], &chat).trim_start());
    assert_eq!(tokens.len(), MOST);
    for one in tokens {
        let top = one["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 3);
        // Without temperature the likeliest token is taken.
        assert_eq!(top[0]["token"], one["token"]);
        assert!(one["logprob"].as_f64().unwrap() <= 0.0);
    }
    let events = streamed(&server, ROUTES[0], json!({"logprobs": true})).await;
    let streamed: Vec<_> = events
        .iter()
        .filter_map(|(_, data)| data["choices"][0]["logprobs"]["content"].as_array())
        .flatten()
        .collect();
    assert_eq!(streamed.len(), MOST);
    assert!(streamed.iter().all(|one| one["top_logprobs"] == json!([])));

    let legacy = good(&server, ROUTES[1], json!({"logprobs": 2})).await;
    let logprobs = &legacy["choices"][0]["logprobs"];
    for name in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
        assert_eq!(logprobs[name].as_array().unwrap().len(), MOST, "{name}");
    }
    assert_eq!(logprobs["top_logprobs"][0].as_object().unwrap().len(), 2);

    let include = json!(["message.output_text.logprobs"]);
    let response = good(&server, ROUTES[2], json!({"include": include})).await;
    let list = &response["output"][0]["content"][0]["logprobs"];
    assert_eq!(list.as_array().unwrap().len(), MOST);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_models_are_told_in_each_envelope() {
    let server = server().await;
    let all = ROUTES.into_iter().chain(["/v1/embeddings"]);
    for route in all {
        let changes = json!({"model": "nobody", "input": "a", "stream": true});
        let reply = server.post(route, &request(route, changes)).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{route}");
        let json = reply.json();
        assert_eq!(json["error"]["message"], "model 'nobody' not found", "{route}");
        assert_eq!(json["error"]["type"], "not_found_error", "{route}");
        assert_eq!(json.get("request_id").is_some(), route == "/v1/messages");
    }
    for name in ["nobody", "hf.co/some/body", "some/body:tag"] {
        let reply = server.get(&format!("/v1/models/{name}")).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND);
        assert_eq!(reply.json()["error"]["message"], format!("model '{name}' not found"));
    }
    let reply = server.get("/v1/models/..%2Fx").await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    assert_eq!(reply.json()["error"]["message"], "invalid model name");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_model_cannot_do_is_refused() {
    let server = server().await;
    for (route, changes, text) in [
        (ROUTES[0], json!({"reasoning_effort": "high"}), "does not support thinking"),
        (ROUTES[2], json!({"reasoning": {"effort": "low"}}), "does not support thinking"),
        (ROUTES[1], json!({"suffix": "end"}), "does not support insert; leave suffix out"),
        (ROUTES[0], json!({"options": {"num_ctx": "many"}}), "option \"num_ctx\" must be of type"),
        (ROUTES[0], json!({"logit_bias": {"x": 1}}), "logit_bias"),
    ] {
        let reply = server.post(route, &request(route, changes)).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{route} {text}: {}", reply.text());
        let message = reply.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(text), "{message}");
    }
    // To a model that cannot think it is no order.
    for (route, changes) in [
        (ROUTES[0], json!({"reasoning_effort": "none", "max_tokens": 1})),
        // Anthropic's clients ask every model.
        (ROUTES[3], json!({"thinking": {"type": "enabled"}, "max_tokens": 1})),
        (ROUTES[3], json!({"thinking": {"type": "adaptive"}, "max_tokens": 1})),
    ] {
        good(&server, route, changes).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bias_forbids_a_token() {
    let server = server().await;
    let logprobs = json!({"logprobs": true, "max_tokens": 1});
    let plain = good(&server, ROUTES[0], logprobs).await;
    let first = text(ROUTES[0], &plain);
    let ask = json!({"model": "storyteller", "content": first});
    let reply = server.post("/api/tokenize", &ask).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let tokens = reply.json()["tokens"].clone();
    let all: serde_json::Map<String, Value> =
        tokens.as_array().unwrap().iter().map(|t| (t.to_string(), json!(-100))).collect();
    let other = good(&server, ROUTES[0], json!({"logit_bias": all, "max_tokens": 1})).await;
    assert_ne!(text(ROUTES[0], &other), first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn models_are_listed() {
    let server = server().await;
    let list = server.get("/v1/models").await.json();
    assert_eq!(list["object"], "list");
    let model = json!({
        "id": "storyteller:latest", "object": "model", "created": list["data"][0]["created"],
        "owned_by": "library",
    });
    assert_eq!(list["data"], json!([model]));
    // A client finds the name that it asked for.
    for name in ["storyteller:latest", "storyteller", "library/storyteller"] {
        let one = server.get(&format!("/v1/models/{name}")).await.json();
        assert_eq!(one["id"], name);
        assert_eq!(one["object"], "model");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vectors_are_the_same_in_both_encodings() {
    use base64::Engine;
    let server = server().await;
    let ask = |changes: Value| {
        let mut request = json!({"model": "storyteller", "input": ["a dog", "the sea"]});
        for (name, value) in changes.as_object().unwrap() {
            request[name] = value.clone();
        }
        let server = &server;
        async move {
            let reply = server.post("/v1/embeddings", &request).await;
            assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
            reply.json()
        }
    };
    let floats = ask(json!({"encoding_format": "float"})).await;
    let coded = ask(json!({"encoding_format": "base64"})).await;
    for at in 0..2 {
        let numbers = floats["data"][at]["embedding"].as_array().unwrap();
        let numbers: Vec<f32> = numbers.iter().map(|n| n.as_f64().unwrap() as f32).collect();
        let text = coded["data"][at]["embedding"].as_str().unwrap();
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
        let (chunks, rest) = bytes.as_chunks::<4>();
        assert!(rest.is_empty());
        let decoded: Vec<f32> = chunks.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect();
        assert_eq!(decoded, numbers);
        assert_eq!(floats["data"][at]["index"], at);
    }
    assert_eq!(floats["usage"]["prompt_tokens"], floats["usage"]["total_tokens"]);
    assert!(floats["usage"]["prompt_tokens"].as_u64().unwrap() >= 4);

    let cut = ask(json!({"dimensions": 8})).await;
    let cut = cut["data"][0]["embedding"].as_array().unwrap().clone();
    assert_eq!(cut.len(), 8);
    let length: f64 = cut.iter().map(|n| n.as_f64().unwrap().powi(2)).sum();
    assert!((length - 1.0).abs() < 1e-3, "{length}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_that_was_cut_says_so() {
    let server = server_with(|args| args.context_length = Some("64".into())).await;
    let turn = |at: usize| {
        let role = if at.is_multiple_of(2) { "user" } else { "assistant" };
        json!({"role": role, "content": format!("Number {at}: the dog ran to the big tree.")})
    };
    let messages: Vec<_> = (0..7).map(turn).collect();
    for route in [ROUTES[0], ROUTES[2], ROUTES[3]] {
        let field = if route == ROUTES[2] { "input" } else { "messages" };
        let cut = good(&server, route, one(route, json!({field: messages}))).await;
        assert_eq!(cut["x_tramontane"]["truncated"], true, "{route}: {cut}");
        assert!(cut["x_tramontane"]["dropped_messages"].as_u64().unwrap() > 0);
        let short = good(&server, route, one(route, json!({}))).await;
        assert_eq!(short.get("x_tramontane"), None);

        let strict = if route == ROUTES[2] {
            json!({field: messages, "truncation": "disabled"})
        } else {
            json!({field: messages, "truncate": false})
        };
        let reply = server.post(route, &request(route, strict)).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{route}: {}", reply.text());
        assert_eq!(reply.json()["error"]["type"], "invalid_request_error");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guards_speak_the_routes_language() {
    let server = server_with(|args| {
        args.api_keys = Some("secret-key".into());
        args.max_body = Some("2000".into());
    })
    .await;
    for route in ROUTES {
        let reply = server.post(route, &request(route, json!({}))).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
        assert_eq!(reply.json()["error"]["type"], "authentication_error", "{route}");
    }
    let send = async |route: &str, name: &str, value: &str, size: usize| {
        let body = request(route, json!({"user": "x".repeat(size), "max_tokens": 1}));
        let request = axum::http::Request::post(route)
            .header("host", "127.0.0.1:11434")
            .header(name, value)
            .body(axum::body::Body::from(body.to_string()))
            .unwrap();
        Reply::of(server.send(request).await).await
    };
    let passed = send(ROUTES[0], "authorization", "Bearer secret-key", 0).await;
    assert_eq!(passed.status, StatusCode::OK, "{}", passed.text());
    // Anthropic's libraries send it so.
    let passed = send(ROUTES[3], "x-api-key", "secret-key", 0).await;
    assert_eq!(passed.status, StatusCode::OK, "{}", passed.text());
    let large = send(ROUTES[3], "x-api-key", "secret-key", 4000).await;
    assert_eq!(large.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(large.json()["error"]["type"], "request_too_large");
}
