//! Requests and replies as data: the examples of Ollama's documentation, its error
//! table, and what this server adds. `tests/data/golden/*.json`.

use std::fs;
use std::path::Path;

use axum::body::Body;
use axum::http::Request;
use serde_json::{Map, Value, json};

use crate::support::{Reply, Server, server_with};

/// Every case of every file, in order; the cases of one file share a server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_gets_its_reply() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden");
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let (mut count, mut failures) = (0, Vec::new());
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let set: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{file:?}: {e}"));
        let server = server_with(|args| settings(args, &set["settings"])).await;
        let mut seen = Map::new();
        for case in set["cases"].as_array().unwrap() {
            count += 1;
            if let Err(problem) = run(&server, case, &mut seen).await {
                let name = file.file_name().unwrap().to_string_lossy();
                failures.push(format!("{name}: {}: {problem}", case["name"]));
            }
        }
    }
    eprintln!("{count} cases");
    assert!(failures.is_empty(), "{} of {count} fail:\n{}", failures.len(), failures.join("\n"));
    assert!(count >= 120, "only {count} cases");
}

/// Settings that a file asks for, by the names of the flags.
fn settings(args: &mut tramontane_serve::config::ServeArgs, settings: &Value) {
    let text = |name: &str| settings[name].as_str().map(str::to_owned);
    args.api_keys = text("api_keys");
    args.read_only = text("read_only");
    args.origins = text("origins");
    args.max_body = text("max_body");
    args.max_prompt = text("max_prompt");
    args.host = text("host");
}

/// Sends the request of a case and compares the reply. `seen` holds what earlier cases
/// have named with `save`: `$name` stands for it.
async fn run(server: &Server, case: &Value, seen: &mut Map<String, Value>) -> Result<(), String> {
    let request = fill(&case["request"], seen);
    let mut builder = Request::builder()
        .method(request["method"].as_str().unwrap_or("POST"))
        .uri(request["path"].as_str().ok_or("no path")?);
    let mut has_host = false;
    for (name, value) in request["headers"].as_object().unwrap_or(&Map::new()) {
        has_host |= name.eq_ignore_ascii_case("host");
        builder = builder.header(name, value.as_str().ok_or("header")?);
    }
    if !has_host {
        builder = builder.header("host", "127.0.0.1:11434");
    }
    let body = match (&request["json"], &request["raw"], &request["base64"]) {
        (Value::Null, Value::String(raw), _) => Body::from(raw.clone()),
        (Value::Null, Value::Null, Value::String(coded)) => {
            use base64::Engine;
            let bytes = base64::engine::general_purpose::STANDARD.decode(coded);
            Body::from(bytes.map_err(|error| error.to_string())?)
        }
        (Value::Null, Value::Null, _) => Body::empty(),
        (json, _, _) => Body::from(json.to_string()),
    };
    let request = builder.body(body).map_err(|error| error.to_string())?;
    let reply = Reply::of(server.send(request).await).await;
    check(&fill(&case["reply"], seen), &reply, seen)
}

/// Replaces texts `$name` by what was saved.
fn fill(value: &Value, seen: &Map<String, Value>) -> Value {
    match value {
        Value::String(text) => match text.strip_prefix('$').and_then(|name| seen.get(name)) {
            Some(saved) => saved.clone(),
            None => seen.iter().fold(value.clone(), |value, (name, saved)| {
                let (Some(text), Some(saved)) = (value.as_str(), saved.as_str()) else {
                    return value;
                };
                json!(text.replace(&format!("${{{name}}}"), saved))
            }),
        },
        Value::Array(list) => list.iter().map(|item| fill(item, seen)).collect(),
        Value::Object(map) => {
            Value::Object(map.iter().map(|(key, item)| (key.clone(), fill(item, seen))).collect())
        }
        other => other.clone(),
    }
}

fn check(wanted: &Value, reply: &Reply, seen: &mut Map<String, Value>) -> Result<(), String> {
    let shown = String::from_utf8_lossy(&reply.body).chars().take(400).collect::<String>();
    let status = wanted["status"].as_u64().unwrap_or(200);
    if u64::from(reply.status.as_u16()) != status {
        return Err(format!("status {} instead of {status}: {shown}", reply.status));
    }
    for (name, value) in wanted["headers"].as_object().unwrap_or(&Map::new()) {
        let found = reply.headers.get(name).and_then(|value| value.to_str().ok());
        let found = found.map_or(Value::Null, Value::from);
        same(value, &found, name, seen)?;
    }
    if let Some(text) = wanted.get("text") {
        let found = Value::from(String::from_utf8_lossy(&reply.body).into_owned());
        same(text, &found, "text", seen)?;
    }
    if let Some(json) = wanted.get("json") {
        let found = serde_json::from_slice(&reply.body).map_err(|e| format!("{e}: {shown}"))?;
        same(json, &found, "", seen)?;
    }
    if let Some(lines) = wanted.get("ndjson") {
        let parsed = shown_lines(&reply.body)?;
        compare_lines(lines, &parsed, seen)?;
    }
    if let Some(events) = wanted.get("sse") {
        compare_lines(events, &events_of(&reply.body)?, seen)?;
    }
    Ok(())
}

