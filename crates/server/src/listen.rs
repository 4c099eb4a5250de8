//! Connections: accepting them, bounding them, and ending them in order.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::server::TlsStream;
use tower::ServiceExt;

use crate::tls::{self, TlsAcceptor};

/// Bounds on connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenOptions {
    /// Connections at the same time; more wait to be accepted.
    pub connections: usize,
    /// How long a client may take for the head of a request.
    pub head: Duration,
    /// How long requests that are being answered may take to end when the server stops.
    pub drain: Duration,
}

impl Default for ListenOptions {
    fn default() -> ListenOptions {
        ListenOptions { connections: 4096, head: Duration::from_secs(10), drain: Duration::from_secs(60) }
    }
}

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Turns an accepted connection into a stream of bytes: as it is, or through TLS.
pub trait Wrap: Clone + Send + Sync + 'static {
    /// The stream.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Makes the stream.
    fn wrap(&self, stream: TcpStream) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// No TLS.
#[derive(Clone, Copy, Debug)]
pub struct Plain;

impl Wrap for Plain {
    type Stream = TcpStream;

    async fn wrap(&self, stream: TcpStream) -> io::Result<TcpStream> {
        Ok(stream)
    }
}

/// TLS by a certificate.
#[derive(Clone)]
pub struct Encrypted(pub TlsAcceptor);

impl Wrap for Encrypted {
    type Stream = TlsStream<TcpStream>;

    async fn wrap(&self, stream: TcpStream) -> io::Result<Self::Stream> {
        tls::accept(&self.0, stream).await
    }
}

/// Serves `app` on `listener` until `stop` is done; then accepts nothing more and waits for what is being answered,
/// `options.drain` at most. Says whether everything ended in time.
pub async fn serve<W: Wrap>(
    listener: TcpListener,
    app: Router,
    wrap: W,
    options: ListenOptions,
    stop: impl Future<Output = ()>,
) -> bool {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(options.connections));
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut stop => break,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(_) => {
                // Out of file descriptors, or the client has gone: neither ends a server.
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        // Small events must leave at once.
        let _ = stream.set_nodelay(true);
        let (app, wrap, watcher) = (app.clone(), wrap.clone(), graceful.watcher());
        tokio::spawn(async move {
            let handshake = tokio::time::timeout(options.head, wrap.wrap(stream));
            if let Ok(Ok(stream)) = handshake.await {
                answer(stream, address, app, options, watcher).await;
            }
            drop(place);
        });
    }
    drop(listener);
    tokio::time::timeout(options.drain, graceful.shutdown()).await.is_ok()
}

/// Answers the requests of one connection.
async fn answer<S>(stream: S, address: SocketAddr, app: Router, options: ListenOptions, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let app = app.clone();
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(Peer(address));
            match app.oneshot(request).await {
                Ok(response) => Ok::<_, Infallible>(response),
                Err(never) => match never {},
            }
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(options.head).max_headers(100);
    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    // What goes wrong on a connection, its client knows better than we do.
    let _ = watcher.watch(connection).await;
}
