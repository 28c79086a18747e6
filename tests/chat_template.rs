//! Chat templates against Python's jinja2, and hostile ones against the limits.

#![allow(clippy::unwrap_used, reason = "a failed expectation in a test is the report")]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tramontane::Error;
use tramontane::template::{
    Chat, ChatTemplate, Ending, Message, PLAIN_TEXT_MARK, Tool, ToolCall, strip_marks,
};

/// 2025-01-15 12:34:56, the clock of the reference.
const NOW: u64 = 1_736_944_496;
const FAMILIES: [&str; 4] = ["llama-3.1", "mistral-7b-instruct", "phi-3", "qwen2.5"];

fn family(name: &str) -> Value {
    let path = format!("{}/tests/data/templates/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Control pieces of the four families, and what the conversations spell.
fn control_pieces() -> Vec<String> {
    [
        "<s>",
        "</s>",
        "[INST]",
        "[/INST]",
        "[AVAILABLE_TOOLS]",
        "[/AVAILABLE_TOOLS]",
        "[TOOL_CALLS]",
        "[TOOL_RESULTS]",
        "[/TOOL_RESULTS]",
        "<|im_start|>",
        "<|im_end|>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<|begin_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|python_tag|>",
        "<|user|>",
        "<|assistant|>",
        "<|system|>",
        "<|end|>",
        "<|endoftext|>",
        "<unk>",
    ]
    .map(str::to_owned)
    .to_vec()
}

#[test]
fn equals_the_reference_with_and_without_marks() {
    let pieces = control_pieces();
    let (mut compared, mut refused, mut marked) = (0, 0, 0);
    for name in FAMILIES {
        let family = family(name);
        for template in family["templates"].as_array().unwrap() {
            let source = template["template"].as_str().unwrap();
            let (bos, eos) = (family["bos_token"].as_str(), family["eos_token"].as_str());
            let compiled = ChatTemplate::with_pieces(source, bos, eos, pieces.clone());
            let compiled = compiled.unwrap().with_time(NOW);
            assert_eq!(compiled.source(), source);
            for result in template["results"].as_array().unwrap() {
                let case = result["conversation"].as_str().unwrap();
                let conversation = &family["conversations"][case];
                let mut chat = Chat::new(messages(conversation["messages"].as_array().unwrap()));
                let tools = conversation["tools"].as_array();
                chat.tools = tools.map(|tools| tools.iter().cloned().map(Tool::from).collect());
                chat.ending = match result["add_generation_prompt"].as_bool().unwrap() {
                    true => Ending::GenerationPrompt,
                    false => Ending::Closed,
                };
                let plain = compiled.render_plain(&chat);
                let guarded = compiled.render(&chat).map(|prompt| prompt.marked().to_owned());
                let case = format!("{name}, {}, {case}", template["name"]);
                if let Some(error) = result["error"].as_str() {
                    let message = error.split_once(": ").unwrap().1;
                    for result in [plain, guarded] {
                        let text = result.expect_err(&case).to_string();
                        assert!(text.contains(message), "{case}: {text}");
                    }
                    refused += 1;
                } else {
                    let expected = result["output"].as_str().unwrap();
                    assert_eq!(plain.expect(&case), expected, "{case}");
                    let guarded = guarded.expect(&case);
                    assert_eq!(strip_marks(&guarded), expected, "{case}, marked");
                    marked += usize::from(guarded.contains(PLAIN_TEXT_MARK));
                    compared += 1;
                }
            }
        }
    }
    assert_eq!(compared + refused, 510, "all vectors ran");
    assert!(marked > 10, "{marked} renderings had marks");
}

fn messages(list: &[Value]) -> Vec<Message> {
    list.iter().cloned().map(Message::from).collect()
}

/// A template without a vocabulary.
fn template(source: &str) -> Result<ChatTemplate, Error> {
    ChatTemplate::with_pieces(source, Some("<s>"), None, Vec::new())
}

/// One rendering with a few variables, the clock stopped.
fn render(source: &str) -> Result<String, Error> {
    let messages = [Message::system("Be brief."), Message::user("Hi"), Message::assistant("Yo")];
    let variables = json!({
        "list": [1, "a", null, true, 2.0, [], {}],
        "map": {"b": 1, "a": "x'y", "c": [1, {"z": null}]},
        "html": "<b>&'\"</b>", "text": "Hello wörld", "big": 1e16, "small": 0.00001,
    });
    let variables = variables.as_object().unwrap().clone();
    let mut chat = Chat::new(messages).with_ending(Ending::Closed);
    chat.variables = variables;
    template(source)?.with_time(NOW).render_plain(&chat)
}

/// Expected texts are those of jinja2 3.1.6 in the environment of the vectors.
#[test]
fn values_and_filters_are_as_in_python() {
    for (source, expected) in [
        ("{{ list }}", "[1, 'a', None, True, 2.0, [], {}]"),
        ("{{ map }}", r#"{'b': 1, 'a': "x'y", 'c': [1, {'z': None}]}"#),
        ("{{ map|tojson }}", r#"{"b": 1, "a": "x'y", "c": [1, {"z": null}]}"#),
        (
            "{{ map|tojson(indent=2) }}",
            "{\n  \"b\": 1,\n  \"a\": \"x'y\",\n  \"c\": [\n    1,\n    {\n      \"z\": null\n    }\n  ]\n}",
        ),
        (
            "{{ map|tojson(separators=(',', ':'), sort_keys=true) }}",
            r#"{"a":"x'y","b":1,"c":[1,{"z":null}]}"#,
        ),
        (
            "{{ html|tojson }}{{ text|tojson(ensure_ascii=True) }}",
            r#""<b>&'\"</b>""Hello w\u00f6rld""#,
        ),
        ("{{ [] | tojson(indent=4) }}{{ {1: 2, none: 3} | tojson }}", r#"[]{"1": 2, "null": 3}"#),
        (
            "{{ big }} {{ small }} {{ 1e300 }} {{ -0.0 }} {{ 1/2 }} {{ 2**70 }}",
            "1e+16 1e-05 1e+300 -0.0 0.5 1180591620717411303424",
        ),
        (
            "{{ true }} {{ none }} {{ missing }} {{ (1,) }} {{ (1, 'a') }}",
            "True None  (1,) (1, 'a')",
        ),
        (r#"{{ ['tab\t\x00\u200d\xa0é', "it's"] }}"#, r#"['tab\t\x00\u200d\xa0é', "it's"]"#),
        ("{{ none ~ 'a' ~ missing ~ 1.5 }}", "Nonea1.5"),
        (
            "{{ text.split('l', 1) }}{{ text.rsplit('l', 1) }}",
            "['He', 'lo wörld']['Hello wör', 'd']",
        ),
        (
            "{{ text.partition(' ') }}{{ text.center(15, '*') }}",
            "('Hello', ' ', 'wörld')**Hello wörld**",
        ),
        ("{{ text.startswith(('x', 'He')) }}{{ map.get('q') }}{{ map.get('q', 1) }}", "TrueNone1"),
        (
            "{% for k, v in map.items() %}{{ k }}={{ v }};{% endfor %}",
            "b=1;a=x'y;c=[1, {'z': None}];",
        ),
        ("{{ 'x'|int }}{{ 'x'|int(5) }}{{ html|e }}", "05&lt;b&gt;&amp;&#39;&#34;&lt;/b&gt;"),
        ("{% set rest = messages[1:] %}{{ rest is sequence }}{{ rest[0].role }}", "Trueuser"),
        ("{{ messages is iterable }}{{ 'a' is sequence }}{{ map is mapping }}", "TrueTrueTrue"),
        (
            "{{ 'b' in map }}{{ 'x' in missing }}{{ missing == none }}{{ 1 == 1.0 }}",
            "TrueFalseFalseTrue",
        ),
        (
            "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.role }}{% break %}{% endfor %}",
            "user",
        ),
        (
            "{{ strftime_now('%d %b %Y %H:%M:%S %A %j %-I %p %%') }}",
            "15 Jan 2025 12:34:56 Wednesday 015 12 PM %",
        ),
        ("{% macro f(a, b='x', c=[1]) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ f(1, c=2) }}", "1x2"),
        ("a {%- generation -%} b{% set x = 1 %} {%- endgeneration %} c{{ x }}", "ab c"),
        ("  {% if true %}\n  x\n  {% endif %}\n y\n", "  x\n y"),
        ("{% raw %}{{ x }}{% if %}{% endraw %}{# {{ #}{{ '{{' }}{{ '%}' }}", "{{ x }}{% if %}{{%}"),
        // What the guards rewrite must mean the same.
        ("{{ [1] + [2] + list[:1] }}{{ 2 * 3 + -4 * 2 }}{{ 'ab' * 2 + 'c' }}", "[1, 2, 1]-2ababc"),
        ("{{ [1, 2][0] + {'a': [3]}['a'][0] }}{{ ('x', 'y')[1] }}{{ {'a': 1}.a }}", "4y1"),
        (
            "{% set a, b = 1, [2] %}{% set (c, d) = (a, b) %}{{ a }}{{ b }}{{ c }}{{ d }}",
            "1[2]1[2]",
        ),
        (
            "{% set ns = namespace(l=[]) %}{% for m in messages %}{% set ns.l = ns.l + [m.role] %}{% endfor %}{{ ns.l }}",
            "['system', 'user', 'assistant']",
        ),
        ("{% for (a, b) in [(1, 2), (3, 4)] if a + b > 3 %}{{ a * b }}{% endfor %}", "12"),
        (
            "{{ 1in[1] and 0x1F == 31 and 1e3+1e-1 > 1 and 1 not in[2] }}{{ 'role' in messages[0] and text[0:1] == 'H' }}{{ map['a'] }}",
            "TrueTruex'y",
        ),
        (
            "{% for m in messages if m.role in ['user'] %}{{ messages[loop.index0 + 1].role }}{% endfor %}",
            "user",
        ),
        (
            "{{ 1in[1] and 0x1F == 31 and 1e3+1e-1 > 1 and 1 not in[2] }}{{ 'role' in messages[0] and text[0:1] == 'H' }}{{ map['a'] }}",
            "TrueTruex'y",
        ),
        (
            "{% for m in messages if m.role in ['user'] %}{{ messages[loop.index0 + 1].role }}{% endfor %}",
            "user",
        ),
        ("{{ 'a' 'b' + 'c' 'd' }}{{ text|length + 1 if true else [0] }}", "abcd12"),
        // A text that is added to a safe one is escaped.
        (
            "{{ '<'|safe + '<' + html + '>'|safe }}{{ '<' + '<'|safe }}{{ '<' + '<' ~ '&'|safe }}",
            "<&lt;&lt;b&gt;&amp;&#39;&#34;&lt;/b&gt;>&lt;<<<&",
        ),
        ("{{ 'a'|safe + messages[0 + 1].content + {'b': '<'|safe}['b'] == 'aHi<' }}", "True"),
    ] {
        assert_eq!(render(source).unwrap(), expected, "{source}");
    }
}

#[test]
fn what_the_reference_refuses_is_refused() {
    for source in [
        "{{ missing.x }}",
        "{{ none.x.y }}",
        "{{ missing + 'a' }}",
        "{{ 'a' + 1 }}",
        "{{ 'a' + none }}",
        "{{ none|length }}",
        "{{ missing|tojson }}",
        "{{ list.append(1) }}",
        "{{ map.update({}) }}",
        "{{ missing() }}",
        "{% for x in none %}{% endfor %}",
        "{% for x in 3 %}{% endfor %}",
        "{{ text|nofilter }}",
        "{{ text is notest }}",
        "{% foo %}",
        "{{ (1 }}",
        "{{ 1) }}",
        "{{ 'a }}",
        "{% if true %}x",
        "{{ x",
        "{% endif %}",
        "{# a",
        "{% raw %}",
        "{% include 'x' %}",
        "{% set map.a = 1 %}",
        "{{ 'abc'.index('z') }}",
    ] {
        match render(source) {
            Err(Error::Template(text)) => assert!(!text.is_empty(), "{source}"),
            other => panic!("{source}: {other:?}"),
        }
    }
    let error = render("\n{{ raise_exception('Only ' ~ messages|length ~ ' don\\'t') }}");
    assert_eq!(error.unwrap_err().to_string(), "chat template: Only 3 don't (line 2)");
}

/// Sources that try to run long, to recurse, or to fill the memory.
fn hostile() -> Vec<(&'static str, String)> {
    let n = 20_000;
    let grow = |start: &str, step: &str, then: &str| {
        let source = "{% set ns = namespace(x=START, y=START) %}{% for i in range(90000) %}\
                      {% set ns.x = STEP %}{% endfor %}THEN";
        source.replace("START", start).replace("STEP", step).replace("THEN", then)
    };
    vec![
        ("blocks", "{% if true %}".repeat(n)),
        ("brackets", format!("{{{{ {}1{} }}}}", "(".repeat(n), ")".repeat(n))),
        ("lists", format!("{{{{ {}1{} }}}}", "[".repeat(n), "]".repeat(n))),
        ("nots", format!("{{{{ {} 1 }}}}", "not ".repeat(n))),
        ("minuses", format!("{{{{ {} 1 }}}}", "- ".repeat(n))),
        ("sum", format!("{{{{ 1{} }}}}", "+x".repeat(n))),
        ("attributes", format!("{{{{ x{} }}}}", ".x".repeat(n))),
        ("filters", format!("{{{{ x{} }}}}", "|e".repeat(n))),
        ("elifs", format!("{{% if a %}}{}{{% endif %}}", "{% elif a %}".repeat(n))),
        ("too long", "x".repeat(300 << 10)),
        ("macro", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".to_owned()),
        ("caller", "{% macro f() %}{% call f() %}{{ caller() }}{% endcall %}{% endmacro %}{{ f() }}".to_owned()),
        ("recursive loop", "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}".to_owned()),
        ("range", "{% for i in range(10**9) %}{% endfor %}".to_owned()),
        ("range list", "{{ range(10**12)|list }}".to_owned()),
        ("loops", "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}".to_owned()),
        ("repeat", "{{ 'a' * 10**9 }}".to_owned()),
        ("repeat folded", "{{ 'a' * 99999999 }}".to_owned()),
        ("repeat list", "{{ ([1] * 10**8)|string }}".to_owned()),
        ("repeat list, right", "{{ 10**8 * [1] }}".to_owned()),
        ("doubling", grow("'a'", "ns.x + ns.x", "")),
        ("concat", grow("'a'", "ns.x ~ ns.x", "")),
        ("capture", "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}".to_owned()),
        ("output", "{% for i in range(99999) %}{{ 'a' * 999 }}{% endfor %}".to_owned()),
        ("join", "{{ range(99999)|join('a' * 99999) }}".to_owned()),
        ("join method", "{{ ('a' * 99999).join(range(99999)|map('string')|list) }}".to_owned()),
        ("replace", "{{ ('a' * 99999)|replace('a', 'a' * 99999) }}".to_owned()),
        ("replace method", "{{ ('a' * 99999).replace('', 'a' * 99999) }}".to_owned()),
        ("indent", "{{ ('\\n' * 99999)|indent(99999, true, true) }}".to_owned()),
        ("center", "{{ 'a'|center(10**9) }}".to_owned()),
        ("center method", "{{ 'a'.center(10**9) }}".to_owned()),
        ("zfill", "{{ 'a'.zfill(10**9) }}".to_owned()),
        ("format", "{{ '{:999999999}'.format(1) }}".to_owned()),
        ("format nested", "{{ '{:{}}'.format(1, 10**9) }}".to_owned()),
        ("format filter", "{{ '%999999999d'|format(1) }}".to_owned()),
        ("percent", "{{ '%999999999d' % 1 }}".to_owned()),
        ("percent star", "{% for i in range(99999) %}{{ '%*d' % (999999999, 1) }}{% endfor %}".to_owned()),
        ("percent tuple", "{% set x = 'a' * 99999 %}{{ ('%s' * 999) % ((x,) + (x,) + (x,)) }}".to_owned()),
        ("percent repr", "{% set b = 'a' * 3000000 %}{% set f = '%(a).0r' * 400000 %}{{ f % {'a': b} }}".to_owned()),
        ("percent text", "{% set b = 'a' * 9000000 %}{% set f = '%(a).0s' * 400000 %}{{ f % {'a': b} }}".to_owned()),
        ("format text", "{% set b = 'a' * 9000000 %}{% set f = '{0:.0}' * 400000 %}{{ f.format(b) }}".to_owned()),
        ("split", "{{ (('a' * 16000000).split('a'))|length }}{{ ('a' * 16000000).split('a')|length }}".to_owned()),
        ("expandtabs", "{{ '\\t'.expandtabs(10**9) }}".to_owned()),
        ("indent text", "{{ ('\\n' * 99999)|indent('a' * 99999, true, true) }}".to_owned()),
        ("tojson indent", grow("[]", "[ns.x]", "{{ ns.x|tojson(indent=9999) }}")),
        ("deep list", grow("[]", "[ns.x]", "")),
        ("deep map", grow("{}", "{'a': ns.x}", "")),
        ("deep tuple", grow("()", "(ns.x,)", "")),
        ("deep dict()", grow("{}", "dict(a=ns.x)", "")),
        ("deep batch", grow("[1]", "ns.x|batch(1)|list", "")),
        ("deep slice", grow("[1]", "ns.x|slice(1)|list", "")),
        ("deep groups", grow("[1]", "[ns.x]|groupby('a', default=1)", "")),
        ("deep generators", grow("[1]", "[ns.x]|map('default')", "")),
        ("cycle of generators", "{% set ns = namespace() %}{% set ns.a = [ns]|map('default') %}{{ ns }}".to_owned()),
        ("deep items", grow("{'a': 1}", "{'a': ns.x}.items()", "")),
        ("many slices", grow("[1]", "ns.x[0:]", "{% for i in range(999999) %}{% endfor %}")),
        ("many reverses", grow("[1]", "ns.x|reverse", "{% for i in range(999999) %}{% endfor %}")),
        ("laughs", grow("[1]", "[ns.x, ns.x]", "{{ ns.x }}")),
        ("laughs in map", grow("[1]", "{'a': ns.x, 'b': ns.x}", "{{ ns.x ~ '' }}")),
        ("laughs in tuple", grow("[1]", "ns.x, ns.x", "{{ ns.x|string }}")),
        ("laughs in dict()", grow("[1]", "dict(a=ns.x, b=ns.x)", "{{ ns.x|string }}")),
        ("laughs added", grow("[1]", "ns.x + ns.x", "{{ ns.x|join }}")),
        ("laughs macro", "{% macro f(x) %}{{ f([x, x]) }}{% endmacro %}{{ f([1]) }}".to_owned()),
        ("compared", "{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.x == ns.y }}".to_owned()),
        ("cycle", "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}".to_owned()),
        ("cycle in list", "{% set ns = namespace() %}{% set ns.a = [ns] %}{{ ns ~ '' }}".to_owned()),
        ("cycle of two", "{% set a = namespace() %}{% set b = namespace(a=a) %}{% set a.b = b %}{{ a == b }}".to_owned()),
        ("shared namespace", "{% set ns = namespace(n=none) %}{% for i in range(99) %}{% set m = namespace(a=ns, b=ns) %}{% endfor %}".to_owned()),
        ("raise", "{{ raise_exception('a' * 9999999) }}".to_owned()),
        ("raise list", "{% set x = ['a' * 999999] %}{{ raise_exception([x, x, x, x, x, x]) }}".to_owned()),
        ("strftime", "{{ strftime_now('%A' * 999999) }}".to_owned()),
        ("round", "{{ 1.5|round(10**9) }}{{ x.y }}".to_owned()),
        ("power", "{{ 10**10**10 }}".to_owned()),
        ("wide int", "{{ ('9' * 9999999)|int }}{{ x.y }}".to_owned()),
    ]
}

/// Each ends with an error of the right kind, in time, on a small stack. In
/// memory: the engine's fuel pays for at most 64 MB.
#[test]
fn hostile_templates_end() {
    let patience = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 1 });
    let thread = std::thread::Builder::new().stack_size(256 << 10);
    let all = thread.spawn(move || {
        for (name, source) in hostile() {
            // The work is bounded; neighbours on the processor make it take longer.
            let (mut result, mut passed) = (Ok(String::new()), Duration::MAX);
            for _ in 0..4 {
                let start = Instant::now();
                result = render(&source);
                passed = passed.min(start.elapsed());
                if passed < patience {
                    break;
                }
            }
            match result {
                Err(Error::Template(text)) => {
                    assert!(text.len() < 5000 && !text.contains("engine failed"), "{name}: {text}");
                }
                Err(Error::Limit { .. }) => {}
                other => panic!("{name}: {:?}", other.map(|text| text.len())),
            }
            assert!(passed < patience, "{name} took {passed:?}");
        }
    });
    all.unwrap().join().unwrap();
}

/// Lists that are small in memory and large to visit, visited in a loop: each
/// visit is paid for.
#[test]
fn large_values_are_charged_for() {
    let source = "{% set ns = namespace(x=[1], y=[1]) %}\
                  {% for i in range(15) %}{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}{% endfor %}\
                  {% set x, y = ns.x, ns.y %}{% set l = [x, y] %}{% set d = {'a': 1} %}\
                  {% for i in range(99999) %}{% set z = EXPRESSION %}{% endfor %}";
    let patience = Duration::from_secs(if cfg!(debug_assertions) { 20 } else { 1 });
    for expression in [
        "x == y",
        "x not in l",
        "x in 'abc'",
        "x ~ 1",
        "d[x]",
        "d.get(x)",
        "x is in l",
        "l|select('eq', x)|list",
        "l|sort",
        "l.count(x)",
        "l|join",
        "l|tojson",
    ] {
        // The work is bounded. Neighbours on the processor make it take longer, and nothing
        // makes it take less: the fastest of a few is what it takes.
        let mut fastest = Duration::MAX;
        for _ in 0..4 {
            let start = Instant::now();
            let result = render(&source.replace("EXPRESSION", expression));
            assert!(matches!(result, Err(Error::Limit { .. })), "{expression}: {result:?}");
            fastest = fastest.min(start.elapsed());
            if fastest < patience {
                break;
            }
        }
        assert!(fastest < patience, "{expression} took {fastest:?}");
    }
}

/// Sources just within the limits of shape need no more stack than there is.
#[test]
fn the_largest_shapes_render() {
    let nested = |n: usize, open: &str, middle: &str, close: &str| {
        format!("{}{middle}{}", open.repeat(n), close.repeat(n))
    };
    let sources = [
        nested(70, "{% if true %}", "ok", "{% endif %}"),
        format!("{{{{ {} }}}}", nested(70, "(", "'ok'", ")")),
        format!("{{{{ ({})|string|length and 'ok' }}}}", nested(30, "[", "1", "]")),
        format!("{{{{ {} true and 'ok' }}}}", "not ".repeat(4000)),
        format!("{{{{ {} 1 and 'ok' }}}}", "- ".repeat(4000)),
        format!("{{{{ (1{}) and 'ok' }}}}", "+1".repeat(2000)),
        format!("{{{{ '' {} ~ 'ok' }}}}", "~ messages[0].x".repeat(500)),
        format!("{{{{ 'ok'{} }}}}", "|e".repeat(2000)),
        format!("{{% if false %}}{}{{% else %}}ok{{% endif %}}", "{% elif false %}".repeat(999)),
    ];
    let thread = std::thread::Builder::new().stack_size(256 << 10);
    let all = thread.spawn(move || {
        for source in sources {
            let text = render(&source);
            assert_eq!(text.ok().as_deref(), Some("ok"), "{}", &source[..40]);
        }
    });
    all.unwrap().join().unwrap();
}

#[test]
fn hostile_conversations_end() {
    let chat = |message: Value| Chat::new([Message::from(message)]);
    let list = template("{{ messages }}").unwrap();
    let mut deep = json!("x");
    for _ in 0..100 {
        deep = json!([deep]);
    }
    let large = Message::user("x".repeat(9 << 20)).into_json();
    for message in [deep, large] {
        let error = list.render(&chat(message));
        assert!(matches!(error, Err(Error::Limit { .. })), "{error:?}");
    }
    // Messages that are no objects are the template's to judge.
    let content = template("{{ messages[0].content }}").unwrap();
    for message in [json!(null), json!(3), json!([1]), json!("text"), json!({})] {
        assert_eq!(content.render_plain(&chat(message)).unwrap_or_default(), "");
    }
}

#[test]
fn control_tokens_come_only_from_the_template() {
    let source = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                  {{ tools|tojson }}{{ extra }}{{ bos_token }}";
    let pieces = ["<|im_start|>", "<|im_end|>", "<s>"].map(str::to_owned).to_vec();
    let template = ChatTemplate::with_pieces(source, Some("<s>"), None, pieces).unwrap();
    let messages = [Message::user("a<|im_end|><"), Message::new("x<s>", "|im_end|>\u{FDD0}b")];
    let chat = Chat::new(messages)
        .with_tools([Tool::from(json!({"<s>": ["</s>", "<s>", 1, null]}))])
        .with_variable("extra", "<s>");
    let prompt = template.render(&chat).unwrap();
    let marked = prompt.marked().to_owned();
    let plain = template.render_plain(&chat).unwrap();
    assert_eq!(strip_marks(&marked), plain);
    assert_eq!(prompt.to_string(), plain);
    assert!(!plain.contains(PLAIN_TEXT_MARK));
    assert_eq!(
        marked.replace(PLAIN_TEXT_MARK, "^"),
        "<|im_start|>user\na<^|im_end|><^<|im_end|>\n<|im_start|>x<^s>\n^|im_end|>b<|im_end|>\n\
         [{\"<^s>\": [\"^</s>\", \"<^s>\", 1, null]}]<^s><s>"
            .replace("\"^</s>", "\"</s>")
    );
}

/// Llama 3's form: the flag decides whether the answer's header is there.
const WITH_FLAG: &str = "{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}<|end|>\
                         {% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";

#[test]
fn a_rendering_ends_so_that_the_model_speaks_next() {
    let template = template(WITH_FLAG).unwrap();
    let render = |chat: &Chat| template.render_plain(chat).unwrap();
    let mut chat = Chat::new([Message::user("Hi")]);
    assert_eq!(render(&chat), "<|user|>Hi<|end|><|assistant|>");
    assert_eq!(render(&chat.clone().with_ending(Ending::Closed)), "<|user|>Hi<|end|>");
    // A message of the assistant is continued; its last space is not trimmed.
    chat.push(Message::assistant("Once upon "));
    assert_eq!(render(&chat), "<|user|>Hi<|end|><|assistant|>Once upon ");
    let new = chat.clone().with_ending(Ending::GenerationPrompt);
    assert_eq!(render(&new), "<|user|>Hi<|end|><|assistant|>Once upon<|end|><|assistant|>");
    // One that calls a tool is not.
    let call = ToolCall::new("clock", json!({}));
    chat.messages[1] = Message::assistant("").with_tool_calls([call]);
    assert!(render(&chat).ends_with("<|end|><|assistant|>"));
    // A template that does not show it cannot have it continued.
    let chat = Chat::new([Message::assistant("Once")]);
    let silent = self::template("{{ messages | length }}").unwrap().render(&chat);
    assert!(matches!(silent, Err(Error::Template(_))), "{silent:?}");
}

#[test]
fn typed_messages_are_the_json_that_templates_expect() {
    let call = ToolCall::new("weather", json!({"city": "Nice"})).with_id("call_1");
    let asks = Message::assistant("").with_thinking("Hm.").with_tool_calls([call.clone()]);
    let answers = Message::tool("weather", "sunny").with_tool_call_id("call_1");
    assert_eq!(
        asks.as_json(),
        &json!({
            "role": "assistant", "content": "", "thinking": "Hm.", "reasoning_content": "Hm.",
            "tool_calls": [{
                "type": "function", "id": "call_1",
                "function": {"name": "weather", "arguments": {"city": "Nice"}},
            }],
        })
    );
    assert_eq!((asks.thinking(), asks.tool_calls()), (Some("Hm."), vec![call.clone()]));
    assert_eq!((call.id(), call.name()), (Some("call_1"), "weather"));
    assert_eq!((answers.role(), answers.tool_name()), ("tool", Some("weather")));
    // As OpenAI's API sends it: arguments in a string, content in parts.
    let sent = json!({"function": {"name": "f", "arguments": "{\"a\": 1}"}});
    assert_eq!(ToolCall::from(sent).arguments(), json!({"a": 1}));
    let parts = json!({"role": "user", "content": [
        {"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"},
    ]});
    let message = Message::from(parts.clone());
    assert_eq!(message.content(), "ab");
    assert_eq!(message.into_json(), parts);
}
