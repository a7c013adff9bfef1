//! tls-passthrough listeners: the client's first message tells which host it wants, and the connection goes to that host's
//! service as it is, first message and all. What such a message looks like is known in `everup_core::client_hello`.

use std::net::SocketAddr;
use std::rc::Rc;

use everup_core::client_hello::{self, ClientHello, Parsed};

use crate::client::{Client, Entered};
use crate::local::Local;
use crate::service::Service;
use crate::stream::Stream;
use crate::tcp::{self, Relayed};
use crate::turned_away::Reason;
use crate::watch::Signal;

/// What a client is told that cannot be served (RFC 8446 section 6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alert {
    DecodeError = 50,
    InternalError = 80,
    UnrecognizedName = 112,
}

/// Relays a connection to its end.
pub(crate) async fn serve(local: Rc<Local>, stream: Stream, listener: usize, peer: SocketAddr) {
    let mut client = Client::new(&local, stream, listener, peer);
    if client.enter(&local, None).await != Entered::Served {
        return;
    }
    let alert = match read_hello(&local, &mut client).await {
        Read::Hello(hello) => match service_for(&local, &client, &hello) {
            Some(service) => {
                client.passes_to(hello.server_name);
                match tcp::relay(&local, &mut client, service).await {
                    Relayed::Over => None,
                    Relayed::Moved => return,
                    Relayed::Nowhere => Some(Alert::InternalError),
                }
            }
            None => {
                let name = hello.server_name.as_deref().unwrap_or("no host");
                let why = format_args!("no route leads to {name}, which its client wants");
                local.shared.turned_away.count(Reason::Tls, client.source.ip(), why);
                Some(Alert::UnrecognizedName)
            }
        },
        Read::Malformed(malformed) => {
            local.shared.turned_away.count(Reason::Tls, client.source.ip(), malformed);
            Some(Alert::DecodeError)
        }
        Read::Gone => return,
    };
    if let Some(alert) = alert {
        // Nobody waits for a client that takes not even this.
        let _ = client.stream.try_write(&[21, 3, 3, 0, 2, 2, alert as u8], &[]);
    }
    // It may still be talking: closing at once would take from it what it has not read yet.
    client.linger(&local).await;
}

/// What came of waiting for the first message.
enum Read {
    Hello(ClientHello),
    Malformed(client_hello::Malformed),
    /// The client has closed, or took longer than `limits.head_time`.
    Gone,
}

/// The bytes stay in `client.carry`.
async fn read_hello(local: &Local, client: &mut Client) -> Read {
    client.watch.set_deadline(Some(local.now() + local.limits().head_time));
    let mut needed = 0;
    loop {
        if client.carry.len() >= needed {
            match client_hello::parse(&client.carry) {
                Ok(Parsed::Whole(hello)) => return Read::Hello(hello),
                Ok(Parsed::Partial { needed: more }) => needed = more,
                Err(malformed) => return Read::Malformed(malformed),
            }
        }
        match client.read(local).await {
            Ok(read @ 1..) => client.carry.extend_from_slice(&local.buffers.scratch()[..read]),
            Ok(0) | Err(Signal::Deadline | Signal::Closing | Signal::JudgedDown) => return Read::Gone,
        }
    }
}

fn service_for(local: &Local, client: &Client, hello: &ClientHello) -> Option<Rc<Service>> {
    let table = local.table();
    let routes = &table.snapshot.listeners.get(client.listener)?.routes;
    let (index, route) = routes.lookup_host(hello.server_name.as_deref())?;
    let service = table.services.get(index).map(Rc::clone)?;
    if let Some(route) = local.route(client.listener, route) {
        route.on_request(local.thread);
    }
    Some(service)
}
