//! What is known of services and their instances, and what follows from it: who takes requests, and how the state is
//! called. Nothing here does anything.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use everup_admin::api::InstanceState;
use everup_core::balance::maglev;
use everup_core::config;
use everup_core::health::{Reason, Verdict, outlier};
use everup_core::ids::{Generation, InstanceId};
use everup_core::instance::Phase;
use everup_core::time::Time;
use everup_gateway::{Availability, Connector, InstanceShared, ServiceShared};
use everup_instance::Change;

use crate::clock::Now;
use crate::drain::Left;
use crate::notes::{Ejected, Note, Notes, Restored};
use crate::rates::Rates;

/// One service.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) settings: Arc<config::Service>,
    pub(crate) shared: Arc<ServiceShared>,
    /// What connections to its instances are secured with; None: nothing.
    pub(crate) connector: Option<Arc<Connector>>,
    /// In a fixed order, because tables name instances by index; those that everup runs come and go with deployments.
    pub(crate) instances: Vec<Instance>,
    /// Decides who is ejected; None: nobody ever is. `outliers.rs` talks to it.
    pub(crate) outliers: Option<outlier::Machine>,
    /// The last one that was filled, if `balance` is `maglev`: most tables can use it again.
    pub(crate) maglev: Option<Arc<maglev::Table>>,
    /// When its first instance took requests.
    began: Option<Instant>,
    /// It is no longer in the configuration: the first table in which no route leads to it, and until when it may
    /// finish what it has.
    pub(crate) leaves: Option<(Generation, Time)>,
    pub(crate) rates: Rates,
}

/// How far an instance has come that is no longer in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// It takes requests until another instance does, or this time has come.
    Serves { until: Time },
    /// It takes no new ones since this table, and may finish those it has until then.
    Finishes { since: Generation, until: Time },
}

/// An instance as the configuration names it.
struct Wanted {
    id: InstanceId,
    weight: u32,
    backup: bool,
    fixed: Option<SocketAddr>,
}

fn wanted(settings: &config::Service) -> Vec<Wanted> {
    let id = |name: String| InstanceId::new(Arc::clone(&settings.name), name);
    let run = |n| Wanted { id: id(format!("{}-{n}", settings.name)), weight: 1, backup: false, fixed: None };
    let fixed = |&config::FixedInstance { address, weight, backup }: &config::FixedInstance| Wanted {
        id: id(address.to_string()),
        weight,
        backup,
        fixed: Some(address),
    };
    match &settings.run {
        Some(settings) => (1..=settings.replicas).map(run).collect(),
        None => settings.instances.iter().map(fixed).collect(),
    }
}

/// One instance.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    /// The configured weight.
    weight: u32,
    /// The operator's, instead of the configured one.
    pub(crate) weighed: Option<u32>,
    pub(crate) backup: bool,
    /// It took requests when that was last looked at; None: it never did.
    took: Option<bool>,
    /// When it came up, if it is to start slowly.
    pub(crate) warms_since: Option<Instant>,
    /// Where a fixed instance listens; None: everup runs it, and its process says where.
    pub(crate) fixed: Option<SocketAddr>,
    /// What the supervisor says, if everup runs it.
    pub(crate) process: Option<Change>,
    pub(crate) verdict: Verdict,
    /// It was up since its process began.
    pub(crate) seen_up: bool,
    /// The operator drained it.
    pub(crate) draining: bool,
    /// A deployment gives it no requests.
    pub(crate) standby: bool,
    /// It is no longer in the configuration.
    pub(crate) leaves: Option<Leaving>,
    /// Why it is ejected and until when, if it is.
    pub(crate) ejected: Option<Ejected>,
    /// How many ejections are not forgotten.
    pub(crate) ejections: u32,
    /// All ejections since the worker began.
    pub(crate) ejections_total: u64,
    /// When the state that people see began.
    pub(crate) since: SystemTime,
    pub(crate) shared: Arc<InstanceShared>,
    /// What is in flight on it in workers that leave.
    pub(crate) held: Left,
}

