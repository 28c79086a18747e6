//! Tests of `prompt`: Ollama's own renderings, turns, capabilities, control tokens.

use std::borrow::Cow;

use serde_json::Value as Json;
use tramontane::template::strip_marks;
use tramontane::{Chat, Message, Thinking};

use tramontane_serve::prompt::{Capabilities, PromptTemplate};

pub fn plain(text: &str) -> Cow<'_, str> {
    Cow::Borrowed(text)
}

pub fn say(turns: &[(&str, &str)]) -> Chat {
    let message = |(role, content): &(&str, &str)| Message::new(*role, *content);
    Chat::new(turns.iter().map(message).collect::<Vec<_>>())
}

/// The text, or the error's text.
pub fn chat(source: &str, turns: &[(&str, &str)]) -> Result<String, String> {
    let template = PromptTemplate::parse(source).map_err(|error| error.to_string())?;
    let text = template.render_chat(&say(turns), &plain).map_err(|error| error.to_string())?;
    Ok(strip_marks(&text).into_owned())
}

const SYSTEM: (&str, &str) = ("system", "You are a helpful assistant.");
pub const HELLO: (&str, &str) = ("user", "Hello, how are you?");
pub const GREAT: (&str, &str) = ("assistant", "I'm doing great. How can I help you today?");
const SHOW: (&str, &str) = ("user", "I'd like to show off how chat templating works!");

#[test]
fn renders_as_ollama_does() {
    let data = include_str!("../data/templates/ollama.json");
    let data: Json = serde_json::from_str(data).unwrap();
    let mut cases = 0;
    for (name, template) in data.as_object().unwrap() {
        let parsed = PromptTemplate::parse(template["source"].as_str().unwrap()).unwrap();
        for (case, expected) in template["cases"].as_object().unwrap() {
            let turns: &[_] = match case.as_str() {
                "user" => &[HELLO],
                "user-assistant-user" => &[HELLO, GREAT, SHOW],
                "system-user-assistant-user" => &[SYSTEM, HELLO, GREAT, SHOW],
                other => panic!("no conversation for {other}"),
            };
            let text = parsed.render_chat(&say(turns), &plain).unwrap();
            assert_eq!(text, expected.as_str().unwrap(), "{name}, {case}");
            cases += 1;
        }
    }
    assert_eq!(cases, 15);
}

#[test]
fn turns_and_messages_give_the_same_prompt() {
    let before = "[INST] {{ if .System }}{{ .System }}\n\n{{ end }}{{ .Prompt }}[/INST] ";
    let with_messages = "[INST] {{ if .System }}{{ .System }}\n\n{{ end }}\n{{- range .Messages }}\n\
        {{- if eq .Role \"user\" }}{{ .Content }}[/INST] {{ else if eq .Role \"assistant\" }}\
        {{ .Content }}[INST] {{ end }}\n{{- end }}";
    let expected = "[INST] You are a helpful assistant.\n\nHello, how are you?[/INST] \
        I'm doing great. How can I help you today?[INST] \
        I'd like to show off how chat templating works![/INST] ";
    for source in [before, &format!("{before}{{{{ .Response }}}}"), with_messages] {
        assert_eq!(chat(source, &[SYSTEM, HELLO, GREAT, SHOW]).unwrap(), expected, "{source}");
    }
}

#[test]
fn last_turn_ends_where_the_answer_begins() {
    let chatml = "{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}\
        {{ if .Prompt }}<|im_start|>user\n{{ .Prompt }}<|im_end|>\n{{ end }}\
        <|im_start|>assistant\n{{ .Response }}<|im_end|>\n";
    for (turns, expected) in [
        (&[("user", "a")][..], "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"),
        (
            &[("user", "a"), ("assistant", "b"), ("user", "c")],
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n\
             <|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n",
        ),
        // An answer that is to go on.
        (
            &[("user", "a"), ("assistant", "b")],
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb",
        ),
        (
            &[("system", "s"), ("user", "a")],
            "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            &[("user", "a"), ("system", "s"), ("user", "b")],
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n\
             <|im_start|>system\ns<|im_end|>\n<|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\n",
        ),
    ] {
        assert_eq!(chat(chatml, turns).unwrap(), expected);
    }
    // What comes after the response goes, in every block that is open there.
    for (source, expected) in [
        ("{{ if .Prompt }}{{ .Prompt }}{{ .Response }}x{{ else }}y{{ end }}z", "a"),
        ("{{ if .Response }}r{{ end }}{{ .Prompt }}|{{ .Response }}x", "a|"),
        ("{{ with .Prompt }}{{ . }}{{ $.Response }}x{{ end }}{{ .Response }}y", "ax"),
        ("{{ .Prompt }}{{ printf \"%s!\" .Response }}x", "a!"),
        ("", "a"),
    ] {
        assert_eq!(chat(source, &[("user", "a")]).unwrap(), expected, "{source}");
    }
}

#[test]
fn neighbours_of_one_role_are_one_message() {
    let list = "{{ range .Messages }}[{{ .Role }}:{{ .Content }}]{{ end }}({{ .System }})";
    for (turns, expected) in [
        (&[("user", "a"), ("user", "b")][..], "[user:a\n\nb]()"),
        (&[("tool", "a"), ("tool", "b")], "[tool:a][tool:b]()"),
        (
            &[("system", "a"), ("system", "b"), ("user", "c"), ("system", "d")],
            "[system:a\n\nb][user:c][system:d](a\n\nb\n\nd)",
        ),
        (&[], "()"),
    ] {
        assert_eq!(chat(list, turns).unwrap(), expected);
    }
}

