//! Pushing to registries that fail, lie, or want to know who we are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Request, State};
use axum::http::Method;
use axum::http::header::{AUTHORIZATION, HOST, LOCATION};
use axum::response::Response;

use super::mock::{challenge, moved, reply};
use super::*;

/// What is done to the registry.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Look,
    Begin,
    Send,
    End,
    Manifest,
    Token,
}

struct Ask {
    step: Step,
    /// How many of the same came before.
    nth: usize,
    token: bool,
    /// It came to the second address.
    elsewhere: bool,
}

type Script = fn(&Ask, &[String; 2]) -> Option<Response>;

/// A registry that takes models.
struct Taker {
    addresses: [String; 2],
    script: Script,
    has: Mutex<Has>,
}

#[derive(Default)]
struct Has {
    counts: HashMap<u8, usize>,
    upload: Vec<u8>,
    blobs: HashMap<String, Vec<u8>>,
    manifest: Option<Vec<u8>>,
    tokens_elsewhere: usize,
}

async fn start(script: Script) -> Arc<Taker> {
    let bind = || tokio::net::TcpListener::bind("127.0.0.1:0");
    let listeners = [bind().await.unwrap(), bind().await.unwrap()];
    let addresses = listeners.each_ref().map(|l| l.local_addr().unwrap().to_string());
    let taker = Arc::new(Taker { addresses, script, has: Mutex::default() });
    for listener in listeners {
        let router = axum::Router::new().fallback(answer).with_state(taker.clone());
        // Without its own limit of bodies.
        let router = router.layer(axum::extract::DefaultBodyLimit::disable());
        tokio::spawn(async move { axum::serve(listener, router).await });
    }
    taker
}

async fn answer(State(taker): State<Arc<Taker>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 24).await.unwrap_or_default();
    let path = head.uri.path();
    let step = match head.method {
        _ if path.starts_with("/token") => Step::Token,
        Method::HEAD => Step::Look,
        Method::POST => Step::Begin,
        Method::PATCH => Step::Send,
        Method::PUT if path.contains("/manifests/") => Step::Manifest,
        Method::PUT => Step::End,
        _ => return reply(405, ""),
    };
    let mut has = taker.has.lock().unwrap();
    let count = has.counts.entry(step as u8).or_default();
    *count += 1;
    let nth = *count - 1;
    let token = head.headers.contains_key(AUTHORIZATION);
    let elsewhere = head.headers[HOST] == taker.addresses[1];
    has.tokens_elsewhere += usize::from(token && elsewhere);
    let ask = Ask { step, nth, token, elsewhere };
    if let Some(response) = (taker.script)(&ask, &taker.addresses) {
        return response;
    }
    let next = || {
        let mut response = reply(202, "");
        response.headers_mut().insert(LOCATION, "/v2/library/up/x?state=1".parse().unwrap());
        response
    };
    match step {
        Step::Token => reply(200, r#"{"token":"abc"}"#),
        Step::Look => {
            let digest = path.rsplit('/').next().unwrap_or_default();
            reply(if has.blobs.contains_key(digest) { 200 } else { 404 }, "")
        }
        Step::Begin => {
            has.upload.clear();
            next()
        }
        Step::Send => {
            has.upload.extend_from_slice(&body);
            next()
        }
        Step::End => {
            let digest = Digest::of(&has.upload).to_string();
            let query = head.uri.query().unwrap_or_default().replace("%3A", ":");
            if query != format!("state=1&digest={digest}") {
                return reply(400, format!("{query} is not {digest}"));
            }
            let blob = std::mem::take(&mut has.upload);
            has.blobs.insert(digest, blob);
            reply(201, "")
        }
        Step::Manifest => {
            has.manifest = Some(body.to_vec());
            reply(201, "")
        }
    }
}

