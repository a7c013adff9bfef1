//! What can only be judged when the whole file has been read: addresses used twice, services that nobody uses.

use std::net::SocketAddr;

use super::reading::{Claim, Reading};

/// Tells the mistakes that lie between sections. `listeners_known`: the file has listeners that could be read.
pub(super) fn judge(reading: &mut Reading, listeners_known: bool) {
    let listeners_known = listeners_known
        && !reading.slips.iter().any(|(_, key)| matches!(*key, "listener" | "route" | "service"));
    refuse_shared_addresses(reading);
    refuse_loops(reading);
    if listeners_known {
        refuse_unused_services(reading);
    }
    refuse_requests_over_tcp(reading);
    refuse_tls_within_tls(reading);
}

fn refuse_shared_addresses(reading: &mut Reading) {
    let claims = std::mem::take(&mut reading.claims);
    for (at, claim) in claims.iter().enumerate() {
        if let Some(earlier) = claims[..at].iter().find(|earlier| collide(earlier.address, claim.address)) {
            let label = match earlier.address == claim.address {
                true => format!("{} is at it already", earlier.whose),
                false => format!("{} is at {} already", earlier.whose, earlier.address),
            };
            let message = format!("address {} is used twice", claim.address);
            let hint = "use another port, or leave one of them out";
            reading.mistake(claim.span.clone(), message, label, hint);
        }
    }
    reading.claims = claims;
}

/// Both cannot be listened at. The addresses of IPv4 and of IPv6 are apart: `[::]` takes IPv6 only (`IPV6_V6ONLY`), so that
/// both families are written, `bind = ["0.0.0.0:80", "[::]:80"]`.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let unspecified = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.port() != 0 && (a.ip() == b.ip() || unspecified && a.is_ipv4() == b.is_ipv4())
}

fn refuse_loops(reading: &mut Reading) {
    let targets = std::mem::take(&mut reading.targets);
    for target in &targets {
        let reaches = |claim: &&Claim| {
            target.address == claim.address
                || target.address.ip().is_loopback() && collide(target.address, claim.address)
        };
        if let Some(claim) = reading.claims.iter().find(reaches) {
            let message = format!("instance {} is everup itself", target.address);
            let label = format!("{} is at {}", claim.whose, claim.address);
            reading.mistake(target.span.clone(), message, label, "write the address of the instance");
        }
    }
}

fn refuse_unused_services(reading: &mut Reading) {
    let unused: Vec<_> = reading.services.iter().filter(|service| !service.used).collect();
    let told: Vec<_> = unused.iter().map(|service| (service.name.clone(), service.span.clone())).collect();
    for (name, span) in told {
        let hint = format!("add service = \"{name}\" to a [[listener]] or a route, or remove the service");
        reading.missing(span, format!("service {name} is never used"), "no listener or route names it", hint);
    }
}

fn refuse_requests_over_tcp(reading: &mut Reading) {
    let over_tcp = reading.services.iter().filter(|service| service.tcp);
    let told: Vec<_> =
        over_tcp.filter_map(|service| Some((service.name.clone(), service.http_only.clone()?))).collect();
    for (name, span) in told {
        let message = format!(
            "service {name} is used by a tcp or tls-passthrough listener, where there are no cookies and no header fields"
        );
        reading.mistake(span, message, "needs http", "use by = \"ip\"");
    }
}

fn refuse_tls_within_tls(reading: &mut Reading) {
    let passed_through = reading.services.iter().filter(|service| service.passthrough);
    let told: Vec<_> =
        passed_through.filter_map(|service| Some((service.name.clone(), service.tls.clone()?))).collect();
    for (name, span) in told {
        let message = format!("service {name} has `tls` and is used by a tls-passthrough listener");
        let hint = "leave `tls` out, or give the listener certificates and protocol = \"http\"";
        reading.mistake(span, message, "clients bring TLS of their own", hint);
    }
}
