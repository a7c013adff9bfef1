//! The books of connections that are meant to stay: when each was opened, and when and how it ended if it was not the
//! drill that ended it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How a connection ended that should have stayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// The peer closed it between two requests.
    ClosedIdle,
    /// An answer said that it was the last one.
    Told,
    /// In the middle of a request.
    Broken,
    /// A WebSocket: by a Close with this code (1005: without one).
    Closed(u16),
    /// A WebSocket: without a Close.
    Cut,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClosedIdle => "closed-idle",
            Self::Told => "told-to-close",
            Self::Broken => "broken-in-a-request",
            Self::Closed(code) => return write!(f, "close-{code}"),
            Self::Cut => "cut",
        })
    }
}

/// One connection's line in the books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// When it was ready for use, after the start of the load.
    pub opened: Duration,
    /// When and how it ended before the drill did.
    pub ended: Option<(Duration, End)>,
}

/// Many connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lives(pub Vec<Life>);

impl Lives {
    /// How many were open at `from`, and how many of these still were at `to`.
    pub fn kept(&self, from: Duration, to: Duration) -> (u64, u64) {
        let open = |life: &Life, at: Duration| life.ended.is_none_or(|(ended, _)| ended >= at);
        let before = || self.0.iter().filter(|life| life.opened < from && open(life, from));
        (before().count() as u64, before().filter(|life| open(life, to)).count() as u64)
    }

    /// How connections ended from `from` up to and without `to`.
    pub fn ends(&self, from: Duration, to: Duration) -> BTreeMap<End, u64> {
        let mut counts = BTreeMap::new();
        for (ended, how) in self.0.iter().filter_map(|life| life.ended) {
            if ended >= from && ended < to {
                *counts.entry(how).or_insert(0) += 1;
            }
        }
        counts
    }
}

/// The books while they are written.
#[derive(Debug)]
pub(crate) struct Births {
    start: Instant,
    lives: Mutex<Vec<Life>>,
}

impl Births {
    pub(crate) fn new(start: Instant) -> Self {
        Self { start, lives: Mutex::default() }
    }

    /// A connection is ready; its number.
    pub(crate) fn opened(&self) -> usize {
        let mut lives = self.lives();
        lives.push(Life { opened: self.start.elapsed(), ended: None });
        lives.len() - 1
    }

    pub(crate) fn ended(&self, number: usize, how: End) {
        self.lives()[number].ended = Some((self.start.elapsed(), how));
    }

    /// The books so far.
    pub(crate) fn so_far(&self) -> Lives {
        Lives(self.lives().clone())
    }

    fn lives(&self) -> MutexGuard<'_, Vec<Life>> {
        self.lives.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_is_what_was_there_before_and_still_is() {
        let second = Duration::from_secs;
        let life = |opened, ended: Option<u64>| Life {
            opened: second(opened),
            ended: ended.map(|at| (second(at), End::Told)),
        };
        let lives = Lives(vec![life(0, None), life(0, Some(1)), life(0, Some(3)), life(3, None)]);
        assert_eq!(lives.kept(second(2), second(5)), (2, 1));
        assert_eq!(lives.kept(second(2), second(3)), (2, 2));
        assert_eq!(lives.ends(second(2), second(5)), BTreeMap::from([(End::Told, 1)]));
        assert_eq!(lives.kept(second(4), second(5)), (2, 2));
    }
}
