//! Many `recv` or `send` calls in one entry into the kernel. io_uring serves as a list of system calls, no more: nothing
//! waits in it, for every call is made with `MSG_DONTWAIT` and is over when the kernel returns. So buffers are borrowed
//! for the length of a function, and no task has to be kept alive for a buffer's sake.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::{IoUring, opcode, squeue, types};

/// The largest number of calls in a batch.
pub(super) const MOST: usize = 64;

/// A ring, and what came out of it.
pub(super) struct Batch {
    ring: IoUring,
    /// For fewer calls a batch does not pay.
    smallest: usize,
    results: [i32; MOST],
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Batch").finish_non_exhaustive()
    }
}

/// What the kernel said to each call, in their order.
pub(super) type Results<'a> = &'a [i32];

impl Batch {
    /// None: this kernel has no io_uring, or not for us (an old one, seccomp, `kernel.io_uring_disabled`).
    pub(super) fn new(smallest: usize) -> Option<Self> {
        let entries = MOST as u32;
        let ring = IoUring::builder()
            .dontfork()
            .setup_submit_all()
            .setup_single_issuer()
            .build(entries)
            .or_else(|_| IoUring::new(entries))
            .ok()?;
        let mut probe = io_uring::Probe::new();
        ring.submitter().register_probe(&mut probe).ok()?;
        let able = probe.is_supported(opcode::Recv::CODE) && probe.is_supported(opcode::Send::CODE);
        able.then_some(Self { ring, smallest, results: [0; MOST] })
    }

    /// Whether so many calls are better made together.
    pub(super) fn pays_for(&self, calls: usize) -> bool {
        calls >= self.smallest
    }

    /// Receives into each buffer what is there for it. At most [`MOST`] at a time.
    pub(super) fn receive<'a>(
        &mut self,
        calls: impl Iterator<Item = (BorrowedFd<'a>, &'a mut [u8])>,
    ) -> Results<'_> {
        let entries = calls.map(|(fd, into)| {
            opcode::Recv::new(types::Fd(fd.as_raw_fd()), into.as_mut_ptr(), length(into.len()))
                .flags(libc_flags(rustix::net::RecvFlags::DONTWAIT.bits()))
                .build()
        });
        // SAFETY: each entry points to a buffer that is borrowed for 'a, exclusively, and 'a outlasts this call;
        // `run` returns only when the kernel is done with every one of them.
        unsafe { self.run(entries) }
    }

    /// Sends as much of each buffer as the kernel takes. At most [`MOST`] at a time.
    pub(super) fn send<'a>(
        &mut self,
        calls: impl Iterator<Item = (BorrowedFd<'a>, &'a [u8])>,
    ) -> Results<'_> {
        let flags = rustix::net::SendFlags::DONTWAIT | rustix::net::SendFlags::NOSIGNAL;
        let entries = calls.map(|(fd, bytes)| {
            opcode::Send::new(types::Fd(fd.as_raw_fd()), bytes.as_ptr(), length(bytes.len()))
                .flags(libc_flags(flags.bits()))
                .build()
        });
        // SAFETY: each entry points to bytes that are borrowed for 'a, which outlasts this call; `run` returns only
        // when the kernel is done with every one of them.
        unsafe { self.run(entries) }
    }

    /// Makes the calls and waits for the end of all of them.
    ///
    /// # Safety
    /// What the entries point to must be valid, and where the kernel writes not be touched, until this returns.
    unsafe fn run(&mut self, entries: impl Iterator<Item = squeue::Entry>) -> Results<'_> {
        let mut calls = 0;
        for entry in entries.take(MOST) {
            // SAFETY: by the contract of this function, which does not return before the entry is completed.
            let pushed = unsafe { self.ring.submission().push(&entry.user_data(calls as u64)) };
            pushed.expect("the ring is empty before a batch, and holds a whole one");
            calls += 1;
        }
        let mut over = 0;
        while over < calls {
            if let Err(error) = self.ring.submit_and_wait(calls - over)
                && !is_passing(&error)
            {
                // Buffers may be in the kernel's hands, which nobody could take back: there is no way on from here.
                tracing::error!("io_uring failed in the middle of a batch: {error}");
                std::process::abort();
            }
            for completion in self.ring.completion() {
                self.results[completion.user_data() as usize] = completion.result();
                over += 1;
            }
        }
        &self.results[..calls]
    }
}

/// A result as the rest of us knows it.
pub(super) fn outcome(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}

/// A signal came, or the kernel has no memory at this moment: nothing is lost by asking again.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind;
    matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::ResourceBusy)
}

fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn libc_flags(bits: u32) -> i32 {
    bits.cast_signed()
}
