//! The terminal of `everup top`: taken over as a whole, and given back as it was however the process ends short of
//! SIGKILL. Nothing here knows what is shown.

use std::io::{self, Stdout};
use std::mem::ManuallyDrop;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::event::{self, Event, KeyEvent, KeyEventKind};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::layout::{Position, Rect};
use ratatui::{Frame, Terminal};
use tokio::sync::mpsc;

/// Keys that wait while a picture is drawn; a person types no faster, and whoever pastes a book waits.
const WAITING_KEYS: usize = 64;

/// The terminal is ours. Global, for a panic in any thread must give it back before it tells what happened.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// What happened at the terminal.
#[derive(Debug)]
pub(super) enum Happened {
    Key(KeyEvent),
    Resized,
}

/// The terminal while it is ours.
pub(super) struct Screen {
    /// Never dropped: its drop writes to the terminal and panics if that is gone. [`give_back`] does what it would.
    terminal: ManuallyDrop<Terminal<CrosstermBackend<Stdout>>>,
    happened: mpsc::Receiver<io::Result<Happened>>,
}

impl Screen {
    /// Takes the terminal over.
    pub(super) fn enter() -> anyhow::Result<Self> {
        give_back_before_panics();
        let terminal = take().context("cannot take over the terminal");
        // Half taken is given back, too.
        let terminal = terminal.inspect_err(|_| give_back())?;
        Ok(Self { terminal: ManuallyDrop::new(terminal), happened: listen() })
    }

    /// Shows a picture; only what differs from the last one is written.
    pub(super) fn draw(&mut self, picture: impl FnOnce(&mut Frame<'_>)) -> anyhow::Result<()> {
        self.terminal.draw(picture).context("cannot write to the terminal")?;
        Ok(())
    }

    /// Forgets what is shown: the next picture is written whole.
    pub(super) fn clear(&mut self) -> anyhow::Result<()> {
        // Its own `clear` asks the terminal where the cursor is, and the answer would come among the keys.
        let size = self.terminal.size().context("cannot ask the terminal for its size")?;
        self.terminal.resize(Rect::from((Position::ORIGIN, size))).context("cannot write to the terminal")
    }

    /// Takes the terminal over again after the process was stopped and went on: a shell had it meanwhile.
    pub(super) fn take_again(&mut self) -> anyhow::Result<()> {
        // It remembers what it has set, and sets nothing twice.
        disable_raw_mode().and_then(|()| enable_raw_mode()).context("cannot take over the terminal")?;
        execute!(io::stdout(), EnterAlternateScreen, Hide).context("cannot write to the terminal")?;
        self.clear()
    }

    /// The next key or change of size. Safe to drop and ask again.
    pub(super) async fn happened(&mut self) -> anyhow::Result<Happened> {
        let next = self.happened.recv().await;
        let gone = || io::Error::other("it is closed");
        next.unwrap_or_else(|| Err(gone())).context("cannot read from the terminal")
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn take() -> io::Result<Terminal<CrosstermBackend<Stdout>>> {
    TAKEN.store(true, Ordering::SeqCst);
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen, Hide)?;
    Terminal::new(CrosstermBackend::new(io::stdout()))
}

/// Once: leaving the other screen twice would put the cursor onto what was written in between.
fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        // A terminal that is gone needs nothing.
        let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}

fn give_back_before_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            tell(panic);
        }));
    });
}

/// Reading blocks, so a thread does it, for as long as the process lives.
fn listen() -> mpsc::Receiver<io::Result<Happened>> {
    let (sender, happened) = mpsc::channel(WAITING_KEYS);
    std::thread::spawn(move || {
        loop {
            let next = match event::read() {
                Ok(Event::Key(key)) if key.kind == KeyEventKind::Release => continue,
                Ok(Event::Key(key)) => Ok(Happened::Key(key)),
                Ok(Event::Resize(..)) => Ok(Happened::Resized),
                Ok(Event::FocusGained | Event::FocusLost | Event::Mouse(_) | Event::Paste(_)) => continue,
                Err(error) => Err(error),
            };
            let is_last = next.is_err();
            if sender.blocking_send(next).is_err() || is_last {
                return;
            }
        }
    });
    happened
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::process::{Command, Stdio};

    use rustix::fs::{Mode, OFlags, open};
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{LocalModes, tcgetattr};

    use super::*;

    /// Set: this process is the one that is to panic, and its standard input and output are a terminal.
    const PANICS: &str = "EVERUP_TEST_PANICS";

    #[test]
    fn a_panic_gives_the_terminal_back_before_it_is_told() {
        if std::env::var_os(PANICS).is_some() {
            let _screen = Screen::enter().unwrap();
            panic!("on purpose");
        }
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let theirs = open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        let before = tcgetattr(&theirs).unwrap().local_modes;
        assert!(before.contains(LocalModes::ICANON | LocalModes::ECHO));
        let stdio = || Stdio::from(theirs.try_clone().unwrap());
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([
            "--exact",
            "--nocapture",
            &format!("{}::a_panic_gives_the_terminal_back_before_it_is_told", module()),
        ]);
        command.env(PANICS, "1").stdin(stdio()).stdout(stdio()).stderr(stdio());
        let status = command.status().unwrap();
        drop(command);
        assert!(!status.success());
        assert_eq!(tcgetattr(&theirs).unwrap().local_modes, before);
        drop(theirs);
        let mut said = Vec::new();
        // Its end is an error: nobody holds the other side any more.
        let _ = File::from(ours).read_to_end(&mut said);
        let said = String::from_utf8_lossy(&said);
        let at = |what: &str| said.find(what).unwrap_or_else(|| panic!("{what:?} is not in {said:?}"));
        let (enter, leave, told) = (at("\u{1b}[?1049h"), at("\u{1b}[?1049l"), at("on purpose"));
        assert!(enter < leave && leave < told, "{said:?}");
        assert!(at("\u{1b}[?25l") < at("\u{1b}[?25h"), "the cursor is back: {said:?}");
        assert_eq!(said.matches("\u{1b}[?1049l").count(), 1);
    }

    /// As the test harness names it: without the crate.
    fn module() -> &'static str {
        module_path!().split_once("::").expect("a module of the crate").1
    }
}
