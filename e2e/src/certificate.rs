//! A certificate and its key, as files in a directory of their own.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A certificate that vouches for itself.
#[derive(Debug)]
pub struct Certificate {
    home: TempDir,
}

impl Certificate {
    /// One for this host.
    ///
    /// # Panics
    /// When the machine has no directory or randomness to give.
    pub fn of(host: &str) -> Self {
        let made = rcgen::generate_simple_self_signed([host.to_owned()]).expect("a host can be certified");
        let home = tempfile::tempdir().expect("a temporary directory");
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let write = |name: &str, text: &str| {
            std::fs::write(home.path().join(name), text).expect("the directory takes a file");
        };
        write("site.pem", &certificate);
        write("site.key", &key);
        // HAProxy wants both in one file.
        write("both.pem", &(certificate + &key));
        Self { home }
    }

    /// The certificate: also the file that says whom to believe.
    pub fn file(&self) -> PathBuf {
        self.path().join("site.pem")
    }

    /// Its key.
    pub fn key(&self) -> PathBuf {
        self.path().join("site.key")
    }

    /// Both in one file.
    pub fn both(&self) -> PathBuf {
        self.path().join("both.pem")
    }

    /// The entry for a listener's `tls` list.
    pub fn entry(&self) -> String {
        format!("{{ certificate = \"{}\", key = \"{}\" }}", self.file().display(), self.key().display())
    }

    fn path(&self) -> &Path {
        self.home.path()
    }
}
