//! The command line against the real server, and its small parts.

use clap::Parser;
use proptest::prelude::*;
use serde_json::json;

use crate::support::{Server, server};
use tramontane_serve::cli::args::Args;
use tramontane_serve::cli::client::{Client, Splitter, base};
use tramontane_serve::cli::history::History;
use tramontane_serve::cli::lines::{Line, Reader};
use tramontane_serve::cli::near::nearest;
use tramontane_serve::cli::repl::{change, parameters};
use tramontane_serve::cli::run::{Task, task};
use tramontane_serve::cli::wrap::Wrap;
use tramontane_serve::cli::{Screen, Settings, figures, human, table, talk, width};

/// Runs a command as a script does; what it prints, or its error.
async fn ollama(address: &str, words: &[&str]) -> Result<String, String> {
    let args = Args::try_parse_from([&["ollama"], words].concat()).map_err(|e| e.to_string())?;
    let client = Client::new(Some(address), None).unwrap();
    let mut out = Vec::new();
    let mut screen = Screen { out: &mut out, terminal: false };
    let ran = talk(&client, &mut screen, args.command.unwrap()).await;
    ran.map_err(|error| error.to_string())?;
    Ok(String::from_utf8(out).unwrap())
}

async fn listening() -> (Server, String, tokio::sync::oneshot::Sender<()>) {
    let server = server().await;
    let (address, stop) = server.listen().await;
    (server, address, stop)
}

