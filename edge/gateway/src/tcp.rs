//! TCP listeners: a connection goes to an instance as it is. The instance is chosen when the client connects; as long
//! as no connection to one was made, nothing is lost by trying another, or by waiting for one.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use everup_core::exchange::{Decision, Exchange, Progress};
use everup_core::handover::Kind;

use crate::client::{Client, Entered};
use crate::dial::{Dial, dial};
use crate::local::{Local, RequestId};
use crate::park::{self, WaitOver};
use crate::queue;
use crate::relay::{self, Flows, Relay};
use crate::service::{InFlight, Picked, Service, Tried, wanted};
use crate::sticky;
use crate::stream::Stream;

/// Relays a connection to its end.
pub(crate) async fn serve(local: Rc<Local>, stream: Stream, listener: usize, peer: SocketAddr) {
    let mut client = Client::new(&local, stream, listener, peer);
    if client.enter(&local, None).await != Entered::Served {
        return;
    }
    let table = local.table();
    let index = table.snapshot.listeners.get(listener).and_then(|listener| listener.routes.default_service());
    let Some(service) = index.and_then(|index| table.services.get(index)).map(Rc::clone) else { return };
    drop(table);
    if relay(&local, &mut client, service).await == Relayed::Moved {
        return;
    }
    // It may still be talking: closing at once would take from it what it has not read yet.
    client.linger(&local).await;
}

/// What became of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relayed {
    /// It was relayed to its end.
    Over,
    /// Another worker goes on with it: it is not to be touched.
    Moved,
    /// There was no instance, and nothing was relayed.
    Nowhere,
}

/// Relays what was read already and whatever comes, to an instance of the service.
pub(crate) async fn relay(local: &Local, client: &mut Client, service: Rc<Service>) -> Relayed {
    service.on_request(local.now());
    service.shared.requests.cell(local.thread).add(1);
    service.shared.in_custody.cell(local.thread).add(1);
    let (idle, shared) = (service.settings.timeout.idle, Arc::clone(&service.shared));
    let found = find_instance(local, client, service).await;
    let relayed = match found {
        Some(found) => relay_to(local, client, found, idle).await,
        None => Relayed::Nowhere,
    };
    shared.in_custody.cell(local.thread).add(-1);
    relayed
}

async fn relay_to(
    local: &Local,
    client: &mut Client,
    (mut upstream, in_flight): (Stream, InFlight),
    idle: Duration,
) -> Relayed {
    let shared = &in_flight.instance().table.shared;
    shared.requests.cell(local.thread).add(1);
    shared.enter_tunnel();
    let _leave = relay::LeaveTunnel(shared);
    client.watch.set_deadline(None);
    let read_already = std::mem::take(&mut client.carry);
    let facts = Box::new(client.facts());
    let Client { stream, watch, .. } = client;
    let (instance, to, kind) = (&mut upstream, in_flight.instance(), Kind::Relay);
    let (websocket, flows) = (None, Flows::new(read_already, None));
    let mut relay = Relay { local, watch, client: stream, instance, facts, to, kind, idle, websocket, flows };
    match relay.run().await {
        relay::Ended::Over => Relayed::Over,
        relay::Ended::Moved => Relayed::Moved,
    }
}

/// A connection to an instance of the service, tried and waited for as long as custody allows.
async fn find_instance(
    local: &Local,
    client: &Client,
    mut service: Rc<Service>,
) -> Option<(Stream, InFlight)> {
    let mut exchange = Exchange::new(false, service.settings.retry.attempts);
    let mut tried: Vec<Tried> = Vec::new();
    let since = local.now();
    loop {
        let in_flight = match pick(local, client, &mut service, &mut tried, since).await {
            Ok(in_flight) => in_flight,
            Err(WaitOver::ClientGone) => return None,
            Err(WaitOver::InVain) => {
                local.count_error(&service.shared);
                return None;
            }
        };
        let (instance, began) = (in_flight.instance(), local.now());
        let mut id = RequestId::default();
        let request_id = local.new_request_id(&mut id);
        let to = Dial { service: &service, instance, request_id, left: Duration::MAX };
        let failure = match dial(local, client, to).await {
            Ok(stream) => {
                // All that is known of a connection's latency.
                instance.table.shared.observe(local.now(), local.now().saturating_sub(began));
                return Some((stream, in_flight));
            }
            Err(failure) => failure,
        };
        instance.table.shared.failures.cell(local.thread).add(1);
        let progress = Progress { written: false, replayable: true, answered: false };
        let decision =
            exchange.on_failure(local.now(), failure, progress, &mut service.budget().borrow_mut());
        match decision {
            Decision::Retry { reuse } => tried.push(Tried { key: instance.key(), reuse }),
            Decision::Park => {}
            Decision::Answer(_) | Decision::Cut => {
                local.count_error(&service.shared);
                return None;
            }
        }
        service.shared.retries.cell(local.thread).add(1);
        service = local.current(&service);
    }
}

/// The instance to try next; waits in the queue or is parked for one.
async fn pick(
    local: &Local,
    client: &Client,
    service: &mut Rc<Service>,
    tried: &mut Vec<Tried>,
    since: Duration,
) -> Result<InFlight, WaitOver> {
    let mut turn: Option<queue::Turn> = None;
    loop {
        match sticky::pick(local, service, sticky::Wish::Nothing, client.hash, tried, turn.is_some()) {
            Picked::Instance(in_flight) => {
                if let Some(turn) = turn {
                    turn.succeed(local.now());
                }
                return Ok(in_flight);
            }
            Picked::Queue(wants) => {
                queue::wait(local, client, service, &mut turn, wanted(wants, tried), 0, since).await?;
            }
            Picked::Park => {
                turn = None;
                let seen = local.generation();
                park::park(local, client, service, 0, seen, since).await?;
                tried.clear();
            }
        }
        *service = local.current(service);
    }
}
