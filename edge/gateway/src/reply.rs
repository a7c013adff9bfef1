//! Answers that everup gives itself: refusals of malformed requests, and what a client gets when no instance could
//! answer. Plain text, short, with the request's id, and nothing about the inside that a stranger should not know.

/// Seconds a client should wait after 503.
const RETRY_AFTER: &str = "Retry-After: 1\r\n";

/// Appends a whole answer to `out`. `head`: the request was HEAD, so the body is left out.
/// `extra`: whole header lines.
pub(crate) fn write(
    out: &mut Vec<u8>,
    status: u16,
    why: &str,
    request_id: &str,
    extra: &str,
    (head, close): (bool, bool),
) {
    let reason = reason_phrase(status);
    let id_line =
        if request_id.is_empty() { String::new() } else { format!("X-Request-Id: {request_id}\r\n") };
    let retry_after = if status == 503 { RETRY_AFTER } else { "" };
    let connection = if close { "Connection: close\r\n" } else { "" };
    let body = if request_id.is_empty() {
        format!("{status} {reason}: {why}\n")
    } else {
        format!("{status} {reason}: {why}\nrequest id: {request_id}\n")
    };
    let text = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n{retry_after}{id_line}{extra}Content-Length: {}\r\n{connection}\r\n{}",
        body.len(),
        if head { "" } else { &body },
    );
    out.extend_from_slice(text.as_bytes());
}

/// Appends a whole answer that sends the client to `location`, which must be visible ASCII. `extra`: whole header lines.
pub(crate) fn write_redirect(out: &mut Vec<u8>, status: u16, location: &str, extra: &str, close: bool) {
    let connection = if close { "Connection: close\r\n" } else { "" };
    let reason = reason_phrase(status);
    let text = format!(
        "HTTP/1.1 {status} {reason}\r\nLocation: {location}\r\n{extra}Content-Length: 0\r\n{connection}\r\n"
    );
    out.extend_from_slice(text.as_bytes());
}

fn reason_phrase(status: u16) -> &'static str {
    match status {
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}
