//! Properties: no text makes parsing panic, and whatever valid configuration is written is read back as it was.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::*;

mod written;
use written::written;

proptest! {
    #[test]
    fn no_bytes_make_parsing_panic(bytes in vec(any::<u8>(), 0..400)) {
        judge(&String::from_utf8_lossy(&bytes));
    }

    /// Pieces of configurations in any order get further than bytes do.
    #[test]
    fn no_pieces_make_parsing_panic(pieces in vec(piece(), 0..40)) {
        judge(&pieces.concat());
    }

    #[test]
    fn a_valid_configuration_is_read_as_it_was_written(config in config()) {
        prop_assert_eq!(parse(&written(&config)), Ok(config));
    }

    #[test]
    fn no_damage_makes_parsing_panic(config in config(), at in any::<prop::sample::Index>(), damage in piece()) {
        let text = written(&config);
        let at = text.floor_char_boundary(at.index(text.len()));
        judge(&text[..at]);
        judge(&format!("{}{damage}{}", &text[..at], &text[at..]));
    }
}

/// Mistakes lie in the text, in its order, and say something.
fn judge(text: &str) {
    let mistakes = parse(text).err().unwrap_or_default();
    for Diagnostic { message, span, label, hint } in &mistakes {
        assert!(text.get(span.clone()).is_some(), "{span:?} of {text:?}");
        assert!(
            !message.is_empty() && !label.is_empty() && hint.as_ref().is_none_or(|hint| !hint.is_empty())
        );
    }
    assert!(mistakes.is_sorted_by_key(|mistake| mistake.span.start));
}

const MARKS: [&str; 19] = [
    "\n",
    " = ",
    "{",
    "}",
    "[",
    "]",
    ", ",
    "\"",
    "'''",
    "\"\"\"",
    ".",
    "ü",
    "-1",
    "\"10s\"",
    "\"10%\"",
    "true",
    "#",
    "\\u0000",
    "\"10.0.0.1:80\"",
];

fn piece() -> impl Strategy<Value = String> {
    let settings = reference().into_iter().flat_map(|section| section.settings);
    let keys: Vec<String> = settings.map(|setting| setting.key).collect();
    let paths: Vec<String> =
        reference().into_iter().map(|section| section.path.replace("NAME", "shop")).collect();
    prop_oneof![
        prop::sample::select(keys),
        prop::sample::select(paths).prop_map(|path| format!("\n{path}\n")),
        prop::sample::select(&MARKS[..]).prop_map(str::to_owned),
        "[a-z0-9 ]{0,6}",
    ]
}

pub(crate) fn config() -> impl Strategy<Value = Config> {
    let config = (node(), access_log(), trace(), limits(), vec(service(), 1..4));
    config.prop_flat_map(|(node, access_log, trace, limits, mut services)| {
        for (index, service) in services.iter_mut().enumerate() {
            service.name = format!("service-{index}").into();
        }
        let count = services.len();
        vec(listener(count), 0..3).prop_map(move |mut listeners| {
            listeners.push(listener_that_uses_every_service(count));
            Config {
                node: node.clone(),
                access_log: access_log.clone(),
                trace: trace.clone(),
                limits: limits.clone(),
                listeners,
                services: services.clone(),
            }
        })
    })
}

fn listener_that_uses_every_service(count: usize) -> Listener {
    let route = |service| {
        let path = Some(PathPattern::Exact(format!("/{service}")));
        Route { path, service: Some(service), ..Route::default() }
    };
    let routes = (0..count).map(route).collect();
    Listener { bind: vec![local(0)], routes, ..plain() }
}

/// A listener for plain http.
fn plain() -> Listener {
    Listener {
        bind: Vec::new(),
        protocol: Protocol::Http,
        accept_proxy: Vec::new(),
        service: None,
        routes: Vec::new(),
        tls: Vec::new(),
        client_ca: None,
        redirect: None,
        hsts: None,
    }
}

/// Port 0, which never collides.
fn local(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn ms(range: RangeInclusive<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_millis)
}

fn node() -> impl Strategy<Value = Node> {
    let path = || option::of("[a-z/ü \"\\\\]{1,20}".prop_map(PathBuf::from));
    let name = || option::of("[a-z0-9.]{1,20}");
    let metrics = option::of(Just(local(0)));
    let watchdog = option::of(ms(2_000..=3_600_000));
    (name(), path(), path(), metrics, option::of(1usize..=256), any::<bool>(), name(), watchdog).prop_map(
        |(name, state, admin, metrics, threads, io_uring, user, watchdog)| Node {
            name,
            state,
            admin,
            metrics,
            threads,
            io_uring,
            user,
            watchdog,
        },
    )
}

