//! Every kind of route against hosts, paths and headers as clients send them.

use super::*;
use crate::config::Protocol;
use crate::http::{Parsed, Storage, request};

#[test]
fn a_connection_goes_by_the_host_that_its_client_wants() {
    let route =
        |host: Option<HostPattern>, service| Route { host, service: Some(service), ..Route::default() };
    let exact = |host: &str| Some(HostPattern::Exact(host.to_owned()));
    let table =
        table(vec![route(exact("a.example"), 0), route(Some(HostPattern::Suffix(".example".to_owned())), 1)]);
    for (host, wanted) in [
        (Some("a.example"), (0, Some(0))),
        (Some("b.a.example"), (1, Some(1))),
        (Some("example"), (9, None)),
        (None, (9, None)),
    ] {
        assert_eq!(table.lookup_host(host), Some(wanted), "{host:?}");
    }
}

fn table(routes: Vec<Route>) -> Table {
    Table::new(&Listener {
        bind: Vec::new(),
        protocol: Protocol::Http,
        accept_proxy: Vec::new(),
        service: Some(9),
        routes,
        tls: Vec::new(),
        client_ca: None,
        redirect: None,
        hsts: None,
    })
}

fn route(host: Option<HostPattern>, path: Option<PathPattern>, service: usize) -> Route {
    Route { host, path, service: Some(service), ..Route::default() }
}

fn look_up(table: &Table, head: &str) -> Option<usize> {
    let mut storage = Storage::new();
    match request::parse(head.as_bytes(), &mut storage) {
        Ok(Parsed::Whole(request)) => table.lookup(&request).map(|goes| match goes {
            Goes::To { service, .. } => service,
            Goes::Redirect(redirect) => panic!("{redirect:?}"),
        }),
        other => panic!("not a whole head: {other:?}"),
    }
}

