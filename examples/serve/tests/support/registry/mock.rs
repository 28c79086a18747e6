//! A registry that does what a script says, on two addresses, so that one can send to
//! the other.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, HOST, LOCATION, RANGE, WWW_AUTHENTICATE,
};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use futures_util::StreamExt;
use futures_util::stream;

use super::Model;
use tramontane_serve::name::ModelName;

/// What somebody asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum What {
    Manifest,
    /// The blob of that number.
    Blob(usize),
    Token,
    /// `/moved/N`, where a script sends to.
    Moved(usize),
    Unknown,
}

/// A request.
#[derive(Debug, Clone)]
pub struct Ask {
    pub method: Method,
    pub what: What,
    /// Of the model; it is not looked at.
    pub namespace: String,
    pub range: Option<(u64, u64)>,
    pub query: String,
    pub authorization: Option<String>,
    /// It came to the second address.
    pub elsewhere: bool,
    /// How many of the same came before.
    pub nth: usize,
    /// How many of the same, from the same byte on, came before.
    pub nth_here: usize,
}

/// What a script looks at.
pub struct World {
    /// A model for each name.
    pub models: Vec<(&'static str, Model)>,
    /// Of their blobs.
    digests: Vec<String>,
    /// `127.0.0.1:PORT`
    pub host: String,
    /// The second address.
    pub elsewhere: String,
}

/// A reply, or none: then the registry is honest.
pub type Script = fn(&Ask, &World) -> Option<Response>;

/// The registry. It ends with its runtime.
#[derive(Clone)]
pub struct Mock(Arc<Inner>);

struct Inner {
    world: World,
    script: Mutex<Script>,
    asked: Mutex<Vec<Ask>>,
    counts: Mutex<HashMap<(What, Option<u64>), usize>>,
}

/// Follows the protocol.
pub fn honest(_: &Ask, _: &World) -> Option<Response> {
    None
}

impl Mock {
    pub async fn start(models: Vec<(&'static str, Model)>, script: Script) -> Self {
        let bind = || tokio::net::TcpListener::bind("127.0.0.1:0");
        let (first, second) = (bind().await.unwrap(), bind().await.unwrap());
        let address = |l: &tokio::net::TcpListener| l.local_addr().unwrap().to_string();
        let blobs = models.iter().flat_map(|(_, model)| &model.blobs);
        let digests =
            blobs.map(|blob| tramontane_serve::store::Digest::of(blob).to_string()).collect();
        let (host, elsewhere) = (address(&first), address(&second));
        let world = World { models, digests, host, elsewhere };
        let mock = Mock(Arc::new(Inner {
            world,
            script: Mutex::new(script),
            asked: Mutex::default(),
            counts: Mutex::default(),
        }));
        for listener in [first, second] {
            let router = axum::Router::new().fallback(answer).with_state(mock.clone());
            tokio::spawn(async move { axum::serve(listener, router).await });
        }
        mock
    }

    pub fn world(&self) -> &World {
        &self.0.world
    }

    /// The name of a model there.
    pub fn name(&self, n: usize) -> ModelName {
        super::name_at(&self.0.world.host, self.0.world.models[n].0)
    }

    pub fn model(&self, n: usize) -> &Model {
        &self.0.world.models[n].1
    }

    pub fn follow(&self, script: Script) {
        *self.0.script.lock().unwrap() = script;
    }

    /// Every request since the last call.
    pub fn take_asked(&self) -> Vec<Ask> {
        std::mem::take(&mut *self.0.asked.lock().unwrap())
    }
}

async fn answer(State(mock): State<Mock>, request: Request) -> Response {
    let inner = &mock.0;
    let ask = inner.read(&request);
    inner.asked.lock().unwrap().push(ask.clone());
    let script = *inner.script.lock().unwrap();
    script(&ask, &inner.world).unwrap_or_else(|| inner.world.honest(&ask, request.uri().path()))
}

impl Inner {
    fn read(&self, request: &Request) -> Ask {
        let header = |name| request.headers().get(name).and_then(|v| v.to_str().ok());
        let path = request.uri().path();
        let what = self.world.what(path);
        let range = header(RANGE).and_then(|range| {
            let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
            Some((first.parse().ok()?, last.parse().ok()?))
        });
        let mut counts = self.counts.lock().unwrap();
        let mut count = |key| {
            let count = counts.entry(key).or_default();
            *count += 1;
            *count - 1
        };
        Ask {
            method: request.method().clone(),
            what,
            namespace: path.split('/').nth(2).unwrap_or_default().to_owned(),
            range,
            query: request.uri().query().unwrap_or_default().to_owned(),
            authorization: header(AUTHORIZATION).map(str::to_owned),
            elsewhere: header(HOST) == Some(&self.world.elsewhere),
            nth: count((what, None)),
            nth_here: count((what, Some(range.map_or(0, |(first, _)| first)))),
        }
    }
}

impl World {
    fn what(&self, path: &str) -> What {
        let mut parts = path.trim_start_matches('/').split('/');
        match (parts.next(), parts.nth(2), parts.next()) {
            (Some("v2"), Some("manifests"), Some(_)) => What::Manifest,
            (Some("v2"), Some("blobs"), Some(digest)) => {
                let known = self.digests.iter().position(|known| known == digest);
                known.map_or(What::Unknown, What::Blob)
            }
            (Some("token"), ..) => What::Token,
            (Some("moved"), ..) => {
                let n = path.trim_start_matches("/moved/").parse();
                n.map_or(What::Unknown, What::Moved)
            }
            _ => What::Unknown,
        }
    }

