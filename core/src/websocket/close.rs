//! Close frames of our own (RFC 6455 sections 5.5.1 and 7.4).

/// Service restart: every client that heeds codes comes back after it (registered by IANA).
pub const SERVICE_RESTART: u16 = 1012;

/// Going away: what an instance is told about a client that leaves it (section 7.4.1).
pub const GOING_AWAY: u16 = 1001;

/// FIN, and the opcode of a Close.
const FIRST_BYTE: u8 = 0x88;

/// A control frame carries no more (section 5.5).
const PAYLOAD_BYTES: usize = 125;

/// Appends a Close to a client: unmasked, with a reason. A reason that does not fit is left out.
pub fn write_to_client(out: &mut Vec<u8>, code: u16, reason: &str) {
    let reason = if 2 + reason.len() <= PAYLOAD_BYTES { reason.as_bytes() } else { &[] };
    let length = u8::try_from(2 + reason.len()).expect("a reason that does not fit was left out");
    out.extend_from_slice(&[FIRST_BYTE, length]);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason);
}

/// Appends a Close to an instance: masked, as all that a client sends (section 5.3).
pub fn write_to_instance(out: &mut Vec<u8>, code: u16, key: [u8; 4]) {
    let code = code.to_be_bytes();
    out.extend_from_slice(&[FIRST_BYTE, 0x80 | 2]);
    out.extend_from_slice(&key);
    out.extend_from_slice(&[code[0] ^ key[0], code[1] ^ key[1]]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::websocket::Frames;

    #[test]
    fn a_close_to_a_client_is_plain_and_says_why() {
        let mut out = Vec::new();
        write_to_client(&mut out, SERVICE_RESTART, "retry=1500");
        assert_eq!(out, b"\x88\x0c\x03\xf4retry=1500");
    }

    #[test]
    fn a_reason_that_does_not_fit_is_left_out() {
        for (length, expected) in [(123, 127), (124, 4)] {
            let mut out = Vec::new();
            write_to_client(&mut out, 1012, &"x".repeat(length));
            assert_eq!(out.len(), expected);
        }
    }

    #[test]
    fn a_close_to_an_instance_is_masked() {
        let mut out = Vec::new();
        write_to_instance(&mut out, GOING_AWAY, [0xff, 0x0f, 1, 2]);
        assert_eq!(out, [0x88, 0x82, 0xff, 0x0f, 1, 2, 0x03 ^ 0xff, 0xe9 ^ 0x0f]);
    }

    #[test]
    fn what_we_write_ends_where_it_should() {
        let mut out = Vec::new();
        write_to_client(&mut out, 1012, "retry=0");
        write_to_instance(&mut out, 1001, [9; 4]);
        let mut frames = Frames::default();
        assert_eq!(frames.take_frame(&out), 11);
        assert!(frames.is_between_frames() && frames.has_closed());
        assert_eq!(frames.take_frame(&out[11..]), 8);
        assert!(frames.is_between_frames());
    }
}