impl Service {
    /// A service as configured; nothing is known of its instances but what `notes` say of fixed ones and of drains.
    pub(crate) fn new(settings: config::Service, threads: usize, notes: &Notes, wall: SystemTime) -> Self {
        let instances = wanted(&settings).into_iter();
        let instances = instances.map(|wanted| Instance::new(wanted, threads, notes, wall)).collect();
        let shared = Arc::new(ServiceShared::new(threads));
        Self {
            settings: Arc::new(settings),
            shared,
            connector: None,
            instances,
            outliers: None,
            maglev: None,
            began: None,
            leaves: None,
            rates: Rates::default(),
        }
    }

    /// Other settings for it. Instances that it has no more leave; returns the new ones. Those that everup runs, before and after,
    /// are the deployer's business.
    pub(crate) fn resettle(
        &mut self,
        settings: &config::Service,
        threads: usize,
        now: Now,
    ) -> Vec<InstanceId> {
        self.leaves = None;
        let judges_alike = self.settings.outlier == settings.outlier;
        if *self.settings != *settings {
            self.settings = Arc::new(settings.clone());
        }
        let before: Vec<_> = self.instances.iter().map(|instance| instance.id.clone()).collect();
        let mut old = std::mem::take(&mut self.instances);
        let mut came = Vec::new();
        if settings.run.is_some() {
            // Also those that were about to leave.
            for mut instance in old.extract_if(.., |one| one.is_run_by_us()) {
                instance.leaves = None;
                self.instances.push(instance);
            }
        }
        for wanted in wanted(settings).into_iter().filter(|wanted| wanted.fixed.is_some()) {
            let instance = match old.iter().position(|one| one.id == wanted.id) {
                Some(place) => {
                    let mut known = old.remove(place);
                    (known.weight, known.backup, known.leaves) = (wanted.weight, wanted.backup, None);
                    known
                }
                None => {
                    came.push(wanted.id.clone());
                    Instance::new(wanted, threads, &Notes::default(), now.wall)
                }
            };
            self.instances.push(instance);
        }
        let until = now.time + settings.drain.time;
        for mut instance in old {
            instance.leaves.get_or_insert(Leaving::Serves { until });
            self.instances.push(instance);
        }
        let is_as_before = self.instances.iter().map(|instance| &instance.id).eq(&before);
        if !(is_as_before && judges_alike) {
            self.outliers = None;
            self.begin_outliers(now);
        }
        came
    }

    /// Notes who has come to take requests, and so starts slowly: who took some before, and who comes when the service
    /// has been at work for longer than a slow start takes. When everybody is new nobody is spared.
    pub(crate) fn note_takers(&mut self, now: Instant) {
        let slow_start = self.settings.slow_start;
        for instance in &mut self.instances {
            let takes = instance.availability() == Availability::Takes;
            if takes {
                let began = *self.began.get_or_insert(now);
                let comes_late = now.saturating_duration_since(began) >= slow_start;
                let starts_slowly = !slow_start.is_zero() && (instance.took.is_some() || comes_late);
                if instance.took != Some(true) {
                    instance.warms_since = starts_slowly.then_some(now);
                }
            }
            if takes || instance.took.is_some() {
                instance.took = Some(takes);
            }
        }
    }

    /// Somebody answers for it.
    pub(crate) fn is_up(&self) -> bool {
        let answers = |instance: &Instance| match instance.availability() {
            Availability::Takes | Availability::Ejected => true,
            Availability::Draining | Availability::Down => false,
        };
        self.instances.iter().any(answers)
    }
}

impl Instance {
    /// One that everup runs; nothing is known of it but what `notes` say.
    pub(crate) fn run(id: InstanceId, threads: usize, notes: &Notes, wall: SystemTime) -> Self {
        Self::new(Wanted { id, weight: 1, backup: false, fixed: None }, threads, notes, wall)
    }