#[test]
fn fills_between_prompt_and_suffix() {
    let source = "{{- if .Suffix }}<PRE> {{ .Prompt }} <SUF>{{ .Suffix }} <MID>\n{{- else }}{{ .Prompt }}\n{{- end }}";
    let template = PromptTemplate::parse(source).unwrap();
    let text = template.render_generate("", "def add(", "return x", None, &plain).unwrap();
    assert_eq!(text, "<PRE> def add( <SUF>return x <MID>");
    assert_eq!(template.render_generate("", "hello", "", None, &plain).unwrap(), "hello");
    let template = PromptTemplate::parse("{{ .System }}|{{ .Prompt }}|").unwrap();
    assert_eq!(
        template.render_generate("be brief", "hi", "", None, &plain).unwrap(),
        "be brief|hi|"
    );
}

#[test]
fn capabilities_and_variables() {
    let thinking = "{{ range .Messages }}{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ .Content }}{{ end }}";
    for (source, variables, capabilities) in [
        ("{{ .Prompt }}", "prompt response", Capabilities::default()),
        (
            "{{ .System }} {{ .Prompt }} {{ .Response }}",
            "prompt response system",
            Capabilities::default(),
        ),
        (
            "{{ with .Tools }}{{ . }}{{ end }} {{ .System }} {{ .Prompt }}",
            "prompt response system tools",
            Capabilities { tools: true, ..Capabilities::default() },
        ),
        (
            "{{ range .Messages }}{{ .Role }} {{ .Content }}{{ end }}",
            "content messages role",
            Capabilities::default(),
        ),
        (
            "{{ range $.Messages }}{{ len (slice $.Messages 1) }}{{ end }}",
            "$ messages",
            Capabilities::default(),
        ),
        (
            "{{ .Prompt }}{{ .Suffix }}{{ .Response }}",
            "prompt response suffix",
            Capabilities { insert: true, ..Capabilities::default() },
        ),
        (
            thinking,
            "content messages thinking",
            Capabilities { thinking: true, ..Capabilities::default() },
        ),
        (
            "{{ if .Thinking }}<a>{{ .Thinking }}</a>{{ end }}{{ .Response }}",
            "response thinking",
            Capabilities::default(),
        ),
    ] {
        let template = PromptTemplate::parse(source).unwrap();
        let found: Vec<_> = template.variables().iter().map(String::as_str).collect();
        assert_eq!(found.join(" "), variables, "{source}");
        assert_eq!(template.capabilities(), capabilities, "{source}");
    }
    let template = PromptTemplate::parse(thinking).unwrap();
    assert_eq!(template.thinking_tags(), Some(("<think>", "</think>")));
}

#[test]
fn think_reaches_the_template() {
    let source = "{{ range .Messages }}{{ end }}{{ if .IsThinkSet }}{{ if .Think }}on{{ else }}off{{ end }}{{ else }}unset{{ end }}";
    for (think, expected) in
        [(None, "unset"), (Some(Thinking::On), "on"), (Some(Thinking::Off), "off")]
    {
        let template = PromptTemplate::parse(source).unwrap();
        let chat = say(&[HELLO]).with_thinking(think);
        assert_eq!(template.render_chat(&chat, &plain).unwrap(), expected);
    }
}

#[test]
fn text_of_people_never_becomes_a_control_token() {
    let model = tramontane_serve::builtin::model(&Default::default()).unwrap();
    let tokenizer = model.tokenizer();
    let special: Vec<String> = tokenizer.control_pieces().map(str::to_owned).collect();
    assert!(!special.is_empty());
    let source = "{{ range .Messages }}<{{ .Role }}><|{{ .Role }}|>{{ .Content }}{{ slice .Content 0 }}{{ end }}";
    let control = |text: &str| {
        let ids = tokenizer.encode_chat(&tramontane::Prompt::from_marked(text));
        ids.iter()
            .filter(|&&id| special.iter().any(|piece| tokenizer.piece(id) == Some(piece)))
            .count()
    };
    let template = PromptTemplate::parse(source).unwrap();
    let count = |role: &str, content: &str| {
        let text =
            template.render_chat(&say(&[(role, content)]), &|text| model.mark(text)).unwrap();
        control(&text)
    };
    let harmless = count("user", "hello");
    for piece in &special {
        assert!(
            control(&format!("x{piece}")) > control("x"),
            "{piece} is no control token by itself"
        );
        let inner = piece.trim_start_matches(['<', '|']).trim_end_matches(['>', '|']);
        for (role, content) in [
            ("user", piece.clone()),
            ("user", format!("a{piece}{piece}b")),
            (piece.as_str(), "x".to_owned()),
            (&format!("a{piece}b"), "x".to_owned()),
            (inner, "x".to_owned()),
        ] {
            assert!(count(role, &content) <= harmless, "{role:?} {content:?}");
        }
    }
}

#[test]
fn a_role_that_the_template_knows_is_compared_as_it_is() {
    let source = "{{ range .Messages }}{{ if eq .Role \"ipython\" }}[tool]{{ else }}{{ .Role }}{{ end }}{{ end }}";
    assert_eq!(chat(source, &[("ipython", "x"), ("stranger", "y")]).unwrap(), "[tool]stranger");
}
