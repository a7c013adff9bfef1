//! The old worker's half, outside of the data-plane threads: sends what they offer, one connection after another, and
//! brings them the answers.
//!
//! Who has a connection is never in doubt. While it is offered nobody here touches it. Taken: it is the new worker's. Refused,
//! or the other side ends the line without an answer: it goes on here. If this side ends the line (it stops, or the other one
//! talks nonsense), what is offered is left to the other side, and ends with this one's copy if that never read of it.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use everup_core::handover::{Answer, Connection, Kind, Message, Told};
use tokio::sync::{oneshot, watch as channel};

use super::line::{Came, Ear, Ended, Line};
use super::tally::Tally;
use super::{Stage, spawn};
use crate::Orders;

/// A connection that a data-plane thread would like to be rid of.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) kind: Kind,
    pub(crate) connection: Box<Connection>,
    /// What it holds.
    pub(crate) held: Vec<u8>,
    pub(crate) sockets: Vec<OwnedFd>,
    /// Dropped without a word: nobody can tell, and it must not be touched any more.
    pub(crate) answer: oneshot::Sender<Verdict>,
}

/// Whose a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Theirs,
    Ours,
}

/// What data-plane threads need in order to part with connections. When the last one is gone, the line ends.
#[derive(Debug)]
pub(crate) struct Parting {
    pub(crate) offers: mpsc::Sender<Offer>,
    stage: Arc<channel::Sender<Stage>>,
    /// Threads that have not stopped accepting yet.
    accepting: AtomicUsize,
    pending: Arc<Pending>,
}

impl Parting {
    /// One more thread accepts nothing any more.
    pub(crate) fn on_thread(&self) {
        if self.accepting.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.change(&Stage::Greeting, Stage::Moving);
        }
    }

    /// Nobody is there any more who could take anything.
    pub(crate) fn is_over(&self) -> bool {
        self.pending.over.load(Ordering::Relaxed)
    }

    /// Nothing is left that may move.
    pub(crate) fn settle(&self) {
        self.change(&Stage::Moving, Stage::Settled);
    }

    fn change(&self, from: &Stage, to: Stage) {
        self.stage.send_if_modified(|stage| {
            let changes = stage == from;
            if changes {
                *stage = to;
            }
            changes
        });
    }
}

/// What was sent and not answered.
#[derive(Debug, Default)]
struct Pending {
    offers: Mutex<HashMap<u64, (Kind, oneshot::Sender<Verdict>)>>,
    /// The line has ended.
    over: AtomicBool,
    /// We have.
    ended_here: AtomicBool,
}

impl Pending {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, (Kind, oneshot::Sender<Verdict>)>> {
        self.offers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False: it is too late.
    fn enter(&self, number: u64, offer: (Kind, oneshot::Sender<Verdict>)) -> bool {
        let mut offers = self.lock();
        if self.over.load(Ordering::Relaxed) {
            // Nobody waits for the answer: the task was dropped.
            let _ = offer.1.send(Verdict::Ours);
            return false;
        }
        offers.insert(number, offer);
        true
    }

    fn answer(&self, number: u64, verdict: Verdict) -> Option<Kind> {
        let (kind, answer) = self.lock().remove(&number)?;
        let _ = answer.send(verdict);
        Some(kind)
    }

    /// The other side may take what it was sent; nobody will know.
    fn leave_to_them(&self) {
        let mut offers = self.lock();
        self.over.store(true, Ordering::Relaxed);
        offers.clear();
    }

    /// The other side hears nothing any more: what it has not taken is ours.
    fn end(&self) {
        let mut offers = self.lock();
        self.over.store(true, Ordering::Relaxed);
        for (_, (_, answer)) in offers.drain() {
            let _ = answer.send(Verdict::Ours);
        }
    }
}

/// Begins to talk. The data-plane threads are told by `orders` once the other side has said that it understands.
pub(super) fn begin(
    line: &Arc<Line>,
    (orders, threads): (channel::Sender<Orders>, usize),
    stage: channel::Sender<Stage>,
    moved: Arc<Tally>,
) -> std::io::Result<()> {
    let (offers, offered) = mpsc::channel();
    let (pending, stage) = (Arc::<Pending>::default(), Arc::new(stage));
    let (sends, sends_pending) = (Arc::clone(line), Arc::clone(&pending));
    spawn("parting-sends", move || send_all(&sends, &offered, &sends_pending))?;
    let line = Arc::clone(line);
    spawn("parting-hears", move || {
        let mut ear = Ear::default();
        match line.greet(&mut ear) {
            Ok(protocol) => tracing::debug!("connections move by protocol {protocol}"),
            Err(ended) => {
                stage.send_replace(Stage::Refused(ended.to_string()));
                return line.end();
            }
        }
        let accepting = AtomicUsize::new(threads);
        let (stage_told, over) = (Arc::clone(&stage), Arc::clone(&pending));
        let parting = Arc::new(Parting { offers, stage: stage_told, accepting, pending: over });
        orders.send_modify(|orders| orders.parting = Some(parting));
        // The threads go by what they were told; that they end when nobody can tell them more is their business.
        drop(orders);
        let ended = hear_all(&line, &mut ear, &pending, &moved);
        match ended {
            Ended::Gone if pending.ended_here.load(Ordering::Relaxed) => return,
            Ended::Gone => {
                // From here on nothing can be sent: what is not answered was not taken.
                line.end();
                pending.end();
            }
            // It may be alive and take what it was sent. Nobody gets an answer.
            _ => {
                line.end();
                pending.leave_to_them();
            }
        }
        stage.send_replace(Stage::Broken(ended.to_string()));
    })
}

fn hear_all(line: &Line, ear: &mut Ear, pending: &Pending, moved: &Tally) -> Ended {
    loop {
        let Answer { number, refused } = match line.hear(ear) {
            Ok(Came { told: Told::Answer(answer), .. }) => answer,
            Ok(_) => return Ended::OutOfTurn,
            Err(ended) => return ended,
        };
        let verdict = if refused.is_none() { Verdict::Theirs } else { Verdict::Ours };
        match (pending.answer(number, verdict), refused) {
            (Some(kind), None) => moved.add(kind),
            (Some(kind), Some(why)) => tracing::debug!("a connection stays ({kind:?}): {why:?}"),
            (None, _) => return Ended::OutOfTurn,
        }
    }
}

/// Sends what is offered until nobody can offer anything any more.
fn send_all(line: &Line, offered: &mpsc::Receiver<Offer>, pending: &Pending) {
    for (number, offer) in (1..).zip(offered) {
        let Offer { kind, mut connection, held, sockets, answer } = offer;
        if !pending.enter(number, (kind, answer)) {
            continue;
        }
        connection.number = number;
        let descriptors: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
        if let Err(error) = line.give(&Message::Connection(connection), &held, &descriptors) {
            // No descriptor went out. Who is gone is noticed by the other thread.
            tracing::debug!("a connection stays ({kind:?}): {error}");
            pending.answer(number, Verdict::Ours);
        }
    }
    pending.ended_here.store(true, Ordering::Relaxed);
    line.end();
}
