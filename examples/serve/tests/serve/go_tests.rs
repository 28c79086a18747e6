//! Tests of `prompt`: what Go's template language means, and what it refuses.

use super::prompt_tests::chat;

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
    (
        r#"{{ printf "%[2]d %[1]d|%*d|%[5]d" 1 2 }}{{ printf "%*d" 3 7 }}"#,
        "2 1|%!d(MISSING)|%!d(BADINDEX)  7",
    ),
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
    (r#"{{ json "a\"b\\c\td\re\bf\fg\x01&h>" }}"#, r#""a\"b\\c\td\re\bf\fg\u0001\u0026h\u003e""#),
    ("{{ json \"a\u{2028}€–\u{2029}\" }}", "\"a\\u2028€–\\u2029\""),
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
pub fn with_messages(source: &str) -> String {
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
