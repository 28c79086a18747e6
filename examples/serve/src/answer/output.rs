//! The pieces of an answer → thoughts, text and calls, with the log probabilities of their
//! tokens.

use tramontane::{OutputEvent, OutputParser};

use super::call::Calls;
use super::step::{Logprob, Step};

/// Reads the output of a model.
pub(super) struct Output {
    /// `None`: everything is text.
    reader: Option<Reader>,
}

struct Reader {
    parser: OutputParser,
    calls: Calls,
    /// Of tokens whose text the parser holds back, or has taken for a marker.
    held: Vec<Logprob>,
    /// Whether the model is thinking.
    thinks: bool,
    thinking_tokens: usize,
    /// Functions whose arguments are any object, because their schemas cannot be kept.
    loose: Vec<String>,
}

impl Output {
    /// Of a model that writes only text.
    pub fn plain() -> Self {
        Output { reader: None }
    }

    /// Of one that writes thoughts or calls.
    pub fn parsed(parser: OutputParser, calls: Calls, loose: Vec<String>) -> Self {
        let reader =
            Reader { parser, calls, held: Vec::new(), thinks: false, thinking_tokens: 0, loose };
        Output { reader: Some(reader) }
    }

    /// Takes the next token and the text that became certain with it.
    pub fn push(&mut self, text: String, logprobs: Vec<Logprob>) -> Vec<Step> {
        let Some(reader) = &mut self.reader else {
            let said = !text.is_empty() || !logprobs.is_empty();
            return said.then_some(Step::Text(text, logprobs)).into_iter().collect();
        };
        reader.held.extend(logprobs);
        let events = reader.parser.push(&text);
        let thinking = events.iter().any(|event| matches!(event, OutputEvent::Thinking(_)));
        if thinking || (events.is_empty() && reader.thinks) {
            reader.thinking_tokens += 1;
        }
        reader.steps(events)
    }

    /// Takes the end. `cut`: by a limit, not by the model.
    pub fn finish(&mut self, cut: bool) -> Vec<Step> {
        let Some(reader) = &mut self.reader else { return Vec::new() };
        let events = reader.parser.finish(cut);
        let mut steps = reader.steps(events);
        steps.extend(reader.markup());
        steps
    }

    /// Functions whose arguments are any object, because their schemas cannot be kept.
    pub fn loose_functions(&self) -> Vec<String> {
        self.reader.as_ref().map_or_else(Vec::new, |reader| reader.loose.clone())
    }

    /// Tokens of thoughts, markers not counted.
    pub fn thinking_tokens(&self) -> usize {
        self.reader.as_ref().map_or(0, |reader| reader.thinking_tokens)
    }
}

impl Reader {
    fn steps(&mut self, events: Vec<OutputEvent>) -> Vec<Step> {
        let mut steps = Vec::new();
        for event in events {
            match event {
                OutputEvent::Thinking(text) => {
                    self.thinks = true;
                    let logprobs = self.logprobs(&text, &mut steps);
                    steps.push(Step::Thinking(text, logprobs));
                }
                OutputEvent::Text(text) => {
                    self.thinks = false;
                    let logprobs = self.logprobs(&text, &mut steps);
                    steps.push(Step::Text(text, logprobs));
                }
                OutputEvent::Call(call) => {
                    self.thinks = false;
                    steps.extend(self.markup());
                    steps.push(Step::Call(self.calls.next(&call)));
                }
                _ => {}
            }
        }
        steps
    }

    /// Of the held tokens the last ones, whose text is `text`; those before them were
    /// markers.
    fn logprobs(&mut self, text: &str, steps: &mut Vec<Step>) -> Vec<Logprob> {
        let mut bytes = 0;
        let of_text = self.held.iter().rev().take_while(|logprob| {
            let begins = bytes < text.len();
            bytes += logprob.bytes.len();
            begins
        });
        let at = self.held.len() - of_text.count();
        let logprobs = self.held.split_off(at);
        steps.extend(self.markup());
        logprobs
    }

