//! `redirect` of a route: where clients are sent instead. The target is taken apart here, so that nothing that a client
//! sends can stand where it would change the host: see docs/design/0005-edits.md.

use std::fmt;

use super::kind::{integer, text};
use super::reading::{Reading, Refusal, Table};
use super::section::section;

section! {
    /// Answers the requests of a route with a redirect, instead of passing them on.
    pub(super) struct Written {
        /// Where to: `https://host/…` or `/path`. `{host}` is the host that was asked for, without port; `{path}` its path;
        /// `{query}` its query with the `?`, or nothing.
        to: Vec<Piece> = text("redirect target", "`https://…` or `/…`, with {host}, {path} and {query}", target),
            default required, because "a redirect leads somewhere";
        /// The status: 301, 302, 303, 307 or 308.
        status: u16 = integer(301..=308), default 308,
            because "308 keeps the method and may be remembered; 307 keeps it and may not";
    }
}

/// Where a route's clients are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The location, in pieces.
    pub to: Vec<Piece>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// A piece of a location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Visible ASCII.
    Text(String),
    /// The request's host, without port.
    Host,
    /// The request's path.
    Path,
    /// The request's query with `?`, or nothing.
    Query,
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text(text) => text,
            Self::Host => "{host}",
            Self::Path => "{path}",
            Self::Query => "{query}",
        })
    }
}

pub(super) fn build(written: Written, table: &Table<'_>, reading: &mut Reading) -> Option<Redirect> {
    let Written { to, status } = written;
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        let message = format!("{status} is no redirect");
        let hint = "301, 302, 303, 307 or 308";
        reading.mistake(table.span_of("status"), message, "clients would stay", hint);
    }
    Some(Redirect { to, status })
}

fn target(text: &str) -> Result<Vec<Piece>, Refusal> {
    if text.len() > 2048 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Refusal::new("not a URL", "at most 2048 visible ASCII characters, others as %XX"));
    }
    let local = match text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) {
        Some(rest) => {
            judge_authority(rest)?;
            None
        }
        None => Some(text),
    };
    if let Some(path) = local {
        judge_path(path)?;
    }
    pieces(text)
}

/// What stands before the path is a host or `{host}`, with or without a port: nothing else that a client sent.
fn judge_authority(rest: &str) -> Result<(), Refusal> {
    let ends = [rest.find(['/', '?', '#']), rest.find("{path}"), rest.find("{query}")];
    let authority = &rest[..ends.into_iter().flatten().min().unwrap_or(rest.len())];
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse::<u16>().is_ok()),
        Some(_) | None => (authority, true),
    };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let literal = bracketed.is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
    let named =
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    if port && (literal || named || host == "{host}") {
        return Ok(());
    }
    Err(Refusal::new("no host", "write https://host/… or https://{host}…, with or without a port"))
}

/// A client that asks for `//elsewhere/` must not be sent there: `/{path}` or `{path}` would do that.
fn judge_path(path: &str) -> Result<(), Refusal> {
    let second = path.as_bytes().get(1);
    if path.starts_with('/') && !matches!(second, Some(b'/' | b'\\' | b'{')) {
        return Ok(());
    }
    Err(Refusal::new(
        "leads to wherever the client likes, or nowhere",
        "begin with https:// and a host, or with / and a name: \"https://{host}{path}{query}\"",
    ))
}

fn pieces(text: &str) -> Result<Vec<Piece>, Refusal> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find(['{', '}']) {
        let (before, found) = rest.split_at(at);
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        let known = [("{host}", Piece::Host), ("{path}", Piece::Path), ("{query}", Piece::Query)];
        let Some((word, piece)) = known.into_iter().find(|(word, _)| found.starts_with(word)) else {
            return Err(Refusal::new("an unknown placeholder", "there are {host}, {path} and {query}"));
        };
        pieces.push(piece);
        rest = &found[word.len()..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(pieces)
}
