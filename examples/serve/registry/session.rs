//! Requests to one registry: its address, its token, its redirects.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LOCATION, WWW_AUTHENTICATE};
use reqwest::{Method, Response, StatusCode, Url};
use serde_json::Value;

use crate::name::ModelName;

use super::{Registry, RegistryError};

/// Redirects of one request.
const REDIRECTS: usize = 10;
/// Bytes of a token's JSON.
const TOKEN: usize = 64 << 10;
/// Bytes of an error's text that are shown.
const SAID: usize = 8 << 10;

/// A registry, as one pull or push uses it.
pub(super) struct Session {
    pub registry: Registry,
    /// `https://host/v2/namespace/model/`
    base: Url,
    token: Mutex<Option<String>>,
}

/// A request; it can be sent again.
#[derive(Clone)]
pub(super) struct Call {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Option<Vec<u8>>,
}

impl Call {
    pub fn new(method: Method, url: Url) -> Self {
        Call { method, url, headers: HeaderMap::new(), body: None }
    }

    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }
}

impl Session {
    /// The registry of `name`.
    ///
    /// # Errors
    /// A registry that may not be used.
    pub fn new(
        registry: &Registry,
        name: &ModelName,
        insecure: bool,
    ) -> Result<Self, RegistryError> {
        if name.scheme() == Some("http") && !insecure {
            return Err(RegistryError::Insecure);
        }
        let allow = registry.options.allow.as_ref();
        if allow.is_some_and(|hosts| !hosts.iter().any(|h| h.eq_ignore_ascii_case(name.host()))) {
            return Err(RegistryError::NotAllowed(name.host().to_owned()));
        }
        let scheme = if insecure { "http" } else { "https" };
        let text = format!("{scheme}://{}/v2/{}/{}/", name.host(), name.namespace(), name.model());
        let base = Url::parse(&text).map_err(|error| RegistryError::Nonsense(error.to_string()))?;
        check_address(&base)?;
        Ok(Session { registry: registry.clone(), base, token: Mutex::default() })
    }

    /// An address below the model's.
    pub fn url(&self, path: &str) -> Result<Url, RegistryError> {
        self.base.join(path).map_err(|error| RegistryError::Nonsense(error.to_string()))
    }

    /// Sends a request, with a token if the registry wants one, and follows redirects.
    ///
    /// # Errors
    /// Network; no right; a redirect that leads nowhere.
    pub async fn send(&self, call: Call) -> Result<Response, RegistryError> {
        let response = self.follow(&call).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let challenge = response.headers().get(WWW_AUTHENTICATE).and_then(|v| v.to_str().ok());
        let token = self.new_token(challenge.unwrap_or_default()).await?;
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
        let response = self.follow(&call).await?;
        match response.status() {
            StatusCode::UNAUTHORIZED => Err(RegistryError::Denied),
            _ => Ok(response),
        }
    }

    async fn follow(&self, call: &Call) -> Result<Response, RegistryError> {
        let mut url = call.url.clone();
        for _ in 0..=REDIRECTS {
            let response = self.send_once(call, &url).await?;
            let moved = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            let safe = matches!(call.method, Method::GET | Method::HEAD);
            let target = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let (true, true, Some(target)) = (moved, safe, target) else { return Ok(response) };
            let next = url.join(target);
            let next = next.map_err(|error| RegistryError::Nonsense(error.to_string()))?;
            if url.scheme() == "https" && next.scheme() != "https" {
                return Err(RegistryError::Insecure);
            }
            check_address(&next)?;
            url = next;
        }
        Err(RegistryError::Nonsense(format!("more than {REDIRECTS} redirects")))
    }

