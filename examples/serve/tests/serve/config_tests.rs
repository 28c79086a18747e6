//! Settings: what Ollama's variables mean.

use std::path::PathBuf;
use std::time::Duration;

use tramontane::KvType;

use tramontane_serve::cli::args::{Args, Command};
use tramontane_serve::config::{Bind, Config, ServeArgs};
use tramontane_serve::wire::KeepAlive;

fn with(change: impl FnOnce(&mut ServeArgs)) -> Result<Config, String> {
    let mut args = ServeArgs { models: Some("/m".into()), ..ServeArgs::default() };
    change(&mut args);
    Config::new(&args)
}

#[test]
fn defaults_are_ollamas() {
    let config = with(|_| {}).unwrap();
    assert_eq!(config.bind, Bind::Tcp("127.0.0.1".into(), 11434));
    assert_eq!(config.keep_alive, KeepAlive::For(Duration::from_secs(300)));
    assert_eq!((config.max_queue, config.context_length), (512, 4096));
    assert_eq!(config.load_timeout, Some(Duration::from_secs(300)));
    assert_eq!(config.kv_type, KvType::default());
    assert!(!config.no_prune && !config.read_only && config.api_keys.is_empty());
    assert_eq!(config.models, PathBuf::from("/m"));
}

#[test]
fn addresses_are_read_as_ollama_reads_them() {
    for (text, host, port) in [
        ("0.0.0.0", "0.0.0.0", 11434),
        ("0.0.0.0:80", "0.0.0.0", 80),
        (":8080", "0.0.0.0", 8080),
        ("", "127.0.0.1", 11434),
        ("\"1.2.3.4:5\"", "1.2.3.4", 5),
        ("http://h", "h", 80),
        ("https://h", "h", 443),
        ("http://h:1/path", "h", 1),
        ("h:65536", "h", 11434),
        ("h:x", "h", 11434),
        ("[::1]", "::1", 11434),
        ("[::1]:7", "::1", 7),
        ("::1", "::1", 11434),
    ] {
        let config = with(|args| args.host = Some(text.into())).unwrap();
        assert_eq!(config.bind, Bind::Tcp(host.into(), port), "{text}");
    }
    for text in ["unix:/run/o.sock", "unix:///run/o.sock"] {
        let config = with(|args| args.host = Some(text.into())).unwrap();
        assert_eq!(config.bind, Bind::Unix("/run/o.sock".into()));
    }
}

#[test]
fn what_is_not_understood_is_the_default() {
    let config = with(|args| {
        args.max_queue = Some("many".into());
        args.num_parallel = Some("-3".into());
        args.keep_alive = Some("soon".into());
        args.load_timeout = Some("x".into());
        args.context_length = Some("0".into());
    })
    .unwrap();
    assert_eq!((config.max_queue, config.num_parallel, config.context_length), (512, 0, 4096));
    assert_eq!(config.keep_alive, KeepAlive::For(Duration::from_secs(300)));
    assert_eq!(config.load_timeout, Some(Duration::from_secs(300)));
}

#[test]
fn truth_is_gos() {
    for (text, wanted) in [
        ("1", true),
        ("true", true),
        ("yes", true),
        ("\"1\"", true),
        (" 0 ", false),
        ("0", false),
        ("false", false),
        ("F", false),
        ("", false),
    ] {
        let config = with(|args| {
            args.no_prune = Some(text.into());
            args.read_only = Some(text.into());
        });
        let config = config.unwrap();
        assert_eq!((config.no_prune, config.read_only), (wanted, wanted), "{text}");
    }
}

#[test]
fn settings_that_must_not_be_guessed_are_refused() {
    for (what, config) in [
        ("kv", with(|args| args.kv_cache_type = Some("q4_0".into()))),
        ("origin", with(|args| args.origins = Some("example.com".into()))),
        ("origin", with(|args| args.origins = Some("https://*.*".into()))),
        ("memory", with(|args| args.memory = Some("lots".into()))),
        ("memory", with(|args| args.memory = Some("5 parsecs".into()))),
        ("body", with(|args| args.max_body = Some("x".into()))),
        ("predict", with(|args| args.max_predict = Some("-1".into()))),
        ("time", with(|args| args.max_time = Some("x".into()))),
    ] {
        assert!(config.is_err(), "{what}");
    }
}

/// The settings of a command line.
fn of(words: &[&str]) -> Result<Config, String> {
    let words = ["ollama", "serve"].iter().chain(words);
    let args = Args::read(words.copied()).map_err(|error| error.to_string())?;
    match args.command {
        Some(Command::Serve(args)) => Config::new(&args),
        _ => unreachable!("serve"),
    }
}

