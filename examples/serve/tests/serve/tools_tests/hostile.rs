//! Odd tools, choices, formats and messages: answered, or refused with one sentence.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::models::{asks, models, sentence, weather, with};

/// Fields that no client should send, or few do.
fn odd() -> Vec<Value> {
    let function = |fields: Value| json!([{"type": "function", "function": fields}]);
    let parameters = |schema: Value| function(json!({"name": "f", "parameters": schema}));
    let deep = (0..100).fold(json!({}), |inner, _| json!({"properties": {"a": inner}}));
    let many: Vec<Value> = (0..200)
        .map(|at| {
            json!({"type": "function",
        "function": {"name": format!("f{at}")}})
        })
        .collect();
    let wide: Vec<Value> = (0..2000).map(Value::from).collect();
    let mut all = vec![
        json!({"tools": 5}),
        json!({"tools": "weather"}),
        json!({"tools": {"name": "f"}}),
        json!({"tools": [null]}),
        json!({"tools": [[]]}),
        json!({"tools": [{}]}),
        json!({"tools": [{"type": "function"}]}),
        json!({"tools": [{"type": 5, "function": {"name": "f"}}]}),
        json!({"tools": [{"type": "code_interpreter"}]}),
        json!({"tools": function(json!({"name": ""}))}),
        json!({"tools": function(json!({"name": 5}))}),
        json!({"tools": function(json!({"name": "f".repeat(65)}))}),
        json!({"tools": function(json!({"name": "f\n\"}<tool_call>"}))}),
        json!({"tools": function(json!({"name": "f", "description": {"a": 1}}))}),
        json!({"tools": function(json!({"name": "f", "strict": "yes"}))}),
        json!({"tools": many}),
        json!({"tools": [weather(), weather()]}),
        json!({"tool_choice": "required"}),
    ];
    let schemas = [
        json!(null),
        json!(true),
        json!([]),
        json!("object"),
        json!({}),
        json!({"type": "string"}),
        json!({"type": "objekt"}),
        json!({"type": 5}),
        json!({"type": "object", "properties": []}),
        json!({"type": "object", "properties": {"a": 5}}),
        json!({"type": "object", "properties": {"a": {}}, "required": "a"}),
        json!({"type": "object", "required": ["b"]}),
        json!({"$ref": "#"}),
        json!({"$ref": "#/$defs/none"}),
        json!({"$ref": "https://example.com/schema.json"}),
        json!({"type": "number", "multipleOf": 1_000_003}),
        json!({"type": "integer", "minimum": 5, "maximum": 1}),
        json!({"type": "string", "pattern": "^(([a-z]{1,50}){1,50}){1,50}$"}),
        json!({"type": "string", "pattern": "("}),
        json!({"type": "string", "pattern": "(?=a)b"}),
        json!({"type": "string", "maxLength": 1_000_000_000}),
        json!({"type": "array", "uniqueItems": true}),
        json!({"enum": []}),
        json!({"enum": wide}),
        json!({"not": {}}),
        json!({"allOf": [{"type": "string"}, {"type": "integer"}]}),
        json!({"x-guidance": {"whitespace_flexible": false}}),
        deep,
    ];
    for schema in &schemas {
        all.push(json!({"tools": parameters(schema.clone()), "tool_choice": "auto"}));
    }
    let formats = schemas.iter().map(|schema| {
        json!({
            "format": schema,
            "response_format": {"type": "json_schema", "json_schema": {"schema": schema}},
            "text": {"format": {"type": "json_schema", "schema": schema}},
            "output_config": {"format": {"type": "json_schema", "schema": schema}},
        })
    });
    all.extend(formats);
    let choices = [
        json!("sometimes"),
        json!(["required"]),
        json!({}),
        json!({"type": "function"}),
        json!({"type": "function", "function": {"name": "other"}}),
        json!({"type": "function", "name": "other"}),
        json!({"type": "allowed_tools"}),
        json!({"type": "allowed_tools", "allowed_tools": {"tools": [5]}}),
        json!({"type": "tool", "name": "other"}),
    ];
    all.extend(choices.map(|choice| json!({"tools": [weather()], "tool_choice": choice})));
    all.extend([
        json!({"grammar": "root ::= root"}),
        json!({"grammar": "root ::= "}),
        json!({"grammar": "a ::= b"}),
        json!({"grammar": "\u{0}"}),
        json!({"regex": "("}),
        json!({"regex": "(a{1000}){1000}"}),
        json!({"regex": "\\bx(?<=y)"}),
        json!({"choices": ["", ""]}),
        json!({"choices": {"a": 1}}),
        json!({"choices": ["a\u{0}\n\"b"]}),
        json!({"think": "much"}),
        json!({"reasoning": "much"}),
        json!({"thinking": {"type": 5}}),
        json!({"parallel_tool_calls": "no"}),
    ]);
    all
}

