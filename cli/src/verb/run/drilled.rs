//! `everup run FILE --drill`: runs everup as a child process, drills it, stops it, and exits with the drill's result.
//! The drill is a process of its own so that it sees what clients see.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

use crate::place::Place;
use crate::verb::drill;

/// How long everup may take until its admin socket answers.
const START_TIME: Duration = Duration::from_secs(10);

/// How often is looked meanwhile.
const LOOK: Duration = Duration::from_millis(20);

/// Exit 0 if the drill passed and everything was stopped in order.
pub(super) fn run(file: &Path, place: &Place) -> anyhow::Result<ExitCode> {
    let answered = UnixStream::connect(&place.admin).is_ok();
    anyhow::ensure!(
        !answered,
        "an everup already answers at {}: stop it, or try `everup drill`",
        place.admin.display()
    );
    let binary = std::env::current_exe().context("cannot tell where this program lies")?;
    let mut everup = Command::new(binary)
        .arg("run")
        .arg(format!("--drilled-by={}", std::process::id()))
        .arg("--")
        .arg(file)
        .spawn()
        .context("cannot start everup")?;
    let drilled = match wait_until_it_answers(&mut everup, &place.admin) {
        Ok(()) => drill::against(&place.admin, &drill::Options::unasked()),
        Err(error) => Err(error),
    };
    let stopped = stop(&mut everup);
    let drilled = drilled?;
    stopped?;
    Ok(drilled)
}

fn wait_until_it_answers(everup: &mut Child, admin: &Path) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        if UnixStream::connect(admin).is_ok() {
            return Ok(());
        }
        if let Some(status) = everup.try_wait()? {
            anyhow::bail!("everup could not start ({status})");
        }
        anyhow::ensure!(begun.elapsed() < START_TIME, "everup did not start within {START_TIME:?}");
        std::thread::sleep(LOOK);
    }
}

fn stop(everup: &mut Child) -> anyhow::Result<()> {
    if everup.try_wait()?.is_none() {
        let pid = i32::try_from(everup.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("everup has no process id")?, Signal::TERM).context("cannot stop everup")?;
    }
    let status = everup.wait()?;
    anyhow::ensure!(status.success(), "everup did not stop in order ({status})");
    Ok(())
}
