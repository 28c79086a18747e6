//! Tests of `prompt` with tools: what Go templates see of tools, calls, results and thoughts.

use serde_json::{Value as Json, json};
use tramontane::template::{Fold, PLAIN_TEXT_MARK, Shape, strip_marks};
use tramontane::{Chat, Error, Message, Thinking, Tool, ToolCall};

use tramontane_serve::prompt::{Capabilities, PromptTemplate};

use crate::prompt_tests::plain;

fn weather() -> Tool {
    Tool::from(json!({"type": "function", "function": {
        "name": "weather",
        "description": "Says <what> & \"how\"",
        "parameters": {
            "required": ["city"],
            "type": "object",
            "properties": {
                "unit": {"enum": ["C", "F"], "type": ["string", "null"], "pattern": "^.$"},
                "city": {"description": "Where", "type": "string"},
            },
            "additionalProperties": false,
        },
        "strict": true,
    }}))
}

fn history() -> Chat {
    let call = |city: &str| ToolCall::new("weather", json!({"unit": "C", "city": city}));
    Chat::new([
        Message::system("Be brief."),
        Message::user("Nice or Oslo?"),
        Message::assistant("")
            .with_thinking("Both, then.")
            .with_tool_calls([call("Nice").with_id("call_1"), call("Oslo").with_id("call_2")]),
        Message::tool("weather", "sunny").with_tool_call_id("call_1"),
        Message::tool("weather", "snow").with_tool_call_id("call_2"),
        Message::assistant("Nice."),
        Message::user("Thanks"),
    ])
    .with_tools([weather()])
}

fn render(source: &str, chat: &Chat) -> String {
    PromptTemplate::parse(source).unwrap().render_chat(chat, &plain).unwrap()
}

