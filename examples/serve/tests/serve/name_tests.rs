//! Which names are names, and how they are shown.

use proptest::prelude::*;

use tramontane_serve::name::ModelName;

#[test]
fn names_are_complete_and_shown_short() {
    for (text, short, full) in [
        ("mistral", "mistral:latest", "registry.ollama.ai/library/mistral:latest"),
        ("mistral:7b", "mistral:7b", "registry.ollama.ai/library/mistral:7b"),
        ("me/mistral", "me/mistral:latest", "registry.ollama.ai/me/mistral:latest"),
        ("hf.co/a/B-GGUF:Q4_K_M", "hf.co/a/B-GGUF:Q4_K_M", "hf.co/a/B-GGUF:Q4_K_M"),
        ("localhost:5000/a/b:c", "localhost:5000/a/b:c", "localhost:5000/a/b:c"),
        ("registry.ollama.ai/library/x:y", "x:y", "registry.ollama.ai/library/x:y"),
        ("https://registry.ollama.ai/me/x", "me/x:latest", "registry.ollama.ai/me/x:latest"),
        ("_x/_y:_z", "_x/_y:_z", "registry.ollama.ai/_x/_y:_z"),
        (
            "llama3.2:1b-instruct-q4_0",
            "llama3.2:1b-instruct-q4_0",
            "registry.ollama.ai/library/llama3.2:1b-instruct-q4_0",
        ),
    ] {
        let name = ModelName::parse(text).unwrap();
        assert_eq!((name.short().as_str(), name.full().as_str()), (short, full), "{text}");
        assert_eq!(ModelName::parse(&name.short()).unwrap().full(), full);
    }
    assert_eq!(ModelName::parse("http://a:1/b/c").unwrap().scheme(), Some("http"));
}

#[test]
fn what_is_no_name_is_refused() {
    let long = "a".repeat(81);
    for text in [
        "",
        " ",
        ":",
        "/",
        "a:",
        ":a",
        "/a",
        "a/",
        "a//b",
        "a/b/c/d",
        "a/b/c/d/e",
        ".",
        "..",
        "../a",
        "a/..",
        "a/../b",
        "a:..",
        ".a",
        "-a",
        "a b",
        "a\0",
        "a\nb",
        "a@b",
        "a@sha256:0",
        "a:b:",
        "a:b/c:d:e f",
        "é",
        "a/é",
        "ftp://a",
        "http://",
        "a\\b",
        "b.c/d",
        &long,
        &format!("{long}/a"),
        &format!("a:{long}"),
    ] {
        // A namespace with a dot is none; as a host it needs a namespace behind it.
        assert!(ModelName::parse(text).is_err(), "{text:?}");
    }
    assert!(ModelName::parse(&"a".repeat(80)).is_ok());
}

proptest! {
    #[test]
    fn any_text_is_refused_or_stays_in_its_folder(text in "\\PC{0,40}|[a-z./:_@-]{0,24}") {
        if let Ok(name) = ModelName::parse(&text) {
            for part in name.parts() {
                prop_assert!(!part.is_empty() && part != "." && part != "..");
                prop_assert!(!part.contains(['/', '\\', '\0']));
                prop_assert!(!part.starts_with(['.', '-']));
            }
            let again = ModelName::parse(&name.full()).unwrap();
            prop_assert_eq!(again.full(), name.full());
        }
    }
}