/// The words of each line.
fn words(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split_whitespace().collect()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_of_commands() {
    let (server, address, _stop) = listening().await;
    let run = |words: &'static [&'static str]| {
        let address = address.clone();
        async move { ollama(&address, words).await }
    };
    let listed = run(&["list"]).await.unwrap();
    let listed = words(&listed);
    assert_eq!(listed[0], ["NAME", "ID", "SIZE", "MODIFIED"]);
    assert_eq!((listed.len(), listed[1][0], listed[1][1].len()), (2, "storyteller:latest", 12));
    assert_eq!(
        run(&["ps"]).await.unwrap().trim_end(),
        "NAME    ID    SIZE    PROCESSOR    CONTEXT    UNTIL"
    );
    let story = run(&["run", "storyteller", "Once upon a time"]).await.unwrap();
    assert!(story.len() > 40, "{story}");
    let loaded = run(&["ps"]).await.unwrap();
    assert!(loaded.contains("storyteller:latest") && loaded.contains("100% CPU"), "{loaded}");
    assert!(loaded.contains("256") && loaded.contains("from now"), "{loaded}");
    run(&["stop", "storyteller"]).await.unwrap();
    assert!(!run(&["ps"]).await.unwrap().contains("storyteller"));
    let about = run(&["show", "storyteller"]).await.unwrap();
    for part in [
        "architecture        llama",
        "parameters          6.62M",
        "quantization        Q4_K_M",
        "context length      512",
        "completion",
    ] {
        assert!(about.contains(part), "{part}: {about}");
    }
    assert!(run(&["show", "storyteller", "--modelfile"]).await.unwrap().contains("FROM "));
    assert!(run(&["show", "storyteller", "--template"]).await.unwrap().len() > 1);
    assert_eq!(
        run(&["show", "storyteller", "--system", "--license"]).await.unwrap_err(),
        "only one of '--license', '--modelfile', '--parameters', '--system', or '--template' can be specified"
    );
    let modelfile = server.folder.path().join("Modelfile");
    let weights = server.folder.path().join("weights.gguf");
    std::fs::write(&weights, tramontane_serve::builtin::BYTES).unwrap();
    let text = "FROM ./weights.gguf\nPARAMETER num_predict 5\nPARAMETER stop X\nSYSTEM \"\"\"Be\nkind.\"\"\"\n";
    std::fs::write(&modelfile, text).unwrap();
    let path = modelfile.display().to_string();
    ollama(&address, &["create", "mine", "-f", &path]).await.unwrap();
    assert_eq!(run(&["show", "mine", "--system"]).await.unwrap(), "Be\nkind.\n");
    assert!(run(&["show", "mine", "--parameters"]).await.unwrap().contains("num_predict"));
    assert_eq!(run(&["cp", "mine", "yours"]).await.unwrap(), "copied 'mine' to 'yours'\n");
    assert_eq!(words(&run(&["list", "you"]).await.unwrap())[1][0], "yours:latest");
    assert_eq!(run(&["rm", "mine", "yours"]).await.unwrap(), "deleted 'mine'\ndeleted 'yours'\n");
    assert_eq!(run(&["rm", "mine"]).await.unwrap_err(), "model 'mine' not found");
    assert_eq!(run(&["show", "none"]).await.unwrap_err(), "model 'none:latest' not found");
    assert_eq!(run(&["stop", "none"]).await.unwrap_err(), "couldn't find model \"none\" to stop");
    assert!(run(&["cp", "none", "x"]).await.unwrap_err().contains("not found"));
    assert!(run(&["pull", "a b"]).await.unwrap_err().contains("invalid model name"));
    assert_eq!(
        run(&["pull", "http://127.0.0.1:1/a/b"]).await.unwrap_err(),
        "insecure protocol http"
    );
    assert!(run(&["push", "me/none"]).await.unwrap_err().contains("not found"));
    assert_eq!(
        run(&["cp", "storyteller", "mine"]).await.unwrap(),
        "copied 'storyteller' to 'mine'\n"
    );
    assert_eq!(run(&["cp", "mine", "yours"]).await.unwrap(), "copied 'mine' to 'yours'\n");
    let both = words(&run(&["list"]).await.unwrap()).len();
    assert_eq!(both, 4, "the built-in one stays");
    assert_eq!(
        run(&["rm", "none", "mine", "", "yours"]).await.unwrap_err(),
        "model 'none' not found\nError: model is required"
    );
    assert_eq!(words(&run(&["list"]).await.unwrap()).len(), 2, "the others are gone");
    assert!(run(&["rm", "storyteller"]).await.unwrap_err().contains("part of the program"));
    assert_eq!(run(&["run", "storyteller", ""]).await.unwrap(), "");
    assert!(run(&["ps"]).await.unwrap().contains("storyteller"));
    for empty in [&["show", ""][..], &["cp", "", "x"], &["pull", ""], &["stop", ""], &["run", ""]] {
        assert!(ollama(&address, empty).await.is_err(), "{empty:?}");
    }
    let unknown =
        run(&["run", "127.0.0.1:1/library/storytelller", "--insecure"]).await.unwrap_err();
    assert!(
        unknown.starts_with(
            "model \"127.0.0.1:1/library/storytelller\" is not here and could not be pulled ("
        ),
        "{unknown}"
    );
    let missing = ollama(&address, &["create", "x", "-f", "/nowhere/Modelfile"]).await.unwrap_err();
    assert!(missing.contains("no Modelfile at /nowhere/Modelfile"), "{missing}");
    std::fs::write(&modelfile, "FROM storyteller\nADAPTER ./a.gguf\n").unwrap();
    let refused = ollama(&address, &["create", "x", "-f", &path]).await.unwrap_err();
    assert!(refused.contains("adapters are not supported yet"), "{refused}");
    for (from, wanted) in [
        ("./missing.gguf", "there is no file"),
        ("missing.gguf", "there is no file"),
        ("/nowhere/x", "there is no file"),
        (".", "is a folder"),
    ] {
        std::fs::write(&modelfile, format!("FROM {from}\n")).unwrap();
        let refused = ollama(&address, &["create", "x", "-f", &path]).await.unwrap_err();
        assert!(refused.contains(wanted) && refused.contains(from), "{refused}");
    }
    std::fs::write(&modelfile, "SYSTEM x\n").unwrap();
    let refused = ollama(&address, &["create", "x", "-f", &path]).await.unwrap_err();
    assert_eq!(refused, "no FROM line");
}

#[test]
fn lines_are_as_wide_as_the_terminal() {
    for (set, terminal, wanted) in [
        (None, None, 80),
        (None, Some(132), 132),
        (None, Some(0), 80),
        (Some("100"), Some(132), 100),
        (Some("0"), Some(132), 80),
        (Some("wide"), Some(132), 132),
    ] {
        assert_eq!(width(set, terminal), wanted, "{set:?} {terminal:?}");
    }
}

