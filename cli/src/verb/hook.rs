//! `everup hook` (hidden): runs a hook of a deployment for the worker, which holds the other end of its standard input, and
//! kills the hook's process group when that is closed: the worker wants it no more, or is dead.

use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// As shells say it.
const CANNOT_RUN: u8 = 127;
const KILLED: i32 = 128;

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Exit as the hook does.
pub(crate) fn run(Args { command }: Args) -> anyhow::Result<ExitCode> {
    let Some((program, words)) = command.split_first() else { return Ok(ExitCode::from(CANNOT_RUN)) };
    let started = Command::new(program).args(words).stdin(Stdio::null()).process_group(0).spawn();
    let child = match started {
        Ok(child) => child,
        Err(error) => {
            eprintln!("cannot run {program}: {error}");
            return Ok(ExitCode::from(CANNOT_RUN));
        }
    };
    let group = Pid::from_child(&child);
    std::thread::spawn(move || {
        let mut piece = [0; 16];
        while matches!(io::stdin().read(&mut piece), Ok(1..)) {}
        // Its leader is reaped only when this process is about to end.
        let _ = kill_process_group(group, Signal::KILL);
    });
    Ok(code(end(child, group)?))
}

/// Waits until the hook has ended, and kills what it left in its group while its number still belongs to it.
fn end(mut child: Child, group: Pid) -> io::Result<ExitStatus> {
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while matches!(waitid(WaitId::Pid(group), ended), Err(Errno::INTR)) {}
    let _ = kill_process_group(group, Signal::KILL);
    child.wait()
}

fn code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| Some(KILLED + status.signal()?));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(CANNOT_RUN))
}
