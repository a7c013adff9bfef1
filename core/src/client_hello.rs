//! The first message of a TLS connection, as far as somebody who only passes it on must read it: the name that the client
//! wants (SNI) and the protocols that it speaks (ALPN). Strict: a message that the instance could read differently is
//! refused. Nothing is decrypted, and what the extensions beyond these two mean is not looked at.
//!
//! ```text
//! records (RFC 8446 section 5.1): 22, version, length, a piece of the message   (one or more, one after the other)
//! message (section 4.1.2):        1, length, version, random, session id, cipher suites, compression, extensions
//! ```

/// The most bytes that a connection may need for its first message. With the keys of several key exchanges, also those that
/// resist quantum computers, real ones stay below 4 KiB.
pub const HELLO_BYTES: usize = 16 * 1024;

/// The largest piece of a message in one record (section 5.1).
const RECORD_BYTES: usize = 1 << 14;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const EXTENSION_SERVER_NAME: u16 = 0;
const EXTENSION_ALPN: u16 = 16;
const HOST_NAME: u8 = 0;

/// What the client says before anybody has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientHello {
    /// The host that it wants, in lower case.
    pub server_name: Option<String>,
    /// The protocols that it speaks, the one that it likes best first; empty if it does not say.
    pub protocols: Vec<Vec<u8>>,
}

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The beginning of a message.
    Partial {
        /// With fewer bytes than this in all there is no need to look again.
        needed: usize,
    },
    /// The message, and maybe more.
    Whole(ClientHello),
}

/// Why bytes are no ClientHello. Always the client's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// They are no handshake record of TLS.
    #[error("this is not TLS")]
    NotTls,
    /// A record is empty or longer than it may be.
    #[error("a TLS record has no valid length")]
    Record,
    /// The first message is another one.
    #[error("the first TLS message is no ClientHello")]
    OtherMessage,
    /// It is longer than [`HELLO_BYTES`].
    #[error("the ClientHello is too long")]
    TooLong,
    /// The message does not end where its last record does.
    #[error("something follows the ClientHello in its record")]
    Trailing,
    /// A field does not fit in, or has a length that it may not have.
    #[error("the ClientHello is broken")]
    Broken,
    /// An extension is there twice.
    #[error("the ClientHello has an extension twice")]
    Twice,
    /// The server name is none, or there is more than one.
    #[error("the ClientHello has no valid server name")]
    ServerName,
    /// The list of protocols is none.
    #[error("the ClientHello has no valid list of protocols")]
    Protocols,
}

/// Reads the message at the start of a connection. The answer to more bytes is the same, once it is not
/// [`Parsed::Partial`]; which it is for fewer than [`HELLO_BYTES`] bytes.
///
/// # Errors
/// [`Malformed`]: no server would go on with this.
pub fn parse(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let mut pieces = Pieces { bytes, at: 0 };
    let mut message: Vec<u8> = Vec::new();
    loop {
        let piece = match pieces.next()? {
            Piece::Partial { needed } => return partial(needed),
            Piece::Whole(piece) => piece,
        };
        message.extend_from_slice(piece);
        let Some((&[kind, high, middle, low], body)) = message.split_first_chunk() else {
            judge_kind(&message)?;
            continue;
        };
        judge_kind(&[kind])?;
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        if length > HELLO_BYTES {
            return Err(Malformed::TooLong);
        }
        match body.len() {
            there if there < length => {}
            there if there > length => return Err(Malformed::Trailing),
            _ => return read_hello(body).map(Parsed::Whole),
        }
    }
}

fn partial(needed: usize) -> Result<Parsed, Malformed> {
    if needed > HELLO_BYTES { Err(Malformed::TooLong) } else { Ok(Parsed::Partial { needed }) }
}

fn judge_kind(message: &[u8]) -> Result<(), Malformed> {
    match message.first() {
        None | Some(&CLIENT_HELLO) => Ok(()),
        Some(_) => Err(Malformed::OtherMessage),
    }
}

/// The contents of the records, one after the other.
struct Pieces<'b> {
    bytes: &'b [u8],
    at: usize,
}

enum Piece<'b> {
    Partial { needed: usize },
    Whole(&'b [u8]),
}

