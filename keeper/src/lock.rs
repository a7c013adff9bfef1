//! One keeper per state directory: a lock on `keeper.lock` in it, which the kernel drops when the last of its holders dies. The
//! worker holds it, too: as long as it serves, nobody else begins anew.
//!
//! The file stays when the keeper ends; its content (the holder's process id) only serves error messages. Whose the
//! directory is, and what of its content a new owner gets, stands in `ownership.rs`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use crate::users::User;
use crate::{KeeperError, ownership};

const NAME: &str = "keeper.lock";

/// Held as long as any copy of the descriptor is open: by the keeper, and by its worker, which may outlive it.
#[derive(Clone, Debug)]
pub(crate) struct StateLock {
    file: Rc<File>,
}

impl AsFd for StateLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl StateLock {
    /// Makes the state directory if needed (0700, given to `owner`, who keeps its state in it) and locks it.
    pub(crate) fn take(state: &Path, owner: Option<&User>) -> Result<Self, KeeperError> {
        let failed = |source| KeeperError::State { path: state.to_owned(), source };
        prepare(state).map_err(failed)?;
        ownership::admit(state, owner).map_err(failed)?;
        let mut file = open(&state.join(NAME)).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(KeeperError::Locked { path: state.to_owned(), pid: holder(&mut file) });
            }
            Err(errno) => return Err(failed(errno.into())),
        }
        sign(&mut file).map_err(failed)?;
        ownership::hand_over(state, owner).map_err(failed)?;
        Ok(Self { file: Rc::new(file) })
    }

    /// One that another binary took in this process: it lasts as long as anybody has the file open.
    pub(crate) fn taken(file: OwnedFd) -> Self {
        Self { file: Rc::new(file.into()) }
    }

    /// The lock that a worker has kept since its keeper died. The error says why it is none.
    pub(crate) fn kept(state: &Path, descriptor: OwnedFd) -> io::Result<Self> {
        let mut file = File::from(descriptor);
        let (kept, there) = (file.metadata()?, fs::symlink_metadata(state.join(NAME))?);
        if (kept.dev(), kept.ino()) != (there.dev(), there.ino()) {
            return Err(io::Error::other("what the worker holds is not the lock of the state directory"));
        }
        // Held by this very descriptor, so it is no question of waiting.
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        sign(&mut file)?;
        Ok(Self { file: Rc::new(file) })
    }
}

fn prepare(state: &Path) -> io::Result<()> {
    if let Some(parent) = state.parent() {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(state) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if fs::metadata(state)?.is_dir() { Ok(()) } else { Err(io::ErrorKind::NotADirectory.into()) }
}

/// Follows no link, of either kind: the directory may belong to the worker's user, who is trusted less, and the file
/// is written to.
fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() && metadata.nlink() == 1 {
        Ok(file)
    } else {
        Err(io::Error::other("`keeper.lock` in it is not a file of its own"))
    }
}

fn holder(file: &mut File) -> String {
    let mut pid = String::new();
    match file.take(16).read_to_string(&mut pid) {
        Ok(_) if !pid.trim().is_empty() => pid.trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}

fn sign(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_second_keeper_is_refused_with_the_process_in_charge_until_the_first_one_ends() {
        let home = tempfile::tempdir().unwrap();
        let state = home.path().join("state");
        let first = StateLock::take(&state, None).unwrap();
        let refused = StateLock::take(&state, None).unwrap_err().to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        drop(first);
        StateLock::take(&state, None).unwrap();
    }

    #[test]
    fn the_state_directory_is_made_for_its_owner_only() {
        let home = tempfile::tempdir().unwrap();
        let state = home.path().join("new/state");
        let _lock = StateLock::take(&state, None).unwrap();
        assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(state.join("keeper.lock")).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_state_directory_that_cannot_be_made_is_refused_with_its_path() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("file"), "").unwrap();
        for state in ["file", "file/state"] {
            let refused = StateLock::take(&home.path().join(state), None).unwrap_err().to_string();
            assert!(refused.contains(state) && refused.contains("node.state"), "{refused}");
        }
    }

    #[test]
    fn a_link_in_the_place_of_the_lock_is_not_followed() {
        let symbolic: fn(&Path, &Path) -> io::Result<()> =
            |victim, lock| std::os::unix::fs::symlink(victim, lock);
        for link in [symbolic, |victim, lock| fs::hard_link(victim, lock)] {
            let home = tempfile::tempdir().unwrap();
            let victim = home.path().join("victim");
            fs::write(&victim, "precious").unwrap();
            link(&victim, &home.path().join("keeper.lock")).unwrap();
            assert!(StateLock::take(home.path(), None).is_err());
            assert_eq!(fs::read(&victim).unwrap(), b"precious");
        }
    }
}
