//! A route's edits, worked out once: lines as they are written, and the beginning of the path. What may be edited the
//! configuration has judged.

use std::sync::Arc;

use crate::config::{self, Piece, Prefix, Redirect};
use crate::http::edit::HeadEdits;
use crate::http::request::Request;

use super::without_port;

/// What is changed in the requests and answers of a route.
#[derive(Clone, Debug)]
pub struct Edits {
    /// In the request's header lines.
    pub request: Option<Arc<HeadEdits>>,
    /// In the answer's header lines.
    pub response: Option<HeadEdits>,
    prefix: Option<Prefix>,
}

impl Edits {
    /// None if nothing is changed.
    pub(super) fn prepare(edits: &config::Edits) -> Option<Self> {
        let config::Edits { request, response, prefix } = edits;
        let head = |config::FieldEdits { set, add, remove }: &config::FieldEdits| {
            Some(HeadEdits::new(set, add, remove)).filter(|edits| !edits.is_empty())
        };
        let request = head(request).map(Arc::new);
        let edits = Self { request, response: head(response), prefix: prefix.clone() };
        let nothing = edits.request.is_none() && edits.response.is_none() && edits.prefix.is_none();
        (!nothing).then_some(edits)
    }

    /// The target that the instance gets instead of `target`; None if that stays. Only whole segments are replaced, and
    /// what comes out begins with `/`.
    pub fn target(&self, target: &str) -> Option<String> {
        let Prefix { from, to } = self.prefix.as_ref()?;
        let rest = target.strip_prefix(from.as_str())?;
        match rest.as_bytes().first() {
            Some(b'/') => Some(format!("{to}{rest}")),
            None | Some(b'?') if to.is_empty() => Some(format!("/{rest}")),
            None | Some(b'?') => Some(format!("{to}{rest}")),
            Some(_) => None,
        }
    }
}

/// Where `redirect` sends the client; None if it needs a host and the request names none. Every byte of it is visible
/// ASCII: the request's host and target were checked when it was read.
pub fn location(redirect: &Redirect, request: &Request<'_, '_>) -> Option<String> {
    let path = request.path();
    let mut location = String::new();
    for piece in &redirect.to {
        location.push_str(match piece {
            Piece::Text(text) => text,
            Piece::Host => without_port(request.host?),
            // `OPTIONS *` has no path.
            Piece::Path if path == "*" => "/",
            Piece::Path => path,
            Piece::Query => &request.target[path.len()..],
        });
    }
    Some(location)
}