fn access_log() -> impl Strategy<Value = AccessLog> {
    let to = prop_oneof![
        Just(LogTo::Off),
        Just(LogTo::Stdout),
        "/[a-z/ü \"\\\\]{0,20}\\.log".prop_map(|path| LogTo::File(path.into())),
    ];
    (to, any::<bool>()).prop_map(|(to, query)| AccessLog { to, query })
}

fn trace() -> impl Strategy<Value = Trace> {
    prop::sample::select(vec![TraceParent::Forward, TraceParent::Make]).prop_map(|parent| Trace { parent })
}

fn limits() -> impl Strategy<Value = Limits> {
    let body = option::of(1u64..=1 << 40);
    let rate = option::of(1u64..=1 << 30);
    let per_client = option::of(1usize..=10_000_000);
    let most = (1usize..=10_000_000, 1usize..=1_000_000);
    (1024usize..=1 << 20, ms(100..=600_000), body, most, (rate.clone(), rate), per_client).prop_map(
        |(
            head_bytes,
            head_time,
            body_bytes,
            (connections, handshakes),
            (body_rate, answer_rate),
            connections_per_client,
        )| Limits {
            head_bytes,
            head_time,
            body_bytes,
            connections,
            body_rate,
            answer_rate,
            connections_per_client,
            handshakes,
        },
    )
}

const NETWORKS: [&str; 4] = ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "::1"];

fn listener(services: usize) -> impl Strategy<Value = Listener> {
    let bind = || vec(Just(local(0)), 1..3);
    let networks = || vec(prop::sample::select(&NETWORKS[..]), 0..3);
    let networks = || networks().prop_map(|all| all.iter().map(|one| one.parse().unwrap()).collect());
    let tcp = (bind(), networks(), 0..services).prop_map(|(bind, accept_proxy, service)| {
        let service = Some(service);
        Listener { bind, protocol: Protocol::Tcp, accept_proxy, service, ..plain() }
    });
    let http = (bind(), networks(), 0..services, option::of(route(services))).prop_map(
        |(bind, accept_proxy, service, route)| {
            let routes = route.into_iter().collect();
            Listener { bind, accept_proxy, service: Some(service), routes, ..plain() }
        },
    );
    let path = || "[a-z/.]{1,20}".prop_map(PathBuf::from);
    let pair = (path(), path()).prop_map(|(certificate, key)| CertificateFiles { certificate, key });
    let https = (bind(), 0..services, vec(pair, 1..3), option::of(path()), option::of(ms(0..=60_000)));
    let https = https.prop_map(|(bind, service, tls, client_ca, hsts)| Listener {
        bind,
        service: Some(service),
        tls,
        client_ca,
        hsts,
        ..plain()
    });
    let https_only = Some(ListenerRedirect::Https);
    let redirecting = bind().prop_map(move |bind| Listener { bind, redirect: https_only, ..plain() });
    prop_oneof![tcp, http, https, redirecting]
}

fn route(services: usize) -> impl Strategy<Value = Route> {
    let host = prop_oneof![
        "[a-z]{1,9}\\.example".prop_map(HostPattern::Exact),
        "\\.[a-z]{1,9}\\.example".prop_map(HostPattern::Suffix)
    ];
    let path = prop_oneof![
        "/[a-z%/.]{0,9}".prop_map(PathPattern::Exact),
        "/[a-z%/.]{0,9}".prop_map(PathPattern::Prefix)
    ];
    let headers = btree_map("x-[a-z]{1,5}", "[a-z\"=]{0,5}", 0..3);
    (option::of(host), option::of(path), headers, goes(services)).prop_map(
        |(host, path, headers, (service, redirect, edits))| {
            let headers = headers.into_iter().collect();
            Route { host, path, headers, service, redirect, edits }
        },
    )
}

