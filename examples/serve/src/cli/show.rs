//! `show`

use std::io::Write;

use reqwest::Method;
use serde_json::{Value, json};

use super::args::ShowArgs;
use super::client::Client;
use super::screen::{Result, Screen};

/// Shows a model, or one thing about it.
pub async fn show(client: &Client, screen: &mut Screen<'_>, args: &ShowArgs) -> Result {
    let parts = [
        (args.license, "license"),
        (args.modelfile, "modelfile"),
        (args.parameters, "parameters"),
        (args.system, "system"),
        (args.template, "template"),
    ];
    let wanted: Vec<&str> = parts.iter().filter(|(on, _)| *on).map(|(_, part)| *part).collect();
    if wanted.len() > 1 {
        return Err("only one of '--license', '--modelfile', '--parameters', '--system', or \
            '--template' can be specified"
            .into());
    }
    let body = json!({"model": args.model, "verbose": args.verbose});
    let about = client.call(Method::POST, "/api/show", &body).await?;
    match wanted.first() {
        Some(part) => writeln!(screen.out, "{}", about[*part].as_str().unwrap_or_default())?,
        None => overview(screen.out, &about, args.verbose)?,
    }
    Ok(())
}

/// Ollama's overview: sections of two columns.
pub fn overview(out: &mut dyn Write, about: &Value, verbose: bool) -> Result {
    let (details, info) = (&about["details"], &about["model_info"]);
    let family = info["general.architecture"].as_str().unwrap_or_default();
    let of = |key: &str| &info[format!("{family}.{key}")];
    let mut model = vec![("architecture", plain(&info["general.architecture"]))];
    model.push(("parameters", plain(&details["parameter_size"])));
    model.push(("context length", plain(of("context_length"))));
    model.push(("embedding length", plain(of("embedding_length"))));
    model.push(("quantization", plain(&details["quantization_level"])));
    section(out, "Model", &model)?;
    lines(out, "Capabilities", &list(&about["capabilities"]))?;
    let text = |key: &str| about[key].as_str().unwrap_or_default().trim_end();
    lines(out, "Parameters", &text("parameters").lines().map(str::to_owned).collect::<Vec<_>>())?;
    lines(out, "System", &text("system").lines().take(2).map(str::to_owned).collect::<Vec<_>>())?;
    lines(out, "License", &text("license").lines().take(2).map(str::to_owned).collect::<Vec<_>>())?;
    if verbose {
        let pairs = info.as_object().into_iter().flatten();
        let metadata: Vec<_> = pairs.map(|(key, value)| (key.as_str(), shortened(value))).collect();
        section(out, "Metadata", &metadata)?;
        let tensors = about["tensors"].as_array().into_iter().flatten();
        let line =
            |t: &Value| format!("{} {} {}", plain(&t["name"]), plain(&t["type"]), t["shape"]);
        lines(out, "Tensors", &tensors.map(line).collect::<Vec<_>>())?;
    }
    Ok(())
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn shortened(value: &Value) -> String {
    let text = plain(value);
    match text.chars().count() {
        0..=60 => text,
        _ => format!("{}…", text.chars().take(60).collect::<String>()),
    }
}

fn list(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(plain).collect()
}

fn section(out: &mut dyn Write, title: &str, rows: &[(&str, String)]) -> Result {
    let rows: Vec<_> = rows.iter().filter(|(_, value)| !value.is_empty()).collect();
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(out, "  {title}")?;
    let width = rows.iter().map(|(key, _)| key.len()).max().unwrap_or(0).max(19);
    for (key, value) in rows {
        writeln!(out, "    {key:width$} {value}")?;
    }
    writeln!(out)?;
    Ok(())
}

fn lines(out: &mut dyn Write, title: &str, lines: &[String]) -> Result {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(out, "  {title}")?;
    for line in lines {
        writeln!(out, "    {line}")?;
    }
    writeln!(out)?;
    Ok(())
}
