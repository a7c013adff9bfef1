//! The names that everyone uses for the same things. They do not check what they hold: that is the configuration's
//! work, at the border.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Which instance of which service, everywhere outside the data plane: `shop/shop-1`, `api/10.0.0.1:9001`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InstanceId {
    /// The service's name in the configuration.
    pub service: Arc<str>,
    /// The instance's name within it: `SERVICE-N` for one that everup runs, the address for a fixed one.
    pub instance: Arc<str>,
}

impl InstanceId {
    /// The instance called `instance` of the service called `service`.
    pub fn new(service: impl Into<Arc<str>>, instance: impl Into<Arc<str>>) -> Self {
        Self { service: service.into(), instance: instance.into() }
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.instance)
    }
}

/// The number of a routing table: it only grows, and a data-plane thread that acknowledged it uses no older one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Generation(pub u64);
