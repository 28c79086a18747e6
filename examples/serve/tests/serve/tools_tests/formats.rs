//! Answers that are held to a form, on every route.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::models::{asks, good, models, sentence, weather, with};

/// A request of the route for a value of `schema`.
fn of_schema(route: &str, body: Value, schema: &Value) -> Value {
    let fields = match route {
        "/api/chat" => json!({"format": schema}),
        "/v1/chat/completions" => json!({"response_format": {
            "type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": true},
        }}),
        "/v1/responses" => json!({"text": {"format": {
            "type": "json_schema", "name": "n", "schema": schema,
        }}}),
        _ => json!({"output_config": {"format": {"type": "json_schema", "schema": schema}}}),
    };
    with(body, fields)
}

/// The text of a whole reply.
fn text(route: &str, reply: &Value) -> String {
    let text = match route {
        "/api/chat" => &reply["message"]["content"],
        "/v1/chat/completions" => &reply["choices"][0]["message"]["content"],
        "/v1/responses" => &reply["output"][0]["content"][0]["text"],
        _ => &reply["content"][0]["text"],
    };
    text.as_str().unwrap_or_else(|| panic!("{reply}")).to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_a_value_of_its_schema() {
    let server = models().await;
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {"warm": {"type": "boolean"}, "city": {"enum": ["Nice", "Rome"]}},
        "required": ["warm", "city"],
        "additionalProperties": false,
    });
    for model in ["storyteller", "caller"] {
        for (route, body) in asks(model) {
            let reply = good(&server, route, &of_schema(route, body, &schema)).await.json();
            let text = text(route, &reply);
            let value: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
            assert!(value["warm"].is_boolean(), "{route}: {text}");
            assert!(["Nice", "Rome"].contains(&value["city"].as_str().unwrap()), "{text}");
            assert_eq!(text.trim(), text, "{route}");
            let ended = ["stop", "completed", "end_turn"].map(Value::from);
            let reason = match route {
                "/api/chat" => &reply["done_reason"],
                "/v1/chat/completions" => &reply["choices"][0]["finish_reason"],
                "/v1/responses" => &reply["status"],
                _ => &reply["stop_reason"],
            };
            assert!(ended.contains(reason), "{route}: {reply}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_mode_gives_an_object() {
    let server = models().await;
    let [chat, openai, responses, _] = asks("storyteller");
    for ((route, body), fields) in [
        (chat, json!({"format": "json"})),
        (openai, json!({"response_format": {"type": "json_object"}})),
        (responses, json!({"text": {"format": {"type": "json_object"}}})),
    ] {
        let few =
            json!({"options": {"num_predict": 60}, "max_tokens": 60, "max_output_tokens": 60});
        let reply = good(&server, route, &with(with(body, few), fields)).await.json();
        let text = text(route, &reply);
        assert!(text.trim_start().starts_with('{'), "{route}: {text}");
    }
}

/// As programs write schemas: none says that there are no other properties.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn properties_that_a_schema_does_not_name_are_not_written() {
    let server = models().await;
    let (route, body) = asks("storyteller")[0].clone();
    let inner = json!({"type": "object", "properties": {"b": {"enum": [1]}}, "required": ["b"]});
    let schema = json!({"type": "object", "properties": {"a": inner}, "required": ["a"]});
    let reply = good(&server, route, &of_schema(route, body, &schema)).await.json();
    let value: Value = serde_json::from_str(&text(route, &reply)).unwrap();
    assert_eq!(value, json!({"a": {"b": 1}}));
    assert_eq!(reply["done_reason"], "stop");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_forms_are_taken_on_every_route() {
    let server = models().await;
    let generate = json!({"model": "storyteller", "prompt": "x", "stream": false});
    let completion = json!({"model": "storyteller", "prompt": "x"});
    let more = [("/api/generate", generate), ("/v1/completions", completion)];
    for (route, body) in asks("storyteller").into_iter().chain(more) {
        for (fields, wanted) in [
            (json!({"choices": ["maybe so"]}), "maybe so"),
            (json!({"regex": "a{3}b"}), "aaab"),
            (json!({"grammar": "root ::= \"x\" tail\ntail ::= \"yz\""}), "xyz"),
        ] {
            let reply = good(&server, route, &with(body.clone(), fields)).await.json();
            let text = match route {
                "/api/generate" => reply["response"].as_str().unwrap().to_owned(),
                "/v1/completions" => reply["choices"][0]["text"].as_str().unwrap().to_owned(),
                route => text(route, &reply),
            };
            assert_eq!(text, wanted, "{route}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keyword_that_cannot_be_kept_is_named() {
    let server = models().await;
    let schema =
        json!({"type": "object", "properties": {"a": {"type": "array", "uniqueItems": true}}});
    for (route, body) in asks("storyteller") {
        let reply = server.post(route, &of_schema(route, body, &schema)).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{route}: {}", reply.text());
        let text = sentence(&reply);
        assert!(text.contains("uniqueItems") && text.contains("properties"), "{route}: {text}");
        assert!(!text.contains('\n'), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strict_function_that_cannot_be_kept_is_refused_and_another_is_called() {
    let server = models().await;
    let (route, body) = asks("caller")[1].clone();
    let mut tool = weather();
    tool["function"]["parameters"]["not"] = json!({"required": ["town"]});
    tool["function"]["strict"] = true.into();
    let strict = with(
        body,
        json!({"tools": [tool], "tool_choice": "required",
        "parallel_tool_calls": false, "max_tokens": 120}),
    );
    let reply = server.post(route, &strict).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text());
    let text = sentence(&reply);
    assert!(text.contains("\"weather\" is strict") && text.contains("not"), "{text}");
    let mut lax = strict;
    lax["tools"][0]["function"]["strict"] = false.into();
    let reply = good(&server, route, &lax).await.json();
    assert_eq!(reply["x_tramontane"]["unconstrained_tools"], json!(["weather"]), "{reply}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_format_beside_functions_leaves_both_possible() {
    let server = models().await;
    let (route, body) = asks("caller")[1].clone();
    let schema = json!({"const": "warm"});
    let both = with(of_schema(route, body, &schema), json!({"tools": [weather()]}));
    let reply = good(&server, route, &both).await.json();
    let message = &reply["choices"][0]["message"];
    let called = message["tool_calls"][0]["function"]["name"] == "weather";
    assert!(called || message["content"] == "\"warm\"", "{reply}");
    let forced =
        with(both.clone(), json!({"tool_choice": "required", "parallel_tool_calls": false}));
    let reply = good(&server, route, &forced).await.json();
    let message = &reply["choices"][0]["message"];
    assert_eq!(message["tool_calls"][0]["function"]["name"], "weather", "{reply}");
    let none = with(both, json!({"tool_choice": "none"}));
    let reply = good(&server, route, &none).await.json();
    assert_eq!(reply["choices"][0]["message"]["content"], "\"warm\"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_probabilities_come_with_a_format() {
    let server = models().await;
    let (route, body) = asks("storyteller")[1].clone();
    let body = of_schema(route, with(body, json!({"logprobs": true})), &json!({"const": "yes"}));
    let reply = good(&server, route, &body).await.json();
    let list = reply["choices"][0]["logprobs"]["content"].as_array().unwrap();
    let bytes: Vec<u8> = list
        .iter()
        .flat_map(|one| {
            one["bytes"].as_array().unwrap().iter().map(|byte| byte.as_u64().unwrap() as u8)
        })
        .collect();
    let joined = String::from_utf8(bytes).unwrap();
    assert!(joined.contains("\"yes\""), "{joined}");
}
