//! Request -> service: the first route of the listener that matches wins, else the listener's default service.
//!
//! Paths are compared as they were sent, without the query; nothing is decoded or normalised, because the instance
//! will see the same bytes.

use crate::config::{HostPattern, Listener, PathPattern, Route};
use crate::http::request::Request;

/// The routes of one listener.
#[derive(Clone, Debug)]
pub struct Table {
    routes: Vec<Route>,
    default: Option<usize>,
}

impl Table {
    /// The table of a listener as configured.
    pub fn new(listener: &Listener) -> Self {
        Self { routes: listener.routes.clone(), default: listener.service }
    }

    /// The index of the service that gets this request; None if no route matches and there is no default.
    pub fn lookup(&self, request: &Request<'_, '_>) -> Option<usize> {
        let Some(_) = self.routes.first() else { return self.default };
        let host = request.host.map_or("", without_port);
        let path = request.path();
        self.routes
            .iter()
            .find(|route| matches(route, host, path, request))
            .map_or(self.default, |route| Some(route.service))
    }

    /// The service of a listener that has no requests to look at.
    pub fn default_service(&self) -> Option<usize> {
        self.default
    }
}

fn matches(route: &Route, host: &str, path: &str, request: &Request<'_, '_>) -> bool {
    let host_matches = match &route.host {
        None => true,
        Some(HostPattern::Exact(wanted)) => host.eq_ignore_ascii_case(wanted),
        Some(HostPattern::Suffix(suffix)) => host.len().checked_sub(suffix.len()).is_some_and(|start| {
            start > 0 && host.as_bytes()[start..].eq_ignore_ascii_case(suffix.as_bytes())
        }),
    };
    let path_matches = match &route.path {
        None => true,
        Some(PathPattern::Prefix(prefix)) => path.starts_with(prefix.as_str()),
        Some(PathPattern::Exact(wanted)) => path == wanted,
    };
    host_matches
        && path_matches
        && route.headers.iter().all(|(name, value)| {
            let mut given = request.headers.iter();
            given.any(|(key, text)| key.eq_ignore_ascii_case(name) && text == value.as_bytes())
        })
}

/// `Example.com.:8080` -> `Example.com`, `[::1]:80` -> `[::1]`.
pub fn without_port(host: &str) -> &str {
    let bytes = host.as_bytes();
    // A bracket only stands in an IPv6 address, and then first.
    let searched =
        if bytes.first() == Some(&b'[') { bytes.iter().position(|&byte| byte == b']') } else { Some(0) };
    let from = searched.unwrap_or(0);
    let end = bytes[from..].iter().position(|&byte| byte == b':').map_or(bytes.len(), |at| from + at);
    let name = &host[..end];
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests;
