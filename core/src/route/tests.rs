//! Every kind of route against hosts, paths and headers as clients send them.

use super::*;
use crate::config::Protocol;
use crate::http::{Parsed, Storage, request};

fn table(routes: Vec<Route>) -> Table {
    Table::new(&Listener {
        bind: Vec::new(),
        protocol: Protocol::Http,
        service: Some(9),
        routes,
        tls: Vec::new(),
        client_ca: None,
        redirect: None,
        hsts: None,
    })
}

fn route(host: Option<HostPattern>, path: Option<PathPattern>, service: usize) -> Route {
    Route { host, path, headers: Vec::new(), service }
}

fn look_up(table: &Table, head: &str) -> Option<usize> {
    let mut storage = Storage::new();
    match request::parse(head.as_bytes(), &mut storage) {
        Ok(Parsed::Whole(request)) => table.lookup(&request),
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
