//! The template language against Python's jinja2: every filter, test, method and statement of
//! `tests/data/templates/jinja2_vectors.json`, which `jinja2_vectors.py` beside it writes.

#![allow(clippy::unwrap_used, reason = "a failed expectation in a test is the report")]

use serde_json::Value;
use tramontane::template::{Chat, ChatTemplate, Ending};

/// 2025-01-15 12:34:56, the clock of the reference.
const NOW: u64 = 1_736_944_496;

/// Vectors that are to differ, by the reason; [`tramontane::template`] names the reasons.
const DELIBERATE: [(&str, &[&str]); 8] = [
    (
        "no error where Python compares, or looks for, values of different types",
        &[
            "1 < 'a'",
            "'a' > 1",
            "none < 1",
            "undef < 1",
            "{} < {}",
            "[1, 'a'] < [1, 2]",
            "1 is lt 'a'",
            "n > 3 ~ ''",
            "1 in 'abc'",
            "none in 'abc'",
            "1 is in none",
            "[1, 'a']|min",
            "[none, 1]|max",
            "[1, 'a']|sort",
            "[none, 1]|sort",
            "[{'a': 1}, {'a': 0}]|sort",
            "[[1], [1]]|unique|list",
            "{1: 'a', 'b': 2}|dictsort",
        ],
    ),
    (
        "no error for other slips",
        &[
            "1.",
            "+'a'",
            "undef[1:]",
            "none[1:]",
            "nums[1.0]",
            "['a', 'b']|sum(start='')",
            "'a' is odd",
            "n % 2 is odd",
            "range(2.0)",
            "{% macro m(a, a) %}{% endmacro %}",
            "map.items()[0]",
            "map.keys()[0]",
            "range(3)|tojson",
            "map.items()|tojson",
            "map.keys()|tojson",
        ],
    ),
    (
        "views, ranges, groups, namespaces and loops print as the lists and maps they are",
        &[
            "map.items()",
            "map.keys()",
            "map.values()",
            "range(3)",
            "range(3) ~ ''",
            "'' ~ range(3)",
            "range(5)[1:3]",
            "range(10)[::3]",
            "people|groupby('age')|list",
            "namespace()",
            "{% set ns = namespace(a=1) %}{{ ns }}",
            "{% for x in nums %}{{ loop }}{% endfor %}",
            "map.items() is sequence",
            "nums|map('string') is sequence",
            "{% if namespace() %}a{% endif %}",
        ],
    ),
    (
        "values without a bound",
        &[
            "[1] * 2",
            "2 * [0]",
            "map|pprint",
            "'abc'|pprint",
            "[1, 'a']|pprint",
            "1|pprint",
            "none|pprint",
        ],
    ),
    (
        "HTML, and what no chat template has use for",
        &[
            "'a b c d e f'|wordwrap(3)",
            "'aaaa bbb\\nccc'|wordwrap(3)",
            "'a b c'|wordwrap(3, wrapstring='|')",
            "'aaaaaaa'|wordwrap(3, false)",
            "'<b>x</b> <i>y</i>  &amp; z'|striptags",
            "'a <!-- x --> b'|striptags",
            "{'class': 'x', 'id': none, 'n': 1}|xmlattr",
            "{'a': 'x'}|xmlattr(false)",
            "1234|filesizeformat",
            "1000000|filesizeformat",
            "1|filesizeformat",
            "1234567|filesizeformat(true)",
            "'x'|urlize",
            "'http://a.com'|urlize",
            "s|escape is escaped",
            "{% autoescape true %}{{ html }}{% endautoescape %}",
            "nums|random is number",
            "[]|random",
            "range(5)|random is number",
            "lipsum() is string",
            "cycler('a', 'b').next()",
            "joiner(',')()",
            "{{ joiner is defined }}{{ cycler is defined }}{{ lipsum is defined }}",
            "{% set j = joiner('|') %}{% for x in nums %}{{ j() }}{{ x }}{% endfor %}",
            "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}\
             {{ c.current }}",
        ],
    ),
    (
        "methods and texts that are rare",
        &[
            "'abc'.encode()",
            "'{:%}'.format(0.5)",
            "'{:.1%}'.format(0.256)",
            "'{!r}'.format('a')",
            "'{0.name}'.format(map)",
            "'a b'.translate({97: 'x'})",
            "'ǆ'.title()",
            "'٣'|int",
            "n.bit_length()",
            "f.is_integer()",
            "(2.0).is_integer()",
            "map.fromkeys(['a'])",
            "range(3).index(1)",
            "range(3).count(1)",
            "-true",
            "1 is divisibleby(num=1)",
            "nums|batch(0)|list",
            "[]|select('foo')|list",
            "s.upper is callable",
            "undef is callable",
            "self is defined",
            "{{ nums, 1 }}",
            "{{ 1, }}",
            "{% block a %}x{% endblock %}",
        ],
    ),
    (
        "arguments of macros beyond their parameters, and what a macro tells of itself",
        &[
            "{% macro m() %}{{ varargs }}{% endmacro %}{{ m(1, 2) }}",
            "{% macro m() %}{{ kwargs }}{% endmacro %}{{ m(a=1) }}",
            "{% macro m(a) %}{{ a }}{{ varargs|length }}{{ kwargs.b }}{% endmacro %}\
             {{ m(1, 2, b=3) }}",
            "{% macro m() %}{% endmacro %}{{ m.name }}{{ m.arguments }}",
            "{% macro m(a, b=1) %}{% endmacro %}{{ m.arguments }}{{ m.catch_kwargs }}\
             {{ m.caller }}",
        ],
    ),
    (
        "the condition of a loop is asked before its first turn; what names of one list stand for",
        &[
            "{% set ns = namespace(found=false) %}{% for x in nums if not ns.found %}\
             {% if x == 2 %}{% set ns.found = true %}{% endif %}{{ x }}{% endfor %}",
            "{% with a = 1 %}{% with a = 2, b = a %}{{ a }}{{ b }}{% endwith %}{% endwith %}",
            "{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}",
        ],
    ),
];

