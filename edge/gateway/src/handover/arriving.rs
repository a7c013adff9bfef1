//! The new worker's half on a data-plane thread: goes on with what arrives, where the old worker stopped.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use everup_core::handover::{Connection, Idle, Kind, Relay, Way, What};
use everup_core::websocket::Frames;
use tokio::sync::mpsc;

use super::leaving::Facts;
use super::taking::{Arrival, With};
use crate::client::{self, Client};
use crate::engine::Socket;
use crate::local::Local;
use crate::relay::{self, Ended, Flow, Flows};
use crate::service::{InFlight, Instance, Service};
use crate::stream::Stream;
use crate::websocket::WebSocket;

/// Goes on with whatever comes.
pub(crate) async fn receive(local: Rc<Local>, mut arrivals: mpsc::UnboundedReceiver<Arrival>) {
    while let Some(arrival) = arrivals.recv().await {
        if let Err(error) = go_on(&local, arrival) {
            tracing::warn!("a connection that was taken over is lost: {error}");
        }
    }
}

fn go_on(local: &Rc<Local>, arrival: Arrival) -> std::io::Result<()> {
    let Arrival { listener, connection, held, sockets, place, instance } = arrival;
    let Connection { number: _, listener: _, peer, source, destination, what } = *connection;
    let mut sockets = sockets.into_iter();
    let mut next = |sends_when_dropped| {
        let socket = sockets.next().ok_or(std::io::ErrorKind::NotFound)?;
        Socket::adopted(local.engine.reactor(), socket, sends_when_dropped).map(Stream::accepted)
    };
    let stream = next(true)?;
    let facts = Facts { listener, peer, source, destination };
    let (kind, relay) = match what {
        What::Idle(Idle { served, idle_ms }) => {
            let idle = Duration::from_millis(idle_ms);
            let client = Box::new(Client::arrived(local, stream, facts, held, Some((served, idle))));
            let local = Rc::clone(local);
            let engine = Rc::clone(&local.engine);
            engine.spawn(async move {
                let _place = place;
                client::serve(local, client, client::Comes::Over).await;
            });
            return Ok(());
        }
        What::Relay(relay) => (Kind::Relay, relay),
        What::Tunnel(relay) => (Kind::Tunnel, relay),
        What::Websocket(relay) => (Kind::Websocket, relay),
        What::Unknown => return Ok(()),
    };
    let upstream = next(false)?;
    let client = Client::arrived(local, stream, facts, Vec::new(), None);
    // The configuration may have changed since it was looked up.
    let Some(with) = instance else { return Ok(()) };
    let Some((service, instance)) = find(local, &with) else { return Ok(()) };
    let in_flight = InFlight::arrived(&instance);
    drop(with);
    let two = Two { client, upstream, service, instance, in_flight, kind };
    let local = Rc::clone(local);
    let engine = Rc::clone(&local.engine);
    engine.spawn(async move {
        let _place = place;
        two.relay(&local, relay, held).await;
    });
    Ok(())
}

fn find(local: &Local, With { service, instance }: &With) -> Option<(Rc<Service>, Rc<Instance>)> {
    let table = local.table();
    let service = table.service_of(service)?;
    let instance = service.instances.iter().find(|one| Arc::ptr_eq(&one.table.shared, instance))?;
    Some((Rc::clone(service), Rc::clone(instance)))
}

/// A client and its instance.
struct Two {
    client: Client,
    upstream: Stream,
    service: Rc<Service>,
    instance: Rc<Instance>,
    in_flight: InFlight,
    kind: Kind,
}

impl Two {
    async fn relay(self, local: &Local, relay: Relay, held: Vec<u8>) {
        let Self { mut client, mut upstream, service, instance, in_flight, kind } = self;
        let Relay { instance: _, address: _, to_instance, to_client, left_ms } = relay;
        service.shared.in_custody.cell(local.thread).add(1);
        instance.table.shared.enter_tunnel();
        let leave = relay::LeaveTunnel(&instance.table.shared);
        let flows = flows((to_instance, to_client), kind, held);
        let facts = Box::new(client.facts());
        let Client { stream, watch, .. } = &mut client;
        let ends = (&service, &instance);
        let websocket = (kind == Kind::Websocket)
            .then(|| Box::new(WebSocket::new(local, watch, ends, Frames::default())));
        let idle = service.settings.timeout.idle;
        let (to, upstream_end) = (&instance, &mut upstream);
        let mut relay = relay::Relay {
            local,
            watch,
            client: stream,
            instance: upstream_end,
            facts,
            to,
            kind,
            idle,
            websocket,
            flows,
        };
        relay.expect_end(left_ms.map(Duration::from_millis));
        let ended = relay.run().await;
        drop(relay);
        drop(leave);
        service.shared.in_custody.cell(local.thread).add(-1);
        drop((in_flight, upstream));
        if ended == Ended::Over {
            client.linger(local).await;
        }
    }
}

/// Both directions; what is held for the instance comes first.
fn flows((to_instance, to_client): (Way, Way), kind: Kind, mut held: Vec<u8>) -> Flows {
    let first = usize::try_from(to_instance.bytes).unwrap_or(usize::MAX).min(held.len());
    let second = held.split_off(first);
    let flow = |way: Way, held| {
        let frames = way.frames.filter(|_| kind == Kind::Websocket);
        Flow::arrived(held, frames, way.ended, way.finished)
    };
    Flows { up: flow(to_instance, held), down: flow(to_client, second) }
}
