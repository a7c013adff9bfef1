//! The metrics page: which families there are, and where their values come from. Written by hand because the page is small
//! and fixed.

mod exposition;

use std::sync::Arc;
use std::time::Duration;

use everup_admin::Format;
use everup_gateway::{
    Availability, DURATION_BOUNDS, Farewells, Measured, RouteName, RouteShared, SIZE_BOUNDS, TurnedAway,
    durations,
};

use self::exposition::{Kind, Page};
use crate::service::{Instance, Service};
use crate::status::VERSION;

/// Bounds, and how much of the measured makes a unit.
const SECONDS: (&[u64], f64) = (&DURATION_BOUNDS, 1e6);
const BYTES: (&[u64], f64) = (&SIZE_BOUNDS, 1.0);

/// What the page tells beside the services.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    pub(crate) connections: u64,
    pub(crate) turned_away: TurnedAway,
    pub(crate) generation: u64,
    pub(crate) worker_restarts: u32,
    pub(crate) keeper_gone: bool,
    pub(crate) dropped_lines: u64,
    /// Since 1970.
    pub(crate) wall: Duration,
}

/// The whole page.
pub(crate) fn page(
    format: Format,
    process: Process,
    routes: &[Arc<RouteShared>],
    services: &[Service],
) -> String {
    let mut page = Page::new(format);
    let Process { connections, turned_away, generation, worker_restarts, keeper_gone, dropped_lines, wall } =
        process;
    page.family("everup_build_info", Kind::Gauge, "The version that runs; always 1.");
    page.sample("everup_build_info", &[("version", VERSION)], 1);
    page.family("everup_connections", Kind::Gauge, "Client connections open now.");
    page.sample("everup_connections", &[], connections);
    let TurnedAway { proxy_header, per_client, tls } = turned_away;
    let name = "everup_connections_turned_away_total";
    page.family(name, Kind::Counter, "Client connections that were closed instead of served.");
    page.sample(name, &[("reason", "proxy-header")], proxy_header);
    page.sample(name, &[("reason", "per-client")], per_client);
    page.sample(name, &[("reason", "tls")], tls);
    page.family("everup_table_generation", Kind::Gauge, "Number of the routing table in force.");
    page.sample("everup_table_generation", &[], generation);
    page.family("everup_worker_restarts_total", Kind::Counter, "Workers that died and were replaced.");
    page.sample("everup_worker_restarts_total", &[], u64::from(worker_restarts));
    page.family("everup_keeper_gone", Kind::Gauge, "1 while the worker serves without a keeper.");
    page.sample("everup_keeper_gone", &[], u64::from(keeper_gone));
    let help = "Lines that the access log could not write in time, or at all.";
    page.family("everup_access_log_dropped_total", Kind::Counter, help);
    page.sample("everup_access_log_dropped_total", &[], dropped_lines);
    per_route(&mut page, wall, routes);
    per_service(&mut page, services);
    farewells(&mut page, services);
    statuses(&mut page, services);
    latencies(&mut page, wall, services);
    per_instance(&mut page, services);
    page.end()
}

/// Name, kind, help, and where the value is.
type Family<T> = (&'static str, Kind, &'static str, fn(&T) -> u64);

fn per_service(page: &mut Page, services: &[Service]) {
    let families: [Family<Service>; 7] = [
        ("everup_requests_total", Kind::Counter, "Requests (http) and connections (tcp) taken on.", |s| {
            s.shared.requests.total()
        }),
        (
            "everup_request_errors_total",
            Kind::Counter,
            "Requests that everup answered itself with 5xx, or cut.",
            |s| s.shared.errors.total(),
        ),
        ("everup_retries_total", Kind::Counter, "Attempts after the first.", |s| s.shared.retries.total()),
        ("everup_parked_requests", Kind::Gauge, "Requests that wait for an instance now.", |s| {
            s.shared.parked.total()
        }),
        (
            "everup_queued_requests",
            Kind::Gauge,
            "Requests that wait for an instance at its limit now.",
            |s| s.shared.queued.total(),
        ),
        ("everup_tunnels", Kind::Gauge, "Upgraded connections and TCP relays open now.", |s| {
            s.instances.iter().map(|instance| u64::from(instance.shared.tunnels())).sum()
        }),
        ("everup_websockets", Kind::Gauge, "Those of the tunnels that are WebSockets.", |s| {
            s.instances.iter().map(|instance| u64::from(instance.shared.websockets())).sum()
        }),
    ];
    for (name, kind, help, value) in families {
        page.family(name, kind, help);
        for service in services {
            page.sample(name, &[("service", &service.settings.name)], value(service));
        }
    }
}

fn farewells(page: &mut Page, services: &[Service]) {
    let name = "everup_websockets_ended_total";
    let help =
        "WebSockets that everup ended because their instance, or everup itself, left: with a Close, or cut.";
    page.family(name, Kind::Counter, help);
    for service in services {
        let sum = |of: fn(&Farewells) -> u64| service.shared.farewells.cells().map(of).sum::<u64>();
        let label = ("service", &*service.settings.name);
        page.sample(name, &[label, ("how", "closed")], sum(|one| one.closed.value()));
        page.sample(name, &[label, ("how", "cut")], sum(|one| one.cut.value()));
    }
}

