//! That every difference is named, and nothing else: by examples, and by configurations made at random.

use proptest::prelude::*;

use super::*;
use crate::config::tests::generated::config;
use crate::config::{Listener, Service, parse};

const BASE: &str = "[[listener]]\nbind = [\"127.0.0.1:8080\"]\nservice = \"shop\"\n\
                    [[listener]]\nbind = [\"127.0.0.1:8081\"]\nservice = \"api\"\n\
                    [service.shop]\nrun = { command = [\"shop\"], replicas = 2 }\n\
                    [service.api]\ninstances = [\"10.0.0.1:80\", \"10.0.0.2:80\"]\n";

/// What `diff` says of the base and the base with some text replaced.
fn told(replaced: &[(&str, &str)]) -> Vec<String> {
    let text = replaced.iter().fold(BASE.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    });
    diff(&parse(BASE).unwrap(), &parse(&text).unwrap()).iter().map(ToString::to_string).collect()
}

#[test]
fn every_change_is_named() {
    assert_eq!(told(&[]), [""; 0]);
    let replicas = "replicas = 2";
    assert_eq!(told(&[(replicas, "replicas = 3")]), ["instance shop/shop-3: added"]);
    assert_eq!(told(&[(replicas, "replicas = 1")]), ["instance shop/shop-2: removed"]);
    assert_eq!(
        told(&[("[\"shop\"]", "[\"shop\", \"-v\"]")]),
        ["service shop: run.command changed (waits for a restart)"]
    );
    assert_eq!(
        told(&[("\"10.0.0.1:80\", ", "\"10.0.0.3:80\", ")]),
        ["instance api/10.0.0.1:80: removed", "instance api/10.0.0.3:80: added"]
    );
    let weighed = "{ address = \"10.0.0.1:80\", weight = 3 }";
    assert_eq!(
        told(&[
            ("[service.api]", "[service.api]\nbalance = \"ip-hash\"\npark = { requests = 1 }"),
            ("\"10.0.0.1:80\"", weighed)
        ]),
        ["service api: balance, park changed", "instance api/10.0.0.1:80: weight changed"]
    );
    assert_eq!(
        told(&[(
            "[[listener]]\nbind = [\"127.0.0.1:8080\"]",
            "[node]\nthreads = 3\nname = \"x\"\n[limits]\nconnections = 5\n[[listener]]\nbind = [\"127.0.0.1:8080\"]"
        )]),
        ["node: name changed", "node: threads changed (waits for a restart)", "limits: connections changed"]
    );
}

#[test]
fn a_service_that_is_replaced_by_another_takes_its_routes_along() {
    let changes = told(&[("[service.api]", "[service.web]"), ("\"api\"", "\"web\"")]);
    let expected = ["listener 127.0.0.1:8081: service changed", "service api: removed", "service web: added"];
    assert_eq!(changes, expected);
}

#[test]
fn a_listener_is_known_by_an_address_that_it_keeps() {
    let moved = [("127.0.0.1:8081", "127.0.0.1:8082")];
    assert_eq!(told(&moved), ["listener 127.0.0.1:8081: removed", "listener 127.0.0.1:8082: added"]);
    let grown = [("\"127.0.0.1:8081\"", "\"127.0.0.1:8082\", \"127.0.0.1:8081\"")];
    assert_eq!(told(&grown), ["listener 127.0.0.1:8082, 127.0.0.1:8081: bind changed"]);
}

#[test]
fn only_what_ends_connections_says_so() {
    let new = BASE.replace("127.0.0.1:8081", "127.0.0.1:8082").replace("replicas = 2", "replicas = 1");
    let changes = diff(&parse(BASE).unwrap(), &parse(&new).unwrap());
    let closing: Vec<_> =
        changes.iter().filter(|change| change.closes_connections).map(|one| &one.subject).collect();
    assert_eq!(closing, [&Subject::Listener("127.0.0.1:8081".to_owned())]);
}

