//! One request from its head to its answer, over as many attempts as custody allows: pick, try, and ask
//! `everup_core::exchange` what to do about a failure.

use std::time::Duration;

use everup_core::balance::latency;
use everup_core::config::Balance;
use everup_core::exchange::{Decision, Exchange, Failure, Progress};

use crate::attempt::{self, Ended};
use crate::client::{After, Client, Incoming};
use crate::judge;
use crate::local::Local;
use crate::park::{self, WaitOver};
use crate::queue::{self, Turn};
use crate::service::{InFlight, Instance, Picked, Tried, wanted};
use crate::sticky;
use crate::tale::Verdict;
use crate::tell;

/// A request in custody.
struct Custody<'a> {
    local: &'a Local,
    client: &'a mut Client,
    incoming: &'a mut Incoming,
    exchange: Exchange,
    tried: Vec<Tried>,
    parked_since: Option<Duration>,
    queued_since: Option<Duration>,
    /// When `timeout.request` is over.
    until: Duration,
}

/// Finds an instance for the request, carries it there and the answer back.
pub(crate) async fn run(local: &Local, client: &mut Client, incoming: &mut Incoming) -> After {
    let settings = &incoming.service.settings;
    let exchange = Exchange::new(incoming.idempotent, settings.retry.attempts);
    let until = incoming.started + settings.timeout.request;
    incoming.service.on_request(incoming.started);
    incoming.service.shared.requests.cell(local.thread).add(1);
    incoming.service.shared.in_custody.cell(local.thread).add(1);
    let mut custody = Custody::new(local, client, incoming, exchange, until);
    let after = custody.run().await;
    let Custody { client, incoming, .. } = custody;
    let ended = if client.watch.has_waited() { local.now() } else { local.coarse_now() };
    tell::over(local, client, incoming, ended);
    incoming.service.shared.in_custody.cell(local.thread).add(-1);
    local.buffers.give(std::mem::take(&mut incoming.out));
    after
}

impl<'a> Custody<'a> {
    fn new(
        local: &'a Local,
        client: &'a mut Client,
        incoming: &'a mut Incoming,
        exchange: Exchange,
        until: Duration,
    ) -> Self {
        let (parked_since, queued_since) = (None, None);
        Self { local, client, incoming, exchange, tried: Vec::new(), parked_since, queued_since, until }
    }

    async fn run(&mut self) -> After {
        loop {
            let in_flight = match self.pick().await {
                Ok(in_flight) => in_flight,
                Err(over) => return self.give_up(over).await,
            };
            let instance = in_flight.instance();
            let began = self.local.coarse_now();
            self.incoming.trail.on_attempt(began, instance, self.local.generation());
            let ended = attempt::run(self.local, self.client, self.incoming, instance, self.until).await;
            let idle_end = matches!(ended, Ended::Failed { failure: Failure::Stale, .. });
            let decision = match ended {
                Ended::Answered { keep } => {
                    return self.end(Verdict::Answered, if keep { After::Keep } else { After::Close });
                }
                Ended::Moved => return self.end(Verdict::Answered, After::Gone),
                Ended::ClientGone => return self.end(Verdict::ClientGone, After::Gone),
                Ended::Refused { answered: true, .. } => return self.end(Verdict::Cut, After::Gone),
                Ended::Refused { status, answered: false } => {
                    drop(in_flight);
                    return self.answer(status).await;
                }
                Ended::Failed { failure, written, answered } => {
                    instance.table.shared.failures.cell(self.local.thread).add(1);
                    self.note_failure(instance, began);
                    if !answered {
                        let first = self.tried.is_empty();
                        judge::on_failure(self.local, self.incoming, instance, failure, first);
                    }
                    let progress = Progress { written, replayable: !self.incoming.consumed, answered };
                    let now = self.local.now();
                    self.incoming.trail.on_failure(self.incoming.started, now, failure, written);
                    let budget = &mut self.incoming.service.budget().borrow_mut();
                    self.exchange.on_failure(now, failure, progress, budget)
                }
            };
            match decision {
                // An idle connection that ended says nothing of its instance: a user who is kept there stays. It happens
                // once per request, for the next attempt takes a new connection.
                Decision::Retry { .. } if idle_end && self.incoming.service.settings.sticky.is_some() => {
                    self.incoming.service = self.local.current(&self.incoming.service);
                }
                Decision::Retry { reuse } => self.note_tried(instance, reuse),
                Decision::Park => {
                    self.note_tried(instance, true);
                    drop(in_flight);
                    if let Err(over) = self.park().await {
                        return self.give_up(over).await;
                    }
                }
                Decision::Answer(status) => {
                    // A client that reads slowly what we say must not keep the instance's place.
                    drop(in_flight);
                    return self.answer(status).await;
                }
                Decision::Cut => {
                    self.local.count_error(&self.incoming.service.shared);
                    return self.end(Verdict::Cut, After::Gone);
                }
            }
            self.incoming.service.shared.retries.cell(self.local.thread).add(1);
        }
    }

