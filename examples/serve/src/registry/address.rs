//! Addresses that no registry has: there are the clouds' services that give out the
//! machine's rights.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::RegistryError;

/// Services with secrets that are not link-local: Alibaba's, Oracle's, AWS's by IPv6.
const SECRETS_V4: [Ipv4Addr; 2] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192)];
const SECRETS_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

fn is_forbidden(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast() || SECRETS_V4.contains(&v4),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_multicast() || v6 == SECRETS_V6,
    }
}

/// Looks at an address before it is used: only http and https, and no number that is
/// forbidden.
///
/// # Errors
/// Such an address.
pub(super) fn check(url: &Url) -> Result<(), RegistryError> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(RegistryError::Nonsense(format!("an address with {}:", url.scheme())));
    }
    let host = url.host_str().unwrap_or_default();
    let number = host.trim_matches(['[', ']']).parse::<IpAddr>();
    if number.is_ok_and(is_forbidden) {
        return Err(RegistryError::Internal(host.to_owned()));
    }
    Ok(())
}

/// The system's names, but none for forbidden numbers.
pub(super) struct Names;

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> =
                found.filter(|address| !is_forbidden(address.ip())).collect();
            if allowed.is_empty() {
                return Err(RegistryError::Internal(name.as_str().to_owned()).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_any_form() {
        let forbidden = [
            "http://169.254.169.254/",
            "http://0xA9FEA9FE/",
            "http://0251.0376.0251.0376/",
            "http://169.254.1/",
            "http://[fe80::1]/",
            "http://[febf::1]/",
            "http://[::ffff:a9fe:1]/",
            "http://[fd00:ec2::254]/",
            "http://100.100.100.200/",
            "ftp://example.com/",
            "file:///etc/passwd",
            "data:,x",
        ];
        for text in forbidden {
            assert!(check(&Url::parse(text).unwrap()).is_err(), "{text}");
        }
        for text in
            ["http://127.0.0.1:5000/", "https://10.0.0.1/", "https://[::1]/", "https://a.b/"]
        {
            check(&Url::parse(text).unwrap()).unwrap();
        }
    }

    #[tokio::test]
    async fn names_of_this_machine_are_found() {
        let name = "localhost".parse().unwrap();
        assert!(Names.resolve(name).await.unwrap().all(|address| address.ip().is_loopback()));
        let name = "169.254.169.254".parse().unwrap();
        assert!(Names.resolve(name).await.is_err());
    }
}
