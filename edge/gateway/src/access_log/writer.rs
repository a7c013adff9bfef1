//! The thread that writes the access log. It may wait for a disk or a pipe; nobody waits for it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use everup_observe::contained;

use super::Batch;

/// Complaints about a log that cannot be written come at most this often.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(60);

/// Opens a file for the access log: made if need be, for its owner to write and its group to read.
///
/// # Errors
/// The system's.
pub fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

/// Writes until all senders are gone.
pub(super) fn run(
    batches: &Receiver<Batch>,
    back: &[SyncSender<Vec<u8>>],
    file: Option<PathBuf>,
    dropped: &AtomicU64,
) {
    let mut output = Output { file, opened: None, torn: false, complained: None };
    for Batch { thread, mut lines } in batches {
        let written = contained("the access log", || {
            everup_failpoint::hit("access-log");
            output.write(&lines)
        });
        let lost = written.unwrap_or_else(|| count(&lines));
        if lost > 0 {
            dropped.fetch_add(lost, Ordering::Relaxed);
        }
        lines.clear();
        // The thread may have ended; then nobody needs the buffer.
        let _ = back[thread].try_send(lines);
    }
}

/// Where the lines go.
struct Output {
    /// None: standard output.
    file: Option<PathBuf>,
    opened: Option<File>,
    /// The last line is not whole: a write failed in its middle.
    torn: bool,
    complained: Option<Instant>,
}

impl Output {
    /// Writes whole lines; returns how many could not be.
    fn write(&mut self, lines: &[u8]) -> u64 {
        let mut at = 0;
        let written = self.write_from(lines, &mut at);
        let Err(error) = written else { return 0 };
        self.torn = at > 0 && lines[at - 1] != b'\n' || self.torn && at == 0;
        self.complain(&error);
        count(&lines[at..])
    }

    fn write_from(&mut self, lines: &[u8], at: &mut usize) -> io::Result<()> {
        let torn = std::mem::take(&mut self.torn);
        let mut stdout = io::stdout();
        let out: &mut dyn Write = match &self.file {
            None => &mut stdout,
            Some(path) => reopened(&mut self.opened, path)?,
        };
        if torn {
            out.write_all(b"\n")?;
        }
        while *at < lines.len() {
            match out.write(&lines[*at..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => *at += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        out.flush()
    }

    fn complain(&mut self, error: &io::Error) {
        if self.complained.is_some_and(|before| before.elapsed() < COMPLAINT_PAUSE) {
            return;
        }
        self.complained = Some(Instant::now());
        let target = self.file.as_deref().map_or_else(|| "standard output".into(), Path::to_string_lossy);
        tracing::error!("cannot write the access log to {target}: {error}; lines are dropped and counted");
    }
}

fn count(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}

/// The file at `path`: the one that is open, or, if that was moved away or deleted, a new one.
fn reopened<'a>(opened: &'a mut Option<File>, path: &Path) -> io::Result<&'a mut File> {
    let is_there = |file: &File| -> io::Result<bool> {
        let (open, there) = (file.metadata()?, std::fs::metadata(path)?);
        Ok((open.dev(), open.ino()) == (there.dev(), there.ino()))
    };
    let keep = opened.as_ref().is_some_and(|file| is_there(file).unwrap_or(false));
    if !keep {
        *opened = Some(open(path)?);
    }
    Ok(opened.as_mut().expect("it was opened just now"))
}
