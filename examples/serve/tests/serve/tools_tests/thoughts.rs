//! Thoughts, apart from the answer on every route.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::models::{asks, events, good, models, sentence, with};
use crate::support::server;

const FEW: usize = 6;

/// A request whose answer has few tokens; the model thinks or not.
fn ask(route: &str, think: bool) -> Value {
    let (_, body) = asks("thinker").into_iter().find(|(each, _)| *each == route).unwrap();
    let few = match route {
        "/api/chat" => json!({"options": {"num_predict": FEW, "temperature": 0}, "think": think}),
        "/v1/responses" => json!({"max_output_tokens": FEW,
            "reasoning": {"effort": if think { "high" } else { "none" }}}),
        "/v1/chat/completions" => json!({"max_tokens": FEW,
            "reasoning_effort": if think { "low" } else { "none" }}),
        _ => json!({"max_tokens": FEW,
            "thinking": {"type": if think { "enabled" } else { "disabled" }}}),
    };
    with(body, few)
}

/// Thoughts and text of a whole reply.
fn said(route: &str, reply: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of_kind = |list: &Value, kind: &str, read: &dyn Fn(&Value) -> String| {
        let list = list.as_array().unwrap().iter();
        list.filter(|one| one["type"] == kind).map(read).collect::<String>()
    };
    match route {
        "/api/chat" => (text(&reply["message"]["thinking"]), text(&reply["message"]["content"])),
        "/v1/chat/completions" => {
            let message = &reply["choices"][0]["message"];
            (text(&message["reasoning"]), text(&message["content"]))
        }
        "/v1/responses" => (
            of_kind(&reply["output"], "reasoning", &|item| text(&item["summary"][0]["text"])),
            of_kind(&reply["output"], "message", &|item| text(&item["content"][0]["text"])),
        ),
        _ => (
            of_kind(&reply["content"], "thinking", &|block| text(&block["thinking"])),
            of_kind(&reply["content"], "text", &|block| text(&block["text"])),
        ),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thoughts_are_no_text_and_text_is_no_thought() {
    let server = models().await;
    for (route, _) in asks("thinker") {
        let reply = good(&server, route, &ask(route, true)).await.json();
        let (thinking, text) = said(route, &reply);
        assert!(!thinking.is_empty() && text.is_empty(), "{route}: {reply}");
        let reply = good(&server, route, &ask(route, false)).await.json();
        let (thinking, text) = said(route, &reply);
        assert!(thinking.is_empty() && !text.is_empty(), "{route}: {reply}");
        assert!(!reply.to_string().contains("think>"), "{route}: {reply}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_can_thinks_unless_told_not_to() {
    let server = models().await;
    let body = json!({"model": "thinker", "prompt": "x", "stream": false,
        "options": {"num_predict": FEW}});
    let reply = good(&server, "/api/generate", &body).await.json();
    assert!(!reply["thinking"].as_str().unwrap().is_empty(), "{reply}");
    assert_eq!(reply["response"], "");
    assert_eq!(reply["done_reason"], "length");
    let reply = good(&server, "/api/generate", &with(body, json!({"think": false}))).await.json();
    assert_eq!(reply.get("thinking"), None, "{reply}");
    assert!(!reply["response"].as_str().unwrap().is_empty());

    let completion = json!({"model": "thinker", "prompt": "x", "max_tokens": FEW});
    let reply = good(&server, "/v1/completions", &completion).await.json();
    assert!(!reply["choices"][0]["reasoning"].as_str().unwrap().is_empty(), "{reply}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thoughts_are_streamed_in_their_place() {
    let server = models().await;
    for (route, _) in asks("thinker") {
        let whole = good(&server, route, &ask(route, true)).await.json();
        let (thinking, _) = said(route, &whole);
        let reply = good(&server, route, &with(ask(route, true), json!({"stream": true}))).await;
        let pieces: Vec<Value> = match route {
            "/api/chat" => reply.lines().iter().map(|l| l["message"]["thinking"].clone()).collect(),
            "/v1/chat/completions" => events(&reply)
                .iter()
                .map(|(_, data)| data["choices"][0]["delta"]["reasoning"].clone())
                .collect(),
            "/v1/responses" => events(&reply)
                .iter()
                .filter(|(name, _)| name == "response.reasoning_summary_text.delta")
                .map(|(_, data)| data["delta"].clone())
                .collect(),
            _ => events(&reply).iter().map(|(_, data)| data["delta"]["thinking"].clone()).collect(),
        };
        let joined: String = pieces.iter().filter_map(Value::as_str).collect();
        assert_eq!(joined, thinking, "{route}");
        if route == "/v1/messages" {
            let kinds: Vec<_> = events(&reply)
                .iter()
                .filter_map(|(_, data)| data["delta"]["type"].as_str().map(str::to_owned))
                .collect();
            assert_eq!(kinds.last().unwrap(), "signature_delta");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_thoughts_are_counted() {
    let server = models().await;
    let route = "/v1/chat/completions";
    let reply = good(&server, route, &ask(route, true)).await.json();
    let count = reply["usage"]["completion_tokens_details"]["reasoning_tokens"].as_u64().unwrap();
    assert!((1..=FEW as u64).contains(&count), "{reply}");
    let reply = good(&server, route, &ask(route, false)).await.json();
    assert_eq!(reply["usage"].get("completion_tokens_details"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_cannot_think_says_so_to_an_order() {
    let server = server().await;
    let refused = "\"storyteller\" does not support thinking";
    let [chat, openai, responses, anthropic] = asks("storyteller");
    for ((route, body), fields) in [
        (chat.clone(), json!({"think": true})),
        (chat.clone(), json!({"think": "max"})),
        (openai, json!({"reasoning_effort": "low"})),
        (responses, json!({"reasoning": {"effort": "low"}})),
    ] {
        let reply = server.post(route, &with(body, fields)).await;
        assert_eq!((reply.status, sentence(&reply)), (StatusCode::BAD_REQUEST, refused.into()));
    }
    // Loading it is answered the same way.
    let load = json!({"model": "storyteller", "think": true});
    assert_eq!(server.post("/api/generate", &load).await.error(), refused);
    // Anthropic's clients ask every model.
    for (body, fields) in [
        (chat.1, json!({"think": false, "options": {"num_predict": 1}})),
        (
            anthropic.1,
            json!({"thinking": {"type": "enabled", "budget_tokens": 1024},
            "max_tokens": 1}),
        ),
    ] {
        let route = if fields.get("think").is_some() { "/api/chat" } else { "/v1/messages" };
        good(&server, route, &with(body, fields)).await;
    }
}
