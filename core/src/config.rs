//! everup.toml -> [`Config`].
//!
//! Every setting is declared once, in the file of its section, by the macro of `section.rs`: parsing, the hints for
//! unknown keys and the reference all come from there. Reading goes on after a mistake, so that all are told at once.
//! Neither the file system nor the network is asked here: whether a user, a program or an address exists is found out
//! by whoever uses it.

mod access_log;
mod certificate;
mod cross;
mod deploy;
mod drain;
mod edits;
mod health;
mod instance;
mod instance_tls;
mod kind;
mod limits;
mod listener;
mod log;
mod nearest;
mod node;
mod outlier;
mod park;
mod queue;
mod reading;
mod redirect;
mod reference;
mod retry;
mod root;
mod route;
mod run;
mod section;
mod service;
mod sticky;
mod syntax;
#[cfg(test)]
pub(crate) mod tests;
mod timeout;
mod trace;
mod units;

use std::ops::Range;

use toml::de::DeTable;

pub use access_log::{AccessLog, LogTo};
pub use certificate::CertificateFiles;
pub use deploy::{Approve, Deploy, DeployStrategy, OnFail, Portion};
pub use drain::{Drain, WebSockets};
pub use edits::{Edits, FieldEdits, Prefix};
pub use health::{Check, Health};
pub use instance::FixedInstance;
pub use instance_tls::InstanceTls;
pub use limits::Limits;
pub use listener::{Listener, ListenerRedirect, Protocol};
pub use log::Log;
pub use node::Node;
pub use outlier::Outlier;
pub use park::Park;
pub use queue::Queue;
pub use redirect::{Piece, Redirect};
pub use reference::{LaterDoc, SectionDoc, SettingDoc, markdown, reference, sections_named};
pub use retry::Retry;
pub use route::{HostPattern, PathPattern, Route};
pub use run::{REPLICAS, Run, is_revision};
pub use service::{Balance, SendProxy, Service};
pub use sticky::{Sticky, StickyBy};
pub use timeout::Timeout;
pub use trace::{Trace, TraceParent};

/// A whole, valid configuration. Every reference in it holds: a service that a route names exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This host.
    pub node: Node,
    /// Where requests are written down.
    pub access_log: AccessLog,
    /// Distributed tracing.
    pub trace: Trace,
    /// How much the gateway takes on.
    pub limits: Limits,
    /// At least one, in the order of the file.
    pub listeners: Vec<Listener>,
    /// In the order of the file; each is used by a listener.
    pub services: Vec<Service>,
}

/// A mistake in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong, in one line.
    pub message: String,
    /// Where, in bytes of the text; on character boundaries and within it. May be empty, at the end of the text.
    pub span: Range<usize>,
    /// A few words for the place itself.
    pub label: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// The longest file that is read: far more than a thousand services, and parsing it takes little memory and time.
pub const MAX_BYTES: usize = 1 << 20;

/// Reads a configuration.
///
/// # Errors
/// Every mistake of the text, in its order; at least one.
pub fn parse(text: &str) -> Result<Config, Vec<Diagnostic>> {
    if let Some(mistake) = unreadable(text) {
        return Err(vec![mistake]);
    }
    let (root, syntax) = DeTable::parse_recoverable(text);
    let syntax = syntax::Syntax::new(text, root.get_ref(), &syntax);
    let mut reading = reading::Reading::new(root.get_ref(), syntax);
    let written = section::read_root::<root::Written>(&root, &mut reading);
    let listeners = root.get_ref().get("listener").is_some_and(|listeners| listeners.get_ref().is_array());
    cross::judge(&mut reading, listeners);
    let mistakes = reading.into_mistakes(text);
    match written {
        Some(root::Written { node, access_log, trace, limits, listener, service }) if mistakes.is_empty() => {
            let services = service.unwrap_or_default().into_iter().flatten().collect();
            Ok(Config { node, access_log, trace, limits, listeners: listener, services })
        }
        _ => {
            assert!(!mistakes.is_empty(), "what cannot be read has been told");
            Err(mistakes)
        }
    }
}

fn unreadable(text: &str) -> Option<Diagnostic> {
    let whole = |message: &str, label: &str, hint: &str| Diagnostic {
        message: message.to_owned(),
        span: 0..0,
        label: label.to_owned(),
        hint: Some(hint.to_owned()),
    };
    if text.len() > MAX_BYTES {
        let label = format!("{} bytes", text.len());
        return Some(whole("the file is too large", &label, &format!("at most {MAX_BYTES} bytes")));
    }
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        let hint = "a file needs at least [[listener]] with bind and service, and [service.NAME] with instances or run";
        return Some(whole("the configuration is empty", "no listener, no service", hint));
    }
    None
}
