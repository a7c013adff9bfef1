//! Request -> service: the first route of the listener that matches wins, else the listener's default service.
//!
//! Paths are compared as they were sent, without the query; nothing is decoded or normalised, because the instance
//! will see the same bytes.

use std::sync::Arc;

use crate::balance;
use crate::config::{HostPattern, Listener, PathPattern, Protocol, Redirect, Route};
use crate::http::request::Request;

pub use edits::{Edits, location};

mod edits;
mod index;

/// The routes of one listener.
#[derive(Clone, Debug)]
pub struct Table {
    routes: Vec<(Route, Option<Arc<Edits>>)>,
    index: index::Index,
    default: Option<usize>,
    listener: String,
    reads_requests: bool,
}

impl Table {
    /// The table of a listener as configured.
    pub fn new(listener: &Listener) -> Self {
        let prepared = |route: &Route| (route.clone(), Edits::prepare(&route.edits).map(Arc::new));
        Self {
            routes: listener.routes.iter().map(prepared).collect(),
            index: index::Index::new(&listener.routes),
            default: listener.service,
            listener: listener.bind.first().map_or_else(String::new, ToString::to_string),
            reads_requests: matches!(listener.protocol, Protocol::Http | Protocol::TlsPassthrough),
        }
    }

    /// Where this request goes; None if no route matches and there is no default.
    pub fn lookup(&self, request: &Request<'_, '_>) -> Option<Goes<'_>> {
        self.lookup_route(request).map(|(goes, _)| goes)
    }

    /// The same, with the index of the route that brings it there; None for the default.
    pub fn lookup_route(&self, request: &Request<'_, '_>) -> Option<(Goes<'_>, Option<usize>)> {
        let by_default = || self.default.map(|service| (Goes::To { service, edits: None }, None));
        if self.routes.is_empty() {
            return by_default();
        }
        let host = request.host.map_or("", without_port);
        let path = request.path();
        let takes = |index: usize| has_headers(&self.routes[index].0, request);
        let Some(index) = self.index.first(host, path, takes) else { return by_default() };
        let (route, edits) = &self.routes[index];
        let goes = match (&route.redirect, route.service) {
            (Some(redirect), _) => Some(Goes::Redirect(redirect)),
            (None, service) => service.map(|service| Goes::To { service, edits: edits.as_ref() }),
        };
        goes.map(|goes| (goes, Some(index)))
    }

    /// The listener's first address, as in the file.
    pub fn listener(&self) -> &str {
        &self.listener
    }

    /// What every route matches, in words that are the same wherever it stands, and the service it leads to (None: it
    /// sends clients elsewhere); last what no route takes, if anybody does. Nothing if requests are not looked at.
    pub fn names(&self) -> impl Iterator<Item = (String, Option<usize>)> {
        let routes = self.routes.iter().map(|(route, _)| (name(route), route.service));
        let default = self.default.map(|service| (DEFAULT.to_owned(), Some(service)));
        routes.chain(default).filter(|_| self.reads_requests)
    }

    /// Where a connection goes whose client wants this host, and by which route; None for the default. What a route asks for
    /// beyond the host is not looked at.
    pub fn lookup_host(&self, host: Option<&str>) -> Option<(usize, Option<usize>)> {
        let mut routes = self.routes.iter().enumerate();
        let found = routes.find(|(_, (route, _))| matches_host(route, host.unwrap_or_default()));
        match found {
            Some((index, (route, _))) => route.service.map(|service| (service, Some(index))),
            None => self.default.map(|service| (service, None)),
        }
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether there is no route, so that everything goes to the default service.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// The service of a listener that has no requests to look at.
    pub fn default_service(&self) -> Option<usize> {
        self.default
    }
}

/// The name of what no route takes; no route's name, for those have a path.
const DEFAULT: &str = "default";

/// `api.example/v1/`, `*.example=/exact`, `*/ x-beta=~0a1b2c3d`: host, path and headers. Values of headers may be secret
/// and stand as a hash.
fn name(route: &Route) -> String {
    let mut name = match &route.host {
        None => "*".to_owned(),
        Some(HostPattern::Exact(host)) => host.clone(),
        Some(HostPattern::Suffix(suffix)) => format!("*{suffix}"),
    };
    match &route.path {
        None => name.push('/'),
        Some(PathPattern::Prefix(prefix)) => name.push_str(prefix),
        Some(PathPattern::Exact(path)) => name.extend(["=", path]),
    }
    for (header, value) in &route.headers {
        name.push_str(&format!(" {header}=~{:08x}", balance::hash(value.as_bytes()) as u32));
    }
    name
}

/// Where a request goes.
#[derive(Clone, Copy, Debug)]
pub enum Goes<'t> {
    /// To a service.
    To {
        /// Its index.
        service: usize,
        /// What is changed on the way.
        edits: Option<&'t Arc<Edits>>,
    },
    /// Nowhere: the client is sent elsewhere.
    Redirect(&'t Redirect),
}

fn matches_host(route: &Route, host: &str) -> bool {
    match &route.host {
        None => true,
        // Nearly every client sends lower case; comparing that first is one comparison of memory.
        Some(HostPattern::Exact(wanted)) => host == wanted || host.eq_ignore_ascii_case(wanted),
        Some(HostPattern::Suffix(suffix)) => host.len().checked_sub(suffix.len()).is_some_and(|start| {
            start > 0 && host.as_bytes()[start..].eq_ignore_ascii_case(suffix.as_bytes())
        }),
    }
}

/// Whether every header of the route is there with its value.
fn has_headers(route: &Route, request: &Request<'_, '_>) -> bool {
    route.headers.iter().all(|(name, value)| {
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
