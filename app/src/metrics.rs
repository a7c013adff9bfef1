//! The metrics page: Prometheus' text format 0.0.4, written by hand because the page is small and fixed.

use std::fmt::Write;
use std::time::Duration;

use everup_core::config::{Listener, Protocol};
use everup_gateway::{Availability, TurnedAway};

use crate::service::{Instance, Service};
use crate::status::VERSION;

/// Upper bounds of the latency histogram, in milliseconds: what an operator sets alerts on.
const BOUNDS_MS: [u64; 13] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000];

/// What the page tells beside the services.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    pub(crate) connections: u64,
    pub(crate) turned_away: TurnedAway,
    pub(crate) generation: u64,
    pub(crate) worker_restarts: u32,
    pub(crate) dropped_lines: u64,
}

/// What the routes of every listener got; the last number of a listener is of its own service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Routes<'a> {
    pub(crate) listeners: &'a [Listener],
    pub(crate) requests: &'a [Vec<u64>],
}

/// The whole page.
pub(crate) fn page(process: Process, routes: Routes<'_>, services: &[Service]) -> String {
    let mut page = Page::default();
    let Process { connections, turned_away, generation, worker_restarts, dropped_lines } = process;
    page.family("everup_build_info", "gauge", "The version that runs; always 1.");
    page.sample("everup_build_info", &[("version", VERSION)], 1);
    page.family("everup_connections", "gauge", "Client connections open now.");
    page.sample("everup_connections", &[], connections);
    let TurnedAway { proxy_header, per_client } = turned_away;
    let name = "everup_connections_turned_away_total";
    page.family(name, "counter", "Client connections that were closed instead of served.");
    page.sample(name, &[("reason", "proxy-header")], proxy_header);
    page.sample(name, &[("reason", "per-client")], per_client);
    page.family("everup_table_generation", "gauge", "Number of the routing table in force.");
    page.sample("everup_table_generation", &[], generation);
    page.family("everup_worker_restarts_total", "counter", "Workers that died and were replaced.");
    page.sample("everup_worker_restarts_total", &[], u64::from(worker_restarts));
    let help = "Lines that the access log could not write in time, or at all.";
    page.family("everup_access_log_dropped_total", "counter", help);
    page.sample("everup_access_log_dropped_total", &[], dropped_lines);
    per_route(&mut page, routes, services);
    per_service(&mut page, services);
    statuses(&mut page, services);
    latencies(&mut page, services);
    per_instance(&mut page, services);
    page.text
}

