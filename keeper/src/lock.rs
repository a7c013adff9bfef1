//! One keeper per state directory: a lock on `keeper.lock` in it, which the kernel drops when its holder dies.
//!
//! The file stays when the keeper ends; its content (the holder's process id) only serves error messages.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use crate::KeeperError;
use crate::users::User;

/// Held as long as the keeper lives.
#[derive(Debug)]
pub(crate) struct StateLock {
    _file: File,
}

impl StateLock {
    /// Makes the state directory if needed (0700, given to `owner`, who keeps its state in it) and locks it.
    pub(crate) fn take(state: &Path, owner: Option<&User>) -> Result<Self, KeeperError> {
        let failed = |source| KeeperError::State { path: state.to_owned(), source };
        prepare(state, owner).map_err(failed)?;
        let mut file = open(&state.join("keeper.lock")).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(KeeperError::Locked { path: state.to_owned(), pid: holder(&mut file) });
            }
            Err(errno) => return Err(failed(errno.into())),
        }
        sign(&mut file).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

fn prepare(state: &Path, owner: Option<&User>) -> io::Result<()> {
    if let Some(parent) = state.parent() {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(state) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let directory = File::open(state)?;
    let metadata = directory.metadata()?;
    if !metadata.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    if let Some(owner) = owner
        && metadata.uid() != owner.uid
    {
        std::os::unix::fs::fchown(&directory, Some(owner.uid), Some(owner.gid))?;
    }
    Ok(())
}

/// Follows no link and truncates nothing: the directory may belong to the worker's user, who is trusted less.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
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
        let home = tempfile::tempdir().unwrap();
        let victim = home.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, home.path().join("keeper.lock")).unwrap();
        assert!(StateLock::take(home.path(), None).is_err());
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
    }
}
