//! Which certificate a client sees: the one that names the wanted host exactly, else one with a wildcard for it, else
//! the listener's first.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// A listener's certificates by name.
#[derive(Debug, Default)]
pub(super) struct Names {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// Without the `*`: `.example`.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    first: Option<Arc<CertifiedKey>>,
}

impl Names {
    /// Adds a certificate with the host names it is for, in lower case. Where two name the same, the earlier is shown.
    pub(super) fn add(&mut self, names: &[String], key: &Arc<CertifiedKey>) {
        self.first.get_or_insert_with(|| Arc::clone(key));
        for name in names {
            match name.strip_prefix('*') {
                Some(suffix) => self.wildcard.entry(suffix.to_owned()).or_insert_with(|| Arc::clone(key)),
                None => self.exact.entry(name.clone()).or_insert_with(|| Arc::clone(key)),
            };
        }
    }

    /// A wildcard stands for one label (RFC 9525 section 6.3).
    fn find(&self, host: &str) -> Option<&Arc<CertifiedKey>> {
        let host = host.to_ascii_lowercase();
        let suffix = host.find('.').map(|dot| &host[dot..]);
        let named = self.exact.get(&host);
        named.or_else(|| suffix.and_then(|suffix| self.wildcard.get(suffix))).or(self.first.as_ref())
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name().unwrap_or_default()).map(Arc::clone)
    }
}
