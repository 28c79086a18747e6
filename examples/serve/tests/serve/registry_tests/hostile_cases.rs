//! What registries do: each case is a script and the end that the pull must have.

use std::time::Duration;

use axum::body::Body;
use axum::http::Method;
use axum::http::header::{CONTENT_ENCODING, CONTENT_RANGE, ETAG};
use axum::response::Response;
use serde_json::{Value, json};

use super::mock::{Ask, Script, What, World};
use super::mock::{broken, challenge, endless, moved, promising, reply, slow, stalled};

/// How a pull ends.
#[derive(Debug, Clone, Copy)]
pub enum Ends {
    Pulled,
    /// With an error that has this text.
    With(&'static str),
}

pub struct Case {
    pub name: &'static str,
    pub script: Script,
    pub ends: Ends,
}

use Ends::{Pulled, With};
use What::{Blob, Manifest, Moved, Token};

const fn case(name: &'static str, ends: Ends, script: Script) -> Case {
    Case { name, script, ends }
}

const LOST: Ends = With("max retries exceeded");
const MISMATCH: Ends = With("digest mismatch, file must be downloaded again: want sha256:");
const USELESS: Ends = With("the registry's answer cannot be used");
const DENIED: Ends = With("unauthorized: access denied");

/// The first blob, where most of the cases happen.
const WEIGHTS: What = Blob(0);

/// The manifest, changed.
fn manifest(ask: &Ask, world: &World, change: fn(&mut Value)) -> Option<Response> {
    if ask.what != Manifest {
        return None;
    }
    let mut manifest = world.models[0].1.manifest.clone();
    change(&mut manifest);
    Some(reply(200, manifest.to_string()))
}

/// Any manifest.
fn instead(ask: &Ask, body: impl Into<Body>) -> Option<Response> {
    (ask.what == Manifest).then(|| reply(200, body))
}

/// The parts of the weights, with another body.
fn weights(ask: &Ask, world: &World, body: fn(&[u8]) -> Body) -> Option<Response> {
    (ask.what == WEIGHTS).then(|| world.part(ask, body(world.wanted(ask))))
}

/// Wants a token first.
fn bearer(ask: &Ask, realm: &str) -> Option<Response> {
    let wanted = matches!(ask.what, Manifest | Blob(_)) && ask.authorization.is_none();
    let text = format!(r#"Bearer realm="{realm}",service="s",scope="repository:new:pull""#);
    wanted.then(|| challenge(&text))
}

/// The same, from the registry's own token service.
fn own(ask: &Ask, world: &World) -> Option<Response> {
    bearer(ask, &format!("http://{}/token", world.host))
}

/// As with a token that something is wrong with.
fn token(ask: &Ask, world: &World, body: impl Into<Body>) -> Option<Response> {
    match ask.what {
        Token => Some(reply(200, body)),
        _ => own(ask, world),
    }
}

fn whole(ask: &Ask, world: &World, body: fn(&[u8]) -> Body) -> Option<Response> {
    let blob = |n| reply(200, body(world.blob(n)));
    match ask.what {
        Blob(n) => Some(blob(n)),
        _ => None,
    }
}

pub const CASES: &[Case] = &[
    // Redirects.
    case("blobs are elsewhere", Pulled, |ask, world| match ask.what {
        Blob(n) => Some(moved(&format!("http://{}/moved/{n}", world.elsewhere))),
        _ => own(ask, world),
    }),
    case("blobs are elsewhere, by a relative address", Pulled, |ask, _| match ask.what {
        Blob(n) => Some(moved(&format!("/moved/{n}"))),
        _ => None,
    }),
    case("elsewhere asks who we are", With("does not match original host"), |ask, world| match ask
        .what
    {
        Blob(n) => Some(moved(&format!("http://{}/moved/{n}", world.elsewhere))),
        Moved(_) => bearer(&Ask { what: Blob(0), ..ask.clone() }, "http://127.0.0.1:1/token"),
        _ => own(ask, world),
    }),
    case("redirects in a circle", With("more than 10 redirects"), |ask, world| {
        let to = if ask.elsewhere { &world.host } else { &world.elsewhere };
        matches!(ask.what, Blob(_) | Moved(_)).then(|| moved(&format!("http://{to}/moved/0")))
    }),
    case("a redirect of the manifest in a circle", With("more than 10 redirects"), |ask, _| {
        (ask.what == Manifest).then(|| moved("latest"))
    }),
    case("a redirect to the cloud's secrets", With("169.254.169.254"), |ask, _| {
        (ask.what == WEIGHTS).then(|| moved("http://169.254.169.254/latest/meta-data"))
    }),
    case("the same, written as a number", With("169.254.169.254"), |ask, _| {
        (ask.what == WEIGHTS).then(|| moved("http://2852039166/latest/meta-data"))
    }),
    case("the same, written as IPv6", With("no registry has"), |ask, _| {
        (ask.what == WEIGHTS).then(|| moved("http://[::ffff:169.254.169.254]/latest"))
    }),
    case("a redirect to a file", USELESS, |ask, _| {
        (ask.what == WEIGHTS).then(|| moved("file:///etc/passwd"))
    }),
    case("a redirect to nowhere", With("download: 307"), |ask, _| {
        (ask.what == WEIGHTS).then(|| reply(307, ""))
    }),
    case("a redirect to what is no address", USELESS, |ask, _| {
        (ask.what == WEIGHTS).then(|| moved("http://[::"))
    }),
    case("a redirect to a closed port", LOST, |ask, _| {
        (ask.what == WEIGHTS).then(|| moved("http://127.0.0.1:1/blob"))
    }),
    // Parts.
    case("wholes instead of parts", Pulled, |ask, world| whole(ask, world, |b| b.to_vec().into())),
    case("wholes that break", Pulled, |ask, world| match ask.nth {
        0..4 => whole(ask, world, |bytes| broken(&bytes[..bytes.len().min(9_000)])),
        4..6 => whole(ask, world, |bytes| broken(&bytes[..bytes.len() / 2])),
        _ => whole(ask, world, |bytes| bytes.to_vec().into()),
    }),
    case("wholes after some parts", Pulled, |ask, world| match ask.range {
        Some((first, _)) if first >= 32 << 10 => whole(ask, world, |b| b.to_vec().into()),
        _ => None,
    }),
    case("wholes that are other blobs", MISMATCH, |ask, world| {
        whole(ask, world, |bytes| vec![7; bytes.len()].into())
    }),
    case("a part that begins elsewhere", USELESS, |ask, world| {
        let mut reply = weights(ask, world, |bytes| bytes.to_vec().into())?;
        reply.headers_mut().insert(CONTENT_RANGE, "bytes 1-9/100000".parse().ok()?);
        Some(reply)
    }),
    case("a part that does not say where it begins", USELESS, |ask, world| {
        let mut reply = weights(ask, world, |bytes| bytes.to_vec().into())?;
        reply.headers_mut().remove(CONTENT_RANGE);
        Some(reply)
    }),
    case("a part of a blob of another size", With("has 123456 bytes"), |ask, world| {
        let mut reply = weights(ask, world, |bytes| bytes.to_vec().into())?;
        let (first, last) = ask.range?;
        let range = format!("bytes {first}-{last}/123456");
        reply.headers_mut().insert(CONTENT_RANGE, range.parse().ok()?);
        Some(reply)
    }),
    case("a part of an unknown whole", Pulled, |ask, world| {
        let mut reply = weights(ask, world, |bytes| bytes.to_vec().into())?;
        let (first, last) = ask.range?;
        reply.headers_mut().insert(CONTENT_RANGE, format!("bytes {first}-{last}/*").parse().ok()?);
        Some(reply)
    }),
    case("parts that are too short", Pulled, |ask, world| match ask.nth {
        0..12 => weights(ask, world, |bytes| bytes[..bytes.len().div_ceil(2)].to_vec().into()),
        _ => None,
    }),
    case("parts that are too long", Pulled, |ask, world| {
        weights(ask, world, |bytes| [bytes, b"and more"].concat().into())
    }),
    case("parts that never end", Pulled, |ask, world| weights(ask, world, |b| endless(b, 0))),
    case("parts that never end and are wrong", MISMATCH, |ask, world| {
        weights(ask, world, |_| endless(b"", 7))
    }),
    case("a promise of more than comes", Pulled, |ask, world| match ask.nth {
        0..12 => weights(ask, world, |bytes| broken(&bytes[..bytes.len() / 2]))
            .map(|reply| promising(reply, world.wanted(ask).len())),
        _ => None,
    }),
    case("nothing comes", LOST, |ask, world| weights(ask, world, |_| Body::empty())),
    case("the connection breaks now and then", Pulled, |ask, world| match ask.nth % 2 {
        0 => weights(ask, world, |bytes| broken(&bytes[..bytes.len().div_ceil(2)])),
        _ => None,
    }),
    case("the connection always breaks at once", LOST, |ask, world| {
        weights(ask, world, |_| broken(b""))
    }),
    case("parts stall at first", Pulled, |ask, world| match ask.nth {
        0..4 => weights(ask, world, |bytes| stalled(&bytes[..bytes.len() / 2])),
        _ => None,
    }),
    case("parts always stall", LOST, |ask, world| weights(ask, world, |_| stalled(b""))),
    case("parts are slow, but come", Pulled, |ask, world| {
        weights(ask, world, |bytes| slow(bytes, Duration::from_millis(100)))
    }),
    case("a wrong bit", MISMATCH, |ask, world| match ask.range {
        Some((0, _)) => weights(ask, world, |bytes| {
            let mut bytes = bytes.to_vec();
            bytes[11] ^= 1;
            bytes.into()
        }),
        _ => None,
    }),
    case("another blob from the middle on, and another tag", MISMATCH, |ask, world| {
        let first = ask.range.map_or(0, |(first, _)| first);
        let (tag, body): (_, fn(&[u8]) -> Body) = match first {
            0..40_000 => ("one", |bytes| bytes.to_vec().into()),
            _ => ("two", |bytes| vec![7; bytes.len()].into()),
        };
        let mut reply = weights(ask, world, body)?;
        reply.headers_mut().insert(ETAG, tag.parse().ok()?);
        Some(reply)
    }),
    case("another tag for the same blob", Pulled, |ask, world| {
        let mut reply = weights(ask, world, |bytes| bytes.to_vec().into())?;
        reply.headers_mut().insert(ETAG, format!("\"{}\"", ask.nth).parse().ok()?);
        Some(reply)
    }),
    case("no such blob", With("download: 404: gone"), |ask, _| {
        (ask.what == WEIGHTS).then(|| reply(404, "gone"))
    }),
    case("no such part", With("download: 416"), |ask, _| match ask.what == WEIGHTS {
        true if ask.range?.0 > 20_000 => Some(reply(416, "")),
        _ => None,
    }),
    // Failing for a while.
    case("busy at first, with everything", Pulled, |ask, _| {
        (ask.nth_here < 2).then(|| reply(503, "later"))
    }),
    case("too many requests at first", Pulled, |ask, _| match ask.what {
        Blob(_) if ask.nth_here < 2 => Some(reply(429, "slow down")),
        _ => None,
    }),
    case("blobs fail always", With("max retries exceeded: download: 500: oh"), |ask, _| {
        (ask.what == WEIGHTS).then(|| reply(500, "oh"))
    }),
    case("everything fails", With("pull model manifest: 500: oh"), |_, _| Some(reply(500, "oh"))),
    // Manifests.
    case("no such model", With("pull model manifest: file does not exist"), |ask, _| {
        (ask.what == Manifest).then(|| reply(404, ""))
    }),
    case("a forbidden model", With("pull model manifest: 403: not for you"), |ask, _| {
        (ask.what == Manifest).then(|| reply(403, "not for you"))
    }),
    case("a refusal that paints the terminal", With("pull model manifest: 403: "), |ask, _| {
        (ask.what == Manifest).then(|| reply(403, "\x1b]0;title\x07\x1b[2J\r\n\u{9b}31m"))
    }),
    case("a refusal that never ends", With("pull model manifest: 403: xxx"), |ask, _| {
        (ask.what == Manifest).then(|| reply(403, endless(b"", b'x')))
    }),
    case("a refusal that stalls", With("pull model manifest: 403: be"), |ask, _| {
        (ask.what == Manifest).then(|| reply(403, stalled(b"because")))
    }),
    case("a manifest that never ends", With("more than 4194304 bytes"), |ask, _| {
        instead(ask, endless(b"{", b' '))
    }),
    case("a manifest that stalls", With("sent nothing for"), |ask, _| instead(ask, stalled(b"{"))),
    case("a manifest that drips", With("too slow"), |ask, _| {
        instead(ask, slow(&[b' '; 1 << 20], Duration::from_millis(50)))
    }),
    case("an empty manifest", USELESS, |ask, _| instead(ask, "")),
    case("a manifest of zeros", USELESS, |ask, _| instead(ask, vec![0; 1000])),
    case("a manifest that is no UTF-8", USELESS, |ask, _| instead(ask, b"{\"\xff\xfe\"}".to_vec())),
    case("a manifest that is very deep", USELESS, |ask, _| instead(ask, "[".repeat(1 << 20))),
    case("a manifest that is a page", USELESS, |ask, _| instead(ask, "<html>sign in</html>")),
    case("a manifest that is packed", USELESS, |ask, _| {
        let mut reply = instead(ask, b"\x1f\x8b\x08\0\0\0\0\0\0\xff".to_vec())?;
        reply.headers_mut().insert(CONTENT_ENCODING, "gzip".parse().ok()?);
        Some(reply)
    }),
    case("a list of manifests", USELESS, |ask, _| {
        instead(ask, r#"{"schemaVersion":2,"manifests":[]}"#)
    }),
    case("no layers", With("it has no layers"), |ask, world| {
        manifest(ask, world, |m| m["layers"] = json!([]))
    }),
    case("a thousand layers", With("it has 1000 layers"), |ask, world| {
        manifest(ask, world, |m| m["layers"] = vec![m["layers"][0].clone(); 1000].into())
    }),
    case("a digest that climbs", With("invalid digest"), |ask, world| {
        manifest(ask, world, |m| m["layers"][0]["digest"] = "sha256:../../../../etc/x".into())
    }),
    case("a digest that is short", With("invalid digest"), |ask, world| {
        manifest(ask, world, |m| m["config"]["digest"] = "sha256:00".into())
    }),
    case("no digest", USELESS, |ask, world| {
        manifest(ask, world, |m| m["config"]["digest"] = "".into())
    }),
    case("another hash", With("invalid digest"), |ask, world| {
        manifest(ask, world, |m| m["config"]["digest"] = format!("sha512:{:064}", 0).into())
    }),
    case("the size is negative", USELESS, |ask, world| {
        manifest(ask, world, |m| m["layers"][0]["size"] = (-1).into())
    }),
    case("the size is a fraction", USELESS, |ask, world| {
        manifest(ask, world, |m| m["layers"][0]["size"] = 1.5.into())
    }),
    case("the size is everything", With("bytes"), |ask, world| {
        manifest(ask, world, |m| m["layers"][0]["size"] = u64::MAX.into())
    }),
    case("the size is more than a disk", With("bytes"), |ask, world| {
        manifest(ask, world, |m| m["layers"][0]["size"] = (1u64 << 60).into())
    }),
    case("the size is too small", With("100000 bytes"), |ask, world| {
        manifest(ask, world, |m| m["layers"][0]["size"] = 50_000.into())
    }),
    case("the size is too large", With("100000 bytes"), |ask, world| {
        manifest(ask, world, |m| m["layers"][0]["size"] = 150_000.into())
    }),
    case("the size of a blob that is here is wrong", USELESS, |ask, world| {
        manifest(ask, world, |m| m["layers"][1]["size"] = 5.into())
    }),
    case("two sizes of one blob", With("two sizes"), |ask, world| {
        manifest(ask, world, |m| {
            let mut again = m["layers"][0].clone();
            again["size"] = 5.into();
            m["layers"].as_array_mut().unwrap().push(again);
        })
    }),
    case("a model of tensors", With("safetensors"), |ask, world| {
        manifest(ask, world, |m| {
            m["layers"][0]["mediaType"] = "application/vnd.ollama.image.tensor".into();
        })
    }),
    // Who are you?
    case("it wants a token", Pulled, own),
    case("each part wants a token of its own", Pulled, |ask, world| match ask.what {
        Blob(_) if ask.nth_here == 0 => own(&Ask { authorization: None, ..ask.clone() }, world),
        _ => own(ask, world),
    }),
    case("the token is elsewhere", With("realm host \"127.0.0.1:"), |ask, world| {
        bearer(ask, &format!("http://{}/token", world.elsewhere))
    }),
    case("the token is here, but by https", With("does not match original host"), |ask, world| {
        bearer(ask, &format!("https://{}/token", world.host))
    }),
    case("nobody says where the token is", DENIED, |ask, _| match ask.what {
        Manifest => Some(challenge("Bearer service=\"x\"")),
        _ => None,
    }),
    case("it wants a password", DENIED, |ask, _| match ask.what {
        Manifest => Some(challenge("Basic realm=\"x\"")),
        _ => None,
    }),
    case("the challenge is nonsense", DENIED, |ask, _| match ask.what {
        Manifest => Some(challenge("Bearer \"=\",=,realm==\"\"\"")),
        _ => None,
    }),
    case("no token is ever good", DENIED, |ask, world| {
        own(&Ask { authorization: None, ..ask.clone() }, world)
    }),
    case("there is no token", DENIED, |ask, world| match ask.what {
        Token => Some(reply(403, "no")),
        _ => own(ask, world),
    }),
    case("the token is elsewhere after all", DENIED, |ask, world| match ask.what {
        Token => Some(moved(&format!("http://{}/token", world.elsewhere))),
        _ => own(ask, world),
    }),
    case("the token is no JSON", USELESS, |ask, world| token(ask, world, "abc")),
    case("the token is empty", DENIED, |ask, world| token(ask, world, r#"{"token":""}"#)),
    case("the token is a number", DENIED, |ask, world| token(ask, world, r#"{"token":1}"#)),
    case("the token breaks the line", DENIED, |ask, world| {
        token(ask, world, r#"{"token":"a\r\nHost: b"}"#)
    }),
    case("the token never ends", With("more than 65536 bytes"), |ask, world| {
        (ask.what == Token).then(|| reply(200, endless(b"", b'x'))).or_else(|| own(ask, world))
    }),
    // And what is right is not refused.
    case("an honest one", Pulled, |_, _| None),
    case("one that knows only GET", Pulled, |ask, _| {
        (ask.method != Method::GET).then(|| reply(405, ""))
    }),
];
