//! Answers as NDJSON lines, or as one object.

use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use serde_json::{Map, Value, json};

use crate::answer::{Answer, Call, Coming, Done, Logprob, News, Step};
use crate::app::Shared;
use crate::metrics::nanos;
use crate::wire::{self, Result};

/// How a route writes text into its lines.
#[derive(Clone, Copy)]
pub enum Form {
    /// `response`, and `context` at the end.
    Generate {
        /// Whether the end has `context`.
        context: bool,
    },
    /// `message`, with `content`, `thinking` and `tool_calls`
    Chat,
}

/// Sends an answer, in lines or as a whole.
///
/// # Errors
/// Those of the answer, if nothing was sent yet.
pub async fn send(
    app: &Shared,
    model: String,
    answer: impl Future<Output = Result<Answer>> + Send + 'static,
    form: Form,
    stream: bool,
) -> Result<Response> {
    if stream {
        Ok(streamed(Coming::of(app, answer).await?, model, form))
    } else {
        whole(answer.await?, form).await
    }
}

fn streamed(coming: Coming, model: String, form: Form) -> Response {
    let lines = wire::unfold((coming, model), move |(mut coming, model)| async move {
        let line = match coming.next().await? {
            News::Begun(_) => None,
            News::Step(step) => Some(line(&model, step, form)),
            // Clients know no comments, but lines without text.
            News::Quiet(_) => Some(line(&model, Step::Text(String::new(), Vec::new()), form)),
        };
        Some((line, (coming, model)))
    });
    wire::ndjson(lines.filter_map(std::future::ready))
}

fn line(model: &str, step: Step, form: Form) -> Value {
    match step {
        Step::Text(text, logprobs) => {
            let mut line = head(model, form, text, false);
            add_logprobs(&mut line, &logprobs);
            Value::Object(line)
        }
        Step::Thinking(text, logprobs) => {
            let mut line = head(model, form, String::new(), false);
            add(&mut line, form, "thinking", text.into());
            add_logprobs(&mut line, &logprobs);
            Value::Object(line)
        }
        Step::Call(call) => {
            let mut line = head(model, form, String::new(), false);
            add(&mut line, form, "tool_calls", json!([call_json(&call)]));
            Value::Object(line)
        }
        Step::Markup(logprobs) => {
            let mut line = head(model, form, String::new(), false);
            add_logprobs(&mut line, &logprobs);
            Value::Object(line)
        }
        Step::Done(done) => {
            let mut line = head(model, form, String::new(), true);
            add_figures(&mut line, *done, form);
            Value::Object(line)
        }
        Step::Failed(error) => error.json(),
    }
}

async fn whole(answer: Answer, form: Form) -> Result<Response> {
    let model = answer.model.clone();
    let whole = answer.whole().await?;
    let mut object = head(&model, form, whole.text(), true);
    let thinking = whole.thinking();
    if !thinking.is_empty() {
        add(&mut object, form, "thinking", thinking.into());
    }
    let calls: Vec<Value> = whole.calls().map(call_json).collect();
    if !calls.is_empty() {
        add(&mut object, form, "tool_calls", calls.into());
    }
    add_figures(&mut object, whole.done, form);
    add_logprobs(&mut object, &whole.all_logprobs);
    Ok(wire::json(&object))
}

/// A call in Ollama's form: its arguments are an object.
fn call_json(call: &Call) -> Value {
    let Call { index, id, name, arguments } = call;
    json!({"id": id, "function": {"index": index, "name": name, "arguments": arguments}})
}

/// Puts a field beside the text: into the message, or into the line of a completion.
fn add(line: &mut Map<String, Value>, form: Form, name: &str, value: Value) {
    match (form, line.get_mut("message")) {
        (Form::Chat, Some(message)) => message[name] = value,
        _ => drop(line.insert(name.into(), value)),
    }
}

/// A line without a text to tell, such as of a model that was loaded.
pub fn without_text(model: &str, form: Form, reason: &str) -> Response {
    let mut line = head(model, form, String::new(), true);
    line.insert("done_reason".into(), reason.into());
    wire::json(&line).into_response()
}

fn head(model: &str, form: Form, text: String, done: bool) -> Map<String, Value> {
    let mut line = Map::new();
    line.insert("model".into(), model.into());
    line.insert("created_at".into(), now().into());
    match form {
        Form::Generate { .. } => line.insert("response".into(), text.into()),
        Form::Chat => line.insert("message".into(), json!({"role": "assistant", "content": text})),
    };
    line.insert("done".into(), done.into());
    line
}

fn add_logprobs(line: &mut Map<String, Value>, logprobs: &[Logprob]) {
    if !logprobs.is_empty() {
        line.insert("logprobs".into(), json!(logprobs));
    }
}

fn add_figures(line: &mut Map<String, Value>, done: Done, form: Form) {
    line.insert("done_reason".into(), done.reason.as_str().into());
    let (dropped, folds) = ((done.dropped_tokens, done.dropped_messages), done.folds);
    if let Form::Generate { context: true } = form {
        line.insert("context".into(), done.context.into());
    }
    let figures = [
        ("total_duration", nanos(done.total)),
        ("load_duration", nanos(done.load)),
        ("prompt_eval_count", done.prompt_tokens as u64),
        ("prompt_eval_duration", nanos(done.prompt)),
        ("eval_count", done.generated_tokens as u64),
        ("eval_duration", nanos(done.generation)),
    ];
    for (name, figure) in figures.into_iter().filter(|(_, figure)| *figure > 0) {
        line.insert(name.into(), figure.into());
    }
    if done.dead_end {
        // Not Ollama's either: no token was left that the format or the tools allow.
        line.insert("incomplete".into(), "constraint".into());
    }
    if !done.loose_functions.is_empty() {
        line.insert("unconstrained_tools".into(), json!(done.loose_functions));
    }
    // Not Ollama's: what its users miss when a conversation was cut or folded.
    if dropped != (0, 0) {
        line.insert("truncated".into(), true.into());
        line.insert("dropped_tokens".into(), dropped.0.into());
        line.insert("dropped_messages".into(), dropped.1.into());
    }
    if !folds.is_empty() {
        line.insert("folded".into(), json!(folds));
    }
}

/// RFC 3339 in UTC with nanoseconds.
pub fn now() -> String {
    let now = jiff::Timestamp::now();
    format!("{now:.9}")
}
