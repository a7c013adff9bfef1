//! Why a worker cannot begin or go on.

use std::io;
use std::path::PathBuf;

use everup_admin::AdminError;
use everup_gateway::{GatewayError, TlsError};
use everup_health::HealthError;
use everup_instance::InstanceError;
use everup_link::LinkError;

/// Ends the worker. The keeper starts another one, except where it never served: then everup ends with this reason.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The line to the keeper, before or while serving.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Our mistake: the keeper checked the configuration before.
    #[error("the configuration that the keeper handed over is not valid: {0}")]
    Config(String),
    /// The operator's: the state directory cannot be used.
    #[error("cannot use {path}: {source}")]
    State {
        /// What could not be read or written.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The operator's: the access log cannot be written by the worker's user.
    #[error("cannot write the access log to {path}: {source}")]
    AccessLog {
        /// `access_log.to`.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The store cannot be used, and the worker before could use it.
    #[error("what was deployed cannot be read: {0}")]
    Store(String),
    /// The data plane cannot start.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// The operator's: the certificates of a listener cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Health checks cannot start.
    #[error(transparent)]
    Health(#[from] HealthError),
    /// Instances cannot be run.
    #[error(transparent)]
    Instances(#[from] InstanceError),
    /// The admin or metrics socket cannot be used.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// Our mistake: clients of that thread would wait for ever, so another worker must take over.
    #[error("a thread of the data plane failed inside (see the panic above; please report it)")]
    ThreadLost,
    /// The operating system refused something that every worker needs.
    #[error("cannot start: {0}")]
    System(#[source] io::Error),
}