/// Name, kind, help, and where the value is.
type Family<T> = (&'static str, &'static str, &'static str, fn(&T) -> u64);

fn per_service(page: &mut Page, services: &[Service]) {
    let families: [Family<Service>; 5] = [
        ("everup_requests_total", "counter", "Requests (http) and connections (tcp) taken on.", |s| {
            s.shared.requests.total()
        }),
        (
            "everup_request_errors_total",
            "counter",
            "Requests that everup answered itself with 5xx, or cut.",
            |s| s.shared.errors.total(),
        ),
        ("everup_retries_total", "counter", "Attempts after the first.", |s| s.shared.retries.total()),
        ("everup_parked_requests", "gauge", "Requests that wait for an instance now.", |s| {
            s.shared.parked.total()
        }),
        ("everup_queued_requests", "gauge", "Requests that wait for an instance at its limit now.", |s| {
            s.shared.queued.total()
        }),
    ];
    for (name, kind, help, value) in families {
        page.family(name, kind, help);
        for service in services {
            page.sample(name, &[("service", &service.settings.name)], value(service));
        }
    }
}

/// Listeners and routes are numbered as they stand in the file, from 1.
fn per_route(page: &mut Page, routes: Routes<'_>, services: &[Service]) {
    let name = "everup_route_requests_total";
    page.family(name, "counter", "Requests that a route of an http listener took.");
    for (number, (listener, requests)) in routes.listeners.iter().zip(routes.requests).enumerate() {
        let by_route =
            listener.routes.iter().enumerate().map(|(at, route)| ((at + 1).to_string(), route.service));
        let by_default = listener.service.map(|service| ("default".to_owned(), Some(service)));
        if listener.protocol != Protocol::Http {
            continue;
        }
        let counts = requests
            .iter()
            .take(listener.routes.len())
            .chain(requests.last().filter(|_| by_default.is_some()));
        for ((route, service), count) in by_route.chain(by_default).zip(counts) {
            let number = (number + 1).to_string();
            // A redirect brings nobody to a service; an empty label is no label.
            let service = service.map_or("", |service| &services[service].settings.name);
            page.sample(name, &[("listener", &number), ("route", &route), ("service", service)], *count);
        }
    }
}

fn statuses(page: &mut Page, services: &[Service]) {
    let name = "everup_responses_total";
    page.family(name, "counter", "Answers by the class of their status, also those of everup itself.");
    for service in services {
        for class in 1..=5 {
            let count = service.shared.statuses.cells().map(|cell| cell.value(class)).sum::<u64>();
            let label = format!("{class}xx");
            page.sample(name, &[("service", &service.settings.name), ("code_class", &label)], count);
        }
    }
}

fn latencies(page: &mut Page, services: &[Service]) {
    let name = "everup_request_duration_seconds";
    page.family(name, "histogram", "From a request's head to the last byte of its answer.");
    for service in services {
        let label = ("service", &*service.settings.name);
        let buckets = service.shared.latency.total();
        for ms in BOUNDS_MS {
            let bound = format!("{}", ms as f64 / 1000.0);
            let count = buckets.at_most(Duration::from_millis(ms));
            page.sample(&format!("{name}_bucket"), &[label, ("le", &bound)], count);
        }
        page.sample(&format!("{name}_bucket"), &[label, ("le", "+Inf")], buckets.count());
        page.sample(&format!("{name}_sum"), &[label], buckets.sum().as_secs_f64());
        page.sample(&format!("{name}_count"), &[label], buckets.count());
    }
}

fn per_instance(page: &mut Page, services: &[Service]) {
    let families: [Family<Instance>; 8] = [
        ("everup_instance_up", "gauge", "1 if the instance takes requests.", |i| {
            u64::from(i.availability() == Availability::Takes)
        }),
        (
            "everup_requests_in_flight",
            "gauge",
            "Requests, tunnels and relays that are with the instance now.",
            |i| u64::from(i.shared.in_flight()),
        ),
        ("everup_instance_requests_total", "counter", "Attempts sent to the instance.", |i| {
            i.shared.requests.total()
        }),
        ("everup_instance_failures_total", "counter", "Attempts that ended without an answer.", |i| {
            i.shared.failures.total()
        }),
        ("everup_instance_errors_total", "counter", "Answers of the instance with 5xx.", |i| {
            i.shared.errors()
        }),
        (
            "everup_instance_ejected",
            "gauge",
            "1 if the instance is left out because it answers badly.",
            |i| u64::from(i.availability() == Availability::Ejected),
        ),
        ("everup_ejections_total", "counter", "How often the instance was ejected.", |i| i.ejections_total),
        ("everup_instance_restarts_total", "counter", "Processes that took the place of a dead one.", |i| {
            i.process.as_ref().map_or(0, |process| u64::from(process.restarts))
        }),
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

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    /// Begins a family; its samples must follow at once.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Into<Number>) {
        self.text.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let opens = if index == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{opens}{label}=\"{}\"", escaped(text));
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = match value.into() {
            Number::Whole(value) => writeln!(self.text, " {value}"),
            Number::Broken(value) => writeln!(self.text, " {value}"),
        };
    }
}

enum Number {
    Whole(u64),
    Broken(f64),
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Self::Broken(value)
    }
}

/// The format's rule for label values: backslash, quote and line feed are escaped, everything else stands as it is.
fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::controller::tests::services;

    #[test]
    fn label_values_are_escaped() {
        let mut page = Page::default();
        page.sample("x", &[("a", "back\\slash \"quote\"\nline"), ("b", "é")], 1);
        assert_eq!(page.text, "x{a=\"back\\\\slash \\\"quote\\\"\\nline\",b=\"é\"} 1\n");
    }

    #[test]
    fn every_sample_stands_below_its_family_and_no_series_stands_twice() {
        let process = Process {
            connections: 3,
            turned_away: TurnedAway::default(),
            generation: 7,
            worker_restarts: 1,
            dropped_lines: 2,
        };
        let listeners = crate::controller::tests::listeners();
        let routes = Routes { listeners: &listeners, requests: &[vec![5]] };
        let page = page(process, routes, &services());
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

    #[test]
    fn the_histogram_counts_up_to_all() {
        let services = services();
        for ms in [0, 3, 20_000] {
            services[0].shared.latency.cell(0).record(Duration::from_millis(ms));
        }
        let process = Process {
            connections: 0,
            turned_away: TurnedAway::default(),
            generation: 0,
            worker_restarts: 0,
            dropped_lines: 0,
        };
        let page = page(process, Routes { listeners: &[], requests: &[] }, &services);
        let bucket = |le: &str, n| {
            let line =
                format!("everup_request_duration_seconds_bucket{{service=\"shop\",le=\"{le}\"}} {n}\n");
            assert!(page.contains(&line), "{line} is not in\n{page}");
        };
        bucket("0.001", 1);
        bucket("0.005", 2);
        bucket("10", 2);
        bucket("+Inf", 3);
    }
}
