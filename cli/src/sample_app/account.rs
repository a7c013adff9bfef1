//! A login that is kept in the memory of one instance, as many applications do: on another instance nobody knows the
//! user. That is what stickiness is for. There is no password: this is a demonstration.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Form, Json};
use serde::Deserialize;
use serde_json::json;

use super::answers::App;

const COOKIE_NAME: &str = "sample_session";
/// The most sessions; the oldest go first. A demonstration needs few.
const MOST_SESSIONS: usize = 10_000;
/// The longest user name in characters that is kept.
const NAME_CHARS: usize = 64;
/// A session that was not used for so long is over.
const IDLE: Duration = Duration::from_secs(30 * 60);

/// Who is logged in on this instance.
#[derive(Default)]
pub(super) struct Sessions(Mutex<BTreeMap<String, Session>>);

struct Session {
    user: String,
    visits: u64,
    used: Instant,
}

/// What the login form sends.
#[derive(Deserialize)]
pub(super) struct Login {
    #[serde(default)]
    user: String,
}

impl Sessions {
    /// Remembers `user`; returns the session's token.
    fn open(&self, user: &str) -> Result<String, getrandom::Error> {
        let mut random = [0; 16];
        getrandom::fill(&mut random)?;
        let mut token = String::new();
        random.iter().for_each(|byte| write!(token, "{byte:02x}").expect("text takes text"));
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| session.used.elapsed() < IDLE);
        if sessions.len() >= MOST_SESSIONS {
            let oldest =
                sessions.iter().min_by_key(|(_, session)| session.used).map(|(token, _)| token.clone());
            oldest.and_then(|token| sessions.remove(&token));
        }
        let user = if user.is_empty() { "somebody" } else { user }.chars().take(NAME_CHARS).collect();
        sessions.insert(token.clone(), Session { user, visits: 0, used: Instant::now() });
        Ok(token)
    }

    /// Counts a visit; None when this instance does not know the token.
    fn visit(&self, token: &str) -> Option<(String, u64)> {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.get_mut(token).filter(|session| session.used.elapsed() < IDLE)?;
        session.visits += 1;
        session.used = Instant::now();
        Some((session.user.clone(), session.visits))
    }
}

/// `POST /login`, form field `user`.
pub(super) async fn login(State(app): State<App>, Form(Login { user }): Form<Login>) -> Response {
    match app.sessions().open(&user) {
        Ok(token) => {
            let cookie = format!("{COOKIE_NAME}={token}; Path=/; HttpOnly; SameSite=Lax");
            let welcome = Json(json!({ "instance": app.name(), "message": "logged in" }));
            ([(SET_COOKIE, cookie)], welcome).into_response()
        }
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("no randomness: {error}\n")).into_response()
        }
    }
}

/// `GET /account`: 200 where the session lives, 401 anywhere else.
pub(super) async fn account(State(app): State<App>, headers: HeaderMap) -> Response {
    match token(&headers).and_then(|token| app.sessions().visit(token)) {
        Some((user, visits)) => {
            Json(json!({ "user": user, "visits": visits, "instance": app.name() })).into_response()
        }
        None => {
            let error = format!("{} does not know you: log in, or make the service sticky", app.name());
            (StatusCode::UNAUTHORIZED, Json(json!({ "error": error, "instance": app.name() })))
                .into_response()
        }
    }
}

fn token(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines
        .flat_map(|line| line.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(COOKIE_NAME)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_counts_its_visits_where_it_was_opened_and_nowhere_else() {
        let (here, elsewhere) = (Sessions::default(), Sessions::default());
        let token = here.open("ada").unwrap();
        assert_eq!(here.visit(&token), Some(("ada".into(), 1)));
        assert_eq!(here.visit(&token), Some(("ada".into(), 2)));
        assert_eq!(elsewhere.visit(&token), None);
    }

    #[test]
    fn the_token_is_found_among_other_cookies() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, "a=b; sample_session=abc; c=d".parse().unwrap());
        assert_eq!(token(&headers), Some("abc"));
        headers.clear();
        headers.append(COOKIE, "sample_sessions=abc".parse().unwrap());
        assert_eq!(token(&headers), None);
    }
}
