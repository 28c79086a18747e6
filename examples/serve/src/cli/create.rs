//! `create`: the Modelfile is read here, its files are hashed and sent as blobs.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::modelfile::Modelfile;
use crate::name::is_path;
use crate::store::Digest;

use super::args::CreateArgs;
use super::client::Client;
use super::screen::Result;
use super::transfer;

/// Makes a model.
pub async fn create(client: &Client, args: &CreateArgs) -> Result {
    let path = &args.file;
    let bytes = read(path)?;
    let modelfile = Modelfile::parse(&bytes)?;
    for name in &modelfile.deprecated {
        eprintln!("warning: parameter {name} is deprecated and does nothing");
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut body = request(&args.model, &modelfile);
    if let Some(kind) = &args.quantize {
        body.insert("quantize".into(), kind.as_str().into());
    }
    let mut files = Map::new();
    for from in &modelfile.from {
        match local(folder, from)? {
            Some(file) => {
                let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
                let digest = upload(client, &file).await?;
                files.insert(name.unwrap_or_else(|| "model.gguf".into()), digest.into());
            }
            None => drop(body.insert("from".into(), from.as_str().into())),
        }
    }
    if !files.is_empty() {
        body.insert("files".into(), files.into());
    }
    for (field, paths) in [("adapters", &modelfile.adapters), ("draft_files", &modelfile.drafts)] {
        if let Some(first) = paths.first() {
            // The server says what it can do; nothing large is sent before.
            body.insert(field.into(), json!({first: ""}));
        }
    }
    transfer::follow(client.stream("/api/create", &Value::Object(body)).await?).await
}

/// What the Modelfile says, without its files.
fn request(model: &str, modelfile: &Modelfile) -> Map<String, Value> {
    let mut body = Map::new();
    let mut put = |key: &str, value: Value| body.insert(key.to_owned(), value);
    put("model", model.into());
    let texts = [
        ("template", &modelfile.template),
        ("system", &modelfile.system),
        ("renderer", &modelfile.renderer),
        ("parser", &modelfile.parser),
        ("requires", &modelfile.requires),
    ];
    for (key, text) in texts {
        if let Some(text) = text {
            put(key, text.as_str().into());
        }
    }
    if !modelfile.licenses.is_empty() {
        put("license", json!(modelfile.licenses));
    }
    if !modelfile.parameters.is_empty() {
        put("parameters", modelfile.parameters.clone().into());
    }
    if !modelfile.messages.is_empty() {
        let one = |m: &tramontane::Message| json!({"role": m.role(), "content": m.content()});
        put("messages", modelfile.messages.iter().map(one).collect());
    }
    body
}

/// The Modelfile's bytes.
fn read(path: &Path) -> Result<Vec<u8>> {
    if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    std::fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            format!("no Modelfile at {}; write one, or name it with -f", path.display()).into()
        }
        _ => format!("{}: {error}", path.display()).into(),
    })
}

/// The file that a FROM names: beside the Modelfile, or in the home folder for `~`. None
/// for the name of a model.
fn local(folder: &Path, from: &str) -> Result<Option<PathBuf>> {
    let home = from.strip_prefix("~/").and_then(|rest| Some(std::env::home_dir()?.join(rest)));
    let path = home.unwrap_or_else(|| folder.join(from));
    if path.is_file() {
        return Ok(Some(path));
    }
    if !is_path(from) {
        return Ok(None);
    }
    let shown = path.display();
    Err(match path.is_dir() {
        true => format!("FROM {from}: {shown} is a folder; name one GGUF file"),
        false => format!(
            "FROM {from}: there is no file {shown}; a path starts at the Modelfile's folder"
        ),
    }
    .into())
}

/// Hashes a file, and sends it if the server has not got it. Its digest.
async fn upload(client: &Client, path: &Path) -> Result<String> {
    let shown = path.display().to_string();
    let digest = hash(path).map_err(|error| format!("{shown}: {error}"))?;
    if client.has_blob(&digest).await? {
        return Ok(digest);
    }
    let mut file = File::open(path)?;
    let bar = transfer::bytes_bar("sending the file", file.metadata()?.len());
    let sent = bar.clone();
    let chunks = futures_util::stream::iter(std::iter::from_fn(move || {
        let mut chunk = vec![0; 1 << 20];
        match file.read(&mut chunk) {
            Ok(0) => None,
            Ok(read) => {
                chunk.truncate(read);
                sent.inc(read as u64);
                Some(Ok(chunk))
            }
            Err(error) => Some(Err(error)),
        }
    }));
    client.put_blob(&digest, reqwest::Body::wrap_stream(chunks)).await?;
    bar.finish_and_clear();
    Ok(digest)
}

fn hash(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let bar = transfer::bytes_bar("hashing the file", file.metadata()?.len());
    let digest = Digest::of_reader(&mut file, |read| bar.inc(read))?;
    bar.finish_and_clear();
    Ok(digest.to_string())
}
