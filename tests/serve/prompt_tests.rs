//! Tests of `prompt`: Ollama's own renderings, Go's semantics, hostile templates.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::Value as Json;
use tramontane::template::strip_marks;

use crate::prompt::{Capabilities, Message, PromptTemplate};

fn plain(text: &str) -> Cow<'_, str> {
    Cow::Borrowed(text)
}

fn say(turns: &[(&str, &str)]) -> Vec<Message> {
    let message = |(role, content): &(&str, &str)| Message {
        role: (*role).into(),
        content: (*content).into(),
    };
    turns.iter().map(message).collect()
}

/// The text, or the error's text.
fn chat(source: &str, turns: &[(&str, &str)]) -> Result<String, String> {
    let template = PromptTemplate::parse(source).map_err(|error| error.to_string())?;
    let text = template.render_chat(&say(turns), &plain).map_err(|error| error.to_string())?;
    Ok(strip_marks(&text).into_owned())
}

const SYSTEM: (&str, &str) = ("system", "You are a helpful assistant.");
const HELLO: (&str, &str) = ("user", "Hello, how are you?");
const GREAT: (&str, &str) = ("assistant", "I'm doing great. How can I help you today?");
const SHOW: (&str, &str) = ("user", "I'd like to show off how chat templating works!");

#[test]
fn renders_as_ollama_does() {
    let data = include_str!("../data/serve/templates/ollama.json");
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
    let text = template.render_generate("", "def add(", "return x", &plain).unwrap();
    assert_eq!(text, "<PRE> def add( <SUF>return x <MID>");
    assert_eq!(template.render_generate("", "hello", "", &plain).unwrap(), "hello");
    let template = PromptTemplate::parse("{{ .System }}|{{ .Prompt }}|").unwrap();
    assert_eq!(template.render_generate("be brief", "hi", "", &plain).unwrap(), "be brief|hi|");
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
    let tags = PromptTemplate::parse(thinking).unwrap().thinking_tags();
    assert_eq!(tags, Some(("<think>".into(), "</think>".into())));
}

#[test]
fn think_reaches_the_template() {
    let source = "{{ range .Messages }}{{ end }}{{ if .IsThinkSet }}{{ if .Think }}on{{ else }}off{{ end }}{{ else }}unset{{ end }}";
    for (think, expected) in [(None, "unset"), (Some(true), "on"), (Some(false), "off")] {
        let template = PromptTemplate::parse(source).unwrap().with_think(think);
        assert_eq!(template.render_chat(&say(&[HELLO]), &plain).unwrap(), expected);
    }
}

