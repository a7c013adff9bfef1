//! A configuration as a file. Everything is destructured in full, so that a new setting must be written here too.

use std::fmt::{Display, Write as _};
use std::path::Path;
use std::time::Duration;

use crate::config::units::{RATE, TIME};
use crate::config::*;

pub(super) fn written(config: &Config) -> String {
    let Config { node, access_log, trace, limits, listeners, services } = config;
    let mut text = String::new();
    write_node(&mut text, node);
    write_access_log(&mut text, access_log);
    let Trace { parent } = trace;
    let parent = match parent {
        TraceParent::Forward => "forward",
        TraceParent::Make => "make",
    };
    writeln!(text, "[trace]\nparent = \"{parent}\"").unwrap();
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
    let Node { name, state, admin, metrics, threads, io_uring, user, watchdog } = node;
    text.push_str("[node]\n");
    set_if(text, "name", name.as_ref().map(quoted));
    set_if(text, "state", state.as_deref().map(path));
    set_if(text, "admin", admin.as_deref().map(path));
    set_if(text, "metrics", metrics.map(quoted));
    set_if(text, "threads", *threads);
    set(text, "io_uring", io_uring);
    set_if(text, "user", user.as_ref().map(quoted));
    set(text, "watchdog", watchdog.map_or_else(|| quoted("off"), time));
}

fn write_access_log(text: &mut String, access_log: &AccessLog) {
    let AccessLog { to, query } = access_log;
    text.push_str("[access_log]\n");
    let to = match to {
        LogTo::Off => quoted("off"),
        LogTo::Stdout => quoted("stdout"),
        LogTo::File(file) => path(file),
    };
    set(text, "to", to);
    set(text, "query", query);
}

fn write_limits(text: &mut String, limits: &Limits) {
    let Limits {
        head_bytes,
        head_time,
        body_bytes,
        connections,
        handshakes,
        body_rate,
        answer_rate,
        connections_per_client,
    } = limits;
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
    for (key, rate) in [("body_rate", body_rate), ("answer_rate", answer_rate)] {
        set(text, key, quoted(rate.map_or_else(|| "off".to_owned(), |rate| RATE.text(rate))));
    }
    let per_client = connections_per_client.map_or_else(|| quoted("unlimited"), |most| most.to_string());
    set(text, "connections_per_client", per_client);
}

fn write_listener(text: &mut String, listener: &Listener, services: &[Service]) {
    let Listener { bind, protocol, accept_proxy, service, routes, tls, client_ca, redirect, hsts } = listener;
    let protocol = match protocol {
        Protocol::Http => "http",
        Protocol::Tcp => "tcp",
        Protocol::TlsPassthrough => "tls-passthrough",
    };
    let name = |index: usize| quoted(&services[index].name);
    text.push_str("[[listener]]\n");
    set(text, "bind", list(bind));
    set(text, "protocol", quoted(protocol));
    set(text, "accept_proxy", list(accept_proxy));
    set_if(text, "service", service.map(name));
    set_if(text, "client_ca", client_ca.as_deref().map(path));
    set_if(text, "redirect", redirect.map(|ListenerRedirect::Https| quoted("https")));
    set_if(text, "hsts", hsts.map(time));
    for CertificateFiles { certificate, key } in tls {
        text.push_str("[[listener.tls]]\n");
        set(text, "certificate", path(certificate));
        set(text, "key", path(key));
    }
    for Route { host, path, headers, service, redirect, edits } in routes {
        text.push_str("[[listener.route]]\n");
        set_if(text, "host", host.as_ref().map(host_text));
        set_if(text, "path", path.as_ref().map(path_text));
        set(text, "headers", pairs(headers));
        set_if(text, "service", service.map(name));
        if let Some(Redirect { to, status }) = redirect {
            let to: String = to.iter().map(ToString::to_string).collect();
            set(text, "redirect", format!("{{ to = {}, status = {status} }}", quoted(to)));
        } else {
            write_edits(text, edits);
        }
    }
}

