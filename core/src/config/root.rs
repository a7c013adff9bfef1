//! The file itself: which sections it has.

use super::access_log::AccessLog;
use super::kind::optional;
use super::limits::Limits;
use super::listener::{self, Listener};
use super::node::Node;
use super::section::{named_tables, plain, section, table, tables};
use super::service::{self, Service};
use super::trace::Trace;

section! {
    /// `everup.toml` is one TOML file. Durations are written "500ms", "10s", "5m", "1h"; sizes "16KiB", "10MiB", "1GiB";
    /// shares "10%". Whatever is not written has the default given here.
    pub(super) struct Written {
        /// This host: where everup keeps its state and where it can be reached.
        pub(super) node: Node = table::<Node, _>(plain), default {}, because "every key has a default";
        /// Where requests are written down.
        pub(super) access_log: AccessLog = table::<AccessLog, _>(plain), default {}, because "every key has a default";
        /// Distributed tracing.
        pub(super) trace: Trace = table::<Trace, _>(plain), default {}, because "every key has a default";
        /// The limits of the gateway.
        pub(super) limits: Limits = table::<Limits, _>(plain), default {}, because "every key has a default";
        /// What to listen at, and which service gets what comes in.
        pub(super) listener: Vec<Listener> = tables(MAX_LISTENERS, listener::build), default required,
            because "every listener takes a socket for each thread";
        /// The services: what instances they have and how requests are sent to them.
        pub(super) service: Option<Vec<Option<Service>>> = optional(named_tables(MAX_SERVICES, service::build)),
            default unset "none", because "a listener needs one to send requests to; each is probed and counted on its own";
    }
    later { vip, peer }
}

const MAX_LISTENERS: usize = 256;
const MAX_SERVICES: usize = 1024;
