//! Strings with a form of their own: addresses, paths, words.

use std::fmt::Display;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use super::{refuse, with_article};
use crate::config::reading::{Claim, Reading, Refusal, Toml};
use crate::config::section::{Kind, Place, wrong_type};
use crate::network::{Network, NetworkError};

/// A string with a form of its own.
pub(in crate::config) struct Text<T> {
    name: &'static str,
    range: &'static str,
    parse: fn(&str) -> Result<T, Refusal>,
}

/// A string that `parse` reads.
pub(in crate::config) fn text<T>(
    name: &'static str,
    range: &'static str,
    parse: fn(&str) -> Result<T, Refusal>,
) -> Text<T> {
    Text { name, range, parse }
}

impl<T> Kind for Text<T> {
    type Value = T;
    fn read(&self, value: &Toml<'_>, place: Place<'_>, reading: &mut Reading) -> Option<T> {
        let Some(text) = value.get_ref().as_str() else {
            wrong_type(value, place, "a string", &format!("write it in quotes: {}", self.range), reading);
            return None;
        };
        match (self.parse)(text) {
            Ok(read) => Some(read),
            Err(refusal) => {
                refuse(value, place, &format!("is not {}", with_article(self.name)), refusal, reading);
                None
            }
        }
    }
    fn name(&self) -> String {
        self.name.to_owned()
    }
    fn range(&self) -> String {
        self.range.to_owned()
    }
}

/// A path of the file system.
pub(in crate::config) fn path() -> Text<PathBuf> {
    text("path", "relative to the directory of the file, or absolute", |text| match text {
        "" => Err(Refusal::new("empty", "write a path, or leave it out")),
        _ if text.contains('\0') => Err(Refusal::new("has a NUL", "no path can have one")),
        _ => Ok(PathBuf::from(text)),
    })
}

/// `IP:port`.
fn address() -> Text<SocketAddr> {
    text("address", "IP:port, an IPv6 address in brackets", parse_address)
}

/// Reads `IP:port`; tells what is wrong with anything else that looks like an address.
pub(in crate::config) fn parse_address(text: &str) -> Result<SocketAddr, Refusal> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        let plain = SocketAddr::new(address.ip().to_canonical(), address.port());
        return match plain == address || !plain.is_ipv4() {
            true => Ok(address),
            false => Err(Refusal::new("an IPv4 address as IPv6", format!("write \"{plain}\""))),
        };
    }
    if let Some(rest) = text.split_once("://").map(|(_, rest)| rest) {
        return Err(Refusal::new(
            "a URL",
            format!("write IP:port only, like \"{}\"", rest.trim_end_matches('/')),
        ));
    }
    if let Some((ip, port)) = text.rsplit_once(':')
        && ip.parse::<Ipv6Addr>().is_ok()
        && port.len() >= 2
        && port.parse::<u16>().is_ok()
    {
        return Err(Refusal::new("IPv6 needs brackets", format!("write \"[{ip}]:{port}\"")));
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Err(Refusal::new("has no port", format!("write \"{}\"", SocketAddr::new(ip, 8080))));
    }
    match text.rsplit_once(':') {
        Some(("" | "*", port)) => {
            Err(Refusal::new("has no IP", format!("write \"0.0.0.0:{port}\" for all of IPv4")))
        }
        Some(("localhost", port)) => Err(Refusal::new("a host name", format!("write \"127.0.0.1:{port}\""))),
        Some((host, port))
            if port.parse::<u16>().is_ok() && host.contains(|c: char| c.is_ascii_alphabetic()) =>
        {
            Err(Refusal::new(
                "a host name",
                format!("write the IP address that `{host}` stands for: IP:port"),
            ))
        }
        Some((_, port)) if port.parse::<u16>().is_err() => {
            Err(Refusal::new("no such port", "ports are 0 to 65535: IP:port"))
        }
        _ => Err(Refusal::new("not IP:port", "write it like \"10.0.0.1:8080\" or \"[::1]:8080\"")),
    }
}

/// A network, or a single address.
pub(in crate::config) fn network() -> Text<Network> {
    text("network", "an IP address, or NETWORK/BITS like \"10.0.0.0/8\"", |text| {
        let error = match text.parse() {
            Ok(network) => return Ok(network),
            Err(error) => error,
        };
        let hint = match &error {
            NetworkError::HostBits { network } => format!("write \"{network}\""),
            NetworkError::Mapped => "write it as IPv4".to_owned(),
            NetworkError::Prefix { most } => format!("write it like \"NETWORK/8\"; at most /{most}"),
            NetworkError::Address => "write it like \"10.0.0.0/8\" or \"2001:db8::1\"".to_owned(),
        };
        Err(Refusal::new(error.to_string(), hint))
    })
}

/// An address of this host.
pub(in crate::config) struct Own {
    whose: &'static str,
}

/// An address that `whose` listens at: nobody else may.
pub(in crate::config) fn own_address(whose: &'static str) -> Own {
    Own { whose }
}

impl Kind for Own {
    type Value = SocketAddr;
    fn read(&self, value: &Toml<'_>, place: Place<'_>, reading: &mut Reading) -> Option<SocketAddr> {
        let address = address().read(value, place, reading)?;
        reading.claims.push(Claim { address, span: value.span(), whose: self.whose });
        Some(address)
    }
    fn name(&self) -> String {
        address().name()
    }
    fn range(&self) -> String {
        address().range()
    }
}

/// `text`, if it consists of `allowed` characters and has 1 to `most` of them.
pub(in crate::config) fn word(
    text: &str,
    most: usize,
    allowed: fn(char) -> bool,
    alphabet: impl Display,
) -> Result<String, Refusal> {
    if text.is_empty() {
        return Err(Refusal::new("empty", format!("1 to {most} of {alphabet}")));
    }
    if let Some(other) = text.chars().find(|character| !allowed(*character)) {
        return Err(Refusal::new(format!("{other:?} is not allowed"), format!("only {alphabet}")));
    }
    if text.chars().count() > most {
        return Err(Refusal::new("too long", format!("at most {most} characters")));
    }
    Ok(text.to_owned())
}
