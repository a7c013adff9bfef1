//! Between a service and the machine that decides who is ejected: hands it what can be seen, and takes over what
//! follows. It decides nothing itself, and publishes nothing: it says whether the table is old.

use everup_core::health::outlier::{Input, Machine, Memory, Output, Seen, Why};
use everup_core::time::Time;
use everup_gateway::Availability;

use crate::clock::Now;
use crate::notes::Ejected;
use crate::service::{Instance, Service};

/// What a look at a service changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changed {
    /// Who takes requests.
    pub(crate) table: bool,
    /// What the next worker should know.
    pub(crate) notes: bool,
}

impl Service {
    /// Begins to judge, with what was restored of the instances. Done again after processes were adopted.
    pub(crate) fn begin_outliers(&mut self, now: Now) {
        let Some(rules) = &self.settings.outlier else {
            self.instances.iter_mut().for_each(|instance| (instance.ejected, instance.ejections) = (None, 0));
            return;
        };
        let mut machine = Machine::new(now.time, rules, self.instances.len());
        for (index, instance) in self.instances.iter_mut().enumerate() {
            let left = |ejected: Ejected| Some((ejected.cause, ejected.until.duration_since(now.wall).ok()?));
            let memory = Memory { ejections: instance.ejections, ejected: instance.ejected.and_then(left) };
            machine.restore(now.time, index, memory);
            mirror(&machine, index, instance, now);
        }
        self.outliers = Some(machine);
    }

    /// When [`Service::look`] is due.
    pub(crate) fn next_look(&self) -> Option<Time> {
        self.outliers.as_ref().map(Machine::next_wakeup)
    }

    /// Tells the machine what happened, lets it look at everything, and takes over what follows.
    pub(crate) fn look(&mut self, now: Now, news: Option<Input>) -> Changed {
        let Self { outliers: Some(machine), instances, .. } = self else { return Changed::default() };
        if let Some(news) = news {
            machine.handle(now.time, news);
        }
        machine.handle(now.time, Input::Look(instances.iter().map(seen).collect()));
        let mut changed = Changed::default();
        while let Some(output) = machine.poll_output() {
            changed.table = true;
            let instance = match &output {
                Output::Eject { instance, .. } | Output::Return { instance, .. } => &mut instances[*instance],
            };
            instance.since = now.wall;
            instance.shared.forgive();
            instance.ejections_total += u64::from(matches!(output, Output::Eject { .. }));
            tell(now, instance, &output);
        }
        for (index, instance) in instances.iter_mut().enumerate() {
            changed.notes |= mirror(machine, index, instance, now);
        }
        changed
    }
}

fn seen(instance: &Instance) -> Seen {
    let shared = &instance.shared;
    Seen {
        able: instance.availability_but_for_ejection() == Availability::Takes,
        streak: shared.streak(),
        good: shared.good(),
        bad: shared.errors() + shared.broken(),
    }
}

/// What the machine believes, for those who do not know it. True: it is news.
fn mirror(machine: &Machine, index: usize, instance: &mut Instance, now: Now) -> bool {
    let Memory { ejections, ejected } = machine.memory(now.time, index);
    let is_news = instance.ejections != ejections || instance.ejected.is_some() != ejected.is_some();
    if is_news {
        instance.ejections = ejections;
        instance.ejected = ejected.map(|(cause, left)| Ejected { cause, until: now.wall + left });
    }
    is_news
}

fn tell(now: Now, instance: &Instance, output: &Output) {
    let id = &instance.id;
    match output {
        Output::Eject { cause, until, .. } => {
            let time = until.since(now.time);
            tracing::warn!(instance = %id, %cause, ?time, "ejected: others take its requests");
        }
        Output::Return { why: Why::Over, .. } => tracing::info!(instance = %id, "ejected no more"),
        Output::Return { why: Why::Panic, .. } => {
            tracing::warn!(instance = %id, "ejected no more: too few others work");
        }
        Output::Return { why: Why::Replaced, .. } => {
            tracing::info!(instance = %id, "ejected no more: it is another process");
        }
    }
}
