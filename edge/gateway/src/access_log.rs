//! The access log: a line of JSON for each request. A data-plane thread writes lines into a buffer of its own and hands
//! full ones to the one thread that writes; empty ones come back. There are only so many buffers: when the writer
//! cannot keep up, there is none left and lines are dropped and counted. Nobody on the way of a request waits, locks
//! or allocates.
//!
//! ```text
//! data-0: line line line ─► full ─┐                      ┌─► file or standard output
//! data-1: line line ──────► full ─┴─► bounded channel ─► writer ─► empty ─► back to its thread
//! ```

mod line;
mod writer;

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

pub(crate) use line::Entry;
pub use writer::open;

/// A buffer's size. Written to the file at once.
const BUFFER_BYTES: usize = 64 * 1024;

/// More than any line can be: what a client can choose is bounded, and no byte becomes more than six.
const LINE_BYTES: usize = 16 * 1024;

/// Buffers of a thread: at 350 bytes a line some 1,500 lines wait before one is dropped.
const BUFFERS: usize = 8;

/// How long the end of the data plane waits for the last lines to be written.
const FLUSH_TIME: Duration = Duration::from_secs(2);

/// Where the lines go, and what they show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// None: standard output.
    pub file: Option<PathBuf>,
    /// The path is shown with its query.
    pub query: bool,
}

/// Lines on their way to the writer.
#[derive(Debug)]
struct Batch {
    thread: usize,
    lines: Vec<u8>,
}

/// The running writer.
#[derive(Debug)]
pub(crate) struct Writer {
    thread: JoinHandle<()>,
    /// Locked only so that a gateway can be lent to several threads.
    finished: Mutex<Receiver<()>>,
}

/// A data-plane thread's end of the access log.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) query: bool,
    buffer: RefCell<Vec<u8>>,
    second: Cell<line::Second>,
    thread: usize,
    full: SyncSender<Batch>,
    empty: Receiver<Vec<u8>>,
    dropped: Arc<AtomicU64>,
}

/// Starts the writer, and makes an end for each of `threads` data-plane threads.
pub(crate) fn start(
    settings: AccessLog,
    threads: usize,
    dropped: &Arc<AtomicU64>,
) -> std::io::Result<(Writer, Vec<Log>)> {
    let AccessLog { file, query } = settings;
    // Room for every buffer there is, so that handing one over never fails for want of it.
    let (full, batches) = sync_channel(threads * (BUFFERS + 1));
    let (finish, finished) = sync_channel(1);
    let mut logs = Vec::new();
    let mut back = Vec::new();
    for thread in 0..threads {
        let (give, empty) = sync_channel(BUFFERS + 1);
        for _ in 1..BUFFERS {
            // There is room: the channel is new.
            let _ = give.try_send(Vec::with_capacity(BUFFER_BYTES));
        }
        back.push(give);
        logs.push(Log {
            query,
            buffer: RefCell::new(Vec::with_capacity(BUFFER_BYTES)),
            second: Cell::default(),
            thread,
            full: full.clone(),
            empty,
            dropped: Arc::clone(dropped),
        });
    }
    let dropped = Arc::clone(dropped);
    let thread = std::thread::Builder::new().name("access-log".to_owned()).spawn(move || {
        writer::run(&batches, &back, file, &dropped);
        // Nobody may be waiting for it.
        let _ = finish.try_send(());
    })?;
    Ok((Writer { thread, finished: Mutex::new(finished) }, logs))
}

impl Writer {
    /// Waits until everything is written, but not for a reader of standard output that has stopped reading. The
    /// data-plane threads must have ended.
    pub(crate) fn finish(self) {
        let finished = self.finished.into_inner().unwrap_or_else(PoisonError::into_inner);
        if finished.recv_timeout(FLUSH_TIME).is_ok() {
            // It has come to its end.
            let _ = self.thread.join();
        }
    }
}

impl Log {
    /// Writes a line, or counts it as dropped.
    pub(crate) fn write(&self, entry: &Entry<'_>) {
        let mut buffer = self.buffer.borrow_mut();
        if buffer.len() + LINE_BYTES > BUFFER_BYTES {
            self.hand_over(&mut buffer);
            if buffer.len() + LINE_BYTES > BUFFER_BYTES {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
        let mut second = self.second.get();
        line::write(&mut buffer, &mut second, entry);
        self.second.set(second);
    }

    /// Has what was written so far go on its way. Once per sweep, so that lines are seen soon.
    pub(crate) fn flush(&self) {
        let mut buffer = self.buffer.borrow_mut();
        if !buffer.is_empty() {
            self.hand_over(&mut buffer);
        }
    }

    /// Changes the buffer for an empty one, if there is one.
    fn hand_over(&self, buffer: &mut Vec<u8>) {
        let Ok(empty) = self.empty.try_recv() else { return };
        let lines = std::mem::replace(buffer, empty);
        self.send(lines);
    }

    fn send(&self, lines: Vec<u8>) {
        let count = memchr::memchr_iter(b'\n', &lines).count();
        if self.full.try_send(Batch { thread: self.thread, lines }).is_err() {
            // The writer is gone: it failed inside.
            self.dropped.fetch_add(count as u64, Ordering::Relaxed);
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut *self.buffer.borrow_mut());
        if !lines.is_empty() {
            self.send(lines);
        }
    }
}

#[cfg(test)]
mod tests;