    /// The instance to try next, by the newest table; waits for one if need be.
    async fn pick(&mut self) -> Result<InFlight, WaitOver> {
        let mut turn: Option<Turn> = None;
        loop {
            let Self { local, client, incoming, tried, .. } = self;
            let called = turn.is_some();
            match sticky::pick(local, &incoming.service, incoming.wish, client.hash, tried, called) {
                Picked::Instance(in_flight) => {
                    if let Some(turn) = turn {
                        turn.succeed(local.now());
                    }
                    return Ok(in_flight);
                }
                Picked::Queue(wants) => self.queue(&mut turn, wants).await?,
                Picked::Park => {
                    turn = None;
                    self.park().await?;
                }
            }
        }
    }

    /// Waits for an instance that has room.
    async fn queue(&mut self, turn: &mut Option<Turn>, wants: Option<usize>) -> Result<(), WaitOver> {
        let began = self.local.now();
        let since = *self.queued_since.get_or_insert(began);
        let seen = self.local.generation();
        let (service, held) = (&self.incoming.service, self.incoming.out.capacity());
        let wanted = wanted(wants, &self.tried);
        let waited = queue::wait(self.local, self.client, service, turn, wanted, held, since).await;
        let in_vain = waited == Err(WaitOver::InVain);
        self.incoming.trail.on_queued(self.incoming.started, began, self.local.now(), seen, in_vain);
        self.incoming.service = self.local.current(&self.incoming.service);
        // Waiting for an instance is not the instance's time.
        self.until = self.local.now() + self.incoming.service.settings.timeout.request;
        waited
    }

    /// For those who balance by latency.
    fn note_failure(&self, instance: &Instance, began: Duration) {
        if self.incoming.service.settings.balance == Balance::P2cEwma {
            let now = self.local.now();
            instance.table.shared.observe(now, now.saturating_sub(began).max(latency::FAILED));
        }
    }

    /// Waits for a newer table. Instances that failed by the older one may be tried again then.
    async fn park(&mut self) -> Result<(), WaitOver> {
        let began = self.local.now();
        let since = *self.parked_since.get_or_insert(began);
        let seen = self.local.generation();
        let held = self.incoming.out.capacity();
        let parked = park::park(self.local, self.client, &self.incoming.service, held, seen, since).await;
        self.incoming.service = self.local.current(&self.incoming.service);
        self.incoming.trail.on_parked(self.incoming.started, began, self.local.now(), seen);
        parked?;
        self.tried.clear();
        // Waiting for an instance is not the instance's time.
        self.until = self.local.now() + self.incoming.service.settings.timeout.request;
        Ok(())
    }

    /// No instance was found in time, or nobody waits for one any more.
    async fn give_up(&mut self, over: WaitOver) -> After {
        let status = match (over, Exchange::on_park_over()) {
            (WaitOver::ClientGone, _) => return self.end(Verdict::ClientGone, After::Gone),
            (WaitOver::InVain, Decision::Answer(status)) => status,
            (WaitOver::InVain, Decision::Retry { .. } | Decision::Park | Decision::Cut) => 503,
        };
        self.answer(status).await
    }

    fn note_tried(&mut self, instance: &Instance, reuse: bool) {
        self.tried.push(Tried { key: instance.key(), reuse });
        self.incoming.service = self.local.current(&self.incoming.service);
    }

    fn end(&mut self, verdict: Verdict, after: After) -> After {
        self.incoming.trail.end(verdict);
        after
    }

    /// An answer of ours. The connection lives on if the request was read to its end.
    async fn answer(&mut self, status: u16) -> After {
        let why = match status {
            408 => "the request's body came too slowly",
            413 => "the request's body is too large",
            502 => "the instance broke off or gave no valid answer",
            503 => "no instance can take the request now",
            504 => "no instance answered in time",
            _ => "the request's body is malformed",
        };
        if status >= 500 {
            self.local.count_error(&self.incoming.service.shared);
        }
        self.incoming.trail.end_refused(status);
        let body_read = self.incoming.body.is_done();
        let keep = self.incoming.keep_alive && body_read && !self.client.is_to_be_last(self.local);
        let request_id = self.incoming.request_id().to_owned();
        let head = self.incoming.asked.head;
        let (after, sent) = self.client.reply(self.local, status, why, &request_id, head, keep).await;
        self.incoming.trail.bytes_out += sent;
        after
    }
}
