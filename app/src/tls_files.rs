//! The certificates of all listeners: read at the start, looked at again once a second.

use std::path::Path;
use std::sync::Arc;

use everup_core::config::Config;
use everup_gateway::{Acceptor, Files, TlsError};

/// One for each listener; None where no TLS is spoken.
#[derive(Debug)]
pub(crate) struct TlsFiles(Vec<Option<Files>>);

impl TlsFiles {
    /// Relative paths start from the configuration's directory. `lenient`: a worker that takes the place of another
    /// must serve, and leaves out what it cannot read.
    pub(crate) fn open(config: &Config, config_path: &Path, lenient: bool) -> Result<Self, TlsError> {
        let directory = config_path.parent().unwrap_or_else(|| Path::new("/"));
        let open = |listener: &everup_core::config::Listener| {
            (!listener.tls.is_empty()).then(|| Files::open(listener, directory, lenient)).transpose()
        };
        config.listeners.iter().map(open).collect::<Result<_, _>>().map(Self)
    }

    /// In the order of `Config::listeners`.
    pub(crate) fn acceptors(&self) -> Vec<Option<Arc<Acceptor>>> {
        self.0.iter().map(|files| files.as_ref().map(Files::acceptor)).collect()
    }

    /// Takes up what has changed.
    pub(crate) fn look(&mut self) {
        self.0.iter_mut().flatten().for_each(Files::look);
    }
}
