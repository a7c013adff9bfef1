//! Who waits while every instance is at its `max_connections`, and who is next: first come, first served, over all
//! data-plane threads of a service. Keeps order and bounds; the waking, the time and the lock around it are the gateway's.
//!
//! ```text
//!          join            call (a place is free)          leave (took it, or gave up)
//!   ─────► Waiting ─────────────────────────► Called ─────────────────────────► gone
//!             ▲                                  │ wait_on (it was gone again)
//!             └──────────────────────────────────┘  keeps its turn
//! ```
//!
//! One place, one call: nobody is woken in vain. A newcomer may not go before whoever waits for the same
//! ([`Queue::goes_before`]). A user who is kept with one instance waits for a place on that one, and lets others pass to
//! places elsewhere; so does a request that was refused by an instance with regard to that one.

use std::collections::VecDeque;
use std::time::Duration;

use super::flow::Flow;

/// Those who wait. `W` is what wakes one.
#[derive(Debug)]
pub struct Queue<W> {
    /// In the order of their tickets.
    waiting: VecDeque<Entry<W>>,
    next: u64,
    flow: Flow,
}

/// What will do for one who waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The only instance that will do; None: any.
    pub only: Option<usize>,
    /// Those that will not do.
    pub never: Vec<usize>,
}

impl Wanted {
    /// Whether a place on this instance will do.
    pub fn fits(&self, instance: usize) -> bool {
        self.only.is_none_or(|only| only == instance) && !self.never.contains(&instance)
    }
}

#[derive(Debug)]
struct Entry<W> {
    ticket: u64,
    wanted: Wanted,
    called: bool,
    waiter: W,
}

/// There are as many as may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many wait already")]
pub struct QueueFull;

impl<W> Default for Queue<W> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), next: 0, flow: Flow::default() }
    }
}

impl<W> Queue<W> {
    /// How many wait, those called included.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The last place, of at most `limit`. The ticket stands for it. Who has nobody before it that waits for the same is
    /// called at once: a place may have become free before it was here to hear of it.
    ///
    /// # Errors
    /// [`QueueFull`].
    pub fn join(&mut self, limit: usize, wanted: Wanted, waiter: W) -> Result<u64, QueueFull> {
        if self.waiting.len() >= limit {
            return Err(QueueFull);
        }
        let (ticket, called) = (self.next, !self.goes_before(wanted.only));
        self.next += 1;
        self.waiting.push_back(Entry { ticket, wanted, called, waiter });
        Ok(ticket)
    }

    /// Somebody waits who would take the place that a newcomer wants.
    pub fn goes_before(&self, wants: Option<usize>) -> bool {
        self.waiting.iter().any(|entry| match wants {
            Some(instance) => entry.wanted.fits(instance),
            None => entry.wanted.only.is_none(),
        })
    }

    /// Some instance will not do for somebody who waits: there may be room on it for others, who would not hear of it.
    pub fn is_choosy(&self) -> bool {
        self.waiting.iter().any(|entry| !entry.wanted.never.is_empty())
    }

    /// Calls the first who was not called yet and whom the free place `fits`, and tells what wakes it.
    pub fn call(&mut self, fits: impl Fn(&Wanted) -> bool) -> Option<&W> {
        let entry = self.waiting.iter_mut().find(|entry| !entry.called && fits(&entry.wanted))?;
        entry.called = true;
        Some(&entry.waiter)
    }

    /// Whether it was called; otherwise `waiter` is what wakes it from now on.
    pub fn is_called(&mut self, ticket: u64, waiter: impl FnOnce(&mut W)) -> bool {
        let Some(entry) = self.entry(ticket) else { return true };
        if !entry.called {
            waiter(&mut entry.waiter);
        }
        entry.called
    }

    /// Whether a newcomer who may wait for `time` would wait longer than that, by what is known of the queue's pace.
    pub fn is_hopeless(&mut self, now: Duration, time: Duration) -> bool {
        let others = self.waiting.len();
        self.flow.expected(now, others).is_some_and(|wait| wait > time)
    }

    /// It found its place, and leaves.
    pub fn serve(&mut self, now: Duration, ticket: u64) {
        self.flow.on_served(now);
        self.leave(ticket);
    }

    /// It was called in vain and waits on, at its old place in the order.
    pub fn wait_on(&mut self, ticket: u64) {
        if let Some(entry) = self.entry(ticket) {
            entry.called = false;
        }
    }

    /// It waits no more, for whatever reason. If it was called, a place may be left for the next: [`Queue::call`].
    pub fn leave(&mut self, ticket: u64) {
        if let Ok(place) = self.waiting.binary_search_by_key(&ticket, |entry| entry.ticket) {
            self.waiting.remove(place);
        }
    }

