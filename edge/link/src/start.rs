//! How a worker is born: everything that the keeper hands over before it says [`ToWorker::Begin`].
//!
//! It only collects. Reading the configuration text and using the sockets is `app`'s work.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use everup_core::ids::InstanceId;
use everup_core::keeper::{PROTOCOL, SocketRole, ToWorker};

use crate::{Link, LinkError};

/// What a new worker has from its keeper.
#[derive(Debug, Default)]
pub struct Inherited {
    /// The path the configuration was read from; relative paths in it start from its directory.
    pub config_path: String,
    /// The keeper's process id.
    pub keeper_pid: u32,
    /// How many workers this keeper has started before this one.
    pub restarts: u32,
    /// The configuration's text as the keeper checked it.
    pub config_text: String,
    /// Every listening socket, in the order of the configuration.
    pub sockets: Vec<Sockets>,
    /// The instances that run already.
    pub adopted: Vec<Adopted>,
    /// What the last worker wanted remembered.
    pub notes: Option<String>,
    /// Services and the revision of their processes, where it may differ from the configuration's text.
    pub revisions: Vec<(Arc<str>, String)>,
    /// What the operator must be told.
    pub warning: Option<String>,
    /// The lock of the state directory, which this process holds beside the keeper.
    pub lock: Option<OwnedFd>,
}

/// The listening sockets of one address.
#[derive(Debug)]
pub struct Sockets {
    /// What they are for.
    pub role: SocketRole,
    /// The real address as text (a port 0 of the configuration is replaced by the one that was given).
    pub address: String,
    /// One per data-plane thread for a listener, one otherwise.
    pub descriptors: Vec<OwnedFd>,
}

/// An instance that ran before this worker did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// Which one.
    pub id: InstanceId,
    /// Its process id, which is also its process group.
    pub pid: u32,
    /// The port it was given.
    pub port: u16,
    /// The revision it was started with.
    pub revision: String,
}

/// Blocks until the keeper said [`ToWorker::Begin`]. A [`ToWorker::Shutdown`] before that is an error
/// ([`LinkError::Gone`]): there is nothing yet to stop in order.
pub fn receive_start(link: &Link) -> Result<Inherited, LinkError> {
    let mut inherited = receive_hello(link)?;
    loop {
        let (message, descriptors) = link.receive()?.ok_or(LinkError::Gone)?;
        match message {
            ToWorker::ConfigText { piece } => inherited.config_text.push_str(&piece),
            ToWorker::Sockets { role, address } => inherited.take_sockets(role, address, descriptors),
            ToWorker::Adopt { id, pid, port, revision } => {
                inherited.adopted.push(Adopted { id, pid, port, revision });
            }
            ToWorker::Notes { notes } => inherited.notes = Some(notes),
            ToWorker::Revision { service, revision } => inherited.revisions.push((service, revision)),
            ToWorker::Lock => inherited.lock = descriptors.into_iter().next(),
            ToWorker::Warning { text } => inherited.warning = Some(text),
            ToWorker::Begin => return Ok(inherited),
            ToWorker::Shutdown { .. } => return Err(LinkError::Gone),
            ToWorker::Hello { .. }
            | ToWorker::Started { .. }
            | ToWorker::StartFailed { .. }
            | ToWorker::Exited { .. }
            | ToWorker::Change { .. }
            | ToWorker::Kept { .. }
            | ToWorker::NewConfig { .. }
            | ToWorker::Committed { .. } => {
                return Err(LinkError::OutOfOrder(format!("{message:?} came before Begin")));
            }
        }
    }
}

fn receive_hello(link: &Link) -> Result<Inherited, LinkError> {
    let (message, _) = link.receive()?.ok_or(LinkError::Gone)?;
    let ToWorker::Hello { protocol, config_path, keeper_pid, restarts } = message else {
        return Err(LinkError::OutOfOrder(format!("{message:?} came before Hello")));
    };
    if protocol != PROTOCOL {
        return Err(LinkError::Protocol { theirs: protocol, ours: PROTOCOL });
    }
    Ok(Inherited { config_path, keeper_pid, restarts, ..Inherited::default() })
}

impl Inherited {
    /// The sockets of one address can take several messages: see [`crate::DESCRIPTORS`].
    fn take_sockets(&mut self, role: SocketRole, address: String, descriptors: Vec<OwnedFd>) {
        match self.sockets.last_mut() {
            Some(last) if last.role == role => last.descriptors.extend(descriptors),
            _ => self.sockets.push(Sockets { role, address, descriptors }),
        }
    }
}
