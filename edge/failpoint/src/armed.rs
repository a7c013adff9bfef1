//! What stands behind a failpoint in builds that have them: whether it is armed, and failing as it says.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Signal, getpid, kill_process};

/// What the environment says, read once.
struct Armed {
    /// The name and action of `EVERUP_FAILPOINT`, until this process has come there.
    once: Option<(String, String, AtomicBool)>,
    /// `EVERUP_FAILPOINTS`.
    directory: Option<PathBuf>,
}

static ARMED: OnceLock<Armed> = OnceLock::new();

pub(crate) fn come_to(name: &str) -> io::Result<()> {
    let armed = ARMED.get_or_init(Armed::from_environment);
    match armed.action(name) {
        Some(action) => fail(name, &action),
        None => Ok(()),
    }
}

impl Armed {
    fn from_environment() -> Self {
        let once = std::env::var("EVERUP_FAILPOINT").ok();
        Self::new(once.as_deref(), std::env::var_os("EVERUP_FAILPOINTS").map(PathBuf::from))
    }

    fn new(once: Option<&str>, directory: Option<PathBuf>) -> Self {
        let once = once.map(|text| {
            let (name, action) = text.split_once(':').unwrap_or((text, "panic"));
            (name.to_owned(), action.to_owned(), AtomicBool::new(false))
        });
        Self { once, directory }
    }

    /// What to do here now, if anything.
    fn action(&self, name: &str) -> Option<String> {
        if let Some((place, action, done)) = &self.once
            && place == name
            && !done.swap(true, Ordering::SeqCst)
        {
            return Some(action.clone());
        }
        self.directory.as_ref().and_then(|directory| take(&directory.join(name)))
    }
}

/// Takes the file away; only who does that fails. A file that is only half written is left for the next time.
fn take(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let action = text.trim();
    let is_whole = !action.is_empty();
    (is_whole && std::fs::remove_file(path).is_ok()).then(|| action.to_owned())
}

fn fail(name: &str, action: &str) -> io::Result<()> {
    match action {
        "kill" => signal(Signal::KILL),
        "stop" => signal(Signal::STOP),
        "hang" => loop {
            std::thread::park();
        },
        "error" => return Err(io::Error::other(format!("the failpoint {name}"))),
        _ => panic!("the failpoint {name}"),
    }
    Ok(())
}

fn signal(signal: Signal) {
    // One can always signal oneself.
    let _ = kill_process(getpid(), signal);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_the_environment_names_fails_once() {
        let armed = Armed::new(Some("store.write:error"), None);
        assert_eq!(armed.action("store.read"), None);
        assert_eq!(armed.action("store.write").as_deref(), Some("error"));
        assert_eq!(armed.action("store.write"), None);
        assert_eq!(Armed::new(Some("store"), None).action("store").as_deref(), Some("panic"));
    }

    #[test]
    fn a_file_arms_its_place_for_whoever_comes_first() {
        let directory = tempfile::tempdir().unwrap();
        let [first, second] = [0, 1].map(|_| Armed::new(None, Some(directory.path().to_owned())));
        assert_eq!(first.action("controller"), None);
        std::fs::write(directory.path().join("controller"), "hang\n").unwrap();
        assert_eq!(first.action("journal"), None);
        assert_eq!(first.action("controller").as_deref(), Some("hang"));
        assert_eq!(second.action("controller"), None);
        assert!(!directory.path().join("controller").exists());
    }

    #[test]
    fn an_error_is_returned_and_a_panic_names_its_place() {
        assert!(fail("here", "error").unwrap_err().to_string().contains("here"));
        let panicked = std::panic::catch_unwind(|| fail("here", "panic")).unwrap_err();
        assert_eq!(panicked.downcast_ref::<String>().unwrap(), "the failpoint here");
    }
}
