//! Addresses in the form of `OLLAMA_HOST`, as the server and the command line read them.

use std::path::PathBuf;

/// The port of a server that does not say.
const PORT: u16 = 11434;

/// An address, with nothing decided that server and client decide differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `unix:PATH`
    Unix(PathBuf),
    /// `[SCHEME://]HOST[:PORT][/PATH]`
    Tcp {
        /// `http`, `https`, if it is there.
        scheme: Option<String>,
        /// Without the brackets of IPv6; may be empty.
        host: String,
        /// The port; without one that of the scheme.
        port: u16,
        /// Whether there is a port in the text.
        has_port: bool,
        /// Whether that port is none: the usual one is used then, as Ollama does it.
        bad_port: bool,
        /// What follows, without a slash at its end.
        path: String,
    },
}

impl Address {
    /// Reads an address.
    pub fn parse(text: &str) -> Self {
        if let Some(path) = text.strip_prefix("unix:") {
            return Address::Unix(path.strip_prefix("//").unwrap_or(path).into());
        }
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None if text == "ollama.com" => (Some("https"), text),
            None => (None, text),
        };
        let usual = match scheme {
            Some("http") => 80,
            Some("https") => 443,
            _ => PORT,
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => (&rest[..at], rest[at..].trim_end_matches('/')),
            None => (rest, ""),
        };
        let (host, digits) = match authority.rsplit_once(':') {
            // Several colons without brackets: an IPv6 address alone.
            Some((host, digits)) if !host.contains(':') || host.ends_with(']') => {
                (host, Some(digits))
            }
            _ => (authority, None),
        };
        let port = digits.map_or(Some(usual), |digits| digits.parse().ok());
        Address::Tcp {
            scheme: scheme.map(str::to_owned),
            host: host.trim_matches(['[', ']']).to_owned(),
            port: port.unwrap_or(usual),
            has_port: digits.is_some(),
            bad_port: port.is_none(),
            path: path.to_owned(),
        }
    }
}

/// Whether a host is this machine, as far as its text says: such a host is never asked
/// through a proxy.
pub fn is_loopback(host: &str) -> bool {
    let number = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    number.map_or(host.eq_ignore_ascii_case("localhost"), |number| number.is_loopback())
}
