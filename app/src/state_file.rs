//! `known.json` in the state directory: the notes once more, for when keeper and worker are gone both. An everup that
//! begins within minutes then keeps out what it had found to be bad. It is only a help: when it is broken, old or
//! missing, everything is found out anew, as at the very first start.
//!
//! A thread of its own writes it, because a disk can take seconds; at most one version waits.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use everup_core::keeper::NOTES_BYTES;
use everup_core::time::Time;
use everup_observe::contained;
use serde::{Deserialize, Serialize};

use crate::clock::Now;
use crate::error::AppError;
use crate::notes::Notes;

/// Older knowledge is worth nothing: what was repaired or broke meanwhile is found out sooner by asking.
const OLDEST: Duration = Duration::from_secs(300);

/// It is written again even if nothing changed, so that its age says when everup last ran.
const REFRESH: Duration = Duration::from_secs(60);

/// Room for the notes, which are text within text, and the time.
const FILE_BYTES: u64 = 2 * NOTES_BYTES as u64 + 1024;

/// The file.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    /// In seconds since 1970.
    at: u64,
    /// As the keeper gets them.
    notes: String,
}

/// Writes the file.
#[derive(Debug)]
pub(crate) struct StateFile {
    versions: SyncSender<String>,
    writer: JoinHandle<()>,
    last: Option<String>,
    refresh: Time,
    /// The last version of all.
    frozen: Option<String>,
}

fn path_in(state: &Path) -> PathBuf {
    state.join("known.json")
}

/// What an everup that ran lately left; nothing, and a line in the log, if it is of no use.
pub(crate) fn read(state: &Path, wall: SystemTime) -> Notes {
    let path = path_in(state);
    match try_read(&path, wall) {
        Ok(Some(notes)) => Notes::read(Some(&notes)).for_a_new_everup(),
        Ok(None) => Notes::default(),
        Err(why) => {
            tracing::info!(path = %path.display(), "what was known of instances is not used: {why}");
            Notes::default()
        }
    }
}

fn try_read(path: &Path, wall: SystemTime) -> Result<Option<String>, String> {
    let mut text = String::new();
    match File::open(path) {
        Ok(file) => file.take(FILE_BYTES + 1).read_to_string(&mut text).map_err(|error| error.to_string())?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    if text.len() as u64 > FILE_BYTES {
        return Err("it is too large".to_owned());
    }
    let Written { at, notes } =
        serde_json::from_str(&text).map_err(|error| format!("it is broken ({error})"))?;
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(at)).ok_or("its time is none")?;
    match wall.duration_since(at) {
        Ok(age) if age <= OLDEST => Ok(Some(notes)),
        Ok(age) => Err(format!("it is {} s old", age.as_secs())),
        Err(_) => Err("it is from the future".to_owned()),
    }
}

impl StateFile {
    /// Starts the thread that writes.
    pub(crate) fn new(state: &Path) -> Result<Self, AppError> {
        let (versions, to_write) = sync_channel::<String>(1);
        let state = state.to_owned();
        let write = move || {
            let mut failed = false;
            for text in to_write {
                let written = contained("the writer of what is known", || {
                    everup_failpoint::hit("state-file");
                    write(&state, &text)
                });
                match written.unwrap_or_else(|| Err(io::Error::other("the writer failed inside"))) {
                    Ok(()) => failed = false,
                    Err(error) if !std::mem::replace(&mut failed, true) => {
                        let path = path_in(&state);
                        tracing::warn!(path = %path.display(), %error, "what is known of instances cannot be kept");
                    }
                    Err(_) => {}
                }
            }
        };
        let writer = std::thread::Builder::new().name("state-file".to_owned()).spawn(write);
        let writer = writer.map_err(AppError::System)?;
        Ok(Self { versions, writer, last: None, refresh: Time::ZERO, frozen: None })
    }

