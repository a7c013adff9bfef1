//! Whose the state directory is: the worker's user, who keeps its state in it. A directory of somebody else is not
//! taken, and one that everup made for another user (`node.user` was set or changed) goes over with its content.
//!
//! Only root gives anything away. The former owner is trusted no more than the new one: links are neither followed
//! nor given away.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, chown, lchown};
use std::path::Path;

use crate::users::User;

/// What a worker reads again. (The rest is the keeper's own, or bound anew.)
const WORKERS: [&str; 4] = ["sticky.key", "known.json", "deploys.redb", "log"];

/// The error says why the directory must not be used by a keeper whose worker is `owner` (None: as the keeper).
pub(crate) fn admit(state: &Path, owner: Option<&User>) -> io::Result<()> {
    let found = fs::metadata(state)?.uid();
    let own = rustix::process::getuid().as_raw();
    if found == own && owner.is_none() || Some(found) == owner.map(|owner| owner.uid) {
        return Ok(());
    }
    if own != 0 {
        // Root may have made it for us.
        return if found == 0 { Ok(()) } else { Err(io::Error::other("it belongs to another user")) };
    }
    if is_ours_or_empty(state)? {
        Ok(())
    } else {
        Err(io::Error::other(
            "it is not empty, was not made by everup, and would be given to the worker's user",
        ))
    }
}

fn is_ours_or_empty(state: &Path) -> io::Result<bool> {
    let has_lock = fs::symlink_metadata(state.join("keeper.lock")).is_ok();
    Ok(has_lock || fs::read_dir(state)?.next().is_none())
}

/// Gives an admitted directory, and what is the worker's in it, to `owner` (None: to root) if it is not theirs yet. The
/// lock must be held.
pub(crate) fn hand_over(state: &Path, owner: Option<&User>) -> io::Result<()> {
    let own = rustix::process::getuid().as_raw();
    let new = owner.map_or((0, 0), |owner| (owner.uid, owner.gid));
    if own != 0 || fs::metadata(state)?.uid() == new.0 {
        return Ok(());
    }
    // Meanwhile nobody else gets in (its mode is 0700).
    chown(state, Some(0), Some(0))?;
    for name in WORKERS {
        let path = state.join(name);
        match fs::symlink_metadata(&path) {
            Ok(metadata) => give(&path, &metadata, new)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    chown(state, Some(new.0), Some(new.1))
}

/// Directories with what they hold, and files that have no other name.
fn give(path: &Path, metadata: &Metadata, new: (u32, u32)) -> io::Result<()> {
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            give(&entry.path(), &entry.metadata()?, new)?;
        }
    } else if !metadata.is_file() || metadata.nlink() != 1 {
        return Ok(());
    }
    lchown(path, Some(new.0), Some(new.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: u32) -> User {
        User { name: "everup".into(), uid, gid: uid, groups: vec![uid], home: "/".into() }
    }

    fn is_root() -> bool {
        rustix::process::getuid().is_root()
    }

    #[test]
    fn a_directory_of_our_own_is_taken_as_it_is() {
        let state = tempfile::tempdir().unwrap();
        fs::write(state.path().join("anything"), "").unwrap();
        admit(state.path(), None).unwrap();
        hand_over(state.path(), None).unwrap();
    }

    #[test]
    fn a_directory_full_of_other_things_is_not_given_away() {
        if !is_root() {
            return; // Only root can give anything away.
        }
        let state = tempfile::tempdir().unwrap();
        admit(state.path(), Some(&user(4321))).unwrap();
        fs::write(state.path().join("passwd"), "").unwrap();
        let refused = admit(state.path(), Some(&user(4321))).unwrap_err().to_string();
        assert!(refused.contains("was not made by everup"), "{refused}");
    }

    #[test]
    fn another_user_gets_the_workers_files_and_no_link() {
        if !is_root() {
            return; // Only root can give anything away.
        }
        let state = tempfile::tempdir().unwrap();
        let path = |name: &str| state.path().join(name);
        fs::create_dir_all(path("log/shop")).unwrap();
        for name in ["keeper.lock", "sticky.key", "deploys.redb", "log/shop/shop-1.log", "precious"] {
            fs::write(path(name), "").unwrap();
        }
        fs::hard_link(path("precious"), path("log/hard")).unwrap();
        std::os::unix::fs::symlink(path("precious"), path("log/soft")).unwrap();
        let owner = |name: &str| fs::metadata(path(name)).unwrap().uid();
        for uid in [4321, 4322] {
            admit(state.path(), Some(&user(uid))).unwrap();
            hand_over(state.path(), Some(&user(uid))).unwrap();
            for name in ["", "sticky.key", "deploys.redb", "log", "log/shop", "log/shop/shop-1.log"] {
                assert_eq!(owner(name), uid, "{name}");
            }
            assert_eq!((owner("precious"), owner("keeper.lock")), (0, 0));
        }
        hand_over(state.path(), None).unwrap();
        assert_eq!((owner(""), owner("sticky.key")), (0, 0));
    }
}
