//! The routes of deployments: each turns a request into one [`Command::Deploy`] and its answer into JSON.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use serde::Deserialize;

use crate::api::{DeployAnswer, DeployRequest, DeployWish, Done};
use crate::command::{Command, Commands};
use crate::router::{ask, error, refused};

/// The longest name or reason that is written down.
const WORDS_BYTES: usize = 500;

/// Whether the last word of a path is one of these routes.
pub(crate) fn handles(word: &str) -> bool {
    matches!(
        word,
        "plan"
            | "deployment"
            | "deployments"
            | "deploy"
            | "promote"
            | "pause"
            | "resume"
            | "abort"
            | "rollback"
            | "lock"
            | "unlock"
    )
}

/// The route that ends in this word.
pub(crate) fn handler(word: &str) -> MethodRouter<Commands> {
    match word {
        "plan" => get(plan),
        "deployment" => get(async |state, path| talk(state, path, String::new(), DeployWish::Show).await),
        "deployments" => get(async |state, path| talk(state, path, String::new(), DeployWish::History).await),
        "deploy" => post(deploy),
        "promote" => ordered(DeployWish::Promote),
        "pause" => ordered(DeployWish::Pause),
        "resume" => ordered(DeployWish::Resume),
        "abort" => ordered(DeployWish::Abort),
        "rollback" => ordered(DeployWish::Rollback),
        "lock" => post(lock),
        "unlock" => ordered(DeployWish::Unlock),
        _ => unreachable!("only words that it handles are asked for"),
    }
}

#[derive(Deserialize)]
struct Fields {
    revision: Option<String>,
    strategy: Option<String>,
    #[serde(default)]
    by: String,
    #[serde(default)]
    reason: String,
}

type Asked = Result<Query<Fields>, QueryRejection>;

/// The fields, with a revision.
fn with_revision(fields: Asked) -> Result<(String, Fields), Box<Response>> {
    let missing = || Box::new(error(StatusCode::BAD_REQUEST, "revision must be given: ?revision=v2"));
    let Ok(Query(mut fields)) = fields else { return Err(missing()) };
    let revision = fields.revision.take().ok_or_else(missing)?;
    Ok((revision, fields))
}

async fn plan(state: State<Commands>, path: Path<String>, fields: Asked) -> Response {
    match with_revision(fields) {
        Ok((revision, Fields { strategy, by, .. })) => {
            talk(state, path, by, DeployWish::Plan { revision, strategy }).await
        }
        Err(refusal) => *refusal,
    }
}

async fn deploy(state: State<Commands>, path: Path<String>, fields: Asked) -> Response {
    match with_revision(fields) {
        Ok((revision, Fields { strategy, by, mut reason, .. })) => {
            shorten(&mut reason);
            talk(state, path, by, DeployWish::Begin { revision, strategy, reason }).await
        }
        Err(refusal) => *refusal,
    }
}

async fn lock(state: State<Commands>, path: Path<String>, fields: Asked) -> Response {
    let (by, mut reason) = fields.map(|Query(fields)| (fields.by, fields.reason)).unwrap_or_default();
    shorten(&mut reason);
    talk(state, path, by, DeployWish::Lock { reason }).await
}

fn ordered(wish: DeployWish) -> MethodRouter<Commands> {
    post(async move |state: State<Commands>, path: Path<String>, fields: Asked| {
        let by = fields.map(|Query(fields)| fields.by).unwrap_or_default();
        talk(state, path, by, wish).await
    })
}

async fn talk(
    State(commands): State<Commands>,
    Path(service): Path<String>,
    mut by: String,
    wish: DeployWish,
) -> Response {
    shorten(&mut by);
    if by.is_empty() {
        by.push_str("somebody");
    }
    let request = DeployRequest { service, by, wish };
    match ask(&commands, |reply| Command::Deploy { request, reply }).await {
        Ok(Ok(DeployAnswer::Done(message))) => Json(Done { message }).into_response(),
        Ok(Ok(DeployAnswer::Plan(plan))) => Json(plan).into_response(),
        Ok(Ok(DeployAnswer::Deployment(deployment))) => Json(deployment).into_response(),
        Ok(Ok(DeployAnswer::History(deployments))) => Json(deployments).into_response(),
        Ok(Err(refusal)) => refused(&refusal),
        Err(gone) => gone,
    }
}

/// To what is written down, without what could steer a terminal.
fn shorten(words: &mut String) {
    *words = words.chars().filter(|letter| !letter.is_control()).collect();
    while words.len() > WORDS_BYTES {
        words.pop();
    }
}
