//! The routes of both servers and their handlers: each turns a request into one [`Command`] and its answer into
//! JSON (text for the metrics address).

use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use everup_core::ids::InstanceId;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::accept::Format;
use crate::api::{Done, DrainAnswer, ErrorAnswer};
use crate::command::{Command, Commands, Refusal};
use crate::deploy_routes;
use crate::reloading::NotReloaded;

/// Every route of the admin socket as (method, path): the description of the API is tested against it.
pub const ADMIN_ROUTES: &[(&str, &str)] = &[
    ("get", "/v1/status"),
    ("get", "/v1/events"),
    ("get", "/v1/requests/{id}"),
    ("get", "/v1/plan"),
    ("post", "/v1/reload"),
    ("post", "/v1/upgrade"),
    ("get", "/v1/services/{service}/plan"),
    ("get", "/v1/services/{service}/deployment"),
    ("get", "/v1/services/{service}/deployments"),
    ("post", "/v1/services/{service}/deploy"),
    ("post", "/v1/services/{service}/promote"),
    ("post", "/v1/services/{service}/pause"),
    ("post", "/v1/services/{service}/resume"),
    ("post", "/v1/services/{service}/abort"),
    ("post", "/v1/services/{service}/rollback"),
    ("post", "/v1/services/{service}/lock"),
    ("post", "/v1/services/{service}/unlock"),
    ("post", "/v1/services/{service}/instances/{instance}/drain"),
    ("post", "/v1/services/{service}/instances/{instance}/undrain"),
    ("post", "/v1/services/{service}/instances/{instance}/weight"),
    ("post", "/v1/services/{service}/instances/{instance}/kill"),
];

/// Every route of the metrics address as (method, path).
pub const METRICS_ROUTES: &[(&str, &str)] = &[("get", "/metrics"), ("get", "/healthz"), ("get", "/readyz")];

/// The largest body the API reads: no request of version 1 needs one.
const BODY_BYTES: usize = 64 * 1024;

/// The longest a drain may be waited for, so that no caller can park a connection for ever.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// The router of the admin socket.
pub(crate) fn admin(commands: Commands) -> Router {
    routed(ADMIN_ROUTES, admin_handler).with_state(commands)
}

/// The router of the metrics address.
pub(crate) fn metrics(commands: Commands) -> Router {
    routed(METRICS_ROUTES, metrics_handler).with_state(commands)
}

fn routed(routes: &[(&str, &str)], handler: fn(&str) -> MethodRouter<Commands>) -> Router<Commands> {
    let mut router = Router::new();
    for (_, path) in routes {
        router = router.route(path, handler(path));
    }
    router
        .fallback(|| async {
            error(StatusCode::NOT_FOUND, "no such path; see docs/reference/admin-api.json")
        })
        .method_not_allowed_fallback(|| async {
            error(StatusCode::METHOD_NOT_ALLOWED, "wrong method for this path")
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES))
}

fn admin_handler(path: &str) -> MethodRouter<Commands> {
    match path.rsplit('/').next() {
        Some("status") => get(status),
        Some("events") => get(events),
        Some("{id}") => get(explain),
        Some("plan") if path == "/v1/plan" => get(plan),
        Some("reload") => post(reload),
        Some("upgrade") => post(upgrade),
        Some("drain") => post(drain),
        Some("undrain") => post(undrain),
        Some("weight") => post(weigh),
        Some("kill") => post(kill),
        Some(word) if deploy_routes::handles(word) => deploy_routes::handler(word),
        _ => unreachable!("every path of ADMIN_ROUTES ends in one of the words above"),
    }
}

fn metrics_handler(path: &str) -> MethodRouter<Commands> {
    match path {
        "/metrics" => get(metrics_page),
        "/healthz" => get(|| async { "ok\n" }),
        "/readyz" => get(readyz),
        _ => unreachable!("every path of METRICS_ROUTES is one of the above"),
    }
}

async fn status(State(commands): State<Commands>) -> Response {
    match ask(&commands, |reply| Command::Status { reply }).await {
        Ok(status) => Json(status).into_response(),
        Err(gone) => gone,
    }
}

#[derive(Deserialize)]
struct EventsQuery {
    /// Only events with higher numbers; none: all that are remembered.
    after: Option<u64>,
}

async fn events(
    State(commands): State<Commands>,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Response {
    let Ok(Query(EventsQuery { after })) = query else {
        return error(StatusCode::BAD_REQUEST, "after must be the number of an event");
    };
    match ask(&commands, |reply| Command::Events { after: after.unwrap_or_default(), reply }).await {
        Ok(events) => Json(events).into_response(),
        Err(gone) => gone,
    }
}

async fn explain(State(commands): State<Commands>, Path(id): Path<String>) -> Response {
    match ask(&commands, |reply| Command::Explain { id, reply }).await {
        Ok(Ok(explanation)) => Json(explanation).into_response(),
        Ok(Err(refusal)) => refused(&refusal),
        Err(gone) => gone,
    }
}

async fn plan(State(commands): State<Commands>) -> Response {
    changes(ask(&commands, |reply| Command::Plan { reply }).await)
}

async fn reload(State(commands): State<Commands>) -> Response {
    changes(ask(&commands, |reply| Command::Reload { reply }).await)
}

#[derive(Deserialize)]
struct UpgradeQuery {
    /// An absolute path.
    path: Option<String>,
}

async fn upgrade(
    State(commands): State<Commands>,
    query: Result<Query<UpgradeQuery>, QueryRejection>,
) -> Response {
    let Ok(Query(UpgradeQuery { path })) = query else {
        return error(StatusCode::BAD_REQUEST, "path must be the path of a binary");
    };
    match ask(&commands, |reply| Command::Upgrade { path, reply }).await {
        Ok(Ok(upgraded)) => Json(upgraded).into_response(),
        Ok(Err(refusal)) => refused(&refusal),
        Err(gone) => gone,
    }
}

fn changes<T: Serialize>(answer: Result<Result<T, NotReloaded>, Response>) -> Response {
    match answer {
        Ok(Ok(changes)) => Json(changes).into_response(),
        Ok(Err(NotReloaded { line, file })) => {
            let status = if file.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::CONFLICT };
            (status, Json(ErrorAnswer { error: line, file })).into_response()
        }
        Err(gone) => gone,
    }
}

