//! A server, as the commands see it.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;

use crate::config::clean;
use crate::wire::{Address, is_loopback};

use super::screen::Result;

/// Bytes of one line of a stream.
const LINE: usize = 8 << 20;

/// A server to talk to.
#[derive(Clone)]
pub struct Client {
    base: String,
    http: reqwest::Client,
    key: Option<String>,
}

/// What a server refused.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// HTTP's number.
    pub status: u16,
    /// Its sentence.
    pub message: String,
}

impl Client {
    /// The server that `OLLAMA_HOST` names.
    ///
    /// # Errors
    /// An address that is none.
    pub fn from_env() -> Result<Self> {
        let variable =
            |name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        let host = variable("OLLAMA_HOST");
        let key = variable("OLLAMA_API_KEY");
        if let Some(text) = clean(host.as_deref())
            && let Address::Tcp { bad_port: true, port, .. } = Address::parse(&text)
        {
            eprintln!("warning: OLLAMA_HOST {text:?} has no port from 0 to 65535; {port} is used");
        }
        Client::new(host.as_deref(), clean(key.as_deref()))
    }

    /// A server, by an address in the form of `OLLAMA_HOST`.
    ///
    /// # Errors
    /// An address that is none.
    pub fn new(host: Option<&str>, key: Option<String>) -> Result<Self> {
        let base = base(clean(host).as_deref())?;
        let mut http = reqwest::Client::builder().connect_timeout(Duration::from_secs(10));
        let url = reqwest::Url::parse(&base)?;
        if url.host_str().is_some_and(is_loopback) {
            // As Go has it: proxies are for others.
            http = http.no_proxy();
        }
        Ok(Client { base, http: http.build()?, key })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// Whether there is a server.
    ///
    /// # Errors
    /// What to do if there is none.
    pub async fn check(&self) -> Result {
        let reply = self.request(Method::HEAD, "/").send().await;
        reply.map(drop).map_err(|error| {
            if error.is_connect() {
                let base = &self.base;
                format!(
                    "could not connect to ollama server at {base}, run 'ollama serve' to start it, \
                     or say with OLLAMA_HOST where it is"
                )
                .into()
            } else {
                error.into()
            }
        })
    }

    /// Its version as clients of Ollama compare it, and its own if it is one of ours.
    ///
    /// # Errors
    /// No server.
    pub async fn versions(&self) -> Result<(String, Option<String>)> {
        let reply = self.get("/api/version").await?;
        let text = |key: &str| reply[key].as_str().map(str::to_owned);
        Ok((text("version").unwrap_or_else(|| "unknown".into()), text("tramontane")))
    }

    /// An object.
    ///
    /// # Errors
    /// [`Refused`]; network.
    pub async fn get(&self, path: &str) -> Result<Value> {
        object(self.request(Method::GET, path).send().await?).await
    }

    /// A request with JSON, and the object that comes back; null for nothing.
    ///
    /// # Errors
    /// [`Refused`]; network.
    pub async fn call(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        object(self.request(method, path).body(body.to_string()).send().await?).await
    }

    /// Whether a blob is there.
    ///
    /// # Errors
    /// [`Refused`]; network.
    pub async fn has_blob(&self, digest: &str) -> Result<bool> {
        let reply = self.request(Method::HEAD, &format!("/api/blobs/{digest}")).send().await?;
        match reply.status().as_u16() {
            404 => Ok(false),
            _ => good(reply).await.map(|_| true),
        }
    }

    /// Sends a blob.
    ///
    /// # Errors
    /// [`Refused`]; network.
    pub async fn put_blob(&self, digest: &str, body: reqwest::Body) -> Result {
        let request = self.request(Method::POST, &format!("/api/blobs/{digest}")).body(body);
        good(request.send().await?).await.map(drop)
    }

    /// A request whose answer comes in lines.
    ///
    /// # Errors
    /// [`Refused`]; network.
    pub async fn stream(&self, path: &str, body: &Value) -> Result<Lines> {
        let reply = self.request(Method::POST, path).body(body.to_string()).send().await?;
        Ok(Lines { reply: good(reply).await?, lines: Splitter::default() })
    }
}

/// `OLLAMA_HOST` as a URL: §4 of the contract; a server that listens everywhere is asked
/// here.
///
/// # Errors
/// One sentence.
pub fn base(host: Option<&str>) -> Result<String> {
    let text = host.unwrap_or("127.0.0.1:11434");
    let Address::Tcp { scheme, host, port, path, .. } = Address::parse(text) else {
        return Err("OLLAMA_HOST names a Unix socket; this command line speaks TCP only. \
            Use curl --unix-socket, or let the server listen on a port"
            .into());
    };
    let host = match host.as_str() {
        "" | "0.0.0.0" => "127.0.0.1".to_owned(),
        "::" => "[::1]".to_owned(),
        v6 if v6.contains(':') => format!("[{v6}]"),
        _ => host,
    };
    let url = format!("{}://{host}:{port}{path}", scheme.as_deref().unwrap_or("http"));
    match reqwest::Url::parse(&url) {
        Ok(_) => Ok(url),
        Err(error) => Err(format!("OLLAMA_HOST {text:?} is no address: {error}").into()),
    }
}

/// A reply that is no refusal.
async fn good(reply: Response) -> Result<Response> {
    let status = reply.status();
    if status.is_success() {
        return Ok(reply);
    }
    let text = reply.text().await.unwrap_or_default();
    let said = serde_json::from_str::<Value>(&text).ok();
    let said = said.and_then(|said| said["error"].as_str().map(str::to_owned));
    let message = match said {
        Some(said) => said,
        None if text.trim().is_empty() => status.to_string(),
        None => format!("{status}: {}", text.trim().chars().take(200).collect::<String>()),
    };
    Err(Refused { status: status.as_u16(), message }.into())
}

async fn object(reply: Response) -> Result<Value> {
    let bytes = good(reply).await?.bytes().await?;
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&bytes).map_err(|error| format!("the server's answer: {error}").into())
}

