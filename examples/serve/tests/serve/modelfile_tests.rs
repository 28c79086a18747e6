//! Tests of `modelfile`: what people write, and what `show` prints.

use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};
use tramontane::Message;

use tramontane_serve::catalog::Settings;
use tramontane_serve::modelfile::{Modelfile, generated, parameters_text};

fn parse(text: &str) -> Modelfile {
    Modelfile::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

fn error(text: &str) -> String {
    match Modelfile::parse(text.as_bytes()) {
        Err(error) => error.to_string(),
        Ok(file) => panic!("{text:?} is {file:?}"),
    }
}

fn message(role: &str, content: &str) -> Message {
    Message::new(role, content)
}

#[test]
fn reads_every_instruction() {
    let file = parse(
        "# a comment\n\nfrom model1\nFROM ./more.gguf\r\nADAPTER adapter1\nLICENSE MIT\nLICENSE \"\"\"\ntwo\n\"\"\"\n\
         \tPARAMETER temperature 0.7\nPARAMETER stop <|end|>\nPARAMETER stop \"### User: \"\n\
         PARAMETER num_ctx 4096\nPARAMETER use_mmap false\nPARAMETER mirostat 1\n\
         Template \"\"\"{{ .Prompt }}\n\"quoted\"\"\"\"   \nSYSTEM be brief # no comment\n\
         MESSAGE user Hey there!\nMESSAGE assistant \"\"\"\nHello\n\"\"\"\n\
         RENDERER r\nPARSER p\nREQUIRES v0.14.0\nDRAFT ./draft",
    );
    let parameters = json!({
        "temperature": 0.7, "stop": ["<|end|>", "### User: "], "num_ctx": 4096, "use_mmap": false,
    });
    let expected = Modelfile {
        from: vec!["model1".into(), "./more.gguf".into()],
        parameters: parameters.as_object().unwrap().clone(),
        deprecated: vec!["mirostat".into()],
        template: Some("{{ .Prompt }}\n\"quoted\"".into()),
        system: Some("be brief # no comment".into()),
        adapters: vec!["adapter1".into()],
        licenses: vec!["MIT".into(), "\ntwo\n".into()],
        messages: vec![message("user", "Hey there!"), message("assistant", "\nHello\n")],
        renderer: Some("r".into()),
        parser: Some("p".into()),
        requires: Some("0.14.0".into()),
        drafts: vec!["./draft".into()],
    };
    assert_eq!(file, expected);
}

#[test]
fn values_end_with_the_line_or_the_quotes() {
    for (value, expected) in [
        ("foo", "foo"),
        ("    FOOO BAR    ", "FOOO BAR"),
        ("\"FOO  BAR  \"", "FOO  BAR  "),
        ("\"\"\"   a\n\n b   \"\"\"    ", "   a\n\n b   "),
        ("\"\"\"This is \"quoted\".\n\"\"\"", "This is \"quoted\".\n"),
        ("\"\"\"\"\"\"", ""),
        ("\"\"", ""),
        ("\"'\"", "'"),
        ("\"\"\"''\"'\"\"'\"\"'\"'''''\"\"'\"\"'\"\"\"", "''\"'\"\"'\"\"'\"'''''\"\"'\"\"'"),
        ("\"a\" and \"b\"", "a\" and \"b"),
        ("\"one\ntwo\"", "one\ntwo"),
        ("it's", "it's"),
        ("a\tb", "a\tb"),
        ("\"\"\"a\r\nb\"\"\"", "a\r\nb"),
        ("你好👋\u{2581}\u{a0}x", "你好👋\u{2581}\u{a0}x"),
        ("a\u{0}b\u{1b}c", "abc"),
        ("", ""),
    ] {
        for end in ["", "\n", "\r\n", "\nPARAMETER seed 1"] {
            let file = parse(&format!("FROM x\nSYSTEM {value}{end}"));
            assert_eq!(file.system.as_deref(), Some(expected), "{value:?} {end:?}");
        }
    }
}

#[test]
fn options_have_types() {
    for (line, key, value) in [
        ("num_ctx 1", "num_ctx", json!(1)),
        ("num_batch 1", "num_batch", json!(1)),
        ("num_gpu -1", "num_gpu", json!(-1)),
        ("main_gpu 1", "main_gpu", json!(1)),
        ("use_mmap true", "use_mmap", json!(true)),
        ("use_mmap F", "use_mmap", json!(false)),
        ("num_thread 1", "num_thread", json!(1)),
        ("num_keep 1", "num_keep", json!(1)),
        ("seed 42", "seed", json!(42)),
        ("num_predict 1", "num_predict", json!(1)),
        ("draft_num_predict 1", "draft_num_predict", json!(1)),
        ("top_k 1", "top_k", json!(1)),
        ("top_p 1.0", "top_p", json!(1.0)),
        ("min_p 0.05", "min_p", json!(0.05)),
        ("typical_p 1", "typical_p", json!(1.0)),
        ("repeat_last_n 1", "repeat_last_n", json!(1)),
        ("temperature   1e-1", "temperature", json!(0.1)),
        ("repeat_penalty 1.1", "repeat_penalty", json!(1.1)),
        ("presence_penalty 1.0", "presence_penalty", json!(1.0)),
        ("frequency_penalty -0.5", "frequency_penalty", json!(-0.5)),
        ("stop ### User: ", "stop", json!(["### User:"])),
        ("stop \"\"\"### User:\n\"\"\"", "stop", json!(["### User:\n"])),
        ("  stop </s>", "stop", json!(["</s>"])),
    ] {
        let file = parse(&format!("FROM x\nPARAMETER {line}\n"));
        assert_eq!(file.parameters.get(key), Some(&value), "{line}");
        assert_eq!(file.parameters.len(), 1);
    }
    // The last of several values counts.
    let file = parse("FROM x\nPARAMETER seed 1\nPARAMETER seed 2");
    assert_eq!(Json::from(file.parameters), json!({"seed": 2}));
}

#[test]
fn refuses_with_ollamas_words() {
    let role = "message role must be one of \"system\", \"user\", or \"assistant\"";
    let command = "command must be one of \"from\", \"license\", \"template\", \"system\", \"adapter\", \
        \"draft\", \"renderer\", \"parser\", \"parameter\", \"message\", or \"requires\"";
    for (text, expected) in [
        ("", "no FROM line".to_owned()),
        ("PARAMETER param1 value1", "no FROM line".to_owned()),
        ("# FROM x", "no FROM line".to_owned()),
        ("\nFROM foo\nBADCOMMAND param1 value1\n", format!("(line 3): {command}")),
        ("FROM foo\r\nFROMfoo x\r\n", format!("(line 2): {command}")),
        ("FROM foo\n42\n", format!("(line 2): {command}")),
        ("FROM foo\nSYSTEM\n", format!("(line 2): {command}")),
        ("FROM", "unexpected EOF".to_owned()),
        ("\nFROM foo\nMESSAGE badguy I'm a bad guy!\n", format!("(line 3): {role}")),
        ("FROM foo\nMESSAGE User hi\n", format!("(line 2): {role}")),
        ("FROM foo\nMESSAGE system\n", "unexpected EOF: system".to_owned()),
        ("FROM foo\nMESSAGE system", "unexpected EOF".to_owned()),
        ("FROM foo\nPARAMETER param1\n", "unexpected EOF: param1".to_owned()),
        ("FROM foo\nSYSTEM \"\n", "unexpected EOF".to_owned()),
        ("FROM foo\nSYSTEM \"\"\"a\"\"\n", "unexpected EOF".to_owned()),
        ("FROM foo\nPARAMETER colour red\n", "unknown parameter 'colour'".to_owned()),
        ("FROM foo\nPARAMETER system red\n", "unknown parameter 'system'".to_owned()),
        ("FROM foo\nPARAMETER num_ctx 10.5\n", "invalid int value [10.5]".to_owned()),
        ("FROM foo\nPARAMETER temperature hot\n", "invalid float value [hot]".to_owned()),
        ("FROM foo\nPARAMETER temperature inf\n", "invalid float value [inf]".to_owned()),
        ("FROM foo\nPARAMETER use_mmap yes\n", "invalid bool value [yes]".to_owned()),
        ("FROM foo\nREQUIRES soon\n", "requires must be a valid semver (e.g. 0.14.0)".to_owned()),
        ("FROM foo\nREQUIRES 1.2.x\n", "requires must be a valid semver (e.g. 0.14.0)".to_owned()),
        ("FROM foo\nREQUIRES 1.02.3\n", "requires must be a valid semver (e.g. 0.14.0)".to_owned()),
    ] {
        assert_eq!(error(text), expected, "{text:?}");
    }
    for version in ["1", "1.2", "1.2.3", "v1.2.3-rc.1+build.5"] {
        parse(&format!("FROM foo\nREQUIRES {version}"));
    }
}

#[test]
fn reads_utf16_and_byte_order_marks() {
    let text = "FROM bob\nPARAMETER num_ctx 4096\nSYSTEM You are a utf16 file. 你好👋\n";
    let expected = parse(text);
    let little = text.encode_utf16().flat_map(u16::to_le_bytes);
    let big = text.encode_utf16().flat_map(u16::to_be_bytes);
    for bytes in [
        [0xff, 0xfe].into_iter().chain(little).collect::<Vec<u8>>(),
        [0xfe, 0xff].into_iter().chain(big).collect(),
        [0xef, 0xbb, 0xbf].into_iter().chain(text.bytes()).collect(),
    ] {
        assert_eq!(Modelfile::parse(&bytes).unwrap(), expected);
    }
    let broken = Modelfile::parse(b"FROM a\xffb").unwrap();
    assert_eq!(broken.from, ["a\u{fffd}b"]);
}

#[test]
fn shows_what_ollama_shows() {
    let params = json!({
        "top_k": 20, "stop": ["<|a|>", "b "], "num_ctx": 1_048_576, "temperature": 0.7,
    });
    let settings = Settings {
        template: Some("{{ .Prompt }}\n".into()),
        system: Some("Say \"hi\".\nNow.".into()),
        params: params.as_object().unwrap().clone(),
        messages: vec![message("user", "hello")],
        licenses: vec!["MIT".into()],
    };
    let expected = "# Modelfile generated by \"ollama show\"\n\
        # To build a new Modelfile based on this, replace FROM with:\n\
        # FROM llama3:8b\n\n\
        FROM /models/blobs/sha256-1\n\
        TEMPLATE \"{{ .Prompt }}\n\"\n\
        SYSTEM \"\"\"Say \"hi\".\nNow.\"\"\"\n\
        PARAMETER num_ctx 1048576\n\
        PARAMETER stop <|a|>\n\
        PARAMETER stop \"b \"\n\
        PARAMETER temperature 0.7\n\
        PARAMETER top_k 20\n\
        LICENSE MIT\n\
        MESSAGE user hello\n";
    let shown = generated("llama3:8b", "/models/blobs/sha256-1", &settings);
    assert_eq!(shown, expected);
    let read = parse(&shown);
    assert_eq!(read.template, settings.template);
    assert_eq!(read.system, settings.system);
    assert_eq!(Json::from(read.parameters), Json::from(settings.params));
}

#[test]
fn what_show_prints_reads_the_same() {
    let file = parse(
        "FROM a\nFROM \"b c \"\nADAPTER \"./x y\"\nDRAFT d\nRENDERER r\nPARSER p\nREQUIRES 0.14.0\n\
         TEMPLATE \"\"\"\"quoted\" first\"\"\"\nSYSTEM \"\"\nLICENSE one\nLICENSE \" two\"\nMESSAGE system hi",
    );
    assert_eq!(parse(&file.to_string()), file);
}

#[test]
fn parameters_are_a_line_each() {
    let parameters = json!({
        "temperature": 0.7, "stop": ["<|im_start|>", "a\"b\n"], "num_ctx": 4096, "top_p": 1.0, "use_mmap": true,
    });
    let expected = "num_ctx                        4096\n\
        stop                           \"<|im_start|>\"\n\
        stop                           \"a\\\"b\\n\"\n\
        temperature                    0.7\n\
        top_p                          1\n\
        use_mmap                       true";
    assert_eq!(parameters_text(parameters.as_object().unwrap()), expected);
    assert_eq!(parameters_text(&Map::new()), "");
}

#[test]
fn odd_files_are_read_quickly() {
    let start = std::time::Instant::now();
    for text in [
        format!("FROM x\nSYSTEM \"{}", "\n".repeat(1 << 20)),
        format!("FROM x\nSYSTEM \"\"\"{}\"\"\"", " \n".repeat(1 << 20)),
        format!("FROM x\nSYSTEM {}", "\"".repeat(1 << 20)),
        "#\n".repeat(1 << 19),
    ] {
        let _ = Modelfile::parse(text.as_bytes());
    }
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Modelfile::parse(&bytes);
    }

    #[test]
    fn what_is_written_reads_the_same(
        system in "[ -~é\\n\\t]{0,40}",
        stop in prop::collection::vec("[!-~]{1,8}( [a-z\"]{0,4})?", 0..3),
        content in "[a-z\" \\n]{0,20}",
        seed in any::<i64>(),
        temperature in 0f32..4.0,
    ) {
        // Three quotes at the end of a line within a text cannot be written.
        prop_assume!(!format!("{system}\n{content}\n").replace([' ', '\t'], "").contains("\"\n"));
        let mut parameters = json!({"seed": seed, "temperature": temperature.to_string().parse::<f64>().unwrap()});
        if !stop.is_empty() {
            parameters["stop"] = json!(stop);
        }
        let file = Modelfile {
            from: vec!["a model".into()],
            parameters: parameters.as_object().unwrap().clone(),
            system: Some(system),
            messages: vec![message("user", &content)],
            ..Modelfile::default()
        };
        prop_assert_eq!(Modelfile::parse(file.to_string().as_bytes()).unwrap(), file);
    }
}