#[tokio::test]
async fn without_a_server_it_says_what_to_do() {
    // The socket has a port and does not listen; nobody else can get the port.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let free = socket.local_addr().unwrap();
    assert_eq!(
        ollama(&free.to_string(), &["list"]).await.unwrap_err(),
        format!(
            "could not connect to ollama server at http://{free}, run 'ollama serve' to start it, \
             or say with OLLAMA_HOST where it is"
        )
    );
}

/// A server that answers nonsense.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_is_told_in_a_sentence() {
    use axum::routing::{get, post};
    let router = axum::Router::new()
        .route("/", get(|| async { "" }))
        .route("/api/tags", get(|| async { "<html>" }))
        .route("/api/ps", get(|| async { (axum::http::StatusCode::BAD_GATEWAY, "proxy says no") }))
        .route(
            "/api/pull",
            post(|| async {
                "{\"status\":\"a\"}\n{\"error\":\"it broke\"}\n{\"status\":\"success\"}\n"
            }),
        )
        .route("/api/push", post(|| async { "{\"status\":\"a\"}\nnot json\n" }))
        .route(
            "/api/copy",
            post(|| async { (axum::http::StatusCode::NOT_FOUND, "{\"error\":\"none\"}") }),
        );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await });
    for (words, wanted) in [
        (&["list"][..], "the server's answer: "),
        (&["ps"], "502 Bad Gateway: proxy says no"),
        (&["pull", "x"], "it broke"),
        (&["push", "x"], "the server's answer: "),
        (&["cp", "a", "b"], "none"),
        (&["show", "a"], "404 Not Found"),
    ] {
        let error = ollama(&address, words).await.unwrap_err();
        assert!(error.starts_with(wanted), "{words:?}: {error}");
    }
}

#[test]
fn arguments_are_ollamas() {
    for words in [
        "serve",
        "start",
        "serve --host 0.0.0.0 --read-only --api-keys a,b",
        "ls",
        "list x",
        "ps",
        "run m",
        "run m hello world --verbose --nowordwrap --keepalive -1 --format json",
        "run m --think",
        "run m --think=high --hidethinking",
        "run m x --truncate --dimensions 3",
        "pull m --insecure",
        "push m --insecure",
        "create m -f F -q q4_0",
        "create m",
        "show m -v",
        "cp a b",
        "rm a b",
        "stop a",
        "verify",
        "-v",
        "--version",
        "serve --keep-alive -1 --no-prune --debug 2",
    ] {
        let all = ["ollama"].into_iter().chain(words.split(' '));
        assert!(Args::try_parse_from(all).is_ok(), "{words}");
    }
    for words in ["run", "rm", "cp a", "fly", "show", "list a b"] {
        let all = ["ollama"].into_iter().chain(words.split(' '));
        assert!(Args::try_parse_from(all).is_err(), "{words}");
    }
    let help = Args::try_parse_from(["ollama", "serve", "--help"]).err().unwrap().to_string();
    for variable in [
        "OLLAMA_HOST",
        "OLLAMA_MODELS",
        "OLLAMA_KEEP_ALIVE",
        "OLLAMA_NUM_PARALLEL",
        "OLLAMA_MAX_LOADED_MODELS",
        "OLLAMA_MAX_QUEUE",
        "OLLAMA_CONTEXT_LENGTH",
        "OLLAMA_ORIGINS",
        "OLLAMA_FLASH_ATTENTION",
        "OLLAMA_KV_CACHE_TYPE",
        "OLLAMA_LOAD_TIMEOUT",
        "OLLAMA_NOPRUNE",
        "OLLAMA_DEBUG",
        "OLLAMA_NUM_THREADS",
    ] {
        assert!(help.contains(variable), "{variable}");
    }
}

#[test]
fn addresses_are_ollamas() {
    for (host, url) in [
        (None, "http://127.0.0.1:11434"),
        (Some("0.0.0.0"), "http://127.0.0.1:11434"),
        (Some("1.2.3.4:5"), "http://1.2.3.4:5"),
        (Some(":99"), "http://127.0.0.1:99"),
        (Some("http://a"), "http://a:80"),
        (Some("https://a/b/"), "https://a:443/b"),
        (Some("[::]:1"), "http://[::1]:1"),
        (Some("::1"), "http://[::1]:11434"),
        (Some("ollama.com"), "https://ollama.com:443"),
        (Some("a:port"), "http://a:11434"),
    ] {
        assert_eq!(base(host).unwrap(), url, "{host:?}");
    }
    assert!(base(Some("unix:/x")).is_err());
    assert!(base(Some("http://a b")).is_err());
}

