//! A small application to try everup with, carried in the binary so that the first steps need nothing else. It names
//! itself in every answer, is slow on demand, streams, echoes, speaks WebSocket and keeps sessions in its memory
//! (which is why stickiness exists). It is a demonstration: nothing in everup depends on it.

mod account;
mod answers;
mod page;
mod stream;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use answers::App;

/// How long open WebSockets may take to say goodbye.
const FAREWELL: Duration = Duration::from_secs(2);

/// One instance of the sample application, to be served.
pub(crate) struct Sample {
    /// Where it listens; port 0 takes a free one.
    pub(crate) address: SocketAddr,
    /// What it calls itself.
    pub(crate) name: String,
    /// Which revision it says it is.
    pub(crate) revision: String,
    /// What it waits before every answer but `/healthz`.
    pub(crate) delay: Duration,
}

/// Serves until SIGTERM or SIGINT and finishes the requests in flight.
///
/// # Errors
/// When the address cannot be had.
pub(crate) async fn serve(Sample { address, name, revision, delay }: Sample) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    println!("sample-app: {name} ({revision}) listens on {}", listener.local_addr()?);

    let app = App::new(&name, &revision, delay)?;
    let leaving = app.leaving();
    let told_to_go = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        println!("sample-app: finishing requests in flight");
        leaving.send_replace(true);
    };
    let leaving = app.leaving();
    // A socket without TCP_NODELAY still answers, only later: no reason to drop it.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    axum::serve(listener, app.router()).with_graceful_shutdown(told_to_go).await?;
    // Upgraded connections are no requests any more: they are told, and waited for a moment.
    if tokio::time::timeout(FAREWELL, leaving.closed()).await.is_err() {
        println!("sample-app: some WebSockets stayed open to the end");
    }
    println!("sample-app: done");
    Ok(())
}
