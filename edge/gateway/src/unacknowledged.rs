//! How much of what was written to a connection its peer has not acknowledged yet: the kernel holds megabytes for a slow
//! reader and asks for more only when a third of them is free, so that writes alone say little about who takes what. The
//! standard library and rustix do not offer it.
#![expect(unsafe_code, reason = "an ioctl that no safe wrapper has")]

use std::io;
use std::os::fd::BorrowedFd;

use rustix::ioctl::{Getter, ioctl};

/// `SIOCOUTQ` (tcp(7)), the same number as `TIOCOUTQ`.
const SIOCOUTQ: rustix::ioctl::Opcode = 0x5411;

/// Bytes in the send queue of a TCP socket.
///
/// # Errors
/// The kernel's, for what is no TCP socket or not connected.
pub(crate) fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<u64> {
    // SAFETY: SIOCOUTQ writes one C int through the pointer it is given and reads nothing; `Getter` gives it room for just
    // that, and takes it for initialised only if the call succeeded.
    let bytes = unsafe { ioctl(socket, Getter::<SIOCOUTQ, std::ffi::c_int>::new()) }?;
    Ok(u64::try_from(bytes).unwrap_or_default())
}