#[test]
fn figures_are_for_people() {
    for (bytes, text) in [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1.0 KB"),
        (4_100_000_000, "4.1 GB"),
        (4_199_999_999, "4.1 GB"),
        (17_000_000, "17 MB"),
        (2_000_000_000_000, "2.0 TB"),
    ] {
        assert_eq!(human::bytes(bytes), text);
    }
    let now: jiff::Timestamp = "2026-01-15T12:00:00Z".parse().unwrap();
    for (time, text) in [
        ("2026-01-15T12:00:00Z", "Less than a second ago"),
        ("2026-01-15T11:59:30Z", "30 seconds ago"),
        ("2026-01-15T11:57:00+00:00", "3 minutes ago"),
        ("2026-01-15T11:00:00Z", "About an hour ago"),
        ("2026-01-14T00:00:00Z", "36 hours ago"),
        ("2026-01-01T12:00:00Z", "2 weeks ago"),
        ("2025-10-15T12:00:00Z", "3 months ago"),
        ("2020-01-15T12:00:00Z", "6 years ago"),
        ("2026-01-15T12:05:00.5Z", "5 minutes from now"),
        ("2318-01-01T00:00:00Z", "Forever"),
        ("never", "Never"),
    ] {
        assert_eq!(human::moment(time, now), text, "{time}");
    }
    for (nanos, text) in [
        (0, "0s"),
        (12, "12ns"),
        (1_500, "1.5µs"),
        (350_100_000, "350.1ms"),
        (1_000_000_000, "1s"),
        (62_500_000_000, "1m2.5s"),
        (3_723_000_000_000, "1h2m3s"),
    ] {
        assert_eq!(human::duration(nanos), text);
    }
    let done = json!({"total_duration": 2_000_000_000u64, "load_duration": 1_000_000,
        "prompt_eval_count": 10, "prompt_eval_duration": 500_000_000, "eval_count": 30,
        "eval_duration": 1_500_000_000u64});
    assert_eq!(
        figures(&done),
        "total duration:       2s\nload duration:        1ms\n\
        prompt eval count:    10 token(s)\nprompt eval duration: 500ms\n\
        prompt eval rate:     20.00 tokens/s\neval count:           30 token(s)\n\
        eval duration:        1.5s\neval rate:            20.00 tokens/s\n"
    );
    let mut out = Vec::new();
    let rows = [vec!["é".to_owned(), "long one".to_owned()], vec!["bcd".into(), "x".into()]];
    table::print(&mut out, &["A", "B"], &rows).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "A      B           \né      long one    \nbcd    x           \n"
    );
}

#[test]
fn lines_of_a_conversation_are_read() {
    let text = |text: &str| Some(Line::Text(text.into()));
    let command = |name: &str, words: &[&str]| {
        Some(Line::Command(name.into(), words.iter().map(|w| (*w).to_owned()).collect()))
    };
    for (line, wanted) in [
        ("hello", text("hello")),
        ("  hello  ", text("hello")),
        ("", Some(Line::Empty)),
        ("/bye", command("bye", &[])),
        ("/?", command("?", &[])),
        ("/set parameter stop a b", command("set", &["parameter", "stop", "a", "b"])),
        ("/etc/passwd is a file", text("/etc/passwd is a file")),
        ("\"\"\"one line\"\"\"", text("one line")),
    ] {
        assert_eq!(Reader::default().push(line), wanted, "{line}");
    }
    let mut reader = Reader::default();
    assert_eq!(reader.push("\"\"\"a"), None);
    assert!(reader.is_open());
    assert_eq!(reader.push("/bye"), None);
    assert_eq!(reader.push("b\"\"\""), text("a\n/bye\nb"));
    assert!(!reader.is_open());
}