/// The lines of a stream. Dropping it ends the work.
pub struct Lines {
    reply: Response,
    lines: Splitter,
}

impl Lines {
    /// The next object; none at the end.
    ///
    /// # Errors
    /// A line that is an error, or no JSON; network.
    pub async fn next(&mut self) -> Result<Option<Value>> {
        loop {
            if let Some(line) = self.lines.line() {
                return parse(&line).map(Some);
            }
            match self.reply.chunk().await? {
                Some(chunk) => self.lines.push(&chunk)?,
                None => {
                    return match self.lines.rest() {
                        Some(line) => parse(&line).map(Some),
                        None => Ok(None),
                    };
                }
            }
        }
    }
}

fn parse(line: &[u8]) -> Result<Value> {
    let value: Value =
        serde_json::from_slice(line).map_err(|error| format!("the server's answer: {error}"))?;
    match value["error"].as_str() {
        Some(error) => Err(error.into()),
        None => Ok(value),
    }
}

/// Bytes as they come → lines.
#[derive(Default)]
pub struct Splitter {
    bytes: Vec<u8>,
    /// Before this there is no line feed.
    searched: usize,
}

impl Splitter {
    /// More bytes.
    ///
    /// # Errors
    /// A line that never ends.
    pub fn push(&mut self, bytes: &[u8]) -> Result {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > LINE + bytes.len() {
            return Err("the server sent a line of more than 8 MB".into());
        }
        Ok(())
    }

    /// A line that is complete, if it is not empty.
    pub fn line(&mut self) -> Option<Vec<u8>> {
        loop {
            let at = self.bytes[self.searched..].iter().position(|&byte| byte == b'\n');
            let Some(at) = at else {
                self.searched = self.bytes.len();
                return None;
            };
            let rest = self.bytes.split_off(self.searched + at + 1);
            let mut line = std::mem::replace(&mut self.bytes, rest);
            self.searched = 0;
            line.pop();
            if !line.trim_ascii().is_empty() {
                return Some(line);
            }
        }
    }

    /// What stands after the last line feed.
    pub fn rest(&mut self) -> Option<Vec<u8>> {
        let rest = std::mem::take(&mut self.bytes);
        self.searched = 0;
        (!rest.trim_ascii().is_empty()).then_some(rest)
    }
}
