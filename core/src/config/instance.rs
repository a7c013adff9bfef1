//! An element of `instances`: where a fixed instance is, and its share.

use std::net::SocketAddr;

use toml::de::DeValue;

use super::kind::{flag, integer, parse_address, text};
use super::reading::{Path, Reading, Refusal, Target, Toml};
use super::reference::SectionDoc;
use super::section::{Inner, Kind, Place, Settings, plain, section, table};

section! {
    /// An instance that something else starts. Written as its address alone, `"10.0.0.1:8080"`, or as a table with a weight,
    /// `{ address = "10.0.0.1:8080", weight = 3 }`.
    pub struct FixedInstance {
        /// Where it is.
        pub address: SocketAddr = target(), default required,
            because "names are not looked up: an answer that changes would change who gets requests, unseen";
        /// Its share beside the others', for the weighted algorithms, `ip-hash`, `maglev` and `p2c-ewma`.
        pub weight: u32 = integer(1..=256), default 1,
            because "a share below 1/256 is better had by leaving an instance out";
        /// It gets requests only while no other instance takes any (one at its `max_connections` takes requests).
        pub backup: bool = flag(), default false,
            because "an instance that is as good as the others is worth more in use";
    }
}

fn target() -> super::kind::Text<SocketAddr> {
    text("address", "IP:port, an IPv6 address in brackets; the port is not 0", |text| {
        let address = parse_address(text)?;
        if address.port() == 0 {
            return Err(Refusal::new("nobody listens at port 0", "write the port of the instance"));
        }
        if address.ip().is_unspecified() {
            let local = if address.is_ipv4() { "127.0.0.1" } else { "[::1]" };
            let hint = format!("write \"{local}:{}\" for this host", address.port());
            return Err(Refusal::new("stands for any address", hint));
        }
        Ok(address)
    })
}

/// An address, or a table.
pub(super) struct Instance(Inner<FixedInstance, FixedInstance>);

/// See the section's help.
pub(super) fn instance() -> Instance {
    Instance(table(plain))
}

impl Kind for Instance {
    type Value = FixedInstance;
    fn read(&self, value: &Toml<'_>, place: Place<'_>, reading: &mut Reading) -> Option<FixedInstance> {
        let instance = match value.get_ref() {
            DeValue::Table(_) => self.0.read(value, place, reading)?,
            _ => FixedInstance { address: target().read(value, place, reading)?, weight: 1, backup: false },
        };
        let FixedInstance { address, weight, backup: _ } = instance;
        let service = place.path.service().unwrap_or_default().to_owned();
        reading.targets.push(Target { service, address, weight, span: value.span() });
        Some(instance)
    }
    fn name(&self) -> String {
        "address or table".to_owned()
    }
    fn range(&self) -> String {
        target().range()
    }
    fn describe(&self, parent: &Path, key: &str, sections: &mut Vec<SectionDoc>) {
        <FixedInstance as Settings>::describe(&parent.inside(key, true), sections);
    }
}
