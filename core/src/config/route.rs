//! `[[listener.route]]`: which requests of a listener go to which service.

use super::kind::{optional, pairs, text};
use super::reading::{Reading, Refusal, Table};
use super::section::section;
use super::service::service_name;

section! {
    /// Which requests of a listener go to which service. All that a route names must match; the first route that matches
    /// takes the request.
    pub struct Route {
        /// The host that the request is for, without port; `*.example` stands for every host below `example`.
        pub host: Option<HostPattern> = optional(text("host pattern", "a host name, or one with a leading `*.`", host_pattern)),
            default unset "every host", because "host names have at most 253 characters, a label at most 63";
        /// The path: what it begins with, or all of it after `=`.
        pub path: Option<PathPattern> = optional(text("path pattern", "`/beginning` or `=/exactly`", path_pattern)),
            default unset "every path", because "it is compared byte for byte, without the query";
        /// Header fields that must be there with exactly this value.
        pub headers: Vec<(String, String)> = pairs("table of strings", "names in any case", 16, header), default {},
            because "every one is looked for in every request that comes so far";
        /// The service that gets the request.
        pub service: usize = service_name(), default required, because "a route leads somewhere";
    }
}

/// The hosts of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// Lower case.
    Exact(String),
    /// `*.example` is held as `.example`: matches any one or more labels before it.
    Suffix(String),
}

/// The paths of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    /// Every path that begins so.
    Prefix(String),
    /// This path only. Held without the `=` that it is written with.
    Exact(String),
}

fn host_pattern(text: &str) -> Result<HostPattern, Refusal> {
    let (name, suffix) = match text.strip_prefix("*.") {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    if name.contains('*') {
        return Err(Refusal::new(
            "* elsewhere than in front",
            "write \"*.example\": only whole labels in front",
        ));
    }
    if let Some((host, port)) = name.rsplit_once(':')
        && !host.contains(':')
        && port.bytes().all(|digit| digit.is_ascii_digit())
    {
        return Err(Refusal::new(
            "has a port",
            format!("write \"{host}\": a listener has its ports in `bind`"),
        ));
    }
    let literal = name.parse::<std::net::IpAddr>().is_ok()
        || name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).is_some_and(is_ipv6);
    if !literal || suffix {
        judge_host_name(name)?;
    }
    let name = name.to_ascii_lowercase();
    Ok(if suffix { HostPattern::Suffix(format!(".{name}")) } else { HostPattern::Exact(name) })
}

fn is_ipv6(text: &str) -> bool {
    text.parse::<std::net::Ipv6Addr>().is_ok()
}

/// RFC 1123 section 2.1, and `_`, which is in use.
fn judge_host_name(name: &str) -> Result<(), Refusal> {
    if name.is_empty() || name.len() > 253 {
        return Err(Refusal::new("1 to 253 characters", "write a host name"));
    }
    if let Some(other) = name.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-' | '_')) {
        let hint = "letters, digits, - and . only (names of other alphabets in their xn-- form)";
        return Err(Refusal::new(format!("{other:?} is not allowed"), hint));
    }
    if name.split('.').any(|label| label.is_empty() || label.len() > 63) {
        return Err(Refusal::new(
            "a label is empty or longer than 63",
            "write a host name, without a dot at its end",
        ));
    }
    Ok(())
}

fn path_pattern(text: &str) -> Result<PathPattern, Refusal> {
    let path = text.strip_prefix('=').unwrap_or(text);
    if !path.starts_with('/') {
        let hint = format!("write \"/{path}\", or \"=/{path}\" for exactly this path");
        return Err(Refusal::new("must begin with / or =/", hint));
    }
    if let Some(other) = path.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '?' | '#')) {
        let hint = "a path as it stands in a request: without query, other characters as %XX";
        return Err(Refusal::new(format!("{other:?} is never in a path"), hint));
    }
    if path.contains('*') {
        return Err(Refusal::new("* has no meaning here", "a path without = matches whatever begins so"));
    }
    let path_text = path.to_owned();
    Ok(if text.starts_with('=') { PathPattern::Exact(path_text) } else { PathPattern::Prefix(path_text) })
}

fn header(name: &str, value: &str) -> Result<(String, String), Refusal> {
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(Refusal::new(
            "no name of a header field",
            "letters, digits and - (RFC 9110 section 5.6.2)",
        ));
    }
    if value.trim_matches([' ', '\t']) != value || value.contains(|c: char| c.is_control() && c != '\t') {
        return Err(Refusal::new(
            "never the value of a header field",
            "without spaces around it, on one line",
        ));
    }
    Ok((name.to_ascii_lowercase(), value.to_owned()))
}

/// RFC 9110 section 5.6.2: tchar.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Tells every route that an earlier one leaves nothing for.
pub(super) fn refuse_unreachable(routes: &[Route], table: &Table<'_>, reading: &mut Reading) {
    let Some(written) = table.entries.get("route").and_then(|routes| routes.get_ref().as_array()) else {
        return;
    };
    if written.len() != routes.len() {
        return; // one could not be read: the others would be judged at the wrong places
    }
    for (later, route) in routes.iter().enumerate() {
        if let Some(earlier) = routes[..later].iter().position(|earlier| covers(earlier, route)) {
            let message = format!("route {} of this listener is never reached", later + 1);
            let label = format!("route {} takes all that it would match", earlier + 1);
            let hint = "put the narrower route first, or remove one of the two";
            reading.mistake(written[later].span(), message, label, hint);
        }
    }
}

/// Every request that `inner` matches, `outer` matches too.
fn covers(outer: &Route, inner: &Route) -> bool {
    let host = match (&outer.host, &inner.host) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(HostPattern::Exact(outer)), Some(HostPattern::Exact(inner))) => outer == inner,
        (Some(HostPattern::Exact(_)), Some(HostPattern::Suffix(_))) => false,
        (Some(HostPattern::Suffix(outer)), Some(HostPattern::Exact(inner) | HostPattern::Suffix(inner))) => {
            inner.ends_with(outer.as_str())
        }
    };
    let path = match (&outer.path, &inner.path) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(PathPattern::Prefix(outer)), Some(PathPattern::Prefix(inner) | PathPattern::Exact(inner))) => {
            inner.starts_with(outer.as_str())
        }
        (Some(PathPattern::Exact(outer)), Some(PathPattern::Exact(inner))) => outer == inner,
        (Some(PathPattern::Exact(_)), Some(PathPattern::Prefix(_))) => false,
    };
    host && path && outer.headers.iter().all(|header| inner.headers.contains(header))
}
