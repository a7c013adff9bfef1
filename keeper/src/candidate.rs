//! The binary that is to be next: whether its file can be trusted, and whether it proves that it could go on from here.
//!
//! The path comes from the worker, which reads the internet and is trusted less than we are. So only a file counts that
//! nobody but root and our own user can have written, by a way that nobody else can turn: the path is `{everup}` in instances'
//! commands later, whose users may not be the worker's. It is opened once, and what was opened is what is executed. It
//! proves itself as a child with the worker's rights: whatever program it is, it gains nothing that the worker did not have.
//!
//! Nothing here changes anything; what follows stands in `upgrade.rs`.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, PipeReader, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use everup_core::keeper::ExitStatus;
use everup_core::upgrade::{Proof, Spoken, judge};
use rustix::fs::{OFlags, fcntl_setfl};

use crate::users::User;
use crate::{Options, spawn, state};

/// Write permission for group or others.
const FOREIGN_WRITE: u32 = 0o022;
/// Set-user-ID and set-group-ID.
const CHANGES_RIGHTS: u32 = 0o6000;
/// In such a directory everybody may write, but only the owner of a file or link can put another one in its place.
const STICKY: u32 = 0o1000;
/// As many as the kernel follows.
const LINKS: usize = 40;
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
    let us = rustix::process::geteuid().as_raw();
    let real = trusted(path, us)?;
    // A pipe would have us wait; a link in its place would be another file than the one whose directory is looked at.
    let flags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(&real).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let directory = real.parent().unwrap_or_else(|| Path::new("/"));
    let of_directory = fs::metadata(directory).map_err(failed)?;
    judge_file(&metadata, us).map_err(|why| format!("{shown} is not executed: {why}"))?;
    judge_owner(&of_directory, us)
        .map_err(|why| format!("{shown} is not executed: its directory {} {why}", directory.display()))?;
    Ok(file)
}

/// Where a path leads, through every link, if nobody but root and we can make it lead elsewhere.
fn trusted(path: &Path, us: u32) -> Result<PathBuf, String> {
    let shown = path.display();
    let (mut real, mut left, mut links) = (PathBuf::from("/"), steps(path), 0);
    while let Some(step) = left.pop() {
        match Path::new(&step).components().next() {
            Some(Component::RootDir) => real = "/".into(),
            Some(Component::ParentDir) => drop(real.pop()),
            _ => real.push(step),
        }
        let failed = |error: io::Error| format!("{shown} cannot be opened: {error}");
        let metadata = fs::symlink_metadata(&real).map_err(failed)?;
        // What lies at the end is judged when it is open.
        if !left.is_empty() || metadata.is_symlink() {
            judge_step(&metadata, us)
                .map_err(|why| format!("{shown} is not executed: {} {why}", real.display()))?;
        }
        if metadata.is_symlink() {
            links += 1;
            if links > LINKS {
                return Err(format!("{shown} cannot be opened: too many links"));
            }
            left.extend(steps(&fs::read_link(&real).map_err(failed)?));
            real.pop();
        }
    }
    Ok(real)
}

/// The last one first.
fn steps(path: &Path) -> Vec<OsString> {
    let steps = path.components().filter(|step| *step != Component::CurDir);
    steps.rev().map(|step| step.as_os_str().to_owned()).collect()
}

fn judge_step(metadata: &Metadata, us: u32) -> Result<(), String> {
    let nobody_replaces = metadata.is_symlink() || metadata.is_dir() && metadata.mode() & STICKY != 0;
    let mode = if nobody_replaces { 0 } else { metadata.mode() };
    judge_rights(metadata.uid(), mode, us)
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
    judge_rights(metadata.uid(), metadata.mode(), us)
}

fn judge_rights(owner: u32, mode: u32, us: u32) -> Result<(), String> {
    if owner != 0 && owner != us {
        return Err(format!(
            "belongs to another user ({owner}); it must be root's or that of everup's keeper"
        ));
    }
    if mode & FOREIGN_WRITE != 0 {
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

    fn file(directory: &Path, mode: u32) -> PathBuf {
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
    fn a_way_that_others_can_turn_is_refused_wherever_they_can() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        fs::create_dir_all(at("open/inner")).unwrap();
        let path = file(&at("open/inner"), 0o755);
        symlink(&path, at("open/link")).unwrap();
        symlink("open/link", at("current")).unwrap();
        open(&path).unwrap();
        open(&at("current")).unwrap();
        open(&at("open/../current")).unwrap();
        fs::set_permissions(at("open"), fs::Permissions::from_mode(0o777)).unwrap();
        for way in [path.clone(), at("current")] {
            let refused = open(&way).unwrap_err();
            assert!(refused.contains("/open may be written by others"), "{refused}");
        }
        // Whose links and directories are not theirs to replace.
        fs::set_permissions(at("open"), fs::Permissions::from_mode(0o1777)).unwrap();
        open(&path).unwrap();
        open(&at("current")).unwrap();
        symlink("circle", at("circle")).unwrap();
        assert!(open(&at("circle")).unwrap_err().contains("too many links"));
    }

    #[test]
    fn as_root_a_way_through_what_another_user_owns_is_refused() {
        if !rustix::process::geteuid().is_root() {
            return; // Only root can give anything away.
        }
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        fs::create_dir_all(at("theirs/inner")).unwrap();
        let path = file(&at("theirs/inner"), 0o755);
        symlink(&path, at("link")).unwrap();
        open(&at("link")).unwrap();
        std::os::unix::fs::lchown(at("link"), Some(4321), None).unwrap();
        assert!(open(&at("link")).unwrap_err().contains("/link belongs to another user (4321)"));
        std::os::unix::fs::chown(at("theirs"), Some(4321), None).unwrap();
        assert!(open(&path).unwrap_err().contains("/theirs belongs to another user (4321)"));
    }

    #[test]
    fn a_shell_finds_no_script_to_prove_itself_with() {
        let home = tempfile::tempdir().unwrap();
        let proof = serde_json::to_string(&Proof::ours("9.9.9", None)).unwrap();
        fs::write(home.path().join("run"), format!("echo '{proof}'")).unwrap();
        let options = crate::tests::options_in(home.path(), crate::tests::FOREVER);
        let shell = open(Path::new("/bin/sh")).unwrap();
        let mut candidate = Candidate::prove(shell, "{}", &options, None).unwrap();
        let pid = rustix::process::Pid::from_raw(candidate.pid.cast_signed());
        rustix::process::waitpid(pid, rustix::process::WaitOptions::empty()).unwrap();
        let refused = candidate.judge(ExitStatus::Code(0)).unwrap_err();
        assert!(refused.contains("it is no everup"), "{refused}");
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
