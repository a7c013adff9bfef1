//! `[[listener.tls]]`: where a certificate and its key lie. The files are read by the data plane, not here.

use std::path::PathBuf;

use super::kind::path;
use super::section::section;

section! {
    /// A certificate of an https listener. Both files are PEM; they are looked at every few seconds, and taken up when they
    /// have changed. A pair that does not work leaves the one before in use and is told in the log.
    pub struct CertificateFiles {
        /// The certificate, followed by the intermediate ones up to the authority.
        pub certificate: PathBuf = path(), default required,
            because "clients need the whole chain but for its root";
        /// Its private key: PKCS #8, PKCS #1 or SEC 1, without a passphrase.
        pub key: PathBuf = path(), default required,
            because "it is read with the rights of `node.user`, so that it can be taken up again without a restart";
    }
}
