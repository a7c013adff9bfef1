//! What the sample application answers, path by path. Every answer says which instance and which revision gave it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use axum::body::Body;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Query, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::account::{self, Sessions};
use super::page;
use super::stream::Filler;

/// The longest that `/slow` sleeps in milliseconds: longer than any sensible timeout in front of it.
const SLOWEST_MS: u64 = 60_000;
/// The most that `/bytes` sends: enough to see streaming, not enough to fill a disk by mistake.
const MOST_BYTES: u64 = 1 << 30;
/// The largest WebSocket message in bytes that is echoed.
const MESSAGE_BYTES: usize = 1 << 20;

/// One instance of the sample application. Clones share everything.
#[derive(Clone)]
pub(super) struct App(Arc<Inner>);

struct Inner {
    name: String,
    revision: String,
    /// The same two, ready for the head of an answer.
    instance_header: HeaderValue,
    revision_header: HeaderValue,
    delay: Duration,
    /// Requests answered, health checks not counted.
    count: AtomicU64,
    leaving: Arc<watch::Sender<bool>>,
    sessions: Sessions,
}

#[derive(Serialize)]
struct WhoAmI<'a> {
    instance: &'a str,
    revision: &'a str,
    pid: u32,
    count: u64,
}

#[derive(Deserialize)]
struct Slow {
    ms: u64,
}

#[derive(Deserialize)]
struct Bytes {
    n: u64,
}

impl App {
    /// An instance called `name` of `revision`, which waits `delay` before every answer.
    pub(super) fn new(name: &str, revision: &str, delay: Duration) -> anyhow::Result<Self> {
        let header =
            |text: &str| HeaderValue::from_str(text).with_context(|| format!("`{text}` cannot be a name"));
        Ok(Self(Arc::new(Inner {
            name: name.into(),
            revision: revision.into(),
            instance_header: header(name)?,
            revision_header: header(revision)?,
            delay,
            count: AtomicU64::new(0),
            leaving: Arc::new(watch::Sender::new(false)),
            sessions: Sessions::default(),
        })))
    }

    /// Turns true when the instance shall go; closed when no WebSocket is open.
    pub(super) fn leaving(&self) -> Arc<watch::Sender<bool>> {
        Arc::clone(&self.0.leaving)
    }

    /// What this instance calls itself.
    pub(super) fn name(&self) -> &str {
        &self.0.name
    }

    /// Who is logged in here.
    pub(super) fn sessions(&self) -> &Sessions {
        &self.0.sessions
    }

    /// Every path.
    pub(super) fn router(self) -> Router {
        Router::new()
            .route("/", get(page::page))
            .route("/whoami", get(whoami))
            .route("/slow", get(slow))
            .route("/bytes", get(bytes))
            .route("/echo", post(echo))
            .route("/ws", get(websocket))
            .route("/login", post(account::login))
            .route("/account", get(account::account))
            .layer(from_fn_with_state(self.clone(), counted_and_delayed))
            .route("/healthz", get(async || "ok\n"))
            .layer(from_fn_with_state(self.clone(), signed))
            .with_state(self)
    }
}

/// Every answer carries who gave it.
async fn signed(State(app): State<App>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert("x-instance", app.0.instance_header.clone());
    response.headers_mut().insert("x-revision", app.0.revision_header.clone());
    response
}

async fn counted_and_delayed(State(app): State<App>, request: Request, next: Next) -> Response {
    app.0.count.fetch_add(1, Ordering::Relaxed);
    if !app.0.delay.is_zero() {
        tokio::time::sleep(app.0.delay).await;
    }
    next.run(request).await
}

async fn whoami(State(app): State<App>) -> Response {
    let Inner { name, revision, count, .. } = &*app.0;
    let count = count.load(Ordering::Relaxed);
    Json(WhoAmI { instance: name, revision, pid: std::process::id(), count }).into_response()
}

async fn slow(Query(Slow { ms }): Query<Slow>) -> Response {
    if ms > SLOWEST_MS {
        return (StatusCode::BAD_REQUEST, format!("ms is at most {SLOWEST_MS}\n")).into_response();
    }
    tokio::time::sleep(Duration::from_millis(ms)).await;
    format!("slept {ms} ms\n").into_response()
}

async fn bytes(Query(Bytes { n }): Query<Bytes>) -> Response {
    if n > MOST_BYTES {
        return (StatusCode::BAD_REQUEST, format!("n is at most {MOST_BYTES}\n")).into_response();
    }
    let octets = HeaderValue::from_static("application/octet-stream");
    ([(CONTENT_TYPE, octets)], Body::new(Filler::new(n))).into_response()
}

/// Gives the body back while it is still coming in.
async fn echo(request: Request) -> Response {
    let (head, body) = request.into_parts();
    let octets = HeaderValue::from_static("application/octet-stream");
    let kind = head.headers.get(CONTENT_TYPE).cloned().unwrap_or(octets);
    ([(CONTENT_TYPE, kind)], body).into_response()
}

async fn websocket(State(app): State<App>, upgrade: WebSocketUpgrade) -> Response {
    let leaving = app.0.leaving.subscribe();
    upgrade.max_message_size(MESSAGE_BYTES).on_upgrade(move |socket| echo_messages(socket, leaving))
}

/// Echoes text and binary messages until either side goes. A send that fails means that the peer is gone: the end.
async fn echo_messages(mut socket: WebSocket, mut leaving: watch::Receiver<bool>) {
    loop {
        let message = tokio::select! {
            message = socket.recv() => message,
            _ = leaving.wait_for(|leaving| *leaving) => break,
        };
        let echoed = match message {
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => socket.send(message).await,
            // They are answered by the next `recv`, which also ends the loop after a close.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_))) => continue,
            Some(Err(_)) | None => return,
        };
        if echoed.is_err() {
            return;
        }
    }
    let goodbye = CloseFrame { code: close_code::AWAY, reason: "restarting".into() };
    let _peer_may_be_gone = socket.send(Message::Close(Some(goodbye))).await;
}