#[test]
fn texts_of_several_lines_end_with_a_line() {
    let text = |text: &str| Some(Line::Text(text.into()));
    let system = |text: &str| Some(Line::System(text.into()));
    let read = |lines: &[&str]| {
        let mut reader = Reader::default();
        let mut all: Vec<_> = lines.iter().map(|line| reader.push(line)).collect();
        let last = all.pop().unwrap();
        assert!(all.iter().all(Option::is_none) && !reader.is_open(), "{lines:?}: {all:?}");
        last
    };
    for (lines, wanted) in [
        (&["\"\"\"line one", "line two\"\"\""][..], text("line one\nline two")),
        (&["\"\"\"", "a", "\"\"\""], text("a\n")),
        // Quotes inside a line are text.
        (
            &["\"\"\"", "x = \"\"\"Doc\"\"\" # rest", "y\"\"\""],
            text("x = \"\"\"Doc\"\"\" # rest\ny"),
        ),
        (&["\"\"\"a\"\"\" b", "c\"\"\" "], text("a\"\"\" b\nc")),
        (&["/set system \"\"\"", "be short", "\"\"\""], system("be short\n")),
        (&["/set system \"\"\"be", "short\"\"\""], system("be\nshort")),
        (&["/set  system  \"\"\"be short\"\"\""], system("be short")),
        (&["/set system be  very short"], system("be  very short")),
        (&["/set system \"Be kind.\""], system("Be kind.")),
        // Pasted.
        (&["\"\"\"a\nb\"\"\""], text("a\nb")),
        (&["\"\"\"\r\na\r\n\"\"\"\r\nmore"], text("a\n\nmore")),
        (&["two\nlines"], text("two\nlines")),
    ] {
        assert_eq!(read(lines), wanted, "{lines:?}");
    }
    let words = vec!["system".to_owned()];
    assert_eq!(Reader::default().push("/set system"), Some(Line::Command("set".into(), words)));
}

#[test]
fn what_run_does_depends_on_words_pipe_and_terminal() {
    let answer = |text: &str| Task::Answer(text.to_owned());
    for (words, piped, terminal, wanted) in [
        (&[][..], None, true, Task::Talk),
        (&[], None, false, Task::Load),
        (&[], Some(&b""[..]), true, Task::Load),
        (&[], Some(b" \n"), false, Task::Load),
        (&[""], None, true, Task::Load),
        (&["", ""], Some(b""), true, Task::Load),
        (&["a", "b"], None, true, answer("a b")),
        (&["Read:"], Some(b"caf\xe9"), false, answer("caf\u{fffd} Read:")),
        (&[], Some(b"\xff\xfeh\0i\0"), false, answer("hi")),
        (&[], Some(b"\xef\xbb\xbfhi"), false, answer("hi")),
        (&[], Some(b"\xe2\x82"), false, answer("\u{fffd}")),
    ] {
        let words: Vec<std::ffi::OsString> = words.iter().map(Into::into).collect();
        assert_eq!(task(&words, piped, terminal), wanted, "{words:?} {piped:?} {terminal}");
    }
    use std::os::unix::ffi::OsStringExt;
    let odd = std::ffi::OsString::from_vec(b"caf\xe9".to_vec());
    assert_eq!(task(&[odd], None, true), answer("caf\u{fffd}"));
}

#[test]
fn lines_are_recalled_the_next_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/history");
    let history = History::at(path.clone());
    assert!(history.lines().is_empty());
    for line in ["one", "two", "  ", "two"] {
        history.add(line);
    }
    assert_eq!(History::at(path.clone()).lines(), ["one", "two", "two"]);
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    // Whatever is in it.
    std::fs::write(&path, b"#V2\ncaf\xe9\n").unwrap();
    history.add("last");
    assert_eq!(history.lines(), ["caf\u{fffd}", "last"]);
    std::fs::write(&path, "x\n".repeat(2000)).unwrap();
    assert_eq!(history.lines().len(), 100);
    assert_eq!(std::fs::read_to_string(&path).unwrap().len(), 200);
}

#[test]
fn names_that_were_perhaps_meant() {
    let names = ["mistral:7b", "llama3.2:1b", "storyteller:latest"];
    assert_eq!(nearest("storytelller", names), ["storyteller:latest"]);
    assert_eq!(nearest("Mistral", names), ["mistral:7b"]);
    assert!(nearest("qwen", names).is_empty());
}

