//! Tests of the configuration: transcripts (`core/scenarios/config`), properties, and that the reference is complete.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;

pub(crate) mod generated;

const SCENARIOS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/config");

/// Runs every scenario of one file. A scenario is `### title`, a configuration, and after `---` what is told about it.
#[expect(clippy::disallowed_methods, reason = "core does no I/O, but its tests read their scenarios")]
fn run_scenarios(file: &str) {
    let path = format!("{SCENARIOS}/{file}.txt");
    let written = std::fs::read_to_string(&path).unwrap();
    let mut told = String::new();
    for scenario in written.split("### ").skip(1) {
        let (title, rest) = scenario.split_once('\n').unwrap();
        let (text, _) = rest.split_once("---\n").unwrap();
        told += &format!("### {title}\n{text}---\n{}", transcript(text));
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, told).unwrap();
    } else {
        assert_eq!(told, written, "{file}: UPDATE=1 rewrites the expectations");
    }
}

fn transcript(text: &str) -> String {
    let mistakes = match parse(text) {
        Ok(_) => return "ok\n".to_owned(),
        Err(mistakes) => mistakes,
    };
    let mut told = String::new();
    for Diagnostic { message, span, label, hint } in mistakes {
        let before = &text[..span.start];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
        told += &format!("{line}:{column} `{}`: {message}\n    {label}", &text[span].escape_debug());
        told += &hint.map_or_else(|| "\n".to_owned(), |hint| format!("; {hint}\n"));
    }
    told
}

#[test]
fn quantities_have_units_and_ranges() {
    run_scenarios("quantities");
}

#[test]
fn slips_in_names_are_answered_with_the_nearest_name() {
    run_scenarios("names");
}

#[test]
fn what_a_later_version_will_know_is_never_silently_taken() {
    run_scenarios("later");
}

#[test]
fn addresses_are_complete_and_used_once() {
    run_scenarios("addresses");
}

#[test]
fn services_have_instances_that_can_work() {
    run_scenarios("services");
}

#[test]
fn listeners_and_routes_lead_somewhere() {
    run_scenarios("listeners");
}

#[test]
fn broken_syntax_does_not_hide_other_mistakes() {
    run_scenarios("syntax");
}

#[test]
fn every_scenario_file_is_run() {
    let mut files: Vec<_> = std::fs::read_dir(SCENARIOS)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let run = ["addresses", "later", "listeners", "names", "quantities", "services", "syntax"];
    assert_eq!(files, run.map(|name| format!("{name}.txt")));
}

const SMALLEST: &str = r#"
[[listener]]
bind = ["127.0.0.1:8080"]
service = "shop"
[service.shop]
instances = ["10.0.0.1:80"]
"#;

fn usual_deploy() -> Deploy {
    Deploy {
        strategy: DeployStrategy::Rolling,
        batch: Portion::Share(25),
        max_unavailable: Portion::Count(0),
        surge: None,
        pause_between: Duration::from_secs(2),
        min_healthy: Duration::from_secs(3),
        start_timeout: Duration::from_secs(60),
        keep_previous: None,
        on_fail: OnFail::Rollback,
        approve: Approve::Auto,
        warm_up: None,
        warm_up_requests: 10,
        warm_up_timeout: Duration::from_secs(10),
        before: Vec::new(),
        before_switch: Vec::new(),
        per_batch: Vec::new(),
        after_switch: Vec::new(),
        after: Vec::new(),
        on_rollback: Vec::new(),
        hook_timeout: Duration::from_secs(300),
        hooks_repeatable: false,
    }
}

