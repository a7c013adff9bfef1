//! The two servers: accept on an inherited socket, speak HTTP/1.1 within limits, hand each request to the router.
//!
//! They run on the caller's runtime and end with it, or when nobody takes commands any more: then no further request is
//! taken, and connections end with the answer that they wait for. A handler that panics costs its caller a 500 and nobody else
//! anything.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::Response;
use everup_observe::contained_future;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use crate::command::Commands;
use crate::router;

/// A request's head, at most; more is answered 431. An instance's name is the longest part of ours.
const HEAD_BYTES: usize = 16 * 1024;

/// The head must be there within this time.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// Connections served at once, per socket: further ones wait in the accept queue.
const CONNECTIONS: usize = 64;

/// Pause after an accept that failed for want of resources.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What keeps a server from starting. Ours or the operator's fault; nothing a client sends comes here.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The inherited descriptor is no listening socket of the kind expected.
    #[error("the inherited {what} socket cannot be used: {source}")]
    Socket {
        /// `admin` or `metrics`.
        what: &'static str,
        /// The system's reason.
        source: io::Error,
    },
}

/// Serves the admin API on a listening unix socket until the future is dropped.
///
/// # Errors
/// At once, if `listener` is no listening unix socket. Must be called within a tokio runtime.
pub fn serve_admin(listener: OwnedFd, commands: Commands) -> Result<impl Future<Output = ()>, AdminError> {
    let listener = std::os::unix::net::UnixListener::from(listener);
    let listener = listener
        .set_nonblocking(true)
        .and_then(|()| UnixListener::from_std(listener))
        .map_err(|source| AdminError::Socket { what: "admin", source })?;
    let router = router::admin(commands.clone());
    Ok(async move {
        let accept = || {
            let listener = &listener;
            async move { listener.accept().await.map(|(stream, _)| stream) }
        };
        serve("admin", accept, router, commands).await;
    })
}

/// Serves `/metrics`, `/healthz` and `/readyz` on a listening TCP socket until the future is dropped.
///
/// # Errors
/// At once, if `listener` is no listening TCP socket. Must be called within a tokio runtime.
pub fn serve_metrics(listener: OwnedFd, commands: Commands) -> Result<impl Future<Output = ()>, AdminError> {
    let listener = std::net::TcpListener::from(listener);
    let listener = listener
        .set_nonblocking(true)
        .and_then(|()| TcpListener::from_std(listener))
        .map_err(|source| AdminError::Socket { what: "metrics", source })?;
    let router = router::metrics(commands.clone());
    Ok(async move {
        let accept = || {
            let listener = &listener;
            async move { listener.accept().await.map(|(stream, _)| stream) }
        };
        serve("metrics", accept, router, commands).await;
    })
}

async fn serve<S, A, F>(what: &str, accept: A, router: Router, commands: Commands)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Fn() -> F,
    F: Future<Output = io::Result<S>>,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let accepted = async {
            everup_failpoint::hit(what);
            accept().await
        };
        let accepted = tokio::select! {
            () = commands.closed() => return,
            accepted = contained_future("a server", accepted) => accepted,
        };
        let failed_inside = || Err(io::Error::other("the server failed inside"));
        match accepted.unwrap_or_else(failed_inside) {
            Ok(stream) => {
                let (router, commands) = (router.clone(), commands.clone());
                tokio::spawn(async move {
                    converse(stream, router, commands).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, what, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One connection. Whatever goes wrong on it is the client's: it ends here.
async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    router: Router,
    commands: Commands,
) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let answer = router.call(request);
        guarded(Box::pin(answer))
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(HEAD_BYTES);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = commands.closed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "admin connection ended");
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

/// Runs a handler in a task of its own, which contains its panic. A caller that goes away ends it.
async fn guarded(answer: Answer) -> Result<Response, Infallible> {
    let mut task = AbortOnDrop(tokio::spawn(answer));
    match (&mut task.0).await {
        Ok(answer) => answer,
        Err(panicked) => {
            tracing::error!(error = %panicked, "an admin request failed inside everup");
            Ok(router::error(
                StatusCode::INTERNAL_SERVER_ERROR,
                "everup failed inside; its log says where. Traffic goes on.",
            ))
        }
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<Result<Response, Infallible>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests;