fn shown_lines(body: &[u8]) -> Result<Vec<Value>, String> {
    let text = std::str::from_utf8(body).map_err(|error| error.to_string())?;
    let lines = text.lines().map(|line| serde_json::from_str(line).map_err(|e| e.to_string()));
    lines.collect()
}

/// The data of server-sent events; `[DONE]` is that text.
fn events_of(body: &[u8]) -> Result<Vec<Value>, String> {
    let text = std::str::from_utf8(body).map_err(|error| error.to_string())?;
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    Ok(data.map(|data| serde_json::from_str(data).unwrap_or_else(|_| data.into())).collect())
}

/// `first`, `each` of those between, `last`; or a list, one by one.
fn compare_lines(
    wanted: &Value,
    found: &[Value],
    seen: &mut Map<String, Value>,
) -> Result<(), String> {
    if let Some(list) = wanted.as_array() {
        return same(&json!(list), &json!(found), "", seen);
    }
    let (Some(first), Some(last)) = (found.first(), found.last()) else {
        return Err("no lines".into());
    };
    if let Some(pattern) = wanted.get("first") {
        same(pattern, first, "first", seen)?;
    }
    if let Some(pattern) = wanted.get("last") {
        same(pattern, last, "last", seen)?;
    }
    if let Some(pattern) = wanted.get("each") {
        for (at, line) in found[..found.len() - 1].iter().enumerate() {
            same(pattern, line, &format!("line {at}"), seen)?;
        }
    }
    if let Some(least) = wanted["least"].as_u64()
        && (found.len() as u64) < least
    {
        return Err(format!("{} lines instead of {least}", found.len()));
    }
    Ok(())
}

/// Compares with a pattern: `@string`, `@number`, `@positive`, `@bool`, `@array`,
/// `@object`, `@any`, `@time`, `@absent`, `@has TEXT`; `@save NAME` keeps it. Fields that
/// the pattern does not name may be there, unless it has `"@only": true`.
fn same(
    wanted: &Value,
    found: &Value,
    at: &str,
    seen: &mut Map<String, Value>,
) -> Result<(), String> {
    let differs = || Err(format!("{at}: {found} instead of {wanted}"));
    match (wanted, found) {
        (Value::String(pattern), _) if pattern.starts_with('@') => {
            let (word, rest) = pattern.split_once(' ').unwrap_or((pattern, ""));
            let fits = match word {
                "@string" => found.is_string(),
                "@number" => found.is_number(),
                "@positive" => found.as_f64().is_some_and(|number| number > 0.0),
                "@bool" => found.is_boolean(),
                "@array" => found.is_array(),
                "@object" => found.is_object(),
                "@any" => !found.is_null(),
                "@time" => found.as_str().is_some_and(is_time),
                "@has" => found.as_str().is_some_and(|text| text.contains(rest)),
                "@save" => {
                    seen.insert(rest.to_owned(), found.clone());
                    !found.is_null()
                }
                _ => return Err(format!("{at}: unknown pattern {pattern}")),
            };
            if fits { Ok(()) } else { differs() }
        }
        (Value::Object(wanted), Value::Object(found)) => {
            for (key, value) in wanted.iter().filter(|(key, _)| *key != "@only") {
                let at = format!("{at}.{key}");
                match found.get(key) {
                    None if value == "@absent" => {}
                    Some(_) if value == "@absent" => return Err(format!("{at}: is there")),
                    None => return Err(format!("{at}: is missing")),
                    Some(found) => same(value, found, &at, seen)?,
                }
            }
            let only = wanted.get("@only").is_some();
            match found.keys().find(|key| only && !wanted.contains_key(*key)) {
                Some(extra) => Err(format!("{at}.{extra}: is too much")),
                None => Ok(()),
            }
        }
        (Value::Array(wanted), Value::Array(list)) => {
            if wanted.len() != list.len() {
                return differs();
            }
            let pairs = wanted.iter().zip(list).enumerate();
            pairs.into_iter().try_for_each(|(i, (w, f))| same(w, f, &format!("{at}[{i}]"), seen))
        }
        (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64() => Ok(()),
        _ if wanted == found => Ok(()),
        _ => differs(),
    }
}

fn is_time(text: &str) -> bool {
    text.parse::<jiff::Timestamp>().is_ok()
}
