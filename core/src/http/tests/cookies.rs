//! Cookies among other cookies.

use proptest::prelude::*;

use crate::http::cookie::{Left, is_shared, set_value, values, without};
use crate::http::response::{self, Asked};
use crate::http::{Headers, Parsed, Storage};

/// Calls `check` with these header lines.
fn with_lines<T>(lines: &str, check: impl FnOnce(Headers<'_, '_>) -> T) -> T {
    let head = format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
    let mut storage = Storage::new();
    match response::parse(head.as_bytes(), &mut storage, Asked { head: false, upgrade: false }) {
        Ok(Parsed::Whole(response)) => check(response.headers),
        other => panic!("{other:?}"),
    }
}

fn left(value: &str) -> Left {
    without(value.as_bytes(), |name| name == b"everup")
}

fn some(value: &str) -> Left {
    Left::Some(value.into())
}

#[test]
fn our_cookie_goes_and_the_others_stay_byte_for_byte() {
    assert_eq!(left("a=1; b=\"2 ;c"), Left::All);
    assert_eq!(left("a=1; everup=x; b=  2=3,\u{e9};c"), some("a=1; b=  2=3,\u{e9};c"));
    assert_eq!(left("everup=x; a=1;b=2"), some("a=1;b=2"));
    assert_eq!(left("a=1; everup=x"), some("a=1"));
    assert_eq!(left("everup=x;everup=y; a=1; everup="), some("a=1"));
    assert_eq!(left("xeverup=1; everupx=2; EVERUP=3"), Left::All);
    assert_eq!(left("a=everup=x"), Left::All);
}

#[test]
fn a_line_with_nothing_else_goes_whole() {
    for line in ["everup=x", "everup=", "everup", " everup = x ; ", "everup=x; everup=y;;"] {
        assert!(matches!(left(line), Left::Nothing | Left::Some(_)), "{line}");
    }
    assert_eq!(left("everup=x"), Left::Nothing);
    assert_eq!(left("everup"), Left::Nothing);
    assert_eq!(left(" everup = x ; "), Left::Nothing);
}

#[test]
fn a_cookie_is_found_wherever_it_stands() {
    with_lines("Cookie: a=1; id=one; id=two\r\ncookie: id = three\r\n", |headers| {
        let found: Vec<&[u8]> = values(headers, b"id").collect();
        assert_eq!(found, [&b"one"[..], b"two", b"three"]);
        assert_eq!(values(headers, b"ID").count(), 0, "names of cookies have a case");
    });
}

#[test]
fn what_an_answer_sets_last_counts_and_an_empty_value_is_none() {
    let set = |lines: &str| with_lines(lines, |headers| set_value(headers, b"id").map(<[u8]>::to_vec));
    assert_eq!(set("Set-Cookie: id=one; Path=/; id=no\r\nset-cookie: x=id=no\r\n"), Some(b"one".to_vec()));
    assert_eq!(set("Set-Cookie: id=one\r\nSet-Cookie: id=two; Secure\r\n"), Some(b"two".to_vec()));
    assert_eq!(set("Set-Cookie: id=; Max-Age=0\r\n"), None);
    assert_eq!(set("Set-Cookie: ; id=one\r\nSet-Cookie: id\r\n"), None);
}

#[test]
fn only_what_shared_caches_may_store_is_shared() {
    let shared = |lines: &str| with_lines(lines, is_shared);
    for yes in
        ["public", "Public, max-age=1", "s-maxage=0", "max-age=60", "no-cache, max-age=\"60\"", "max-age = 5"]
    {
        assert!(shared(&format!("Cache-Control: {yes}\r\n")), "{yes}");
    }
    for no in ["private, max-age=60", "no-store, public", "max-age=0", "no-cache", "", "publicity"] {
        assert!(!shared(&format!("Cache-Control: {no}\r\n")), "{no}");
    }
    assert!(shared("cache-control: no-cache\r\nX: y\r\nCache-Control: public\r\n"));
    assert!(!shared("X: public\r\n"));
}

proptest! {
    #[test]
    fn taking_ours_out_leaves_the_rest_and_is_done_after_once(
        cookies in prop::collection::vec(("(everup|a|everupa)", "[ -:<-~]{0,8}"), 0..8),
    ) {
        let written: Vec<String> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let others: Vec<&String> = written.iter().filter(|cookie| !cookie.starts_with("everup=")).collect();
        let expected = others.iter().map(|cookie| cookie.as_str()).collect::<Vec<_>>().join("; ");
        let expected = expected.trim_ascii();
        match left(&written.join("; ")) {
            Left::All => prop_assert_eq!(others.len(), cookies.len()),
            Left::Nothing => prop_assert_eq!(expected, ""),
            Left::Some(rest) => {
                prop_assert_eq!(std::str::from_utf8(&rest).unwrap(), expected);
                prop_assert_eq!(without(&rest, |name| name == b"everup"), Left::All);
            }
        }
    }
}
