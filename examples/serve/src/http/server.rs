//! Sockets, and the way from a signal to the end.

use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::FutureExt;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::app::{App, Shared};
use crate::config::{Bind, Config};

use super::listen::listen;
use super::routes::router;

/// Connections at the same time; further ones wait in the system's queue.
const CONNECTIONS: usize = 4096;
/// A client has so long for a request's head.
const HEAD: Duration = Duration::from_secs(30);
/// Bytes of a request's head.
const HEAD_BYTES: usize = 64 << 10;
/// After a signal, answers have so long to end.
const DRAIN: Duration = Duration::from_secs(30);

/// Runs the server until SIGINT or SIGTERM, and then until its answers have ended.
///
/// # Errors
/// One sentence: the address is taken, the store cannot be opened.
pub async fn serve(config: Config) -> Result<(), String> {
    let bind = config.bind.clone();
    // Before anybody is told that the server is there: from now on no signal is lost.
    let stop = stop_signal();
    let app: Shared = Arc::new(App::start(config).await?);
    let listener = Listener::bind(&bind).await?;
    app.announce(&listener.address());
    run(listener, app, stop).await;
    if let Bind::Unix(path) = &bind {
        // Gone already is as good.
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

/// A socket that waits for connections.
pub enum Listener {
    /// Of the network.
    Tcp(TcpListener),
    /// Of the file system.
    Unix(UnixListener),
}

impl Listener {
    /// Opens the socket.
    ///
    /// # Errors
    /// One sentence with the address.
    pub async fn bind(bind: &Bind) -> Result<Self, String> {
        match bind {
            Bind::Tcp(host, port) => {
                let bound = listen(host, *port).await;
                let failed = |error: io::Error| match error.kind() {
                    io::ErrorKind::AddrInUse => format!(
                        "listen tcp {host}:{port}: bind: address already in use; is another \
                         server running? Choose another address with OLLAMA_HOST"
                    ),
                    _ => format!("listen tcp {host}:{port}: {error}"),
                };
                bound.map(Listener::Tcp).map_err(failed)
            }
            Bind::Unix(path) => Listener::unix(path).await,
        }
    }

    /// A socket that an ended server left is replaced; one that somebody answers is not.
    async fn unix(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        if path.exists() {
            if tokio::net::UnixStream::connect(path).await.is_ok() {
                return Err(format!("{shown}: another server answers there"));
            }
            let is_socket = std::fs::symlink_metadata(path).is_ok_and(|about| {
                use std::os::unix::fs::FileTypeExt;
                about.file_type().is_socket()
            });
            if !is_socket {
                return Err(format!("{shown}: is there already and is no socket"));
            }
            std::fs::remove_file(path).map_err(|error| format!("{shown}: {error}"))?;
        }
        UnixListener::bind(path).map(Listener::Unix).map_err(|error| format!("{shown}: {error}"))
    }

    /// Where clients find it.
    pub fn address(&self) -> String {
        match self {
            Listener::Tcp(listener) => {
                listener.local_addr().map_or_else(|_| "?".into(), |address| address.to_string())
            }
            Listener::Unix(listener) => {
                let address = listener.local_addr().ok();
                let path = address.and_then(|address| address.as_pathname().map(Path::to_owned));
                path.map_or_else(|| "?".into(), |path| format!("unix:{}", path.display()))
            }
        }
    }

    async fn accept(&self) -> io::Result<Box<dyn Socket>> {
        Ok(match self {
            Listener::Tcp(listener) => {
                let (socket, _) = listener.accept().await?;
                // Tokens are small and must not wait for each other.
                socket.set_nodelay(true)?;
                Box::new(socket)
            }
            Listener::Unix(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

/// A connection.
trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// Serves until `stop` ends, and then until answers have ended, half a minute at most.
pub async fn run(listener: Listener, app: Shared, stop: impl Future<Output = ()>) {
    let router = router(app.clone());
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut stop = pin!(stop);
    loop {
        let next = async {
            // Never closed.
            let permit = connections.clone().acquire_owned().await.ok();
            (permit, listener.accept().await)
        };
        tokio::select! {
            (permit, socket) = next => match socket {
                Ok(socket) => connection(socket, router.clone(), permit, &graceful),
                Err(error) => {
                    // Out of file descriptors, or a client that went away again.
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            () = &mut stop => break,
        }
    }
    // Those that the system has taken already get an answer: that the server is ending.
    while let Some(Ok(socket)) = listener.accept().now_or_never() {
        connection(socket, router.clone(), None, &graceful);
    }
    drop(listener);
    tracing::info!("ending: answers have {} s", DRAIN.as_secs());
    let ended = async {
        tokio::join!(app.scheduler.drain(DRAIN), graceful.shutdown());
    };
    // The drain ends streams at its own deadline; writing their last lines takes a moment.
    if tokio::time::timeout(DRAIN + Duration::from_secs(2), ended).await.is_err() {
        tracing::warn!("some connections were still open");
    }
}

fn connection(
    socket: Box<dyn Socket>,
    router: Router,
    permit: Option<OwnedSemaphorePermit>,
    graceful: &GracefulShutdown,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(socket), TowerToHyperService::new(router));
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection ended early");
        }
        drop(permit);
    });
}

/// Catches SIGINT and SIGTERM from this call on. What is returned ends with the first; the
/// second ends the process.
fn stop_signal() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    async {
        let (Ok(mut interrupt), Ok(mut terminate)) = signals else {
            tracing::error!("signals cannot be caught; the server ends without draining");
            return std::future::pending().await;
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            std::process::exit(1);
        });
    }
}
