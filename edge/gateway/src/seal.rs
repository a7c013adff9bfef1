//! Sealing sticky cookies: XChaCha20-Poly1305 with a random nonce, bound to the service's name, so that nobody but us
//! can write one, read one, or use one service's at another. What a cookie says is core's (`affinity::Ticket`).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use everup_core::affinity::Ticket;

/// The longest cookie value that is looked at: a sealed ticket with the longest name takes 418.
const VALUE_BYTES: usize = 420;

const NONCE_BYTES: usize = 24;

/// The key ring: the first key seals, all of them open.
pub(crate) struct Seal(Vec<XChaCha20Poly1305>);

/// What a cookie value turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) ticket: Ticket,
    /// It was sealed with the key that seals now.
    pub(crate) newest_key: bool,
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal(secret)")
    }
}

impl Seal {
    pub(crate) fn new(keys: &[[u8; 32]]) -> Self {
        Self(keys.iter().map(|key| XChaCha20Poly1305::new(key.into())).collect())
    }

    /// The cookie value, set `now`, for a user who was pinned to `instance` of `service` at `pinned` (both in seconds
    /// since 1970); None if there is no key, the kernel has no random bytes or the name cannot be told.
    pub(crate) fn seal(&self, service: &str, instance: &str, pinned: u64, now: u64) -> Option<String> {
        let mut nonce = [0u8; NONCE_BYTES];
        getrandom::fill(&mut nonce).ok()?;
        let ticket = Ticket { instance: instance.to_owned(), pinned, set: now }.encode()?;
        let payload = Payload { msg: &ticket, aad: service.as_bytes() };
        let sealed = self.0.first()?.encrypt(&XNonce::from(nonce), payload).ok()?;
        Some(URL_SAFE_NO_PAD.encode([nonce.as_slice(), &sealed].concat()))
    }

    /// What a cookie value says; None for anything that we did not write for this service.
    pub(crate) fn open(&self, service: &str, value: &[u8]) -> Option<Opened> {
        if value.len() > VALUE_BYTES {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(value).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>()?;
        let open = |key: &XChaCha20Poly1305| {
            let payload = Payload { msg: sealed, aad: service.as_bytes() };
            key.decrypt(&XNonce::from(*nonce), payload).ok()
        };
        let (age, ticket) = self.0.iter().enumerate().find_map(|(age, key)| Some((age, open(key)?)))?;
        Some(Opened { ticket: Ticket::decode(&ticket).ok()?, newest_key: age == 0 })
    }
}

#[cfg(test)]
mod tests;
