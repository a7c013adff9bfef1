//! What is left to do for instances when the keeper is gone: nobody reaps them or passes signals on, so the worker
//! ends them itself by their process groups, and watches them through pidfds, which cannot mean another process. Those
//! of another user are out of its reach: they are left to the operator, by name.

use std::os::fd::OwnedFd;
use std::time::Duration;

use everup_core::ids::InstanceId;
use everup_core::time::Time;
use everup_instance::Change;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// Pause between two SIGKILLs of a process that the kernel cannot end at once.
const KILL_AGAIN: Duration = Duration::from_secs(1);

/// The instances that the keeper left.
#[derive(Debug)]
pub(crate) struct Orphans {
    alive: Vec<Orphan>,
    kill_at: Option<Time>,
}

#[derive(Debug)]
struct Orphan {
    id: InstanceId,
    /// Process and process group.
    pid: Pid,
    process: OwnedFd,
}

impl Orphans {
    /// Those of `instances` that have a process.
    pub(crate) fn new(instances: impl Iterator<Item = Change>) -> Self {
        let orphan = |change: Change| {
            let pid = Pid::from_raw(i32::try_from(change.pid?).ok()?)?;
            // An error means that it has ended.
            let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
            Some(Orphan { id: change.id, pid, process })
        };
        Self { alive: instances.filter_map(orphan).collect(), kill_at: None }
    }

    /// SIGTERM for all that are left, SIGKILL after `grace`. Called again, the earlier time counts.
    pub(crate) fn stop(&mut self, now: Time, grace: Duration) {
        if self.kill_at.is_none() {
            self.terminate();
        }
        let kill_at = now + grace;
        self.kill_at = Some(self.kill_at.map_or(kill_at, |earlier| earlier.min(kill_at)));
    }

    /// Forgets those that ended, kills the others if their time is over. True when none is left.
    pub(crate) fn look(&mut self, now: Time) -> bool {
        self.alive.retain(|orphan| {
            let ended = has_ended(&orphan.process);
            if ended {
                // What it left in its group.
                let _ = kill_process_group(orphan.pid, Signal::KILL);
            }
            !ended
        });
        if self.kill_at.is_some_and(|kill_at| now >= kill_at) {
            self.kill_at = Some(now + KILL_AGAIN);
            self.kill();
        }
        self.alive.is_empty()
    }

    fn terminate(&self) {
        for Orphan { id, pid, .. } in &self.alive {
            match kill_process_group(*pid, Signal::TERM) {
                Ok(()) => tracing::info!(instance = %id, "gets SIGTERM"),
                Err(error) => tracing::warn!(instance = %id, %error, "cannot be signalled"),
            }
        }
    }

    fn kill(&mut self) {
        self.alive.retain(|Orphan { id, pid, .. }| match kill_process_group(*pid, Signal::KILL) {
            Ok(()) => {
                tracing::info!(instance = %id, "gets SIGKILL");
                true
            }
            Err(Errno::PERM) => {
                let pid = pid.as_raw_nonzero().get();
                tracing::error!(instance = %id, pid, "goes on: it belongs to another user; end it by hand");
                false
            }
            Err(error) => {
                tracing::warn!(instance = %id, %error, "cannot be killed");
                true
            }
        });
    }
}

/// A pidfd is readable once its process has ended.
fn has_ended(process: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command};

    use everup_core::instance::Phase;

    use super::*;

    /// A process in a group of its own.
    fn child(script: &str) -> (Child, Change) {
        let child = Command::new("sh").args(["-c", script]).process_group(0).spawn().unwrap();
        let change = Change {
            id: InstanceId::new("shop", "shop-1"),
            phase: Phase::Running,
            pid: Some(child.id()),
            port: None,
            revision: "v1".into(),
            restarts: 0,
            crash_loop: false,
            last_exit: None,
            since: Time::ZERO,
        };
        (child, change)
    }

    #[test]
    fn orphans_end_with_sigterm() {
        let (mut child, change) = child("exec sleep 1000");
        let mut orphans = Orphans::new([change].into_iter());
        assert!(!orphans.look(Time::ZERO));
        orphans.stop(Time::ZERO, Duration::from_secs(1000));
        child.wait().unwrap();
        assert!(Orphans::look(&mut orphans, Time::ZERO));
    }

    #[test]
    fn an_orphan_that_does_not_hear_is_killed_when_its_time_is_over() {
        let (mut child, change) = child("trap '' TERM; while :; do sleep 1000; done");
        let mut orphans = Orphans::new([change].into_iter());
        orphans.stop(Time::ZERO, Duration::from_secs(1));
        orphans.look(Time::from_millis(1001));
        use std::os::unix::process::ExitStatusExt;
        let signal = child.wait().unwrap().signal();
        assert!(signal == Some(9) || signal == Some(15), "{signal:?}");
    }

    #[test]
    fn an_orphan_of_another_user_is_not_waited_for_when_its_time_is_over() {
        if !rustix::process::getuid().is_root() {
            return; // Only root can become somebody who may not signal.
        }
        let (mut child, change) = child("exec sleep 1000");
        let nobody = std::thread::spawn(move || {
            rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(65_534)).unwrap();
            let mut orphans = Orphans::new([change].into_iter());
            orphans.stop(Time::ZERO, Duration::from_secs(1));
            [orphans.look(Time::from_millis(999)), orphans.look(Time::from_millis(1000))]
        });
        assert_eq!(nobody.join().unwrap(), [false, true]);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn what_ended_before_is_no_orphan() {
        let (mut child, change) = child("exit 0");
        child.wait().unwrap();
        assert!(Orphans::new([change].into_iter()).look(Time::ZERO));
    }
}
