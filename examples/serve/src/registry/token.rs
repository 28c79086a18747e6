//! Tokens: a registry that wants one says where it is given out.

use reqwest::{Method, Url};
use serde_json::Value;

use super::RegistryError;
use super::session::{Call, Session};

/// Bytes of a token's JSON.
const TOKEN: usize = 64 << 10;

impl Session {
    /// Asks the registry's own token service.
    ///
    /// # Errors
    /// A service on another host; no token.
    pub async fn new_token(&self, challenge: &str) -> Result<String, RegistryError> {
        let (kind, challenge) = challenge.split_once(' ').ok_or(RegistryError::Denied)?;
        if !kind.eq_ignore_ascii_case("bearer") {
            return Err(RegistryError::Denied);
        }
        let fields = fields(challenge);
        let field = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        let mut realm = field("realm").and_then(|realm| Url::parse(realm).ok());
        let Some(url) = realm.as_mut() else { return Err(RegistryError::Denied) };
        if url.origin() != self.base.origin() {
            let (mut realm, mut host) = (shown(url), shown(&self.base));
            if realm == host {
                (realm, host) = (origin(url), origin(&self.base));
            }
            return Err(RegistryError::Realm { realm, host });
        }
        if let Some(service) = field("service") {
            url.query_pairs_mut().append_pair("service", service);
        }
        for scope in field("scope").unwrap_or_default().split(' ').filter(|scope| !scope.is_empty())
        {
            url.query_pairs_mut().append_pair("scope", scope);
        }
        let response = self.send_once(&Call::new(Method::GET, url.clone()), url, None).await?;
        if !response.status().is_success() {
            return Err(RegistryError::Denied);
        }
        let body = self.read(response, TOKEN).await?;
        let reply: Value = serde_json::from_slice(&body)
            .map_err(|error| RegistryError::Nonsense(format!("token: {error}")))?;
        let token = reply.get("token").or_else(|| reply.get("access_token"));
        // It becomes part of a header.
        let good = |token: &&str| !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
        let token = token.and_then(Value::as_str).filter(good);
        token.map(str::to_owned).ok_or(RegistryError::Denied)
    }
}

fn shown(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        _ => url.to_string(),
    }
}

fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
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
