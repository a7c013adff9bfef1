//! A shell command as an event of a drill, such as `nginx -s reload`: started in a process group of its own, listened to,
//! and ended with its group when its time is over. What it leaves running when it ends by itself is its own affair: a
//! command may well start another proxy.

use std::io::Read as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::game_day::Change;

/// The most bytes of its output that are kept.
const OUTPUT_BYTES: usize = 64 * 1024;
/// The most lines of its output that are told.
const TOLD_LINES: usize = 10;
/// How long the last of its output may take after its end: a child that it left behind may hold the pipe for ever.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// A command for `sh -c`.
#[derive(Debug)]
pub struct Shell {
    command: String,
    /// How long it may take.
    bound: Duration,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    since: Instant,
    ended: Option<(ExitStatus, Instant)>,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Debug, Default)]
struct Heard {
    bytes: Vec<u8>,
    over: bool,
}

impl Shell {
    /// To be started by a drill.
    pub fn new(command: &str, bound: Duration) -> Self {
        Self { command: command.into(), bound, running: None }
    }
}

impl Change for Shell {
    fn name(&self) -> &str {
        &self.command
    }

    fn begin(&mut self) -> Result<String, String> {
        let running = start(&self.command).map_err(|error| format!("cannot start a shell: {error}"))?;
        self.running = Some(running);
        Ok("started".into())
    }

    fn poll_end(&mut self) -> Result<Option<String>, String> {
        let Some(running) = &mut self.running else { return Ok(Some("not started".into())) };
        let status = running.child.try_wait().map_err(|error| format!("cannot wait for it: {error}"))?;
        let Some(status) = status else {
            if running.since.elapsed() < self.bound {
                return Ok(None);
            }
            let words = running.words();
            self.give_up();
            return Err(format!("killed with its process group after {:?}{words}", self.bound));
        };
        let (_, at) = *running.ended.get_or_insert_with(|| (status, Instant::now()));
        if !running.is_silent() && at.elapsed() < LAST_WORDS {
            return Ok(None);
        }
        let told = format!("{}{}", how(status), running.words());
        self.running = None;
        if status.success() { Ok(Some(told)) } else { Err(told) }
    }

    fn give_up(&mut self) {
        let Some(mut running) = self.running.take().filter(|running| running.ended.is_none()) else { return };
        if let Some(group) = i32::try_from(running.child.id()).ok().and_then(Pid::from_raw) {
            // It may have ended a moment ago.
            let _gone_already = kill_process_group(group, Signal::KILL);
        }
        drop(running.child.wait());
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.give_up();
    }
}

fn start(command: &str) -> std::io::Result<Running> {
    let (mut reader, writer) = std::io::pipe()?;
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(command).stdin(Stdio::null()).process_group(0);
    shell.stdout(writer.try_clone()?).stderr(writer);
    let child = shell.spawn()?;
    let heard = Arc::new(Mutex::new(Heard::default()));
    let ear = Arc::clone(&heard);
    // Reads on for ever, so that nobody who writes there is stopped or killed by it.
    std::thread::Builder::new().name("hear".into()).spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(read @ 1..) = reader.read(&mut piece) {
            let mut heard = ear.lock().unwrap_or_else(PoisonError::into_inner);
            let room = OUTPUT_BYTES.saturating_sub(heard.bytes.len());
            heard.bytes.extend_from_slice(&piece[..read.min(room)]);
        }
        ear.lock().unwrap_or_else(PoisonError::into_inner).over = true;
    })?;
    Ok(Running { child, since: Instant::now(), ended: None, heard })
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended".into(),
    }
}

impl Running {
    fn is_silent(&self) -> bool {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).over
    }

    /// The last lines that it said, without what a terminal would obey.
    fn words(&self) -> String {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&heard.bytes);
        let lines: Vec<&str> = text.lines().collect();
        let told = lines.iter().skip(lines.len().saturating_sub(TOLD_LINES));
        let plain = |line: &&str| -> String {
            line.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
        };
        told.map(|line| format!("\n{}", plain(line))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(shell: &mut Shell) -> Result<String, String> {
        shell.begin().unwrap();
        loop {
            if let Some(told) = shell.poll_end()? {
                return Ok(told);
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_command_is_told_by_its_exit_code_and_its_words() {
        let patient = Duration::from_secs(30);
        assert_eq!(end(&mut Shell::new("echo a; echo b >&2", patient)), Ok("exit code 0\na\nb".into()));
        assert_eq!(end(&mut Shell::new("echo no; exit 3", patient)), Err("exit code 3\nno".into()));
        let bare = end(&mut Shell::new("kill -9 $$", patient));
        assert_eq!(bare, Err("killed by signal 9".into()));
    }

    #[test]
    fn what_a_terminal_would_obey_is_not_passed_on() {
        let mut shell = Shell::new("printf '\\033[2Jx\\n'", Duration::from_secs(30));
        assert_eq!(end(&mut shell), Ok("exit code 0\n [2Jx".into()));
    }

    #[test]
    fn a_command_that_takes_too_long_is_killed_with_all_it_started() {
        // The pipe ends when the last process that holds it is dead.
        let mut shell = Shell::new("sleep 600 & echo here; sleep 600", Duration::from_millis(300));
        shell.begin().unwrap();
        let heard = Arc::clone(&shell.running.as_ref().unwrap().heard);
        let told = loop {
            match shell.poll_end() {
                Ok(None) => std::thread::yield_now(),
                other => break other,
            }
        };
        assert_eq!(told, Err("killed with its process group after 300ms\nhere".into()));
        let deadline = Instant::now() + Duration::from_secs(30);
        while !heard.lock().unwrap().over {
            assert!(Instant::now() < deadline, "the child of the command is still there");
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_a_command_leaves_running_is_left_alone() {
        let mut shell = Shell::new("sleep 600 >/dev/null 2>&1 & echo $!", Duration::from_secs(30));
        let told = end(&mut shell).unwrap();
        let pid = told.lines().nth(1).and_then(|line| Pid::from_raw(line.parse().ok()?)).unwrap();
        drop(shell);
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
    }
}
