//! The events of a drill of our own everup: one type for each, all of them a [`Change`]. Another event is a variant of
//! [`EventKind`], an arm in each of its functions, and a type.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use everup_admin::api::{InstanceState, InstanceStatus, Reloaded, Upgraded};
use everup_core::ids::InstanceId;
use everup_drill::Change;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process};

use super::field::{Everup, Field};
use super::options::Options;
use crate::table::counted;

/// What can happen in a drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum EventKind {
    /// everup reads its configuration file anew
    Reload,
    /// everup goes on as the binary that lies where it was started from
    Upgrade,
    /// An instance that everup runs is killed with SIGKILL
    KillInstance,
    /// An instance that everup runs is stopped with SIGSTOP for a while
    FreezeInstance,
    /// The process that carries the traffic is killed with SIGKILL
    KillWorker,
    /// An instance is drained, and takes requests again when it has none
    Drain,
}

impl EventKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Reload => "reload",
            Self::Upgrade => "upgrade",
            Self::KillInstance => "kill-instance",
            Self::FreezeInstance => "freeze-instance",
            Self::KillWorker => "kill-worker",
            Self::Drain => "drain",
        }
    }

    /// What will be done, for whoever is asked.
    pub(super) fn plan(self, everup: &Everup, field: &Field, options: &Options) -> anyhow::Result<String> {
        let service = &field.service;
        Ok(match self {
            Self::Reload => match everup.ask(async |client| client.plan().await)?.changes.len() {
                0 => "the configuration is read anew; the file says what runs already".into(),
                changes => format!(
                    "THE CONFIGURATION CHANGES: the file has {} that {} not run yet (see `everup plan`)",
                    counted(changes as u64, "change"),
                    if changes == 1 { "does" } else { "do" }
                ),
            },
            Self::Upgrade => {
                "everup goes on as the binary that lies now where it was started from (see `everup upgrade`)".into()
            }
            Self::KillInstance => format!("an instance of {service} is killed (SIGKILL); everup starts it again"),
            Self::FreezeInstance => format!(
                "an instance of {service} is frozen (SIGSTOP), and thawed after {} s",
                options.freeze().as_secs_f64()
            ),
            Self::KillWorker => {
                "the worker is killed (SIGKILL), which carries the traffic of ALL services: what is in flight is lost".into()
            }
            Self::Drain => format!(
                "an instance of {service} is drained; its WebSockets are closed; then it takes requests again"
            ),
        })
    }

    /// Whether it can happen here at all: better known before the first event than in the middle.
    pub(super) fn check(self, everup: &Everup, field: &Field) -> anyhow::Result<()> {
        match self {
            Self::Reload | Self::Upgrade | Self::Drain => Ok(()),
            Self::KillInstance => needs_run(self, field),
            Self::FreezeInstance => {
                needs_run(self, field)?;
                may_signal(everup.busiest(&field.service, true).ok().and_then(|one| one.pid), "the instance")
            }
            Self::KillWorker => may_signal(Some(everup.status()?.worker_pid), "the worker"),
        }
    }

    pub(super) fn change(self, everup: &Rc<Everup>, field: &Field, options: &Options) -> Box<dyn Change> {
        let (everup, service) = (Rc::clone(everup), field.service.clone());
        match self {
            Self::Reload => Box::new(Reload { everup }),
            Self::Upgrade => Box::new(Upgrade { everup, service }),
            Self::KillInstance => Box::new(KillInstance { everup, service, killed: None }),
            Self::FreezeInstance => {
                Box::new(FreezeInstance { everup, service, time: options.freeze(), frozen: None })
            }
            Self::KillWorker => Box::new(KillWorker { everup, service, killed: None }),
            Self::Drain => Box::new(Drain { everup, service, drained: None }),
        }
    }
}

fn needs_run(event: EventKind, field: &Field) -> anyhow::Result<()> {
    let (event, service) = (event.name(), &field.service);
    ensure!(field.is_run, "{event} needs a service with a `run` section: everup does not run {service}");
    Ok(())
}

fn may_signal(pid: Option<u32>, whose: &str) -> anyhow::Result<()> {
    let Some(pid) = pid.and_then(process) else { return Ok(()) };
    let advice = || {
        format!(
            "cannot signal {whose} ({pid}): drill as root, or as the user that runs everup",
            pid = pid.as_raw_nonzero()
        )
    };
    match test_kill_process(pid) {
        Err(Errno::PERM) => Err(Errno::PERM).with_context(advice),
        // Gone meanwhile: the event will find another one.
        _ => Ok(()),
    }
}