impl<'b> Pieces<'b> {
    /// Each byte of a record's head is judged as soon as it is there.
    fn next(&mut self) -> Result<Piece<'b>, Malformed> {
        const HEAD: usize = 5;
        let rest = &self.bytes[self.at..];
        if rest.first().is_some_and(|&kind| kind != HANDSHAKE) || rest.get(1).is_some_and(|&major| major != 3)
        {
            return Err(Malformed::NotTls);
        }
        let Some(&[_, _, _, high, low]) = rest.first_chunk::<HEAD>() else {
            // Two bytes are enough to know that it is not TLS.
            let needed = self.at + if rest.len() < 2 { rest.len() + 1 } else { HEAD };
            return Ok(Piece::Partial { needed });
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if !(1..=RECORD_BYTES).contains(&length) {
            return Err(Malformed::Record);
        }
        match rest.get(HEAD..HEAD + length) {
            None => Ok(Piece::Partial { needed: self.at + HEAD + length }),
            Some(piece) => {
                self.at += HEAD + length;
                Ok(Piece::Whole(piece))
            }
        }
    }
}

fn read_hello(body: &[u8]) -> Result<ClientHello, Malformed> {
    let mut fields = Fields(body);
    let version = fields.take(2)?;
    let _random = fields.take(32)?;
    let session = fields.short()?;
    let suites = fields.long()?;
    let compression = fields.short()?;
    let sound = version[0] == 3 && session.len() <= 32 && !compression.is_empty();
    if !sound || suites.is_empty() || suites.len() % 2 != 0 {
        return Err(Malformed::Broken);
    }
    let mut hello = ClientHello { server_name: None, protocols: Vec::new() };
    // TLS 1.2 lets a client leave extensions out altogether (RFC 5246 section 7.4.1.2).
    if !fields.is_empty() {
        let extensions = fields.long()?;
        if !fields.is_empty() {
            return Err(Malformed::Broken);
        }
        read_extensions(extensions, &mut hello)?;
    }
    Ok(hello)
}

fn read_extensions(extensions: &[u8], hello: &mut ClientHello) -> Result<(), Malformed> {
    let mut fields = Fields(extensions);
    let mut seen: Vec<u16> = Vec::new();
    while !fields.is_empty() {
        let kind = fields.number()?;
        let value = fields.long()?;
        seen.push(kind);
        match kind {
            EXTENSION_SERVER_NAME => hello.server_name = Some(server_name(value)?),
            EXTENSION_ALPN => hello.protocols = protocols(value)?,
            _ => {}
        }
    }
    // Section 4.2: "There MUST NOT be more than one extension of the same type".
    seen.sort_unstable();
    if seen.windows(2).any(|pair| pair[0] == pair[1]) { Err(Malformed::Twice) } else { Ok(()) }
}

/// RFC 6066 section 3: a list that may hold one name of each type, of which there is one.
fn server_name(value: &[u8]) -> Result<String, Malformed> {
    let read = || {
        let mut list = Fields(Fields(value).only_long()?);
        let kind = list.take(1)?;
        let name = list.long()?;
        (kind == [HOST_NAME] && list.is_empty()).then_some(name).ok_or(Malformed::Broken)
    };
    let name = read().map_err(|_| Malformed::ServerName)?;
    let name = std::str::from_utf8(name).map_err(|_| Malformed::ServerName)?;
    let label = |label: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(allowed)
    };
    if name.len() <= 253 && name.split('.').all(label) {
        Ok(name.to_ascii_lowercase())
    } else {
        Err(Malformed::ServerName)
    }
}

/// RFC 7301 section 3.1.
fn protocols(value: &[u8]) -> Result<Vec<Vec<u8>>, Malformed> {
    let read = || {
        let mut list = Fields(Fields(value).only_long()?);
        let mut protocols = Vec::new();
        while !list.is_empty() {
            protocols.push(list.short()?.to_vec());
        }
        Ok(protocols)
    };
    let protocols: Vec<Vec<u8>> = read().map_err(|_: Malformed| Malformed::Protocols)?;
    let sound = !protocols.is_empty() && protocols.iter().all(|protocol| !protocol.is_empty());
    if sound { Ok(protocols) } else { Err(Malformed::Protocols) }
}

/// What is left of a structure.
struct Fields<'b>(&'b [u8]);

impl<'b> Fields<'b> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, bytes: usize) -> Result<&'b [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or(Malformed::Broken)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u16, Malformed> {
        let (number, rest) = self.0.split_first_chunk().ok_or(Malformed::Broken)?;
        self.0 = rest;
        Ok(u16::from_be_bytes(*number))
    }

    /// Bytes after a length of one byte.
    fn short(&mut self) -> Result<&'b [u8], Malformed> {
        let length = self.take(1)?[0];
        self.take(usize::from(length))
    }

    /// Bytes after a length of two bytes.
    fn long(&mut self) -> Result<&'b [u8], Malformed> {
        let length = self.number()?;
        self.take(usize::from(length))
    }

    /// The same, and nothing after them.
    fn only_long(mut self) -> Result<&'b [u8], Malformed> {
        let bytes = self.long()?;
        if self.is_empty() { Ok(bytes) } else { Err(Malformed::Broken) }
    }
}

#[cfg(test)]
mod tests;
