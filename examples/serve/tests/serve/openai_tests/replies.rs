//! The steps of an answer → JSON, whole and in events: `replies.json`.
//!
//! A case has the `steps` of an answer and, for each route, the reply as a whole
//! (`whole`) and its `events`: `[name, data]`, or `[data]` where events have no names.
//! What every reply of a route repeats is checked here and left out there.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use tramontane_serve::answer::{
    Call, Done, DoneReason, Embedded, Logprob, Step, TopLogprob, Whole,
};
use tramontane_serve::openai::shared::Head;
use tramontane_serve::openai::stream::Writer;
use tramontane_serve::openai::{chat, completions, embeddings, message, response};
use tramontane_serve::wire::{ApiError, Event};

#[test]
fn every_answer_is_written_as_its_route_does() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("replies.json")).unwrap();
    let (mut count, mut failures) = (0, Vec::new());
    for case in &cases {
        for (route, wanted) in case["routes"].as_object().unwrap() {
            count += 1;
            if let Err(problem) = check(route, case, wanted) {
                failures.push(format!("{route}, {}: {problem}", case["name"]));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {count}:\n{}", failures.len(), failures.join("\n"));
    assert!(count >= 35, "only {count} replies");
}

fn check(route: &str, case: &Value, wanted: &Value) -> Result<(), String> {
    let steps: Vec<Step> = case["steps"].as_array().unwrap().iter().map(step).collect();
    if let Some(wanted) = wanted.get("whole") {
        let found = without_head(route, whole(route, case, &together(&steps)));
        if found != *wanted {
            return Err(format!("whole: {found} instead of {wanted}"));
        }
    }
    if let Some(wanted) = wanted.get("events") {
        let found: Vec<Value> = match route {
            "chat" => events(chat::Chunks::new(head(), style(case)), steps),
            "completions" => events(completions::Chunks::new(head(), case["usage"] == true), steps),
            "responses" => events(response::Events::new(response_head()), steps),
            "messages" => events(message::Events::new(message_head(case)), steps),
            _ => panic!("{route}"),
        }
        .into_iter()
        .map(|event| shown(route, event))
        .collect();
        if json!(found) != *wanted {
            return Err(format!("events: {} instead of {wanted}", json!(found)));
        }
    }
    Ok(())
}

fn whole(route: &str, case: &Value, whole: &Whole) -> Value {
    match route {
        "chat" => chat::whole(&head(), style(case), whole),
        "completions" => completions::whole(&head(), whole),
        "responses" => response_head().whole(whole),
        "messages" => message_head(case).whole(whole),
        _ => panic!("{route}"),
    }
}

fn style(case: &Value) -> chat::Style {
    chat::Style { include_usage: case["usage"] == true, old_calls: case["old calls"] == true }
}

fn events(mut writer: impl Writer, steps: Vec<Step>) -> Vec<Event> {
    let mut events = writer.begin(11);
    for step in steps {
        events.extend(writer.step(step));
    }
    events
}

fn head() -> Head {
    Head { id: "ID".into(), created: 7, model: "m".into() }
}

fn response_head() -> response::Head {
    let echo = json!({"temperature": 0.5});
    response::Head {
        id: "ID".into(),
        created: 7,
        model: "m".into(),
        echo: echo.as_object().unwrap().clone(),
        encrypted: false,
    }
}

fn message_head(case: &Value) -> message::Head {
    let stop = case["stop"].as_array().into_iter().flatten();
    let stop = stop.map(|text| text.as_str().unwrap().to_owned()).collect();
    message::Head { id: "ID".into(), model: "m".into(), stop }
}

/// `[name, data]` or `[data]`, without what all events of the route repeat.
fn shown(route: &str, event: Event) -> Value {
    let Ok(mut data) = serde_json::from_str::<Value>(&event.data) else {
        return json!([event.data]);
    };
    if let Some(response) = data.get_mut("response") {
        *response = without_head(route, response.take());
    } else if let Some(message) = data.get_mut("message") {
        *message = without_head(route, message.take());
    } else if route == "chat" || route == "completions" {
        data = without_head(route, data);
    }
    if let Some(id) = data.get("request_id").and_then(Value::as_str) {
        assert!(id.starts_with("req_") && id.len() == 28, "{id}");
        data.as_object_mut().unwrap().shift_remove("request_id");
    }
    match event.name {
        None => json!([data]),
        Some(name) => {
            // An event's name stands in its data again.
            assert_eq!(data.as_object_mut().unwrap().shift_remove("type"), Some(name.into()));
            json!([name, data])
        }
    }
}

/// Takes out the head of a reply, which must be there; errors have none.
fn without_head(route: &str, mut reply: Value) -> Value {
    if reply.get("error").is_some_and(|error| !error.is_null()) && route != "responses" {
        return reply;
    }
    let head = match route {
        "chat" | "completions" => json!({
            "id": "ID", "created": 7, "model": "m", "system_fingerprint": "fp_ollama",
        }),
        "responses" => json!({
            "id": "ID", "object": "response", "created_at": 7, "model": "m", "background": false,
            "parallel_tool_calls": true, "previous_response_id": null, "store": false,
            "reasoning": {"effort": null, "summary": null}, "text": {"format": {"type": "text"}},
            "tool_choice": "auto", "tools": [], "temperature": 0.5,
        }),
        _ => json!({"id": "ID", "type": "message", "role": "assistant", "model": "m"}),
    };
    let fields = reply.as_object_mut().unwrap();
    for (name, value) in head.as_object().unwrap() {
        assert_eq!(fields.shift_remove(name).as_ref(), Some(value), "{route}: {name}");
    }
    if let Some(time) = fields.shift_remove("completed_at") {
        assert!(time.as_u64().unwrap() > 1_600_000_000);
    }
    reply
}

fn together(steps: &[Step]) -> Whole {
    match steps.split_last() {
        Some((Step::Done(done), before)) => Whole::of(before.iter().cloned(), (**done).clone()),
        _ => panic!("no end"),
    }
}

/// A text; `{"thinking": text}`; `{"call": [name, arguments]}`, whose id is `call_` and its
/// name; `[text, token, logprob, {other: logprob}, offset]`, the last one 0 if it is not
/// there; `{"done": …}`; `{"failed": …}`.
fn step(value: &Value) -> Step {
    match value {
        Value::String(text) => Step::Text(text.clone(), Vec::new()),
        Value::Array(list) => {
            let text = |at: usize| list[at].as_str().unwrap().to_owned();
            let offset = list.get(4).and_then(Value::as_u64).unwrap_or(0) as usize;
            Step::Text(text(0), vec![Logprob { offset, ..logprob(text(1), &list[2], &list[3]) }])
        }
        value if value.get("thinking").is_some() => {
            Step::Thinking(value["thinking"].as_str().unwrap().into(), Vec::new())
        }
        value if value.get("call").is_some() => {
            let name = value["call"][0].as_str().unwrap().to_owned();
            let (id, arguments) = (format!("call_{name}"), value["call"][1].clone());
            let index = value["call"][2].as_u64().unwrap_or(0) as usize;
            Step::Call(Call { index, id, name, arguments })
        }
        value if value.get("failed").is_some() => {
            let status = value["failed"][0].as_u64().unwrap() as u16;
            let status = axum::http::StatusCode::from_u16(status).unwrap();
            Step::Failed(ApiError::new(status, value["failed"][1].as_str().unwrap()))
        }
        value => Step::Done(Box::new(done(&value["done"]))),
    }
}

fn logprob(token: String, logprob: &Value, top: &Value) -> Logprob {
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NEG_INFINITY);
    let bytes = |token: &str| token.as_bytes().to_vec();
    let top = top.as_object().unwrap().iter().map(|(token, logprob)| TopLogprob {
        token: token.clone(),
        logprob: number(logprob),
        bytes: bytes(token),
    });
    let (bytes, top_logprobs) = (bytes(&token), top.collect());
    Logprob { token, logprob: number(logprob), bytes, top_logprobs, offset: 0 }
}

fn done(value: &Value) -> Done {
    let number = |name: &str| value[name].as_u64().unwrap_or(0) as usize;
    Done {
        reason: match value["reason"].as_str() {
            Some("length" | "dead end") => DoneReason::Length,
            Some("stop string") => DoneReason::StopString,
            _ => DoneReason::Stop,
        },
        prompt_tokens: 11,
        reused_tokens: number("reused"),
        generated_tokens: 3,
        thinking_tokens: number("thinking"),
        loose_functions: Vec::new(),
        dead_end: value["reason"] == "dead end",
        total: Duration::from_secs(4),
        load: Duration::from_secs(1),
        prompt: Duration::from_secs(1),
        generation: Duration::from_secs(2),
        dropped_tokens: number("dropped_tokens"),
        dropped_messages: number("dropped_messages"),
        folds: value["folded"].as_bool().map_or(Vec::new(), |_| vec!["system-into-user"]),
        context: vec![1, 2, 3],
    }
}

#[test]
fn vectors_are_numbers_as_short_as_they_can_be_or_base64_of_their_bytes() {
    let embedded = Embedded {
        model: "m".into(),
        embeddings: vec![vec![0.1, -2.0], vec![1.5]],
        prompt_tokens: 7,
        total: Duration::from_secs(1),
        load: Duration::from_secs(1),
    };
    let list = embeddings::list(embedded.clone(), false);
    assert_eq!(
        serde_json::to_string(&list).unwrap(),
        r#"{"object":"list","data":[{"object":"embedding","embedding":[0.1,-2.0],"index":0},{"object":"embedding","embedding":[1.5],"index":1}],"model":"m","usage":{"prompt_tokens":7,"total_tokens":7}}"#
    );
    let list = json!(embeddings::list(embedded, true));
    // 0x3dcccccd and 0xc0000000, their lowest byte first.
    assert_eq!(list["data"][0]["embedding"], "zczMPQAAAMA=");
    assert_eq!(list["data"][1]["index"], 1);
}

#[test]
fn errors_have_the_type_of_their_status() {
    use tramontane_serve::openai::error::{AnthropicError, OpenAiError};
    let openai = BTreeMap::from([
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (500, "api_error"),
        (503, "api_error"),
    ]);
    let anthropic = BTreeMap::from([
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (503, "overloaded_error"),
    ]);
    let error = |status| ApiError::new(axum::http::StatusCode::from_u16(status).unwrap(), "so");
    for (status, kind) in openai {
        let wanted = json!({"message": "so", "type": kind, "param": null, "code": null});
        assert_eq!(OpenAiError(error(status)).json(), json!({"error": wanted}));
    }
    for (status, kind) in anthropic {
        let json = AnthropicError(error(status)).json();
        assert_eq!(json["error"], json!({"message": "so", "type": kind}));
        assert_eq!(json["type"], "error");
    }
}

#[test]
fn names_of_replies_do_not_repeat() {
    let names: std::collections::HashSet<_> =
        (0..1000).map(|_| tramontane_serve::openai::id::random("chatcmpl-")).collect();
    assert_eq!(names.len(), 1000);
    assert!(names.iter().all(|name| name.len() == "chatcmpl-".len() + 24));
}
