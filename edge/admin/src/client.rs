//! The command line's side of the admin API: one request per connection over the unix socket, and every failure in
//! one line that says what to do.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Bytes;
use everup_core::ids::InstanceId;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::api::{
    DeploymentStatus, Done, DrainAnswer, ErrorAnswer, Events, Explanation, Plan, PlanAnswer, Reloaded,
    Status, Upgraded, WrongFile,
};

/// How long an answer may take that does not wait for anything.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// How long a reload may take: others may come first, and threads that do not acknowledge are waited for.
const RELOAD_TIME: Duration = Duration::from_secs(120);

/// How long an upgrade may take: every step of it has its own limit, which are shorter together.
const UPGRADE_TIME: Duration = Duration::from_secs(120);

/// The largest answer read: a status of some ten thousand instances.
const ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// Asks the everup that listens at one admin socket.
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
}

/// Why there is no answer. `Display` is one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing listens there.
    #[error(
        "everup does not run here (no answer at {path}): start it with `everup run FILE`, \
         or name it with --admin / --config"
    )]
    NotRunning {
        /// The socket's path.
        path: PathBuf,
    },
    /// The socket belongs to somebody else.
    #[error("{path} may only be used by the user that runs everup: try again as that user, or with sudo")]
    Forbidden {
        /// The socket's path.
        path: PathBuf,
    },
    /// The connection failed otherwise.
    #[error("cannot reach everup at {path}: {source}")]
    Connect {
        /// The socket's path.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It runs and said no. Trying again without changing something is useless.
    #[error("{0}")]
    Refused(String),
    /// It cannot use the configuration file, and runs on as before.
    #[error("{} has mistakes: nothing was changed", .0.path)]
    WrongFile(Box<WrongFile>),
    /// The connection broke before the answer was there: the worker may just have been replaced. Asking for the
    /// status again is safe; a drain may or may not have begun.
    #[error("everup at {path} broke off before it answered: {why}; try again")]
    Broken {
        /// The socket's path.
        path: PathBuf,
        /// What happened.
        why: String,
    },
    /// No answer in time.
    #[error("everup at {path} gave no answer within {seconds} s; its log may say why")]
    TimedOut {
        /// The socket's path.
        path: PathBuf,
        /// How long was waited.
        seconds: u64,
    },
    /// An answer that this version does not understand.
    #[error("cannot read the answer of {path} ({why}): is the running everup of another version?")]
    Unreadable {
        /// The socket's path.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl Client {
    /// A client for the socket at `path`, known to be answered now.
    ///
    /// # Errors
    /// [`ClientError::NotRunning`] and its neighbours, when nobody answers.
    pub async fn connect(path: impl Into<PathBuf>) -> Result<Self, ClientError> {
        let client = Self { path: path.into() };
        client.stream().await?;
        Ok(client)
    }

    /// The socket's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Everything an operator may want to see.
    ///
    /// # Errors
    /// See [`ClientError`]; safe to try again.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.ask(Method::GET, "/v1/status", ANSWER_TIME).await
    }

    /// What a reload would change now.
    ///
    /// # Errors
    /// See [`ClientError`]; refused if the file has mistakes or cannot be read.
    pub async fn plan(&self) -> Result<Plan, ClientError> {
        self.ask(Method::GET, "/v1/plan", RELOAD_TIME).await
    }

    /// Reads the configuration file and changes to what it says.
    ///
    /// # Errors
    /// See [`ClientError`]; when it is refused nothing was changed. [`ClientError::Broken`] leaves open whether it was.
    pub async fn reload(&self) -> Result<Reloaded, ClientError> {
        self.ask(Method::POST, "/v1/reload", RELOAD_TIME).await
    }

    /// Has everup go on as the binary at `path`, an absolute one; None: what lies now where it was started from.
    ///
    /// # Errors
    /// See [`ClientError`]; when it is refused nothing was changed. [`ClientError::Broken`] leaves open whether it was.
    pub async fn upgrade(&self, path: Option<&str>) -> Result<Upgraded, ClientError> {
        let query = path.map_or_else(String::new, |path| format!("?path={}", percent_encoded(path)));
        self.ask(Method::POST, &format!("/v1/upgrade{query}"), UPGRADE_TIME).await
    }

    /// What happened lately: events with numbers above `after`; 0: all that are remembered.
    ///
    /// # Errors
    /// See [`ClientError`]; safe to try again. An everup from before there were events refuses.
    pub async fn events(&self, after: u64) -> Result<Events, ClientError> {
        self.ask(Method::GET, &format!("/v1/events?after={after}"), ANSWER_TIME).await
    }

    /// What is remembered of the requests with this id.
    ///
    /// # Errors
    /// See [`ClientError`]; refused if nothing is.
    pub async fn explain(&self, id: &str) -> Result<Explanation, ClientError> {
        self.ask(Method::GET, &format!("/v1/requests/{}", percent_encoded(id)), ANSWER_TIME).await
    }

    /// Drains an instance and waits for its requests in flight: at most `wait`, None: the service's `drain.time`.
    ///
    /// # Errors
    /// See [`ClientError`]; draining what is drained already is no error.
    pub async fn drain(&self, id: &InstanceId, wait: Option<Duration>) -> Result<DrainAnswer, ClientError> {
        let (query, patience) = match wait {
            Some(wait) => (format!("?wait={}", wait.as_secs_f64()), wait.saturating_add(ANSWER_TIME)),
            // drain.time is the server's to know; a day is its upper limit.
            None => (String::new(), Duration::from_secs(24 * 3600) + ANSWER_TIME),
        };
        self.ask(Method::POST, &format!("{}{query}", instance_path(id, "drain")), patience).await
    }

    /// Gives a drained instance requests again.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn undrain(&self, id: &InstanceId) -> Result<Done, ClientError> {
        self.ask(Method::POST, &instance_path(id, "undrain"), ANSWER_TIME).await
    }

    /// Gives an instance another weight, 1 to 256, for as long as everup runs.
    ///
    /// # Errors
    /// See [`ClientError`]; also when the service's `balance` does not heed weights.
    pub async fn weigh(&self, id: &InstanceId, weight: u32) -> Result<Done, ClientError> {
        let path = format!("{}?to={weight}", instance_path(id, "weight"));
        self.ask(Method::POST, &path, ANSWER_TIME).await
    }

    /// Kills an instance that everup runs with SIGKILL: for drills.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn kill(&self, id: &InstanceId) -> Result<Done, ClientError> {
        self.ask(Method::POST, &instance_path(id, "kill"), ANSWER_TIME).await
    }

    /// What deploying a revision would do; `strategy` instead of the configured one.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn plan_deploy(
        &self,
        service: &str,
        revision: &str,
        strategy: Option<&str>,
    ) -> Result<PlanAnswer, ClientError> {
        let fields = [("revision", Some(revision)), ("strategy", strategy)];
        self.ask(Method::GET, &service_path(service, "plan", &fields), ANSWER_TIME).await
    }

    /// Begins a deployment; the answer's message is its id. `by` is who asks, `reason` why.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn deploy(
        &self,
        service: &str,
        revision: &str,
        strategy: Option<&str>,
        (by, reason): (&str, Option<&str>),
    ) -> Result<Done, ClientError> {
        let fields =
            [("revision", Some(revision)), ("strategy", strategy), ("by", Some(by)), ("reason", reason)];
        self.ask(Method::POST, &service_path(service, "deploy", &fields), ANSWER_TIME).await
    }

    /// `promote`, `pause`, `resume`, `abort`, `rollback` or `unlock`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn order(&self, service: &str, verb: &str, by: &str) -> Result<Done, ClientError> {
        self.ask(Method::POST, &service_path(service, verb, &[("by", Some(by))]), ANSWER_TIME).await
    }

    /// Lets no deployment of a service begin.
    ///
    /// # Errors
    /// See [`ClientError`]; refused if it is locked already.
    pub async fn lock(&self, service: &str, by: &str, reason: Option<&str>) -> Result<Done, ClientError> {
        let fields = [("by", Some(by)), ("reason", reason)];
        self.ask(Method::POST, &service_path(service, "lock", &fields), ANSWER_TIME).await
    }

    /// The last deployment of a service.
    ///
    /// # Errors
    /// See [`ClientError`]; refused if there was none.
    pub async fn deployment(&self, service: &str) -> Result<DeploymentStatus, ClientError> {
        self.ask(Method::GET, &service_path(service, "deployment", &[]), ANSWER_TIME).await
    }

    /// All deployments of a service that are remembered, the newest first.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn deployments(&self, service: &str) -> Result<Vec<DeploymentStatus>, ClientError> {
        self.ask(Method::GET, &service_path(service, "deployments", &[]), ANSWER_TIME).await
    }

    async fn stream(&self) -> Result<UnixStream, ClientError> {
        let path = self.path.clone();
        UnixStream::connect(&self.path).await.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning { path },
            io::ErrorKind::PermissionDenied => ClientError::Forbidden { path },
            _ => ClientError::Connect { path, source },
        })
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        patience: Duration,
    ) -> Result<T, ClientError> {
        let exchange = async {
            let stream = self.stream().await?;
            self.exchange(stream, method, path).await
        };
        let (status, body) = tokio::time::timeout(patience, exchange)
            .await
            .map_err(|_| ClientError::TimedOut { path: self.path.clone(), seconds: patience.as_secs() })??;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| self.unreadable(&error));
        }
        match serde_json::from_slice(&body) {
            Ok(ErrorAnswer { file: Some(file), .. }) => Err(ClientError::WrongFile(Box::new(file))),
            Ok(ErrorAnswer { error, file: None }) => Err(ClientError::Refused(error)),
            Err(_) => Err(self.unreadable(&format_args!("{status} without a reason"))),
        }
    }

    async fn exchange(
        &self,
        stream: UnixStream,
        method: Method,
        path: &str,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| self.broken(&e))?;
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(hyper::header::HOST, "everup")
            .body(Empty::<Bytes>::new())
            .map_err(|error| ClientError::Refused(format!("not a name everup can have: {error}")))?;
        let answer = sender.send_request(request).await.map_err(|e| self.broken(&e))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES).collect().await;
        connection.abort();
        Ok((status, body.map_err(|e| self.broken(&e))?.to_bytes()))
    }

    fn broken(&self, why: &dyn std::fmt::Display) -> ClientError {
        ClientError::Broken { path: self.path.clone(), why: why.to_string() }
    }

    fn unreadable(&self, why: &dyn std::fmt::Display) -> ClientError {
        ClientError::Unreadable { path: self.path.clone(), why: why.to_string() }
    }
}

fn instance_path(id: &InstanceId, verb: &str) -> String {
    let InstanceId { service, instance } = id;
    format!("/v1/services/{}/instances/{}/{verb}", percent_encoded(service), percent_encoded(instance))
}

fn service_path(service: &str, verb: &str, fields: &[(&str, Option<&str>)]) -> String {
    let given =
        fields.iter().filter_map(|(name, value)| Some(format!("{name}={}", percent_encoded((*value)?))));
    let query = given.collect::<Vec<_>>().join("&");
    format!("/v1/services/{}/{verb}?{query}", percent_encoded(service))
}

/// RFC 3986 section 2.3: everything but unreserved characters is encoded, so that `[::1]:9001` is one segment.
fn percent_encoded(segment: &str) -> String {
    let mut encoded = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte))
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests;