#[test]
fn listeners_on_ports_of_the_kernels_choice_are_found_again_in_their_order() {
    let listener =
        |service: &str| format!("[[listener]]\nbind = [\"127.0.0.1:0\"]\nservice = \"{service}\"\n");
    let services = "[service.a]\ninstances = [\"10.0.0.1:80\"]\n[service.b]\ninstances = [\"10.0.0.2:80\"]\n";
    let parsed = |listeners: &[&str]| {
        parse(&(listeners.iter().map(|one| listener(one)).collect::<String>() + services)).unwrap().listeners
    };
    let pairs = pair_listeners(&parsed(&["a", "b", "a"]), &parsed(&["a", "b"]));
    assert_eq!(pairs, ListenerPairs { before: vec![Some(0), Some(1)], removed: vec![2] });
}

proptest! {
    #[test]
    fn a_configuration_does_not_differ_from_itself(one in config()) {
        prop_assert_eq!(diff(&one, &one), vec![]);
        prop_assert_eq!(effective(&one, &one), one);
    }

    #[test]
    fn the_order_of_services_means_nothing(one in config()) {
        let mut other = one.clone();
        other.services.reverse();
        let last = one.services.len().wrapping_sub(1);
        for listener in &mut other.listeners {
            let all = listener.routes.iter_mut().map(|route| &mut route.service);
            all.chain([&mut listener.service]).flatten().for_each(|index| *index = last - *index);
        }
        prop_assert_eq!(diff(&one, &other), vec![]);
    }

    /// What the diff does not name is the same in both: the old one with all that is named replaced is the new one.
    #[test]
    fn what_differs_is_named(one in config(), other in config(), choice in any::<u64>()) {
        let new = mixed(&one, &other, choice);
        let changes = diff(&one, &new);
        prop_assert_eq!(known(&applied(&one, &new, &changes)), known(&new));
    }

    /// After a reload only that differs which waits for something.
    #[test]
    fn what_runs_after_a_reload_differs_only_in_what_waits(one in config(), other in config(), choice in any::<u64>()) {
        let new = mixed(&one, &other, choice);
        let runs = effective(&one, &new);
        prop_assert!(diff(&runs, &new).iter().all(|change| change.when != When::Now));
        prop_assert!(diff(&one, &runs).iter().all(|change| change.when == When::Now));
        prop_assert_eq!(diff(&one, &new).iter().filter(|change| change.when != When::Now).count(), diff(&runs, &new).len());
    }
}

/// A neighbour of `one`: by the bits of `choice`, services have settings of the other's under their own names, go, or
/// come.
fn mixed(one: &Config, other: &Config, choice: u64) -> Config {
    let bit = |n: usize| choice >> (n % 64) & 1 == 1;
    let mut new = one.clone();
    if bit(0) {
        new.node = other.node.clone();
    }
    if bit(1) {
        new.limits = other.limits.clone();
    }
    if bit(2) {
        (new.access_log, new.trace) = (other.access_log.clone(), other.trace.clone());
    }
    if bit(3) {
        (new.listeners, new.services) = (other.listeners.clone(), other.services.clone());
        return new;
    }
    for (at, (service, model)) in new.services.iter_mut().zip(&other.services).enumerate() {
        if bit(4 + at) {
            *service = Service { name: service.name.clone(), ..model.clone() };
        }
    }
    if bit(40) {
        let index = new.services.len();
        let name = "one-that-is-new".into();
        new.services.push(Service { name, ..other.services[0].clone() });
        new.listeners[0].service = Some(index);
    }
    if bit(41) {
        new.listeners.pop();
    }
    new
}

