//! The http check: one GET on a fresh connection, `Connection: close`, 200-399 passes. Reads the answer's head and
//! nothing of its body. Our own few lines instead of an HTTP client, because a check must be strict in one thing only
//! (is there a whole head with a sound status line?) and small in everything.

use everup_core::health::Reason;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Target, Trouble, Wire, connect};

/// A head longer than this fails the check.
const HEAD_BYTES: usize = 16 * 1024;

pub(super) async fn check(target: &Target, path: &str) -> Result<(), Trouble> {
    let mut stream = connect(target).await?;
    // With TLS an instance may refuse a Host that its certificate is not for (RFC 9110 section 15.5.20).
    let host = match target.tls.as_ref().map(|tls| &tls.server_name) {
        Some(ServerName::DnsName(name)) => name.as_ref().to_owned(),
        _ => target.address.to_string(),
    };
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: everup-health\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    let sent = async {
        stream.write_all(request.as_bytes()).await?;
        // TLS keeps what the kernel does not take at once.
        stream.flush().await
    };
    sent.await.map_err(|error| failed(&error.to_string()))?;
    match final_status(&mut *stream).await? {
        200..=399 => Ok(()),
        status => Err(Trouble::Theirs(Reason::ProbeStatus(status))),
    }
}

/// The status of the first head that is not interim (1xx, RFC 9110 section 15.2).
async fn final_status(stream: &mut dyn Wire) -> Result<u16, Trouble> {
    let mut buffer = Vec::with_capacity(1024);
    loop {
        while let Some(length) = head_length(&buffer) {
            let status = status(&buffer).ok_or_else(|| failed("the status line is malformed"))?;
            if status >= 200 {
                return Ok(status);
            }
            buffer.drain(..length);
        }
        if buffer.len() >= HEAD_BYTES {
            return Err(failed("the answer's head is longer than 16 KiB"));
        }
        let room = (HEAD_BYTES - buffer.len()) as u64;
        match stream.take(room).read_buf(&mut buffer).await {
            Ok(0) => return Err(failed("the connection ended before a whole answer")),
            Ok(_) => {}
            Err(error) => return Err(failed(&error.to_string())),
        }
    }
}

/// Up to and with the empty line that ends the head.
fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|end| end + 4)
}

/// `HTTP/1.x SP 3DIGIT (SP | CR)` (RFC 9112 section 4; the space before an empty reason is often left out).
fn status(head: &[u8]) -> Option<u16> {
    let rest = head.strip_prefix(b"HTTP/1.1 ").or_else(|| head.strip_prefix(b"HTTP/1.0 "))?;
    let (digits, after) = rest.split_at_checked(3)?;
    let sound = digits.iter().all(u8::is_ascii_digit) && matches!(after.first(), Some(b' ' | b'\r'));
    let number = digits.iter().fold(0, |number, digit| number * 10 + u16::from(digit.wrapping_sub(b'0')));
    (sound && (100..600).contains(&number)).then_some(number)
}

fn failed(why: &str) -> Trouble {
    Trouble::Theirs(Reason::ProbeFailed(why.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sound_status_lines_have_a_status() {
        for (line, wanted) in [
            ("HTTP/1.1 200 OK\r\n", Some(200)),
            ("HTTP/1.0 503 \r\n", Some(503)),
            ("HTTP/1.1 204\r\n", Some(204)),
            ("HTTP/1.1 2000 OK\r\n", None),
            ("HTTP/1.1 20\r\n", None),
            ("HTTP/1.1 2x0 OK\r\n", None),
            ("HTTP/1.1 099 OK\r\n", None),
            ("HTTP/1.1 999 OK\r\n", None),
            ("HTTP/1.1  200 OK\r\n", None),
            ("HTTP/2 200\r\n", None),
            ("SSH-2.0-OpenSSH_9.2\r\n", None),
            ("", None),
        ] {
            assert_eq!(status(line.as_bytes()), wanted, "{line:?}");
        }
    }
}