#[test]
fn what_is_not_written_has_the_documented_default() {
    let seconds = Duration::from_secs;
    let node = Node {
        name: None,
        state: None,
        admin: None,
        metrics: None,
        threads: None,
        io_uring: true,
        watchdog: Some(seconds(10)),
        user: None,
    };
    let limits = Limits {
        head_bytes: 16 << 10,
        head_time: seconds(10),
        body_bytes: None,
        connections: 100_000,
        body_rate: Some(1024),
        answer_rate: Some(1024),
        connections_per_client: None,
        handshakes: 2000,
    };
    let timeout = Duration::from_millis(500);
    let service = Service {
        name: "shop".into(),
        balance: Balance::RoundRobin,
        instances: vec![FixedInstance { address: "10.0.0.1:80".parse().unwrap(), weight: 1, backup: false }],
        timeout: Timeout { connect: seconds(1), attempt: None, request: seconds(30), idle: seconds(60) },
        retry: Retry { attempts: 3, budget_percent: 10 },
        park: Park { time: seconds(10), requests: 1000, bytes: 64 << 20 },
        max_connections: None,
        queue: Queue { time: seconds(5), requests: 1000 },
        slow_start: Duration::ZERO,
        drain: Drain { time: seconds(30), websockets: WebSockets::Stagger },
        health: Health { check: Check::Tcp, interval: seconds(1), timeout, rise: 2, fall: 2 },
        outlier: Some(Outlier {
            failures: Some(5),
            deviation: Some(190),
            gap: 5,
            window: seconds(10),
            requests: 100,
            instances: 5,
            flaps: Some(5),
            flap_window: seconds(60),
            time: seconds(10),
            longest: seconds(300),
            share: 50,
            panic: 30,
        }),
        sticky: None,
        send_proxy: SendProxy::Off,
        tls: None,
        run: None,
        deploy: usual_deploy(),
    };
    let listener = Listener {
        bind: vec!["127.0.0.1:8080".parse().unwrap()],
        protocol: Protocol::Http,
        accept_proxy: Vec::new(),
        service: Some(0),
        routes: Vec::new(),
        tls: Vec::new(),
        client_ca: None,
        redirect: None,
        hsts: None,
    };
    let access_log = AccessLog { to: LogTo::Off, query: false };
    let trace = Trace { parent: TraceParent::Forward };
    let config =
        Config { node, access_log, trace, limits, listeners: vec![listener], services: vec![service] };
    assert_eq!(parse(SMALLEST), Ok(config));
}

#[test]
fn a_service_that_everup_runs_has_defaults_too() {
    let text =
        SMALLEST.replace("instances = [\"10.0.0.1:80\"]", "run.command = [\"shop\"]\nsticky.by = \"cookie\"");
    let Service { instances, run, sticky, .. } = parse(&text).unwrap().services.remove(0);
    assert!(instances.is_empty());
    assert_eq!(
        sticky,
        Some(Sticky { by: StickyBy::Cookie, name: "everup".to_owned(), idle: None, lifetime: None })
    );
    let expected = Run {
        command: vec!["shop".to_owned()],
        directory: None,
        replicas: 1,
        revision: "v1".to_owned(),
        environment: BTreeMap::new(),
        user: None,
        log: Log { size: 10 << 20, files: 5 },
    };
    assert_eq!(run, Some(expected));
}

#[test]
fn probes_that_are_more_frequent_than_usual_have_a_timeout_to_match() {
    let config = parse(&format!("{SMALLEST}health.interval = \"100ms\"")).unwrap();
    assert_eq!(config.services[0].health.timeout, Duration::from_millis(100));
}

#[test]
fn services_keep_the_order_of_the_file() {
    let route = "[[listener.route]]\npath = \"/a\"\nservice = \"a\"\n[service.shop]";
    let text = SMALLEST.replace("[service.shop]", route) + "[service.a]\ninstances = [\"10.0.0.2:80\"]";
    let config = parse(&text).unwrap();
    assert_eq!(config.services.iter().map(|service| &*service.name).collect::<Vec<_>>(), ["shop", "a"]);
    assert_eq!(config.listeners[0].service, Some(0));
    assert_eq!(config.listeners[0].routes[0].service, Some(1));
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let mistakes = parse(&"#".repeat(MAX_BYTES + 1)).unwrap_err();
    assert_eq!(mistakes.len(), 1);
    assert_eq!(mistakes[0].message, "the file is too large");
}

#[test]
fn mistakes_beyond_the_limit_are_counted() {
    let text: String = (0..10_000).map(|n| format!("key{n} = {n}\n")).collect();
    let mistakes = parse(&text).unwrap_err();
    assert_eq!(mistakes.len(), 101);
    assert_eq!(mistakes[100].message, "and 9901 more mistakes"); // one of them: no listener
}

#[test]
fn tables_beyond_the_limit_are_refused() {
    let text: String = (0..2000).map(|n| format!("[service.s{n}]\nrun.command = [\"x\"]\n")).collect();
    let mistakes = parse(&text).unwrap_err();
    assert!(mistakes.iter().any(|mistake| mistake.label == "at most 1024"), "{mistakes:?}");
}

