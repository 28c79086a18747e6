//! JSON → what the model is asked for: `requests.json`.
//!
//! Each case takes the smallest request of its route, with other fields (`with`) or
//! fewer (`without`), and says how what is read differs from what the smallest request
//! gives (`read`), or the error (`error`, with a status other than 400 in `status`).

use axum::body::Bytes;
use serde_json::{Map, Value, json};
use tramontane::{Message, ToolCall};

use tramontane_serve::answer::{Asked, Chat, Format, FormatKind};
use tramontane_serve::openai::{anthropic, chat, completions, embeddings, rerank, responses};
use tramontane_serve::wire::{ApiError, KeepAlive, Think};

#[test]
fn every_request_is_read_as_it_is_meant() {
    let cases: Value = serde_json::from_str(include_str!("requests.json")).unwrap();
    let (mut count, mut failures) = (0, Vec::new());
    for (route, cases) in cases.as_object().unwrap() {
        let smallest = smallest(route);
        let plain = read(route, &smallest).unwrap();
        for case in cases.as_array().unwrap() {
            count += 1;
            if let Err(problem) = check(route, &smallest, &plain, case) {
                failures.push(format!("{route}: {case}: {problem}"));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {count}:\n{}", failures.len(), failures.join("\n"));
    assert!(count >= 180, "only {count} cases");
}

fn check(route: &str, smallest: &Value, plain: &Value, case: &Value) -> Result<(), String> {
    let mut request = smallest.clone();
    merge(&mut request, &case["with"]);
    for field in case["without"].as_array().into_iter().flatten() {
        request.as_object_mut().unwrap().shift_remove(field.as_str().unwrap());
    }
    let read = read(route, &request);
    match (case.get("read"), case["error"].as_str(), read) {
        (Some(changes), None, Ok(read)) => {
            let mut wanted = plain.clone();
            merge(&mut wanted, changes);
            if read == wanted { Ok(()) } else { Err(format!("{read} instead of {wanted}")) }
        }
        (None, Some(text), Err(error)) => {
            let status = case["status"].as_u64().unwrap_or(400);
            let same = error.message == text && u64::from(error.status.as_u16()) == status;
            if same { Ok(()) } else { Err(format!("{error:?}")) }
        }
        (_, _, read) => Err(format!("{read:?}")),
    }
}

fn merge(into: &mut Value, from: &Value) {
    for (name, value) in from.as_object().unwrap_or(&Map::new()) {
        into[name] = value.clone();
    }
}

fn smallest(route: &str) -> Value {
    let messages = json!([{"role": "user", "content": "hi"}]);
    match route {
        "chat" => json!({"model": "m", "messages": messages}),
        "completions" => json!({"model": "m", "prompt": "hi"}),
        "embeddings" => json!({"model": "m", "input": "hi"}),
        "rerank" => json!({"model": "m", "query": "q", "documents": ["a", "b"]}),
        "responses" => json!({"model": "m", "input": "hi"}),
        "messages" => json!({"model": "m", "max_tokens": 9, "messages": messages}),
        _ => panic!("{route}"),
    }
}

fn read(route: &str, request: &Value) -> Result<Value, ApiError> {
    let bytes = Bytes::from(request.to_string());
    Ok(match route {
        "chat" => {
            let read = chat::read(&bytes)?;
            let mut shown = shown_chat(&read.chat);
            merge(&mut shown, &json!({"stream": read.stream, "usage": read.style.include_usage}));
            if read.style.old_calls {
                shown["old_calls"] = true.into();
            }
            shown
        }
        "completions" => {
            let read = completions::read(&bytes)?;
            let mut shown = shown(&read.generate.asked);
            let generate = &read.generate;
            let own = json!({
                "prompt": generate.prompt, "suffix": generate.suffix, "raw": generate.raw,
                "stream": read.stream, "usage": read.include_usage,
            });
            merge(&mut shown, &own);
            shown
        }
        "embeddings" => {
            let read = embeddings::read(&bytes)?;
            let embed = read.embed;
            json!({
                "model": embed.model, "inputs": embed.inputs, "truncate": embed.truncate,
                "dimensions": embed.dimensions, "base64": read.base64, "options": embed.options,
                "keep_alive": embed.keep_alive.map(seconds),
            })
        }
        "rerank" => {
            let read = rerank::read(&bytes)?;
            let mut shown = shown(&read.asked);
            let texts: Vec<&str> = read.documents.iter().map(|one| one.text.as_str()).collect();
            let own = json!({
                "query": read.query, "documents": texts,
                "top_n": (read.top_n < usize::MAX).then_some(read.top_n),
                "return_documents": read.return_documents,
            });
            merge(&mut shown, &own);
            shown
        }
        "responses" => {
            let read = responses::read(&bytes)?;
            let mut shown = shown_chat(&read.chat);
            merge(&mut shown, &json!({"stream": read.stream, "echo": read.echo}));
            if read.encrypted {
                shown["encrypted"] = true.into();
            }
            shown
        }
        "messages" => {
            let read = anthropic::read(&bytes)?;
            let mut shown = shown_chat(&read.chat);
            merge(&mut shown, &json!({"stream": read.stream, "stop": read.stop}));
            shown
        }
        _ => panic!("{route}"),
    })
}

fn shown_chat(chat: &Chat) -> Value {
    let mut shown = shown(&chat.asked);
    shown["said"] = chat.messages.iter().map(said).collect();
    let tools = &chat.tools;
    shown["tools"] = tools.shown().iter().map(|tool| tool.as_json().clone()).collect();
    let callable: Vec<String> = tools.callable().iter().map(|one| one.name().into()).collect();
    if callable.len() < tools.shown().len() {
        shown["callable"] = json!(callable);
    }
    if tools.are_used() {
        shown["choice"] = format!("{:?}", tools.choice()).into();
        shown["parallel"] = tools.parallel().into();
    }
    shown
}

/// Role and text; and what else a message has.
fn said(message: &Message) -> Value {
    let mut more = message.as_json().as_object().unwrap().clone();
    for known in ["role", "content", "reasoning_content", "tool_name"] {
        more.shift_remove(known);
    }
    let calls = message.tool_calls();
    if !calls.is_empty() {
        let call = |call: &ToolCall| json!([call.id(), call.name(), call.arguments()]);
        more["tool_calls"] = calls.iter().map(call).collect();
    }
    match more.is_empty() {
        true => json!([message.role(), message.content()]),
        false => json!([message.role(), message.content(), more]),
    }
}

/// The format, and the field that says so.
fn format(format: &Format) -> Value {
    let kind = match &format.kind {
        FormatKind::Json => json!("json"),
        FormatKind::Schema(schema) => schema.clone(),
        FormatKind::Grammar(text) => json!({"grammar": text}),
        FormatKind::Regex(text) => json!({"regex": text}),
        FormatKind::Choices(texts) => json!({"choices": texts}),
    };
    json!([format.field, kind])
}

fn shown(asked: &Asked) -> Value {
    json!({
        "model": asked.model,
        "options": asked.options,
        "keep_alive": asked.keep_alive.map(seconds),
        "truncate": asked.truncate,
        "shift": asked.shift,
        "logprobs": asked.logprobs,
        "top_logprobs": asked.top_logprobs,
        "think": asked.think.map(think),
        "format": asked.format.as_ref().map(format),
    })
}

fn think(think: Think) -> Value {
    match think {
        Think::No => json!(false),
        Think::Yes => json!(true),
        Think::Low => json!("low"),
        Think::Medium => json!("medium"),
        Think::High => json!("high"),
        Think::Max => json!("max"),
    }
}

/// -1: for ever.
fn seconds(keep_alive: KeepAlive) -> f64 {
    match keep_alive {
        KeepAlive::For(time) => time.as_secs_f64(),
        KeepAlive::Forever => -1.0,
    }
}

#[test]
fn what_is_no_json_is_refused_with_gos_words() {
    for (text, wanted) in [
        ("", "missing request body"),
        ("{", "unexpected EOF"),
        ("x", "invalid character 'x' looking for beginning of value"),
        (r#"{"model":"m","input":"a"} trailing"#, ""),
    ] {
        let read = embeddings::read(&Bytes::from(text));
        assert_eq!(read.err().map_or(String::new(), |error| error.message), wanted, "{text}");
    }
}