fn goes(services: usize) -> impl Strategy<Value = (Option<usize>, Option<Redirect>, Edits)> {
    let pairs =
        || btree_map("X-[a-z_]{1,5}", "[a-z\"=]{0,5}", 0..3).prop_map(|pairs| pairs.into_iter().collect());
    let fields = || {
        (pairs(), pairs(), vec("[a-z]{6,7}", 0..3)).prop_map(|(set, add, remove)| {
            let remove = remove.into_iter().map(|name| format!("x{name}")).collect();
            FieldEdits { set, add, remove }
        })
    };
    let prefix = option::of(("/[a-z]{1,5}", "(/[a-z]{1,5})?").prop_map(|(from, to)| Prefix { from, to }));
    let edits = (fields(), fields(), prefix).prop_map(|(request, response, prefix)| Edits {
        request,
        response,
        prefix,
    });
    let text = |text: &str| Piece::Text(text.to_owned());
    let to = prop_oneof![
        Just(std::vec![text("https://"), Piece::Host, Piece::Path, Piece::Query]),
        Just(std::vec![text("/new"), Piece::Path]),
        Just(std::vec![text("http://a.example:8080/x?"), Piece::Query]),
    ];
    let status = prop::sample::select(&[301_u16, 302, 303, 307, 308][..]);
    let redirect =
        (to, status).prop_map(|(to, status)| (None, Some(Redirect { to, status }), Edits::default()));
    prop_oneof![(0..services, edits).prop_map(|(service, edits)| (Some(service), None, edits)), redirect]
}

/// How instances are chosen, and which there are.
type Instances = (Balance, Vec<FixedInstance>, Option<Run>, Deploy);

fn instances() -> impl Strategy<Value = Instances> {
    let weighted = prop_oneof![
        Just(Balance::WeightedRoundRobin),
        Just(Balance::WeightedLeastConnections),
        Just(Balance::IpHash),
        Just(Balance::Maglev),
        Just(Balance::P2cEwma)
    ];
    let equal = prop_oneof![Just(Balance::RoundRobin), Just(Balance::LeastConnections)];
    let fixed = prop_oneof![
        (weighted, vec(1u32..=256, 1..5)),
        (equal, (1usize..5).prop_map(|count| std::vec![1; count]))
    ];
    let fixed = fixed.prop_map(|(balance, weights)| {
        let address = |index: usize| SocketAddr::from(([10, 0, 0, 1], 80 + u16::try_from(index).unwrap()));
        let instance =
            |(index, weight)| FixedInstance { address: address(index), weight, backup: index % 3 == 2 };
        (balance, weights.into_iter().enumerate().map(instance).collect(), None, usual_deploy())
    });
    let run = (run(), deploy())
        .prop_map(|(run, deploy)| (Balance::LeastConnections, Vec::new(), Some(run), deploy));
    prop_oneof![fixed, run]
}

fn service() -> impl Strategy<Value = Service> {
    let retry =
        (1u32..=16, 0u32..=100).prop_map(|(attempts, budget_percent)| Retry { attempts, budget_percent });
    let park = (ms(0..=600_000), 1usize..=1_000_000, 65_536usize..=1 << 36)
        .prop_map(|(time, requests, bytes)| Park { time, requests, bytes });
    let websockets = prop::sample::select(&[WebSockets::Stagger, WebSockets::Close][..]);
    let drain = (ms(0..=86_400_000), websockets).prop_map(|(time, websockets)| Drain { time, websockets });
    let outlier = option::of(outlier());
    let send_proxy = prop::sample::select(&[SendProxy::Off, SendProxy::V1, SendProxy::V2][..]);
    let queue = (ms(0..=600_000), 0usize..=1_000_000).prop_map(|(time, requests)| Queue { time, requests });
    let limits = (option::of(1u32..=1_000_000), queue, ms(0..=3_600_000));
    let sticky = (option::of(sticky()), send_proxy, option::of(instance_tls()));
    (instances(), timeout(), retry, park, limits, drain, (health(), outlier), sticky).prop_map(
        |(
            (balance, instances, run, deploy),
            timeout,
            retry,
            park,
            limits,
            drain,
            (health, outlier),
            sticky,
        )| {
            let (max_connections, queue, slow_start) = limits;
            let (sticky, send_proxy, tls) = sticky;
            Service {
                name: "".into(),
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
            }
        },
    )
}

fn instance_tls() -> impl Strategy<Value = InstanceTls> {
    let path = || "[a-z/.]{1,20}".prop_map(PathBuf::from);
    (option::of(path()), option::of("[a-z]{1,9}(\\.[a-z0-9_]{1,9}){0,3}x"), option::of((path(), path())))
        .prop_map(|(ca, server_name, pair)| {
            let (certificate, key) = pair.unzip();
            InstanceTls { ca, server_name, certificate, key }
        })
}

fn sticky() -> impl Strategy<Value = Sticky> {
    // A listener of the generated configuration may be a tcp one, which knows addresses only.
    Just(Sticky { by: StickyBy::Ip, name: "everup".to_owned(), idle: None, lifetime: None })
}