/// What `source` renders to with the variables of the vectors; `None` for an error.
fn rendered(source: &str, context: &Value) -> Option<String> {
    let template = ChatTemplate::with_pieces(source, None, None, Vec::new()).ok()?;
    let mut chat = Chat::new(Vec::new()).with_ending(Ending::Closed);
    chat.variables = context.as_object().unwrap().clone();
    template.with_time(NOW).render_plain(&chat).ok()
}

#[test]
fn equals_jinja2() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/templates/jinja2_vectors.json");
    let vectors: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut compared = 0;
    let mut different = Vec::new();
    let deliberate = |case: &Value| {
        DELIBERATE.iter().any(|(_, cases)| cases.iter().any(|other| Some(*other) == case.as_str()))
    };
    let mut differing = 0;
    let mut compare = |group: &str, shown: &Value, source: &str, expected: &Value| {
        compared += 1;
        let found = rendered(source, &vectors["context"]);
        let equal = found.as_deref() == expected.as_str();
        differing += usize::from(!equal);
        if equal == deliberate(shown) {
            different.push(format!("{group}: {shown}\n  jinja2 {expected}\n  here   {found:?}"));
        }
    };
    for (group, cases) in vectors["expressions"].as_object().unwrap() {
        for case in cases.as_array().unwrap() {
            let source = format!("{{{{ {} }}}}", case[0].as_str().unwrap());
            compare(group, &case[0], &source, &case[1]);
        }
    }
    for case in vectors["templates"].as_array().unwrap() {
        compare("templates", &case[0], case[0].as_str().unwrap(), &case[1]);
    }
    assert!(compared > 1700, "only {compared} vectors");
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
    let listed: usize = DELIBERATE.iter().map(|(_, cases)| cases.len()).sum();
    assert_eq!(differing, listed, "each of the listed cases is in the vectors, and differs");
}

/// Tags of random tokens compile or are refused; nothing panics.
#[test]
fn random_tags_are_no_trouble() {
    const TOKENS: [&str; 40] = [
        "a",
        "b",
        "items",
        "1",
        "1.5",
        "2e3",
        "'x'",
        "'items'",
        ".",
        ".items",
        "['items']",
        "[",
        "]",
        "(",
        ")",
        "{",
        "}",
        ",",
        ":",
        "|",
        "|upper",
        "~",
        "%",
        "*",
        "**",
        "+",
        "-",
        "//",
        "==",
        "in",
        "is",
        "not",
        "and",
        "if",
        "else",
        "for",
        "set",
        "=",
        " ",
        "\n",
    ];
    let mut state = 1_u64;
    let mut random = |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let (mut compiled, mut refused) = (0, 0);
    for _ in 0..6000 {
        let tokens: Vec<&str> = (0..1 + random(9)).map(|_| TOKENS[random(TOKENS.len())]).collect();
        let (open, close) =
            [("{{", "}}"), ("{% set a =", "%}"), ("{% if", "%}x{% endif %}")][random(3)];
        let source = format!("{open} {} {close}", tokens.join(["", " "][random(2)]));
        match ChatTemplate::with_pieces(&source, None, None, Vec::new()) {
            Ok(_) => compiled += 1,
            Err(error) => {
                assert!(!error.to_string().contains("engine failed"), "{source}");
                refused += 1;
            }
        }
    }
    assert!(compiled > 100 && refused > 1000, "{compiled} compiled, {refused} refused");
}
