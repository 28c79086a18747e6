//! What the tests share: a server without a socket, with a store of its own; stores and
//! registries.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod random;
pub mod registry;
pub mod store;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use axum::response::Response;
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

use tramontane_serve::app::{App, Shared};
use tramontane_serve::config::{Bind, Config, ServeArgs};
use tramontane_serve::http::Listener;

/// A server; its store goes with it.
pub struct Server {
    pub app: Shared,
    pub router: axum::Router,
    pub folder: tempfile::TempDir,
}

/// What it answered.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// A server with an empty store, so that the built-in model is there.
pub async fn server() -> Server {
    server_with(|_| {}).await
}

/// The same, with other settings.
pub async fn server_with(change: impl FnOnce(&mut ServeArgs)) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let mut args = ServeArgs {
        models: Some(folder.path().join("models")),
        // Several pools of threads would wait for each other.
        num_threads: Some("1".into()),
        context_length: Some("256".into()),
        ..ServeArgs::default()
    };
    change(&mut args);
    let app = Arc::new(App::start(Config::new(&args).unwrap()).await.unwrap());
    let router = tramontane_serve::http::router(app.clone());
    Server { app, router, folder }
}

impl Server {
    /// Any request.
    pub async fn send(&self, request: Request<Body>) -> Response {
        let reply = self.router.clone().oneshot(request);
        tokio::time::timeout(Duration::from_secs(120), reply).await.expect("a reply").unwrap()
    }

    /// A request with a body, and the whole reply.
    pub async fn call(&self, method: &str, path: &str, body: impl Into<Body>) -> Reply {
        let request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).unwrap())
            .uri(path)
            .header("host", "127.0.0.1:11434")
            .body(body.into())
            .unwrap();
        Reply::of(self.send(request).await).await
    }

    /// A request with JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.call("POST", path, body.to_string()).await
    }

    /// A request without a body.
    pub async fn get(&self, path: &str) -> Reply {
        self.call("GET", path, Body::empty()).await
    }
}

impl Reply {
    pub async fn of(response: Response) -> Self {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Reply { status: parts.status, headers: parts.headers, body }
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The lines of a stream.
    pub fn lines(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The error's text.
    pub fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_else(|| panic!("{}", self.text())).to_owned()
    }
}

impl Server {
    /// A socket of its own; it ends when something is sent, or the sender goes.
    pub async fn listen(&self) -> (String, tokio::sync::oneshot::Sender<()>) {
        let listener = Listener::bind(&Bind::Tcp("127.0.0.1".into(), 0)).await.unwrap();
        let address = listener.address();
        let (sender, stopped) = tokio::sync::oneshot::channel();
        let stop = async move { drop(stopped.await) };
        tokio::spawn(tramontane_serve::http::run(listener, self.app.clone(), stop));
        (address, sender)
    }
}