#[test]
fn tools_print_as_json_in_ollamas_order_with_the_rest_behind() {
    let shown = r#"{"type":"function","function":{"name":"weather","description":"Says \u003cwhat\u003e \u0026 \"how\"","parameters":{"type":"object","required":["city"],"properties":{"city":{"type":"string","description":"Where"},"unit":{"type":["string","null"],"enum":["C","F"],"pattern":"^.$"}},"additionalProperties":false},"strict":true}}"#;
    for source in [
        "{{ range .Messages }}{{ end }}{{ .Tools }}",
        "{{ range .Messages }}{{ end }}{{ json .Tools }}",
    ] {
        assert_eq!(render(source, &history()), format!("[{shown}]"), "{source}");
    }
    let each = "{{ range .Messages }}{{ end }}{{ range .Tools }}{{ . }}{{ end }}";
    assert_eq!(render(each, &history()), shown);
    let parts = "{{ range .Messages }}{{ end }}{{ range .Tools }}{{ .Type }} {{ .Function.Name }}\
        ({{ range $name, $one := .Function.Parameters.Properties }}{{ $name }}: {{ $one.Type }} \
        {{ toTypeScriptType $one }} {{ $one.Description }}{{ range $one.Enum }}<{{ . }}>{{ end }}; \
        {{ end }}){{ range .Function.Parameters.Required }} {{ . }}{{ end }}\
        {{ with .Function.Parameters.Properties }}{{ len . }}{{ end }}{{ end }}";
    let expected = "function weather(city: string string Where; \
        unit: [string null] string | null <C><F>; ) city2";
    assert_eq!(render(parts, &history()), expected);
    // What is missing is there, and what is odd does not fail.
    for odd in [
        json!({"type": "function", "function": {"name": "f"}}),
        json!({"function": {"name": "f", "description": null, "parameters": null}}),
        json!({"function": {"name": "f", "parameters": {"type": 3, "properties": []}}}),
        json!({"function": {"name": "f", "parameters": {"properties": {"a": true, "b": null}}}}),
    ] {
        let chat = Chat::new([Message::user("hi")]).with_tools([Tool::from(odd.clone())]);
        let text = render(each, &chat);
        assert!(text.contains(r#""name":"f""#), "{odd}: {text}");
        assert!(serde_json::from_str::<Json>(&text).is_ok(), "{odd}: {text}");
    }
    for odd in [json!(null), json!(3), json!("f"), json!([]), json!({"function": "f"})] {
        let chat = Chat::new([Message::user("hi")]).with_tools([Tool::from(odd)]);
        render(each, &chat);
    }
}

#[test]
fn calls_and_results_have_ollamas_fields() {
    let source = "{{ range $i, $m := .Messages }}[{{ .Role }}{{ if .Thinking }} ~{{ .Thinking }}~\
        {{ end }} {{ .Content }}{{ range .ToolCalls }} {{ .ID }} {{ .Function.Index }} \
        {{ .Function.Name }}={{ .Function.Arguments }}\
        {{ range $k, $v := .Function.Arguments }} {{ $k }}:{{ $v }}{{ end }}{{ end }}\
        {{ if .ToolName }} {{ .ToolName }} {{ .ToolCallID }}{{ end }}]{{ end }}";
    let expected = "[system Be brief.][user Nice or Oslo?]\
        [assistant ~Both, then.~  call_1 0 weather={\"city\":\"Nice\",\"unit\":\"C\"} city:Nice \
        unit:C call_2 1 weather={\"city\":\"Oslo\",\"unit\":\"C\"} city:Oslo unit:C]\
        [tool sunny weather call_1][tool snow weather call_2][assistant Nice.][user Thanks]";
    assert_eq!(render(source, &history()), expected);
    let whole = "{{ range .Messages }}{{ json .ToolCalls }}{{ end }}";
    let calls = render(whole, &history());
    let first =
        r#"{"id":"call_1","function":{"name":"weather","arguments":{"city":"Nice","unit":"C"}}}"#;
    assert!(calls.contains(first), "{calls}");
    // As text, as OpenAI's clients send it, and nested: all of it is JSON.
    let nested = json!({"b": {"y": [1, {"x": null}], "x": 2.5}, "a": "é"});
    let call = ToolCall::new("f", nested.to_string());
    let chat = Chat::new([Message::assistant("").with_tool_calls([call])]);
    let source =
        "{{ range .Messages }}{{ range .ToolCalls }}{{ .Function.Arguments }}{{ end }}{{ end }}";
    assert_eq!(render(source, &chat), r#"{"a":"é","b":{"x":2.5,"y":[1,{"x":null}]}}"#);
}

#[test]
fn messages_with_calls_or_thoughts_are_not_joined() {
    let list = "{{ range .Messages }}[{{ .Role }}:{{ .Content }}{{ len .ToolCalls }}]{{ end }}";
    let say = Message::assistant;
    let call = say("b").with_tool_calls([ToolCall::new("f", json!({}))]);
    for (messages, expected) in [
        (vec![say("a"), call.clone()], "[assistant:a0][assistant:b1]"),
        (vec![call.clone(), say("a")], "[assistant:b1][assistant:a0]"),
        (vec![call.clone(), call], "[assistant:b1][assistant:b1]"),
        (vec![say("a").with_thinking("t"), say("b")], "[assistant:a0][assistant:b0]"),
        (vec![say("a"), say("b")], "[assistant:a\n\nb0]"),
    ] {
        assert_eq!(render(list, &Chat::new(messages)), expected);
    }
}

#[test]
fn levels_of_thinking_reach_the_template() {
    let source = "{{ range .Messages }}{{ end }}{{ .IsThinkSet }} {{ .Think }} {{ .ThinkLevel }}";
    let harmony = format!("{source}{{{{ if false }}}}<|start|><|channel|>{{{{ end }}}}");
    let chat = Chat::new([Message::user("hi")]);
    for (thinking, expected) in [
        (None, "false false "),
        (Some(Thinking::Off), "true false "),
        (Some(Thinking::On), "true true "),
        (Some(Thinking::Low), "true true low"),
        (Some(Thinking::Max), "true true max"),
    ] {
        let chat = chat.clone().with_thinking(thinking);
        assert_eq!(render(source, &chat), expected);
        assert_eq!(render(&harmony, &chat), expected.replace("max", "high"));
    }
}

/// Templates with a form for calls, with one for results only, and with none.
const FORMS: [(&str, &str, &[Fold]); 4] = [
    (
        "calls",
        "{{ .System }}{{ range .Messages }}{{ if ne .Role \"system\" }}<{{ .Role }}>{{ .Content }}\
         {{ range .ToolCalls }}<call>{{ .Function }}{{ end }}{{ end }}{{ end }}<assistant>",
        &[],
    ),
    (
        "content or calls",
        "{{ .System }}{{ range .Messages }}{{ if ne .Role \"system\" }}<{{ .Role }}>\
         {{ if .Content }}{{ .Content }}{{ else }}{{ range .ToolCalls }}<call>{{ .Function }}\
         {{ end }}{{ end }}{{ end }}{{ end }}<assistant>",
        &[],
    ),
    (
        "results",
        "{{ .System }}{{ range .Messages }}{{ if ne .Role \"system\" }}<{{ .Role }}>{{ .Content }}\
         {{ end }}{{ end }}<assistant>",
        &[Fold::Calls],
    ),
    (
        "turns",
        "{{ .System }}<user>{{ .Prompt }}<assistant>{{ .Response }}",
        &[Fold::Tool, Fold::Calls],
    ),
];

#[test]
fn nothing_of_a_tool_history_is_lost() {
    for (name, source, folds) in FORMS {
        let template = PromptTemplate::parse(source).unwrap();
        let engine = |chat: &Chat| {
            let text = template.render_chat(chat, &plain);
            text.map_err(|error| Error::Template(error.to_string()))
        };
        let shape = Shape::probe(&engine);
        let mut chat = history();
        let folded = shape.render(&chat, &engine).unwrap();
        let text = folded.prompt.to_string();
        for word in ["Oslo?", "weather", "Oslo\"", "sunny", "snow", "Nice.", "Thanks"] {
            assert!(text.contains(word), "{name}: {word} is lost in {text}");
        }
        let found: Vec<_> =
            folded.folds.iter().filter(|fold| **fold != Fold::Turns).copied().collect();
        assert_eq!(found, folds, "{name}: {text}");
        // A call with words before it.
        chat.messages[2] = chat.messages[2].clone().with("content", "Let me look.");
        let folded = shape.render(&chat, &engine).unwrap();
        let text = folded.prompt.to_string();
        for word in ["Let me look.", "Oslo\"", "sunny", "snow"] {
            assert!(text.contains(word), "{name}: {word} is lost in {text}");
        }
        assert!(folded.own_text().is_ok() == folds.is_empty(), "{name}");
    }
}

#[test]
fn capabilities_are_ollamas_rules() {
    let none = Capabilities::default();
    for (source, expected) in [
        ("{{ messages }}", none),
        ("{% if tools %}", Capabilities { tools: true, ..none }),
        ("message.tool_calls", Capabilities { tools: true, ..none }),
        ("<think></think>", Capabilities { thinking: true, ..none }),
        ("<think>", none),
        ("content.split('</think>')[-1]", Capabilities { thinking: true, ..none }),
        ("content.split(\"</think>\")[-1]", Capabilities { thinking: true, ..none }),
        ("content.split('</think>') reasoning_content", none),
    ] {
        assert_eq!(Capabilities::of_jinja(source), expected, "{source}");
    }
    let [tools, thinking] =
        [Capabilities { tools: true, ..none }, Capabilities { thinking: true, ..none }];
    assert_eq!(tools.or(thinking), Capabilities { tools: true, thinking: true, insert: false });
}

/// Wherever a control token is spelled, it stays text.
#[test]
fn control_tokens_never_come_from_tools_or_calls() {
    let model = tramontane_serve::builtin::model(&Default::default()).unwrap();
    let tokenizer = model.tokenizer();
    let sources = [
        "{{ .System }}{{ range .Messages }}{{ .Role }}:{{ .Thinking }}|{{ .Content }}|{{ .ToolName }}|\
         {{ .ToolCallID }}{{ range .ToolCalls }}{{ .ID }}{{ .Function.Name }}{{ .Function.Arguments }}\
         {{ range $k, $v := .Function.Arguments }}{{ $k }}={{ $v }}{{ end }}{{ end }}{{ end }}\
         {{ .Tools }}{{ range .Tools }}{{ .Function.Name }}{{ .Function.Description }}\
         {{ range $k, $v := .Function.Parameters.Properties }}{{ $k }}{{ $v.Type }}{{ $v.Description }}\
         {{ range $v.Enum }}{{ . }}{{ end }}{{ end }}{{ end }}",
        "{{ range .Messages }}{{ json . }}{{ end }}{{ json .Tools }}{{ printf \"%v\" .Tools }}",
    ];
    let count = |text: &str| {
        let ids = tokenizer.encode_chat(&tramontane::Prompt::from_marked(text));
        ids.iter().filter(|&&id| tokenizer.is_control(id)).count()
    };
    let mut marked = 0;
    for source in sources {
        let template = PromptTemplate::parse(source).unwrap();
        let of = |word: &str| {
            let call = ToolCall::new(word, json!({word: [word, {word: word}]})).with_id(word);
            let schema = json!({"type": word, word: word, "properties": {
                word: {"type": [word, word], "description": word, "enum": [word], word: {word: [word]}},
            }});
            let chat = Chat::new([
                Message::user(word),
                Message::assistant(word).with_thinking(word).with_tool_calls([call]),
                Message::tool(word, word).with_tool_call_id(word),
            ]);
            let chat = chat.with_tools([Tool::function(word, word, schema)]);
            template.render_chat(&chat, &|text| model.mark(text)).unwrap()
        };
        let harmless = count(&of("word"));
        for piece in tokenizer.control_pieces() {
            for word in [piece.to_owned(), format!("a{piece}{piece}"), format!(" {piece}\n")] {
                let text = of(&word);
                assert!(count(&text) <= harmless, "{piece}: {text}");
                marked += usize::from(text.contains(PLAIN_TEXT_MARK));
                assert!(strip_marks(&text).contains(piece) || text.contains("\\u003c"), "{text}");
            }
        }
    }
    assert!(marked > 0, "no text had marks");
}