    fn entry(&mut self, ticket: u64) -> Option<&mut Entry<W>> {
        let place = self.waiting.binary_search_by_key(&ticket, |entry| entry.ticket).ok()?;
        self.waiting.get_mut(place)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any(_: &Wanted) -> bool {
        true
    }

    fn only(instance: usize) -> Wanted {
        Wanted { only: Some(instance), never: Vec::new() }
    }

    fn of(free: usize) -> impl Fn(&Wanted) -> bool {
        move |wanted| wanted.fits(free)
    }

    fn called(queue: &mut Queue<u32>, fits: impl Fn(&Wanted) -> bool) -> Option<u32> {
        queue.call(fits).copied()
    }

    #[test]
    fn the_first_that_comes_is_called_first_and_each_only_once() {
        let mut queue = Queue::default();
        let first = queue.join(9, Wanted::default(), 1).unwrap();
        assert!(queue.is_called(first, |_| ()), "a place may have become free meanwhile");
        queue.wait_on(first);
        assert!((2..5).all(|n| queue.join(9, Wanted::default(), n).is_ok()));
        assert_eq!(
            (0..6).map(|_| called(&mut queue, any)).collect::<Vec<_>>(),
            [Some(1), Some(2), Some(3), Some(4), None, None]
        );
    }

    #[test]
    fn whoever_was_called_in_vain_keeps_its_turn() {
        let mut queue = Queue::default();
        let first = queue.join(9, Wanted::default(), 1).unwrap();
        queue.join(9, Wanted::default(), 2).unwrap();
        queue.wait_on(first);
        assert_eq!(called(&mut queue, any), Some(1));
        queue.wait_on(first);
        assert_eq!(called(&mut queue, any), Some(1));
        queue.leave(first);
        assert_eq!(called(&mut queue, any), Some(2));
    }

    #[test]
    fn a_user_of_one_instance_waits_for_it_and_lets_others_pass() {
        let mut queue = Queue::default();
        let sticky = queue.join(9, only(7), 1).unwrap();
        queue.wait_on(sticky);
        assert!(!queue.goes_before(None) && !queue.goes_before(Some(8)) && queue.goes_before(Some(7)));
        let other = queue.join(9, Wanted::default(), 2).unwrap();
        queue.wait_on(other);
        assert_eq!(called(&mut queue, of(8)), Some(2));
        assert_eq!(called(&mut queue, of(8)), None);
        assert_eq!(called(&mut queue, of(7)), Some(1));
    }

    #[test]
    fn who_was_refused_by_an_instance_does_not_hear_of_its_places_and_others_do() {
        let mut queue = Queue::default();
        let refused = queue.join(9, Wanted { only: None, never: vec![7] }, 1).unwrap();
        queue.wait_on(refused);
        assert!(queue.is_choosy() && !queue.goes_before(Some(7)) && queue.goes_before(Some(8)));
        assert_eq!(called(&mut queue, of(7)), None);
        let other = queue.join(9, Wanted::default(), 2).unwrap();
        queue.wait_on(other);
        assert_eq!(called(&mut queue, of(7)), Some(2));
        assert_eq!(called(&mut queue, of(8)), Some(1));
        queue.leave(refused);
        assert!(!queue.is_choosy());
    }

    #[test]
    fn only_so_many_wait() {
        let mut queue = Queue::default();
        assert_eq!(queue.join(0, Wanted::default(), 1), Err(QueueFull));
        assert!(queue.join(1, Wanted::default(), 1).is_ok());
        assert_eq!(queue.join(1, Wanted::default(), 2), Err(QueueFull));
        assert_eq!(queue.len(), 1);
    }

    proptest! {
        /// Whatever happens in whatever order: calls go out in the order of joining among those not called, bounds hold,
        /// and nobody is forgotten.
        #[test]
        fn order_and_bounds_hold_over_any_history(steps in prop::collection::vec((0..4_u8, 0..8_usize), 0..200)) {
            let mut queue = Queue::default();
            let mut model: Vec<(u64, bool)> = Vec::new();
            for (what, which) in steps {
                let chosen = model.get(which % model.len().max(1)).map(|(ticket, _)| *ticket);
                match (what, chosen) {
                    (0, _) => match queue.join(5, Wanted::default(), 0) {
                        Ok(ticket) => model.push((ticket, model.is_empty())),
                        Err(QueueFull) => prop_assert_eq!(model.len(), 5),
                    },
                    (1, _) => {
                        let expected = model.iter_mut().find(|(_, called)| !called);
                        prop_assert_eq!(queue.call(any).is_some(), expected.is_some());
                        if let Some((ticket, called)) = expected {
                            *called = true;
                            prop_assert!(queue.is_called(*ticket, |_| ()));
                        }
                    }
                    (2, Some(ticket)) => {
                        queue.leave(ticket);
                        model.retain(|(one, _)| *one != ticket);
                    }
                    (3, Some(ticket)) => {
                        queue.wait_on(ticket);
                        model.iter_mut().filter(|(one, _)| *one == ticket).for_each(|(_, called)| *called = false);
                    }
                    _ => {}
                }
                prop_assert_eq!(queue.len(), model.len());
                for (ticket, called) in &model {
                    prop_assert_eq!(queue.is_called(*ticket, |_| ()), *called);
                }
            }
        }
    }
}
