//! The built-in model with templates that show functions and thoughts.

use axum::http::StatusCode;
use serde_json::{Value, json};
use tramontane::gguf;

use crate::support::{Reply, Server, server_with, store};

/// Functions and calls as Hermes and Qwen write them, without thoughts.
const CALLER: &str = "{%- if tools %}Tools: {% for tool in tools %}{{ tool | tojson }}\n{% endfor \
    %}Write <tool_call>{\"name\": n, \"arguments\": a}</tool_call>\n{% endif -%}\
    {%- for m in messages -%}\
    {%- if m.role == 'assistant' -%}A: {{ m.content }}\
    {%- for call in (m.tool_calls or []) -%}<tool_call>\n\
    {\"name\": \"{{ call.function.name }}\", \"arguments\": {{ call.function.arguments | tojson }}}\
    \n</tool_call>{%- endfor -%}{{ eos_token }}\
    {%- elif m.role == 'tool' -%}T: <tool_response>\n{{ m.content }}\n</tool_response>\
    {%- else -%}{{ m.role }}: {{ m.content }}{%- endif -%}{{ '\n' }}\
    {%- endfor -%}{%- if add_generation_prompt -%}A: {%- endif -%}";

/// Thoughts: begun by the template, or over if there are to be none.
const THINKER: &str = "{%- for m in messages -%}\
    {%- if m.role == 'assistant' -%}A: \
    {%- if m.reasoning_content -%}<think>\n{{ m.reasoning_content }}\n</think>\n\n{%- endif -%}\
    {{ m.content }}{{ eos_token }}\
    {%- else -%}{{ m.role }}: {{ m.content }}{%- endif -%}{{ '\n' }}\
    {%- endfor -%}{%- if add_generation_prompt -%}A: \
    {%- if enable_thinking is defined and enable_thinking is false -%}<think>\n\n</think>\n\n\
    {%- else -%}<think>\n{%- endif -%}{%- endif -%}";

/// Models `caller` and `thinker` beside the built-in one.
pub async fn models() -> Server {
    let server = server_with(|args| args.context_length = Some("512".into())).await;
    for (name, template) in [("caller", CALLER), ("thinker", THINKER)] {
        let template = gguf::Value::String(template.into());
        let bytes = store::model_with("tokenizer.chat_template", template);
        store::add(&server.app.store, name, &[&bytes]);
    }
    server
}

/// A function of one argument, which is one of two words.
pub fn weather() -> Value {
    json!({"type": "function", "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Nice", "Rome"]}},
            "required": ["city"],
            "additionalProperties": false,
        },
    }})
}

/// The same for `/v1/responses`.
pub fn flat_weather() -> Value {
    let mut tool = weather()["function"].clone();
    tool["type"] = "function".into();
    tool
}

/// The same for `/v1/messages`.
pub fn anthropic_weather() -> Value {
    json!({"name": "weather", "input_schema": weather()["function"]["parameters"]})
}

/// Whether `arguments` are what the function allows.
pub fn assert_city(arguments: &Value) {
    let cities = [json!({"city": "Nice"}), json!({"city": "Rome"})];
    assert!(cities.contains(arguments), "{arguments}");
}

/// The same, of arguments as text.
pub fn assert_city_text(arguments: &Value) {
    assert_city(&serde_json::from_str(arguments.as_str().unwrap()).unwrap());
}

pub const QUESTION: &str = "Is it warm?";

/// The routes of conversations, and for each the smallest request to `model`, which always
/// has the same answer.
pub fn asks(model: &str) -> [(&'static str, Value); 4] {
    let messages = json!([{"role": "user", "content": QUESTION}]);
    let chat = json!({"model": model, "messages": messages, "stream": false,
        "options": {"temperature": 0}});
    let openai = json!({"model": model, "messages": messages, "temperature": 0});
    let responses = json!({"model": model, "input": messages, "temperature": 0});
    let mut anthropic = openai.clone();
    anthropic["max_tokens"] = 200.into();
    [
        ("/api/chat", chat),
        ("/v1/chat/completions", openai),
        ("/v1/responses", responses),
        ("/v1/messages", anthropic),
    ]
}

/// `body` with other fields.
pub fn with(mut body: Value, fields: Value) -> Value {
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

/// A request of the route with the function; if `forced`, it must be called, and only once:
/// this model would go on for ever.
pub fn with_weather(route: &str, body: Value, forced: bool) -> Value {
    let tool = match route {
        "/v1/responses" => flat_weather(),
        "/v1/messages" => anthropic_weather(),
        _ => weather(),
    };
    let fields = match (route, forced) {
        ("/v1/messages", true) => {
            json!({"tool_choice": {"type": "any", "disable_parallel_tool_use": true}})
        }
        (_, true) => json!({"tool_choice": "required", "parallel_tool_calls": false}),
        (_, false) => json!({}),
    };
    with(with(body, fields), json!({"tools": [tool]}))
}

pub async fn good(server: &Server, route: &str, body: &Value) -> Reply {
    let reply = server.post(route, body).await;
    assert_eq!(reply.status, StatusCode::OK, "{route} {body}: {}", reply.text());
    reply
}

/// The sentence of an error in any envelope.
pub fn sentence(reply: &Reply) -> String {
    let json = reply.json();
    let text = json["error"]["message"].as_str().or(json["error"].as_str());
    text.unwrap_or_else(|| panic!("{}", reply.text())).to_owned()
}

/// The name and data of each event.
pub fn events(reply: &Reply) -> Vec<(String, Value)> {
    let events = reply.text().split("\n\n").filter(|event| !event.is_empty()).map(|event| {
        let name = event.lines().find_map(|line| line.strip_prefix("event: ")).unwrap_or_default();
        let data = event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
        (name.to_owned(), serde_json::from_str(data).unwrap_or_else(|_| data.into()))
    });
    events.collect()
}