fn pairs(pairs: &[(String, String)]) -> String {
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name} = {}", quoted(value))).collect();
    format!("{{ {} }}", pairs.join(", "))
}

fn write_edits(text: &mut String, edits: &Edits) {
    let Edits { request, response, prefix } = edits;
    for (which, FieldEdits { set: replaced, add, remove }) in [("", request), ("response_", response)] {
        set(text, &format!("{which}set_headers"), pairs(replaced));
        set(text, &format!("{which}add_headers"), pairs(add));
        set(text, &format!("{which}remove_headers"), list(remove));
    }
    if let Some(Prefix { from, to }) = prefix {
        match to.is_empty() {
            true => set(text, "strip_prefix", quoted(from)),
            false => set(text, "rewrite_prefix", format!("{{ from = \"{from}/\", to = \"{to}\" }}")),
        }
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
    let Service {
        name,
        balance,
        instances,
        timeout,
        retry,
        park,
        max_connections,
        queue,
        slow_start,
        drain,
        health,
        outlier,
        sticky,
        send_proxy,
        tls,
        run,
        deploy,
    } = service;
    let Timeout { connect, attempt, request, idle } = timeout;
    let Retry { attempts, budget_percent } = retry;
    let Park { time: park_time, requests, bytes } = park;
    let Queue { time: queue_time, requests: queued } = queue;
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
    let park = format!("{{ time = {}, requests = {requests}, bytes = \"{bytes}B\" }}", time(*park_time));
    set(text, "park", park);
    set(
        text,
        "max_connections",
        max_connections.map_or_else(|| quoted("unlimited"), |most| most.to_string()),
    );
    set(text, "queue", format!("{{ time = {}, requests = {queued} }}", time(*queue_time)));
    set(text, "slow_start", time(*slow_start));
    write_drain(text, drain);
    write_health(text, health);
    write_outlier(text, outlier.as_ref());
    if let Some(sticky) = sticky {
        write_sticky(text, sticky);
    }
    set(text, "send_proxy", send_proxy_text(*send_proxy));
    if let Some(InstanceTls { ca, server_name, certificate, key }) = tls {
        text.push_str("tls = { ");
        let paths = [("ca", ca), ("certificate", certificate), ("key", key)];
        let paths = paths.into_iter().filter_map(|(name, file)| Some((name, path(file.as_deref()?))));
        let name = server_name.as_ref().map(|name| ("server_name", quoted(name)));
        let keys: Vec<_> = paths.chain(name).map(|(name, value)| format!("{name} = {value}")).collect();
        let _ = writeln!(text, "{} }}", keys.join(", "));
    }
    if let Some(run) = run {
        write_run(text, name, run);
        write_deploy(text, name, deploy);
    }
}

fn send_proxy_text(send_proxy: SendProxy) -> String {
    quoted(match send_proxy {
        SendProxy::Off => "off",
        SendProxy::V1 => "v1",
        SendProxy::V2 => "v2",
    })
}

fn write_deploy(text: &mut String, name: &str, deploy: &Deploy) {
    let Deploy {
        strategy,
        batch,
        max_unavailable,
        surge,
        pause_between,
        min_healthy,
        start_timeout,
        keep_previous,
        on_fail,
        approve,
        warm_up,
        warm_up_requests,
        warm_up_timeout,
        before,
        before_switch,
        per_batch,
        after_switch,
        after,
        on_rollback,
        hook_timeout,
        hooks_repeatable,
    } = deploy;
    writeln!(text, "[service.{name}.deploy]").unwrap();
    set(text, "strategy", quoted(strategy.word()));
    set(text, "batch", batch);
    set(text, "max_unavailable", max_unavailable);
    set_if(text, "surge", *surge);
    set(text, "pause_between", time(*pause_between));
    set(text, "min_healthy", time(*min_healthy));
    set(text, "start_timeout", time(*start_timeout));
    set_if(text, "keep_previous", keep_previous.map(time));
    set(text, "on_fail", quoted(if *on_fail == OnFail::Hold { "hold" } else { "rollback" }));
    set(text, "approve", quoted(if *approve == Approve::Manual { "manual" } else { "auto" }));
    for (key, command) in [
        ("before", before),
        ("before_switch", before_switch),
        ("per_batch", per_batch),
        ("after_switch", after_switch),
        ("after", after),
        ("on_rollback", on_rollback),
    ] {
        set(text, key, list(command));
    }
    set_if(text, "warm_up", warm_up.as_ref().map(quoted));
    set(text, "warm_up_requests", warm_up_requests);
    set(text, "warm_up_timeout", time(*warm_up_timeout));
    set(text, "hook_timeout", time(*hook_timeout));
    set(text, "hooks_repeatable", hooks_repeatable);
}

fn write_sticky(text: &mut String, sticky: &Sticky) {
    let Sticky { by, name, idle, lifetime } = sticky;
    match by {
        StickyBy::Cookie => {
            set(text, "sticky.by", quoted("cookie"));
            set(text, "sticky.name", quoted(name));
        }
        StickyBy::Ip => set(text, "sticky.by", quoted("ip")),
        StickyBy::Header(field) => set(text, "sticky.by", quoted(format!("header:{field}"))),
        StickyBy::AppCookie(cookie) => set(text, "sticky.by", quoted(format!("app-cookie:{cookie}"))),
    }
    set_if(text, "sticky.idle", idle.map(time));
    set_if(text, "sticky.lifetime", lifetime.map(time));
}

fn balance_text(balance: Balance) -> String {
    quoted(match balance {
        Balance::RoundRobin => "round-robin",
        Balance::WeightedRoundRobin => "weighted-round-robin",
        Balance::LeastConnections => "least-connections",
        Balance::WeightedLeastConnections => "weighted-least-connections",
        Balance::IpHash => "ip-hash",
        Balance::Maglev => "maglev",
        Balance::P2cEwma => "p2c-ewma",
    })
}

fn instance_text(instance: &FixedInstance) -> String {
    let FixedInstance { address, weight, backup } = instance;
    match (weight, backup) {
        (1, false) => quoted(address),
        _ => format!("{{ address = \"{address}\", weight = {weight}, backup = {backup} }}"),
    }
}

fn write_drain(text: &mut String, drain: &Drain) {
    let Drain { time: drain_time, websockets } = drain;
    set(text, "drain.time", time(*drain_time));
    let websockets = match websockets {
        WebSockets::Stagger => "stagger",
        WebSockets::Close => "close",
    };
    set(text, "drain.websockets", quoted(websockets));
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

fn write_outlier(text: &mut String, outlier: Option<&Outlier>) {
    let Some(outlier) = outlier else {
        return set(text, "outlier", quoted("off"));
    };
    let Outlier {
        failures,
        deviation,
        gap,
        window,
        requests,
        instances,
        flaps,
        flap_window,
        time: first,
        longest,
        share,
        panic,
    } = outlier;
    let number = |number: Option<u32>| number.map_or_else(|| quoted("off"), |number| number.to_string());
    let percent = |percent: u32| quoted(format!("{percent}%"));
    set(text, "outlier.failures", number(*failures));
    set(text, "outlier.deviation", deviation.map_or_else(|| quoted("off"), percent));
    set(text, "outlier.gap", percent(*gap));
    set(text, "outlier.window", time(*window));
    set(text, "outlier.requests", requests);
    set(text, "outlier.instances", instances);
    set(text, "outlier.flaps", number(*flaps));
    set(text, "outlier.flap_window", time(*flap_window));
    set(text, "outlier.time", time(*first));
    set(text, "outlier.longest", time(*longest));
    set(text, "outlier.share", percent(*share));
    set(text, "outlier.panic", percent(*panic));
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
