//! The world: all state of a run, the events in it, and the one loop.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use everup_core::balance::{Candidate, Picker, hash};
use everup_core::exchange::Budget;
use everup_core::hash::Random;
use everup_core::health::machine::{Input, Machine};
use everup_core::health::{Reason, Verdict};
use everup_core::ids::Generation;
use everup_core::time::Time;

use crate::health::{ONE_WAY, Watched};
use crate::instance::{Answer, Behaviour, Instance};
use crate::queue::Queue;
use crate::request::{Request, Thread};
use crate::rules::{self, Broken};
use crate::setting::{EPILOGUE, Setting, TABLE_LAG};

/// Percent of the requests that a retry may be made for.
const BUDGET_PERCENT: u32 = 10;

/// What can happen. Every variant is handled by the module that plans it.
#[derive(Debug)]
pub(crate) enum Event {
    /// The instance's behaviour changes: to a fault if it serves, to serving otherwise.
    Fault {
        instance: usize,
    },
    /// An answer leaves the instance, if it still lives the same life.
    Answer {
        instance: usize,
        life: u32,
        answer: Answer,
    },
    Alarm {
        instance: usize,
    },
    ProbeArrives {
        instance: usize,
        number: u64,
    },
    ProbeOver {
        instance: usize,
        number: u64,
    },
    /// The data plane tells the health thread.
    News {
        instance: usize,
        input: Input,
    },
    Table {
        thread: usize,
        table: Rc<Table>,
    },
    NewRequest,
    Connect {
        request: u64,
        attempt: u32,
    },
    ConnectTimeout {
        request: u64,
        attempt: u32,
    },
    Lost {
        request: u64,
        attempt: u32,
    },
    AttemptTimeout {
        request: u64,
        attempt: u32,
    },
    RequestTimeout {
        request: u64,
    },
    ParkOver {
        request: u64,
        attempt: u32,
    },
    BudgetAgain {
        request: u64,
        attempt: u32,
    },
}

/// Which instances may be picked.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) generation: Generation,
    pub(crate) up: Vec<bool>,
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Requests in all.
    pub requests: u64,
    /// Answered by an instance.
    pub answered: u64,
    /// Ended by a status of our own.
    pub failed: u64,
    /// Cut off in the middle of an answer.
    pub cut: u64,
    /// Attempts in all.
    pub attempts: u64,
    /// Requests that were parked at least once.
    pub parked: u64,
    /// Requests that had to wait for the retry budget.
    pub waited_for_budget: u64,
    /// Times an instance was judged down after it was up.
    pub falls: u64,
    /// Steps of the simulation.
    pub steps: u64,
}

/// All state of a run.
#[derive(Debug)]
pub struct World {
    pub(crate) setting: Setting,
    pub(crate) random: Random,
    pub(crate) queue: Queue<Event>,
    pub(crate) instances: Vec<Instance>,
    pub(crate) watched: Vec<Watched>,
    pub(crate) probes: u64,
    pub(crate) threads: Vec<Thread>,
    /// Of the newest table.
    pub(crate) generation: Generation,
    pub(crate) requests: BTreeMap<u64, Request>,
    /// Requests in flight per instance, over all threads.
    pub(crate) load: Vec<u32>,
    pub(crate) summary: Summary,
    /// What happened, if somebody wants to read it.
    trace: Option<Vec<String>>,
}

impl World {
    /// A world that is all decided by `seed`. With `traced`, [`World::trace`] tells its story.
    pub fn new(seed: u64, traced: bool) -> Self {
        let mut random = Random::new(seed);
        let setting = Setting::draw(&mut random);
        let count = setting.weights.len();
        let joins_after = if setting.runs_them { setting.health.rise } else { 1 };
        let machine = |instance: usize| {
            let seed = random.clone().bits() ^ instance as u64;
            Watched::new(Machine::new(Time::ZERO, &setting.health, joins_after, Verdict::Unknown, seed))
        };
        let watched = (0..count).map(machine).collect();
        let thread =
            |_| Thread::new(Picker::new(setting.balance, random.bits()), Budget::new(BUDGET_PERCENT), count);
        let threads = (0..setting.threads).map(thread).collect();
        let mut world = Self {
            setting,
            random,
            queue: Queue::new(),
            instances: (0..count).map(|_| Instance::new()).collect(),
            watched,
            probes: 0,
            threads,
            generation: Generation::default(),
            requests: BTreeMap::new(),
            load: vec![0; count],
            summary: Summary::default(),
            trace: traced.then(Vec::new),
        };
        for instance in 0..count {
            world.queue.after(Duration::ZERO, Event::Alarm { instance });
            world.plan_fault(instance);
        }
        world.queue.after(Duration::ZERO, Event::NewRequest);
        world
    }

    /// Runs to the end of the epilogue.
    ///
    /// # Errors
    /// The first rule that was broken, and when.
    pub fn run(&mut self) -> Result<Summary, Broken> {
        let end = Time::ZERO + self.setting.duration + EPILOGUE;
        while self.queue.now() < end {
            let event = self.queue.next().expect("probes never end");
            self.summary.steps += 1;
            self.step(event)
                .and_then(|()| rules::check(self))
                .map_err(|broken| broken.at(self.queue.now()))?;
        }
        rules::check_end(self).map_err(|broken| broken.at(end))?;
        self.summary.falls = self.watched.iter().map(|watched| u64::from(watched.falls)).sum();
        Ok(self.summary.clone())
    }

