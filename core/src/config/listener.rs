//! `[[listener]]`: what to listen at, and which service gets what comes in.

use std::net::SocketAddr;

use super::kind::{choice, list, network, optional, own_address};
use super::reading::{Reading, Table};
use super::route::{self, Route};
use super::section::{section, tables};
use super::service::service_name;
use crate::network::Network;

section! {
    /// What to listen at, and which service gets what comes in.
    pub struct Listener {
        /// The addresses to listen at. Port 0 lets the kernel choose; `everup status` shows what it chose.
        pub bind: Vec<SocketAddr> = list(1..=64, own_address("a listener")), default required,
            because "one listener on several addresses shares its routes";
        /// What is spoken: `http` looks at every request, `tcp` relays whole connections.
        pub protocol: Protocol = choice(PROTOCOLS, &["tls-passthrough", "udp"]), default "http",
            because "most services speak HTTP, and only there can single requests be retried";
        /// Balancers in front of everup that say with a PROXY header (version 1 or 2) whom a connection comes from. From
        /// these a header is required; from anyone else it is not understood.
        pub accept_proxy: Vec<Network> = list(0..=256, network()), default [],
            because "who may say where a client comes from may say anything: name only balancers of your own";
        /// The service of whatever no route takes.
        pub service: Option<usize> = optional(service_name()),
            default unset "none: what no route takes is answered with 404",
            because "a tcp listener must have one: it has no routes";
        /// The routes of an http listener. The first that matches takes the request.
        pub routes as route: Vec<Route> = tables::<route::Written, _>(MAX_ROUTES, route::build), default [],
            because "they are tried in the order of the file";
    }
    later { tls }
}

const PROTOCOLS: &[(&str, Protocol)] = &[("http", Protocol::Http), ("tcp", Protocol::Tcp)];
const MAX_ROUTES: usize = 1024;

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, request by request.
    Http,
    /// Whatever it is: whole connections are relayed.
    Tcp,
}

pub(super) fn build(listener: Listener, table: &Table<'_>, reading: &mut Reading) -> Option<Listener> {
    match listener.protocol {
        Protocol::Http => require_somewhere_to_go(table, reading),
        Protocol::Tcp => judge_tcp(listener.service, table, reading),
    }
    route::refuse_unreachable(&listener.routes, table, reading);
    Some(listener)
}

fn require_somewhere_to_go(table: &Table<'_>, reading: &mut Reading) {
    if !table.has("service") && !table.has("route") {
        let hint = "add service = \"…\", or [[listener.route]] tables";
        let message = "[[listener]] has neither a service nor routes";
        reading.missing_keys(table, &["service", "route"], message, "nothing takes its requests", hint);
    }
}

fn judge_tcp(service: Option<usize>, table: &Table<'_>, reading: &mut Reading) {
    if table.has("route") {
        let hint = "use protocol = \"http\", or service = \"…\" and no routes";
        let message = "a tcp listener cannot have routes";
        reading.mistake(table.span_of("protocol"), message, "this sees connections, not requests", hint);
    } else if !table.has("service") {
        let hint = "add service = \"…\"";
        reading.missing_keys(
            table,
            &["service"],
            "a tcp listener needs a service",
            "`service` is missing",
            hint,
        );
    }
    if let Some(service) = service {
        reading.services[service].tcp = true;
    }
}