/// A wrong value never passes silently: as a flag it is refused with a sentence that has
/// it, and so is one of our own variables; a variable that Ollama tolerates is told in a
/// warning, with the value that is used.
#[test]
fn wrong_values_are_refused_or_told() {
    type Set = fn(&mut ServeArgs, String);
    const REFUSED: &str = "";
    let table: &[(&str, Set, &[&str], &str)] = &[
        ("--keep-alive", |a, v| a.keep_alive = Some(v), &["5x", "soon", "5 m"], "5m is used"),
        ("--num-parallel", |a, v| a.num_parallel = Some(v), &["abc", "-3", "1.5"], "default 4"),
        ("--max-loaded-models", |a, v| a.max_loaded_models = Some(v), &["all", "-1"], "default 3"),
        ("--max-queue", |a, v| a.max_queue = Some(v), &["many", "1e3"], "default 512"),
        ("--context-length", |a, v| a.context_length = Some(v), &["4k", "8,192"], "default 4096"),
        ("--load-timeout", |a, v| a.load_timeout = Some(v), &["x", "5min"], "5m is used"),
        ("--num-threads", |a, v| a.num_threads = Some(v), &["two", "99999"], "physical core"),
        ("--host", |a, v| a.host = Some(v), &["127.0.0.1:99999", "h:x", "h:-1"], "11434 is used"),
        ("--flash-attention", |a, v| a.flash_attention = Some(v), &["maybe"], "1 is used"),
        ("--no-prune", |a, v| a.no_prune = Some(v), &["off", "no"], "1 is used"),
        ("--debug", |a, v| a.debug = Some(v), &["loud"], "1 is used"),
        ("--kv-cache-type", |a, v| a.kv_cache_type = Some(v), &["q4_0", "16"], REFUSED),
        ("--origins", |a, v| a.origins = Some(v), &["example.com", "https://*.*"], REFUSED),
        ("--memory", |a, v| a.memory = Some(v), &["lots", "0", "-1GB", "5 parsecs"], REFUSED),
        ("--max-body", |a, v| a.max_body = Some(v), &["x", "0"], REFUSED),
        ("--max-prompt", |a, v| a.max_prompt = Some(v), &["-1", "0", "4k"], REFUSED),
        ("--max-predict", |a, v| a.max_predict = Some(v), &["-1", "0"], REFUSED),
        ("--max-time", |a, v| a.max_time = Some(v), &["x", "0", "-5s"], REFUSED),
        ("--stream-heartbeat", |a, v| a.stream_heartbeat = Some(v), &["x", "0", "-5s"], REFUSED),
        ("--read-only", |a, v| a.read_only = Some(v), &["offf", "2"], REFUSED),
        ("--registries", |a, v| a.registries = Some(v), &["", " ", ",", "https://hf.co/"], REFUSED),
        ("--api-keys", |a, v| a.api_keys = Some(v), &["", " ", ",", "\"\"", " , "], REFUSED),
        ("--api-keys-file", |a, v| a.api_keys_file = Some(v.into()), &["", "/no/such"], REFUSED),
        ("--models", |a, v| a.models = Some(v.into()), &["/etc/passwd"], REFUSED),
        ("--model", |a, v| a.files.push(v.into()), &["./missing", "/tmp"], REFUSED),
    ];
    let mut tried = 0;
    for (flag, set, values, used) in table {
        for value in *values {
            tried += 1;
            let shown = value.trim_matches(|c: char| c.is_whitespace() || ",\"".contains(c));
            let refused = of(&[&format!("{flag}={value}")]).map(drop);
            let refused = refused.expect_err(&format!("{flag} {value:?} passes"));
            assert!(refused.contains(flag), "{flag} {value:?}: {refused}");
            assert!(refused.contains(shown), "{flag} {value:?}: {refused}");
            let config = with(|args| set(args, (*value).to_owned()));
            match config {
                Err(said) => assert!(used.is_empty() && said.contains(shown), "{flag}: {said}"),
                Ok(config) => {
                    assert!(!used.is_empty(), "{flag} {value:?} passes as a variable");
                    let [said] = &config.warnings[..] else { panic!("{:?}", config.warnings) };
                    assert!(said.contains(value) && said.contains(used), "{flag}: {said}");
                    assert!(said.starts_with("OLLAMA_"), "{said}");
                }
            }
        }
    }
    assert!(tried >= 40, "{tried}");
    assert!(of(&["--log-format", "xml"]).is_err());
    assert!(with(|_| {}).unwrap().warnings.is_empty());
}

#[test]
fn words_for_no_are_no() {
    for (text, wanted) in [("off", false), ("No", false), ("on", true), ("YES", true)] {
        assert_eq!(of(&["--read-only", text]).unwrap().read_only, wanted, "{text}");
    }
    assert!(of(&["--read-only"]).unwrap().read_only);
}

#[test]
fn quotes_and_blanks_around_a_value_mean_nothing() {
    for text in ["\"/models\"", "'/models'", " /models ", "/models", "\" /models \""] {
        let config = with(|args| args.models = Some(text.into())).unwrap();
        assert_eq!(config.models, PathBuf::from("/models"), "{text}");
    }
    let config = with(|args| {
        args.api_keys = Some("'a', \"b\"".into());
        args.memory = Some("\"1GiB\"".into());
        args.keep_alive = Some("'-1'".into());
        args.registries = Some("\"hf.co\"".into());
        args.max_predict = Some(" '5' ".into());
    });
    let config = config.unwrap();
    assert_eq!(config.api_keys, ["a", "b"]);
    assert_eq!((config.memory, config.keep_alive), (Some(1 << 30), KeepAlive::Forever));
    assert_eq!(config.limits.predict, Some(5));
    assert_eq!(config.registries.as_deref(), Some(&["hf.co".to_owned()][..]));
}

