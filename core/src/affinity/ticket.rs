//! The content of a sticky cookie: versioned bytes that name an instance and say since when.
//!
//! ```text
//! byte 0        version, 2
//! bytes 1..9    when the user was pinned, seconds since 1970, big-endian
//! bytes 9..17   when the cookie was last set, the same
//! byte 17       length of the name, 1..=255
//! the rest      the name: exactly that many bytes of UTF-8 without control characters
//! ```
//!
//! The gateway seals these bytes; the decoder is strict all the same, because a key can leak and a version can change.

use std::time::Duration;

/// Which instance a user is pinned to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The instance's name within its service (`InstanceId::instance`).
    pub instance: String,
    /// When the user was pinned to it, in seconds since 1970.
    pub pinned: u64,
    /// When this cookie was set: later than `pinned` if it was renewed.
    pub set: u64,
}

/// What a ticket is worth now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It holds.
    Holds,
    /// It holds, but would not for much longer: set it anew.
    Renew,
    /// It is over: as if there were none.
    Over,
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

const VERSION: u8 = 2;

impl Ticket {
    /// The bytes to be sealed; None if the name is empty, longer than 255 bytes or holds control characters (the
    /// configuration allows no such names).
    pub fn encode(&self) -> Option<Vec<u8>> {
        let Self { instance, pinned, set } = self;
        let length = u8::try_from(instance.len()).ok().filter(|length| *length > 0)?;
        let fine = !instance.contains(char::is_control);
        let parts =
            [&[VERSION], &pinned.to_be_bytes()[..], &set.to_be_bytes(), &[length], instance.as_bytes()];
        fine.then(|| parts.concat())
    }

    /// What [`Ticket::encode`] wrote, and nothing else.
    pub fn decode(bytes: &[u8]) -> Result<Self, TicketError> {
        let (&[version], rest) = bytes.split_first_chunk().ok_or(TicketError::Length)?;
        if version != VERSION {
            return Err(TicketError::Version);
        }
        let (&pinned, rest) = rest.split_first_chunk().ok_or(TicketError::Length)?;
        let (&set, rest) = rest.split_first_chunk().ok_or(TicketError::Length)?;
        let (&[length], name) = rest.split_first_chunk().ok_or(TicketError::Length)?;
        if length == 0 || name.len() != usize::from(length) {
            return Err(TicketError::Length);
        }
        let instance = str::from_utf8(name).map_err(|_| TicketError::Name)?;
        if instance.contains(char::is_control) {
            return Err(TicketError::Name);
        }
        let (pinned, set) = (u64::from_be_bytes(pinned), u64::from_be_bytes(set));
        Ok(Self { instance: instance.to_owned(), pinned, set })
    }

    /// What it is worth at `now` (seconds since 1970), if it may be unused for `idle` and hold for `lifetime` in all.
    /// Set by a clock that is ahead of ours, it counts as set now.
    pub fn standing(&self, now: u64, idle: Option<Duration>, lifetime: Option<Duration>) -> Standing {
        let (age, unused) = (now.saturating_sub(self.pinned), now.saturating_sub(self.set));
        if lifetime.is_some_and(|lifetime| age >= lifetime.as_secs()) {
            return Standing::Over;
        }
        match idle.map(|idle| idle.as_secs()) {
            Some(idle) if unused >= idle => Standing::Over,
            // Not with every answer: that would cost each of them a line and no cache could keep any.
            Some(idle) if unused >= idle.div_ceil(2) => Standing::Renew,
            Some(_) | None => Standing::Holds,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ticket(instance: &str) -> Ticket {
        Ticket { instance: instance.to_owned(), pinned: 1_000, set: 1_700_000_000 }
    }

    proptest! {
        #[test]
        fn every_ticket_comes_back(instance in "[^\\p{Cc}]{1,60}", pinned: u64, set: u64) {
            let ticket = Ticket { instance, pinned, set };
            prop_assert_eq!(Ticket::decode(&ticket.encode().unwrap()), Ok(ticket));
        }

        #[test]
        fn any_bytes_decode_without_panic_and_only_to_what_encodes_to_them(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let bytes = [&[VERSION], &bytes[..]].concat();
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
            let mut bytes = ticket("a").encode().unwrap();
            bytes[0] = version;
            prop_assert_eq!(Ticket::decode(&bytes), Err(TicketError::Version));
        }

        #[test]
        fn a_ticket_only_grows_older(pinned in 0..100_u64, later in 0..100_u64, idle in 1..50_u64, lifetime in 1..80_u64) {
            let ticket = Ticket { instance: "a".to_owned(), pinned, set: pinned + later };
            let (idle, lifetime) = (Some(Duration::from_secs(idle)), Some(Duration::from_secs(lifetime)));
            let over = |now| ticket.standing(now, idle, lifetime) == Standing::Over;
            let first = (0..400).find(|now| over(*now)).unwrap();
            prop_assert!((first..400).all(over));
        }
    }

    #[test]
    fn the_bytes_of_version_2_never_change() {
        let bytes = b"\x02\0\0\0\0\0\0\x03\xe8\0\0\0\0\x65\x53\xf1\x00\x06shop-1";
        assert_eq!(ticket("shop-1").encode().unwrap(), bytes);
    }

    #[test]
    fn malformed_names_are_refused() {
        let with = |rest: &[u8]| Ticket::decode(&[&[VERSION], &[0; 16][..], rest].concat());
        assert_eq!(with(b"\x00"), Err(TicketError::Length));
        assert_eq!(with(b"\x01\xff"), Err(TicketError::Name));
        assert_eq!(with(b"\x02a\n"), Err(TicketError::Name));
        assert_eq!(ticket("").encode(), None);
        assert_eq!(ticket("a\0").encode(), None);
        assert_eq!(ticket(&"x".repeat(256)).encode(), None);
    }

    #[test]
    fn a_ticket_is_renewed_from_half_of_its_idle_time_and_over_after_all_of_it() {
        let ticket = Ticket { instance: "a".to_owned(), pinned: 100, set: 200 };
        let idle = Some(Duration::from_secs(10));
        let at = |now| ticket.standing(now, idle, None);
        assert_eq!([at(204), at(205), at(209)], [Standing::Holds, Standing::Renew, Standing::Renew]);
        assert_eq!([at(210), at(9999)], [Standing::Over, Standing::Over]);
        assert_eq!(at(0), Standing::Holds, "the other clock was ahead");
        assert_eq!(ticket.standing(u64::MAX, None, None), Standing::Holds);
    }

    #[test]
    fn the_lifetime_counts_from_when_the_user_was_pinned_however_often_it_was_renewed() {
        let ticket = Ticket { instance: "a".to_owned(), pinned: 100, set: 200 };
        let lifetime = Some(Duration::from_secs(110));
        let idle = Some(Duration::from_secs(60));
        assert_eq!(ticket.standing(209, idle, lifetime), Standing::Holds);
        assert_eq!(ticket.standing(210, idle, lifetime), Standing::Over);
    }
}
