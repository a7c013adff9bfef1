//! The line between keeper and worker: a SOCK_SEQPACKET socket pair on which one datagram is one JSON message and
//! descriptors travel beside it (SCM_RIGHTS).
//!
//! It carries messages and bounds their size; what they mean stands in `everup_core::keeper`, what to do about them
//! in the keeper and in `app`. It keeps no queue: a caller that must not block asks `try_send` and waits for
//! writability itself. Every call chooses blocking or not by a flag of that call, so one link serves both kinds of
//! callers and can be put into an event loop as it is ([`AsFd`], [`AsRawFd`]).

mod door;
mod start;

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use everup_core::keeper::NOTES_BYTES;
use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair, sockopt,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use door::{Door, Peer, knock};
pub use start::{Adopted, Inherited, Predecessor, Sockets, receive_charge, receive_start};

/// The largest datagram. Notes are text inside a JSON string, where quotes and backslashes count twice; three times
/// their size leaves room for both and still fits the send buffer that an unprivileged process can have by default
/// (twice `net.core.wmem_max`: 416 KiB).
pub const DATAGRAM_BYTES: usize = 3 * NOTES_BYTES;

/// The most descriptors beside one message (the kernel's own limit is 253). Who has more sends several messages.
pub const DESCRIPTORS: usize = 64;

/// What can go wrong on the link. None of these is worth a retry except where it says so.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Our mistake, or notes full of characters that JSON must escape: the message was not sent.
    #[error("a message of {bytes} bytes to the other process is larger than the limit of {DATAGRAM_BYTES}")]
    TooLarge {
        /// The size of the encoded message.
        bytes: usize,
    },
    /// Our mistake: more than [`DESCRIPTORS`].
    #[error("{count} descriptors beside one message are more than the limit of {DESCRIPTORS}")]
    TooManyDescriptors {
        /// How many were to be sent.
        count: usize,
    },
    /// The peer sent more than the limits allow, or descriptors were lost because this process may open no more.
    #[error("a message from the other process arrived cut short (too large, or too many open files here)")]
    Truncated,
    /// The peer's bytes are no message that we know.
    #[error("a message from the other process is not understood: {0}")]
    Malformed(#[source] serde_json::Error),
    /// A message could not be encoded.
    #[error("a message to the other process cannot be encoded: {0}")]
    Encode(#[source] serde_json::Error),
    /// The other process is gone.
    #[error("the other process is gone")]
    Gone,
    /// Keeper and worker come from different versions of everup.
    #[error(
        "the keeper speaks protocol {theirs} and this worker {ours}: they come from different versions of everup"
    )]
    Protocol {
        /// The keeper's number.
        theirs: u32,
        /// Ours.
        ours: u32,
    },
    /// The start messages came in an order that makes no sense.
    #[error("the keeper's first messages are out of order: {0}")]
    OutOfOrder(String),
    /// Standard input is not a link: somebody started a worker by hand.
    #[error("a worker is started by `everup run`, not by hand (its standard input is no link to a keeper)")]
    NotInherited,
    /// The operating system refused.
    #[error("the line between keeper and worker failed: {0}")]
    System(#[source] io::Error),
}

impl From<Errno> for LinkError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::PIPE | Errno::CONNRESET => Self::Gone,
            other => Self::System(other.into()),
        }
    }
}

/// What a non-blocking look at the link found.
#[derive(Debug)]
pub enum Received<M> {
    /// A message and the descriptors beside it.
    Message(M, Vec<OwnedFd>),
    /// Nothing now; wait until the link is readable.
    Nothing,
    /// The other side is closed and everything that it sent was read.
    Gone,
}

/// One end of the line. Dropping it tells the other side.
#[derive(Debug)]
pub struct Link {
    socket: OwnedFd,
}

