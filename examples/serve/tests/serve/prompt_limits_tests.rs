//! Tests of `prompt`: hostile templates and large conversations.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::go_tests::with_messages;
use super::prompt_tests::{GREAT, HELLO, chat};
use tramontane_serve::prompt::{Capabilities, PromptTemplate};

/// Runs `work` on a small stack; how much of a processor's time it took. Others that want
/// the processor too do not count.
fn on_small_stack<T: Send>(work: impl FnOnce() -> T + Send) -> (T, Duration) {
    let clock = || {
        let id = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
        Duration::from(nix::time::clock_gettime(id).unwrap())
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(128 << 10);
        let work = || {
            let start = clock();
            (work(), clock() - start)
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
    let variables: String = (0..15_000).map(|i| format!("{{{{$a{i}:=1}}}}")).collect();
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
        (
            "large texts compared",
            "{{ $x := printf \"%999999d\" 1 }}{{ $y := printf \"%999999d\" 1 }}\
             {{ range 999999 }}{{ if eq $x $y }}{{ end }}{{ end }}"
                .into(),
        ),
        (
            "large texts escaped",
            "{{ $x := printf \"%99999d\" 1 }}{{ range 999999 }}{{ $y := html $x }}{{ end }}".into(),
        ),
        ("messages as JSON in a loop", "{{ range 9999999 }}{{ $x := json $.Messages }}{{ end }}".into()),
        (
            "a deep template that calls itself",
            format!(
                "{{{{ define \"d\" }}}}{}{{{{ template \"d\" }}}}{}{{{{ end }}}}{{{{ template \"d\" }}}}",
                "{{ if 1 }}".repeat(100),
                "{{ end }}".repeat(100)
            ),
        ),
        ("a wide text in a loop", "{{ range 999999 }}{{ $x := printf \"%9999s\" \"\" }}{{ end }}".into()),
    ]
}

#[test]
fn bombs_end_soon() {
    for (name, source) in bombs() {
        let source = if name == "a long source" { source } else { with_messages(&source) };
        // Without optimization everything takes longer.
        let most = Duration::from_millis(if cfg!(debug_assertions) { 1000 } else { 100 });
        // The work is bounded; a neighbour on the processor may make it take longer. Nothing
        // makes it take less, so the fastest of a few is what it takes.
        let mut fastest = Duration::MAX;
        for _ in 0..8 {
            let (done, took) =
                on_small_stack(|| chat(&source, &[("user", "a"), ("assistant", "b")]));
            assert!(done.is_err(), "{name}: {done:?}");
            fastest = fastest.min(took);
            if fastest < most {
                break;
            }
        }
        assert!(fastest < most, "{name} took {fastest:?}");
    }
}

#[test]
fn deep_templates_need_no_deep_stack() {
    let (open, close) = ("{{ if (((1))) }}".repeat(120), "{{ end }}".repeat(120));
    for (source, expected) in [
        (format!("{open}{{{{ .Prompt }}}}{{{{ .Response }}}}{close}"), "a"),
        (format!("{open}{{{{ range .Messages }}}}{{{{ .Content }}}}{{{{ end }}}}{close}"), "a"),
        (format!("{{{{ {}.Prompt{} }}}}", "(".repeat(100), ")".repeat(100)), "a"),
    ] {
        let (done, _) = on_small_stack(|| {
            let template = PromptTemplate::parse(&source).unwrap();
            assert_eq!(template.clone().capabilities(), Capabilities::default());
            chat(&source, &[("user", "a")])
        });
        assert_eq!(done.as_deref(), Ok(expected));
    }
}

#[test]
fn many_turns_share_their_limits() {
    let turns: Vec<_> = (0..2000).flat_map(|_| [("user", "a"), ("assistant", "b")]).collect();
    let busy = "{{ .Prompt }}{{ range 9999 }}{{ end }}{{ .Response }}";
    let start = Instant::now();
    assert!(chat(busy, &turns).unwrap_err().contains("steps"));
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(
        chat("{{ .Prompt }}>{{ .Response }};", &turns).unwrap(),
        format!("{}a>b", "a>b;".repeat(1999))
    );
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
