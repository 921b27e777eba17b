//! The accept loop of one listener.
//!
//! hyper's own connection builder is used instead of `axum::serve` because only it lets us bound the
//! time for headers: a client that opens a connection and sends a byte a minute must not be able to
//! hold it. The number of connections is bounded too; more of them wait in the kernel's backlog. Who is at
//! the other end is known only by the first request, so when fewer than half of the places are free, a
//! connection has less time for its head and ends with its answer: whoever keeps connections without using
//! them does not keep others out.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::patience::Patient;
use super::seats::closing;

/// Limits of a listener.
#[derive(Debug, Clone, Copy)]
pub struct ServeLimits {
    pub max_connections: usize,
    /// From the opening of a connection, or the last answer, to the end of the next headers.
    pub header_timeout: Duration,
    /// How long a client may leave what it is sent untaken.
    pub write_timeout: Duration,
    /// How long open requests may go on after a shutdown was asked for.
    pub drain: Duration,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            max_connections: 4096,
            header_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(120),
            drain: Duration::from_secs(10),
        }
    }
}

/// The time for a head while places are short, at most: a client that has something to ask asks at once.
const SHORT_HEAD: Duration = Duration::from_secs(2);

/// The places of a listener.
#[derive(Clone)]
struct Places {
    free: Arc<Semaphore>,
    most: usize,
}

impl Places {
    fn are_short(&self) -> bool {
        self.free.available_permits() < self.most / 2
    }
}

/// A listener of either kind.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Who is at the other end of a connection; an extension of every request.
#[derive(Debug, Clone, Copy)]
pub enum Peer {
    Tcp(SocketAddr),
    /// The user id that the kernel vouches for.
    Unix {
        uid: u32,
    },
}

enum Stream {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

/// Serves until `shutdown`, then drains.
pub async fn serve(listener: Listener, router: Router, limits: ServeLimits, shutdown: CancellationToken) {
    let graceful = GracefulShutdown::new();
    let places = Places {
        free: Arc::new(Semaphore::new(limits.max_connections)),
        most: limits.max_connections,
    };
    let mut connections = JoinSet::new();
    loop {
        let place = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            place = Arc::clone(&places.free).acquire_owned() => match place {
                Ok(place) => place,
                Err(_closed) => break,
            },
        };
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = accept(&listener) => accepted,
        };
        // Finished connections are reaped here, so that the set does not grow with the daemon's age.
        while connections.try_join_next().is_some() {}
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, mostly: give the open connections a moment to end.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (service, places) = (router.clone(), places.clone());
        let connection = async move |watcher: hyper_util::server::graceful::Watcher| {
            match stream {
                Stream::Tcp(stream) => {
                    let _ = stream.set_nodelay(true);
                    connect(stream, service, peer, (limits, places), watcher).await;
                }
                Stream::Unix(stream) => connect(stream, service, peer, (limits, places), watcher).await,
            }
            drop(place);
        };
        connections.spawn(connection(graceful.watcher()));
    }
    drop(listener);
    if tokio::time::timeout(limits.drain, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests were still open when the time to drain was over; they are cut");
    }
    connections.shutdown().await;
}

async fn accept(listener: &Listener) -> std::io::Result<(Stream, Peer)> {
    match listener {
        Listener::Tcp(listener) => {
            let (stream, address) = listener.accept().await?;
            Ok((Stream::Tcp(stream), Peer::Tcp(address)))
        }
        Listener::Unix(listener) => {
            let (stream, _) = listener.accept().await?;
            let credentials = rustix::net::sockopt::socket_peercred(stream.as_fd())?;
            Ok((
                Stream::Unix(stream),
                Peer::Unix {
                    uid: credentials.uid.as_raw(),
                },
            ))
        }
    }
}

async fn connect<S>(
    stream: S,
    router: Router,
    peer: Peer,
    (limits, places): (ServeLimits, Places),
    watcher: hyper_util::server::graceful::Watcher,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let header_timeout = if places.are_short() {
        limits.header_timeout.min(SHORT_HEAD)
    } else {
        limits.header_timeout
    };
    let service = router
        .map_request(move |mut request: Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(peer);
            request.map(axum::body::Body::new)
        })
        .map_response(move |response| {
            if places.are_short() {
                closing(response)
            } else {
                response
            }
        });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(64 * 1024)
        .serve_connection(
            TokioIo::new(Patient::new(stream, limits.write_timeout)),
            TowerToHyperService::new(service),
        );
    if let Err(error) = watcher.watch(connection).await {
        // A client that goes away or dawdles is everyday life, not news.
        tracing::debug!(%error, "a connection ended early");
    }
}
