//! Listening sockets of the network, opened as Go's programs do.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, lookup_host};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Listens at `host`. What means every address (`0.0.0.0`, `::`) is both families, on one
/// socket; of a name with several addresses an IPv4 one comes first.
///
/// # Errors
/// The system's.
pub async fn listen(host: &str, port: u16) -> io::Result<TcpListener> {
    let mut addresses: Vec<SocketAddr> = lookup_host((host, port)).await?.collect();
    if addresses.iter().all(|address| address.ip().is_unspecified()) {
        match both_families(port) {
            // Without IPv6 there is the one.
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                tracing::debug!(%error, "no socket for IPv4 and IPv6");
            }
            listener => return listener,
        }
    }
    addresses.sort_by_key(SocketAddr::is_ipv6);
    TcpListener::bind(&addresses[..]).await
}

fn both_families(port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
    // The system's default may be the other.
    socket.set_only_v6(false)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn every_address_is_both_families() {
        for host in ["0.0.0.0", "::"] {
            let listener = listen(host, 0).await.unwrap();
            let address = listener.local_addr().unwrap();
            TcpStream::connect((Ipv4Addr::LOCALHOST, address.port())).await.unwrap();
            // Machines without IPv6 have only the other.
            if address.is_ipv6() && TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.is_ok() {
                TcpStream::connect((Ipv6Addr::LOCALHOST, address.port())).await.unwrap();
            }
            let taken = listen(host, address.port()).await.unwrap_err();
            assert_eq!(taken.kind(), io::ErrorKind::AddrInUse, "{host}");
        }
    }

    #[tokio::test]
    async fn localhost_is_found_at_its_ipv4_address() {
        let listener = listen("localhost", 0).await.unwrap();
        assert_eq!(listener.local_addr().unwrap().ip(), Ipv4Addr::LOCALHOST);
    }
}
