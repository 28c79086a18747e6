//! Streams with calls: what is said once, what is joined, which comes before which.

use serde_json::{Value, json};

use super::models::{
    asks, assert_city, assert_city_text, events, good, models, with, with_weather,
};

async fn streamed(route: &str) -> crate::support::Reply {
    let server = models().await;
    let (_, body) = asks("caller").into_iter().find(|(each, _)| *each == route).unwrap();
    let body = with_weather(route, with(body, json!({"stream": true})), true);
    let body = with(body, json!({"stream_options": {"include_usage": true}}));
    good(&server, route, &body).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_a_line_before_the_last() {
    let lines = streamed("/api/chat").await.lines();
    let (last, before) = lines.split_last().unwrap();
    assert_eq!(last["done"], true);
    assert_eq!(last["done_reason"], "stop");
    assert_eq!(last["message"], json!({"role": "assistant", "content": ""}));
    assert!(last["eval_count"].as_u64().unwrap() > 3);
    let calls: Vec<&Value> =
        before.iter().filter_map(|line| line["message"].get("tool_calls")).collect();
    assert!(!calls.is_empty(), "{lines:?}");
    for (at, calls) in calls.into_iter().enumerate() {
        assert_eq!(calls.as_array().unwrap().len(), 1);
        assert_eq!(calls[0]["function"]["index"], at);
        assert_city(&calls[0]["function"]["arguments"]);
    }
    assert!(before.iter().all(|line| line["done"] == false && line["message"]["content"] == ""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_calls_id_and_name_come_once_and_its_arguments_join() {
    let reply = streamed("/v1/chat/completions").await;
    let chunks: Vec<Value> = events(&reply).into_iter().map(|(_, data)| data).collect();
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let roles = chunks.iter().filter(|chunk| chunk["choices"][0]["delta"].get("role").is_some());
    assert_eq!(roles.count(), 1);
    let parts = chunks.iter().flat_map(|chunk| {
        chunk["choices"][0]["delta"]["tool_calls"].as_array().cloned().unwrap_or_default()
    });
    let mut joined: Vec<[String; 4]> = Vec::new();
    for part in parts {
        let at = part["index"].as_u64().unwrap() as usize;
        if joined.len() <= at {
            joined.push(Default::default());
        }
        let fields =
            [&part["id"], &part["type"], &part["function"]["name"], &part["function"]["arguments"]];
        for (text, more) in joined[at].iter_mut().zip(fields) {
            *text += more.as_str().unwrap_or_default();
        }
    }
    assert!(!joined.is_empty(), "{chunks:?}");
    for [id, kind, name, arguments] in joined {
        assert_eq!((id.len(), kind.as_str(), name.as_str()), (13, "function", "weather"));
        assert_city_text(&arguments.into());
    }
    let reasons = chunks.iter().filter_map(|chunk| chunk["choices"][0]["finish_reason"].as_str());
    assert_eq!(reasons.collect::<Vec<_>>(), ["tool_calls"]);
    let usage = &chunks[chunks.len() - 2];
    assert_eq!(usage["choices"], json!([]));
    assert!(usage["usage"]["completion_tokens"].as_u64().unwrap() > 3);
    assert_eq!(chunks[chunks.len() - 1], "[DONE]");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_item_of_a_response_is_opened_and_closed_at_a_place_of_its_own() {
    let events = events(&streamed("/v1/responses").await);
    let mut open = None;
    let mut places = Vec::new();
    for (at, (name, data)) in events.iter().enumerate() {
        assert_eq!(data["sequence_number"], at, "{name}");
        assert_eq!(data["type"], name.as_str());
        match name.as_str() {
            "response.output_item.added" => {
                assert_eq!(open, None, "{data}");
                open = Some(data["output_index"].clone());
                places.push(data["output_index"].as_u64().unwrap());
            }
            "response.output_item.done" => {
                assert_eq!(open.take(), Some(data["output_index"].clone()))
            }
            name if name.contains("function_call_arguments") => {
                assert_eq!(open.as_ref(), Some(&data["output_index"]));
            }
            _ => {}
        }
    }
    assert_eq!(places, (0..places.len() as u64).collect::<Vec<_>>());
    let of = |wanted: &str| {
        events.iter().filter(|(name, _)| name == wanted).map(|(_, data)| data).collect::<Vec<_>>()
    };
    let added = &of("response.output_item.added")[0]["item"];
    assert_eq!((&added["type"], &added["arguments"]), (&json!("function_call"), &json!("")));
    assert_eq!(added["status"], "in_progress");
    let delta = &of("response.function_call_arguments.delta")[0]["delta"];
    let done = of("response.function_call_arguments.done")[0];
    assert_eq!(&done["arguments"], delta);
    assert_eq!(done["item_id"], added["id"]);
    assert_city_text(delta);
    let last = of("response.completed")[0];
    let items: Vec<&Value> =
        of("response.output_item.done").into_iter().map(|data| &data["item"]).collect();
    assert_eq!(last["response"]["output"], json!(items));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_is_closed_before_the_next_opens() {
    let events = events(&streamed("/v1/messages").await);
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names[0], "message_start");
    assert_eq!(names[names.len() - 2..], ["message_delta", "message_stop"]);
    let (mut open, mut count) = (None, 0);
    for (name, data) in &events {
        match name.as_str() {
            "content_block_start" => {
                assert_eq!((open, data["index"].as_u64()), (None, Some(count)));
                open = Some(count);
                count += 1;
            }
            "content_block_delta" => assert_eq!(open, data["index"].as_u64()),
            "content_block_stop" => assert_eq!(open.take(), data["index"].as_u64()),
            _ => {}
        }
    }
    let start = &events.iter().find(|(name, _)| name == "content_block_start").unwrap().1;
    let block = &start["content_block"];
    assert_eq!(
        (&block["type"], &block["name"], &block["input"]),
        (&json!("tool_use"), &json!("weather"), &json!({}))
    );
    let delta = &events.iter().find(|(name, _)| name == "content_block_delta").unwrap().1["delta"];
    assert_eq!(delta["type"], "input_json_delta");
    assert_city_text(&delta["partial_json"]);
    let last = &events[events.len() - 2].1;
    assert_eq!(last["delta"]["stop_reason"], "tool_use");
}
