//! Connections that change hands when everup is replaced by a newer one: the old worker's gateway hands over, the new
//! worker's takes over, both through a line that the keeper has given them. What they say is known in
//! `everup_core::handover`, what moves, and how no byte is lost, in docs/design/0010-moving-connections.md.
//!
//! A listening socket is never closed here: the new worker has it as well, and connections may wait in it. The old
//! worker only stops taking them out.

pub(crate) mod arriving;
pub(crate) mod leaving;
mod line;
pub(crate) mod parting;
pub(crate) mod taking;
mod tally;

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, Weak};

use tokio::sync::watch as channel;

pub use self::tally::Kinds;
pub(crate) use self::tally::Tally;

use self::line::Line;
use crate::{Gateway, GatewayError, Shared};

/// The lines of a gateway: ended when it is stopped.
pub(crate) type Lines = Vec<Weak<Line>>;

/// How far a hand-over has come, as one side sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The other side has not said yet which protocols it speaks, or some thread still accepts connections.
    Greeting,
    /// Connections move.
    Moving,
    /// Old side: nothing is left that could move. New side: the old one has ended the line, in order or not.
    Settled,
    /// The two cannot talk, for this reason. Nothing has changed.
    Refused(String),
    /// The line ended too early, for this reason. What was not taken stays where it was, as if nothing had been; but the old
    /// side lets nobody in until [`Gateway::take_back`].
    Broken(String),
}

/// The old side's view of a hand-over. It holds nothing open.
#[derive(Clone, Debug)]
pub struct HandOver {
    stage: channel::Receiver<Stage>,
    moved: Arc<Tally>,
    shared: Arc<Shared>,
}

/// How far the old side is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// How far it has come.
    pub stage: Stage,
    /// Connections that the new side has taken.
    pub moved: Kinds,
    /// Connections that are here and cannot move: they end here. Those of http listeners count as idle.
    pub staying: Kinds,
    /// Client connections that are open here now, those that stay among them.
    pub left: usize,
}

/// The new side's view of a hand-over. It holds nothing open.
#[derive(Clone, Debug)]
pub struct TakeOver {
    stage: channel::Receiver<Stage>,
    taken: Arc<Tally>,
    refused: Arc<AtomicU64>,
}

/// How far the new side is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taking {
    /// How far it has come.
    pub stage: Stage,
    /// Connections that were taken.
    pub taken: Kinds,
    /// Connections that were not, and stay with the old side.
    pub refused: u64,
}

impl HandOver {
    /// How far it is now.
    pub fn progress(&self) -> Leaving {
        Leaving {
            stage: self.stage.borrow().clone(),
            moved: self.moved.kinds(),
            staying: self.shared.staying.kinds(),
            left: self.shared.connections.load(Ordering::Relaxed),
        }
    }

    /// Waits until the two have understood each other and no thread here accepts anything any more, or until that is not to be.
    pub async fn greeted(&self) -> Leaving {
        let _ = self.stage.clone().wait_for(|stage| *stage != Stage::Greeting).await;
        self.progress()
    }

    /// Waits until nothing moves any more: all is gone that can go, or the line has ended.
    pub async fn settled(&self) -> Leaving {
        let moves = |stage: &Stage| matches!(stage, Stage::Greeting | Stage::Moving);
        let _ = self.stage.clone().wait_for(|stage| !moves(stage)).await;
        self.progress()
    }
}

impl TakeOver {
    /// How far it is now.
    pub fn progress(&self) -> Taking {
        Taking {
            stage: self.stage.borrow().clone(),
            taken: self.taken.kinds(),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    /// Waits until the other side has said what it understands.
    pub async fn greeted(&self) -> Taking {
        let _ = self.stage.clone().wait_for(|stage| *stage != Stage::Greeting).await;
        self.progress()
    }

    /// Waits until nothing can come any more.
    pub async fn over(&self) -> Taking {
        let comes = |stage: &Stage| matches!(stage, Stage::Greeting | Stage::Moving);
        let _ = self.stage.clone().wait_for(|stage| !comes(stage)).await;
        self.progress()
    }
}

impl Gateway {
    /// The old side: greets who is at the other end of `line` (a SOCK_SEQPACKET unix socket) and then, if they understand
    /// each other, has the data-plane threads accept nothing more and give away every connection that can move, each as soon
    /// as it can. Returns at once.
    ///
    /// # Errors
    /// `line` is no such socket, or the kernel has no threads left. Nothing has changed then.
    pub fn hand_over(&self, line: OwnedFd) -> Result<HandOver, GatewayError> {
        let line = self.line(line)?;
        let (stage, stage_seen) = channel::channel(Stage::Greeting);
        let moved = Arc::<Tally>::default();
        parting::begin(&line, (self.orders.clone(), self.threads.len()), stage, Arc::clone(&moved))?;
        Ok(HandOver { stage: stage_seen, moved, shared: Arc::clone(&self.shared) })
    }

    /// The new side: greets who is at the other end of `line` and goes on with the connections that come. Returns at once.
    ///
    /// # Errors
    /// `line` is no SOCK_SEQPACKET unix socket, or the kernel has no threads left.
    pub fn take_over(&self, line: OwnedFd) -> Result<TakeOver, GatewayError> {
        let line = self.line(line)?;
        let (stage, stage_seen) = channel::channel(Stage::Greeting);
        let (taken, refused) = (Arc::<Tally>::default(), Arc::<AtomicU64>::default());
        let taker = taking::Taker {
            orders: self.orders.subscribe(),
            shared: Arc::clone(&self.shared),
            addresses: Arc::clone(&self.addresses),
            threads: self.arrivals.clone(),
            taken: Arc::clone(&taken),
            refused: Arc::clone(&refused),
        };
        taking::begin(&line, taker, stage)?;
        Ok(TakeOver { stage: stage_seen, taken, refused })
    }

    /// Ends a hand-over: new connections are accepted again, and those that did not move stay as if nothing had been. What is
    /// offered at this moment may still be taken.
    pub fn take_back(&self) {
        self.orders.send_modify(|orders| orders.parting = None);
    }

    fn line(&self, end: OwnedFd) -> Result<Arc<Line>, GatewayError> {
        let line = Arc::new(Line::new(end)?);
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.retain(|line| line.strong_count() > 0);
        lines.push(Arc::downgrade(&line));
        Ok(line)
    }

    /// The threads have ended: nobody can offer or take anything any more.
    pub(crate) fn end_lines(&self) {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().filter_map(Weak::upgrade).for_each(|line| line.end());
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
}
