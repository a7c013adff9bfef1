//! Where the load goes: a URL, taken apart and resolved once. Load is a weapon, so it goes to this machine and to private
//! networks only, unless whoever asks says that the other end is theirs: every address of a name must be such a one, and
//! the one that was looked at is the one that is connected to.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _};

use crate::DrillError;

/// How far a drill may reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// Loopback, private and link-local addresses (RFC 1918, 3927, 4193, 4291).
    #[default]
    Local,
    /// Any address: whoever asks has said that it is theirs.
    Anywhere,
}

/// A URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Where to connect.
    pub(crate) address: SocketAddr,
    /// For https: the name whose certificate is expected.
    pub(crate) secure: Option<String>,
    /// What the URL calls the host, for the `Host` header.
    pub(crate) host: String,
    /// Path and query.
    pub(crate) path: String,
}

impl Target {
    /// Takes `url` apart and looks its name up; refuses what is out of reach.
    pub(crate) fn parse(url: &str, reach: Reach) -> Result<Self, DrillError> {
        let wrong = |why| DrillError::Url { url: url.to_owned(), why };
        let (secure, rest) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (None, Some(rest)) => (true, rest),
            (None, None) => return Err(wrong("it must begin with http:// or https://")),
        };
        let (host, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        if path.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return Err(wrong("its path holds a space or a byte outside ASCII"));
        }
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]%".contains(&byte);
        if host.is_empty() || !host.bytes().all(is_plain) {
            return Err(wrong(
                "its host must be a name or an IP address, with a port if that is another one",
            ));
        }
        let (name, port) = split(host, if secure { 443 } else { 80 })
            .ok_or_else(|| wrong("its port must be a number from 1 to 65535"))?;
        let address = reachable(url, name, port, reach)?;
        Ok(Self {
            address,
            secure: secure.then(|| name.to_owned()),
            host: host.to_owned(),
            path: path.to_owned(),
        })
    }

    /// The same place with another path.
    pub(crate) fn with_path(&self, path: &str) -> Result<Self, DrillError> {
        let is_path = path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic());
        match is_path {
            true => Ok(Self { path: path.to_owned(), ..self.clone() }),
            false => {
                Err(DrillError::Url { url: path.to_owned(), why: "a path begins with / and holds no space" })
            }
        }
    }
}

/// Name (without the brackets of an IPv6 address) and port.
fn split(host: &str, default: u16) -> Option<(&str, u16)> {
    let (name, port) = match host.rfind(']') {
        Some(end) => (host.get(1..end).filter(|_| host.starts_with('['))?, host.get(end + 1..)?),
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    match port.strip_prefix(':') {
        Some(port) => Some((name, port.parse().ok().filter(|port| *port > 0)?)),
        None if port.is_empty() => Some((name, default)),
        None => None,
    }
}

/// The address to connect to, after all that the name has were looked at.
fn reachable(url: &str, name: &str, port: u16, reach: Reach) -> Result<SocketAddr, DrillError> {
    let resolved = (name, port).to_socket_addrs();
    let resolved = resolved.map_err(|source| DrillError::Unknown { name: name.to_owned(), source })?;
    let addresses: Vec<SocketAddr> = resolved.collect();
    let far = addresses.iter().find(|address| !is_local(address.ip()));
    match (reach, far, addresses.first()) {
        (Reach::Local, Some(far), _) => Err(DrillError::NotLocal(far.ip())),
        (_, _, Some(first)) => Ok(*first),
        (_, _, None) => Err(DrillError::Url { url: url.to_owned(), why: "its host has no address" }),
    }
}

/// True for loopback, private, link-local and unique-local addresses.
fn is_local(ip: IpAddr) -> bool {
    let v4 = |ip: Ipv4Addr| ip.is_loopback() || ip.is_private() || ip.is_link_local();
    match ip {
        IpAddr::V4(ip) => v4(ip),
        IpAddr::V6(ip) => {
            ip.is_loopback()
                || ip.is_unique_local()
                || ip.is_unicast_link_local()
                || ip.to_ipv4_mapped().is_some_and(v4)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Target, DrillError> {
        Target::parse(url, Reach::Local)
    }

    #[test]
    fn a_url_is_taken_apart_into_address_host_and_path() {
        let target = parse("http://127.0.0.1:8080/a?b=c").unwrap();
        assert_eq!(target.address, "127.0.0.1:8080".parse().unwrap());
        assert_eq!((target.host.as_str(), target.path.as_str()), ("127.0.0.1:8080", "/a?b=c"));
        assert_eq!(target.secure, None);
        assert_eq!(parse("https://[::1]:8443/").unwrap().secure.as_deref(), Some("::1"));
    }

    #[test]
    fn port_and_path_have_defaults() {
        let target = parse("http://[::1]").unwrap();
        assert_eq!((target.address, target.path.as_str()), ("[::1]:80".parse().unwrap(), "/"));
        assert_eq!(parse("https://127.0.0.1").unwrap().address.port(), 443);
    }

    #[test]
    fn a_name_is_looked_up() {
        let target = parse("http://localhost:90").unwrap();
        assert!(target.address.ip().is_loopback() && target.address.port() == 90, "{target:?}");
        assert_eq!(target.host, "localhost:90");
        assert!(matches!(parse("http://nowhere.invalid/"), Err(DrillError::Unknown { .. })));
    }

    #[test]
    fn only_loopback_and_private_addresses_are_targets_unless_they_are_the_callers_own() {
        for local in ["10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.1.1", "[fd00::1]", "[fe80::1]"] {
            assert!(parse(&format!("http://{local}/")).is_ok(), "{local}");
        }
        for far in ["1.1.1.1", "172.32.0.1", "[2001:db8::1]", "0.0.0.0", "[::ffff:8.8.8.8]"] {
            let url = format!("http://{far}/");
            assert!(matches!(parse(&url), Err(DrillError::NotLocal(_))), "{far}");
            assert!(Target::parse(&url, Reach::Anywhere).is_ok(), "{far}");
        }
    }

    #[test]
    fn what_is_no_url_of_a_web_server_is_refused() {
        for wrong in [
            "ftp://127.0.0.1/",
            "127.0.0.1:80",
            "http://127.0.0.1/a b",
            "http://",
            "http://127.0.0.1:0/",
            "http://127.0.0.1:http/",
            "http://user@127.0.0.1/",
            "http://[::1/",
            "http://[::1]80/",
        ] {
            assert!(matches!(parse(wrong), Err(DrillError::Url { .. })), "{wrong}");
        }
    }

    #[test]
    fn another_path_stays_at_the_same_place() {
        let target = parse("http://127.0.0.1:8080/a").unwrap();
        assert_eq!(target.with_path("/b").unwrap().path, "/b");
        assert!(target.with_path("b").is_err() && target.with_path("/ b").is_err());
    }
}