/// Source and text, over two messages.
const GO: &[(&str, &str)] = &[
    // Truth.
    (r#"{{ if "" }}y{{ else }}n{{ end }}{{ if "x" }}y{{ end }}"#, "ny"),
    (
        "{{ if 0 }}y{{ else }}n{{ end }}{{ if 0.0 }}y{{ else }}n{{ end }}{{ if -1 }}y{{ end }}",
        "nny",
    ),
    ("{{ if .Nothing }}y{{ else }}n{{ end }}{{ if .Tools }}y{{ else }}n{{ end }}", "nn"),
    (
        "{{ if .Messages }}y{{ end }}{{ if index .Messages 0 }}y{{ end }}{{ if false }}y{{ end }}",
        "yy",
    ),
    ("{{ not 1 }} {{ not \"\" }} {{ not .Nothing }}", "false true true"),
    // Operands of `and` and `or`; what is not needed is not looked at.
    (r#"{{ and 1 "" 2 }}|{{ and 1 2 }}|{{ or 0 "" "a" 1 }}|{{ or 0 "" }}"#, "|2|a|"),
    (r#"{{ and .Nothing (index .Messages 99) }}{{ or 1 (index .Messages 99) }}"#, "<no value>1"),
    ("{{ 3 | and 1 }} {{ 3 | or 0 }} {{ 3 | or 2 }}", "3 3 2"),
    // Missing keys.
    ("{{ .Prompt }}|{{ .Nothing }}", "<no value>|<no value>"),
    ("{{ $x := .Nothing }}{{ $x.More.Even }}", "<no value>"),
    (r#"{{ printf "%s %v" .Nothing .Nothing }}"#, "%!s(<nil>) <nil>"),
    (r#"{{ eq .Nothing "a" }} {{ eq .Nothing nil }} {{ ne .Nothing "a" }}"#, "false true true"),
    // Loops.
    ("{{ range .Messages }}{{ .Role }},{{ end }}", "user,assistant,"),
    (
        "{{ range $i, $m := .Messages }}{{ $i }}{{ $m.Role }}{{ .Content }};{{ end }}",
        "0usera;1assistantb;",
    ),
    ("{{ range $m := .Messages }}{{ $m.Role }}{{ end }}", "userassistant"),
    ("{{ range .Tools }}x{{ else }}none{{ end }}", "none"),
    ("{{ range $i, $m := .Nothing }}x{{ else }}none{{ $i }}{{ end }}", "none<no value>"),
    ("{{ range $i, $_ := .Messages }}{{ if eq $i 1 }}{{ break }}{{ end }}{{ $i }}{{ end }}.", "0."),
    (
        "{{ range .Messages }}{{ if eq .Role \"user\" }}{{ continue }}{{ end }}{{ .Role }}{{ end }}.",
        "assistant.",
    ),
    ("{{ range .Messages }}{{ range $.Messages }}{{ break }}{{ end }}x{{ end }}", "xx"),
    (
        "{{ range 3 }}{{ . }}{{ end }}{{ range $i := 2 }}{{ $i }}{{ end }}{{ range 0 }}x{{ else }}e{{ end }}",
        "01201e",
    ),
    ("{{ $n := 0 }}{{ range $n = .Messages }}{{ end }}{{ $n.Role }}", "assistant"),
    (
        "{{ $i := 7 }}{{ $m := 7 }}{{ range $i, $m = .Messages }}{{ end }}{{ $i }}{{ $m.Content }}",
        "1b",
    ),
    (
        "{{ range $i, $_ := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 }}{{ $last }} {{ end }}",
        "false true ",
    ),
    // Scope.
    ("{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ end }}{{ $x }}", "2"),
    ("{{ $x := 1 }}{{ if true }}{{ $x := 2 }}{{ $x }}{{ end }}{{ $x }}", "21"),
    ("{{ $x := 1 }}{{ range .Messages }}{{ $x }}{{ $x = 5 }}{{ $x := 3 }}{{ end }}{{ $x }}", "155"),
    ("{{ if $x := \"a\" }}{{ $x }}{{ end }}{{ with $y := 4 }}{{ . }}{{ $y }}{{ end }}", "a44"),
    ("{{ with .Nothing }}x{{ else with .Messages }}{{ len . }}{{ else }}z{{ end }}", "2"),
    ("{{ with \"\" }}x{{ else }}{{ len .Messages }}{{ end }}", "2"),
    (
        "{{ if false }}a{{ else if true }}b{{ else }}c{{ end }}{{ if 0 }}a{{ else if 0 }}b{{ else }}c{{ end }}",
        "bc",
    ),
    ("{{ $x := 1 }}{{ $x = len .Messages }}{{ $x }}", "2"),
    // Trims and comments.
    ("a  {{- \"b\" -}}  \n c", "abc"),
    ("a {{/* no */}} b {{- /* trims */ -}} c", "a  bc"),
    ("{{- /* first */ -}}\n x", "x"),
    ("a {{-3}} {{- -3 -}} b", "a -3-3b"),
    ("a\n\t{{- range .Messages -}}\n x\n{{- end -}}\n b", "axxb"),
    // Pipelines, parentheses, chains.
    (r#"{{ "a" | printf "%s-%s" "b" | printf "%q" }}"#, r#""b-a""#),
    ("{{ .Messages | len | printf \"%03d\" }}", "002"),
    ("{{ (index .Messages 1).Content }}{{ ($.Messages | len) }}", "b2"),
    ("{{ (slice .Messages 1) | len }}", "1"),
    ("{{ eq (len .Messages) 2 }}{{ (eq 1 1) }}", "truetrue"),
    // Comparison.
    (r#"{{ eq "a" "b" "c" "a" }} {{ eq 1 2 3 }} {{ ne 1 2 }}"#, "true false true"),
    (
        "{{ lt 1 2 }}{{ le 2 2 }}{{ gt 3 2 }}{{ ge 1 2 }}{{ lt \"a\" \"b\" }}{{ lt 1.5 2.5 }}",
        "truetruetruefalsetruetrue",
    ),
    // index, slice, len.
    (
        r#"{{ index "abc" 1 }} {{ slice "abcdef" 1 3 }} {{ slice "abc" 1 }} {{ slice "abc" }} {{ len "äb" }}"#,
        "98 bc bc abc 3",
    ),
    (
        "{{ len (slice .Messages 0 1) }}{{ (index (slice .Messages 1 2) 0).Role }}{{ len (slice .Messages 2) }}",
        "1assistant0",
    ),
    (
        "{{ len (slice .Messages 0 1 2) }}{{ index .Messages }}",
        r#"1[{"Role":"user","Content":"a","Thinking":"","Images":[],"ToolCalls":[],"ToolName":"","ToolCallID":""},{"Role":"assistant","Content":"b","Thinking":"","Images":[],"ToolCalls":[],"ToolName":"","ToolCallID":""}]"#,
    ),
    // Literals.
    (
        "{{ 0x1F }} {{ 1_000 }} {{ 'a' }} {{ 0b11 }} {{ 0o17 }} {{ 017 }} {{ 1.50 }} {{ 1e3 }} {{ 1e6 }} {{ .5 }}",
        "31 1000 97 3 15 15 1.5 1000 1e+06 0.5",
    ),
    (r#"{{ "a\tb\"\\\u00e9\x41\101" }}{{ `raw\n` }}"#, "a\tb\"\\éAAraw\\n"),
    ("{{ true }} {{ printf \"%v\" nil }}", "true <nil>"),
    // print and printf.
    (r#"{{ print "a" 1 2 "b" }}|{{ print 1 2 }}|{{ println "a" 1 }}"#, "a1 2b|1 2|a 1\n"),
    (
        r#"{{ printf "%5d|%-5d|%05d|%+d|%x|%X|%c|%U|%o|%b" 42 42 42 42 255 255 65 65 8 5 }}"#,
        "   42|42   |00042|+42|ff|FF|A|U+0041|10|101",
    ),
    (
        r#"{{ printf "%5s|%-5s|%.2s|%q|%x|%v|%T" "ab" "ab" "abc" "a\n" "hi" "v" "t" }}"#,
        "   ab|ab   |ab|\"a\\n\"|6869|v|string",
    ),
    (
        r#"{{ printf "%.2f|%8.3f|%e|%g|%v|%t|%%" 1.5 3.14159 1234.5 0.00001 2.5 true }}"#,
        "1.50|   3.142|1.234500e+03|1e-05|2.5|true|%",
    ),
    (
        r#"{{ printf "%d" "x" }}|{{ printf "%s" 1 }}|{{ printf "%d" }}|{{ printf "x" 1 }}|{{ printf "%" }}"#,
        "%!d(string=x)|%!s(int=1)|%!d(MISSING)|x%!(EXTRA int=1)|%!(NOVERB)",
    ),
    (r#"{{ printf "%[2]d %[1]d|%*d|%[5]d" 1 2 }}{{ printf "%*d" 3 7 }}"#, "2 1|%!d(MISSING)|%!d(BADINDEX)  7"),
    // Escapes.
    (
        r#"{{ html "<a&'\">" }}|{{ urlquery "a b/ä" }}|{{ js "it's <b>" }}"#,
        "&lt;a&amp;&#39;&#34;&gt;|a+b%2F%C3%A4|it\\'s \\u003Cb\\u003E",
    ),
    (
        "{{ json .Messages }}",
        r#"[{"Role":"user","Content":"a","Thinking":"","Images":[],"ToolCalls":[],"ToolName":"","ToolCallID":""},{"Role":"assistant","Content":"b","Thinking":"","Images":[],"ToolCalls":[],"ToolName":"","ToolCallID":""}]"#,
    ),
    (
        r#"{{ json "<é\n" }}{{ json nil }}{{ json 1.5 }}{{ json true }}"#,
        r#""\u003cé\n"null1.5true"#,
    ),
    ("{{ (index .Messages 0).Content | json }}", r#""a""#),
    // Templates.
    (
        r#"{{ define "t" }}<{{ . }}{{ $ }}>{{ end }}{{ template "t" 1 }}{{ template "t" "x" }}"#,
        "<11><xx>",
    ),
    (
        r#"{{ define "m" }}{{ .Role }}{{ end }}{{ range .Messages }}{{ template "m" . }}{{ end }}"#,
        "userassistant",
    ),
    (r#"{{ define "n" }}{{ .A.B }}{{ end }}{{ template "n" }}"#, "<no value>"),
    (r#"{{ block "b" 5 }}[{{ . }}]{{ end }}{{ template "b" 6 }}"#, "[5][6]"),
    (
        r#"{{ define "t" }}{{ if gt . 0 }}{{ . }}{{ template "t" (len (slice "aaaa" 0 (len (slice "aaaa" 3)))) }}{{ end }}{{ end }}"#,
        "",
    ),
    (r#"{{ define "e" }} {{ end }}{{ define "e" }}x{{ end }}{{ template "e" }}"#, "x"),
    (
        "{{ $x := 1 }}{{ define \"v\" }}{{ $x := 2 }}{{ $x }}{{ end }}{{ template \"v\" }}{{ $x }}",
        "21",
    ),
];

#[test]
fn means_what_go_means() {
    for (source, expected) in GO {
        let text = chat(&with_messages(source), &[("user", "a"), ("assistant", "b")]);
        assert_eq!(text.as_deref(), Ok(*expected), "{source}");
    }
}

/// So that the template gets messages at once whatever else it says.
fn with_messages(source: &str) -> String {
    format!("{source}{{{{ if false }}}}{{{{ .Messages }}}}{{{{ end }}}}")
}

/// Source and error.
const REFUSED: &[(&str, &str)] = &[
    ("{{ if .A }}x", "template: :1: unexpected EOF"),
    ("a\n{{ end }}", "template: :2: unexpected {{end}}"),
    ("{{ else }}", "template: :1: unexpected {{else}}"),
    ("{{ if 1 }}{{ else }}{{ else }}{{ end }}", "template: :1: expected end; found {{else}}"),
    ("{{ if }}x{{ end }}", "template: :1: missing value for if"),
    ("{{ }}", "template: :1: missing value for command"),
    ("{{ nofunc .A }}", "template: :1: function \"nofunc\" not defined"),
    ("{{ last .A }}", "template: :1: function \"last\" not defined"),
    ("{{ $x }}", "template: :1: undefined variable \"$x\""),
    ("{{ if $x := 1 }}{{ end }}{{ $x }}", "template: :1: undefined variable \"$x\""),
    ("{{ define \"a\" }}{{ $x }}{{ end }}", "template: :1: undefined variable \"$x\""),
    ("{{ break }}", "template: :1: {{break}} outside {{range}}"),
    (
        "{{ range .A }}{{ else }}{{ continue }}{{ end }}",
        "template: :1: {{continue}} outside {{range}}",
    ),
    ("{{ .A", "template: :1: unclosed action"),
    ("{{ (.A }}", "template: :1: unclosed left paren"),
    ("{{ .A) }}", "template: :1: unexpected right paren"),
    ("{{/* a", "template: :1: unclosed comment"),
    ("{{/* a */ .A }}", "template: :1: comment ends before closing delimiter"),
    ("{{ \"a }}", "template: :1: unterminated quoted string"),
    ("{{ `a }}", "template: :1: unterminated raw quoted string"),
    ("{{ 1a }}", "template: :1: bad number syntax: \"1a\""),
    ("{{ .A | 1 }}", "template: :1: non executable command in pipeline stage 2"),
    ("{{ $a, $b := 1 }}", "template: :1: too many declarations in command"),
    ("{{ range $a, $b, $c := .A }}{{ end }}", "template: :1: too many declarations in range"),
    ("{{ \"a\".B }}", "template: :1: unexpected . after term \"\\\"a\\\"\""),
    ("{{ template .A }}", "template: :1: unexpected \".A\" in template clause"),
    (
        "{{ define \"a\" }}1{{ end }}{{ define \"a\" }}2{{ end }}",
        "template: :1: multiple definition of template \"a\"",
    ),
    (
        "{{ if 1 }}{{ define \"a\" }}{{ end }}{{ end }}",
        "template: :1: unexpected <define> in command",
    ),
    ("{{ if 1 }}{{ else with 2 }}{{ end }}{{ end }}", "template: :1: unexpected <with> in input"),
    (
        "{{ .Messages.X }}",
        "template: :1:3: executing \"\" at <.Messages.X>: can't evaluate field X in type []interface {}",
    ),
    (
        "{{ .Nothing.X }}",
        "template: :1:3: executing \"\" at <.Nothing.X>: nil pointer evaluating interface {}.X",
    ),
    (
        "\n {{ range .Messages }}{{ .Nope }}{{ end }}",
        "template: :2:25: executing \"\" at <.Nope>: can't evaluate field Nope in type template.message",
    ),
    (
        "{{ template \"t\" }}",
        "template: :1:12: executing \"\" at <\"t\">: template \"t\" not defined",
    ),
    (
        "{{ len .Nothing }}",
        "template: :1:3: executing \"\" at <len .Nothing>: error calling len: len of nil pointer",
    ),
    (
        "{{ len 1 }}",
        "template: :1:3: executing \"\" at <len 1>: error calling len: len of type int",
    ),
    (
        "{{ index .Messages 5 }}",
        "template: :1:3: executing \"\" at <index .Messages 5>: error calling index: index out of range: 5",
    ),
    (
        "{{ slice \"abc\" 2 1 }}",
        "template: :1:3: executing \"\" at <slice \"abc\" 2 1>: error calling slice: invalid slice index: 2 > 1",
    ),
    (
        "{{ eq 1 \"a\" }}",
        "template: :1:3: executing \"\" at <eq 1 \"a\">: error calling eq: incompatible types for comparison",
    ),
    (
        "{{ lt true false }}",
        "template: :1:3: executing \"\" at <lt true false>: error calling lt: invalid type for comparison",
    ),
    (
        "{{ eq 1 }}",
        "template: :1:3: executing \"\" at <eq 1>: error calling eq: missing argument for comparison",
    ),
    (
        "{{ not }}",
        "template: :1:3: executing \"\" at <not>: wrong number of args for not: want 1 got 0",
    ),
    (
        "{{ .Messages 1 }}",
        "template: :1:3: executing \"\" at <.Messages>: Messages is not a method but has arguments",
    ),
    ("{{ 1 2 }}", "template: :1:3: executing \"\" at <1>: can't give argument to non-function 1"),
    ("{{ nil }}", "template: :1:3: executing \"\" at <nil>: nil is not a command"),
    ("{{ $x = 1 }}", "template: :1:3: executing \"\" at <$x = 1>: undefined variable: $x"),
    (
        "{{ range $i, $x := 3 }}{{ end }}",
        "template: :1:9: executing \"\" at <$i, $x := 3>: can't use 3 to iterate over more than one variable",
    ),
    (
        "{{ range true }}{{ end }}",
        "template: :1:9: executing \"\" at <true>: range can't iterate over true",
    ),
];

#[test]
fn refuses_what_go_refuses() {
    for (source, expected) in REFUSED {
        let refused = chat(&with_messages(source), &[("user", "a"), ("assistant", "b")]);
        let expected = Err((*expected).to_owned());
        // An open action swallows what comes after it.
        let alone = chat(source, &[("user", "a"), ("assistant", "b")]);
        assert!(refused == expected || alone == expected, "{source}: {refused:?} {alone:?}");
    }
}

/// Runs `work` on a small stack; how long it took.
fn on_small_stack<T: Send>(work: impl FnOnce() -> T + Send) -> (T, Duration) {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(128 << 10);
        let work = || {
            let start = Instant::now();
            (work(), start.elapsed())
        };
        thread.spawn_scoped(scope, work).unwrap().join().unwrap()
    })
}

fn bombs() -> Vec<(&'static str, String)> {
    let many = |text: &str| text.repeat((250 << 10) / text.len());
    let doubling: String = (0..60)
        .map(|i| {
            let next = format!("{{{{ template \"{}\" }}}}", i + 1);
            format!("{{{{ define \"{i}\" }}}}{next}{next}{{{{ end }}}}")
        })
        .collect();
    let doubling_text = "{{ $x = printf \"%s%s\" $x $x }}".repeat(64);
    let loops = |depth: usize, body: &str| {
        let open = "{{ range 99999999 }}".repeat(depth);
        format!("{open}{body}{}", "{{ end }}".repeat(depth))
    };
    let variables: String = (0..20_000).map(|i| format!("{{{{$a{i}:=1}}}}")).collect();
    vec![
        ("nested if", many("{{if 1}}")),
        ("nested else if", format!("{{{{if 0}}}}{}", many("{{else if 0}}"))),
        ("nested range", many("{{range .Messages}}")),
        ("parentheses", format!("{{{{ {} }}}}", many("("))),
        ("closed parentheses", format!("{{{{ {}1{} }}}}", "(".repeat(120_000), ")".repeat(120_000))),
        ("functions in parentheses", format!("{{{{ {}", many("(len "))),
        ("one template calls itself", "{{ define \"a\" }}{{ template \"a\" . }}{{ end }}{{ template \"a\" . }}".into()),
        ("two call each other", "{{ define \"a\" }}{{ template \"b\" }}{{ end }}{{ define \"b\" }}{{ template \"a\" }}{{ end }}{{ template \"a\" }}".into()),
        ("calls that double", format!("{doubling}{{{{ define \"60\" }}}}{{{{ end }}}}{{{{ template \"0\" }}}}")),
        ("a huge range", loops(1, "")),
        ("ranges in ranges", loops(9, "")),
        ("a range that writes", loops(1, "0123456789")),
        ("a text that doubles", format!("{{{{ $x := \"0123456789\" }}}}{doubling_text}{{{{ $x }}}}")),
        ("a wide number", "{{ printf \"%1000000000d\" 1 }}{{ range 99 }}{{ printf \"%999999d\" 1 }}{{ end }}".into()),
        ("many zeros", "{{ range 99 }}{{ printf \"%.999999d\" 1 }}{{ end }}".into()),
        ("a long source", "x".repeat(300 << 10)),
        ("many variables", variables),
        ("an index too far", "{{ index .Messages 9223372036854775807 }}".into()),
        ("a slice too far", "{{ slice .Messages -9223372036854775808 }}".into()),
        ("a number too long", format!("{{{{ {} }}}}", "9".repeat(100_000))),
        ("many actions without an end", many("{{")),
        ("a wide text in a loop", "{{ range 999999 }}{{ $x := printf \"%9999s\" \"\" }}{{ end }}".into()),
    ]
}

#[test]
fn bombs_end_soon() {
    for (name, source) in bombs() {
        let source = if name == "a long source" { source } else { with_messages(&source) };
        let (done, took) = on_small_stack(|| chat(&source, &[("user", "a"), ("assistant", "b")]));
        assert!(done.is_err(), "{name}: {done:?}");
        // Without optimization everything takes longer.
        let most = if cfg!(debug_assertions) { 1000 } else { 100 };
        assert!(took < Duration::from_millis(most), "{name} took {took:?}");
    }
}

#[test]
fn wide_conversations_are_within_the_limits() {
    let turns: Vec<_> =
        (0..4000).flat_map(|_| [("user", "question"), ("assistant", "answer")]).collect();
    let llama = "{{ range $i, $_ := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 }}\
        {{- if eq .Role \"user\" }}<|user|>{{ .Content }}{{ else if eq .Role \"assistant\" }}<|assistant|>{{ .Content }}\
        {{- if not $last }}<|end|>{{ end }}{{ end }}{{ end }}";
    let text = chat(llama, &turns).unwrap();
    assert_eq!(text.matches("<|end|>").count(), 3999);
}

#[test]
fn text_of_people_never_becomes_a_control_token() {
    let model = tramontane::builtin().unwrap();
    let tokenizer = model.tokenizer();
    let special: Vec<String> = tokenizer.control_pieces().map(str::to_owned).collect();
    assert!(!special.is_empty());
    let source =
        "{{ range .Messages }}<|{{ .Role }}|>{{ .Content }}{{ slice .Content 0 }}{{ end }}";
    let control = |text: &str| {
        let ids = tokenizer.encode_chat(text);
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

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_text_parses_or_fails(source in "\\PC{0,60}") {
        let _ = chat(&source, &[HELLO]);
    }

    /// Pieces of the language in any order come further than random letters do.
    #[test]
    fn any_pieces_parse_or_fail(pieces in prop::collection::vec(prop::sample::select(vec![
        "{{", "}}", "{{-", "-}}", " ", "-", "if", "else", "end", "range", "with", "define", "template",
        "block", "break", "continue", "nil", "true", ".", ".A", ".Messages", "$", "$x", "$x := ", "=", "|",
        "(", ")", ",", "\"t\"", "`r`", "'c'", "1", "-2", "0x", "1e", "/*", "*/", "len", "slice", "index",
        "printf", "\"%[3]*.[2]*[1]f%\"", "eq", "and", "é", "\n", "\0", "99999999999999999999",
    ]), 0..40)) {
        let _ = chat(&pieces.concat(), &[HELLO, GREAT]);
    }
}
