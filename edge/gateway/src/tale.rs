//! The tale of a request that went uncommon ways, as it is remembered and told to whoever asks; and the memory: bounded
//! in number and age, one part for each data-plane thread, so that no thread waits for another.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Duration, SystemTime};

use everup_core::exchange::Failure;
use everup_core::ids::Generation;

/// How many requests are remembered, over all threads: about 1 KiB each. The oldest go first.
pub const REMEMBERED: usize = 8192;

/// For how long.
pub const REMEMBERED_TIME: Duration = Duration::from_secs(600);

/// How many tales one id can have: an id that clients use again and again is still answered with little.
const TALES: usize = 10;

/// Tales that wait on their thread while somebody reads its part of the memory; more are forgotten.
const WAITING: usize = 256;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// By the first instance that was asked.
    Answered,
    /// By an instance, after at least one attempt that failed.
    Retried,
    /// By an instance, after it had waited for one.
    Parked,
    /// By everup itself.
    Refused,
    /// Its answer ended in the middle.
    Cut,
    /// Its client went away before the answer was whole.
    ClientGone,
}

impl Verdict {
    /// The word for logs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Retried => "retried",
            Self::Parked => "parked",
            Self::Refused => "refused",
            Self::Cut => "cut",
            Self::ClientGone => "client-gone",
        }
    }
}

/// Where a request's time went. Together they are all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// Waiting because no instance could take it.
    pub parked: Duration,
    /// Waiting because every instance was at its limit.
    pub queued: Duration,
    /// In attempts that failed.
    pub tried: Duration,
    /// Connecting to the instance of the last attempt; zero if a connection was there.
    pub connect: Duration,
    /// From then to the head of the answer, the rest of the request's body included.
    pub first_byte: Duration,
    /// From then to the end of the answer.
    pub last_byte: Duration,
}

impl Phases {
    /// From its head to the end of its answer.
    pub fn total(&self) -> Duration {
        let Self { parked, queued, tried, connect, first_byte, last_byte } = *self;
        parked + queued + tried + connect + first_byte + last_byte
    }
}

/// All that is known of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tale {
    /// Its X-Request-Id, at most 128 characters.
    pub id: String,
    /// When its head was whole.
    pub started: SystemTime,
    /// The client's address.
    pub client: String,
    /// As sent.
    pub method: String,
    /// Empty: none was named.
    pub host: String,
    /// Without its query, and not longer than some 1,500 bytes.
    pub path: String,
    /// Index into `Config::listeners`.
    pub listener: usize,
    /// Index into the listener's routes; None: it went to the listener's own service.
    pub route: Option<usize>,
    /// The service's name.
    pub service: String,
    /// The instance of the last attempt; None: there was no attempt.
    pub instance: Option<String>,
    /// The table of the last attempt.
    pub generation: Generation,
    /// How many attempts there were.
    pub attempts: u32,
    /// What the client got; 0: nothing.
    pub status: u16,
    /// What became of it.
    pub verdict: Verdict,
    /// Read from the client: head and body.
    pub bytes_in: u64,
    /// Handed to the client's connection: head and body.
    pub bytes_out: u64,
    /// Where the time went.
    pub phases: Phases,
    /// What happened, in order.
    pub events: Vec<Event>,
    /// How many events in the middle are missing, for there were too many.
    pub left_out: usize,
}

/// One thing that happened to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// After the request's start.
    pub at: Duration,
    /// Number of the attempt, from 1; 0: it is none.
    pub attempt: u32,
    /// For how long.
    pub lasted: Duration,
    /// The table that was in use.
    pub generation: Generation,
    /// What it was.
    pub what: What,
}

/// What happened to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It waited because no instance could take it.
    Parked,
    /// It waited because every instance was at its limit, in vain.
    Queued,
    /// An attempt failed.
    Failed {
        /// With this instance.
        instance: Arc<str>,
        /// How.
        failure: Failure,
        /// Something of the request may have reached the instance.
        written: bool,
        /// Something of an answer had gone to the client.
        answered: bool,
    },
    /// An instance answered.
    Answered {
        /// This one.
        instance: Arc<str>,
        /// With this status.
        status: u16,
    },
}

/// What all threads remember.
#[derive(Debug)]
pub(crate) struct Memory(Box<[Mutex<VecDeque<Tale>>]>);

impl Memory {
    pub(crate) fn new(threads: usize) -> Self {
        Self((0..threads.max(1)).map(|_| Mutex::default()).collect())
    }

    /// What is remembered of requests with this id at `now`, the oldest first, at most [`TALES`].
    pub(crate) fn recall(&self, id: &str, now: SystemTime) -> Vec<Tale> {
        let mut found = Vec::new();
        for part in &self.0 {
            let part = part.lock().unwrap_or_else(PoisonError::into_inner);
            let wanted = part.iter().rev().filter(|tale| tale.id == id && !is_old(tale, now));
            found.extend(wanted.take(TALES).cloned());
        }
        found.sort_by_key(|tale| tale.started);
        found.split_off(found.len().saturating_sub(TALES))
    }
}

fn is_old(tale: &Tale, now: SystemTime) -> bool {
    let age = now.duration_since(tale.started).unwrap_or_default();
    age.saturating_sub(tale.phases.total()) > REMEMBERED_TIME
}

/// A data-plane thread's way to its part of the memory. Never waits.
#[derive(Debug)]
pub(crate) struct Remember {
    memory: Arc<Memory>,
    thread: usize,
    most: usize,
    waiting: RefCell<VecDeque<Tale>>,
}

impl Remember {
    pub(crate) fn new(memory: Arc<Memory>, thread: usize) -> Self {
        let most = (REMEMBERED / memory.0.len()).max(1);
        Self { memory, thread, most, waiting: RefCell::default() }
    }

    pub(crate) fn remember(&self, tale: Tale) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() == WAITING {
            waiting.pop_front();
        }
        waiting.push_back(tale);
        drop(waiting);
        self.settle(None);
    }

    /// Puts down what had to wait; with a `now`, lets go of what is too old.
    pub(crate) fn settle(&self, now: Option<SystemTime>) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() && now.is_none() {
            return;
        }
        let mut part = match self.memory.0[self.thread].try_lock() {
            Ok(part) => part,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if let Some(now) = now {
            while part.front().is_some_and(|tale| is_old(tale, now)) {
                part.pop_front();
            }
        }
        for tale in waiting.drain(..) {
            if part.len() >= self.most {
                part.pop_front();
            }
            part.push_back(tale);
        }
    }
}

#[cfg(test)]
mod tests;