fn get(table: &Table, host: &str, target: &str) -> Option<usize> {
    look_up(table, &format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
}

#[test]
fn an_exact_host_matches_in_any_case_with_or_without_port_and_final_dot() {
    let table = table(vec![route(Some(HostPattern::Exact("api.example".into())), None, 1)]);
    for host in ["api.example", "API.Example", "api.example:8080", "api.example.", "api.example.:80"] {
        assert_eq!(get(&table, host, "/"), Some(1), "{host}");
    }
    for host in ["example", "xapi.example", "api.example.org"] {
        assert_eq!(get(&table, host, "/"), Some(9), "{host}");
    }
}

#[test]
fn a_wildcard_host_matches_subdomains_and_not_the_domain_itself() {
    let table = table(vec![route(Some(HostPattern::Suffix(".example".into())), None, 1)]);
    assert_eq!(get(&table, "a.example", "/"), Some(1));
    assert_eq!(get(&table, "a.b.EXAMPLE:1", "/"), Some(1));
    assert_eq!(get(&table, "example", "/"), Some(9));
    assert_eq!(get(&table, "notexample", "/"), Some(9));
}

#[test]
fn a_path_is_matched_by_prefix_or_exactly_and_without_its_query() {
    let table = table(vec![
        route(None, Some(PathPattern::Exact("/v1".into())), 1),
        route(None, Some(PathPattern::Prefix("/v1/".into())), 2),
    ]);
    assert_eq!(get(&table, "x", "/v1"), Some(1));
    assert_eq!(get(&table, "x", "/v1?a=/v1/"), Some(1));
    assert_eq!(get(&table, "x", "/v1/users"), Some(2));
    assert_eq!(get(&table, "x", "/v2"), Some(9));
}

#[test]
fn every_header_of_a_route_must_be_there() {
    let mut with_headers = route(None, None, 1);
    with_headers.headers = vec![("x-beta".into(), "1".into()), ("x-team".into(), "a".into())];
    let table = table(vec![with_headers]);
    assert_eq!(look_up(&table, "GET / HTTP/1.1\r\nHost: x\r\nX-Beta: 1\r\nX-Team: a\r\n\r\n"), Some(1));
    assert_eq!(look_up(&table, "GET / HTTP/1.1\r\nHost: x\r\nX-Beta: 1\r\n\r\n"), Some(9));
    assert_eq!(look_up(&table, "GET / HTTP/1.1\r\nHost: x\r\nX-Beta: 2\r\nX-Team: a\r\n\r\n"), Some(9));
}

#[test]
fn the_first_match_wins() {
    let table = table(vec![
        route(None, Some(PathPattern::Prefix("/a".into())), 1),
        route(Some(HostPattern::Exact("h".into())), None, 2),
    ]);
    assert_eq!(get(&table, "h", "/a"), Some(1));
    assert_eq!(get(&table, "h", "/b"), Some(2));
}

#[test]
fn an_ipv6_host_keeps_its_brackets() {
    let table = table(vec![route(Some(HostPattern::Exact("[::1]".into())), None, 1)]);
    assert_eq!(get(&table, "[::1]:8080", "/"), Some(1));
}

/// A table of one route with these lines in the configuration.
fn configured(lines: &str) -> Table {
    let text = format!(
        "[[listener]]\nbind = [\"127.0.0.1:0\"]\nservice = \"a\"\n[[listener.route]]\npath = \"/\"\n{lines}\n\
         [service.a]\ninstances = [\"10.0.0.1:80\"]\n"
    );
    let config = crate::config::parse(&text).unwrap_or_else(|mistakes| panic!("{mistakes:#?} in {text}"));
    Table::new(&config.listeners[0])
}

fn with_request<T>(head: &str, check: impl FnOnce(&Request<'_, '_>) -> T) -> T {
    let mut storage = Storage::new();
    match request::parse(head.as_bytes(), &mut storage) {
        Ok(Parsed::Whole(request)) => check(&request),
        other => panic!("not a whole head: {other:?}"),
    }
}

#[test]
fn a_route_without_edits_has_none() {
    with_request("GET / HTTP/1.1\r\nHost: h\r\n\r\n", |request| {
        assert!(matches!(configured("service = \"a\"").lookup(request), Some(Goes::To { edits: None, .. })));
    });
}

#[test]
fn the_beginning_of_a_path_is_replaced_in_whole_segments() {
    let target = |lines: &str, target: &str| {
        let table = configured(&format!("service = \"a\"\n{lines}"));
        with_request("GET / HTTP/1.1\r\nHost: h\r\n\r\n", |request| match table.lookup(request) {
            Some(Goes::To { edits: Some(edits), .. }) => edits.target(target),
            other => panic!("{other:?}"),
        })
    };
    for lines in [
        "strip_prefix = \"/v1\"",
        "strip_prefix = \"/v1/\"",
        "rewrite_prefix = { from = \"/v1\", to = \"/\" }",
    ] {
        let stripped = |path: &str| target(lines, path);
        assert_eq!(stripped("/v1/x?y=/v1"), Some("/x?y=/v1".into()));
        assert_eq!(stripped("/v1"), Some("/".into()));
        assert_eq!(stripped("/v1?x"), Some("/?x".into()));
        assert_eq!([stripped("/v10"), stripped("/V1/x"), stripped("*"), stripped("/")], [const { None }; 4]);
    }
    let rewritten = |path: &str| target("rewrite_prefix = { from = \"/a/b\", to = \"/c\" }", path);
    assert_eq!([rewritten("/a/b"), rewritten("/a/b/d")], [Some("/c".into()), Some("/c/d".into())]);
    assert_eq!(rewritten("/a/b?x"), Some("/c?x".into()));
    let put_before = |path: &str| target("rewrite_prefix = { from = \"/\", to = \"/c\" }", path);
    assert_eq!(
        [put_before("/"), put_before("/x"), put_before("*")],
        [Some("/c/".into()), Some("/c/x".into()), None]
    );
}

#[test]
fn a_redirect_is_made_of_what_was_asked_for() {
    let sent = |to: &str, head: &str| {
        let table = configured(&format!("redirect = {{ to = \"{to}\" }}"));
        with_request(head, |request| match table.lookup(request) {
            Some(Goes::Redirect(redirect)) => location(redirect, request),
            other => panic!("{other:?}"),
        })
    };
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: Shop.example:8080\r\n\r\n");
    let whole = "https://{host}{path}{query}";
    assert_eq!(sent(whole, &get("/a%0d%0a?b={host}")), Some("https://Shop.example/a%0d%0a?b={host}".into()));
    assert_eq!(sent(whole, &get("//evil.example")), Some("https://Shop.example//evil.example".into()));
    assert_eq!(sent("/new{path}?from=shop", &get("/a?b")), Some("/new/a?from=shop".into()));
    assert_eq!(sent("http://x.example:81", &get("/a?b")), Some("http://x.example:81".into()));
    assert_eq!(sent(whole, "GET / HTTP/1.0\r\n\r\n"), None);
    assert_eq!(sent("/there", "GET / HTTP/1.0\r\n\r\n"), Some("/there".into()));
}

#[test]
fn no_redirect_lets_the_client_choose_the_host() {
    for to in [
        "{path}",
        "/{path}",
        "//{host}",
        "//evil.example",
        "/\\\\x",
        "https://{path}",
        "https://{query}",
        "https://{host}.x{path}",
        "https://x{host}",
        "https://",
        "https:///x",
        "https://{host}:x/",
        "https://u@h/",
        "javascript:alert(1)",
        "ftp://h/",
        "https://h/{unknown}",
        "https://h/{path",
        "https://h/}",
        "https://h/ x",
        "",
    ] {
        let text = format!(
            "[[listener]]\nbind = [\"127.0.0.1:0\"]\n[[listener.route]]\nredirect = {{ to = \"{to}\" }}\n"
        );
        assert!(crate::config::parse(&text).is_err(), "{to}");
    }
}
