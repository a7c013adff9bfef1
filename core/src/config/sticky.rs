//! `[service.NAME.sticky]`: keeps a user with one instance.

use super::kind::{choice, optional, text};
use super::reading::{Reading, Refusal, Table};
use super::route::is_token;
use super::section::section;

section! {
    /// Keeps a user with one instance for as long as that instance works; then the user moves to another, once.
    pub(super) struct Written {
        /// How a user is known: by a sealed cookie that everup sets, or by the IP address.
        by: StickyBy = choice(WAYS, &["header:NAME", "app-cookie:NAME"]), default required,
            because "a cookie tells people behind one address apart; tcp listeners have only the address";
        /// The name of the cookie.
        name: Option<String> = optional(text("cookie name", "1 to 64 letters, digits and !#$%&'*+-.^_`|~", cookie_name)),
            default unset "`\"everup\"`", because "services on one host name need different names";
    }
}

const WAYS: &[(&str, StickyBy)] = &[("cookie", StickyBy::Cookie), ("ip", StickyBy::Ip)];
const USUAL_NAME: &str = "everup";

/// Keeps a user with one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sticky {
    /// How a user is known.
    pub by: StickyBy,
    /// The cookie's name.
    pub name: String,
}

/// How a user is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StickyBy {
    /// By a sealed cookie that everup sets.
    Cookie,
    /// By the IP address.
    Ip,
}

pub(super) fn build(written: Written, table: &Table<'_>, reading: &mut Reading) -> Option<Sticky> {
    let Written { by, name } = written;
    match by {
        StickyBy::Cookie => note_cookie(table, reading),
        StickyBy::Ip if table.has("name") => {
            let message = "`name` has no meaning with by = \"ip\"";
            reading.mistake(table.key_span("name"), message, "the name of a cookie", "remove it");
        }
        StickyBy::Ip => {}
    }
    Some(Sticky { by, name: name.unwrap_or_else(|| USUAL_NAME.to_owned()) })
}

fn note_cookie(table: &Table<'_>, reading: &mut Reading) {
    let service = table.path.service();
    if let Some(named) = reading.services.iter_mut().find(|named| Some(named.name.as_str()) == service) {
        named.cookie = Some(table.span_of("by"));
    }
}

/// RFC 6265 section 4.1.1: a cookie's name is a token.
fn cookie_name(name: &str) -> Result<String, Refusal> {
    if name.is_empty() || name.len() > 64 || !name.bytes().all(is_token) {
        return Err(Refusal::new("no name of a cookie", "1 to 64 letters, digits, - and _"));
    }
    Ok(name.to_owned())
}
