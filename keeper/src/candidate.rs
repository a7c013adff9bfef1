//! The binary that is to be next: whether its file can be trusted, and whether it proves that it could go on from here.
//!
//! The path comes from the worker, which reads the internet and is trusted less than we are. So only a file counts that
//! nobody but root and our own user can have written; it is opened once, and what was opened is what is executed. It
//! proves itself as a child with the worker's rights: whatever program it is, it gains nothing that the worker did not have.
//!
//! Nothing here changes anything; what follows stands in `upgrade.rs`.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, PipeReader, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use everup_core::keeper::ExitStatus;
use everup_core::upgrade::{Proof, Spoken, judge};
use rustix::fs::{OFlags, fcntl_setfl};

use crate::users::User;
use crate::{Options, spawn, state};

/// Write permission for group or others.
const FOREIGN_WRITE: u32 = 0o022;
/// Set-user-ID and set-group-ID.
const CHANGES_RIGHTS: u32 = 0o6000;
/// Who may not execute it at all.
const EXECUTE: u32 = 0o111;

/// It said so much at most: a proof is a line.
const SAID_BYTES: u64 = 64 * 1024;
/// And so much of it is repeated to the operator.
const QUOTED: usize = 200;

/// A binary that proves itself.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) binary: File,
    pub(crate) pid: u32,
    said: PipeReader,
}

/// Opens a binary, if nobody but root and we can have written it. The error is for the operator.
pub(crate) fn open(path: &Path) -> Result<File, String> {
    let shown = path.display();
    let failed = |error: io::Error| format!("{shown} cannot be opened: {error}");
    if !path.is_absolute() {
        return Err(format!("{shown} is no absolute path"));
    }
    let real = fs::canonicalize(path).map_err(failed)?;
    // A pipe would have us wait; a link in its place would be another file than the one whose directory is looked at.
    let flags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(&real).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let directory = real.parent().unwrap_or_else(|| Path::new("/"));
    let of_directory = fs::metadata(directory).map_err(failed)?;
    let us = rustix::process::geteuid().as_raw();
    judge_file(&metadata, us).map_err(|why| format!("{shown} is not executed: {why}"))?;
    judge_owner(&of_directory, us)
        .map_err(|why| format!("{shown} is not executed: its directory {} {why}", directory.display()))?;
    Ok(file)
}

fn judge_file(metadata: &Metadata, us: u32) -> Result<(), String> {
    if !metadata.is_file() {
        return Err("it is no file".to_owned());
    }
    if metadata.mode() & CHANGES_RIGHTS != 0 {
        return Err("it is set-user-id or set-group-id".to_owned());
    }
    if metadata.mode() & EXECUTE == 0 {
        return Err("it may not be executed: chmod +x".to_owned());
    }
    judge_owner(metadata, us).map_err(|why| format!("it {why}"))
}

fn judge_owner(metadata: &Metadata, us: u32) -> Result<(), String> {
    let owner = metadata.uid();
    if owner != 0 && owner != us {
        return Err(format!(
            "belongs to another user ({owner}); it must be root's or that of everup's keeper"
        ));
    }
    if metadata.mode() & FOREIGN_WRITE != 0 {
        return Err("may be written by others than its owner: chmod go-w, or another place".to_owned());
    }
    Ok(())
}

impl Candidate {
    /// Has it read this state and say what it can. It ends by itself, or never: whoever asks sets the limit.
    pub(crate) fn prove(
        binary: File,
        state: &str,
        options: &Options,
        user: Option<&User>,
    ) -> Result<Self, String> {
        let failed = |error: io::Error| format!("it cannot be tried: {error}");
        let text = state::memfd(state.as_bytes()).map_err(failed)?;
        let (said, output) = io::pipe().map_err(failed)?;
        fcntl_setfl(&said, OFlags::NONBLOCK).map_err(|errno| failed(errno.into()))?;
        let pid = spawn::proof(options, user, binary.as_fd(), text, output)
            .map_err(|error| format!("it cannot be executed: {error}"))?;
        Ok(Self { binary, pid, said })
    }

    /// It ended like this: whether it can go on from here. The version of it, or why not.
    pub(crate) fn judge(&mut self, status: ExitStatus) -> Result<String, String> {
        let mut said = Vec::new();
        // Not more than there is now: what it started may hold the pipe open.
        let _ = (&mut self.said).take(SAID_BYTES).read_to_end(&mut said);
        let said = String::from_utf8_lossy(&said);
        let proof = said.lines().find_map(|line| serde_json::from_str::<Proof>(line).ok());
        match proof {
            Some(proof) => judge(&proof, Spoken::OURS).map(|()| proof.everup),
            None => {
                let words = said.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("nothing");
                let words: String = words.chars().filter(|one| !one.is_control()).take(QUOTED).collect();
                Err(format!(
                    "it is no everup that could take over: asked to prove itself, it {status} and said: {words}"
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn file(directory: &Path, mode: u32) -> std::path::PathBuf {
        let path = directory.join(format!("everup-{mode:o}"));
        fs::write(&path, "binary").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_file_that_only_its_owner_can_write_is_opened_also_through_a_link() {
        let home = tempfile::tempdir().unwrap();
        let path = file(home.path(), 0o755);
        open(&path).unwrap();
        symlink(&path, home.path().join("current")).unwrap();
        open(&home.path().join("current")).unwrap();
        open(Path::new("/bin/sh")).unwrap();
    }

    #[test]
    fn what_others_could_have_written_is_refused_with_what_to_do() {
        let home = tempfile::tempdir().unwrap();
        let shared = home.path().join("shared");
        fs::create_dir(&shared).unwrap();
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777)).unwrap();
        let cases = [
            (file(home.path(), 0o775), "it may be written by others"),
            (file(home.path(), 0o757), "it may be written by others"),
            (file(home.path(), 0o644), "may not be executed: chmod +x"),
            (file(home.path(), 0o4755), "set-user-id"),
            (file(&shared, 0o755), "shared may be written by others"),
            (home.path().to_owned(), "it is no file"),
            (home.path().join("missing"), "No such file"),
            ("everup".into(), "no absolute path"),
        ];
        for (path, words) in cases {
            let refused = open(&path).unwrap_err();
            assert!(refused.contains(words), "{refused}");
        }
    }

    #[test]
    fn a_pipe_is_no_binary_and_nobody_waits_for_it() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("pipe");
        let mode = rustix::fs::Mode::from_raw_mode(0o755);
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).unwrap();
        assert!(open(&path).unwrap_err().contains("it is no file"));
    }

    #[test]
    fn as_root_what_another_user_owns_is_refused() {
        if !rustix::process::geteuid().is_root() {
            return; // Only root can give a file away.
        }
        let home = tempfile::tempdir().unwrap();
        let path = file(home.path(), 0o755);
        std::os::unix::fs::chown(&path, Some(4321), None).unwrap();
        assert!(open(&path).unwrap_err().contains("it belongs to another user (4321)"));
    }
}
