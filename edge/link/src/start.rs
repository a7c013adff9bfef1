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
    /// Another worker serves still: everything is to be prepared, and [`receive_charge`] to be waited for.
    pub waits: bool,
    /// Workers that finish what they have.
    pub predecessors: Vec<Predecessor>,
}

/// A worker that served before and finishes what it has.
#[derive(Debug)]
pub struct Predecessor {
    /// Its process id.
    pub pid: u32,
    /// The everup that it is.
    pub everup: String,
    /// It could use the store until this moment; None: it yielded long ago.
    pub stores: Option<bool>,
    /// The line to it.
    pub line: Link,
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

/// Blocks until the keeper said [`ToWorker::Begin`], or [`ToWorker::Prepare`]. A [`ToWorker::Shutdown`] before that is an
/// error ([`LinkError::Gone`]): there is nothing yet to stop in order.
pub fn receive_start(link: &Link) -> Result<Inherited, LinkError> {
    let mut inherited = receive_hello(link)?;
    inherited.receive(link)?;
    Ok(inherited)
}

/// Blocks until a worker that was told to prepare is told to begin. What was said of instances before holds no more.
pub fn receive_charge(link: &Link, inherited: &mut Inherited) -> Result<(), LinkError> {
    (inherited.waits, inherited.notes) = (false, None);
    inherited.adopted.clear();
    inherited.receive(link)
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
    fn receive(&mut self, link: &Link) -> Result<(), LinkError> {
        while !self.take(link)? {}
        Ok(())
    }

    /// Takes one message. True: it was the last.
    fn take(&mut self, link: &Link) -> Result<bool, LinkError> {
        let (message, descriptors) = link.receive()?.ok_or(LinkError::Gone)?;
        match message {
            ToWorker::ConfigText { piece } => self.config_text.push_str(&piece),
            ToWorker::Sockets { role, address } => self.take_sockets(role, address, descriptors),
            ToWorker::Adopt { id, pid, port, revision } => {
                self.adopted.push(Adopted { id, pid, port, revision });
            }
            ToWorker::Notes { notes } => self.notes = Some(notes),
            ToWorker::Lock => self.lock = descriptors.into_iter().next(),
            ToWorker::Warning { text } => self.warning = Some(text),
            ToWorker::Revision { service, revision } => self.revisions.push((service, revision)),
            ToWorker::Predecessor { pid, everup, stores } => {
                let line = descriptors.into_iter().next().ok_or(LinkError::Truncated)?;
                let line = Link::from_descriptor(line)?;
                self.predecessors.push(Predecessor { pid, everup, stores, line });
            }
            ToWorker::Begin => return Ok(true),
            ToWorker::Prepare => {
                self.waits = true;
                return Ok(true);
            }
            ToWorker::Shutdown { .. } => return Err(LinkError::Gone),
            ToWorker::Hello { .. }
            | ToWorker::Started { .. }
            | ToWorker::StartFailed { .. }
            | ToWorker::Exited { .. }
            | ToWorker::Change { .. }
            | ToWorker::Kept { .. }
            | ToWorker::NewConfig { .. }
            | ToWorker::Committed { .. }
            | ToWorker::Upgraded { .. }
            | ToWorker::Yield
            | ToWorker::TakeBack
            | ToWorker::Leave => {
                return Err(LinkError::OutOfOrder(format!("{message:?} came before Begin")));
            }
        }
        Ok(false)
    }

    /// The sockets of one address can take several messages: see [`crate::DESCRIPTORS`].
    fn take_sockets(&mut self, role: SocketRole, address: String, descriptors: Vec<OwnedFd>) {
        match self.sockets.last_mut() {
            Some(last) if last.role == role => last.descriptors.extend(descriptors),
            _ => self.sockets.push(Sockets { role, address, descriptors }),
        }
    }
}