/// What a script does, and the text of the error, if there is to be one.
const CASES: &[(&str, Option<&str>, Script)] = &[
    ("an honest one", None, |_, _| None),
    ("busy at first, at every step of a blob", None, |ask, _| {
        (ask.step != Step::Manifest && ask.nth == 0).then(|| reply(503, "later"))
    }),
    ("it loses what was sent", None, |ask, _| {
        (ask.step == Step::Send && ask.nth == 1).then(|| reply(500, "lost"))
    }),
    ("it never takes anything", Some("max retries exceeded: upload: 500: full"), |ask, _| {
        (ask.step == Step::Send).then(|| reply(500, "full"))
    }),
    ("it does not want it", Some("upload: 403: not yours"), |ask, _| {
        (ask.step == Step::Begin).then(|| reply(403, "not yours"))
    }),
    ("it says that bytes are wrong", Some("upload: 400: DIGEST_INVALID"), |ask, _| {
        (ask.step == Step::End).then(|| reply(400, "DIGEST_INVALID"))
    }),
    ("it does not like the manifest", Some("push manifest: 400: tag is taken"), |ask, _| {
        (ask.step == Step::Manifest).then(|| reply(400, "tag is taken"))
    }),
    ("it wants a token", None, |ask, addresses| {
        let text = format!("Bearer realm=\"http://{}/token\"", addresses[0]);
        (!ask.token && ask.step != Step::Token).then(|| challenge(&text))
    }),
    ("no token is good", Some("unauthorized: access denied"), |ask, addresses| {
        let text = format!("Bearer realm=\"http://{}/token\"", addresses[0]);
        (ask.step != Step::Token).then(|| challenge(&text))
    }),
    ("the token is elsewhere", Some("does not match original host"), |ask, addresses| {
        let text = format!("Bearer realm=\"http://{}/token\"", addresses[1]);
        (ask.step != Step::Token).then(|| challenge(&text))
    }),
    ("blobs go elsewhere, the token does not", None, |ask, addresses| match ask.step {
        Step::Begin if ask.token => {
            let mut response = reply(202, "");
            let to = format!("http://{}/v2/library/up/x?state=1", addresses[1]);
            response.headers_mut().insert(LOCATION, to.parse().unwrap());
            Some(response)
        }
        Step::Token => None,
        _ if ask.token || ask.elsewhere => None,
        _ => Some(challenge(&format!("Bearer realm=\"http://{}/token\"", addresses[0]))),
    }),
    ("blobs go to the cloud's secrets", Some("169.254.169.254"), |ask, _| {
        (ask.step == Step::Begin).then(|| {
            let mut response = moved("http://169.254.169.254/latest");
            *response.status_mut() = axum::http::StatusCode::ACCEPTED;
            response
        })
    }),
    ("blobs go to a file", Some("cannot be used"), |ask, _| {
        (ask.step == Step::Begin).then(|| {
            let mut response = moved("file:///etc/passwd");
            *response.status_mut() = axum::http::StatusCode::ACCEPTED;
            response
        })
    }),
    ("a redirect is not followed with a model", Some("upload: 307"), |ask, addresses| {
        (ask.step == Step::Send).then(|| moved(&format!("http://{}/x", addresses[1])))
    }),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_case() {
    let registry = registry();
    for (case, error, script) in CASES {
        let taker = start(*script).await;
        let (store, _folder) = store();
        // More than one request of an upload.
        let model = Model::new(3, 50_000);
        let name = name_at(&taker.addresses[0], "up");
        model.install(&store, &name);
        let push = registry.push(&store, &name, true, |_| ());
        let ended = tokio::time::timeout(Duration::from_secs(20), push).await.expect(case);
        let has = taker.has.lock().unwrap();
        match (error, ended) {
            (None, Ok(())) => {
                assert_eq!(has.manifest.as_deref(), Some(&model.bytes()[..]), "{case}");
                for blob in &model.blobs {
                    assert_eq!(&has.blobs[&Digest::of(blob).to_string()], blob, "{case}");
                }
            }
            (Some(text), Err(error)) => {
                let error = error.to_string();
                assert!(error.contains(text), "{case}: {error:?} does not say {text:?}");
                assert_eq!(has.manifest, None, "{case}");
            }
            (_, ended) => panic!("{case}: {ended:?}"),
        }
        assert_eq!(has.tokens_elsewhere, 0, "{case}");
        model.assert_in(&store, &name);
    }
}
