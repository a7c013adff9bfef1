//! Parking: a request for which no instance is there waits instead of failing, for a bounded time, and only so many
//! of a service, with so much memory. It holds its head and what was read of its body, nothing else.

use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use everup_core::config::Park;
use everup_core::ids::Generation;

use crate::client::Client;
use crate::local::Local;
use crate::service::Service;
use crate::watch::Signal;

/// A parked request looks again this often even if the table does not change: a retry budget recovers, and an
/// instance that could not be connected to in time may be better than its verdict.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Why parking is over without success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParkOver {
    /// Too many are parked, or it took too long.
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
) -> Result<(), ParkOver> {
    let settings = &service.settings.park;
    let bytes = held + client.carry.capacity();
    let _place = Place::take(local, service, bytes).ok_or(ParkOver::InVain)?;
    let now = local.now();
    let end = since + settings.time;
    if now >= end {
        return Err(ParkOver::InVain);
    }
    let Client { watch, stream, .. } = client;
    let mut broken = pin!(stream.broken());
    watch.set_deadline(Some(end.min(now + LOOK_AGAIN)));
    watch.set_parked(true);
    let woken = watch.wait(|cx| match broken.as_mut().poll(cx) {
        Poll::Ready(()) => Poll::Ready(Err(ParkOver::ClientGone)),
        Poll::Pending if local.generation() > seen => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    });
    let woken = woken.await;
    watch.set_parked(false);
    match woken {
        Ok(woken) => woken,
        Err(Signal::Deadline | Signal::JudgedDown) => Ok(()),
        Err(Signal::Closing) => Err(ParkOver::InVain),
    }
}

/// One of the `park.requests` places of a service, and a part of its `park.bytes`.
struct Place<'a> {
    local: &'a Local,
    service: &'a Service,
    bytes: usize,
}

impl<'a> Place<'a> {
    fn take(local: &'a Local, service: &'a Service, bytes: usize) -> Option<Self> {
        let Park { requests, bytes: room, .. } = service.settings.park;
        let taken = service.shared.parked_now.fetch_add(1, Ordering::Relaxed);
        let held = service.shared.parked_bytes.fetch_add(bytes, Ordering::Relaxed);
        let place = Self { local, service, bytes };
        service.shared.parked.cell(local.thread).add(1);
        // Dropping the place gives it back.
        (taken < requests && held.saturating_add(bytes) <= room).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.service.shared.parked_now.fetch_sub(1, Ordering::Relaxed);
        self.service.shared.parked_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.service.shared.parked.cell(self.local.thread).add(-1);
    }
}
