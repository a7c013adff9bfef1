//! `[service.NAME.sticky]`: keeps a user with one instance.

use std::time::Duration;

use super::kind::{duration, optional, or_word, text};
use super::nearest::nearest;
use super::reading::{Reading, Refusal, Table, Toml};
use super::route::is_token;
use super::section::{Kind, Place, section, wrong_type};

section! {
    /// Keeps a user with one instance for as long as that instance works; then the user moves to another, once.
    pub(super) struct Written {
        /// How a user is known: by a sealed cookie that everup sets, by the IP address, by the value of a header field, or
        /// by a cookie that the application sets.
        by: StickyBy = By, default required,
            because "a cookie tells people behind one address apart; tcp listeners have only the address";
        /// The name of everup's cookie. Over TLS it is set with `__Host-` before it.
        name: Option<String> = optional(text("cookie name", "1 to 64 letters, digits and !#$%&'*+-.^_`|~", our_name)),
            default unset "`\"everup\"`", because "services on one host name need different names";
        /// A cookie (everup's or the application's) that no request brought for this long counts for nothing any more.
        idle: Option<Duration> = or_word("off", duration(1000..=LONGEST)), default "off",
            because "whoever comes back late loses nothing by being balanced anew, if the session is over by then";
        /// So long after everup's cookie was first set the user is balanced anew, however often it was used.
        lifetime: Option<Duration> = or_word("off", duration(1000..=LONGEST)), default "off",
            because "users who never leave would keep an uneven balance for ever";
    }
}

/// A year.
const LONGEST: u64 = 365 * 24 * 3_600_000;
const USUAL_NAME: &str = "everup";

/// Keeps a user with one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sticky {
    /// How a user is known.
    pub by: StickyBy,
    /// The name of everup's cookie.
    pub name: String,
    /// A cookie unused for so long counts for nothing; None: never.
    pub idle: Option<Duration>,
    /// So long after it was first set, everup's cookie counts for nothing; None: never.
    pub lifetime: Option<Duration>,
}

/// How a user is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StickyBy {
    /// By a sealed cookie that everup sets.
    Cookie,
    /// By the IP address.
    Ip,
    /// By the value of this header field (lower case).
    Header(String),
    /// By the value of this cookie, which the application sets.
    AppCookie(String),
}

impl StickyBy {
    /// As it is written, without a name.
    const fn word(&self) -> &'static str {
        match self {
            Self::Cookie => "cookie",
            Self::Ip => "ip",
            Self::Header(_) => "header:NAME",
            Self::AppCookie(_) => "app-cookie:NAME",
        }
    }
}

/// The ways to know a user.
struct By;

impl By {
    const WORDS: [&'static str; 4] = ["cookie", "ip", "header:NAME", "app-cookie:NAME"];

    fn list() -> String {
        Self::WORDS.map(|word| format!("\"{word}\"")).join(", ")
    }
}

impl Kind for By {
    type Value = StickyBy;
    fn read(&self, value: &Toml<'_>, place: Place<'_>, reading: &mut Reading) -> Option<StickyBy> {
        let Some(text) = value.get_ref().as_str() else {
            wrong_type(value, place, "a string", &format!("one of {}", Self::list()), reading);
            return None;
        };
        let named = match text.split_once(':') {
            None if text == "cookie" => return Some(StickyBy::Cookie),
            None if text == "ip" => return Some(StickyBy::Ip),
            Some(("header", name)) => field_name(name).map(StickyBy::Header),
            Some(("app-cookie", name)) => cookie_name(name).map(StickyBy::AppCookie),
            None | Some(_) => {
                let near = nearest(
                    text.split(':').next().unwrap_or_default(),
                    ["cookie", "ip", "header", "app-cookie"],
                );
                let near = near
                    .and_then(|near| Self::WORDS.iter().find(|word| word.split(':').next() == Some(near)));
                let hint = near.map_or_else(
                    || format!("one of {}", Self::list()),
                    |near| format!("did you mean \"{near}\"?"),
                );
                let message = format!("unknown value \"{text}\" for `{}`", place.key);
                reading.mistake(value.span(), message, "unknown value", hint);
                return None;
            }
        };
        let refused = |Refusal { label, hint }| {
            reading.mistake(value.span(), format!("{place} names nothing that there is"), label, hint);
        };
        named.map_err(refused).ok()
    }
    fn name(&self) -> String {
        "word".to_owned()
    }
    fn range(&self) -> String {
        Self::WORDS.map(|word| format!("`\"{word}\"`")).join(", ")
    }
}

pub(super) fn build(written: Written, table: &Table<'_>, reading: &mut Reading) -> Option<Sticky> {
    let Written { by, name, idle, lifetime } = written;
    if by != StickyBy::Ip {
        note_http_only(table, reading);
    }
    let meaningless: &[(&str, &str)] = match by {
        StickyBy::Cookie => &[],
        StickyBy::AppCookie(_) => {
            &[("name", "the name of everup's cookie"), ("lifetime", "of everup's cookie")]
        }
        StickyBy::Ip | StickyBy::Header(_) => {
            &[("name", "the name of a cookie"), ("idle", "of a cookie"), ("lifetime", "of a cookie")]
        }
    };
    for (key, label) in meaningless.iter().filter(|(key, _)| table.has(key)) {
        let message = format!("`{key}` has no meaning with by = \"{}\"", by.word());
        reading.mistake(table.key_span(key), message, *label, "remove it");
    }
    if let (Some(idle), Some(lifetime)) = (idle, lifetime)
        && idle > lifetime
    {
        let message = "`idle` is longer than `lifetime`";
        reading.mistake(
            table.span_of("idle"),
            message,
            "never comes to bear",
            "make it shorter, or leave it out",
        );
    }
    Some(Sticky { by, name: name.unwrap_or_else(|| USUAL_NAME.to_owned()), idle, lifetime })
}

fn note_http_only(table: &Table<'_>, reading: &mut Reading) {
    let service = table.path.service();
    if let Some(named) = reading.services.iter_mut().find(|named| Some(named.name.as_str()) == service) {
        named.http_only = Some(table.span_of("by"));
    }
}

/// The name of a cookie that everup sets.
fn our_name(name: &str) -> Result<String, Refusal> {
    if ["__host-", "__secure-"].iter().any(|prefix| name.to_ascii_lowercase().starts_with(prefix)) {
        return Err(Refusal::new(
            "a prefix that browsers know",
            "leave it out: everup adds `__Host-` over TLS",
        ));
    }
    cookie_name(name)
}

/// RFC 6265 section 4.1.1: a cookie's name is a token.
fn cookie_name(name: &str) -> Result<String, Refusal> {
    if name.is_empty() || name.len() > 64 || !name.bytes().all(is_token) {
        return Err(Refusal::new("no name of a cookie", "1 to 64 letters, digits, - and _"));
    }
    Ok(name.to_owned())
}

/// A field that tells users apart.
fn field_name(name: &str) -> Result<String, Refusal> {
    if name.is_empty() || name.len() > 64 || !name.bytes().all(is_token) {
        return Err(Refusal::new("no name of a header field", "1 to 64 letters, digits and -"));
    }
    Ok(name.to_ascii_lowercase())
}
