//! Where the load goes: an `http://` URL with a literal address, taken apart. No name is ever looked up: a drill aims
//! at an address that somebody wrote down.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::DrillError;

/// A URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Where to connect.
    pub(crate) address: SocketAddr,
    /// What the URL calls the host, for the `Host` header.
    pub(crate) host: String,
    /// Path and query.
    pub(crate) path: String,
}

impl Target {
    /// Takes `url` apart; refuses what is not plain HTTP to a loopback or private address.
    pub(crate) fn parse(url: &str) -> Result<Self, DrillError> {
        let wrong = |why| DrillError::Url { url: url.to_owned(), why };
        let rest = url.strip_prefix("http://").ok_or_else(|| wrong("it must begin with http://"))?;
        let (host, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        if path.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return Err(wrong("its path holds a space or a byte outside ASCII"));
        }
        let address =
            parse_address(host).ok_or_else(|| wrong("its host must be an IP address or localhost"))?;
        if !is_local(address.ip()) {
            return Err(DrillError::NotLocal(address.ip()));
        }
        Ok(Self { address, host: host.to_owned(), path: path.to_owned() })
    }
}

fn parse_address(host: &str) -> Option<SocketAddr> {
    let named = host.replacen("localhost", "127.0.0.1", usize::from(host.starts_with("localhost")));
    if let Ok(address) = named.parse() {
        return Some(address);
    }
    let bare = named.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(&named);
    bare.parse().ok().map(|ip| SocketAddr::new(ip, 80))
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

    #[test]
    fn a_url_is_taken_apart_into_address_host_and_path() {
        let target = Target::parse("http://127.0.0.1:8080/a?b=c").unwrap();
        assert_eq!(target.address, "127.0.0.1:8080".parse().unwrap());
        assert_eq!((target.host.as_str(), target.path.as_str()), ("127.0.0.1:8080", "/a?b=c"));
    }

    #[test]
    fn port_and_path_have_defaults() {
        let target = Target::parse("http://[::1]").unwrap();
        assert_eq!((target.address, target.path.as_str()), ("[::1]:80".parse().unwrap(), "/"));
        assert_eq!(Target::parse("http://localhost:90").unwrap().address, "127.0.0.1:90".parse().unwrap());
    }

    #[test]
    fn only_loopback_and_private_addresses_are_targets() {
        for local in ["10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.1.1", "[fd00::1]", "[fe80::1]"] {
            assert!(Target::parse(&format!("http://{local}/")).is_ok(), "{local}");
        }
        for far in ["1.1.1.1", "172.32.0.1", "[2001:db8::1]", "0.0.0.0", "[::ffff:8.8.8.8]"] {
            let refused = Target::parse(&format!("http://{far}/"));
            assert!(matches!(refused, Err(DrillError::NotLocal(_))), "{far}: {refused:?}");
        }
    }

    #[test]
    fn what_is_not_plain_http_to_an_address_is_refused() {
        for wrong in
            ["https://127.0.0.1/", "127.0.0.1:80", "http://example.com/", "http://127.0.0.1/a b", "http://"]
        {
            assert!(matches!(Target::parse(wrong), Err(DrillError::Url { .. })), "{wrong}");
        }
    }
}
