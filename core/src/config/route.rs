//! `[[listener.route]]`: which requests of a listener go to which service.

use super::edits::{self, Edits, FieldEdits, Prefix};
use super::kind::{list, optional, pairs, text};
use super::reading::{Reading, Refusal, Table};
use super::redirect::{self, Redirect};
use super::section::{section, table};
use super::service::service_name;

section! {
    /// Which requests of a listener go to which service. All that a route names must match; the first route that matches
    /// takes the request.
    pub(super) struct Written {
        /// The host that the request is for, without port; `*.example` stands for every host below `example`.
        host: Option<HostPattern> = optional(text("host pattern", "a host name, or one with a leading `*.`", host_pattern)),
            default unset "every host", because "host names have at most 253 characters, a label at most 63";
        /// The path: what it begins with, or all of it after `=`.
        path: Option<PathPattern> = optional(text("path pattern", "`/beginning` or `=/exactly`", path_pattern)),
            default unset "every path", because "it is compared byte for byte, without the query";
        /// Header fields that must be there with exactly this value.
        headers: Vec<(String, String)> = pairs("table of strings", "names in any case", 16, header), default {},
            because "every one is looked for in every request that comes so far";
        /// The service that gets the request.
        service: Option<usize> = optional(service_name()), default unset "none: there must be a `redirect`",
            because "a route leads somewhere";
        /// Where clients are sent instead of to a service.
        redirect: Option<Redirect> = optional(table::<redirect::Written, _>(redirect::build)),
            default unset "the service gets the requests", because "redirects need no instance";
        /// Header fields of the request that get this value, whatever the client sent.
        set_headers: Vec<(String, String)> = pairs("table of strings", NAMES, 16, edits::request_field), default {},
            because "every one is written into every request of the route";
        /// Header lines that are added to the request.
        add_headers: Vec<(String, String)> = pairs("table of strings", NAMES, 16, edits::request_field), default {},
            because "every one is written into every request of the route";
        /// Header fields of the request that the instance does not get.
        remove_headers: Vec<String> = list(0..=16, text("name of a header field", NAMES, edits::request_name)),
            default [], because "every line of every request of the route is compared with each";
        /// Header fields of the answer that get this value, whatever the instance sent.
        response_set_headers: Vec<(String, String)> = pairs("table of strings", NAMES, 16, edits::response_field),
            default {}, because "every one is written into every answer of the route";
        /// Header lines that are added to the answer.
        response_add_headers: Vec<(String, String)> = pairs("table of strings", NAMES, 16, edits::response_field),
            default {}, because "every one is written into every answer of the route";
        /// Header fields of the answer that the client does not get.
        response_remove_headers: Vec<String> = list(0..=16, text("name of a header field", NAMES, edits::response_name)),
            default [], because "every line of every answer of the route is compared with each";
        /// What the path begins with and the instance does not get: with `/v1`, `/v1/x` becomes `/x`.
        strip_prefix: Option<String> = optional(text("path", "`/beginning`, whole segments", edits::path_prefix)),
            default unset "the path as it is", because "only whole segments go: `/v10` does not begin with `/v1`";
        /// What the path begins with, and what the instance gets instead.
        rewrite_prefix: Option<Prefix> = optional(table::<Rewritten, _>(rewritten)),
            default unset "the path as it is", because "only whole segments are replaced";
    }
}

section! {
    /// The beginning of a path, and what stands there instead.
    pub(super) struct Rewritten {
        /// What the path begins with, in whole segments.
        from: String = text("path", "`/beginning`", edits::path_prefix), default required,
            because "another path is passed on as it is";
        /// What stands there instead.
        to: String = text("path", "`/beginning`", edits::path_prefix), default required,
            because "it is written as it stands here";
    }
}

/// Which fields may be edited.
const NAMES: &str = "none of the connection's, nor of those that say where a message ends";

/// Which requests of a listener go where, and what is changed in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// The host that the request is for.
    pub host: Option<HostPattern>,
    /// The path.
    pub path: Option<PathPattern>,
    /// Header fields (lower case) that must be there with exactly this value.
    pub headers: Vec<(String, String)>,
    /// The service that gets the request; None only with a redirect.
    pub service: Option<usize>,
    /// Where the client is sent instead.
    pub redirect: Option<Redirect>,
    /// What is changed.
    pub edits: Edits,
}

/// Settings that say nothing about a redirect.
const EDITS: [&str; 8] = [
    "set_headers",
    "add_headers",
    "remove_headers",
    "response_set_headers",
    "response_add_headers",
    "response_remove_headers",
    "strip_prefix",
    "rewrite_prefix",
];

pub(super) fn build(written: Written, table: &Table<'_>, reading: &mut Reading) -> Option<Route> {
    let Written { host, path, headers, service, redirect, strip_prefix, rewrite_prefix, .. } = &written;
    if redirect.is_some() {
        let others = EDITS.iter().chain(&["service"]).filter(|key| table.has(key));
        for key in others {
            let message = format!("`{key}` has no meaning beside `redirect`");
            let label = "no instance gets these requests";
            reading.mistake(table.key_span(key), message, label, "leave one of the two out");
        }
    } else if !table.has("service") && !table.has("redirect") {
        let message = "[[listener.route]] has neither a service nor a redirect";
        let hint = "add service = \"…\", or redirect = { to = \"…\" }";
        reading.missing_keys(table, &["service", "redirect"], message, "leads nowhere", hint);
    }
    if strip_prefix.is_some() && rewrite_prefix.is_some() {
        let message = "`strip_prefix` and `rewrite_prefix` cannot both be";
        reading.mistake(
            table.key_span("strip_prefix"),
            message,
            "one path, two edits",
            "leave one of the two out",
        );
    }
    if strip_prefix.as_deref() == Some("") {
        let message = "`strip_prefix` strips nothing";
        reading.mistake(table.span_of("strip_prefix"), message, "every path keeps its /", "leave it out");
    }
    let stripped = strip_prefix.clone().map(|from| Prefix { from, to: String::new() });
    let prefix = stripped.or_else(|| rewrite_prefix.clone());
    let (host, path, headers) = (host.clone(), path.clone(), headers.clone());
    let (service, redirect) = (*service, redirect.clone());
    let edits = Edits {
        request: FieldEdits {
            set: written.set_headers,
            add: written.add_headers,
            remove: written.remove_headers,
        },
        response: FieldEdits {
            set: written.response_set_headers,
            add: written.response_add_headers,
            remove: written.response_remove_headers,
        },
        prefix,
    };
    Some(Route { host, path, headers, service, redirect, edits })
}

fn rewritten(written: Rewritten, _: &Table<'_>, _: &mut Reading) -> Option<Prefix> {
    let Rewritten { from, to } = written;
    Some(Prefix { from, to })
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
pub(super) fn judge_host_name(name: &str) -> Result<(), Refusal> {
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

/// It asks for nothing that only a request has, and changes nothing.
pub(super) fn is_by_host_only(route: &Route) -> bool {
    let Route { host: _, path, headers, service: _, redirect, edits } = route;
    path.is_none() && headers.is_empty() && redirect.is_none() && *edits == Edits::default()
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
