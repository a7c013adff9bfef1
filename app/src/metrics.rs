//! The metrics page: Prometheus' text format 0.0.4, written by hand because the page is small and fixed.

use std::fmt::Write;
use std::time::Duration;

use everup_gateway::Availability;

use crate::service::{Instance, Service};
use crate::status::VERSION;

/// Upper bounds of the latency histogram, in milliseconds: what an operator sets alerts on.
const BOUNDS_MS: [u64; 13] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000];

/// What the page tells beside the services.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    pub(crate) connections: u64,
    pub(crate) generation: u64,
    pub(crate) worker_restarts: u32,
}

/// The whole page.
pub(crate) fn page(process: Process, services: &[Service]) -> String {
    let mut page = Page::default();
    let Process { connections, generation, worker_restarts } = process;
    page.family("everup_build_info", "gauge", "The version that runs; always 1.");
    page.sample("everup_build_info", &[("version", VERSION)], 1);
    page.family("everup_connections", "gauge", "Client connections open now.");
    page.sample("everup_connections", &[], connections);
    page.family("everup_table_generation", "gauge", "Number of the routing table in force.");
    page.sample("everup_table_generation", &[], generation);
    page.family("everup_worker_restarts_total", "counter", "Workers that died and were replaced.");
    page.sample("everup_worker_restarts_total", &[], u64::from(worker_restarts));
    per_service(&mut page, services);
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
    let families: [Family<Instance>; 5] = [
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
        let process = Process { connections: 3, generation: 7, worker_restarts: 1 };
        let page = page(process, &services());
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
        let process = Process { connections: 0, generation: 0, worker_restarts: 0 };
        let page = page(process, &services);
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