#[test]
fn deep_nesting_does_not_exhaust_the_stack() {
    for (open, close) in [("[", "]"), ("{a=", "}")] {
        let text = format!("node = {}{}", open.repeat(100_000), close.repeat(100_000));
        assert!(parse(&text).is_err());
    }
}

#[test]
fn every_default_is_a_value_that_could_be_written() {
    for section in reference() {
        for setting in section.settings {
            let default = setting.default.strip_prefix('`').and_then(|text| text.strip_suffix('`'));
            let Some(default) = default.filter(|text| !text.contains('`')) else { continue };
            let line = format!("{} = {default}", setting.key);
            let mut told = parse(&in_section(&section.path, &line)).err().unwrap_or_default();
            told.retain(|mistake| mistake.message.starts_with(&format!("`{}`", setting.key)));
            assert_eq!(told, [], "{line} in {}", section.path);
        }
    }
}

/// A file with `line` in the section of this path.
fn in_section(path: &str, line: &str) -> String {
    let path = path.replace("NAME", "shop");
    match path.as_str() {
        "" => format!("{line}\n"),
        "[[service.shop.instances]]" => format!("[service.shop]\ninstances = [{{ {line} }}]\n"),
        "[[listener.route]]" | "[[listener.tls]]" => format!("[[listener]]\n{path}\n{line}\n"),
        _ if path.starts_with("[listener.route.") => {
            format!("[[listener]]\n[[listener.route]]\n{path}\n{line}\n")
        }
        _ => format!("{path}\n{line}\n"),
    }
}

/// Parser and reference come from one declaration; here it is seen from outside.
#[test]
fn exactly_the_documented_keys_are_known() {
    for section in reference() {
        let mistakes_with =
            |key: &str| parse(&in_section(&section.path, &format!("{key} = 1979-05-27"))).unwrap_err();
        let is_known = |key: &str| {
            let unknown = format!("unknown key `{key}`");
            !mistakes_with(key).iter().any(|mistake| mistake.message.starts_with(&unknown))
        };
        for setting in &section.settings {
            assert!(is_known(&setting.key), "{} in {}", setting.key, section.path);
        }
        assert!(!is_known("undocumented"), "{}", section.path);
        for later in &section.later {
            let told = |mistake: &Diagnostic| mistake.label == "not in this version yet";
            assert!(mistakes_with(&later.key).iter().any(told), "{} in {}", later.key, section.path);
        }
    }
}

#[test]
fn every_setting_says_what_it_is_for() {
    for section in reference() {
        assert!(!section.help.is_empty(), "{}", section.path);
        for SettingDoc { key, kind, default, range: _, reason, help } in section.settings {
            for text in [&kind, &default, &reason, &help] {
                assert!(!text.is_empty(), "{key} in {}", section.path);
            }
        }
    }
}

#[test]
fn a_section_is_found_by_any_of_its_names() {
    let found = |name| sections_named(name).into_iter().map(|section| section.path).collect::<Vec<_>>();
    for name in ["service.NAME.health", "[service.NAME.health]", "health", "service.shop.health"] {
        assert_eq!(found(name), ["[service.NAME.health]"], "{name}");
    }
    assert_eq!(found("route"), ["[[listener.route]]"]);
    assert_eq!(found("service"), ["[service.NAME]"]);
    assert!(found("nothing").is_empty());
}

#[test]
fn the_committed_reference_is_the_generated_one() {
    let committed = include_str!("../../../docs/reference/settings.md");
    let regenerate = "cargo run -- reference --markdown > docs/reference/settings.md";
    assert!(markdown(&reference()) == committed, "docs/reference/settings.md is out of date: {regenerate}");
}

#[test]
fn users_are_known_by_what_requests_bring() {
    let by = |text: &str| {
        let text = format!(
            "[[listener]]\nbind = [\"127.0.0.1:0\"]\nservice = \"shop\"\n[service.shop]\n\
             instances = [\"10.0.0.1:80\"]\nsticky = {{ by = \"{text}\", idle = \"30m\" }}\n"
        );
        let text = if text.contains("header:") { text.replace(", idle = \"30m\"", "") } else { text };
        parse(&text).expect("it is valid").services[0].sticky.clone().expect("it is sticky")
    };
    assert_eq!(by("header:X-User").by, StickyBy::Header("x-user".to_owned()));
    let session = by("app-cookie:JSESSIONID");
    assert_eq!(session.by, StickyBy::AppCookie("JSESSIONID".to_owned()));
    assert_eq!(session.idle, Some(Duration::from_secs(1800)));
}
