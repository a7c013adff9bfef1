//! Python for the drills whose peers are real clients and servers: an environment of its own beside the build, filled from
//! the package index, or the system's with what Debian packages.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A Python interpreter with packages.
#[derive(Clone, Debug)]
pub(crate) struct Python(PathBuf);

impl Python {
    /// Debian's.
    pub(crate) fn system() -> Self {
        Self("/usr/bin/python3".into())
    }

    /// One in `target/PROFILE/drills-python` that has these packages.
    pub(crate) fn with(packages: &[&str]) -> Self {
        let home = home();
        let python = Self(home.join("bin/python"));
        if !python.0.exists() {
            let made = Command::new("python3").args(["-m", "venv"]).arg(&home).status();
            assert!(made.is_ok_and(|status| status.success()), "python3 with its venv module is needed");
        }
        let mut install = python.command();
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(packages);
        let installed = install.status().is_ok_and(|status| status.success());
        assert!(installed, "cannot install {packages:?}: the drill needs the Python package index");
        python
    }

    /// To be given a script or a module.
    pub(crate) fn command(&self) -> Command {
        Command::new(&self.0)
    }
}

/// Where the environment lies, and what is unpacked for it.
pub(crate) fn home() -> PathBuf {
    let own = std::env::current_exe().expect("a running program has a path");
    let profile = own.parent().and_then(Path::parent).expect("it runs from target/PROFILE/examples");
    profile.join("drills-python")
}

/// A script beside this file.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/drills").join(name)
}
