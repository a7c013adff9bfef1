//! A terminal for a verb that takes it over: a pty, and a screen that shows what a person would see.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{Mode, OFlags, open};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, OptionalActions, Termios, Winsize, tcgetattr, tcsetattr, tcsetwinsize};

use crate::binary::everup_binary;
use crate::process::Process;
use crate::until::{until, until_some};

/// `everup` with a terminal of its own, as standard streams and as controlling terminal.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    ours: File,
    theirs: OwnedFd,
    shown: Arc<Mutex<Shown>>,
    before: Termios,
}

struct Shown {
    screen: vt100::Parser,
    bytes: Vec<u8>,
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.screen.screen().contents())
    }
}

impl Terminal {
    /// Starts `everup` with these arguments on a terminal of this size.
    ///
    /// # Panics
    /// When the machine has no pty to give.
    pub fn start(columns: u16, rows: u16, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a pty");
        grantpt(&ours).expect("it is ours");
        unlockpt(&ours).expect("it is ours");
        let name = ptsname(&ours, Vec::new()).expect("it has a name");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let theirs = open(&name, flags, Mode::empty()).expect("the other side opens");
        tcsetwinsize(&theirs, size(columns, rows)).expect("it takes a size");
        let before = tcgetattr(&theirs).expect("it is a terminal");
        let ours = File::from(ours);
        let screen = vt100::Parser::new(lines(rows), lines(columns), 0);
        let shown = Arc::new(Mutex::new(Shown { screen, bytes: Vec::new() }));
        watch(ours.try_clone().expect("a descriptor"), &shown);
        let stdio = || Stdio::from(theirs.try_clone().expect("a descriptor"));
        // setsid(1): a session of its own, with this as its terminal; it becomes everup.
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(everup_binary()).args(arguments);
        command.env("TERM", "xterm").env_remove("NO_COLOR").envs(environment.iter().copied());
        let child = command.stdin(stdio()).stdout(stdio()).stderr(stdio()).spawn().expect("setsid runs");
        Self { child, ours, theirs, shown, before }
    }

    /// What a person sees, line by line.
    pub fn text(&self) -> String {
        self.shown().screen.screen().contents()
    }

    /// Whether a person sees a letter in a colour.
    pub fn is_coloured(&self) -> bool {
        let shown = self.shown();
        let screen = shown.screen.screen();
        let (rows, columns) = screen.size();
        let cells = (0..u16::from(rows)).flat_map(|y| (0..u16::from(columns)).map(move |x| (y, x)));
        cells.filter_map(|(y, x)| screen.cell(y, x)).any(|cell| cell.fgcolor() != vt100::Color::Default)
    }

    /// Everything that was ever written to it.
    pub fn bytes(&self) -> Vec<u8> {
        self.shown().bytes.clone()
    }

    /// Waits until a person sees this.
    ///
    /// # Panics
    /// When it is not seen in time.
    #[track_caller]
    pub fn wait_for(&self, what: &str) {
        self.wait_until(what, |text| text.contains(what));
    }

    /// Waits until `condition` holds of what a person sees.
    ///
    /// # Panics
    /// When it does not in time.
    #[track_caller]
    pub fn wait_until(&self, what: &str, condition: impl Fn(&str) -> bool) {
        let mut text = String::new();
        let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until(what, || {
                text = self.text();
                condition(&text)
            });
        }));
        assert!(seen.is_ok(), "waited for {what:?}; what is seen:\n{text}");
    }

    /// Types.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn press(&self, keys: &str) {
        (&self.ours).write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// Makes it larger or smaller, as a person does with a window.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn resize(&self, columns: u16, rows: u16) {
        self.shown().screen.screen_mut().set_size(lines(rows), lines(columns));
        tcsetwinsize(&self.ours, size(columns, rows)).expect("the terminal takes a size");
    }

    /// Whether it gives its reader whole lines, as terminals usually do.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn reads_lines(&self) -> bool {
        tcgetattr(&self.theirs).expect("it is a terminal").local_modes.contains(LocalModes::ICANON)
    }

    /// Writes onto the terminal, as another program does that does not mind whose it is.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn scribble(&self, text: &str) {
        rustix::io::write(&self.theirs, text.as_bytes()).expect("the terminal takes a few letters");
    }

    /// Sets what the terminal does with keys to what it was before the verb, as a shell does that comes to the front.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn set_as_before(&self) {
        tcsetattr(&self.theirs, OptionalActions::Now, &self.before).expect("it is a terminal");
    }

    /// Signals the verb.
    ///
    /// # Panics
    /// When it is gone.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        Process::with_id(self.child.id()).expect("it runs").signal(signal);
    }

    /// Waits for the end; gives the exit code.
    ///
    /// # Panics
    /// When it does not end in time.
    #[track_caller]
    pub fn wait_for_end(&mut self) -> Option<i32> {
        until_some("the verb ends", || self.child.try_wait().expect("a child can be waited for")).code()
    }

    /// Waits until the terminal is as it was before: the usual screen, a cursor, line by line with echo.
    ///
    /// # Panics
    /// When it is not in time.
    #[track_caller]
    pub fn wait_restored(&self) {
        until("the terminal is as it was", || {
            let now = tcgetattr(&self.theirs).expect("it is a terminal");
            let modes = |of: &Termios| (of.input_modes, of.output_modes, of.control_modes, of.local_modes);
            let shown = self.shown();
            let screen = shown.screen.screen();
            modes(&now) == modes(&self.before) && !screen.alternate_screen() && !screen.hide_cursor()
        });
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _gone_before = self.child.kill();
        let _waited_before = self.child.wait();
    }
}

fn lines(number: u16) -> NonZero<u16> {
    NonZero::new(number).expect("a terminal has a size")
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

/// Reads until nobody holds the other side any more.
fn watch(mut ours: File, shown: &Arc<Mutex<Shown>>) {
    let shown = Arc::clone(shown);
    std::thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(read @ 1..) = ours.read(&mut piece) {
            let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
            shown.screen.process(&piece[..read]);
            shown.bytes.extend_from_slice(&piece[..read]);
        }
    });
}