    /// Has the notes written if they are new or it is time; called about once a second. Never waits.
    pub(crate) fn offer(&mut self, now: Now, notes: &str) {
        let is_written = self.last.as_deref() == Some(notes) && now.time < self.refresh;
        if is_written || self.frozen.is_some() {
            return;
        }
        match self.versions.try_send(text(now.wall, notes)) {
            Ok(()) => {
                self.last = Some(notes.to_owned());
                self.refresh = now.time + REFRESH;
            }
            // The disk is slow: next time.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }

    /// These are the last notes: while everything ends, instances fail, which is no news for the next everup.
    pub(crate) fn freeze(&mut self, now: Now, notes: &str) {
        self.frozen.get_or_insert_with(|| text(now.wall, notes));
    }

    /// Waits until the last version is on the disk.
    pub(crate) fn finish(self) {
        let Self { versions, writer, frozen, .. } = self;
        if let Some(text) = frozen {
            // Without a thread nobody can write: told already.
            let _ = versions.send(text);
        }
        drop(versions);
        let _ = writer.join();
    }
}

fn text(wall: SystemTime, notes: &str) -> String {
    let at = wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let written = Written { at, notes: notes.to_owned() };
    serde_json::to_string(&written).expect("a number and a string can be written")
}

/// Whole or not at all: temp file, fsync, rename, fsync of the directory.
fn write(state: &Path, text: &str) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(state)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path_in(state))?;
    File::open(state)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use everup_core::health::outlier::Cause;
    use everup_core::health::{Reason, Verdict};
    use everup_core::ids::{Generation, InstanceId};

    use super::*;
    use crate::notes::{Ejected, Note, Restored};

    fn now(seconds: u64) -> Now {
        Now {
            time: Time::from_millis(seconds * 1000),
            instant: Instant::now(),
            wall: UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds),
        }
    }

    fn id(name: &str) -> InstanceId {
        InstanceId::new("shop", name)
    }

    fn notes() -> String {
        let ejected = Some(Ejected { cause: Cause::Failures(5), until: now(60).wall });
        let known = |verdict| Restored { verdict, seen_up: true, ..Restored::default() };
        let down = Verdict::Down(Reason::ProbeTimeout);
        let instances = [
            (id("a"), Note::new(known(down), None)),
            (id("b"), Note::new(Restored { ejected, ejections: 2, ..known(Verdict::Up) }, None)),
            (id("shop-1"), Note::new(known(Verdict::Up), Some(7))),
        ];
        Notes::new(Generation(9), instances.into_iter()).write()
    }

    fn written(notes: &str) -> tempfile::TempDir {
        let state = tempfile::tempdir().unwrap();
        let mut file = StateFile::new(state.path()).unwrap();
        file.freeze(now(0), notes);
        file.finish();
        state
    }

    #[test]
    fn a_new_everup_knows_who_was_down_and_who_is_ejected_and_checks_the_others_first() {
        let state = written(&notes());
        let notes = read(state.path(), now(30).wall);
        assert_eq!(notes.restored(&id("a"), None).verdict, Verdict::Down(Reason::ProbeTimeout));
        let b = notes.restored(&id("b"), None);
        assert_eq!((b.verdict, b.ejections), (Verdict::Unknown, 2));
        assert_eq!(b.ejected.map(|ejected| ejected.until), Some(now(60).wall));
        assert_eq!(notes.restored(&id("shop-1"), Some(7)), Restored::default());
        assert_eq!(notes.generation, Generation(0));
    }

    #[test]
    fn what_is_old_broken_too_large_or_from_the_future_is_not_used() {
        let state = written(&notes());
        assert_eq!(read(state.path(), now(301).wall), Notes::default());
        assert_eq!(read(state.path(), now(0).wall - Duration::from_secs(1)), Notes::default());
        let (no_time, too_long) =
            (format!(r#"{{"at":{},"notes":""}}"#, u64::MAX), "x".repeat(FILE_BYTES as usize + 1));
        for text in ["", "{", "[]", r#"{"at":1000000,"notes":"{"}"#, &no_time, &too_long] {
            std::fs::write(path_in(state.path()), text).unwrap();
            assert_eq!(read(state.path(), now(1).wall), Notes::default());
        }
        assert_eq!(read(&state.path().join("missing"), now(1).wall), Notes::default());
    }

    #[test]
    fn unchanged_notes_are_written_again_only_after_a_while() {
        let state = tempfile::tempdir().unwrap();
        let mut file = StateFile::new(state.path()).unwrap();
        file.offer(now(0), "notes");
        let refresh = file.refresh;
        file.offer(now(1), "notes");
        assert_eq!(file.refresh, refresh);
        file.freeze(now(2), "last words");
        file.freeze(now(3), "instances stop");
        file.finish();
        assert_eq!(try_read(&path_in(state.path()), now(2).wall), Ok(Some("last words".to_owned())));
    }
}
