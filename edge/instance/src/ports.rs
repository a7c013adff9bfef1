//! Ports for instances: from 20000 to 29999, outside the ephemeral range, because a connect to a free ephemeral port
//! can connect to itself.
//!
//! A port that was given back is used again as late as possible, so that nobody who still holds the old address of an
//! instance reaches another one. The kernel is asked whether a port is free; a program that takes it in the moment
//! before the instance does makes that start fail, and the next one gets another port.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};

const FIRST: u16 = 20_000;
const COUNT: u16 = 10_000;

/// Which ports are in use by instances.
#[derive(Debug)]
pub(crate) struct Ports {
    /// Offset from [`FIRST`] of the next candidate.
    next: u16,
    in_use: BTreeSet<u16>,
}

impl Ports {
    /// `seed` chooses where to begin, so that two everups on one host rarely try the same ports.
    pub(crate) fn new(seed: u64) -> Self {
        let next = u16::try_from(seed % u64::from(COUNT)).expect("the remainder is below COUNT");
        Self { next, in_use: BTreeSet::new() }
    }

    /// A port that is free now; None if there is none.
    pub(crate) fn take(&mut self) -> Option<u16> {
        for _ in 0..COUNT {
            let port = FIRST + self.next;
            self.next = (self.next + 1) % COUNT;
            if !self.in_use.contains(&port) && is_free(port) {
                self.in_use.insert(port);
                return Some(port);
            }
        }
        None
    }

    /// This port is in use by an adopted instance.
    pub(crate) fn reserve(&mut self, port: u16) {
        self.in_use.insert(port);
    }

    pub(crate) fn give_back(&mut self, port: u16) {
        self.in_use.remove(&port);
    }
}

/// Nothing is bound to the port on any address. Bound without SO_REUSEADDR, because the instance may not set it
/// either: remains of old connections count as taken.
fn is_free(port: u16) -> bool {
    match can_bind(AddressFamily::INET6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))) {
        // No IPv6 on this host.
        Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => {
            can_bind(AddressFamily::INET, SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).is_ok()
        }
        // An IPv6 socket may be IPv6-only by the host's setting, so both are asked.
        Ok(()) => can_bind(AddressFamily::INET, SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).is_ok(),
        Err(_) => false,
    }
}

fn can_bind(family: AddressFamily, address: SocketAddr) -> rustix::io::Result<()> {
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &address)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn ports_stay_in_their_range_whatever_the_seed() {
        for seed in [0, 9_999, 10_000, u64::MAX] {
            let port = Ports::new(seed).take().unwrap();
            assert!((20_000..30_000).contains(&port), "{port}");
        }
    }

    #[test]
    fn no_port_is_given_twice_and_a_returned_one_is_used_late() {
        let mut ports = Ports::new(9_990);
        let given: Vec<_> = (0..50).map(|_| ports.take().unwrap()).collect();
        assert_eq!(given.iter().collect::<BTreeSet<_>>().len(), 50);
        ports.give_back(given[0]);
        assert!(!given.contains(&ports.take().unwrap()));
    }

    #[test]
    fn a_port_that_another_program_uses_is_skipped() {
        for address in ["127.0.0.1", "0.0.0.0", "127.0.0.7"] {
            let mut ports = Ports::new(4_000);
            let port = ports.take().unwrap();
            let _other = TcpListener::bind((address, port)).unwrap();
            let mut ports = Ports::new(u64::from(port - FIRST));
            assert_ne!(ports.take().unwrap(), port, "{address}");
        }
    }

    #[test]
    fn an_adopted_port_is_not_given_away() {
        let mut ports = Ports::new(5_000);
        ports.reserve(25_000);
        assert_ne!(ports.take().unwrap(), 25_000);
    }
}
