//! TLS for clients: what a listener shows (`files.rs` reads it and takes it up again when it changes, `names.rs` chooses
//! by SNI), TLS to instances (`instances.rs`), and the session behind `Stream` (`session.rs`). rustls with aws-lc-rs does the cryptography: TLS 1.2 and 1.3,
//! the suites and groups that it offers by default, no early data. HTTP/1.1 is the only protocol offered (ALPN).

mod files;
mod instances;
mod names;
mod session;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::ProducesTickets;
use rustls::server::danger::ClientCertVerifier;

pub use files::Files;
pub use instances::{Connector, InstanceFiles};
pub(crate) use session::Session;

use crate::Shared;
use crate::local::Local;
use crate::stream::Stream;
use crate::tls::names::Names;
use crate::turned_away::Reason;
use crate::watch::Watched;

/// Why a listener's TLS cannot be set up. Always the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}{advice}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
        /// What to do about it, or nothing.
        advice: &'static str,
    },
    /// A file holds something else.
    #[error("{} {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with what it holds, in words that follow its name.
        problem: String,
    },
    /// The key is another certificate's.
    #[error("the key {} does not belong to the certificate {}", key.display(), certificate.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The system's certificate authorities are wanted, and there are none.
    #[error(
        "the system has no certificate authorities{first}; install them (ca-certificates), or name a `ca`"
    )]
    NoAuthorities {
        /// The first trouble on the way, or nothing.
        first: String,
    },
    /// No certificate can be for such a name.
    #[error("no certificate can be for server_name = \"{name}\"")]
    ServerName {
        /// The name.
        name: String,
    },
    /// The library refused what should always work.
    #[error("TLS cannot be set up: {0}")]
    Library(#[from] rustls::Error),
}

/// What one listener shows to new connections. All data-plane threads share it; [`Files`] replaces what is in it.
#[derive(Debug)]
pub struct Acceptor {
    current: ArcSwap<ServerConfig>,
}

impl Acceptor {
    fn new(config: ServerConfig) -> Self {
        Self { current: ArcSwap::from_pointee(config) }
    }

    fn replace(&self, config: ServerConfig) {
        self.current.store(Arc::new(config));
    }
}

/// What a listener's handshakes go by.
fn server_config(
    names: Names,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    ticketer: Arc<dyn ProducesTickets>,
) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = match verifier {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let mut config = builder.with_cert_resolver(Arc::new(names));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ticketer = ticketer;
    Ok(config)
}

/// A client that has been silent for so long in its handshake is not waited for while its place is wanted: many times what
/// an honest one needs to answer, and far below `limits.head_time`.
const SILENCE: Duration = Duration::from_secs(1);

/// Whether as many handshakes are under way as `limits.handshakes` allows.
pub(crate) fn is_full(local: &Local) -> bool {
    local.shared.handshakes.load(Ordering::Relaxed) >= local.limits().handshakes
}

/// A connection that begins with a handshake: holds one of the `limits.handshakes` places until that is over.
pub(crate) struct Accepting {
    acceptor: Arc<Acceptor>,
    shared: Arc<Shared>,
}

impl Accepting {
    pub(crate) fn new(local: &Local, acceptor: &Arc<Acceptor>) -> Self {
        local.shared.handshakes.fetch_add(1, Ordering::Relaxed);
        Self { acceptor: Arc::clone(acceptor), shared: Arc::clone(&local.shared) }
    }

    /// Shakes hands with a client, within `limits.head_time`, or less while its place is wanted. `ahead`: what was read of the connection already. False:
    /// there is nobody to talk to; the client was told why if it understands TLS.
    pub(crate) async fn shake_hands(
        self,
        local: &Local,
        stream: &mut Stream,
        watch: &Watched,
        peer: IpAddr,
        ahead: Vec<u8>,
    ) -> bool {
        let session = match Session::server(self.acceptor.current.load_full(), ahead) {
            Ok(session) => session,
            Err(error) => {
                tracing::error!("no TLS session can begin: {error}");
                return false;
            }
        };
        stream.secure(session);
        let end = local.now() + local.limits().head_time;
        let shaken = loop {
            watch.set_deadline(Some(end));
            watch.set_yields(Some(local.now() + SILENCE));
            let shaken = watch.wait(|cx| stream.poll_handshake(cx)).await;
            watch.set_yields(None);
            // Who has said something waits for us, not we for him.
            if shaken.is_ok() || local.now() >= end || stream.is_quiet_now() {
                break shaken;
            }
        };
        match shaken {
            Ok(Ok(())) => true,
            // Gone without a word: many only look whether somebody listens.
            Ok(Err(error)) if error.kind() != std::io::ErrorKind::InvalidData => false,
            Ok(Err(error)) => {
                // Told at all, for it may be a certificate that no client likes; but not often: many knock at every port.
                self.shared.turned_away.count(
                    Reason::Tls,
                    peer,
                    format_args!("its TLS handshake failed: {error}"),
                );
                false
            }
            Err(_) => {
                self.shared.turned_away.count(Reason::Tls, peer, "its TLS handshake took too long");
                false
            }
        }
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.shared.handshakes.fetch_sub(1, Ordering::Relaxed);
    }
}