/// The old configuration with everything that the changes name as it is in the new one.
fn applied(old: &Config, new: &Config, changes: &[Change]) -> Config {
    let mut out = old.clone();
    // Services first: routes name them.
    out.listeners.iter_mut().for_each(|listener| *listener = by_name(listener, old).0);
    for change in changes {
        let named = |setting: &str| change.settings.iter().any(|one| one == setting);
        match (&change.subject, change.kind) {
            (Subject::Node, _) => out.node = take_node(&out.node, &new.node, named),
            (Subject::AccessLog, _) => out.access_log = new.access_log.clone(),
            (Subject::Trace, _) => out.trace = new.trace.clone(),
            (Subject::Limits, _) => out.limits = new.limits.clone(),
            (Subject::Listener(_), _) => {}
            (Subject::Service(name), Kind::Removed) => out.services.retain(|one| *one.name != **name),
            (Subject::Service(name), Kind::Added) => out.services.push(service(new, name).clone()),
            (Subject::Service(name), Kind::Changed) => {
                let to = out.services.iter_mut().find(|one| *one.name == **name).unwrap();
                take_service(to, service(new, name), named);
            }
            (Subject::Instance(name, _), _) => {
                let to = out.services.iter_mut().find(|one| *one.name == **name).unwrap();
                let from = service(new, name);
                to.instances = from.instances.clone();
                to.run = match (to.run.take(), &from.run) {
                    (Some(run), Some(new)) => Some(crate::config::Run { replicas: new.replicas, ..run }),
                    (_, new) => new.clone(),
                };
            }
        }
    }
    let unchanged = !changes.iter().any(|change| matches!(change.subject, Subject::Listener(_)));
    if unchanged {
        // Nothing was named: by name they must be the same.
        let names =
            |config: &Config| config.listeners.iter().map(|one| by_name(one, config).1).collect::<Vec<_>>();
        assert_eq!(names(old), names(new));
    }
    out.listeners = new.listeners.clone();
    out
}

fn service<'a>(config: &'a Config, name: &str) -> &'a Service {
    config.services.iter().find(|service| *service.name == *name).unwrap()
}

fn take_node(old: &Node, new: &Node, named: impl Fn(&str) -> bool) -> Node {
    let mut node = old.clone();
    let Node { name, state, admin, metrics, threads, user, io_uring, watchdog } = new.clone();
    named("name").then(|| node.name = name);
    named("state").then(|| node.state = state);
    named("admin").then(|| node.admin = admin);
    named("metrics").then(|| node.metrics = metrics);
    named("threads").then(|| node.threads = threads);
    named("user").then(|| node.user = user);
    named("io_uring").then(|| node.io_uring = io_uring);
    named("watchdog").then(|| node.watchdog = watchdog);
    node
}

fn take_service(to: &mut Service, new: &Service, named: impl Fn(&str) -> bool) {
    let Service { instances: _, name: _, run, .. } = new.clone();
    let kept = to.clone();
    if let (Some(to), Some(new)) = (&mut to.run, run) {
        named("run.command").then(|| to.command = new.command);
        named("run.directory").then(|| to.directory = new.directory);
        named("run.revision").then(|| to.revision = new.revision);
        named("run.environment").then(|| to.environment = new.environment);
        named("run.user").then(|| to.user = new.user);
        named("run.log").then(|| to.log = new.log);
    }
    let take = |setting: &str| if named(setting) { new } else { &kept }.clone();
    to.balance = take("balance").balance;
    to.timeout = take("timeout").timeout;
    to.retry = take("retry").retry;
    to.park = take("park").park;
    to.max_connections = take("max_connections").max_connections;
    to.queue = take("queue").queue;
    to.slow_start = take("slow_start").slow_start;
    to.drain = take("drain").drain;
    to.health = take("health").health;
    to.outlier = take("outlier").outlier;
    to.sticky = take("sticky").sticky;
    to.send_proxy = take("send_proxy").send_proxy;
    to.tls = take("tls").tls;
    to.deploy = take("deploy").deploy;
}

type ByName = (Listener, Vec<Option<std::sync::Arc<str>>>);

/// A listener without indexes, and the names that they stood for.
fn by_name(listener: &Listener, config: &Config) -> (Listener, ByName) {
    let mut bare = listener.clone();
    let name = |index: Option<usize>| index.map(|index| config.services[index].name.clone());
    let mut names = vec![name(listener.service)];
    names.extend(listener.routes.iter().map(|route| name(route.service)));
    bare.service = None;
    bare.routes.iter_mut().for_each(|route| route.service = None);
    bare.bind.sort_unstable();
    (listener.clone(), (bare, names))
}

/// What a configuration means, whatever the order of services and instances.
fn known(config: &Config) -> Config {
    let mut config = config.clone();
    config.listeners.clear();
    config.services.sort_by(|a, b| a.name.cmp(&b.name));
    config.services.iter_mut().for_each(|one| one.instances.sort_by_key(|instance| instance.address));
    config
}
