//! The old worker's half on a data-plane thread: whose turn it is to leave, and offering a connection. What a connection
//! holds when it leaves is known where it is served: `client/departing.rs`, `relay.rs`.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use everup_core::handover::{Connection, HELD_BYTES, Kind, What};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::parting::{Offer, Parting, Verdict};
use crate::local::Local;
use crate::stream::Stream;
use crate::watch::Watched;

/// So many connections of a thread are offered at a time. An offered one stands still until the answer is there, each
/// needs a descriptor for the way, and each may hold some megabytes; those that wait are served meanwhile.
const OFFERED: usize = 16;

/// Until there may be descriptors again.
const NO_DESCRIPTORS_PAUSE: Duration = Duration::from_millis(50);

/// While connections of a thread move to another worker.
#[derive(Debug)]
pub(crate) struct Departure {
    parting: Arc<Parting>,
    /// When it began.
    pub(crate) since: Duration,
    /// How listeners are called there.
    listeners: HashMap<usize, SocketAddr>,
    turns: Arc<Semaphore>,
}

/// Who a connection is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) listener: usize,
    pub(crate) peer: SocketAddr,
    pub(crate) source: SocketAddr,
    pub(crate) destination: Option<SocketAddr>,
}

/// A connection's wait for its turn. Every idle connection has one: it is a pointer to nothing while none has to leave.
#[derive(Default)]
pub(crate) struct Leaving(Option<Box<Pin<Box<dyn Future<Output = Turn>>>>>);

impl std::fmt::Debug for Leaving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leaving").field("waits", &self.0.is_some()).finish_non_exhaustive()
    }
}

/// Now it may leave.
#[derive(Debug)]
pub(crate) struct Turn {
    departure: Rc<Departure>,
    _place: OwnedSemaphorePermit,
}

/// What became of a connection that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// It is elsewhere, and not to be touched.
    Gone,
    /// It goes on here: for good, or until it is its turn again.
    Stays,
}

/// What came of one offer.
enum Offered {
    Gone,
    Stays,
    /// There are no descriptors left; those that leave make room.
    NotNow,
}

impl Departure {
    pub(crate) fn new(
        parting: Arc<Parting>,
        since: Duration,
        listeners: HashMap<usize, SocketAddr>,
    ) -> Rc<Self> {
        Rc::new(Self { parting, since, listeners, turns: Arc::new(Semaphore::new(OFFERED)) })
    }

    /// It is the same one.
    pub(crate) fn is_by(&self, parting: &Arc<Parting>) -> bool {
        Arc::ptr_eq(&self.parting, parting)
    }

    /// Nobody is there any more who could take anything.
    pub(crate) fn is_over(&self) -> bool {
        self.parting.is_over()
    }

    /// Looks whether all is done.
    pub(crate) fn look(&self, connections: usize, staying: u64) {
        if connections as u64 <= staying {
            self.parting.settle();
        }
    }

    async fn turn(self: Rc<Self>) -> Turn {
        let place = Arc::clone(&self.turns).acquire_owned().await;
        Turn { departure: self, _place: place.expect("nobody closes the turns") }
    }
}

impl Leaving {
    /// It does something else now: its turn is somebody else's.
    pub(crate) fn forget(&mut self) {
        self.0 = None;
    }

    /// Ready when the connection is to leave. One that cannot is noted as one that stays.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        local: &Local,
        watch: &Watched,
        (kind, may_move): (Kind, bool),
    ) -> Poll<Box<Turn>> {
        if !local.hands_over() || watch.stays() {
            self.forget();
            return Poll::Pending;
        }
        if !may_move {
            stays(local, watch, kind);
            return Poll::Pending;
        }
        let Some(departure) = local.departure() else { return Poll::Pending };
        let turn = self.0.get_or_insert_with(|| Box::new(Box::pin(departure.turn())));
        let turn = ready!(turn.as_mut().as_mut().poll(cx));
        self.0 = None;
        // What was waited for may be over.
        if local.hands_over() { Poll::Ready(Box::new(turn)) } else { Poll::Pending }
    }
}

/// Notes what stays here while others leave.
pub(crate) fn stays(local: &Local, watch: &Watched, kind: Kind) {
    if local.hands_over() {
        watch.set_stays(kind);
    }
}

impl Turn {
    /// A turn that can be had without waiting.
    pub(crate) fn now(local: &Local) -> Option<Self> {
        let departure = local.departure()?;
        let place = Arc::clone(&departure.turns).try_acquire_owned().ok()?;
        Some(Self { departure, _place: place })
    }

    /// Offers a connection that holds these bytes besides what the kernel has of it.
    pub(crate) async fn offer(
        self,
        (local, watch): (&Local, &Watched),
        facts: Facts,
        (kind, what): (Kind, What),
        held: Vec<u8>,
        streams: &[&Stream],
    ) -> Left {
        let offered = self.try_offer(facts, (kind, what), held, streams).await;
        if matches!(offered, Offered::Gone) {
            return Left::Gone;
        }
        streams.iter().for_each(|stream| stream.thaw());
        match offered {
            Offered::NotNow => local.engine.sleep(NO_DESCRIPTORS_PAUSE).await,
            Offered::Gone | Offered::Stays => stays(local, watch, kind),
        }
        Left::Stays
    }

    async fn try_offer(
        self,
        facts: Facts,
        (kind, what): (Kind, What),
        held: Vec<u8>,
        streams: &[&Stream],
    ) -> Offered {
        let Facts { listener, peer, source, destination } = facts;
        let listener = self.departure.listeners.get(&listener).copied();
        let Some(listener) = listener.filter(|_| held.len() <= HELD_BYTES) else { return Offered::Stays };
        let sockets: std::io::Result<Vec<OwnedFd>> = streams.iter().map(|stream| stream.freeze()).collect();
        let Ok(sockets) = sockets else { return Offered::NotNow };
        let connection = Box::new(Connection { number: 0, listener, peer, source, destination, what });
        let (answer, answered) = oneshot::channel();
        let offer = Offer { kind, connection, held, sockets, answer };
        if self.departure.parting.offers.send(offer).is_err() {
            return Offered::Stays;
        }
        match answered.await {
            Ok(Verdict::Ours) => Offered::Stays,
            Ok(Verdict::Theirs) | Err(_) => Offered::Gone,
        }
    }
}
