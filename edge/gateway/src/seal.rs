//! Sealing sticky cookies: XChaCha20-Poly1305 with a random nonce, bound to the service's name, so that nobody but us
//! can write one, read one, or use one service's at another. What a cookie says is core's (`affinity::Ticket`).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use everup_core::affinity::Ticket;

/// The longest cookie value that is looked at: a sealed ticket with the longest name takes 396.
const VALUE_BYTES: usize = 400;

const NONCE_BYTES: usize = 24;

/// The key that seals tickets.
pub(crate) struct Seal(XChaCha20Poly1305);

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal(secret)")
    }
}

impl Seal {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(XChaCha20Poly1305::new(key.into()))
    }

    /// The cookie value for `instance` of `service`; None if the kernel has no random bytes or the name cannot be told.
    pub(crate) fn seal(&self, service: &str, instance: &str) -> Option<String> {
        let mut nonce = [0u8; NONCE_BYTES];
        getrandom::fill(&mut nonce).ok()?;
        let ticket = Ticket { instance: instance.to_owned() }.encode()?;
        let payload = Payload { msg: &ticket, aad: service.as_bytes() };
        let sealed = self.0.encrypt(&XNonce::from(nonce), payload).ok()?;
        Some(URL_SAFE_NO_PAD.encode([nonce.as_slice(), &sealed].concat()))
    }

    /// The instance that a cookie value names; None for anything that we did not write for this service.
    pub(crate) fn open(&self, service: &str, value: &[u8]) -> Option<String> {
        if value.len() > VALUE_BYTES {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(value).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>()?;
        let payload = Payload { msg: sealed, aad: service.as_bytes() };
        let ticket = self.0.decrypt(&XNonce::from(*nonce), payload).ok()?;
        Ticket::decode(&ticket).ok().map(|ticket| ticket.instance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_ticket_opens_for_its_service_and_no_other() {
        let seal = Seal::new(&[7; 32]);
        let value = seal.seal("shop", "shop-1").expect("random bytes");
        assert_eq!(seal.open("shop", value.as_bytes()).as_deref(), Some("shop-1"));
        assert_eq!(seal.open("api", value.as_bytes()), None);
    }

    #[test]
    fn another_key_opens_nothing() {
        let value = Seal::new(&[7; 32]).seal("shop", "shop-1").expect("random bytes");
        assert_eq!(Seal::new(&[8; 32]).open("shop", value.as_bytes()), None);
    }

    #[test]
    fn no_changed_or_cut_value_opens() {
        let seal = Seal::new(&[7; 32]);
        let value = seal.seal("shop", "shop-1").expect("random bytes").into_bytes();
        for at in 0..value.len() {
            let mut changed = value.clone();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            // The last digit of unpadded base64 has bits that say nothing; the decoder refuses those that are not zero.
            assert_eq!(seal.open("shop", &changed), None, "changed at {at}");
            assert_eq!(seal.open("shop", &value[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn the_longest_name_fits_and_nothing_longer_is_looked_at() {
        let seal = Seal::new(&[7; 32]);
        let value = seal.seal("shop", &"x".repeat(255)).expect("random bytes");
        assert!(value.len() <= VALUE_BYTES, "{}", value.len());
        assert!(seal.open("shop", value.as_bytes()).is_some());
        assert_eq!(seal.open("shop", &[b'A'; VALUE_BYTES + 1]), None);
    }
}
