//! The line between the gateways of two workers: datagrams with descriptors beside them, on threads that may wait. What
//! they say is known in `everup_core::handover`.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use everup_core::handover::{self, Assembly, DATAGRAM_BYTES, Hello, Malformed, Message, PIECE_BYTES, Told};
use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketType, recvmsg, sendmsg, shutdown,
};

/// A connection comes with no more.
const DESCRIPTORS: usize = 2;

/// How long a side waits for the other one's first word. Both are started by the same keeper, at the same time.
const GREETING_TIME: Duration = Duration::from_secs(10);

/// Why nothing more is said.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    /// The other side has closed, or died.
    #[error("the other worker has ended")]
    Gone,
    /// This side has come to its end.
    #[error("this worker stops")]
    Stops,
    /// It says what makes no sense.
    #[error("the other worker says what this one does not understand: {0}")]
    Malformed(#[from] Malformed),
    /// It says it when it should not.
    #[error("the other worker speaks out of turn")]
    OutOfTurn,
    /// It says nothing at all.
    #[error("the other worker said nothing for {} s", GREETING_TIME.as_secs())]
    Silent,
    /// It is too old, or too new.
    #[error(
        "the other worker (everup {}) moves connections by protocol {} to {}, this one by {} to {}",
        .0.version, .0.lowest, .0.highest, handover::LOWEST, handover::HIGHEST
    )]
    Versions(Hello),
    /// The kernel refuses.
    #[error("the line to the other worker failed: {0}")]
    Io(#[from] io::Error),
}

impl From<Errno> for Ended {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::PIPE | Errno::CONNRESET => Self::Gone,
            other => Self::Io(other.into()),
        }
    }
}

/// What came.
#[derive(Debug)]
pub(super) struct Came {
    pub(super) told: Told,
    pub(super) descriptors: Vec<OwnedFd>,
}

/// One end of the line. One thread may send and another receive.
#[derive(Debug)]
pub(crate) struct Line(OwnedFd);

/// Puts messages together, and lends them room.
#[derive(Debug)]
pub(super) struct Ear {
    assembly: Assembly,
    room: Box<[u8]>,
}

impl Default for Ear {
    fn default() -> Self {
        Self { assembly: Assembly::default(), room: vec![0; DATAGRAM_BYTES + 1].into_boxed_slice() }
    }
}

impl Line {
    /// `end`: a SOCK_SEQPACKET unix socket, connected.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn new(end: OwnedFd) -> io::Result<Self> {
        let is_line = sockopt::socket_domain(&end)? == AddressFamily::UNIX
            && sockopt::socket_type(&end)? == SocketType::SEQPACKET;
        if !is_line {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "connections move over a SOCK_SEQPACKET socket",
            ));
        }
        rustix::io::ioctl_fionbio(&end, false)?;
        Ok(Self(end))
    }

    /// Both say which protocols they speak.
    pub(super) fn greet(&self, ear: &mut Ear) -> Result<u32, Ended> {
        let ours = Hello::ours(env!("CARGO_PKG_VERSION"));
        self.say(&Message::Hello(ours.clone()))?;
        sockopt::set_socket_timeout(&self.0, Timeout::Recv, Some(GREETING_TIME))?;
        let came = self.hear(ear);
        sockopt::set_socket_timeout(&self.0, Timeout::Recv, None)?;
        match came {
            Ok(Came { told: Told::Hello(theirs), .. }) => ours.agree(&theirs).ok_or(Ended::Versions(theirs)),
            Ok(_) => Err(Ended::OutOfTurn),
            Err(Ended::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Err(Ended::Silent),
            Err(ended) => Err(ended),
        }
    }

    /// Sends a message alone.
    pub(super) fn say(&self, message: &Message) -> Result<(), Ended> {
        let mut datagram = Vec::new();
        handover::write(&mut datagram, message, &[])?;
        self.send(&datagram, &[])
    }

    /// Sends a message with bytes and descriptors.
    pub(super) fn give(
        &self,
        message: &Message,
        bytes: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), Ended> {
        let mut datagram = Vec::new();
        let (pieces, last) = bytes.split_at(bytes.len() - bytes.len() % PIECE_BYTES);
        for piece in pieces.chunks(PIECE_BYTES) {
            handover::write(&mut datagram, &Message::Piece, piece)?;
            self.send(&datagram, &[])?;
        }
        handover::write(&mut datagram, message, last)?;
        let sent = self.send(&datagram, descriptors);
        if sent.is_err() && !pieces.is_empty() {
            self.say(&Message::Forget)?;
        }
        sent
    }

    fn send(&self, datagram: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), Ended> {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            let fits = control.push(SendAncillaryMessage::ScmRights(descriptors));
            assert!(fits, "no connection has more than {DESCRIPTORS} descriptors");
        }
        let slices = [IoSlice::new(datagram)];
        rustix::io::retry_on_intr(|| sendmsg(&self.0, &slices, &mut control, SendFlags::NOSIGNAL))?;
        Ok(())
    }

    /// Waits for what the other side says next.
    pub(super) fn hear(&self, ear: &mut Ear) -> Result<Came, Ended> {
        loop {
            let (length, descriptors) = self.receive(&mut ear.room)?;
            if let Some(told) = ear.assembly.handle(&ear.room[..length])? {
                return Ok(Came { told, descriptors });
            }
        }
    }

    /// Descriptors that did not fit, or of which there may be no more here, are missing: who needs them counts them.
    fn receive(&self, room: &mut [u8]) -> Result<(usize, Vec<OwnedFd>), Ended> {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS))];
        loop {
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::CMSG_CLOEXEC;
            let mut slices = [IoSliceMut::new(room)];
            match recvmsg(&self.0, &mut slices, &mut control, flags) {
                Ok(message) if message.bytes == 0 => return Err(Ended::Gone),
                Ok(message) if message.flags.contains(ReturnFlags::TRUNC) => {
                    return Err(Malformed::Length.into());
                }
                Ok(message) => return Ok((message.bytes, control.drain().flat_map(rights).collect())),
                // It has closed without reading all that we said; what it said before can be read still.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Nothing more is said or heard, and whoever waits for that is woken.
    pub(crate) fn end(&self) {
        // It may have ended before.
        let _ = shutdown(&self.0, Shutdown::Both);
    }
}

fn rights(message: RecvAncillaryMessage<'_>) -> Vec<OwnedFd> {
    match message {
        RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect(),
        // Foreign enum: nothing else was asked for, and the other kinds hold no descriptors.
        _ => Vec::new(),
    }
}
