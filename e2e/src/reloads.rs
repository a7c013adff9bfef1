//! A series of configurations, each of which differs from the one before in one way, until every kind of change has been
//! there; and then over again. What the clients of the stage use is in all of them.

use std::fmt::Write as _;
use std::net::SocketAddr;

use crate::certificate::Certificate;

/// How many kinds of changes there are.
pub const KINDS: u64 = 18;

/// The configuration after so many changes. `/fixed` is answered by one of the fixed instances, or by the service `shop`,
/// of which everup runs the instances, like everything else.
pub fn configuration(changes: u64, fixed: [SocketAddr; 2]) -> String {
    with_tls(changes, fixed, None)
}

/// The same with an https listener after the first one, which always shows the first of two certificates.
pub fn secured(changes: u64, fixed: [SocketAddr; 2], certificates: [&Certificate; 2]) -> String {
    with_tls(changes, fixed, Some(certificates))
}

fn with_tls(changes: u64, fixed: [SocketAddr; 2], certificates: Option<[&Certificate; 2]>) -> String {
    let is = |kind: u64| (changes + KINDS - 1 - kind) / KINDS % 2 == 1;
    let either = |kind: u64, one: &'static str, other: &'static str| if is(kind) { other } else { one };
    let mut text = String::new();
    let mut line = |text_line: &str| writeln!(text, "{text_line}").expect("text takes text");
    line(either(0, "", "[trace]\nparent = \"make\""));
    line(either(1, "", "[access_log]\nto = \"access.log\""));
    line("[limits]");
    line(either(2, "", "head_bytes = \"20KiB\"\nconnections_per_client = 5000"));
    line(either(16, "", "handshakes = 1999"));
    // The last of each round takes the whole service away, the first of the next one brings it back.
    let has_fixed = changes == 0 || !changes.is_multiple_of(KINDS);
    let shown = certificates.map(|[first, second]| match is(16) {
        false => format!("tls = [{}]", first.entry()),
        true => format!("tls = [{}, {}]", first.entry(), second.entry()),
    });
    for tls in [Some(String::new()), shown].into_iter().flatten() {
        line("[[listener]]\nbind = [\"127.0.0.1:0\"]\nservice = \"shop\"");
        line(&tls);
        if has_fixed {
            line("[[listener.route]]\npath = \"/fixed\"\nservice = \"fixed\"");
            line(either(4, "", "set_headers = { x-reloaded = \"1\" }"));
        }
    }
    if is(5) {
        line("[[listener]]\nbind = [\"127.0.0.1:0\"]\nservice = \"shop\"");
    }
    line("[service.shop]");
    line(either(6, "", "balance = \"least-connections\""));
    line(either(7, "", "sticky = { by = \"cookie\" }"));
    line(either(8, "", "outlier = \"off\""));
    line(either(9, "", "max_connections = 1000"));
    line(either(10, "", "retry = { attempts = 5 }\npark = { time = \"20s\" }\ntimeout = { idle = \"50s\" }"));
    line(either(11, "drain = { time = \"20s\" }", "drain = { time = \"10s\" }"));
    line("[service.shop.health]\nhttp = \"/healthz\"\nrise = 1");
    line(either(12, "interval = \"500ms\"", "interval = \"400ms\""));
    line("[service.shop.run]\ncommand = [\"{everup}\", \"sample-app\", \"--port\", \"{port}\"]");
    line(either(13, "replicas = 2", "replicas = 3"));
    line(either(14, "", "environment = { SHADE = \"blue\" }"));
    if has_fixed {
        let [a, b] = fixed;
        let (first, second) = if is(15) { (b, a) } else { (a, b) };
        line(
            "[service.fixed]\nbalance = \"weighted-round-robin\"\nhealth = { http = \"/healthz\", interval = \"500ms\" }",
        );
        line(&match is(3) {
            true => format!("instances = [{{ address = \"{first}\", weight = 3 }}, \"{second}\"]"),
            false => format!("instances = [\"{first}\"]"),
        });
    }
    text
}
