//! The life of a request in the simulated gateway: pick, connect, send, wait, and what `everup_core::exchange` says
//! when something fails. One data-plane thread owns a request from beginning to end.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use everup_core::balance::Picker;
use everup_core::exchange::{Budget, Decision, Exchange, Failure, Progress};
use everup_core::health::Reason;
use everup_core::ids::Generation;
use everup_core::time::Time;

use crate::health::ONE_WAY;
use crate::instance::{Answer, Behaviour};
use crate::rules::{self, Broken};
use crate::world::{Event, Table, World};

/// How often a request that waits for the retry budget asks again.
const ASKS_AGAIN: Duration = Duration::from_millis(100);

/// A data-plane thread.
#[derive(Debug)]
pub(crate) struct Thread {
    pub(crate) picker: Picker,
    pub(crate) budget: Budget,
    pub(crate) table: Rc<Table>,
    /// When the newest table on its way arrives.
    pub(crate) table_due: Time,
    /// Requests that wait for another table.
    parked: BTreeSet<u64>,
}

impl Thread {
    pub(crate) fn new(picker: Picker, budget: Budget, instances: usize) -> Self {
        let table = Rc::new(Table { generation: Generation::default(), up: vec![false; instances] });
        Self { picker, budget, table, table_due: Time::ZERO, parked: BTreeSet::new() }
    }
}

/// A request that has not ended.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) thread: usize,
    pub(crate) idempotent: bool,
    client: u64,
    pub(crate) arrived: Time,
    exchange: Exchange,
    /// Number of the attempt, or of the wait between two.
    pub(crate) attempt: u32,
    pub(crate) state: State,
    /// Instances not to be picked in this table.
    pub(crate) never: Vec<usize>,
    /// Instances to be picked only if there is no other.
    pub(crate) tried: Vec<usize>,
    /// Attempts in which a byte of it was written.
    pub(crate) sends: u32,
    /// Those of them that count against `retry.attempts`.
    pub(crate) costly: u32,
    pub(crate) was_parked: bool,
    pub(crate) waited_for_budget: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Nowhere: about to be picked for.
    Waiting,
    Connecting {
        instance: usize,
    },
    Sent {
        instance: usize,
    },
    Answering {
        instance: usize,
    },
    /// Until the table changes or the budget recovers.
    Parked,
}

