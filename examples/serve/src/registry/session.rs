//! Requests to one registry: its address, its token, its redirects.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{
    AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LOCATION, WWW_AUTHENTICATE,
};
use reqwest::{Method, Response, StatusCode, Url};

use crate::name::ModelName;

use super::{Registry, RegistryError, address};

/// Redirects of one request.
const REDIRECTS: usize = 10;
/// Bytes of an error's text that are shown.
const SAID: usize = 8 << 10;
/// Small answers must be complete after so many idle times.
const PATIENCE: u32 = 4;
/// Bytes per second that a sent body may be slow as.
const SLOWEST: u64 = 8 << 10;

/// A registry, as one pull or push uses it.
pub(super) struct Session {
    pub registry: Registry,
    /// `https://host/v2/namespace/model/`
    pub base: Url,
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
        let base = Url::parse(&text).map_err(|_| RegistryError::NoHost(name.host().to_owned()))?;
        address::check(&base)?;
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
            let token = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
            // Only to the registry itself.
            let token = token.filter(|_| url.origin() == self.base.origin());
            let response = self.send_once(call, &url, token.as_deref()).await?;
            let moved = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            let safe = matches!(call.method, Method::GET | Method::HEAD);
            let target = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let (true, true, Some(target)) = (moved, safe, target) else { return Ok(response) };
            let next = url.join(target);
            let next = next.map_err(|error| RegistryError::Nonsense(error.to_string()))?;
            check_move(&url, &next)?;
            url = next;
        }
        Err(RegistryError::Nonsense(format!("more than {REDIRECTS} redirects")))
    }

    /// Sends a request to one address.
    ///
    /// # Errors
    /// Network; nothing for too long.
    pub async fn send_once(
        &self,
        call: &Call,
        url: &Url,
        token: Option<&str>,
    ) -> Result<Response, RegistryError> {
        let mut request = self.registry.client(url).request(call.method.clone(), url.clone());
        request = request.headers(call.headers.clone());
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let mut patience = self.registry.options.idle;
        if let Some(body) = &call.body {
            patience += Duration::from_secs(body.len() as u64 / SLOWEST);
            request = request.body(body.clone());
        }
        let sent = tokio::time::timeout(patience, request.send()).await;
        sent.map_err(|_| RegistryError::Idle(patience))?.map_err(RegistryError::transport)
    }

    /// A body of at most `limit` bytes.
    ///
    /// # Errors
    /// One that is longer, or does not come.
    pub async fn read(&self, response: Response, limit: usize) -> Result<Vec<u8>, RegistryError> {
        let patience = self.registry.options.idle * PATIENCE;
        let mut body = Vec::new();
        let read = self.read_to(response, limit, &mut body);
        let complete = tokio::time::timeout(patience, read).await;
        if !complete.map_err(|_| RegistryError::Slow(patience))?? {
            return Err(RegistryError::Nonsense(format!("more than {limit} bytes")));
        }
        Ok(body)
    }

    /// Reads up to `limit` bytes; whether that was all.
    async fn read_to(
        &self,
        mut response: Response,
        limit: usize,
        body: &mut Vec<u8>,
    ) -> Result<bool, RegistryError> {
        while let Some(chunk) = self.chunk(&mut response).await? {
            let fits = chunk.len().min(limit - body.len());
            body.extend_from_slice(&chunk[..fits]);
            if fits < chunk.len() {
                return Ok(false);
            }
        }
        Ok(true)
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
        chunk.map_err(|_| RegistryError::Idle(idle))?.map_err(RegistryError::transport)
    }

    /// The error that a refusal is.
    pub async fn refusal(&self, what: &'static str, response: Response) -> RegistryError {
        let status = response.status().as_u16();
        let mut body = Vec::new();
        let read = self.read_to(response, SAID, &mut body);
        // What came in time is enough.
        let _ = tokio::time::timeout(self.registry.options.idle, read).await;
        // It may be shown by a terminal.
        let body = String::from_utf8_lossy(&body).replace(char::is_control, " ");
        RegistryError::Refused { what, status, body: body.trim().to_owned() }
    }
}

/// Whether a request may go on to another address.
///
/// # Errors
/// Not from https to http; not where no registry is.
pub(super) fn check_move(from: &Url, to: &Url) -> Result<(), RegistryError> {
    if from.scheme() == "https" && to.scheme() == "http" {
        return Err(RegistryError::Insecure);
    }
    address::check(to)
}
