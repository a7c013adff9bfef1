//! TLS to the instances of one service: whom everup believes, what it shows, and the files behind both. Verification is
//! rustls' and cannot be switched off. No protocol is offered (ALPN): HTTP/1.1 is what servers speak without one, and tcp
//! listeners use the same connections.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use everup_core::config::InstanceTls;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};

use super::files::{Watched, read_authorities, read_pair};
use super::{Session, TlsError};
use crate::stream::Stream;

/// What the connections to a service's instances are secured with. Shared by all threads; [`InstanceFiles`] replaces what
/// is in it, so that sessions are resumed over all threads.
#[derive(Debug)]
pub struct Connector {
    current: Arc<ArcSwapOption<ClientConfig>>,
    server_name: Option<ServerName<'static>>,
}

impl Connector {
    /// What new connections go by; None while its files do not work.
    pub fn current(&self) -> Arc<ArcSwapOption<ClientConfig>> {
        Arc::clone(&self.current)
    }

    /// Whose certificate an instance at this address must show.
    pub fn server_name(&self, address: IpAddr) -> ServerName<'static> {
        self.server_name.clone().unwrap_or_else(|| ServerName::IpAddress(address.into()))
    }

    /// Shakes hands over a new connection to `address`. The caller bounds the time.
    pub(crate) async fn secure(&self, stream: &mut Stream, address: SocketAddr) -> io::Result<()> {
        let broken = || io::Error::other("the files of the service's `tls` do not work; see the log");
        let config = self.current.load_full().ok_or_else(broken)?;
        let session = Session::client(config, self.server_name(address.ip())).map_err(io::Error::other)?;
        stream.secure(session);
        std::future::poll_fn(|cx| stream.poll_handshake(cx)).await
    }
}

/// The files of one service's `tls` and what was read of them.
#[derive(Debug)]
pub struct InstanceFiles {
    settings: InstanceTls,
    /// The system's authorities, where the service names none of its own.
    system: Option<Arc<RootCertStore>>,
    files: Watched<Arc<ClientConfig>>,
    connector: Arc<Connector>,
}

impl InstanceFiles {
    /// Reads the files; relative paths start from `directory`. With `lenient`, what does not work is told in the log, and
    /// no instance is connected to until it does.
    ///
    /// # Errors
    /// [`TlsError`] if they do not work, unless `lenient`.
    pub fn open(settings: &InstanceTls, directory: &Path, lenient: bool) -> Result<Self, TlsError> {
        let InstanceTls { ca, server_name, certificate, key } = settings;
        let settings = InstanceTls {
            ca: ca.as_ref().map(|path| directory.join(path)),
            server_name: server_name.clone(),
            certificate: certificate.as_ref().map(|path| directory.join(path)),
            key: key.as_ref().map(|path| directory.join(path)),
        };
        let system = if ca.is_none() { Some(Arc::new(system_authorities(lenient)?)) } else { None };
        let server_name = server_name
            .clone()
            .map(|name| ServerName::try_from(name.clone()).map_err(|_| TlsError::ServerName { name }));
        let paths: Vec<PathBuf> =
            [&settings.ca, &settings.certificate, &settings.key].into_iter().flatten().cloned().collect();
        let files = Watched::open(paths, lenient, |_| client_config(&settings, system.as_deref()))?;
        let connector = Arc::new(Connector {
            current: Arc::new(ArcSwapOption::new(files.value().cloned())),
            server_name: server_name.transpose()?,
        });
        Ok(Self { settings, system, files, connector })
    }

    /// What the service's instances are connected to with.
    pub fn connector(&self) -> Arc<Connector> {
        Arc::clone(&self.connector)
    }

    /// Takes up files that have changed; see [`super::Files::look`]. Connections from before stay.
    pub fn look(&mut self) {
        let Self { settings, system, files, connector } = self;
        if files.look(|_| client_config(settings, system.as_deref())) {
            connector.current.store(files.value().cloned());
        }
    }
}

fn client_config(
    settings: &InstanceTls,
    system: Option<&RootCertStore>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let InstanceTls { ca, server_name: _, certificate, key } = settings;
    let authorities = match (ca, system) {
        (Some(ca), _) => read_authorities(ca)?,
        (None, system) => system.cloned().unwrap_or_else(RootCertStore::empty),
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_root_certificates(authorities).with_no_client_auth();
    if let (Some(certificate), Some(key)) = (certificate, key) {
        let pair = read_pair(certificate, key)?;
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(Arc::clone(pair.key())));
    }
    Ok(Arc::new(config))
}

/// As OpenSSL finds them: the bundle of the distribution, or where SSL_CERT_FILE and SSL_CERT_DIR point to.
fn system_authorities(lenient: bool) -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    let first = found.errors.first().map_or_else(String::new, |error| format!(": {error}"));
    match usable {
        0 if lenient => tracing::error!("the system has no certificate authorities{first}"),
        0 => return Err(TlsError::NoAuthorities { first }),
        _ => {}
    }
    Ok(roots)
}
