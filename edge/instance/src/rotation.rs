//! Rotates log files whose writers keep them open: what is old is copied to `NAME.log.1`, then cut off the front of
//! the file in place (`fallocate(FALLOC_FL_COLLAPSE_RANGE)`), so a process that appends goes on as if nothing had
//! happened and no line is lost. Only whole blocks can be cut off: a line may begin at the end of `NAME.log.1` and go
//! on in `NAME.log`; reading the files in order gives every byte once.
//!
//! ext4 and xfs can do that. Where the file system cannot (tmpfs, btrfs, …), the whole file is copied and then
//! truncated: lines that are written in the instant between the last look and the truncation are lost. A crash of the
//! host in the middle can leave lines twice, never lose them.
//!
//! It runs on its own thread, because copying may wait for a disk and the control loop must not.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use everup_core::config;
use everup_observe::contained;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

/// How often sizes are looked at. A file can grow past its size by what is written in this time.
const CHECK: Duration = Duration::from_secs(1);

/// The thread that rotates. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Rotator {
    watch: Sender<(PathBuf, Option<config::Log>)>,
}

impl Rotator {
    pub(crate) fn spawn() -> io::Result<Self> {
        let (watch, watched) = mpsc::channel();
        thread::Builder::new().name("everup-logs".into()).spawn(move || run(&watched))?;
        Ok(Self { watch })
    }

    /// From now on this file obeys these limits, replacing earlier ones.
    pub(crate) fn watch(&self, path: PathBuf, limits: config::Log) {
        self.order(path, Some(limits));
    }

    /// Nobody writes to this file any more.
    pub(crate) fn forget(&self, path: PathBuf) {
        self.order(path, None);
    }

    fn order(&self, path: PathBuf, limits: Option<config::Log>) {
        if self.watch.send((path, limits)).is_err() {
            tracing::error!("log files are not rotated any more: the thread for it has panicked");
        }
    }
}

fn run(orders: &Receiver<(PathBuf, Option<config::Log>)>) {
    let mut watched = BTreeMap::new();
    loop {
        match orders.recv_timeout(CHECK) {
            Ok((path, Some(limits))) => {
                watched.insert(path, Watched { limits, complained: false });
            }
            Ok((path, None)) => drop(watched.remove(&path)),
            Err(RecvTimeoutError::Timeout) => drop(contained("the rotation of log files", || {
                everup_failpoint::hit("rotation");
                watched.iter_mut().for_each(|(path, file)| file.check(path));
            })),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

struct Watched {
    limits: config::Log,
    /// A trouble is told once, not every second.
    complained: bool,
}

impl Watched {
    fn check(&mut self, path: &Path) {
        match rotate(path, &self.limits) {
            Ok(Rotation::NotNeeded) => {}
            Ok(Rotation::Collapsed) => self.complained = false,
            Ok(Rotation::Truncated) => self.complain(
                path,
                "rotated by copying: this file system cannot cut a file's front off (FALLOC_FL_COLLAPSE_RANGE), \
                 so lines written during a rotation can be lost",
            ),
            Err(error) => self.complain(path, &format!("cannot be rotated and grows past its size: {error}")),
        }
    }

    fn complain(&mut self, path: &Path, what: &str) {
        if !std::mem::replace(&mut self.complained, true) {
            tracing::warn!("log file {}: {what}", path.display());
        }
    }
}

/// What [`rotate`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rotation {
    /// The file is within its size, or there is no file.
    NotNeeded,
    /// Its front was cut off; nothing was lost.
    Collapsed,
    /// It was copied and truncated; a line written in between may be lost.
    Truncated,
}

fn rotate(path: &Path, limits: &config::Log) -> io::Result<Rotation> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Rotation::NotNeeded),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    // Whole blocks, and never all of the file: the kernel refuses to collapse up to the end.
    let block = metadata.blksize().max(1);
    let cut = metadata.len().saturating_sub(1) / block * block;
    if metadata.len() <= limits.size || cut == 0 {
        return Ok(Rotation::NotNeeded);
    }
    let mut copy = Copy::begin(path, &file, limits.files)?;
    copy.up_to(cut)?;
    copy.keep()?;
    match fallocate(&file, FallocateFlags::COLLAPSE_RANGE, 0, cut) {
        Ok(()) => Ok(Rotation::Collapsed),
        Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
            copy.up_to_the_end()?;
            file.set_len(0)?;
            Ok(Rotation::Truncated)
        }
        Err(errno) => Err(errno.into()),
    }
}

/// The copy of a file's front, on its way to be `NAME.log.1`.
struct Copy<'a> {
    path: &'a Path,
    from: &'a File,
    /// None if no old files are wanted.
    to: Option<File>,
    files: usize,
    copied: u64,
}

impl<'a> Copy<'a> {
    fn begin(path: &'a Path, from: &'a File, files: usize) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o640);
        let to = if files > 0 { Some(options.open(numbered(path, 0))?) } else { None };
        Ok(Self { path, from, to, files, copied: 0 })
    }

    fn up_to(&mut self, end: u64) -> io::Result<()> {
        if let Some(to) = &mut self.to {
            let mut from = self.from;
            from.seek(SeekFrom::Start(self.copied))?;
            let copied = io::copy(&mut io::Read::take(from, end - self.copied), to)?;
            if copied != end - self.copied {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "somebody else shortened it"));
            }
            to.sync_data()?;
        }
        self.copied = end;
        Ok(())
    }

    /// Follows the writer until it pauses.
    fn up_to_the_end(&mut self) -> io::Result<()> {
        loop {
            let end = self.from.metadata()?.len();
            if end <= self.copied {
                return Ok(());
            }
            self.up_to(end)?;
        }
    }

    /// Shifts `.1` to `.2` and so on, dropping the oldest, and puts the copy in as `.1`.
    fn keep(&self) -> io::Result<()> {
        if self.to.is_none() {
            return Ok(());
        }
        for number in (0..self.files).rev() {
            match fs::rename(numbered(self.path, number), numbered(self.path, number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// `NAME.log.N`; 0 is the copy that is being made.
fn numbered(path: &Path, number: usize) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(test)]
mod tests;
