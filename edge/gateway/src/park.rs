//! Parking: a request for which no instance is there waits instead of failing, for a bounded time, and only so many
//! of a service, with so much memory. It holds its head and what was read of its body, nothing else.

use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use everup_core::ids::Generation;

use crate::client::Client;
use crate::local::Local;
use crate::service::Service;
use crate::watch::Signal;

/// A parked request looks again this often even if the table does not change: a retry budget recovers, and an
/// instance that could not be connected to in time may be better than its verdict.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Why waiting, parked or in the queue, is over without success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitOver {
    /// Too many wait, or it took or would take too long.
    InVain,
    /// Nobody waits for it any more.
    ClientGone,
}

/// Waits until the table is newer than `seen` or it is time to look again, as long as the client is there. `since` is when the request was first
/// parked; it holds `held` bytes of memory.
pub(crate) async fn park(
    local: &Local,
    client: &Client,
    service: &Rc<Service>,
    held: usize,
    seen: Generation,
    since: Duration,
) -> Result<(), WaitOver> {
    let settings = &service.settings.park;
    if service.is_gone() || local.is_refusing() {
        return Err(WaitOver::InVain);
    }
    let _held = Held::take(service, held + client.carry.capacity()).ok_or(WaitOver::InVain)?;
    let _place = Place::take(local, service).ok_or(WaitOver::InVain)?;
    let now = local.now();
    let end = since + settings.time;
    if now >= end {
        return Err(WaitOver::InVain);
    }
    let Client { watch, stream, .. } = client;
    let mut broken = pin!(stream.broken());
    watch.set_deadline(Some(end.min(now + LOOK_AGAIN)));
    watch.set_parked(true);
    let woken = watch.wait(|cx| match broken.as_mut().poll(cx) {
        Poll::Ready(()) => Poll::Ready(Err(WaitOver::ClientGone)),
        Poll::Pending if local.generation() > seen => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    });
    let woken = woken.await;
    watch.set_parked(false);
    match woken {
        Ok(woken) => woken,
        Err(Signal::Deadline | Signal::JudgedDown) => Ok(()),
        Err(Signal::Closing) => Err(WaitOver::InVain),
    }
}

/// A part of a service's `park.bytes`.
pub(crate) struct Held<'a> {
    service: &'a Service,
    bytes: usize,
}

impl<'a> Held<'a> {
    /// None: there is no room for so much.
    pub(crate) fn take(service: &'a Service, bytes: usize) -> Option<Self> {
        let before = service.shared.parked_bytes.fetch_add(bytes, Ordering::Relaxed);
        // Dropping it gives it back.
        let held = Self { service, bytes };
        (before.saturating_add(bytes) <= service.settings.park.bytes).then_some(held)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.service.shared.parked_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
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
