//! The `everup` binary under test, and running one verb of it to its end.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a verb said and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The exit code; None when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// The binary beside the running test: `target/debug/deps/story-1234` -> `target/debug/everup`.
///
/// # Panics
/// When it is not there: `cargo test -p everup-e2e` builds no binary of another package.
pub fn everup_binary() -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    let profile = test.parent().and_then(Path::parent).expect("tests run from target/PROFILE/deps");
    let binary = profile.join("everup");
    assert!(
        binary.exists(),
        "{} is not there: build it first with `cargo build -p everup`",
        binary.display()
    );
    binary
}

/// The repository's root.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("e2e lies in the repository")
}

/// Runs `everup` with these arguments to its end.
///
/// # Panics
/// When it cannot be started.
pub fn everup<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Said {
    let mut command = Command::new(everup_binary());
    command.args(arguments).stdin(Stdio::null());
    let output = command.output().expect("the binary under test can be run");
    Said {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