    fn new(wanted: Wanted, threads: usize, notes: &Notes, wall: SystemTime) -> Self {
        let Wanted { id, weight, backup, fixed } = wanted;
        // A verdict on a process is restored with the process: `Instance::adopt`.
        let Restored {
            verdict,
            draining,
            standby,
            weight: weighed,
            seen_up,
            since,
            ejections,
            ejected,
            restarts: _,
        } = notes.restored(&id, None);
        Self {
            id,
            weight,
            weighed,
            backup,
            took: None,
            warms_since: None,
            fixed,
            process: None,
            verdict,
            seen_up,
            draining,
            standby,
            leaves: None,
            ejected,
            ejections,
            ejections_total: 0,
            since: since.unwrap_or(wall),
            shared: Arc::new(InstanceShared::new(threads)),
            held: Left::default(),
        }
    }

    /// What is in flight on it, in this worker and in those that leave.
    pub(crate) fn left(&self) -> Left {
        Left {
            in_flight: u64::from(self.shared.in_flight()) + self.held.in_flight,
            tunnels: u64::from(self.shared.tunnels()) + self.held.tunnels,
        }
    }

    /// It gets no new requests: the operator drained it, or it leaves.
    fn is_drained(&self) -> bool {
        self.draining || matches!(self.leaves, Some(Leaving::Finishes { .. }))
    }

    /// Where it listens now; None while there is no process.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        let of_process = || {
            let process = self.process.as_ref()?;
            process.pid?;
            Some(SocketAddr::from((Ipv4Addr::LOCALHOST, process.port?)))
        };
        self.fixed.or_else(of_process)
    }

    /// Its share beside the others'.
    pub(crate) fn weight(&self) -> u32 {
        self.weighed.unwrap_or(self.weight)
    }

    pub(crate) fn is_run_by_us(&self) -> bool {
        self.fixed.is_none()
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().and_then(|process| process.pid)
    }

    /// Whether it gets requests.
    pub(crate) fn availability(&self) -> Availability {
        match self.availability_but_for_ejection() {
            Availability::Takes if self.ejected.is_some() => Availability::Ejected,
            other => other,
        }
    }

    /// Whether it would get requests if nobody minded how it answers them.
    pub(crate) fn availability_but_for_ejection(&self) -> Availability {
        availability(
            &self.verdict,
            self.is_drained() || self.standby,
            self.process.as_ref().map(|process| process.phase),
        )
    }

    /// What people are told it is in.
    pub(crate) fn state(&self) -> InstanceState {
        match self.state_but_for_ejection() {
            InstanceState::Up if self.standby && self.left().in_flight > 0 => InstanceState::Draining,
            InstanceState::Up if self.standby => InstanceState::Standby,
            InstanceState::Up if self.ejected.is_some() => InstanceState::Ejected,
            other => other,
        }
    }

    fn state_but_for_ejection(&self) -> InstanceState {
        let Some(process) = &self.process else {
            return answering_state(&self.verdict, self.is_drained(), self.left().in_flight);
        };
        match process.phase {
            Phase::Stopped | Phase::Stopping => InstanceState::Stopped,
            Phase::Running if self.seen_up || self.verdict == Verdict::Up => {
                answering_state(&self.verdict, self.is_drained(), self.left().in_flight)
            }
            Phase::Starting | Phase::Running | Phase::Backoff if process.crash_loop => {
                InstanceState::CrashLooping
            }
            Phase::Starting | Phase::Running => InstanceState::Starting,
            Phase::Backoff => InstanceState::Backoff,
        }
    }

    /// Why it is in that state, in words; empty when there is nothing to explain.
    pub(crate) fn reason(&self) -> String {
        let last_exit = || {
            let exit = self.process.as_ref().and_then(|process| process.last_exit.as_ref());
            exit.map(ToString::to_string)
        };
        match self.state() {
            InstanceState::Up => String::new(),
            InstanceState::Ejected => {
                self.ejected.map(|Ejected { cause, .. }| cause.to_string()).unwrap_or_default()
            }
            InstanceState::Unknown => "not checked yet".to_owned(),
            InstanceState::Draining | InstanceState::Drained if self.leaves.is_some() => {
                "no longer in the configuration".to_owned()
            }
            InstanceState::Draining if self.standby => "by a deployment".to_owned(),
            InstanceState::Draining | InstanceState::Drained => "by the operator".to_owned(),
            InstanceState::Standby => "gets no requests: see the deployment".to_owned(),
            InstanceState::Stopped => String::new(),
            InstanceState::Backoff | InstanceState::CrashLooping => last_exit().unwrap_or_default(),
            InstanceState::Starting => match (&self.verdict, last_exit()) {
                // It is usual that nothing listens yet.
                (Verdict::Down(Reason::ConnectRefused) | Verdict::Unknown | Verdict::Up, None) => {
                    "waiting for its first good checks".to_owned()
                }
                (Verdict::Down(Reason::ConnectRefused) | Verdict::Unknown | Verdict::Up, Some(exit)) => {
                    format!("again: the last process {exit}")
                }
                (Verdict::Down(reason), _) => reason.to_string(),
            },
            InstanceState::Down => match &self.verdict {
                Verdict::Down(reason) => reason.to_string(),
                Verdict::Unknown | Verdict::Up => String::new(),
            },
        }
    }

    /// Takes over a process from before this worker, with what `notes` say of it.
    pub(crate) fn adopt(&mut self, process: Change, notes: &Notes) {
        let Restored {
            verdict,
            seen_up,
            since,
            ejections,
            ejected,
            draining: _,
            standby: _,
            weight: _,
            restarts: _,
        } = notes.restored(&self.id, process.pid);
        self.verdict = verdict;
        (self.ejections, self.ejected) = (ejections, ejected);
        self.seen_up = seen_up;
        self.since = since.unwrap_or(self.since);
        self.process = Some(process);
    }

    /// For the next worker.
    pub(crate) fn note(&self) -> (InstanceId, Note) {
        let known = Restored {
            verdict: self.verdict.clone(),
            draining: self.draining,
            standby: self.standby,
            weight: self.weighed,
            seen_up: self.seen_up,
            restarts: self.process.as_ref().map_or(0, |process| process.restarts),
            ejections: self.ejections,
            ejected: self.ejected,
            since: Some(self.since),
        };
        (self.id.clone(), Note::new(known, self.pid()))
    }
}

