//! The PROXY header that a balancer in front of everup begins a connection with: waited for, judged and taken off. What
//! it may look like is known in `everup_core::proxy_protocol`; who must send one stands in the listener's table.

use std::net::SocketAddr;

use everup_core::network::Network;
use everup_core::proxy_protocol::{self, Malformed, Parsed};

use crate::client::Client;
use crate::local::Local;
use crate::turned_away::Reason;
use crate::watch::Signal;

/// Whether a connection from `peer` must begin with a header.
pub(crate) fn is_expected(accepted: &[Network], peer: SocketAddr) -> bool {
    accepted.iter().any(|network| network.contains(peer.ip()))
}

/// Whether a malformed request is a header that nobody asked for.
pub(crate) fn looks_like_header(bytes: &[u8]) -> bool {
    proxy_protocol::parse(bytes) != Err(Malformed::Missing)
}

/// Takes the header off a connection, within `limits.head_time`, and notes in `client` whom it names. False: the
/// connection is to be closed, which was counted.
pub(crate) async fn take_header(local: &Local, client: &mut Client) -> bool {
    client.watch.set_deadline(Some(local.now() + local.limits().head_time));
    loop {
        match proxy_protocol::parse(&client.carry) {
            Ok(Parsed::Whole(header)) => {
                client.carry.drain(..header.bytes);
                if let Some(ends) = header.ends {
                    client.set_ends(ends);
                }
                return true;
            }
            Ok(Parsed::Partial) => {}
            Err(malformed) => return refuse(local, client, malformed),
        }
        match client.read(local).await {
            Ok(read @ 1..) => {
                let scratch = local.buffers.scratch();
                client.carry.extend_from_slice(&scratch[..read]);
            }
            // Nothing at all is how many balancers look whether somebody listens.
            Ok(0) if client.carry.is_empty() => return false,
            Ok(0) | Err(Signal::Deadline | Signal::Closing | Signal::JudgedDown) => {
                return refuse(local, client, Malformed::Missing);
            }
        }
    }
}

fn refuse(local: &Local, client: &Client, malformed: Malformed) -> bool {
    local.shared.turned_away.count(Reason::ProxyHeader, client.peer.ip(), malformed);
    false
}