    async fn send_once(&self, call: &Call, url: &Url) -> Result<Response, RegistryError> {
        let mut request = self.registry.client.request(call.method.clone(), url.clone());
        request = request.headers(call.headers.clone());
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Only to the registry itself.
        if let Some(token) = token.filter(|_| url.origin() == self.base.origin()) {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(body) = &call.body {
            request = request.body(body.clone());
        }
        let idle = self.registry.options.idle;
        let sent = tokio::time::timeout(idle, request.send()).await;
        sent.map_err(|_| RegistryError::Idle(idle.as_secs()))?.map_err(RegistryError::transport)
    }

    /// Asks the registry's own token service.
    async fn new_token(&self, challenge: &str) -> Result<String, RegistryError> {
        let challenge = challenge.strip_prefix("Bearer ").ok_or(RegistryError::Denied)?;
        let fields = fields(challenge);
        let field = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        let mut realm = field("realm").and_then(|realm| Url::parse(realm).ok());
        let Some(url) = realm.as_mut() else { return Err(RegistryError::Denied) };
        if url.origin() != self.base.origin() {
            let (realm, host) = (shown(url), shown(&self.base));
            return Err(RegistryError::Realm { realm, host });
        }
        if let Some(service) = field("service") {
            url.query_pairs_mut().append_pair("service", service);
        }
        for scope in field("scope").unwrap_or_default().split(' ').filter(|scope| !scope.is_empty()) {
            url.query_pairs_mut().append_pair("scope", scope);
        }
        let response = self.send_once(&Call::new(Method::GET, url.clone()), url).await?;
        if !response.status().is_success() {
            return Err(RegistryError::Denied);
        }
        let body = self.read(response, TOKEN).await?;
        let reply: Value = serde_json::from_slice(&body)
            .map_err(|error| RegistryError::Nonsense(format!("token: {error}")))?;
        let token = reply.get("token").or_else(|| reply.get("access_token"));
        let token = token.and_then(Value::as_str).filter(|token| !token.is_empty());
        token.map(str::to_owned).ok_or(RegistryError::Denied)
    }

    /// A body of at most `limit` bytes.
    ///
    /// # Errors
    /// One that is longer, or does not come.
    pub async fn read(&self, response: Response, limit: usize) -> Result<Vec<u8>, RegistryError> {
        let mut response = response;
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk(&mut response).await? {
            if body.len() + chunk.len() > limit {
                return Err(RegistryError::Nonsense(format!("more than {limit} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// The next bytes of a body.
    ///
    /// # Errors
    /// Network; nothing for too long.
    pub async fn chunk(
        &self,
        response: &mut Response,
    ) -> Result<Option<bytes::Bytes>, RegistryError> {
        let idle: Duration = self.registry.options.idle;
        let chunk = tokio::time::timeout(idle, response.chunk()).await;
        chunk.map_err(|_| RegistryError::Idle(idle.as_secs()))?.map_err(RegistryError::transport)
    }

    /// The error that a refusal is.
    pub async fn refusal(&self, what: &'static str, mut response: Response) -> RegistryError {
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = self.chunk(&mut response).await {
            body.extend_from_slice(&chunk);
            if body.len() > SAID {
                body.truncate(SAID);
                break;
            }
        }
        let body = String::from_utf8_lossy(&body).trim().to_owned();
        RegistryError::Refused { what, status, body }
    }
}

fn shown(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        _ => url.to_string(),
    }
}

/// `realm="https://…",service="…"`
fn fields(text: &str) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',']).to_ascii_lowercase();
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        fields.push((name, value.to_owned()));
        rest = after;
    }
    fields
}

/// Refuses link-local addresses: there are the clouds' services that give out the
/// machine's rights.
fn check_address(url: &Url) -> Result<(), RegistryError> {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    let inside = match address {
        Ok(std::net::IpAddr::V4(v4)) => v4.is_link_local() || v4.is_broadcast(),
        Ok(std::net::IpAddr::V6(v6)) => {
            v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some_and(|v4| v4.is_link_local())
        }
        Err(_) => host.eq_ignore_ascii_case("metadata.google.internal"),
    };
    if inside { Err(RegistryError::Internal(host.to_owned())) } else { Ok(()) }
}
