//! The command check: runs a program in a process group of its own; exit code 0 passes. Whatever ends the check
//! early (time over, replaced, no longer wanted) kills the whole group, so that no check outlives its turn.
//!
//! The program inherits our environment and our directory (the configuration file's), and gets SERVICE, INSTANCE,
//! ADDRESS, HOST and PORT. The beginning of what it prints becomes part of the reason for a failure; the rest is read
//! and thrown away, so that it never blocks.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use everup_core::health::Reason;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

use super::{Target, Trouble, is_ours};

/// How much of the output is kept.
const OUTPUT_BYTES: usize = 200;
/// How long after the end of the program we wait for the end of its output: children that it left may hold it open.
const OUTPUT_GRACE: Duration = Duration::from_millis(20);

pub(super) async fn check(target: &Target, command: &[String]) -> Result<(), Trouble> {
    let (mut group, mut output) = start(target, command).await?;
    let mut said = Vec::new();
    let status = tokio::select! {
        status = group.child.wait() => status,
        () = read(&mut output, &mut said) => group.child.wait().await,
    };
    let status = status.map_err(Trouble::Ours)?;
    group.over = true;
    if status.success() {
        return Ok(());
    }
    // The time may be over with output missing: then the reason is shorter.
    let _ = tokio::time::timeout(OUTPUT_GRACE, read(&mut output, &mut said)).await;
    Err(Trouble::Theirs(Reason::ProbeFailed(describe(status, &said))))
}

/// Starts the program. On a thread for blocking work: `exec` from a disk that hangs must not stop other probes.
async fn start(target: &Target, command: &[String]) -> Result<(Group, pipe::Receiver), Trouble> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(Trouble::Theirs(Reason::ProbeFailed("the command is empty".to_owned())));
    };
    let (reader, writer) = io::pipe().map_err(Trouble::Ours)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("SERVICE", &*target.id.service)
        .env("INSTANCE", &*target.id.instance)
        .env("ADDRESS", target.address.to_string())
        .env("HOST", target.address.ip().to_string())
        .env("PORT", target.address.port().to_string())
        .stdin(Stdio::null())
        .stdout(writer.try_clone().map_err(Trouble::Ours)?)
        .stderr(writer)
        .process_group(0)
        .kill_on_drop(true);
    let spawning = tokio::task::spawn_blocking(move || command.spawn().map(Group::new));
    let group = spawning.await.expect("spawning a process does not panic");
    let group = group.map_err(|error| {
        if is_ours(&error) {
            return Trouble::Ours(error);
        }
        Trouble::Theirs(Reason::ProbeFailed(format!("cannot run {program}: {error}")))
    })?;
    let output = pipe::Receiver::from_owned_fd(OwnedFd::from(reader)).map_err(Trouble::Ours)?;
    Ok((group, output))
}

/// Reads to the end, keeping only the beginning.
async fn read(output: &mut pipe::Receiver, said: &mut Vec<u8>) {
    let mut piece = [0; 4096];
    while let Ok(read @ 1..) = output.read(&mut piece).await {
        said.extend_from_slice(&piece[..read.min(OUTPUT_BYTES - said.len())]);
    }
}

/// `exit code 2: disk full`
fn describe(status: ExitStatus, said: &[u8]) -> String {
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    };
    let said = String::from_utf8_lossy(said);
    match said.lines().map(str::trim).find(|line| !line.is_empty()) {
        Some(line) => format!("{how}: {}", line.replace(char::is_control, " ")),
        None => how,
    }
}

/// A process and everything that it started, as far as that stayed in its group.
struct Group {
    child: Child,
    leader: Option<Pid>,
    /// The leader was reaped: its number may belong to someone else.
    over: bool,
}

impl Group {
    fn new(child: Child) -> Self {
        let leader = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        Self { child, leader, over: false }
    }
}

impl Drop for Group {
    /// Kills the group, unless its leader ended by itself. The runtime reaps it.
    fn drop(&mut self) {
        if let (false, Some(leader)) = (self.over, self.leader) {
            // It may have ended just now.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}
