//! The files behind a listener's TLS: read at the start, looked at again every few seconds, taken up when they have
//! changed and work. They are read by the worker with its own rights, so that taking them up again needs nobody else.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use everup_core::certificate;
use everup_core::config::{CertificateFiles, Listener};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ProducesTickets, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;

use super::names::Names;
use super::{Acceptor, TlsError, server_config};

/// A file larger than this is no certificate: the largest bundles of authorities are below 1 MiB.
const MAX_BYTES: u64 = 4 << 20;

const KEY_ADVICE: &str = "; the worker reads it with the rights of its user (`node.user`): give the key to a group of \
                          that user and let the group read it";

/// The files of one listener and what was read of them.
#[derive(Debug)]
pub struct Files {
    pairs: Vec<Watched<Pair>>,
    clients: Option<Watched<Clients>>,
    acceptor: Arc<Acceptor>,
}

/// Something made of files.
#[derive(Debug)]
pub(super) struct Watched<T> {
    paths: Vec<PathBuf>,
    /// How the files were when they were last read.
    read: Stamps,
    /// How they were at the last look.
    seen: Stamps,
    /// None: it did not work when everup had to begin all the same.
    value: Option<T>,
}

/// What tells one content of the files from another without reading: device, inode, size, time of change. That of their
/// rights counts too: a file that could not be read may be readable now.
type Stamps = Vec<Option<(u64, u64, u64, [i64; 4])>>;

#[derive(Debug)]
pub(super) struct Pair {
    names: Vec<String>,
    key: Arc<CertifiedKey>,
}

impl Pair {
    pub(super) fn key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }
}

/// Whom a listener believes to be its clients, and the tickets by which it knows them again. They belong together:
/// a ticket stands for a certificate that was verified.
#[derive(Debug)]
struct Clients {
    verifier: Arc<dyn ClientCertVerifier>,
    ticketer: Arc<dyn ProducesTickets>,
}

impl Files {
    /// Reads the files of an https listener; relative paths start from `directory`. With `lenient`, what does not work
    /// is told in the log and left out until it does: for a worker that takes the place of another and must serve.
    ///
    /// # Errors
    /// [`TlsError`] for the first file that does not work, unless `lenient`.
    pub fn open(listener: &Listener, directory: &Path, lenient: bool) -> Result<Self, TlsError> {
        let pair = |files: &CertificateFiles| {
            let paths = vec![directory.join(&files.certificate), directory.join(&files.key)];
            Watched::open(paths, lenient, |paths| read_pair(&paths[0], &paths[1]))
        };
        let pairs = listener.tls.iter().map(pair).collect::<Result<Vec<_>, _>>()?;
        let clients = |path: &PathBuf| {
            Watched::open(vec![directory.join(path)], lenient, |paths| read_clients(&paths[0]))
        };
        let clients = listener.client_ca.as_ref().map(clients).transpose()?;
        let tickets: Option<Arc<dyn ProducesTickets>> = match &clients {
            None => Some(aws_lc_rs::Ticketer::new()?),
            Some(_) => None,
        };
        let config = config(&pairs, clients.as_ref(), tickets)?;
        Ok(Self { pairs, clients, acceptor: Arc::new(Acceptor::new(config)) })
    }

    /// What the listener's connections are accepted with.
    pub fn acceptor(&self) -> Arc<Acceptor> {
        Arc::clone(&self.acceptor)
    }

    /// Takes up files that have changed, once two looks in a row saw them the same: who replaces them may be in the
    /// middle of it. What does not work is told in the log, and what worked before stays in use.
    pub fn look(&mut self) {
        let mut changed = false;
        for pair in &mut self.pairs {
            changed |= pair.look(|paths| read_pair(&paths[0], &paths[1]));
        }
        if let Some(clients) = &mut self.clients {
            changed |= clients.look(|paths| read_clients(&paths[0]));
        }
        if !changed {
            return;
        }
        let tickets = Arc::clone(&self.acceptor.current.load().ticketer);
        match config(&self.pairs, self.clients.as_ref(), Some(tickets)) {
            Ok(config) => self.acceptor.replace(config),
            Err(error) => tracing::error!("{error}; the certificates before stay in use"),
        }
    }
}

fn config(
    pairs: &[Watched<Pair>],
    clients: Option<&Watched<Clients>>,
    tickets: Option<Arc<dyn ProducesTickets>>,
) -> Result<rustls::ServerConfig, TlsError> {
    let mut names = Names::default();
    // Without knowing whom to believe, nobody is let in: no certificate is shown.
    let knows_clients = clients.is_none_or(|clients| clients.value.is_some());
    for pair in pairs.iter().filter(|_| knows_clients).filter_map(|pair| pair.value.as_ref()) {
        names.add(&pair.names, &pair.key);
    }
    match clients.and_then(|clients| clients.value.as_ref()) {
        Some(Clients { verifier, ticketer }) => {
            server_config(names, Some(Arc::clone(verifier)), Arc::clone(ticketer))
        }
        None => {
            let tickets = match tickets {
                Some(tickets) => tickets,
                None => aws_lc_rs::Ticketer::new()?,
            };
            server_config(names, None, tickets)
        }
    }
}

