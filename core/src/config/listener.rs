//! `[[listener]]`: what to listen at, and which service gets what comes in.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::certificate::CertificateFiles;
use super::kind::{choice, duration, list, network, optional, own_address, path};
use super::reading::{Reading, Table};
use super::route::{self, Route};
use super::section::{plain, section, tables};
use super::service::service_name;
use crate::network::Network;

section! {
    /// What to listen at, and which service gets what comes in.
    pub struct Listener {
        /// The addresses to listen at. Port 0 lets the kernel choose; `everup status` shows what it chose.
        pub bind: Vec<SocketAddr> = list(1..=64, own_address("a listener")), default required,
            because "one listener on several addresses shares its routes";
        /// What is spoken: `http` looks at every request, `tcp` relays whole connections, `tls-passthrough` too, but to the
        /// service of the host that the client wants (SNI), as its routes say; nothing is decrypted.
        pub protocol: Protocol = choice(PROTOCOLS, &["udp"]), default "http",
            because "most services speak HTTP, and only there can single requests be retried";
        /// Balancers in front of everup that say with a PROXY header (version 1 or 2) whom a connection comes from. From
        /// these a header is required; from anyone else it is not understood.
        pub accept_proxy: Vec<Network> = list(0..=256, network()), default [],
            because "who may say where a client comes from may say anything: name only balancers of your own";
        /// The service of whatever no route takes.
        pub service: Option<usize> = optional(service_name()),
            default unset "none: what no route takes is answered with 404, or a TLS alert",
            because "a tcp listener must have one: it has no routes";
        /// The routes of an http listener. The first that matches takes the request. Those of a tls-passthrough listener
        /// have a `host` and a `service` only, and take connections.
        pub routes as route: Vec<Route> = tables::<route::Written, _>(MAX_ROUTES, route::build), default [],
            because "they are tried in the order of the file";
        /// The certificates of an https listener. The client names the host it wants (SNI): the certificate that
        /// names it exactly is shown, else one with a wildcard for it, else the first of the list.
        pub tls: Vec<CertificateFiles> = tables::<CertificateFiles, _>(MAX_CERTIFICATES, plain), default [],
            because "without certificates the listener speaks plain http";
        /// Clients must show a certificate that one of the authorities in this PEM file has signed. Its subject goes to the
        /// instance as `X-Client-Cert-Subject`; what a client sends under that name never does, on any listener.
        pub client_ca: Option<PathBuf> = optional(path()), default unset "clients need no certificate",
            because "who has no certificate is turned away before a request is read";
        /// `https`: what no route takes is answered with 308 to the same address with https at port 443.
        pub redirect: Option<ListenerRedirect> = optional(choice(REDIRECTS, &[])), default unset "off",
            because "links and habits still lead to http; it stands in for `service`";
        /// Tells browsers to come with https only, for this long (Strict-Transport-Security). An instance that sends
        /// the field itself is not overruled.
        pub hsts: Option<Duration> = optional(duration(0..=TWO_YEARS_MS)), default unset "off",
            because "browsers hold to it even if https fails later: switch it on for a short time first";
    }
}

const MAX_CERTIFICATES: usize = 1024;
const TWO_YEARS_MS: u64 = 2 * 366 * 86_400_000;
const REDIRECTS: &[(&str, ListenerRedirect)] = &[("https", ListenerRedirect::Https)];

const PROTOCOLS: &[(&str, Protocol)] =
    &[("http", Protocol::Http), ("tcp", Protocol::Tcp), ("tls-passthrough", Protocol::TlsPassthrough)];
const MAX_ROUTES: usize = 1024;

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, request by request.
    Http,
    /// Whatever it is: whole connections are relayed.
    Tcp,
    /// TLS between clients and instances: whole connections are relayed, by the host that the client wants.
    TlsPassthrough,
}

impl Protocol {
    /// Whole connections are relayed, without a look at what is in them.
    pub fn relays(self) -> bool {
        match self {
            Self::Http => false,
            Self::Tcp | Self::TlsPassthrough => true,
        }
    }

    /// As it is written in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::TlsPassthrough => "tls-passthrough",
        }
    }
}

impl Listener {
    /// The services that it leads to, by index.
    pub fn services(&self) -> impl Iterator<Item = usize> {
        self.routes.iter().filter_map(|route| route.service).chain(self.service)
    }
}

/// Where what no route takes is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerRedirect {
    /// To the same host and target with https.
    Https,
}

pub(super) fn build(listener: Listener, table: &Table<'_>, reading: &mut Reading) -> Option<Listener> {
    match listener.protocol {
        Protocol::Http => require_somewhere_to_go(table, reading),
        Protocol::Tcp => judge_tcp(listener.service, table, reading),
        Protocol::TlsPassthrough => judge_passthrough(&listener, table, reading),
    }
    judge_tls(&listener, table, reading);
    route::refuse_unreachable(&listener.routes, table, reading);
    Some(listener)
}

fn require_somewhere_to_go(table: &Table<'_>, reading: &mut Reading) {
    if table.has("redirect") && table.has("service") {
        let hint = "remove one: `redirect` takes what no route takes, and so does `service`";
        let message = "[[listener]] has both a service and a redirect";
        reading.mistake(table.key_span("redirect"), message, "`service` is there too", hint);
    }
    if !table.has("service") && !table.has("route") && !table.has("redirect") {
        let hint = "add service = \"…\", or [[listener.route]] tables";
        let message = "[[listener]] has neither a service nor routes";
        reading.missing_keys(table, &["service", "route"], message, "nothing takes its requests", hint);
    }
}

fn judge_tls(listener: &Listener, table: &Table<'_>, reading: &mut Reading) {
    let http = listener.protocol == Protocol::Http;
    for key in ["tls", "client_ca", "redirect", "hsts"].into_iter().filter(|key| table.has(key)) {
        if !http {
            let message = format!("a {} listener cannot have `{key}`", listener.protocol.name());
            let hint = "use protocol = \"http\", or let the instances speak TLS themselves";
            reading.mistake(table.key_span(key), message, "this sees bytes only", hint);
        }
    }
    for key in ["client_ca", "hsts"].into_iter().filter(|key| table.has(key)) {
        if http && !table.has("tls") {
            let message = format!("`{key}` has no meaning without `tls`");
            let hint = "add tls = [{ certificate = \"site.pem\", key = \"site.key\" }]";
            reading.missing(table.key_span(key), message, "this listener speaks plain http", hint);
        }
    }
    if http && table.has("redirect") && table.has("tls") {
        let hint = "put it into the listener for plain http, at port 80";
        let message = "`redirect` has no meaning with `tls`";
        reading.mistake(table.key_span("redirect"), message, "who comes here uses https already", hint);
    }
}

fn judge_passthrough(listener: &Listener, table: &Table<'_>, reading: &mut Reading) {
    require_somewhere_to_go(table, reading);
    if listener.routes.iter().any(|route| !route::is_by_host_only(route)) {
        let message = "a route of a tls-passthrough listener has more than a host and a service";
        let hint = "use host = \"…\" and service = \"…\" only, or protocol = \"http\" with `tls`";
        reading.mistake(table.span_of("route"), message, "requests are encrypted here", hint);
    }
    for service in listener.services() {
        reading.services[service].tcp = true;
        reading.services[service].passthrough = true;
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