    fn markup(&mut self) -> Option<Step> {
        (!self.held.is_empty()).then(|| Step::Markup(std::mem::take(&mut self.held)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tramontane::{ChatTemplate, OutputSyntax, Tool};

    use super::super::call::Call;
    use super::*;

    const SOURCE: &str = "{%- for tool in (tools or []) %}{{ tool | tojson }}{% endfor -%}\
        {%- for m in messages -%}{{ m.role }}: \
        {%- if m.reasoning_content -%}<think>\n{{ m.reasoning_content }}\n</think>\n\n{%- endif -%}\
        {{ m.content }}{%- for call in (m.tool_calls or []) -%}<tool_call>\n\
        {\"name\": \"{{ call.function.name }}\", \"arguments\": \
        {{ call.function.arguments | tojson }}}\n</tool_call>{%- endfor -%}{{ '\n' }}\
        {%- endfor -%}{%- if add_generation_prompt -%}assistant: <think>\n{%- endif -%}";

    /// The steps of these tokens, each with a log probability of its own.
    fn steps(tokens: &[&str]) -> Vec<Step> {
        let model = crate::builtin::model(&Default::default()).unwrap();
        let template = ChatTemplate::new(SOURCE, model.tokenizer()).unwrap();
        let own = |chat: &tramontane::Chat| template.render_own(chat);
        let syntax = OutputSyntax::probe(&own, SOURCE, model.tokenizer());
        assert!(syntax.thinks() && syntax.calls());
        let tools = [Tool::function("f", "", json!({"type": "object"}))];
        let mut output =
            Output::parsed(syntax.parser(&tools, "assistant: <think>\n"), Calls::default(), vec![]);
        let mut steps = Vec::new();
        for token in tokens {
            let (bytes, top_logprobs) = (token.as_bytes().to_vec(), Vec::new());
            let token = (*token).to_owned();
            let logprob =
                Logprob { token: token.clone(), logprob: -1.0, bytes, top_logprobs, offset: 0 };
            steps.extend(output.push(token, vec![logprob]));
        }
        steps.extend(output.finish(false));
        assert!(output.thinking_tokens() >= 2);
        steps
    }

    #[test]
    fn log_probabilities_stay_with_the_texts_of_their_tokens() {
        let tokens = [
            "Hm",
            ", so",
            "</th",
            "ink>",
            "\n\n",
            "Yes",
            "! ",
            "<tool",
            "_call>",
            "{\"name\":",
            "\"f\",\"arguments\"",
            ":{\"a\":1}}",
            "</tool_call>",
        ];
        let (mut all, mut thinking, mut text, mut calls) = (
            Vec::new(),
            [String::new(), String::new()],
            [String::new(), String::new()],
            Vec::new(),
        );
        for step in steps(&tokens) {
            match step {
                Step::Thinking(said, list) => {
                    thinking[0] += &said;
                    list.iter().for_each(|one| thinking[1] += &one.token);
                    all.extend(list);
                }
                Step::Text(said, list) => {
                    text[0] += &said;
                    list.iter().for_each(|one| text[1] += &one.token);
                    all.extend(list);
                }
                Step::Markup(list) => all.extend(list),
                Step::Call(call) => calls.push(call),
                Step::Done(_) | Step::Failed(_) => panic!("an end"),
            }
        }
        assert_eq!(thinking[0], "Hm, so");
        assert_eq!(thinking[0], thinking[1]);
        assert_eq!(text[0].trim(), "Yes!");
        assert_eq!(text[1].trim(), "Yes!");
        let seen: Vec<&str> = all.iter().map(|one| one.token.as_str()).collect();
        assert_eq!(seen, tokens);
        let [Call { index: 0, name, arguments, .. }] = &calls[..] else { panic!("{calls:?}") };
        assert_eq!((name.as_str(), arguments), ("f", &json!({"a": 1})));
    }

    #[test]
    fn what_is_no_call_is_text() {
        let tokens = ["Hm", "</think>", "<tool_call>", "{\"name\": \"g", "\"}", "</tool_call>"];
        let steps = steps(&tokens);
        assert!(!steps.iter().any(|step| matches!(step, Step::Call(_))), "{steps:?}");
        let text = steps.iter().filter_map(|step| match step {
            Step::Text(text, _) => Some(text.as_str()),
            _ => None,
        });
        assert!(text.collect::<String>().contains("\"g\""), "{steps:?}");
    }
}