#[derive(Deserialize)]
struct DrainQuery {
    /// Seconds; fractions allowed.
    wait: Option<f64>,
}

async fn drain(
    State(commands): State<Commands>,
    Path((service, instance)): Path<(String, String)>,
    query: Result<Query<DrainQuery>, QueryRejection>,
) -> Response {
    let wait = match query {
        Ok(Query(DrainQuery { wait: None })) => None,
        Ok(Query(DrainQuery { wait: Some(seconds) })) => match Duration::try_from_secs_f64(seconds) {
            Ok(wait) => Some(wait.min(LONGEST_WAIT)),
            Err(_) => return error(StatusCode::BAD_REQUEST, "wait must be a number of seconds, 0 or more"),
        },
        Err(_) => return error(StatusCode::BAD_REQUEST, "wait must be a number of seconds, 0 or more"),
    };
    let id = InstanceId::new(service, instance);
    match ask(&commands, |reply| Command::Drain { id, wait, reply }).await {
        Ok(Ok(outcome)) => Json(DrainAnswer::from(outcome)).into_response(),
        Ok(Err(refusal)) => refused(&refusal),
        Err(gone) => gone,
    }
}

async fn undrain(
    State(commands): State<Commands>,
    Path((service, instance)): Path<(String, String)>,
) -> Response {
    let id = InstanceId::new(service, instance);
    done(ask(&commands, |reply| Command::Undrain { id, reply }).await)
}

#[derive(Deserialize)]
struct WeightQuery {
    to: u32,
}

async fn weigh(
    State(commands): State<Commands>,
    Path((service, instance)): Path<(String, String)>,
    query: Result<Query<WeightQuery>, QueryRejection>,
) -> Response {
    let Ok(Query(WeightQuery { to: weight @ 1..=256 })) = query else {
        return error(StatusCode::BAD_REQUEST, "to must be a weight, a whole number from 1 to 256");
    };
    let id = InstanceId::new(service, instance);
    done(ask(&commands, |reply| Command::Weigh { id, weight, reply }).await)
}

async fn kill(
    State(commands): State<Commands>,
    Path((service, instance)): Path<(String, String)>,
) -> Response {
    let id = InstanceId::new(service, instance);
    done(ask(&commands, |reply| Command::Kill { id, reply }).await)
}

async fn metrics_page(State(commands): State<Commands>, headers: HeaderMap) -> Response {
    // Several lines are one list (RFC 9110 section 5.3).
    let lines = headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok());
    let format = Format::wanted(&lines.collect::<Vec<_>>().join(","));
    match ask(&commands, |reply| Command::Metrics { format, reply }).await {
        Ok(page) => {
            let headers = [(header::CONTENT_TYPE, format.content_type()), (header::VARY, "Accept")];
            (headers, page).into_response()
        }
        Err(gone) => gone,
    }
}

async fn readyz(State(commands): State<Commands>) -> Response {
    match ask(&commands, |reply| Command::Ready { reply }).await {
        Ok(Ok(())) => "ready\n".into_response(),
        Ok(Err(why)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
        Err(gone) => gone,
    }
}

/// Sends a command and waits for its answer; the error is the 503 for a controller that is gone or gave none.
pub(crate) async fn ask<T>(
    commands: &Commands,
    command: impl FnOnce(oneshot::Sender<T>) -> Command,
) -> Result<T, Response> {
    let (reply, answer) = oneshot::channel();
    let gone = || error(StatusCode::SERVICE_UNAVAILABLE, "everup's controller gave no answer; try again");
    if commands.send(command(reply)).await.is_err() {
        return Err(gone());
    }
    answer.await.map_err(|_| gone())
}

fn done(answer: Result<Result<String, Refusal>, Response>) -> Response {
    match answer {
        Ok(Ok(message)) => Json(Done { message }).into_response(),
        Ok(Err(refusal)) => refused(&refusal),
        Err(gone) => gone,
    }
}

pub(crate) fn refused(refusal: &Refusal) -> Response {
    let status = match refusal {
        Refusal::NotFound(_) => StatusCode::NOT_FOUND,
        Refusal::Conflict(_) => StatusCode::CONFLICT,
    };
    error(status, &refusal.to_string())
}

/// The answer of everything that is not 2xx.
pub(crate) fn error(status: StatusCode, line: &str) -> Response {
    (status, Json(ErrorAnswer { error: line.to_owned(), file: None })).into_response()
}
