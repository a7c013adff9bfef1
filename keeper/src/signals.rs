//! The signals that the keeper heeds, as something that can be waited for.
//!
//! The handlers set a flag and write a byte; what a signal means stands in `keeper.rs`.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level::pipe};

use crate::KeeperError;

/// Everything that is caught.
pub(crate) const HEEDED: [i32; 4] = [SIGINT, SIGTERM, SIGHUP, SIGCHLD];

/// Caught signals. Readable when one came.
#[derive(Debug)]
pub(crate) struct Signals {
    wake: UnixStream,
    end: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
}

/// What came since the last look. (SIGCHLD only wakes.)
#[derive(Clone, Copy, Debug)]
pub(crate) struct Came {
    /// SIGINT or SIGTERM.
    pub(crate) end: bool,
    /// SIGHUP.
    pub(crate) reload: bool,
}

impl Signals {
    pub(crate) fn catch() -> Result<Self, KeeperError> {
        Self::try_catch().map_err(|source| KeeperError::System { what: "catching signals", source })
    }

    fn try_catch() -> io::Result<Self> {
        let (wake, write) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let (end, reload) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        // Handlers run in the order of their registration: the flag is set before the byte is written.
        flag::register(SIGINT, Arc::clone(&end))?;
        flag::register(SIGTERM, Arc::clone(&end))?;
        flag::register(SIGHUP, Arc::clone(&reload))?;
        for signal in HEEDED {
            pipe::register(signal, write.try_clone()?)?;
        }
        Ok(Self { wake, end, reload })
    }

    /// Something came that [`Signals::take`] would tell.
    pub(crate) fn has_any(&self) -> bool {
        self.end.load(Ordering::SeqCst) || self.reload.load(Ordering::SeqCst)
    }

    pub(crate) fn take(&self) -> Came {
        let mut bytes = [0; 64];
        while matches!((&self.wake).read(&mut bytes), Ok(count) if count > 0) {}
        Came {
            end: self.end.swap(false, Ordering::SeqCst),
            reload: self.reload.swap(false, Ordering::SeqCst),
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
