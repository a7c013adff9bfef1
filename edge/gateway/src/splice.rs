//! Large bodies without copying: bytes go from socket to pipe to socket inside the kernel (`splice(2)`). Worth it only
//! when much is left, for two system calls and a pipe cost more than copying a few kilobytes; and only between plain
//! connections, for TLS must see the bytes. What a body is and how long, is decided elsewhere.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, SpliceFlags};

use crate::stream::Stream;

/// A body of which so much is left is spliced. Measured: below about 200 kB the copy through a warm 256 KiB buffer wins.
pub(crate) const SPLICE_FROM: u64 = 200_000;

/// Splicing goes on while at least so much comes at once: smaller pieces are copied with as few calls.
pub(crate) const BULK: usize = 64 * 1024;

/// What a pipe is asked to hold; the kernel's usual limit for unprivileged users. With less it works all the same.
const PIPE_BYTES: usize = 1024 * 1024;

/// Empty pipes kept for the next body, per thread; each is two descriptors.
const SPARE_PIPES: usize = 16;

/// The most pipes of a thread, spare ones included; beyond, bodies are copied. A client that does not read keeps its pipe,
/// and descriptors and the kernel's memory are for everybody.
const PIPES: usize = 128;

/// A kernel buffer between two sockets.
#[derive(Debug)]
pub(crate) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    held: usize,
    _counted: Counted,
}

/// Counts a pipe out when it is closed.
#[derive(Debug)]
struct Counted(Rc<Cell<usize>>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// The spare pipes of a thread.
#[derive(Debug, Default)]
pub(crate) struct Pipes {
    spare: RefCell<Vec<Pipe>>,
    count: Rc<Cell<usize>>,
}

impl Pipes {
    /// An empty pipe; None if there are too many or the kernel has none left, and then copying goes on.
    pub(crate) fn take(&self) -> Option<Pipe> {
        self.spare.borrow_mut().pop().or_else(|| self.open())
    }

    fn open(&self) -> Option<Pipe> {
        if self.count.get() >= PIPES {
            return None;
        }
        self.count.set(self.count.get() + 1);
        Pipe::new(Counted(Rc::clone(&self.count))).ok()
    }

    /// Keeps a pipe for the next body. One that holds bytes of an exchange that broke off is closed instead.
    pub(crate) fn give(&self, pipe: Pipe) {
        let mut spare = self.spare.borrow_mut();
        if pipe.held == 0 && spare.len() < SPARE_PIPES {
            spare.push(pipe);
        }
    }
}

impl Pipe {
    fn new(counted: Counted) -> io::Result<Self> {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // A smaller pipe only means more calls.
        let _ = rustix::pipe::fcntl_setpipe_size(&write, PIPE_BYTES);
        Ok(Self { read, write, held: 0, _counted: counted })
    }

    /// Whether nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Takes at most `most` bytes out of `from`, into an empty pipe. 0: the peer sends no more.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &Context<'_>,
        from: &Stream,
        most: u64,
    ) -> Poll<io::Result<usize>> {
        // A full pipe would look like an empty socket.
        debug_assert!(self.is_empty(), "only an empty pipe is filled");
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(PIPE_BYTES);
        let filled = ready!(from.poll_readable(cx, |socket| splice(socket, self.write.as_fd(), most)))?;
        self.held = filled;
        Poll::Ready(Ok(filled))
    }

    /// Takes everything out of it by hand. False: the kernel would not give it.
    pub(crate) fn empty_into(&mut self, into: &mut Vec<u8>) -> bool {
        let before = into.len();
        into.resize(before + self.held, 0);
        let mut at = before;
        while at < into.len() {
            match rustix::io::retry_on_intr(|| rustix::io::read(&self.read, &mut into[at..])) {
                Ok(read @ 1..) => at += read,
                Ok(0) | Err(_) => return false,
            }
        }
        self.held = 0;
        true
    }

    /// Gives to `to` what that takes now of what is held; how much it was.
    pub(crate) fn poll_drain(&mut self, cx: &Context<'_>, to: &Stream) -> Poll<io::Result<usize>> {
        let drained = ready!(to.poll_writable(cx, |socket| splice(self.read.as_fd(), socket, self.held)))?;
        self.held = self.held.saturating_sub(drained);
        Poll::Ready(Ok(drained))
    }
}

fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
    Ok(rustix::pipe::splice(from, None, to, None, most, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_has_only_so_many_pipes_and_gets_them_back_however_they_end() {
        let pipes = Pipes::default();
        let all = || std::iter::from_fn(|| pipes.take()).take(PIPES + 1).collect::<Vec<_>>();
        let mut taken = all();
        assert_eq!(taken.len(), PIPES);
        pipes.give(taken.pop().unwrap());
        assert!(pipes.take().is_some_and(|pipe| pipe.is_empty()));
        let mut broken_off = taken.pop().unwrap();
        broken_off.held = 1;
        pipes.give(broken_off);
        assert!(pipes.take().is_some());
        drop(taken);
        assert_eq!(all().len(), PIPES);
    }
}