impl<T> Watched<T> {
    pub(super) fn open(
        paths: Vec<PathBuf>,
        lenient: bool,
        read: impl FnOnce(&[PathBuf]) -> Result<T, TlsError>,
    ) -> Result<Self, TlsError> {
        let stamps = stamps(&paths);
        let value = match read(&paths) {
            Ok(value) => Some(value),
            Err(error) if lenient => {
                tracing::error!("{error}; its handshakes fail until that is mended");
                None
            }
            Err(error) => return Err(error),
        };
        Ok(Self { paths, read: stamps.clone(), seen: stamps, value })
    }

    /// What was read last of what worked.
    pub(super) fn value(&self) -> Option<&T> {
        self.value.as_ref()
    }

    /// True: there is a new value.
    pub(super) fn look(&mut self, read: impl FnOnce(&[PathBuf]) -> Result<T, TlsError>) -> bool {
        let now = stamps(&self.paths);
        let settled = std::mem::replace(&mut self.seen, now.clone()) == now;
        if !settled || now == self.read {
            return false;
        }
        self.read = now;
        let path = self.paths[0].display();
        match read(&self.paths) {
            Ok(value) => {
                tracing::info!("{path} has changed: it is used from now on");
                self.value = Some(value);
                true
            }
            Err(error) => {
                let rest = if self.value.is_some() { "; what was there before stays in use" } else { "" };
                tracing::error!("{path} has changed, but {error}{rest}");
                false
            }
        }
    }
}

fn stamps(paths: &[PathBuf]) -> Stamps {
    let stamp = |path: &PathBuf| {
        let data = fs::metadata(path).ok()?;
        let times = [data.mtime(), data.mtime_nsec(), data.ctime(), data.ctime_nsec()];
        Some((data.dev(), data.ino(), data.size(), times))
    };
    paths.iter().map(stamp).collect()
}

pub(super) fn read_pair(certificate: &Path, key: &Path) -> Result<Pair, TlsError> {
    let chain = read_chain(certificate)?;
    let parsed =
        certificate::read(&chain[0]).ok_or_else(|| content(certificate, "holds no X.509 certificate"))?;
    if parsed.not_after < seconds_now() {
        tracing::warn!("the certificate {} has expired: clients will refuse it", certificate.display());
    }
    let bytes = read(key, KEY_ADVICE)?;
    let der = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| content(key, no_key(&bytes, &error)))?;
    let provider = aws_lc_rs::default_provider();
    let made = CertifiedKey::from_der(chain, der, &provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::Pair { certificate: certificate.to_owned(), key: key.to_owned() }
        }
        error => content(key, format!("cannot be used as a key: {error}")),
    })?;
    Ok(Pair { names: parsed.names, key: Arc::new(made) })
}

fn no_key(bytes: &[u8], error: &pem::Error) -> String {
    let has = |mark: &[u8]| memchr::memmem::find(bytes, mark).is_some();
    match error {
        _ if has(b"ENCRYPTED") => "is protected by a passphrase: nobody is there to type it; remove it with \
                                   `openssl pkey -in OLD -out NEW`"
            .to_owned(),
        pem::Error::NoItemsFound if has(b"-----BEGIN CERTIFICATE-----") => {
            "holds a certificate instead of a private key".to_owned()
        }
        pem::Error::NoItemsFound => "holds no private key in PEM (-----BEGIN PRIVATE KEY-----)".to_owned(),
        error => format!("is not valid PEM: {error}"),
    }
}

/// At least one certificate.
fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path, "")?;
    let chain = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| content(path, format!("is not valid PEM: {error}")))?;
    if chain.is_empty() {
        return Err(content(path, "holds no certificate in PEM (-----BEGIN CERTIFICATE-----)"));
    }
    Ok(chain)
}

/// All of them must be usable.
pub(super) fn read_authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in read_chain(path)? {
        roots.add(authority).map_err(|error| content(path, format!("holds no usable authority: {error}")))?;
    }
    Ok(roots)
}

fn read_clients(path: &Path) -> Result<Clients, TlsError> {
    let roots = read_authorities(path)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let verifier = verifier.map_err(|error| content(path, format!("holds no usable authority: {error}")))?;
    Ok(Clients { verifier, ticketer: aws_lc_rs::Ticketer::new()? })
}

fn read(path: &Path, advice: &'static str) -> Result<Vec<u8>, TlsError> {
    let unreadable = |source: std::io::Error| {
        let advice = if source.kind() == ErrorKind::PermissionDenied { advice } else { "" };
        TlsError::Read { path: path.to_owned(), source, advice }
    };
    let data = fs::metadata(path).map_err(unreadable)?;
    if !data.is_file() {
        return Err(content(path, "is not a file"));
    }
    if data.len() > MAX_BYTES {
        return Err(content(path, "is too large for a certificate or key"));
    }
    fs::read(path).map_err(unreadable)
}

fn content(path: &Path, problem: impl Into<String>) -> TlsError {
    TlsError::Content { path: path.to_owned(), problem: problem.into() }
}

fn seconds_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_whose_rights_have_changed_are_looked_at_again() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("site.key");
        fs::write(&path, "key").unwrap();
        let paths = [path];
        let before = stamps(&paths);
        assert_eq!(stamps(&paths), before);
        // The kernel's clock for this ticks every few milliseconds.
        let changed = (0..1000).any(|round| {
            fs::set_permissions(&paths[0], fs::Permissions::from_mode(0o600 | (round % 2))).unwrap();
            std::thread::park_timeout(std::time::Duration::from_millis(5));
            stamps(&paths) != before
        });
        assert!(changed);
    }
}
