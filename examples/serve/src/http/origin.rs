//! Which browsers' pages may ask (Origin), and under which names the server may be
//! asked (Host): without this any web page could use a local server.

use std::net::IpAddr;

/// Local pages and desktop programs.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "0.0.0.0"];
const APPS: [&str; 5] =
    ["app://*", "file://*", "tauri://*", "vscode-webview://*", "vscode-file://*"];

/// Whether a page of `origin` may ask. `extra` are the origins that were configured.
pub fn allowed(origin: &str, extra: &[String]) -> bool {
    let local = |host: &&str| {
        ["http://", "https://"].iter().any(|scheme| {
            let rest = origin.strip_prefix(scheme).and_then(|rest| rest.strip_prefix(*host));
            rest.is_some_and(|rest| rest.is_empty() || is_port(rest))
        })
    };
    extra.iter().any(|pattern| matches(pattern, origin))
        || LOCAL.iter().any(local)
        || APPS.iter().any(|pattern| matches(pattern, origin))
}

fn is_port(text: &str) -> bool {
    let digits = text.strip_prefix(':').unwrap_or_default();
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// At most one `*` stands for anything.
fn matches(pattern: &str, origin: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == origin,
        Some((start, end)) => {
            origin.len() >= start.len() + end.len()
                && origin.starts_with(start)
                && origin.ends_with(end)
        }
    }
}

/// Whether a server that only this machine reaches may be asked under this name. A page
/// that has its own name point to 127.0.0.1 must not pass.
pub fn host_allowed(host: &str) -> bool {
    let host = without_port(host);
    if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        return is_own(address);
    }
    let host = host.to_ascii_lowercase();
    host.is_empty()
        || host == "localhost"
        || [".localhost", ".local", ".internal"].iter().any(|end| host.ends_with(end))
        || machine_name().is_some_and(|name| name.eq_ignore_ascii_case(&host))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, _)) if !name.contains(':') || name.ends_with(']') => name,
        _ => host,
    }
}

/// Loopback, private, unspecified: addresses that no page of the internet has.
fn is_own(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_unspecified(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unspecified() || v6.is_unique_local(),
    }
}

fn machine_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = name.or_else(|| std::env::var("HOSTNAME").ok())?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}
