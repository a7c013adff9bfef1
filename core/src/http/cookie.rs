//! Cookies as far as a proxy needs them (RFC 6265): finding one, taking one of ours out of a Cookie header without
//! touching the others, reading what an answer sets. Values are bytes; nothing is decoded.

use super::Headers;

/// Before the name of a cookie that only this host may set, and only over TLS (RFC 6265bis section 4.1.3.2).
pub const HOST_PREFIX: &str = "__Host-";

/// What is left of a Cookie header's value.
#[derive(Debug, PartialEq, Eq)]
pub enum Left {
    /// All of it: it held none of ours.
    All,
    /// These cookies, byte for byte as they came.
    Some(Vec<u8>),
    /// None: the line goes.
    Nothing,
}

/// The values of the request's cookies called `name`, in order.
pub fn values<'b>(headers: Headers<'_, 'b>, name: &[u8]) -> impl Iterator<Item = &'b [u8]> {
    lines(headers, "cookie")
        .flat_map(|line| line.split(|&byte| byte == b';'))
        .filter_map(pair)
        .filter(move |(key, _)| *key == name)
        .map(|(_, value)| value)
}

/// The value that an answer gives the cookie called `name`; the last if it does so more than once, None if it takes
/// the cookie away.
pub fn set_value<'b>(headers: Headers<'_, 'b>, name: &[u8]) -> Option<&'b [u8]> {
    lines(headers, "set-cookie")
        .filter_map(|line| pair(line.split(|&byte| byte == b';').next().unwrap_or_default()))
        .filter(|(key, _)| *key == name)
        .last()
        .map(|(_, value)| value)
        .filter(|value| !value.is_empty())
}

/// The value of a Cookie header without the cookies whose name is `ours`.
pub fn without(value: &[u8], ours: impl Fn(&[u8]) -> bool) -> Left {
    let is_ours = |piece: &[u8]| ours(pair(piece).map_or_else(|| piece.trim_ascii(), |(key, _)| key));
    let pieces = || value.split(|&byte| byte == b';');
    if !pieces().any(is_ours) {
        return Left::All;
    }
    let kept: Vec<&[u8]> = pieces().filter(|piece| !is_ours(piece)).collect();
    let left = kept.join(&b';');
    match left.trim_ascii() {
        b"" => Left::Nothing,
        left => Left::Some(left.to_owned()),
    }
}

/// Whether caches that serve several users may store an answer: it says `public`, `s-maxage` or a `max-age` above
/// zero, and neither `private` nor `no-store` (RFC 9111 section 5.2.2). A cookie of one user must not be in it. An answer
/// without Cache-Control is not taken for one: caches that store those regardless leave out what sets cookies.
pub fn is_shared(headers: Headers<'_, '_>) -> bool {
    let (mut shared, mut private) = (false, false);
    let directives = lines(headers, "cache-control").flat_map(|line| line.split(|&byte| byte == b','));
    for directive in directives {
        let (name, value) = pair(directive).unwrap_or_else(|| (directive.trim_ascii(), b""));
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
        let above_zero = || value.iter().any(|digit| (b'1'..=b'9').contains(digit));
        shared |= is("public") || is("s-maxage") || is("max-age") && above_zero();
        private |= is("private") || is("no-store");
    }
    shared && !private
}

fn lines<'b>(headers: Headers<'_, 'b>, name: &str) -> impl Iterator<Item = &'b [u8]> {
    headers.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// `name=value` without the blanks around either.
fn pair(piece: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = piece.iter().position(|&byte| byte == b'=')?;
    Some((piece[..at].trim_ascii(), piece[at + 1..].trim_ascii()))
}
