//! A configuration as a file. Everything is destructured in full, so that a new setting must be written here too.

use std::fmt::{Display, Write as _};
use std::path::Path;
use std::time::Duration;

use crate::config::units::TIME;
use crate::config::*;

pub(super) fn written(config: &Config) -> String {
    let Config { node, limits, listeners, services } = config;
    let mut text = String::new();
    write_node(&mut text, node);
    write_limits(&mut text, limits);
    listeners.iter().for_each(|listener| write_listener(&mut text, listener, services));
    services.iter().for_each(|service| write_service(&mut text, service));
    text
}

fn set(text: &mut String, key: &str, value: impl Display) {
    writeln!(text, "{key} = {value}").unwrap();
}

fn set_if(text: &mut String, key: &str, value: Option<impl Display>) {
    if let Some(value) = value {
        set(text, key, value);
    }
}

fn quoted(value: impl Display) -> String {
    let text = value.to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{text}\"")
}

fn path(path: &Path) -> String {
    quoted(path.display())
}

fn list(values: impl IntoIterator<Item = impl Display>) -> String {
    format!("[{}]", values.into_iter().map(quoted).collect::<Vec<_>>().join(", "))
}

/// In the largest unit that divides it, as people write it.
fn time(time: Duration) -> String {
    quoted(TIME.text(u64::try_from(time.as_millis()).unwrap()))
}

fn write_node(text: &mut String, node: &Node) {
    let Node { name, state, admin, metrics, threads, user } = node;
    text.push_str("[node]\n");
    set_if(text, "name", name.as_ref().map(quoted));
    set_if(text, "state", state.as_deref().map(path));
    set_if(text, "admin", admin.as_deref().map(path));
    set_if(text, "metrics", metrics.map(quoted));
    set_if(text, "threads", *threads);
    set_if(text, "user", user.as_ref().map(quoted));
}

fn write_limits(text: &mut String, limits: &Limits) {
    let Limits { head_bytes, head_time, body_bytes, connections, handshakes } = limits;
    text.push_str("[limits]\n");
    set(text, "head_bytes", format!("\"{head_bytes}B\""));
    set(text, "head_time", time(*head_time));
    set(
        text,
        "body_bytes",
        quoted(body_bytes.map_or_else(|| "unlimited".to_owned(), |bytes| format!("{bytes}B"))),
    );
    set(text, "connections", connections);
    set(text, "handshakes", handshakes);
}

fn write_listener(text: &mut String, listener: &Listener, services: &[Service]) {
    let Listener { bind, protocol, service, routes, tls, client_ca, redirect, hsts } = listener;
    let protocol = match protocol {
        Protocol::Http => "http",
        Protocol::Tcp => "tcp",
    };
    let name = |index: usize| quoted(&services[index].name);
    text.push_str("[[listener]]\n");
    set(text, "bind", list(bind));
    set(text, "protocol", quoted(protocol));
    set_if(text, "service", service.map(name));
    set_if(text, "client_ca", client_ca.as_deref().map(path));
    set_if(text, "redirect", redirect.map(|Redirect::Https| quoted("https")));
    set_if(text, "hsts", hsts.map(time));
    for CertificateFiles { certificate, key } in tls {
        text.push_str("[[listener.tls]]\n");
        set(text, "certificate", path(certificate));
        set(text, "key", path(key));
    }
    for Route { host, path, headers, service } in routes {
        text.push_str("[[listener.route]]\n");
        set_if(text, "host", host.as_ref().map(host_text));
        set_if(text, "path", path.as_ref().map(path_text));
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name} = {}", quoted(value))).collect();
        set(text, "headers", format!("{{ {} }}", headers.join(", ")));
        set(text, "service", name(*service));
    }
}

fn host_text(host: &HostPattern) -> String {
    match host {
        HostPattern::Exact(name) => quoted(name.to_uppercase()),
        HostPattern::Suffix(suffix) => quoted(format!("*{suffix}")),
    }
}

fn path_text(path: &PathPattern) -> String {
    match path {
        PathPattern::Exact(path) => quoted(format!("={path}")),
        PathPattern::Prefix(path) => quoted(path),
    }
}

fn write_service(text: &mut String, service: &Service) {
    let Service { name, balance, instances, timeout, retry, park, drain, health, sticky, run } = service;
    let Timeout { connect, attempt, request, idle } = timeout;
    let Retry { attempts, budget_percent } = retry;
    let Park { time: park_time, requests } = park;
    let Drain { time: drain_time } = drain;
    writeln!(text, "[service.{name}]").unwrap();
    set(text, "balance", balance_text(*balance));
    if !instances.is_empty() {
        set(
            text,
            "instances",
            format!("[{}]", instances.iter().map(instance_text).collect::<Vec<_>>().join(", ")),
        );
    }
    set(text, "timeout.connect", time(*connect));
    set(text, "timeout.attempt", attempt.map_or_else(|| quoted("off"), time));
    set(text, "timeout.request", time(*request));
    set(text, "timeout.idle", time(*idle));
    set(text, "retry", format!("{{ attempts = {attempts}, budget = \"{budget_percent}%\" }}"));
    set(text, "park", format!("{{ time = {}, requests = {requests} }}", time(*park_time)));
    set(text, "drain.time", time(*drain_time));
    write_health(text, health);
    if let Some(Sticky { by, name }) = sticky {
        match by {
            StickyBy::Cookie => set(text, "sticky", format!("{{ by = \"cookie\", name = \"{name}\" }}")),
            StickyBy::Ip => set(text, "sticky", "{ by = \"ip\" }"),
        }
    }
    if let Some(run) = run {
        write_run(text, name, run);
    }
}

fn balance_text(balance: Balance) -> String {
    quoted(match balance {
        Balance::RoundRobin => "round-robin",
        Balance::WeightedRoundRobin => "weighted-round-robin",
        Balance::LeastConnections => "least-connections",
        Balance::WeightedLeastConnections => "weighted-least-connections",
        Balance::IpHash => "ip-hash",
    })
}

fn instance_text(instance: &FixedInstance) -> String {
    let FixedInstance { address, weight } = instance;
    match weight {
        1 => quoted(address),
        _ => format!("{{ address = \"{address}\", weight = {weight} }}"),
    }
}

fn write_health(text: &mut String, health: &Health) {
    let Health { check, interval, timeout, rise, fall } = health;
    match check {
        Check::Http(path) => set(text, "health.http", quoted(path)),
        Check::Tcp => set(text, "health.tcp", true),
        Check::Command(command) => set(text, "health.command", list(command)),
    }
    set(text, "health.interval", time(*interval));
    set(text, "health.timeout", time(*timeout));
    set(text, "health.rise", rise);
    set(text, "health.fall", fall);
}

fn write_run(text: &mut String, service: &str, run: &Run) {
    let Run { command, directory, replicas, revision, environment, user, log: Log { size, files } } = run;
    writeln!(text, "[service.{service}.run]").unwrap();
    set(text, "command", list(command));
    set_if(text, "directory", directory.as_deref().map(path));
    set(text, "replicas", replicas);
    set(text, "revision", quoted(revision));
    set_if(text, "user", user.as_ref().map(quoted));
    set(text, "log", format!("{{ size = \"{size}B\", files = {files} }}"));
    writeln!(text, "[service.{service}.run.environment]").unwrap();
    environment.iter().for_each(|(name, value)| set(text, name, quoted(value)));
}