#[test]
fn keys_come_from_a_file_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    std::fs::write(&file, "# for the web\nfirst\n\n  second  \n").unwrap();
    let config = with(|args| {
        args.api_keys = Some("third".into());
        args.api_keys_file = Some(file.clone());
    });
    assert_eq!(config.unwrap().api_keys, ["third", "first", "second"]);
    for text in ["", "\n \n", "# nothing\n"] {
        std::fs::write(&file, text).unwrap();
        let refused = with(|args| args.api_keys_file = Some(file.clone())).unwrap_err();
        assert!(refused.contains("has no key in it"), "{refused}");
    }
}

#[test]
fn a_variable_that_is_almost_ours_is_named() {
    let unknown = |name: &str| Args::unknown_variable([name.to_owned(), "HOME".into()]);
    let said = unknown("TRAMONTANE_API_KEY").unwrap();
    assert_eq!(said, "TRAMONTANE_API_KEY is no setting; did you mean TRAMONTANE_API_KEYS?");
    assert!(unknown("TRAMONTANE_READONLY").unwrap().contains("TRAMONTANE_READ_ONLY"));
    assert_eq!(unknown("TRAMONTANE_FOO").unwrap(), "TRAMONTANE_FOO is no setting");
    for name in ["TRAMONTANE_API_KEYS", "TRAMONTANE_API_KEYS_FILE", "TRAMONTANE_ISA", "OLLAMA_X"] {
        assert_eq!(unknown(name), None, "{name}");
    }
    // What Kubernetes sets for services called tramontane and tramontane-api.
    for name in [
        "TRAMONTANE_SERVICE_HOST",
        "TRAMONTANE_SERVICE_PORT",
        "TRAMONTANE_SERVICE_PORT_HTTP",
        "TRAMONTANE_PORT",
        "TRAMONTANE_PORT_11434_TCP",
        "TRAMONTANE_PORT_11434_TCP_ADDR",
        "TRAMONTANE_API_SERVICE_HOST",
        "TRAMONTANE_API_PORT_80_TCP_PROTO",
    ] {
        assert_eq!(unknown(name), None, "{name}");
    }
}

#[test]
fn values_are_read() {
    let config = with(|args| {
        args.keep_alive = Some("-1".into());
        args.kv_cache_type = Some("Q8_0".into());
        args.memory = Some("1.5GiB".into());
        args.max_body = Some("500 KB".into());
        args.load_timeout = Some("0".into());
        args.api_keys = Some(" a, b ,".into());
        args.registries = Some("registry.ollama.ai,hf.co".into());
        args.origins = Some("*".into());
        args.num_threads = Some("3".into());
        args.max_time = Some("90s".into());
    })
    .unwrap();
    assert_eq!(config.keep_alive, KeepAlive::Forever);
    assert_eq!(config.kv_type, KvType::Q8_0);
    assert_eq!(config.memory, Some(3 << 29));
    assert_eq!((config.limits.body, config.limits.time), (500_000, Some(Duration::from_secs(90))));
    assert_eq!(config.load_timeout, None);
    assert_eq!(config.api_keys, ["a", "b"]);
    assert_eq!(
        config.registries.as_deref(),
        Some(&["registry.ollama.ai".into(), "hf.co".into()][..])
    );
    assert_eq!(config.threads, Some(3));
}

#[test]
fn the_log_says_more_if_asked() {
    for (text, level) in [("", 0), ("0", 0), ("false", 0), ("1", 1), ("yes", 1), ("2", 2)] {
        let args = ServeArgs { debug: Some(text.into()), ..ServeArgs::default() };
        assert_eq!(args.debug_level(), level, "{text:?}");
    }
}

/// The operator's document has every setting and every metric.
#[tokio::test]
async fn the_document_is_complete() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operating.md");
    let document = std::fs::read_to_string(path).unwrap();
    let commands = <Args as clap::CommandFactory>::command();
    let serve = commands.find_subcommand("serve").unwrap();
    for argument in serve.get_arguments() {
        for name in argument
            .get_long()
            .map(|flag| format!("`--{flag}`"))
            .into_iter()
            .chain(argument.get_env().map(|name| format!("`{}`", name.to_string_lossy())))
        {
            assert!(name == "`--help`" || document.contains(&name), "{name}");
        }
    }
    let server = crate::support::server().await;
    let metrics = server.get("/metrics").await;
    let mut found = 0;
    for line in metrics.text().lines().filter(|line| line.starts_with("# TYPE ")) {
        let name = line.split(' ').nth(2).unwrap();
        assert!(document.contains(&format!("`{name}")), "{name}");
        found += 1;
    }
    assert!(found > 10, "{found}");
}
