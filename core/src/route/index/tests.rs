//! The arranged routes answer as trying them one after another does.

use proptest::prelude::*;

use super::*;

/// What the index must answer: the first route that matches, by trying each.
fn one_after_another(
    routes: &[Route],
    host: &str,
    path: &str,
    takes: impl Fn(usize) -> bool,
) -> Option<usize> {
    let matches = |route: &Route| {
        let host_matches = match &route.host {
            None => true,
            Some(HostPattern::Exact(wanted)) => host.eq_ignore_ascii_case(wanted),
            Some(HostPattern::Suffix(suffix)) => {
                host.len() > suffix.len()
                    && host.as_bytes()[host.len() - suffix.len()..].eq_ignore_ascii_case(suffix.as_bytes())
            }
        };
        let path_matches = match &route.path {
            None => true,
            Some(PathPattern::Prefix(prefix)) => path.starts_with(prefix.as_str()),
            Some(PathPattern::Exact(wanted)) => path == wanted,
        };
        host_matches && path_matches
    };
    routes
        .iter()
        .enumerate()
        .find(|(number, route)| matches(route) && takes(*number))
        .map(|(number, _)| number)
}

/// Few letters, so that names and paths meet.
fn host() -> impl Strategy<Value = String> {
    prop_oneof![8 => "[ab]{1,2}(\\.[ab]{1,2}){0,3}", 1 => "\\[::1\\]", 1 => "[abAB.]{0,6}"]
}

fn path() -> impl Strategy<Value = String> {
    prop_oneof![8 => "/([ab]/?){0,5}", 1 => "\\*", 1 => "/[ab/%2]{0,8}"]
}

fn route() -> impl Strategy<Value = Route> {
    // A request may be for no host; a route that names none is one without a pattern.
    let name = || host().prop_filter("a name", |name| !name.is_empty());
    let host_pattern = prop_oneof![
        name().prop_map(HostPattern::Exact),
        name().prop_map(|name| HostPattern::Suffix(format!(".{name}"))),
    ];
    let path_pattern =
        prop_oneof![path().prop_map(PathPattern::Exact), path().prop_map(PathPattern::Prefix),];
    (prop::option::of(host_pattern), prop::option::of(path_pattern)).prop_map(|(host, path)| Route {
        host,
        path,
        ..Route::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_index_answers_as_trying_one_route_after_another_does(
        routes in prop::collection::vec(route(), 0..40),
        asked in prop::collection::vec((host(), path(), any::<u64>()), 1..20),
    ) {
        let index = Index::new(&routes);
        for (host, path, headers) in asked {
            // Headers are whatever they are: a route takes a request or not.
            let takes = |number: usize| headers >> (number % 64) & 1 == 1 || headers % 4 == 0;
            let expected = one_after_another(&routes, &host, &path, takes);
            prop_assert_eq!(index.first(&host, &path, takes), expected, "{} {}", host, path);
            let upper = host.to_ascii_uppercase();
            prop_assert_eq!(index.first(&upper, &path, takes), expected, "{} {}", upper, path);
        }
    }
}

#[test]
fn of_routes_that_nest_the_first_in_the_file_wins_and_not_the_longest() {
    let prefix = |text: &str| Route { path: Some(PathPattern::Prefix(text.into())), ..Route::default() };
    let routes = [prefix("/a/b/c"), prefix("/a"), prefix("/a/b")];
    let index = Index::new(&routes);
    let first = |path: &str| index.first("h", path, |_| true);
    assert_eq!(
        [first("/a/b/c/d"), first("/a/b/d"), first("/a"), first("/b")],
        [Some(0), Some(1), Some(1), None]
    );
}

#[test]
fn a_thousand_routes_are_asked_about_no_more_than_the_one_that_matches() {
    let named = |number: usize| Route {
        host: Some(HostPattern::Exact(format!("h{number}.example"))),
        path: Some(PathPattern::Prefix(format!("/{number}/"))),
        ..Route::default()
    };
    let routes: Vec<Route> = (0..1000).map(named).collect();
    let index = Index::new(&routes);
    for number in 0..1000 {
        let asked = std::cell::Cell::new(0);
        let takes = |_: usize| {
            asked.set(asked.get() + 1);
            true
        };
        let found = index.first(&format!("h{number}.example"), &format!("/{number}/x"), takes);
        assert_eq!((found, asked.get()), (Some(number), 1));
    }
}