fn process(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// The whole service takes requests, as it did before.
fn is_whole(everup: &Everup, service: &str) -> Result<bool, String> {
    let status = everup.status_now().map_err(|error| error.to_string())?;
    let services = status.into_iter().flat_map(|status| status.services);
    let mut found = services.filter(|known| known.name == service).peekable();
    let takes = |one: &InstanceStatus| {
        matches!(one.state, InstanceState::Up | InstanceState::Standby | InstanceState::Drained)
    };
    Ok(found.peek().is_some() && found.all(|service| service.instances.iter().all(takes)))
}

struct Reload {
    everup: Rc<Everup>,
}

impl Change for Reload {
    fn name(&self) -> &str {
        EventKind::Reload.name()
    }

    /// The answer comes when every thread goes by the new table.
    fn begin(&mut self) -> Result<String, String> {
        let reloaded = self.everup.ask(async |client| client.reload().await);
        let Reloaded { generation, acknowledged, changes } = reloaded.map_err(|error| error.to_string())?;
        match acknowledged {
            true => Ok(format!("{}, table {generation}", counted(changes.len() as u64, "change"))),
            false => Err(format!("held: not every thread uses table {generation}")),
        }
    }

    fn poll_end(&mut self) -> Result<Option<String>, String> {
        Ok(Some("every thread goes by it".into()))
    }

    fn give_up(&mut self) {}
}

struct Upgrade {
    everup: Rc<Everup>,
    service: String,
}

impl Change for Upgrade {
    fn name(&self) -> &str {
        EventKind::Upgrade.name()
    }

    /// The answer comes when a worker of the other binary serves.
    fn begin(&mut self) -> Result<String, String> {
        let upgraded = self.everup.ask(async |client| client.upgrade(None).await);
        let Upgraded { to, worker_pid, .. } = upgraded.map_err(|error| error.to_string())?;
        Ok(format!("everup {to}, worker {worker_pid} serves"))
    }

    /// What the old worker has is finished.
    fn poll_end(&mut self) -> Result<Option<String>, String> {
        let status = self.everup.status_now().map_err(|error| error.to_string())?;
        let is_over = status.is_some_and(|status| status.leaving.is_empty());
        Ok((is_over && is_whole(&self.everup, &self.service)?).then(|| "the old worker has finished".into()))
    }

    fn give_up(&mut self) {}
}

struct KillInstance {
    everup: Rc<Everup>,
    service: String,
    killed: Option<(InstanceId, Option<u32>)>,
}

impl Change for KillInstance {
    fn name(&self) -> &str {
        EventKind::KillInstance.name()
    }

    fn begin(&mut self) -> Result<String, String> {
        let victim = self.everup.busiest(&self.service, true)?;
        let id = InstanceId::new(self.service.as_str(), victim.name.as_str());
        self.everup.ask(async |client| client.kill(&id).await).map_err(|error| error.to_string())?;
        let words = format!("{id} (pid {}) killed with SIGKILL", victim.pid.unwrap_or_default());
        self.killed = Some((id, victim.pid));
        Ok(words)
    }

    /// Its name is up again as another process.
    fn poll_end(&mut self) -> Result<Option<String>, String> {
        let Some((id, pid)) = &self.killed else { return Ok(None) };
        let now = self.everup.instance(id)?;
        let back = now.filter(|now| now.state == InstanceState::Up && now.pid != *pid);
        Ok(back.map(|now| format!("back as pid {}", now.pid.unwrap_or_default())))
    }

    fn give_up(&mut self) {}
}

struct FreezeInstance {
    everup: Rc<Everup>,
    service: String,
    /// How long it stays frozen.
    time: Duration,
    frozen: Option<Frozen>,
}

struct Frozen {
    id: InstanceId,
    /// It is a group: an instance may have children.
    group: Pid,
    since: Instant,
    thawed: bool,
}

impl Change for FreezeInstance {
    fn name(&self) -> &str {
        EventKind::FreezeInstance.name()
    }

    fn begin(&mut self) -> Result<String, String> {
        let victim = self.everup.busiest(&self.service, true)?;
        let id = InstanceId::new(self.service.as_str(), victim.name.as_str());
        let group = victim.pid.and_then(process).ok_or("it has no process")?;
        kill_process_group(group, Signal::STOP).map_err(|error| format!("cannot freeze {id}: {error}"))?;
        let words = format!("{id} (pid {}) frozen with SIGSTOP", group.as_raw_nonzero());
        self.frozen = Some(Frozen { id, group, since: Instant::now(), thawed: false });
        Ok(words)
    }

    fn poll_end(&mut self) -> Result<Option<String>, String> {
        let Some(frozen) = self.frozen.as_mut().filter(|frozen| frozen.since.elapsed() >= self.time) else {
            return Ok(None);
        };
        frozen.thaw();
        let now = self.everup.instance(&frozen.id)?;
        let up = now.is_some_and(|now| now.state == InstanceState::Up);
        Ok(up.then(|| format!("thawed after {} s, up", self.time.as_secs_f64())))
    }

    fn give_up(&mut self) {
        self.frozen.iter_mut().for_each(Frozen::thaw);
    }
}

impl Frozen {
    fn thaw(&mut self) {
        if !self.thawed {
            // It may be dead by now; then there is nobody to thaw.
            let _gone_already = kill_process_group(self.group, Signal::CONT);
            self.thawed = true;
        }
    }
}

/// Whatever ends the drill, short of SIGKILL, leaves nobody frozen.
impl Drop for Frozen {
    fn drop(&mut self) {
        self.thaw();
    }
}

struct KillWorker {
    everup: Rc<Everup>,
    service: String,
    killed: Option<u32>,
}

impl Change for KillWorker {
    fn name(&self) -> &str {
        EventKind::KillWorker.name()
    }

    fn begin(&mut self) -> Result<String, String> {
        let worker = self.everup.status().map_err(|error| error.to_string())?.worker_pid;
        let pid = process(worker).ok_or("the worker has no process")?;
        kill_process(pid, Signal::KILL)
            .map_err(|error| format!("cannot kill the worker {worker}: {error}"))?;
        self.killed = Some(worker);
        Ok(format!("worker {worker} killed with SIGKILL"))
    }

    fn poll_end(&mut self) -> Result<Option<String>, String> {
        let status = self.everup.status_now().map_err(|error| error.to_string())?;
        let worker = status.map(|status| status.worker_pid).filter(|pid| Some(*pid) != self.killed);
        match worker {
            Some(worker) if is_whole(&self.everup, &self.service)? => {
                Ok(Some(format!("worker {worker} serves")))
            }
            _ => Ok(None),
        }
    }

    fn give_up(&mut self) {}
}

struct Drain {
    everup: Rc<Everup>,
    service: String,
    drained: Option<Drained>,
}

struct Drained {
    id: InstanceId,
    undrained: bool,
}

impl Change for Drain {
    fn name(&self) -> &str {
        EventKind::Drain.name()
    }

    fn begin(&mut self) -> Result<String, String> {
        let busiest = self.everup.busiest(&self.service, false)?;
        let id = InstanceId::new(self.service.as_str(), busiest.name.as_str());
        let told = self.everup.ask(async |client| client.drain(&id, Some(Duration::ZERO)).await);
        told.map_err(|error| error.to_string())?;
        let words = match busiest.tunnels {
            0 => format!("{id} is drained"),
            tunnels => format!("{id} is drained, with {}", counted(tunnels, "tunnel")),
        };
        self.drained = Some(Drained { id, undrained: false });
        Ok(words)
    }

    fn poll_end(&mut self) -> Result<Option<String>, String> {
        let Some(drained) = &mut self.drained else { return Ok(None) };
        let state = self.everup.instance(&drained.id)?.map(|now| now.state);
        match state {
            Some(InstanceState::Drained) if !drained.undrained => {
                let told = self.everup.ask(async |client| client.undrain(&drained.id).await);
                told.map_err(|error| error.to_string())?;
                drained.undrained = true;
                Ok(None)
            }
            Some(InstanceState::Up) if drained.undrained => {
                Ok(Some("it was drained, and is up again".into()))
            }
            _ => Ok(None),
        }
    }

    fn give_up(&mut self) {
        if let Some(drained) = self.drained.as_mut().filter(|drained| !drained.undrained) {
            // If everup does not answer, the operator sees it in `status`, and undrains.
            drop(self.everup.ask(async |client| client.undrain(&drained.id).await));
            drained.undrained = true;
        }
    }
}