impl Link {
    /// A new line: our end, and the other one as a plain descriptor to give to a child process. Both are closed on
    /// exec.
    pub fn pair() -> Result<(Self, OwnedFd), LinkError> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        for end in [&ours, &theirs] {
            // The kernel doubles the value and caps it at twice net.core.wmem_max.
            sockopt::set_socket_send_buffer_size(end, DATAGRAM_BYTES)?;
        }
        Ok((Self { socket: ours }, theirs))
    }

    /// An end that came from elsewhere. [`LinkError::NotInherited`] if it is no SEQPACKET unix socket.
    pub fn from_descriptor(socket: OwnedFd) -> Result<Self, LinkError> {
        let is_link = sockopt::socket_domain(&socket) == Ok(AddressFamily::UNIX)
            && sockopt::socket_type(&socket) == Ok(SocketType::SEQPACKET);
        if is_link { Ok(Self { socket }) } else { Err(LinkError::NotInherited) }
    }

    /// The link that the keeper gave to this process. It comes as standard input, because that is the one
    /// descriptor that a process can hand over and take without any `unsafe`; afterwards standard input is
    /// `/dev/null`.
    pub fn inherited() -> Result<Self, LinkError> {
        let stdin = io::stdin();
        let link = Self::from_descriptor(stdin.as_fd().try_clone_to_owned().map_err(LinkError::System)?)?;
        let nothing = std::fs::File::open("/dev/null").map_err(LinkError::System)?;
        rustix::stdio::dup2_stdin(nothing)?;
        Ok(link)
    }

    /// Sends, waiting for room.
    pub fn send<M: Serialize>(&self, message: &M, descriptors: &[BorrowedFd<'_>]) -> Result<(), LinkError> {
        match self.send_with(SendFlags::empty(), message, descriptors)? {
            true => Ok(()),
            false => Err(LinkError::System(Errno::AGAIN.into())),
        }
    }

    /// Sends if there is room now; false if there is not (nothing was sent: wait until the link is writable).
    pub fn try_send<M: Serialize>(
        &self,
        message: &M,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<bool, LinkError> {
        self.send_with(SendFlags::DONTWAIT, message, descriptors)
    }

    /// Waits for the next message; None when the other side is gone and everything was read.
    pub fn receive<M: DeserializeOwned>(&self) -> Result<Option<(M, Vec<OwnedFd>)>, LinkError> {
        match self.receive_with(RecvFlags::empty())? {
            Received::Message(message, descriptors) => Ok(Some((message, descriptors))),
            Received::Gone => Ok(None),
            Received::Nothing => Err(LinkError::System(Errno::AGAIN.into())),
        }
    }

    /// The next message if there is one now.
    pub fn try_receive<M: DeserializeOwned>(&self) -> Result<Received<M>, LinkError> {
        self.receive_with(RecvFlags::DONTWAIT)
    }

    fn send_with<M: Serialize>(
        &self,
        flags: SendFlags,
        message: &M,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<bool, LinkError> {
        let bytes = serde_json::to_vec(message).map_err(LinkError::Encode)?;
        if bytes.len() > DATAGRAM_BYTES {
            return Err(LinkError::TooLarge { bytes: bytes.len() });
        }
        if descriptors.len() > DESCRIPTORS {
            return Err(LinkError::TooManyDescriptors { count: descriptors.len() });
        }
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            let fits = control.push(SendAncillaryMessage::ScmRights(descriptors));
            assert!(fits, "the space is made for DESCRIPTORS");
        }
        let flags = flags | SendFlags::NOSIGNAL;
        match retry(|| sendmsg(&self.socket, &[IoSlice::new(&bytes)], &mut control, flags)) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    fn receive_with<M: DeserializeOwned>(&self, flags: RecvFlags) -> Result<Received<M>, LinkError> {
        let mut bytes = vec![0; DATAGRAM_BYTES];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = flags | RecvFlags::CMSG_CLOEXEC;
        let mut receive =
            || retry(|| recvmsg(&self.socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags));
        // A peer that died with something unread is told as a reset, once, before its last words.
        let result = match receive() {
            Err(Errno::CONNRESET) => receive(),
            other => other,
        };
        let message = match result {
            Ok(message) => message,
            Err(Errno::AGAIN) => return Ok(Received::Nothing),
            Err(Errno::CONNRESET) => return Ok(Received::Gone),
            Err(errno) => return Err(errno.into()),
        };
        // Taken before anything is judged, so that they are closed when the message is refused.
        let descriptors = control.drain().flat_map(rights).collect();
        if message.bytes == 0 {
            return Ok(Received::Gone);
        }
        if message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(LinkError::Truncated);
        }
        let message = serde_json::from_slice(&bytes[..message.bytes]).map_err(LinkError::Malformed)?;
        Ok(Received::Message(message, descriptors))
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Link {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// A signal that arrives during the call is no reason to fail it.
fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

fn rights(message: RecvAncillaryMessage<'_>) -> Vec<OwnedFd> {
    match message {
        RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect(),
        // Foreign enum: nothing else was asked for, and the other kinds hold no descriptors.
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
