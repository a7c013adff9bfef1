//! Panics kept where they happen: a control task that fails inside says so and goes on with its next piece of work.
//!
//! It is for work that traffic does not wait for, and that can be done again or left out. What must be told to somebody when it
//! was left out, the caller tells.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;

/// Does a piece of work of `task`. None: it panicked, and that was told.
pub fn contained<T>(task: &str, work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| tell(task)).ok()
}

/// The same for a future, which is dropped when it has panicked.
pub async fn contained_future<F: Future>(task: &str, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let polled = poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(poll) => poll.map(Some),
        Err(_) => std::task::Poll::Ready(None),
    });
    let done = polled.await;
    if done.is_none() {
        tell(task);
    }
    done
}

fn tell(task: &str) {
    tracing::error!("{task} failed inside (see the panic above; please report it) and goes on");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_panics_is_left_out_and_other_work_is_done() {
        assert_eq!(contained("counting", || 1), Some(1));
        assert_eq!(contained("counting", || -> u32 { panic!("on purpose") }), None);
    }

    #[test]
    fn a_future_that_panics_ends_without_a_value() {
        let polled = |future| {
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            pin!(contained_future("waiting", future)).poll(&mut context)
        };
        assert_eq!(polled(std::future::ready(1)), std::task::Poll::Ready(Some(1)));
        let panics = async { panic!("on purpose") };
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let ended: std::task::Poll<Option<u32>> =
            pin!(contained_future("waiting", panics)).poll(&mut context);
        assert_eq!(ended, std::task::Poll::Ready(None));
    }
}
