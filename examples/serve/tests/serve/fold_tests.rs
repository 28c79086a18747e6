//! Conversations of every shape, by Go templates: a prompt with every word, or one sentence
//! that says why not.

use serde_json::Value as Json;
use tramontane::template::{Chat, Fold, Folded, Message, Shape};
use tramontane::{Error, Result};

use tramontane_serve::prompt::PromptTemplate;

use crate::prompt_tests::plain;

/// Templates beside Ollama's own: what people write into Modelfiles.
const MORE: [(&str, &str); 6] = [
    ("prompt", "{{ .Prompt }}"),
    ("no system", "[INST] {{ .Prompt }} [/INST] {{ .Response }}</s>"),
    (
        "turns",
        "{{ if .System }}<|system|>{{ .System }}{{ end }}{{ if .Prompt }}<|user|>{{ .Prompt }}\
               {{ end }}<|assistant|>{{ .Response }}<|end|>",
    ),
    (
        "user only",
        "{{ range .Messages }}{{ if eq .Role \"user\" }}<u>{{ .Content }}</u>{{ end }}\
                   {{ if eq .Role \"assistant\" }}<a>{{ .Content }}</a>{{ end }}{{ end }}<a>",
    ),
    (
        "last open",
        "{{ range $i, $_ := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 }}\
                   <{{ .Role }}>{{ .Content }}{{ if not $last }}</>{{ end }}{{ end }}<assistant>",
    ),
    (
        "last user",
        "{{ range $i, $_ := .Messages }}{{ if eq (len (slice $.Messages $i)) 1 }}\
                   {{ .Content }}{{ end }}{{ end }}",
    ),
];

fn templates() -> Vec<(String, PromptTemplate)> {
    let own: Json = serde_json::from_str(include_str!("../data/templates/ollama.json")).unwrap();
    let own = own.as_object().unwrap().iter();
    let own = own.map(|(name, one)| (name.clone(), one["source"].as_str().unwrap().to_owned()));
    let more = MORE.iter().map(|(name, source)| ((*name).to_owned(), (*source).to_owned()));
    own.chain(more).map(|(name, source)| (name, PromptTemplate::parse(&source).unwrap())).collect()
}

fn engine(template: &PromptTemplate) -> impl Fn(&Chat) -> Result<String> {
    move |chat| {
        let text = template.render_chat(chat, &plain);
        text.map_err(|error| Error::Template(error.to_string()))
    }
}

fn fold(template: &PromptTemplate, turns: &[(&str, &str)]) -> Result<Folded> {
    let chat: Vec<_> = turns.iter().map(|(role, content)| Message::new(*role, *content)).collect();
    let engine = engine(template);
    Shape::probe(&engine).render(&Chat::new(chat), &engine)
}

const HISTORIES: [&[(&str, &str)]; 16] = [
    &[("user", "hello1 there2")],
    &[("user", "hi1"), ("assistant", "yes2"), ("user", "go3")],
    &[("system", "be1 brief2"), ("user", "hi3")],
    &[("system", "be1"), ("user", "hi2"), ("assistant", "yes3"), ("user", "go4")],
    &[("system", "be1"), ("system", "brief2"), ("user", "hi3")],
    &[("user", "hi1"), ("assistant", "yes2"), ("system", "be3"), ("user", "go4")],
    &[("system", "be1"), ("user", "hi2"), ("system", "brief3")],
    &[("system", "be1")],
    &[
        ("user", "hi1"),
        ("user", "there2"),
        ("assistant", "yes3"),
        ("assistant", "no4"),
        ("user", "go5"),
    ],
    &[("assistant", "welcome1"), ("user", "hi2")],
    &[("system", "be1"), ("assistant", "welcome2"), ("user", "hi3")],
    &[("user", "hi1"), ("assistant", "sure2 here3")],
    &[("system", "be1"), ("user", "hi2"), ("assistant", "sure3")],
    &[("developer", "be1"), ("user", "hi2")],
    &[("user", "how1"), ("assistant", "wait2"), ("tool", "sunny3")],
    &[("user", "hi1"), ("assistant", ""), ("user", "go2"), ("assistant", "")],
];

#[test]
fn every_word_is_in_the_prompt_or_the_refusal_is_one_sentence() {
    let mut refused = Vec::new();
    for (name, template) in templates() {
        for turns in HISTORIES {
            let case = format!("{name}, {turns:?}");
            let folded = match fold(&template, turns) {
                Ok(folded) => folded,
                Err(Error::Template(text)) => {
                    assert!(!text.is_empty() && !text.contains('\n'), "{case}: {text}");
                    refused.push(format!("{case}: {text}"));
                    continue;
                }
                Err(other) => panic!("{case}: {other}"),
            };
            let text = folded.prompt.to_string();
            for word in turns.iter().flat_map(|(_, content)| content.split_whitespace()) {
                assert!(text.contains(word), "{case}: {word} is lost in {text:?}");
            }
            let (role, content) = turns[turns.len() - 1];
            assert_eq!(folded.continues, role == "assistant" && !content.is_empty(), "{case}");
            assert!(!folded.continues || text.ends_with(content), "{case}: {text:?}");
        }
    }
    // The one that shows the last message only.
    assert!(refused.iter().all(|case| case.starts_with("last user")), "{refused:#?}");
}

#[test]
fn what_a_template_takes_stays_as_it_is() {
    for (name, template) in templates() {
        for turns in &HISTORIES[..2] {
            let chat = turns.iter().map(|(role, content)| Message::new(*role, *content));
            let plain = engine(&template)(&Chat::new(chat.collect::<Vec<_>>())).unwrap();
            if name != "last user" || turns.len() == 1 {
                let folded = fold(&template, turns).unwrap();
                assert_eq!((folded.prompt.to_string(), folded.folds), (plain, vec![]), "{name}");
            }
        }
    }
    let folded = fold(&templates()[6].1, HISTORIES[2]).unwrap();
    assert_eq!(folded.prompt.to_string(), "[INST] be1 brief2\n\nhi3 [/INST] ");
    assert_eq!(folded.folds, [Fold::System]);
}