#[test]
fn parameters_are_shown_as_ollamas() {
    let own = json!({"temperature": 0.5, "stop": ["a b"]});
    assert_eq!(
        parameters(
            &json!({"parameters": "num_ctx                        100"}),
            own.as_object().unwrap()
        ),
        "Model defined parameters:\n  num_ctx                        100\n\nUser defined parameters:\n  \
        stop                           \"a b\"\n  temperature                    0.5\n\n"
    );
    assert_eq!(
        parameters(&json!({}), &serde_json::Map::new()),
        "Model defined parameters:\n  No additional parameters were specified for this model.\n\n"
    );
}

#[test]
fn settings_change_as_they_are_told() {
    let mut settings = Settings::default();
    let set = |settings: &mut Settings, line: &str| {
        change(settings, &line.split(' ').collect::<Vec<_>>()).map_err(|error| error.to_string())
    };
    set(&mut settings, "parameter temperature 0.5").unwrap();
    set(&mut settings, "parameter num_ctx 100").unwrap();
    set(&mut settings, "parameter stop a b").unwrap();
    assert_eq!(
        json!(settings.options),
        json!({"temperature": 0.5, "num_ctx": 100, "stop": ["a", "b"]})
    );
    assert_eq!(
        set(&mut settings, "parameter nothing 1").unwrap_err(),
        "unknown parameter 'nothing'"
    );
    assert!(set(&mut settings, "parameter num_ctx x").is_err());
    set(&mut settings, "format json").unwrap();
    set(&mut settings, "think high").unwrap();
    assert_eq!(settings.body()["format"], "json");
    assert_eq!(settings.body()["think"], "high");
    set(&mut settings, "nothink").unwrap();
    set(&mut settings, "noformat").unwrap();
    assert_eq!((&settings.body()["think"], settings.body().get("format")), (&json!(false), None));
    set(&mut settings, "nohistory").unwrap();
    assert!(settings.no_history);
    set(&mut settings, "history").unwrap();
    assert!(!settings.no_history);
    assert!(set(&mut settings, "format xml").unwrap().contains("/set format json"));
    assert!(set(&mut settings, "banana").unwrap().starts_with("Available Commands"));
}

proptest! {
    /// However a stream is cut, the same lines come out.
    #[test]
    fn lines_do_not_depend_on_how_they_arrive(
        lines in prop::collection::vec("[a-zé\"{}:]{0,12}", 0..8),
        cuts in prop::collection::vec(0usize..80, 0..10),
    ) {
        let bytes = lines.join("\n").into_bytes();
        let mut at: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        at.extend([0, bytes.len()]);
        at.sort_unstable();
        let (mut splitter, mut found) = (Splitter::default(), Vec::new());
        for cut in at.windows(2) {
            splitter.push(&bytes[cut[0]..cut[1]]).unwrap();
            found.extend(std::iter::from_fn(|| splitter.line()));
        }
        found.extend(splitter.rest());
        let wanted: Vec<Vec<u8>> = lines.into_iter().filter(|l| !l.is_empty()).map(String::into_bytes).collect();
        prop_assert_eq!(found, wanted);
    }

    /// Wrapping changes white space only, and no line is wider than it may be unless a
    /// word is.
    #[test]
    fn wrapping_keeps_every_letter(text in "[a-zé\n ]{0,200}", width in 1usize..30, cut in 1usize..9) {
        let mut wrap = Wrap::new(width);
        let letters: Vec<char> = text.chars().collect();
        let mut out = String::new();
        for piece in letters.chunks(cut) {
            out += &wrap.push(&piece.iter().collect::<String>());
        }
        out += &wrap.finish();
        let bare = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
        prop_assert_eq!(bare(&out), bare(&text));
        for line in out.lines() {
            let longest = line.split(' ').map(|word| word.chars().count()).max().unwrap_or(0);
            prop_assert!(line.trim_end().chars().count() <= width.max(longest), "{:?}", out);
        }
        let mut plain = Wrap::new(0);
        prop_assert_eq!(plain.push(&text), text);
    }
}