    /// The bytes of a blob, by its number over all models.
    pub fn blob(&self, n: usize) -> &[u8] {
        self.models.iter().flat_map(|(_, model)| &model.blobs).nth(n).unwrap()
    }

    /// The bytes that an ask for a blob is about.
    pub fn wanted(&self, ask: &Ask) -> &[u8] {
        let (What::Blob(n) | What::Moved(n)) = ask.what else { panic!("{ask:?}") };
        let blob = self.blob(n);
        match ask.range {
            Some((first, last)) => {
                let end = blob.len().min(usize::try_from(last).unwrap() + 1);
                &blob[usize::try_from(first).unwrap().min(end)..end]
            }
            None => blob,
        }
    }

    /// `bytes FIRST-LAST/SIZE`
    pub fn content_range(&self, ask: &Ask) -> String {
        let (What::Blob(n) | What::Moved(n)) = ask.what else { panic!("{ask:?}") };
        let (first, last) = ask.range.unwrap_or_default();
        format!("bytes {first}-{last}/{}", self.blob(n).len())
    }

    /// The part that was asked for, with another body.
    pub fn part(&self, ask: &Ask, body: Body) -> Response {
        let status = if ask.range.is_some() { 206 } else { 200 };
        let mut reply = reply(status, body);
        if ask.range.is_some() {
            reply.headers_mut().insert(CONTENT_RANGE, self.content_range(ask).parse().unwrap());
        }
        reply
    }

    fn honest(&self, ask: &Ask, path: &str) -> Response {
        match ask.what {
            What::Manifest => {
                let model = path.split('/').nth(3).unwrap_or_default();
                let found = self.models.iter().find(|(name, _)| *name == model);
                found.map_or_else(|| reply(404, "no such"), |(_, m)| reply(200, m.bytes()))
            }
            What::Blob(_) | What::Moved(_) => self.part(ask, self.wanted(ask).to_vec().into()),
            What::Token => reply(200, r#"{"token":"abc"}"#),
            What::Unknown => reply(404, "no such"),
        }
    }
}

pub fn reply(status: u16, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

pub fn moved(to: &str) -> Response {
    let mut response = reply(307, "");
    response.headers_mut().insert(LOCATION, to.parse().unwrap());
    response
}

pub fn challenge(text: &str) -> Response {
    let mut response = reply(401, "who are you?");
    response.headers_mut().insert(WWW_AUTHENTICATE, text.parse().unwrap());
    response
}

/// Bytes, and then for ever what is made.
pub fn endless(first: &[u8], then: u8) -> Body {
    let first = stream::iter([Ok::<_, Infallible>(Bytes::copy_from_slice(first))]);
    let rest = stream::repeat_with(move || Ok(Bytes::from(vec![then; 16 << 10])));
    Body::from_stream(first.chain(rest))
}

/// Bytes, and then nothing, but the connection stays.
pub fn stalled(bytes: &[u8]) -> Body {
    let first = stream::iter([Ok::<_, Infallible>(Bytes::copy_from_slice(bytes))]);
    Body::from_stream(first.chain(stream::pending()))
}

/// Bytes, and then the connection breaks.
pub fn broken(bytes: &[u8]) -> Body {
    let first = stream::iter([Ok(Bytes::copy_from_slice(bytes))]);
    // What came before must have left first.
    let end = stream::once(async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        Err(io::Error::other("broken"))
    });
    Body::from_stream(first.chain(end))
}

/// A little at a time.
pub fn slow(bytes: &[u8], pause: Duration) -> Body {
    let chunks: Vec<Bytes> = bytes.chunks(4 << 10).map(Bytes::copy_from_slice).collect();
    Body::from_stream(stream::iter(chunks).then(move |chunk| async move {
        tokio::time::sleep(pause).await;
        Ok::<_, Infallible>(chunk)
    }))
}

/// A body that promises more than it is.
pub fn promising(mut response: Response, bytes: usize) -> Response {
    response.headers_mut().insert(CONTENT_LENGTH, bytes.into());
    response
}
