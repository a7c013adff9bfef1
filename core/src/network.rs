//! A range of addresses (CIDR, RFC 4632 and RFC 4291 section 2.3): who is trusted, who is counted together. Strict: what
//! could be read in two ways is refused. It does not ask which networks this host is in.

use std::fmt::{Display, Formatter};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A network, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    /// At most 32 for IPv4, 128 for IPv6.
    prefix: u8,
}

/// Why a text is no network. All are the operator's mistakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Neither an IPv4 nor an IPv6 address stands before the slash.
    #[error("not an IP address")]
    Address,
    /// IPv4 written as IPv6 (`::ffff:10.0.0.1`): connections are compared as what they are.
    #[error("an IPv4 address as IPv6")]
    Mapped,
    /// No number of bits, or more than the address has.
    #[error("the number of bits must be 0 to {most}")]
    Prefix {
        /// 32 or 128.
        most: u8,
    },
    /// Bits are set that do not belong to the network.
    #[error("the address is not the first one of its network, {network}")]
    HostBits {
        /// What was most likely meant.
        network: Network,
    },
}

impl Network {
    /// Whether `address` is in it. IPv4 in IPv6 form (`::ffff:10.0.0.1`) counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && first(address, self.prefix) == self.address
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Address)?;
        if address.to_canonical() != address {
            return Err(NetworkError::Mapped);
        }
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match bits {
            None => most,
            Some(bits) => number(bits).filter(|bits| *bits <= most).ok_or(NetworkError::Prefix { most })?,
        };
        let network = Self { address: first(address, prefix), prefix };
        match network.address == address {
            true => Ok(network),
            false => Err(NetworkError::HostBits { network }),
        }
    }
}

impl Display for Network {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Digits without a sign or a leading zero.
fn number(text: &str) -> Option<u8> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

/// The first address of the network of this one.
fn first(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_holds_its_addresses_and_no_others() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::10.1.2.3"),
            ("0.0.0.0/0", "203.0.113.7", "2001:db8::1"),
            ("::/0", "2001:db8::1", "203.0.113.7"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("192.0.2.6/31", "192.0.2.7", "192.0.2.8"),
            ("2001:db8::/32", "2001:db8:ffff::", "2001:db9::"),
            ("2001:db8::7", "2001:db8::7", "2001:db8::8"),
        ] {
            let network = network(text);
            assert!(network.contains(inside.parse().unwrap()), "{inside} in {text}");
            assert!(!network.contains(outside.parse().unwrap()), "{outside} in {text}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        use NetworkError::{Address, Mapped, Prefix};
        for (text, error) in [
            ("", Address),
            ("localhost", Address),
            ("10.0.0/8", Address),
            ("010.0.0.0/8", Address),
            ("10.0.0.0:80", Address),
            (" 10.0.0.0/8", Address),
            ("[::1]", Address),
            ("::ffff:10.0.0.0/104", Mapped),
            ("10.0.0.0/", Prefix { most: 32 }),
            ("10.0.0.0/33", Prefix { most: 32 }),
            ("10.0.0.0/+8", Prefix { most: 32 }),
            ("10.0.0.0/08", Prefix { most: 32 }),
            ("10.0.0.0/8/8", Prefix { most: 32 }),
            ("10.0.0.0/255.0.0.0", Prefix { most: 32 }),
            ("::/129", Prefix { most: 128 }),
        ] {
            assert_eq!(text.parse::<Network>(), Err(error), "{text}");
        }
        let error = "10.0.0.1/8".parse::<Network>().unwrap_err();
        assert_eq!(error, NetworkError::HostBits { network: network("10.0.0.0/8") });
    }

    #[test]
    fn a_network_is_written_as_it_is_read() {
        for text in ["10.0.0.0/8", "192.0.2.7/32", "0.0.0.0/0", "2001:db8::/32", "::1/128"] {
            assert_eq!(network(text).to_string(), text);
        }
    }
}
