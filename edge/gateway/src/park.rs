//! Parking: a request for which no instance is there waits instead of failing, for a bounded time, and only so many
//! of a service. It holds its head and what was read of its body, nothing else.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use everup_core::ids::Generation;

use crate::local::Local;
use crate::service::Service;
use crate::watch::{Signal, Watch};

/// A parked request looks again this often even if the table does not change: a retry budget recovers, and an
/// instance that could not be connected to in time may be better than its verdict.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Parking is over without success: too many are parked, or it took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ParkOver;

/// Waits until the table is newer than `seen` or it is time to look again. `since` is when the request was first
/// parked.
pub(crate) async fn park(
    local: &Local,
    watch: &Watch,
    service: &Rc<Service>,
    seen: Generation,
    since: Duration,
) -> Result<(), ParkOver> {
    let settings = &service.settings.park;
    if service.is_gone() {
        return Err(ParkOver);
    }
    let _place = Place::take(local, service).ok_or(ParkOver)?;
    let now = local.now();
    let end = since + settings.time;
    if now >= end {
        return Err(ParkOver);
    }
    watch.set_deadline(Some(end.min(now + LOOK_AGAIN)));
    watch.set_parked(true);
    let newer = || if local.generation() > seen { Poll::Ready(()) } else { Poll::Pending };
    let woken = watch.wait(|_| newer()).await;
    watch.set_parked(false);
    match woken {
        Ok(()) | Err(Signal::Deadline | Signal::JudgedDown) => Ok(()),
        Err(Signal::Closing) => Err(ParkOver),
    }
}

/// One of the `park.requests` places of a service.
struct Place<'a> {
    local: &'a Local,
    service: &'a Service,
}

impl<'a> Place<'a> {
    fn take(local: &'a Local, service: &'a Service) -> Option<Self> {
        let taken = service.shared.parked_now.fetch_add(1, Ordering::Relaxed);
        let place = Self { local, service };
        service.shared.parked.cell(local.thread).add(1);
        // Dropping the place gives it back.
        (taken < service.settings.park.requests).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.service.shared.parked_now.fetch_sub(1, Ordering::Relaxed);
        self.service.shared.parked.cell(self.local.thread).add(-1);
    }
}