fn timeout() -> impl Strategy<Value = Timeout> {
    let attempt = option::of(ms(1..=999));
    (ms(1..=60_000), attempt, ms(1000..=86_400_000), ms(100..=86_400_000))
        .prop_map(|(connect, attempt, request, idle)| Timeout { connect, attempt, request, idle })
}

fn health() -> impl Strategy<Value = Health> {
    let check = prop_oneof![
        Just(Check::Tcp),
        "/[a-z?=]{0,9}".prop_map(Check::Http),
        vec("[a-z ]{0,5}", 1..4).prop_map(Check::Command)
    ];
    (check, ms(500..=3_600_000), ms(10..=500), 1u32..=100, 1u32..=100)
        .prop_map(|(check, interval, timeout, rise, fall)| Health { check, interval, timeout, rise, fall })
}

fn outlier() -> impl Strategy<Value = Outlier> {
    let when = (option::of(2u32..=1000), option::of(100u32..=1000), 1u32..=100, option::of(1u32..=100));
    let windows = (ms(1000..=3_600_000), ms(1000..=3_600_000), 1u32..=1_000_000, 3u32..=1024);
    let ejection = (ms(100..=3_600_000), ms(3_600_000..=86_400_000), 0u32..=100, 0u32..=100);
    (when, windows, ejection).prop_map(
        |(
            (failures, deviation, gap, flaps),
            (window, flap_window, requests, instances),
            (time, longest, share, panic),
        )| {
            Outlier {
                failures,
                deviation,
                gap,
                window,
                requests,
                instances,
                flaps,
                flap_window,
                time,
                longest,
                share,
                panic,
            }
        },
    )
}

fn run() -> impl Strategy<Value = Run> {
    let command = vec("[a-z/]{1,9}", 1..4);
    let environment = btree_map("X[A-Z_]{1,5}", "[a-z\n\"ü]{0,5}", 0..3);
    let log = (64u64 << 10..=1 << 40, 1usize..=100).prop_map(|(size, files)| Log { size, files });
    let directory = option::of("[a-z/]{1,9}".prop_map(PathBuf::from));
    let revision = "[a-z0-9][a-z0-9.]{0,9}";
    (command, directory, 1usize..=1000, revision, environment, option::of("[a-z]{1,9}"), log).prop_map(
        |(command, directory, replicas, revision, environment, user, log)| Run {
            command,
            directory,
            replicas,
            revision,
            environment,
            user,
            log,
        },
    )
}

/// That of a service for which none is written.
fn usual_deploy() -> Deploy {
    let text = "[[listener]]\nbind = [\"127.0.0.1:0\"]\nservice = \"a\"\n[service.a]\ninstances = [\"10.0.0.1:80\"]\n";
    parse(text).unwrap().services.remove(0).deploy
}

fn deploy() -> impl Strategy<Value = Deploy> {
    let portion =
        || prop_oneof![(1u32..=1000).prop_map(Portion::Count), (1u32..=99).prop_map(Portion::Share)];
    let strategy = prop::sample::select(&[DeployStrategy::Rolling, DeployStrategy::BlueGreen][..]);
    let on_fail = prop::sample::select(&[OnFail::Rollback, OnFail::Hold][..]);
    let approve = prop::sample::select(&[Approve::Auto, Approve::Manual][..]);
    let portions = (portion(), portion(), option::of(portion()));
    let times =
        (ms(0..=86_400_000), ms(0..=3_600_000), ms(100..=86_400_000), option::of(ms(0..=604_800_000)));
    let command = || vec("[a-z {}.\"]{0,9}", 0..4);
    let hooks = (command(), command(), command(), command(), command(), command());
    let hooks = (hooks, ms(100..=86_400_000), any::<bool>());
    let warming = (option::of("/[a-z/]{0,9}"), 1u32..=10_000, ms(10..=3_600_000));
    let all = (strategy, portions, times, on_fail, approve, hooks, warming);
    all.prop_map(|(strategy, portions, times, on_fail, approve, hooks, warming)| {
        let (warm_up, warm_up_requests, warm_up_timeout) = warming;
        let (commands, hook_timeout, hooks_repeatable) = hooks;
        let (before, before_switch, per_batch, after_switch, after, on_rollback) = commands;
        let (batch, max_unavailable, surge) = portions;
        let (pause_between, min_healthy, start_timeout, keep_previous) = times;
        Deploy {
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
        }
    })
}
