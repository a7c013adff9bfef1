//! Free ports for programs that must be told one before they start.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context, Result};

/// `N` different addresses on the loopback at which nobody listened a moment ago. Another program may take one
/// before ours does: then ours says so and ends.
pub(crate) fn free<const N: usize>() -> Result<[SocketAddr; N]> {
    let mut held = Vec::new();
    for _ in 0..N {
        held.push(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?);
    }
    let addresses: Result<Vec<_>, _> = held.iter().map(TcpListener::local_addr).collect();
    addresses?.try_into().ok().context("one address per listener")
}