impl State {
    pub(crate) fn instance(self) -> Option<usize> {
        match self {
            Self::Connecting { instance } | Self::Sent { instance } | Self::Answering { instance } => {
                Some(instance)
            }
            Self::Waiting | Self::Parked => None,
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Answered,
    Failed(u16),
    Cut,
}

impl World {
    pub(crate) fn on_new_request(&mut self) -> Result<(), Broken> {
        if self.is_over() {
            return Ok(());
        }
        let wait = self.around(self.setting.request_every);
        self.queue.after(wait, Event::NewRequest);
        self.summary.requests += 1;
        let id = self.summary.requests;
        let idempotent = self.random.below(10) < 7;
        let request = Request {
            thread: self.random.below(self.threads.len()),
            idempotent,
            client: self.random.below(100) as u64,
            arrived: self.queue.now(),
            exchange: Exchange::new(idempotent, self.setting.attempts),
            attempt: 0,
            state: State::Waiting,
            never: Vec::new(),
            tried: Vec::new(),
            sends: 0,
            costly: 0,
            was_parked: false,
            waited_for_budget: false,
        };
        self.threads[request.thread].budget.on_request(self.queue.now().since(Time::ZERO));
        self.requests.insert(id, request);
        self.queue.after(self.setting.request_timeout, Event::RequestTimeout { request: id });
        self.attempt(id)
    }

    /// Picks an instance and connects, or parks.
    fn attempt(&mut self, id: u64) -> Result<(), Broken> {
        let Some(request) = self.requests.get_mut(&id) else { return Ok(()) };
        let thread = &mut self.threads[request.thread];
        let load = |instance: usize| self.load[instance];
        let all: Vec<usize> = request.never.iter().chain(&request.tried).copied().collect();
        let picked = thread.picker.pick(request.client, &all, load);
        let picked = picked.or_else(|| thread.picker.pick(request.client, &request.never, load));
        request.attempt += 1;
        let attempt = request.attempt;
        let Some(instance) = picked else {
            thread.parked.insert(id);
            self.park(id);
            return Ok(());
        };
        request.state = State::Connecting { instance };
        self.load[instance] += 1;
        self.summary.attempts += 1;
        self.note(|| format!("request {id}: attempt {attempt} on instance {instance}"));
        self.queue.after(ONE_WAY, Event::Connect { request: id, attempt });
        rules::check_pick(self, id, instance)
    }

    fn park(&mut self, id: u64) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        request.state = State::Parked;
        request.was_parked = true;
        let attempt = request.attempt;
        self.note(|| format!("request {id}: parked"));
        self.queue.after(self.setting.park_time, Event::ParkOver { request: id, attempt });
    }

    /// The request, if this attempt is still its current one.
    fn current(&mut self, id: u64, attempt: u32) -> Option<&mut Request> {
        self.requests.get_mut(&id).filter(|request| request.attempt == attempt)
    }

    pub(crate) fn on_connect(&mut self, id: u64, attempt: u32) -> Result<(), Broken> {
        let pooled = self.random.below(2) == 0;
        let Some(request) = self.current(id, attempt) else { return Ok(()) };
        let State::Connecting { instance } = request.state else { return Ok(()) };
        let truth = &self.instances[instance];
        let (behaviour, life) = (truth.behaviour, truth.life);
        match behaviour {
            // A connection from the pool turns out to be closed; nothing says that a new one would be refused.
            Behaviour::Dead if pooled => return self.fail(id, Failure::Lost),
            Behaviour::Dead => {
                self.tell_health(instance, Reason::ConnectRefused);
                return self.fail(id, Failure::ConnectRefused);
            }
            Behaviour::Unreachable => {
                let timeout = self.setting.connect_timeout;
                self.queue.after(timeout, Event::ConnectTimeout { request: id, attempt });
                return Ok(());
            }
            Behaviour::Serves | Behaviour::Slow | Behaviour::Sick | Behaviour::Frozen => {}
        }
        let request = self.requests.get_mut(&id).expect("it was there");
        request.state = State::Sent { instance };
        request.sends += 1;
        if let Some(timeout) = self.setting.attempt_timeout {
            self.queue.after(timeout, Event::AttemptTimeout { request: id, attempt });
        }
        let takes = behaviour.takes(&mut self.random);
        self.queue
            .after(takes, Event::Answer { instance, life, answer: Answer::Head { request: id, attempt } });
        rules::check_send(&self.requests[&id])
    }

    pub(crate) fn on_connect_timeout(&mut self, id: u64, attempt: u32) -> Result<(), Broken> {
        let Some(State::Connecting { instance }) = self.current(id, attempt).map(|request| request.state)
        else {
            return Ok(());
        };
        self.tell_health(instance, Reason::ConnectFailed("timed out".to_owned()));
        self.fail(id, Failure::ConnectTimeout)
    }

    pub(crate) fn on_head(&mut self, id: u64, attempt: u32, instance: usize) {
        let Some(request) = self.current(id, attempt) else { return };
        request.state = State::Answering { instance };
        let life = self.instances[instance].life;
        // Most answers are whole with their head, some are long.
        let rest = if self.random.below(5) == 0 { self.random.below(500_000) } else { 0 };
        let answer = Answer::End { request: id, attempt };
        self.queue.after(Duration::from_micros(rest as u64), Event::Answer { instance, life, answer });
    }

    pub(crate) fn on_end(&mut self, id: u64, attempt: u32) {
        if self.current(id, attempt).is_some() {
            self.end(id, End::Answered);
        }
    }

    pub(crate) fn on_lost(&mut self, id: u64, attempt: u32) -> Result<(), Broken> {
        match self.current(id, attempt).map(|request| request.state) {
            Some(State::Sent { .. } | State::Answering { .. }) => self.fail(id, Failure::Lost),
            Some(State::Waiting | State::Connecting { .. } | State::Parked) | None => Ok(()),
        }
    }

    pub(crate) fn on_attempt_timeout(&mut self, id: u64, attempt: u32) -> Result<(), Broken> {
        match self.current(id, attempt).map(|request| request.state) {
            Some(State::Sent { .. }) => self.fail(id, Failure::AttemptTimeout),
            // Answers may take their time once they have begun.
            Some(State::Answering { .. } | State::Waiting | State::Connecting { .. } | State::Parked)
            | None => Ok(()),
        }
    }

    pub(crate) fn on_request_timeout(&mut self, id: u64) -> Result<(), Broken> {
        if self.requests.contains_key(&id) { self.fail(id, Failure::RequestTimeout) } else { Ok(()) }
    }

    pub(crate) fn on_park_over(&mut self, id: u64, attempt: u32) -> Result<(), Broken> {
        match self.current(id, attempt).map(|request| request.state) {
            Some(State::Parked) => self.decide(id, Exchange::on_park_over(), None),
            _ => Ok(()),
        }
    }

    pub(crate) fn on_budget_again(&mut self, id: u64, attempt: u32) -> Result<(), Broken> {
        let now = self.queue.now().since(Time::ZERO);
        let Some(thread) = self.current(id, attempt).map(|request| request.thread) else { return Ok(()) };
        if self.threads[thread].budget.try_retry(now) {
            return self.attempt(id);
        }
        self.queue.after(ASKS_AGAIN, Event::BudgetAgain { request: id, attempt });
        Ok(())
    }

    /// A thread has a new table: what it forbade is forgotten, whoever waited for it goes on, and whoever waits for an
    /// instance that is now down is rescued.
    pub(crate) fn on_table(&mut self, thread: usize, table: Rc<Table>) -> Result<(), Broken> {
        let candidates = self.candidates(&table);
        self.threads[thread].picker.update(&candidates);
        self.threads[thread].table = table.clone();
        let parked = std::mem::take(&mut self.threads[thread].parked);
        let mut judged = Vec::new();
        for (id, request) in self.requests.iter_mut().filter(|(_, request)| request.thread == thread) {
            request.never.clear();
            match request.state {
                State::Connecting { instance } | State::Sent { instance } if !table.up[instance] => {
                    judged.push(*id)
                }
                _ => {}
            }
        }
        judged.into_iter().try_for_each(|id| self.fail(id, Failure::JudgedDown))?;
        parked.into_iter().try_for_each(|id| self.attempt(id))
    }

    fn fail(&mut self, id: u64, failure: Failure) -> Result<(), Broken> {
        let now = self.queue.now().since(Time::ZERO);
        let request = self.requests.get_mut(&id).expect("only requests that have not ended fail");
        let written = matches!(request.state, State::Sent { .. } | State::Answering { .. });
        let answered = matches!(request.state, State::Answering { .. });
        let instance = request.state.instance();
        let costly =
            matches!(failure, Failure::Lost | Failure::AttemptTimeout | Failure::BadAnswer) && written;
        request.costly += u32::from(costly);
        let progress = Progress { written, replayable: true, answered };
        let budget = &mut self.threads[request.thread].budget;
        let decision = request.exchange.on_failure(now, failure, progress, budget);
        self.leave(id);
        self.note(|| format!("request {id}: {failure:?} {progress:?} -> {decision:?}"));
        self.decide(id, decision, instance)
    }

    fn decide(&mut self, id: u64, decision: Decision, failed: Option<usize>) -> Result<(), Broken> {
        let request = self.requests.get_mut(&id).expect("it has not ended");
        match decision {
            Decision::Retry { reuse } => {
                let list = if reuse { &mut request.tried } else { &mut request.never };
                list.extend(failed);
                self.attempt(id)
            }
            Decision::Park => {
                request.tried.extend(failed);
                request.waited_for_budget = true;
                request.attempt += 1;
                let attempt = request.attempt;
                self.park(id);
                self.queue.after(ASKS_AGAIN, Event::BudgetAgain { request: id, attempt });
                Ok(())
            }
            Decision::Answer(status) => {
                rules::check_loss(self, id, status)?;
                self.end(id, End::Failed(status));
                Ok(())
            }
            Decision::Cut => {
                self.end(id, End::Cut);
                Ok(())
            }
        }
    }

    /// The request is on no instance any more.
    fn leave(&mut self, id: u64) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        if let Some(instance) = request.state.instance() {
            self.load[instance] -= 1;
        }
        request.state = State::Waiting;
    }

    fn end(&mut self, id: u64, end: End) {
        self.leave(id);
        self.note(|| format!("request {id}: {end:?}"));
        let request = self.requests.remove(&id).expect("a request ends once");
        self.threads[request.thread].parked.remove(&id);
        self.summary.parked += u64::from(request.was_parked);
        self.summary.waited_for_budget += u64::from(request.waited_for_budget);
        match end {
            End::Answered => self.summary.answered += 1,
            End::Failed(_) => self.summary.failed += 1,
            End::Cut => self.summary.cut += 1,
        }
    }

    /// Requests with bytes on this instance.
    pub(crate) fn attempts_on(&self, instance: usize) -> Vec<(u64, u32)> {
        let here = |request: &Request| match request.state {
            State::Sent { instance: at } | State::Answering { instance: at } => at == instance,
            State::Waiting | State::Connecting { .. } | State::Parked => false,
        };
        self.requests.iter().filter(|(_, one)| here(one)).map(|(id, one)| (*id, one.attempt)).collect()
    }
}
