//! Settings: what Ollama's variables mean.

use std::path::PathBuf;
use std::time::Duration;

use tramontane::KvType;

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
