//! Calls and results in what clients send back.

use serde_json::{Value, json};

use super::models::{QUESTION, asks, good, models, with, with_weather};

/// A conversation in which the function was called and has answered.
fn messages(route: &str) -> Value {
    let question = json!({"role": "user", "content": QUESTION});
    match route {
        "/api/chat" => json!([question,
            {"role": "assistant", "tool_calls": [{"function": {"name": "weather",
                "arguments": {"city": "Nice"}}}]},
            {"role": "tool", "content": "sunny"}]),
        "/v1/chat/completions" => json!([question,
            {"role": "assistant", "content": null, "tool_calls": [{"id": "call_abcdefgh",
                "type": "function",
                "function": {"name": "weather", "arguments": "{\"city\": \"Nice\"}"}}]},
            {"role": "tool", "tool_call_id": "call_abcdefgh", "content": "sunny"}]),
        "/v1/responses" => json!([question,
            {"type": "function_call", "call_id": "call_abcdefgh", "name": "weather",
                "arguments": "{\"city\": \"Nice\"}"},
            {"type": "function_call_output", "call_id": "call_abcdefgh", "output": "sunny"}]),
        _ => json!([question,
            {"role": "assistant", "content": [{"type": "tool_use", "id": "call_abcdefgh",
                "name": "weather", "input": {"city": "Nice"}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_abcdefgh",
                "content": "sunny"}]}]),
    }
}

fn prompt_tokens(route: &str, reply: &Value) -> u64 {
    let tokens = match route {
        "/api/chat" => &reply["prompt_eval_count"],
        "/v1/chat/completions" => &reply["usage"]["prompt_tokens"],
        _ => &reply["usage"]["input_tokens"],
    };
    tokens.as_u64().unwrap()
}

/// The same conversation is the same prompt, whatever the API, and the next call gets an id
/// that is new.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_round_of_calls_is_one_prompt_on_every_route() {
    let server = models().await;
    let mut counts = Vec::new();
    for (route, body) in asks("caller") {
        let field = if route == "/v1/responses" { "input" } else { "messages" };
        let body = with(with_weather(route, body, true), json!({field: messages(route)}));
        let reply = good(&server, route, &body).await.json();
        counts.push(prompt_tokens(route, &reply));
        assert!(reply.to_string().contains("weather"), "{route}: {reply}");
        assert!(!reply.to_string().contains("call_abcdefgh"), "{route}: {reply}");
    }
    // The fields of a declared function stand in another order in Anthropic's form only.
    assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_calls_are_left_out_with_their_results() {
    let server = models().await;
    let (route, body) = asks("caller")[1].clone();
    let round = messages(route);
    let mut long: Vec<Value> = Vec::new();
    for _ in 0..12 {
        long.extend(round.as_array().unwrap().clone());
        long.push(json!({"role": "assistant", "content": "It is sunny in Nice today."}));
    }
    long.push(json!({"role": "user", "content": "And tomorrow?"}));
    let body = with(body, json!({"messages": long, "max_tokens": 2}));
    let reply = good(&server, route, &body).await.json();
    let own = &reply["x_tramontane"];
    assert_eq!(own["truncated"], true, "{reply}");
    assert!(own["dropped_messages"].as_u64().unwrap() > 4, "{reply}");
    assert!(prompt_tokens(route, &reply) <= 512);
}