/// Whether an instance gets requests: only one that is up, is not drained, and whose process, if it is ours, runs.
pub(crate) fn availability(verdict: &Verdict, draining: bool, process: Option<Phase>) -> Availability {
    match (verdict, process) {
        (Verdict::Unknown | Verdict::Down(_), _)
        | (Verdict::Up, Some(Phase::Starting | Phase::Backoff | Phase::Stopped)) => Availability::Down,
        (Verdict::Up, Some(Phase::Stopping)) => Availability::Draining,
        (Verdict::Up, None | Some(Phase::Running)) if draining => Availability::Draining,
        (Verdict::Up, None | Some(Phase::Running)) => Availability::Takes,
    }
}

fn answering_state(verdict: &Verdict, draining: bool, in_flight: u64) -> InstanceState {
    match (verdict, draining) {
        (Verdict::Down(_), _) => InstanceState::Down,
        (Verdict::Unknown | Verdict::Up, true) if in_flight > 0 => InstanceState::Draining,
        (Verdict::Unknown | Verdict::Up, true) => InstanceState::Drained,
        (Verdict::Unknown, false) => InstanceState::Unknown,
        (Verdict::Up, false) => InstanceState::Up,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down() -> Verdict {
        Verdict::Down(Reason::ConnectRefused)
    }

    #[test]
    fn only_an_instance_that_is_up_and_runs_and_is_not_drained_takes_requests() {
        let phases = [
            None,
            Some(Phase::Stopped),
            Some(Phase::Starting),
            Some(Phase::Running),
            Some(Phase::Backoff),
            Some(Phase::Stopping),
        ];
        for verdict in [Verdict::Unknown, Verdict::Up, down()] {
            for draining in [false, true] {
                for phase in phases {
                    let runs = matches!(phase, None | Some(Phase::Running));
                    let expected = match (&verdict, runs, phase) {
                        (Verdict::Up, true, _) if !draining => Availability::Takes,
                        (Verdict::Up, true, _) | (Verdict::Up, _, Some(Phase::Stopping)) => {
                            Availability::Draining
                        }
                        _ => Availability::Down,
                    };
                    assert_eq!(
                        availability(&verdict, draining, phase),
                        expected,
                        "{verdict:?} {draining} {phase:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_drained_instance_that_fails_is_told_as_down() {
        assert_eq!(answering_state(&down(), true, 0), InstanceState::Down);
        assert_eq!(answering_state(&Verdict::Up, true, 2), InstanceState::Draining);
        assert_eq!(answering_state(&Verdict::Up, true, 0), InstanceState::Drained);
    }

    fn run_instance(phase: Phase, verdict: Verdict, seen_up: bool, crash_loop: bool) -> Instance {
        let id = InstanceId::new("shop", "shop-1");
        let process = Change {
            id: id.clone(),
            phase,
            pid: None,
            port: None,
            revision: "v1".into(),
            restarts: 0,
            crash_loop,
            last_exit: None,
            since: Time::ZERO,
        };
        Instance {
            id,
            weight: 1,
            weighed: None,
            backup: false,
            took: None,
            warms_since: None,
            fixed: None,
            process: Some(process),
            verdict,
            seen_up,
            draining: false,
            standby: false,
            leaves: None,
            ejected: None,
            ejections: 0,
            ejections_total: 0,
            since: SystemTime::UNIX_EPOCH,
            held: Left::default(),
            shared: Arc::new(InstanceShared::new(1)),
        }
    }

    #[test]
    fn a_process_that_does_not_listen_yet_is_starting_and_not_down() {
        assert_eq!(run_instance(Phase::Running, down(), false, false).state(), InstanceState::Starting);
        assert_eq!(run_instance(Phase::Running, down(), true, false).state(), InstanceState::Down);
    }

    #[test]
    fn who_comes_up_again_or_late_starts_slowly_and_nobody_when_all_are_new() {
        let text = "[[listener]]\nbind = [\"127.0.0.1:0\"]\nservice = \"shop\"\n[service.shop]\nslow_start = \"10s\"\n\
                    instances = [\"10.0.0.1:80\", \"10.0.0.2:80\", \"10.0.0.3:80\"]\n";
        let settings = config::parse(text).unwrap().services.remove(0);
        let mut service = Service::new(settings, 1, &Notes::default(), SystemTime::UNIX_EPOCH);
        let start = Instant::now();
        let mut at = |seconds: u64, verdicts: [Verdict; 3]| {
            let now = start + std::time::Duration::from_secs(seconds);
            service.instances.iter_mut().zip(verdicts).for_each(|(one, verdict)| one.verdict = verdict);
            service.note_takers(now);
            let since = |one: &Instance| one.warms_since.map(|since| (since - start).as_secs());
            service.instances.iter().map(since).collect::<Vec<_>>()
        };
        let up = || Verdict::Up;
        assert_eq!(at(0, [up(), down(), down()]), [None, None, None], "the first of all");
        assert_eq!(at(1, [up(), up(), down()]), [None, None, None], "new as the first");
        assert_eq!(at(2, [down(), up(), down()]), [None, None, None]);
        assert_eq!(at(3, [up(), up(), down()]), [Some(3), None, None], "it was there before");
        assert_eq!(at(4, [up(), up(), down()]), [Some(3), None, None], "not again");
        assert_eq!(at(60, [up(), up(), up()]), [Some(3), None, Some(60)], "new among warm ones");
    }

    #[test]
    fn a_crash_loop_is_told_until_the_instance_is_up() {
        for phase in [Phase::Starting, Phase::Running, Phase::Backoff] {
            assert_eq!(
                run_instance(phase, Verdict::Unknown, false, true).state(),
                InstanceState::CrashLooping
            );
        }
        assert_eq!(run_instance(Phase::Running, Verdict::Up, true, true).state(), InstanceState::Up);
    }
}
