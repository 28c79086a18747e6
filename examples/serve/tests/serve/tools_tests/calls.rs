//! Calls in whole replies: shapes by field, choices, errors.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::models::{
    asks, assert_city, assert_city_text, good, models, sentence, weather, with, with_weather,
};

fn is_id(id: &Value) -> bool {
    let rest = id.as_str().and_then(|id| id.strip_prefix("call_"));
    rest.is_some_and(|rest| {
        rest.len() == 8 && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_required_call_has_the_form_of_its_route() {
    let server = models().await;
    for (route, body) in asks("caller") {
        let reply = good(&server, route, &with_weather(route, body, true)).await.json();
        match route {
            "/api/chat" => {
                let message = &reply["message"];
                assert_eq!(message["role"], "assistant");
                assert_eq!(message["content"], "", "{reply}");
                let calls = message["tool_calls"].as_array().unwrap();
                let call = &calls[0];
                assert_eq!(call["function"]["name"], "weather");
                assert_eq!(call["function"]["index"], 0);
                assert_city(&call["function"]["arguments"]);
                assert!(is_id(&call["id"]), "{call}");
                assert_eq!(call.get("type"), None);
                assert_eq!(reply["done_reason"], "stop");
            }
            "/v1/chat/completions" => {
                let choice = &reply["choices"][0];
                let call = &choice["message"]["tool_calls"][0];
                assert_eq!(call["type"], "function");
                assert_eq!(call["function"]["name"], "weather");
                assert_city_text(&call["function"]["arguments"]);
                assert!(is_id(&call["id"]), "{call}");
                assert_eq!(choice["finish_reason"], "tool_calls");
                assert!(reply["usage"]["completion_tokens"].as_u64().unwrap() > 3);
            }
            "/v1/responses" => {
                let item = &reply["output"][0];
                assert_eq!(item["type"], "function_call");
                assert_eq!(item["name"], "weather");
                assert_eq!(item["status"], "completed");
                assert!(is_id(&item["call_id"]), "{item}");
                assert!(item["id"].as_str().unwrap().starts_with("fc_"));
                assert_city_text(&item["arguments"]);
                assert_eq!(reply["status"], "completed");
                assert_eq!(reply["tool_choice"], "required");
                assert_eq!(reply["tools"][0]["name"], "weather");
            }
            _ => {
                let block = &reply["content"][0];
                assert_eq!(block["type"], "tool_use");
                assert_eq!(block["name"], "weather");
                assert!(is_id(&block["id"]), "{block}");
                assert_city(&block["input"]);
                assert_eq!(reply["stop_reason"], "tool_use");
            }
        }
    }
}

/// A function, the only one, that the answer calls; on `/v1/chat/completions`.
async fn called(server: &crate::support::Server, fields: Value) -> Vec<String> {
    let (route, body) = asks("caller")[1].clone();
    let reply = good(server, route, &with(body, fields)).await.json();
    let calls = reply["choices"][0]["message"]["tool_calls"].as_array().unwrap().iter();
    calls.map(|call| call["function"]["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_choice_is_kept() {
    let server = models().await;
    let function = |name: &str| json!({"type": "function", "function": {"name": name}});
    let tools = json!([function("aa"), function("bb")]);
    let named = json!({"tools": tools, "tool_choice": function("bb"),
        "parallel_tool_calls": false});
    assert_eq!(called(&server, named).await, ["bb"]);
    let allowed = json!({"mode": "required", "tools": [function("aa")]});
    let allowed = json!({"tools": tools, "parallel_tool_calls": false,
        "tool_choice": {"type": "allowed_tools", "allowed_tools": allowed}});
    assert_eq!(called(&server, allowed).await, ["aa"]);
    let one = json!({"tools": tools, "tool_choice": "required", "parallel_tool_calls": false});
    assert_eq!(called(&server, one).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_choice_of_calls_there_is_text() {
    let server = models().await;
    for (route, body) in asks("caller") {
        let none = match route {
            "/v1/messages" => json!({"type": "none"}),
            _ => json!("none"),
        };
        let body = with_weather(route, body, false);
        let limited = match route {
            "/api/chat" => json!({"options": {"num_predict": 5, "temperature": 0}}),
            "/v1/responses" => json!({"max_output_tokens": 5}),
            _ => json!({"max_tokens": 5}),
        };
        let body = with(with(body, limited), json!({"tool_choice": none}));
        let reply = good(&server, route, &body).await.json();
        let text = match route {
            "/api/chat" => &reply["message"]["content"],
            "/v1/chat/completions" => &reply["choices"][0]["message"]["content"],
            "/v1/responses" => &reply["output"][0]["content"][0]["text"],
            _ => &reply["content"][0]["text"],
        };
        assert!(text.as_str().is_some_and(|text| !text.is_empty()), "{route}: {reply}");
        assert!(!reply.to_string().contains("call_"), "{route}: {reply}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_old_form_of_functions_is_answered_in_it() {
    let server = models().await;
    let (route, body) = asks("caller")[1].clone();
    let function = weather()["function"].clone();
    let body = with(body, json!({"functions": [function], "function_call": {"name": "weather"}}));
    let reply = good(&server, route, &body).await.json();
    let choice = &reply["choices"][0];
    assert_eq!(choice["finish_reason"], "function_call");
    assert_eq!(choice["message"]["function_call"]["name"], "weather");
    assert_city_text(&choice["message"]["function_call"]["arguments"]);
    assert_eq!(choice["message"].get("tool_calls"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_cut_stays_text_and_the_reason_is_the_cut() {
    let server = models().await;
    for (route, body) in asks("caller") {
        let body = with_weather(route, body, true);
        let limited = match route {
            "/api/chat" => json!({"options": {"num_predict": 12, "temperature": 0}}),
            "/v1/responses" => json!({"max_output_tokens": 12}),
            _ => json!({"max_tokens": 12}),
        };
        let reply = good(&server, route, &with(body, limited)).await.json();
        let (reason, text) = match route {
            "/api/chat" => (&reply["done_reason"], &reply["message"]["content"]),
            "/v1/chat/completions" => {
                (&reply["choices"][0]["finish_reason"], &reply["choices"][0]["message"]["content"])
            }
            "/v1/responses" => {
                (&reply["incomplete_details"]["reason"], &reply["output"][0]["content"][0]["text"])
            }
            _ => (&reply["stop_reason"], &reply["content"][0]["text"]),
        };
        assert!(["length", "max_output_tokens", "max_tokens"].map(Value::from).contains(reason));
        assert!(text.as_str().unwrap().contains("<tool_call>"), "{route}: {reply}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_without_functions_says_so() {
    let server = models().await;
    for (route, body) in asks("storyteller") {
        let reply = server.post(route, &with_weather(route, body, false)).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{route}: {}", reply.text());
        let text = "registry.ollama.ai/library/storyteller:latest does not support tools";
        assert_eq!(sentence(&reply), text, "{route}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_names_the_field() {
    let server = models().await;
    let (route, body) = asks("caller")[1].clone();
    for (fields, param) in [
        (
            json!({"tools": [weather()], "tool_choice": {"type": "function",
            "function": {"name": "wether"}}}),
            "tool_choice",
        ),
        (
            json!({"tools": [{"type": "function", "function": {"name": "a b"}}]}),
            "tools[0].function.name",
        ),
        (json!({"response_format": {"type": "xml"}}), "response_format"),
        (json!({"choices": [1]}), "choices"),
    ] {
        let reply = server.post(route, &with(body.clone(), fields)).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text());
        assert_eq!(reply.json()["error"]["param"], param, "{}", reply.text());
    }
    let (route, body) = asks("caller")[3].clone();
    let reply = server.post(route, &with(body, json!({"thread": {"type": "create"}}))).await;
    let details = json!({"error_code": "thread_unsupported_request", "unsupported": ["thread"]});
    assert_eq!(reply.json()["error"]["details"], details);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn functions_count_as_tokens_of_the_prompt() {
    let server = models().await;
    let route = "/v1/messages/count_tokens";
    let (_, body) = asks("caller")[3].clone();
    let tokens = async |body: &Value| {
        good(&server, route, body).await.json()["input_tokens"].as_u64().unwrap()
    };
    let plain = tokens(&body).await;
    let with_tools = tokens(&with_weather("/v1/messages", body.clone(), false)).await;
    assert!(with_tools > plain + 20, "{with_tools} {plain}");
    let whole = with_weather("/v1/messages", body, true);
    let usage = good(&server, "/v1/messages", &whole).await.json()["usage"].clone();
    assert_eq!(usage["input_tokens"].as_u64(), Some(with_tools));
}
