//! What a route changes in the requests and answers that pass through it. Refused here is whatever would make a message
//! end elsewhere, or say something untrue about who sent it: see docs/design/0005-edits.md.

use super::reading::Refusal;
use super::route::is_token;

/// Edits of one route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// Of the request's header lines.
    pub request: FieldEdits,
    /// Of the answer's header lines.
    pub response: FieldEdits,
    /// Of the path's beginning.
    pub prefix: Option<Prefix>,
}

/// Edits of header lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldEdits {
    /// Fields that get this value, whatever they had.
    pub set: Vec<(String, String)>,
    /// Lines that are added.
    pub add: Vec<(String, String)>,
    /// Fields that are left out.
    pub remove: Vec<String>,
}

/// The beginning of a path, and what stands there instead. Both begin with `/`, and end with none; `/` itself is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Whole segments of the path: `/v1` is the beginning of `/v1/x`, and not of `/v10`.
    pub from: String,
    /// Instead.
    pub to: String,
}

/// Fields of the connection and of where a message ends (RFC 9110 section 7.6.1, RFC 9112 section 6).
const FRAMING: [&str; 9] = [
    "connection",
    "content-length",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What everup itself tells the instance.
const OURS: [&str; 5] =
    ["x-client-cert-subject", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-request-id"];

/// The longest value: a whole head has 16 KiB by default.
const VALUE_BYTES: usize = 4096;

/// A field of a request and its value.
pub(super) fn request_field(name: &str, value: &str) -> Result<(String, String), Refusal> {
    Ok((request_name(name)?, field_value(value)?))
}

/// A field of an answer and its value.
pub(super) fn response_field(name: &str, value: &str) -> Result<(String, String), Refusal> {
    Ok((response_name(name)?, field_value(value)?))
}

/// A field of a request.
pub(super) fn request_name(name: &str) -> Result<String, Refusal> {
    let plain = plain(name);
    if plain == "host" {
        return Err(Refusal::new(
            "decides about the route",
            "remove it: instances get the Host that the client sent",
        ));
    }
    if plain == "expect" {
        return Err(Refusal::new("an agreement with the client", "remove it"));
    }
    if OURS.contains(&plain.as_str()) {
        return Err(Refusal::new("everup sets it", "remove it"));
    }
    response_name(name)
}

/// A field of an answer.
pub(super) fn response_name(name: &str) -> Result<String, Refusal> {
    if name.is_empty() || name.len() > 64 || !name.bytes().all(is_token) {
        return Err(Refusal::new("no name of a header field", "1 to 64 letters, digits and -"));
    }
    if FRAMING.contains(&plain(name).as_str()) {
        return Err(Refusal::new(
            "belongs to the connection",
            "remove it: everup needs it to tell messages apart",
        ));
    }
    Ok(name.to_owned())
}

/// Lower case, `_` as `-`: what applications take for the same field.
fn plain(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

fn field_value(value: &str) -> Result<String, Refusal> {
    let usable = value.bytes().all(|byte| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t'));
    if value.trim_matches([' ', '\t']) != value || !usable || value.len() > VALUE_BYTES {
        let hint = "at most 4096 ASCII characters on one line, without spaces around them";
        return Err(Refusal::new("never the value of a header field", hint));
    }
    Ok(value.to_owned())
}

/// The beginning of a path, without the `/` at its end.
pub(super) fn path_prefix(text: &str) -> Result<String, Refusal> {
    if !text.starts_with('/') {
        return Err(Refusal::new("must begin with /", format!("write \"/{text}\"")));
    }
    if let Some(other) = text.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '?' | '#' | '*')) {
        let hint = "a path as it stands in a request: without query, other characters as %XX";
        return Err(Refusal::new(format!("{other:?} is never in a path"), hint));
    }
    if text.len() > 1024 || text.contains("//") {
        return Err(Refusal::new("no path", "at most 1024 characters, and no // in it"));
    }
    Ok(text.trim_end_matches('/').to_owned())
}
