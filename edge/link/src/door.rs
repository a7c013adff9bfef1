//! A line between two processes that are not parent and child: a worker whose keeper has died opens a door, a unix socket in the
//! state directory, and the next keeper knocks.
//!
//! Both ends learn from the kernel who the other one is ([`Peer`]); whether that is good enough, they decide.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen, socket_with,
    sockopt,
};

use crate::{DATAGRAM_BYTES, Link, LinkError};

/// Keepers that may wait to be let in. One is the rule.
const WAITING: i32 = 4;

/// Who is at the other end. Its kernel says so, not itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The process that opened the door, or knocked.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
}

/// The listening end. When it is dropped, its file goes.
#[derive(Debug)]
pub struct Door {
    socket: OwnedFd,
    path: PathBuf,
}

impl Door {
    /// Opens a door that only its owner, and root, can come to. What was left there by another process is removed: the state
    /// directory's lock must be held.
    ///
    /// # Errors
    /// The system's.
    pub fn open(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = socket()?;
        // On Linux the mode of the unbound socket becomes the mode of the file.
        fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        bind(&socket, &SocketAddrUnix::new(path)?)?;
        listen(&socket, WAITING)?;
        Ok(Self { socket, path: path.to_owned() })
    }

    /// Whoever has knocked; None: nobody now.
    ///
    /// # Errors
    /// [`LinkError::System`].
    pub fn try_accept(&self) -> Result<Option<(Link, Peer)>, LinkError> {
        match accept_with(&self.socket, SocketFlags::CLOEXEC) {
            Ok(socket) => line(socket).map(Some),
            Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // A later one would remove it too.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Door {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// A line to whoever opened the door; None: nobody did, or it is gone.
///
/// # Errors
/// [`LinkError::System`].
pub fn knock(path: &Path) -> Result<Option<(Link, Peer)>, LinkError> {
    let socket = socket()?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        Ok(()) => line(socket).map(Some),
        // Refused: its process has ended. Full: others are waiting already.
        Err(Errno::NOENT | Errno::CONNREFUSED | Errno::AGAIN) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Neither end waits for the other but by [`Link`]'s own calls.
fn socket() -> rustix::io::Result<OwnedFd> {
    socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
}

fn line(socket: OwnedFd) -> Result<(Link, Peer), LinkError> {
    sockopt::set_socket_send_buffer_size(&socket, DATAGRAM_BYTES)?;
    rustix::io::ioctl_fionbio(&socket, false)?;
    let peer = sockopt::socket_peercred(&socket)?;
    let peer = Peer { pid: peer.pid.as_raw_nonzero().get().cast_unsigned(), uid: peer.uid.as_raw() };
    Ok((Link::from_descriptor(socket)?, peer))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn who_knocks_and_who_opens_know_each_other_and_speak() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("worker.sock");
        assert!(knock(&path).unwrap().is_none());
        let door = Door::open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(door.try_accept().unwrap().is_none());
        let (keeper, opened) = knock(&path).unwrap().unwrap();
        let (worker, knocked) = door.try_accept().unwrap().unwrap();
        let us = Peer { pid: std::process::id(), uid: rustix::process::getuid().as_raw() };
        assert_eq!((opened, knocked), (us, us));
        keeper.send(&"hello", &[]).unwrap();
        assert_eq!(worker.receive::<String>().unwrap().unwrap().0, "hello");
        drop(door);
        assert!(!path.exists() && knock(&path).unwrap().is_none());
    }

    #[test]
    fn a_door_that_a_dead_process_left_is_replaced() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("worker.sock");
        // Killed: it could not tidy up.
        std::mem::forget(Door::open(&path).unwrap());
        let door = Door::open(&path).unwrap();
        let _keeper = knock(&path).unwrap().unwrap();
        assert!(door.try_accept().unwrap().is_some());
    }
}