/// Messages that no client should send.
fn odd_messages() -> Vec<Value> {
    let call = |fields: Value| {
        json!([{"role": "user", "content": "x"},
        {"role": "assistant", "content": "", "tool_calls": [fields]}])
    };
    vec![
        json!([{"role": "tool", "content": "5"}]),
        json!([{"role": "tool", "tool_call_id": "nobody", "content": "5"},
            {"role": "user", "content": "x"}]),
        json!([{"role": "assistant", "tool_calls": {}}]),
        json!([{"role": "assistant", "tool_calls": [null]}]),
        call(json!({"id": "a"})),
        call(json!({"function": {}})),
        call(json!({"function": {"name": "f"}})),
        call(json!({"function": {"name": "f", "arguments": []}})),
        call(json!({"function": {"name": "f", "arguments": "{\"a\""}})),
        call(json!({"function": {"name": "f", "arguments": {"a": "</tool_call>"}}})),
        call(json!({"id": 5, "function": {"name": "f", "arguments": {}}})),
        call(json!({"id": "x".repeat(5000), "function": {"name": "f", "arguments": {}}})),
        json!([{"role": "user", "content": [{"type": "tool_use"}]}]),
        json!([{"role": "user", "content": [{"type": "tool_result", "tool_use_id": 5}]}]),
        json!([{"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f",
            "input": "x"}]}]),
        json!([{"role": "assistant", "content": [{"type": "thinking", "thinking": 5}]}]),
        json!([{"type": "function_call", "call_id": "a"}]),
        json!([{"type": "function_call", "call_id": "a", "name": "f", "arguments": 5}]),
        json!([{"type": "function_call_output", "call_id": "a", "output": {"a": 1}}]),
        json!([{"type": "reasoning", "summary": "x"}]),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_requests_are_answered_or_refused_with_one_sentence() {
    let server = models().await;
    let few = json!({"options": {"num_predict": 4}, "max_tokens": 4, "max_output_tokens": 4});
    let messages =
        odd_messages().into_iter().map(|messages| json!({"messages": messages, "input": messages}));
    let mut refused = 0;
    let all: Vec<Value> = odd().into_iter().chain(messages).collect();
    assert!(all.len() >= 100);
    for (route, body) in asks("caller") {
        for fields in &all {
            let body = with(with(body.clone(), few.clone()), fields.clone());
            let reply = server.post(route, &body).await;
            let shown: String = fields.to_string().chars().take(300).collect();
            match reply.status {
                StatusCode::OK => {}
                StatusCode::BAD_REQUEST => {
                    refused += 1;
                    let text = sentence(&reply);
                    assert!(!text.is_empty() && !text.contains('\n'), "{route} {shown}: {text}");
                    assert!(text.len() < 600, "{route} {shown}: {text}");
                }
                status => panic!("{route} {shown}: {status} {}", reply.text()),
            }
        }
    }
    assert!(refused > 100, "{refused}");
    // The server is as it was.
    let (route, body) = asks("caller")[0].clone();
    assert_eq!(server.post(route, &with(body, few)).await.status, StatusCode::OK);
}