    /// The story so far, one line per event worth telling.
    pub fn trace(&self) -> &[String] {
        self.trace.as_deref().unwrap_or_default()
    }

    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        let now = self.queue.now();
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>9.3} ms  {}", now.as_micros() as f64 / 1000.0, line()));
        }
    }

    fn step(&mut self, event: Event) -> Result<(), Broken> {
        match event {
            Event::Fault { instance } => self.on_fault(instance),
            Event::Answer { instance, life, answer } => self.on_answer(instance, life, answer),
            Event::Alarm { instance } => self.on_alarm(instance),
            Event::ProbeArrives { instance, number } => self.on_probe_arrives(instance, number),
            Event::ProbeOver { instance, number } => self.on_probe_over(instance, number),
            Event::News { instance, input } => self.tell(instance, input),
            Event::Table { thread, table } => self.on_table(thread, table)?,
            Event::NewRequest => self.on_new_request()?,
            Event::Connect { request, attempt } => self.on_connect(request, attempt)?,
            Event::ConnectTimeout { request, attempt } => self.on_connect_timeout(request, attempt)?,
            Event::Lost { request, attempt } => self.on_lost(request, attempt)?,
            Event::AttemptTimeout { request, attempt } => self.on_attempt_timeout(request, attempt)?,
            Event::RequestTimeout { request } => self.on_request_timeout(request)?,
            Event::ParkOver { request, attempt } => self.on_park_over(request, attempt)?,
            Event::BudgetAgain { request, attempt } => self.on_budget_again(request, attempt)?,
        }
        Ok(())
    }

    /// Exponentially distributed, at least a millisecond.
    pub(crate) fn around(&mut self, mean: Duration) -> Duration {
        let draw = (self.random.bits() >> 11) as f64 / (1_u64 << 53) as f64;
        mean.mul_f64(-(1.0 - draw).ln()).max(Duration::from_millis(1))
    }

    pub(crate) fn is_over(&self) -> bool {
        self.queue.now() >= Time::ZERO + self.setting.duration
    }

    fn plan_fault(&mut self, instance: usize) {
        let serves = self.instances[instance].behaviour == Behaviour::Serves;
        let mean = if serves { self.setting.serves_for } else { self.setting.fails_for };
        let wait = self.around(mean);
        self.queue.after(wait, Event::Fault { instance });
    }

    fn on_fault(&mut self, instance: usize) {
        let now = self.queue.now();
        let serves = self.instances[instance].behaviour == Behaviour::Serves;
        if serves && self.is_over() {
            return;
        }
        // Now and then one fault follows another.
        let recovers = !serves && (self.is_over() || self.random.below(4) > 0);
        let behaviour = if recovers { Behaviour::Serves } else { Behaviour::fault(&mut self.random) };
        self.note(|| format!("instance {instance}: {behaviour:?}"));
        let held = self.instances[instance].becomes(now, behaviour);
        let life = self.instances[instance].life;
        for answer in held {
            let takes = behaviour.takes(&mut self.random);
            self.queue.after(takes, Event::Answer { instance, life, answer });
        }
        if behaviour == Behaviour::Dead {
            self.on_death(instance);
        }
        self.plan_fault(instance);
    }

    fn on_death(&mut self, instance: usize) {
        self.lose_probe(instance);
        for (request, attempt) in self.attempts_on(instance) {
            self.queue.after(ONE_WAY, Event::Lost { request, attempt });
        }
        if self.setting.runs_them {
            let input = Input::Exited("killed by signal 9".to_owned());
            self.queue.after(Duration::from_millis(1), Event::News { instance, input });
        }
    }

    fn on_answer(&mut self, instance: usize, life: u32, answer: Answer) {
        let truth = &mut self.instances[instance];
        if truth.life != life {
            return;
        }
        if !truth.behaviour.speaks() {
            truth.held.push(answer);
            return;
        }
        match answer {
            Answer::Probe { number } => self.on_probe_answer(instance, number),
            Answer::Head { request, attempt } => self.on_head(request, attempt, instance),
            Answer::End { request, attempt } => self.on_end(request, attempt),
        }
    }

    /// A verdict changed: the new table travels to every thread, to each in its time but in order.
    pub(crate) fn publish(&mut self) {
        let up = self.watched.iter().map(|watched| *watched.machine.verdict() == Verdict::Up).collect();
        self.generation = Generation(self.generation.0 + 1);
        let table = Rc::new(Table { generation: self.generation, up });
        for thread in 0..self.threads.len() {
            let lag = Duration::from_micros(self.random.below(TABLE_LAG.as_micros() as usize) as u64);
            let arrives = self.threads[thread].table_due.max(self.queue.now() + lag);
            self.threads[thread].table_due = arrives;
            self.queue.at(arrives, Event::Table { thread, table: table.clone() });
        }
    }

    /// A request could not connect: the health thread hears of it.
    pub(crate) fn tell_health(&mut self, instance: usize, reason: Reason) {
        let lag = Duration::from_micros(self.random.below(2000) as u64);
        self.queue.after(lag, Event::News { instance, input: Input::ConnectFailed(reason) });
    }

    /// The candidates of a table.
    pub(crate) fn candidates(&self, table: &Table) -> Vec<Candidate> {
        let candidate = |(index, weight): (usize, &u32)| {
            Candidate::new(index, *weight, hash(format!("shop-{index}").as_bytes()))
        };
        self.setting.weights.iter().enumerate().map(candidate).filter(|one| table.up[one.index]).collect()
    }
}