fn per_route(page: &mut Page, wall: Duration, routes: &[Arc<RouteShared>]) {
    let name = "everup_route_requests_total";
    page.family(
        name,
        Kind::Counter,
        "Requests that a route took; connections, on a tls-passthrough listener.",
    );
    for route in routes {
        page.sample(name, &labels(route), route.requests());
    }
    let name = "everup_route_request_bytes";
    page.family(name, Kind::Histogram, "What was read of a request, its head included.");
    for route in routes {
        let measured = Measured { spread: route.request_bytes(), exemplars: Vec::new() };
        page.histogram(name, &labels(route), &measured, BYTES);
    }
    let name = "everup_route_response_bytes";
    page.family(name, Kind::Histogram, "What was sent of an answer, its head included.");
    for route in routes {
        let measured = Measured { spread: route.response_bytes(), exemplars: Vec::new() };
        page.histogram(name, &labels(route), &measured, BYTES);
    }
    let name = "everup_route_duration_seconds";
    page.family(name, Kind::Histogram, "From a request's head to the last byte of its answer.");
    // A redirect takes no time.
    for route in routes.iter().filter(|route| !route.name().service.is_empty()) {
        page.histogram(name, &labels(route), &route.durations(wall), SECONDS);
    }
}

/// An empty label is no label: a redirect brings nobody to a service.
fn labels(route: &RouteShared) -> [(&str, &str); 3] {
    let RouteName { listener, route, service } = route.name();
    [("listener", listener), ("route", route), ("service", service)]
}

fn statuses(page: &mut Page, services: &[Service]) {
    let name = "everup_responses_total";
    page.family(name, Kind::Counter, "Answers by the class of their status, also those of everup itself.");
    for service in services {
        for class in 1..=5 {
            let count = service.shared.statuses.cells().map(|cell| cell.value(class)).sum::<u64>();
            let label = format!("{class}xx");
            page.sample(name, &[("service", &service.settings.name), ("code_class", &label)], count);
        }
    }
}

fn latencies(page: &mut Page, wall: Duration, services: &[Service]) {
    let name = "everup_request_duration_seconds";
    page.family(name, Kind::Histogram, "From a request's head to the last byte of its answer.");
    for service in services {
        let measured = durations(&service.shared.durations, wall);
        page.histogram(name, &[("service", &service.settings.name)], &measured, SECONDS);
    }
}

fn per_instance(page: &mut Page, services: &[Service]) {
    let families: [Family<Instance>; 8] = [
        ("everup_instance_up", Kind::Gauge, "1 if the instance takes requests.", |i| {
            u64::from(i.availability() == Availability::Takes)
        }),
        (
            "everup_requests_in_flight",
            Kind::Gauge,
            "Requests, tunnels and relays that are with the instance now.",
            |i| i.left().in_flight,
        ),
        ("everup_instance_requests_total", Kind::Counter, "Attempts sent to the instance.", |i| {
            i.shared.requests.total()
        }),
        ("everup_instance_failures_total", Kind::Counter, "Attempts that ended without an answer.", |i| {
            i.shared.failures.total()
        }),
        ("everup_instance_errors_total", Kind::Counter, "Answers of the instance with 5xx.", |i| {
            i.shared.errors()
        }),
        (
            "everup_instance_ejected",
            Kind::Gauge,
            "1 if the instance is left out because it answers badly.",
            |i| u64::from(i.availability() == Availability::Ejected),
        ),
        ("everup_ejections_total", Kind::Counter, "How often the instance was ejected.", |i| {
            i.ejections_total
        }),
        (
            "everup_instance_restarts_total",
            Kind::Counter,
            "Processes that took the place of a dead one.",
            |i| i.process.as_ref().map_or(0, |process| u64::from(process.restarts)),
        ),
    ];
    for (name, kind, help, value) in families {
        page.family(name, kind, help);
        for service in services {
            for instance in &service.instances {
                let labels = [("service", &*service.settings.name), ("instance", &*instance.id.instance)];
                page.sample(name, &labels, value(instance));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::controller::tests::services;

    #[test]
    fn every_sample_stands_below_its_family_and_no_series_stands_twice() {
        let process = Process {
            connections: 3,
            turned_away: TurnedAway::default(),
            generation: 7,
            worker_restarts: 1,
            keeper_gone: false,
            dropped_lines: 2,
            wall: Duration::ZERO,
        };
        let page = page(Format::Text, process, &[], &services());
        let (mut family, mut families, mut series) = (String::new(), HashSet::new(), HashSet::new());
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                family = rest.split(' ').next().unwrap().to_owned();
                assert!(families.insert(family.clone()), "{family} is declared twice");
            } else if !line.starts_with('#') {
                let (name, value) = line.rsplit_once(' ').unwrap();
                assert!(name.starts_with(&family), "{line} stands below {family}");
                assert!(series.insert(name.to_owned()), "{name} stands twice");
                assert!(value.parse::<f64>().is_ok(), "{line}");
            }
        }
        assert!(page.contains("everup_table_generation 7\n"), "{page}");
        assert!(
            page.contains("everup_instance_up{service=\"shop\",instance=\"10.0.0.1:9001\"} 0\n"),
            "{page}"
        );
    }
}
