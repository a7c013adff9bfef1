//! The one loop of the health thread: wait, handle, apply outputs, publish. Every probe is a task of its own, so none
//! delays another; the machines in `everup_core::health` decide everything else.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use everup_core::hash::hash;
use everup_core::health::machine::{Input, Machine, Outcome, Output};
use everup_core::ids::InstanceId;
use everup_core::time::Time;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::probe::{self, Target};
use crate::starvation::Starvation;
use crate::{Command, VerdictChange, Watch};

pub(crate) struct Driver {
    inbox: mpsc::UnboundedReceiver<Command>,
    events: mpsc::UnboundedSender<VerdictChange>,
    watched: HashMap<InstanceId, Watched>,
    /// Who wants to be woken when.
    alarms: BTreeSet<(Time, InstanceId)>,
    probes: JoinSet<Probed>,
    /// The number of the last probe.
    number: u64,
    start: Instant,
    starvation: Arc<Starvation>,
}

struct Watched {
    machine: Machine,
    target: Arc<Target>,
    alarm: Option<Time>,
    /// The newest probe: its outcome is the only one that counts.
    probe: Option<(u64, AbortHandle)>,
}

/// A probe that ended.
struct Probed {
    id: InstanceId,
    number: u64,
    outcome: Outcome,
}

enum Event {
    Command(Option<Command>),
    Probed(Probed),
    Alarm,
}

impl Driver {
    pub(crate) fn new(
        inbox: mpsc::UnboundedReceiver<Command>,
        events: mpsc::UnboundedSender<VerdictChange>,
    ) -> Self {
        let start = Instant::now();
        Self {
            inbox,
            events,
            watched: HashMap::new(),
            alarms: BTreeSet::new(),
            probes: JoinSet::new(),
            number: 0,
            start,
            starvation: Arc::new(Starvation::new(start)),
        }
    }

    /// Until every handle is gone. Dropping the set of probes ends those under way.
    pub(crate) async fn run(mut self) {
        loop {
            match self.wait().await {
                Event::Command(None) => return,
                Event::Command(Some(command)) => self.on_command(command),
                Event::Probed(probed) => self.on_probed(probed),
                Event::Alarm => self.on_alarm(),
            }
        }
    }

    async fn wait(&mut self) -> Event {
        let alarm = self.alarms.first().map(|(due, _)| self.start + Duration::from_micros(due.as_micros()));
        let wakeup = self.starvation.plan(alarm, !self.probes.is_empty());
        let event = tokio::select! {
            // Alarms first: commands may come without end.
            biased;
            () = sleep_until(wakeup) => Event::Alarm,
            Some(ended) = self.probes.join_next() => match ended {
                Ok(probed) => Event::Probed(probed),
                // Aborted: replaced by a newer one, or nobody wants to know any more.
                Err(error) if error.is_cancelled() => Event::Alarm,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            },
            command = self.inbox.recv() => Event::Command(command),
        };
        self.starvation.woke();
        event
    }

    fn now(&self) -> Time {
        Time::ZERO + self.start.elapsed()
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Watch(watch) => self.watch(*watch),
            Command::Unwatch(id) => self.unwatch(&id),
            Command::ConnectFailed(id, reason) => self.tell(&id, Input::ConnectFailed(reason)),
            Command::Exited(id, how) => self.tell(&id, Input::Exited(how)),
        }
    }

    fn watch(&mut self, watch: Watch) {
        let Watch { id, address, check, send_proxy, tls, initial, joins_after } = watch;
        self.unwatch(&id);
        let machine = Machine::new(self.now(), &check, joins_after, initial, seed(&id));
        let target = Arc::new(Target {
            id: id.clone(),
            address,
            check: check.check,
            send_proxy,
            tls,
            timeout: check.timeout,
        });
        self.watched.insert(id.clone(), Watched { machine, target, alarm: None, probe: None });
        self.tell(&id, Input::Wakeup);
    }

    fn unwatch(&mut self, id: &InstanceId) {
        let Some(Watched { machine: _, target: _, alarm, probe }) = self.watched.remove(id) else { return };
        if let Some(due) = alarm {
            self.alarms.remove(&(due, id.clone()));
        }
        if let Some((_, probe)) = probe {
            probe.abort();
        }
    }

    fn on_alarm(&mut self) {
        let now = self.now();
        while self.alarms.first().is_some_and(|(due, _)| *due <= now) {
            let (_, id) = self.alarms.pop_first().expect("there is a first");
            self.tell(&id, Input::Wakeup);
        }
    }

    fn on_probed(&mut self, Probed { id, number, outcome }: Probed) {
        let Some(watched) = self.watched.get_mut(&id) else { return };
        if watched.probe.take_if(|(newest, _)| *newest == number).is_some() {
            self.tell(&id, Input::Probed(outcome));
        }
    }

    /// Tells an instance's machine, does what it wants, and publishes.
    fn tell(&mut self, id: &InstanceId, input: Input) {
        everup_failpoint::hit("health");
        let now = self.now();
        let Some(watched) = self.watched.get_mut(id) else { return };
        watched.machine.handle(now, input);
        while let Some(output) = watched.machine.poll_output() {
            match output {
                Output::Probe => {
                    self.number += 1;
                    let task = self.probes.spawn(run_probe(
                        watched.target.clone(),
                        self.number,
                        self.starvation.clone(),
                    ));
                    if let Some((_, replaced)) = watched.probe.replace((self.number, task)) {
                        replaced.abort();
                    }
                }
                Output::Verdict(verdict) => {
                    let wall = SystemTime::now();
                    // Nobody listens any more only when the process is about to end.
                    let address = watched.target.address;
                    let _ = self.events.send(VerdictChange { id: id.clone(), address, verdict, wall });
                }
            }
        }
        let alarm = watched.machine.next_wakeup();
        if let Some(due) = std::mem::replace(&mut watched.alarm, alarm) {
            self.alarms.remove(&(due, id.clone()));
        }
        if let Some(due) = alarm {
            self.alarms.insert((due, id.clone()));
        }
    }
}

async fn run_probe(target: Arc<Target>, number: u64, starvation: Arc<Starvation>) -> Probed {
    everup_failpoint::hit("health.probe");
    let outcome = probe::probe(&target, &starvation).await;
    Probed { id: target.id.clone(), number, outcome }
}

async fn sleep_until(wakeup: Option<Instant>) {
    match wakeup {
        Some(wakeup) => tokio::time::sleep_until(wakeup.into()).await,
        None => std::future::pending().await,
    }
}

/// Different for every instance, so that those watched since the same moment are not probed together for ever.
fn seed(id: &InstanceId) -> u64 {
    hash(id.to_string().as_bytes())
}
