//! What is known -> the routing table that the data plane gets.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use everup_core::balance::maglev;
use everup_core::config;
use everup_core::ids::Generation;
use everup_gateway::{Availability, InstanceTable, ListenerTable, ServiceTable, Snapshot};

use crate::controller::Slot;
use crate::service::{Instance, Service};

/// The table of this generation. Instances keep their places over generations.
pub(crate) fn snapshot(generation: Generation, slots: &[Slot], services: &mut [Service]) -> Snapshot {
    Snapshot {
        generation,
        listeners: slots
            .iter()
            .map(|Slot { listener, stay, .. }| ListenerTable { stay: *stay, ..ListenerTable::new(listener) })
            .collect(),
        services: services.iter_mut().map(service_table).collect(),
    }
}

fn service_table(service: &mut Service) -> ServiceTable {
    let mut table = ServiceTable {
        name: Arc::clone(&service.settings.name),
        settings: Arc::clone(&service.settings),
        shared: Arc::clone(&service.shared),
        connector: service.connector.clone(),
        leaves: service.leaves.is_some(),
        instances: service.instances.iter().map(instance_table).collect(),
        maglev: None,
    };
    if service.settings.balance == config::Balance::Maglev {
        let candidates = table.candidates();
        let kept = service.maglev.take().filter(|kept| kept.is_for(&candidates));
        // Filled here, once, and not by every thread that carries traffic.
        service.maglev = Some(kept.unwrap_or_else(|| Arc::new(maglev::Table::new(&candidates))));
        table.maglev.clone_from(&service.maglev);
    }
    table
}

fn instance_table(instance: &Instance) -> InstanceTable {
    let (address, state) = match instance.address() {
        Some(address) => (address, instance.availability()),
        // Nobody connects there: what is down gets nothing.
        None => (SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), Availability::Down),
    };
    InstanceTable {
        id: instance.id.clone(),
        address,
        weight: instance.weight(),
        state,
        backup: instance.backup,
        warms_since: instance.warms_since,
        shared: Arc::clone(&instance.shared),
    }
}
