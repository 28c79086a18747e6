//! The grammar of answers in messages with a header.

use super::grammar::{Grammar, literal};

/// Harmony: thoughts in the channel `analysis`, then the answer in `final`, or a call.
pub(super) fn start(grammar: &mut Grammar<'_>, must: bool) -> String {
    let [start, channel, message, constrain, call] =
        ["<|start|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|call|>"]
            .map(|mark| grammar.mark(mark));
    let thoughts = grammar.until("thoughts", "<|end|>");
    let kind = format!("(\" \"? {constrain} \"json\" | \" json\")?");
    let next = format!("{start} \"assistant\" message");
    grammar.rule("next", &next);
    let mut message_rule = vec![
        format!("{channel} \"analysis\" {message} {thoughts} next"),
        format!("{channel} \"commentary\" {message} {thoughts} next"),
    ];
    if !grammar.tools.is_empty() {
        let calls = grammar.each(|index, name| {
            let to = literal(&format!(" to=functions.{name}"));
            let inside = literal(&format!("commentary to=functions.{name}"));
            let thinking = literal(&format!("analysis to=functions.{name}"));
            format!(
                "{to} {channel} \"commentary\" {kind} {message} arguments_{index} | \
                 {channel} ({inside} | {thinking}) {kind} {message} arguments_{index}"
            )
        });
        message_rule.push(format!("{calls} ({call})?"));
    }
    if !must {
        let content = if grammar.shape.content.is_some() { "content" } else { "text" };
        message_rule.push(format!("{channel} \"final\" {kind} {message} {content}"));
    }
    let message_rule = message_rule.join(" | ");
    grammar.rule("message", &message_rule);
    let end = grammar.shape.prompt_end.trim_end();
    if end.ends_with("analysis<|message|>") {
        format!("{thoughts} next")
    } else if end.ends_with("<|start|>assistant") {
        "message".into()
    } else {
        format!("message | {start} \"assistant\" message")
    }
}

/// Recipients behind `>>>`: `all` for text, or a function.
pub(super) fn recipients(grammar: &mut Grammar<'_>, must: bool) -> String {
    let call = grammar
        .each(|index, name| format!("{} SPACE arguments_{index}", literal(&format!("{name}\n"))));
    let calls = match grammar.shape.parallel {
        true => format!("{call} (\">>>\" {call})*"),
        false => call,
    };
    let none = grammar.tools.is_empty();
    if !none {
        grammar.rule("calls", &calls);
    }
    let mut message = Vec::new();
    if !none {
        message.push("calls".to_owned());
    }
    if !must {
        match (grammar.shape.content.is_some(), none) {
            (true, _) => message.push("\"all\\n\" content".into()),
            (false, true) => message.push("\"all\\n\" text".into()),
            (false, false) => {
                let head = grammar.until("head", ">>>");
                message.push(format!("\"all\\n\" text | \"all\\n\" {head} calls"));
            }
        }
    }
    let message = message.join(" | ");
    grammar.rule("message", &message);
    match grammar.shape.prompt_end.trim_end().ends_with(">>>") {
        true => "message".into(),
        false => "\">>>\" message".into(),
    }
}
