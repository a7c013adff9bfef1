//! The content of a sticky cookie: versioned bytes that name an instance.
//!
//! ```text
//! byte 0      version, 1
//! byte 1      length of the name, 1..=255
//! the rest    the name: exactly that many bytes of UTF-8 without control characters
//! ```
//!
//! The gateway seals these bytes; the decoder is strict all the same, because a key can leak and a version can change.

/// Which instance a user is pinned to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The instance's name within its service (`InstanceId::instance`).
    pub instance: String,
}

/// Why bytes are no ticket. The answer is always the same: ignore them, as if no cookie had been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// Written by a version of everup that this one does not know.
    #[error("the ticket's version is unknown")]
    Version,
    /// Fewer or more bytes than its length says.
    #[error("the ticket is cut off or too long")]
    Length,
    /// Not UTF-8, or with control characters.
    #[error("the ticket's name is malformed")]
    Name,
}

const VERSION: u8 = 1;

impl Ticket {
    /// The bytes to be sealed; None if the name is empty, longer than 255 bytes or holds control characters (the
    /// configuration allows no such names).
    pub fn encode(&self) -> Option<Vec<u8>> {
        let length = u8::try_from(self.instance.len()).ok().filter(|length| *length > 0)?;
        let fine = !self.instance.contains(char::is_control);
        fine.then(|| [&[VERSION, length], self.instance.as_bytes()].concat())
    }

    /// What [`Ticket::encode`] wrote, and nothing else.
    pub fn decode(bytes: &[u8]) -> Result<Self, TicketError> {
        let (&[version, length], name) = bytes.split_first_chunk().ok_or(TicketError::Length)?;
        if version != VERSION {
            return Err(TicketError::Version);
        }
        if length == 0 || name.len() != usize::from(length) {
            return Err(TicketError::Length);
        }
        let instance = str::from_utf8(name).map_err(|_| TicketError::Name)?;
        if instance.contains(char::is_control) {
            return Err(TicketError::Name);
        }
        Ok(Self { instance: instance.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ticket(instance: &str) -> Ticket {
        Ticket { instance: instance.to_owned() }
    }

    proptest! {
        #[test]
        fn every_name_comes_back(name in "[^\\p{Cc}]{1,60}") {
            let bytes = ticket(&name).encode().unwrap();
            prop_assert_eq!(Ticket::decode(&bytes), Ok(ticket(&name)));
        }

        #[test]
        fn any_bytes_decode_without_panic_and_only_to_what_encodes_to_them(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            if let Ok(ticket) = Ticket::decode(&bytes) {
                prop_assert_eq!(ticket.encode().unwrap(), bytes);
            }
        }

        #[test]
        fn a_truncated_or_lengthened_ticket_is_refused(name in "[^\\p{Cc}]{1,60}", cut: usize, more in 1..9_usize) {
            let whole = ticket(&name).encode().unwrap();
            prop_assert!(Ticket::decode(&whole[..cut % whole.len()]).is_err());
            prop_assert_eq!(Ticket::decode(&[&whole[..], &vec![b'x'; more]].concat()), Err(TicketError::Length));
        }

        #[test]
        fn a_forged_version_is_refused(version: u8) {
            prop_assume!(version != VERSION);
            prop_assert_eq!(Ticket::decode(&[version, 1, b'a']), Err(TicketError::Version));
        }
    }

    #[test]
    fn the_bytes_of_version_1_never_change() {
        assert_eq!(ticket("shop-1").encode().unwrap(), b"\x01\x06shop-1");
    }

    #[test]
    fn malformed_names_are_refused() {
        assert_eq!(Ticket::decode(b"\x01\x00"), Err(TicketError::Length));
        assert_eq!(Ticket::decode(b"\x01\x01\xff"), Err(TicketError::Name));
        assert_eq!(Ticket::decode(b"\x01\x02a\n"), Err(TicketError::Name));
        assert_eq!(ticket("").encode(), None);
        assert_eq!(ticket("a\0").encode(), None);
        assert_eq!(ticket(&"x".repeat(256)).encode(), None);
    }
}
