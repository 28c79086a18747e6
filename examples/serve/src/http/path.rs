//! Paths as clients write them: a base URL that ends with a slash makes two of one.

use axum::extract::Request;
use axum::http::Uri;
use axum::http::uri::PathAndQuery;

/// The request with its path cleaned: `//api/tags` and `/./api/tags` are `/api/tags`. A
/// slash at the end stays.
pub fn cleaned(mut request: Request) -> Request {
    if let Some(path) = clean(request.uri().path()) {
        let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
        let mut parts = request.uri().clone().into_parts();
        // Made of what a path and a query were.
        parts.path_and_query = PathAndQuery::try_from(format!("{path}{query}")).ok();
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    request
}

/// A path without empty parts, `.` and `..`; none if it has none.
fn clean(path: &str) -> Option<String> {
    let rest = path.strip_prefix('/')?;
    let inner = rest.strip_suffix('/').unwrap_or(rest);
    let odd = |part: &str| matches!(part, "" | "." | "..");
    if rest.is_empty() || !(inner.split('/').any(odd)) {
        return None;
    }
    let mut parts = Vec::new();
    for part in inner.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let end = if rest.ends_with('/') && !parts.is_empty() { "/" } else { "" };
    Some(format!("/{}{end}", parts.join("/")))
}

/// What stands before a known path at the end of `path`, as proxies leave it there.
pub fn prefix<'p>(path: &'p str, known: &str) -> Option<&'p str> {
    path.strip_suffix(known).filter(|prefix| known.len() > 1 && prefix.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_and_dots_go() {
        for (path, expected) in [
            ("//api/tags", Some("/api/tags")),
            ("/v1//models", Some("/v1/models")),
            ("/./api/tags", Some("/api/tags")),
            ("/v1/../api/tags", Some("/api/tags")),
            ("/../../api/tags", Some("/api/tags")),
            ("///", Some("/")),
            ("//api/tags/", Some("/api/tags/")),
            ("/api/tags", None),
            ("/api/tags/", None),
            ("/", None),
            ("/v1/models/a.b", None),
        ] {
            assert_eq!(clean(path).as_deref(), expected, "{path}");
        }
    }
}
