//! The health thread: one real machine per instance, and probes that meet what the instance is up to.

use std::time::Duration;

use everup_core::health::machine::{Input, Machine, Outcome, Output};
use everup_core::health::{Reason, Verdict};

use crate::instance::{Answer, Behaviour};
use crate::world::{Event, World};

/// From one end of the network to the other.
pub(crate) const ONE_WAY: Duration = Duration::from_micros(200);
/// How long a sound instance takes to answer a probe.
const PROBE_TAKES: Duration = Duration::from_millis(1);
/// Inconclusive probes in a row: the health thread does not starve for ever.
const INCONCLUSIVE_AT_MOST: u32 = 2;

/// What the health thread knows of an instance.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) machine: Machine,
    /// Number of the probe under way.
    probe: Option<u64>,
    inconclusive: u32,
    /// How often the verdict went from Up to Down.
    pub(crate) falls: u32,
}

impl Watched {
    pub(crate) fn new(machine: Machine) -> Self {
        Self { machine, probe: None, inconclusive: 0, falls: 0 }
    }
}

impl World {
    /// Tells a machine, and does what it wants.
    pub(crate) fn tell(&mut self, instance: usize, input: Input) {
        let now = self.queue.now();
        let before = self.watched[instance].machine.verdict().clone();
        self.watched[instance].machine.handle(now, input);
        while let Some(output) = self.watched[instance].machine.poll_output() {
            match output {
                Output::Probe => self.start_probe(instance),
                Output::Verdict(verdict) => {
                    self.note(|| format!("instance {instance}: {verdict:?}"));
                    let fell = before == Verdict::Up && matches!(verdict, Verdict::Down(_));
                    self.watched[instance].falls += u32::from(fell);
                    self.publish();
                }
            }
        }
        if let Some(due) = self.watched[instance].machine.next_wakeup() {
            self.queue.at(due, Event::Alarm { instance });
        }
    }

    pub(crate) fn on_alarm(&mut self, instance: usize) {
        let due = self.watched[instance].machine.next_wakeup();
        if due.is_some_and(|due| due <= self.queue.now()) {
            self.tell(instance, Input::Wakeup);
        }
    }

    fn start_probe(&mut self, instance: usize) {
        self.probes += 1;
        let number = self.probes;
        self.watched[instance].probe = Some(number);
        self.queue.after(ONE_WAY, Event::ProbeArrives { instance, number });
        self.queue.after(self.setting.health.timeout, Event::ProbeOver { instance, number });
    }

    pub(crate) fn on_probe_arrives(&mut self, instance: usize, number: u64) {
        let Some(truth) = self.instances.get_mut(instance) else { return };
        match truth.behaviour {
            Behaviour::Serves | Behaviour::Slow | Behaviour::Sick => {
                let (life, answer) = (truth.life, Answer::Probe { number });
                self.queue.after(PROBE_TAKES, Event::Answer { instance, life, answer });
            }
            Behaviour::Frozen => truth.held.push(Answer::Probe { number }),
            Behaviour::Unreachable => {}
            Behaviour::Dead => self.end_probe(instance, number, Outcome::Failed(Reason::ConnectRefused)),
        }
    }

    pub(crate) fn on_probe_answer(&mut self, instance: usize, number: u64) {
        let outcome = match self.instances[instance].behaviour {
            Behaviour::Sick => Outcome::Failed(Reason::ProbeStatus(500)),
            _ => Outcome::Passed,
        };
        self.end_probe(instance, number, outcome);
    }

    pub(crate) fn on_probe_over(&mut self, instance: usize, number: u64) {
        let starved = self.random.below(100) < self.setting.starving_percent
            && self.watched[instance].inconclusive < INCONCLUSIVE_AT_MOST;
        let outcome = if starved { Outcome::Inconclusive } else { Outcome::Failed(Reason::ProbeTimeout) };
        self.end_probe(instance, number, outcome);
    }

    /// The instance died: whatever probe it had is lost.
    pub(crate) fn lose_probe(&mut self, instance: usize) {
        if let Some(number) = self.watched[instance].probe {
            self.end_probe(instance, number, Outcome::Failed(Reason::ProbeFailed("reset".to_owned())));
        }
    }

    fn end_probe(&mut self, instance: usize, number: u64, outcome: Outcome) {
        let watched = &mut self.watched[instance];
        if watched.probe.take_if(|newest| *newest == number).is_none() {
            return;
        }
        watched.inconclusive = if outcome == Outcome::Inconclusive { watched.inconclusive + 1 } else { 0 };
        self.tell(instance, Input::Probed(outcome));
    }
}
