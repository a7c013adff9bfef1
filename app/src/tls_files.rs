//! The certificates of all listeners and services: read at the start, looked at again once a second.

use std::path::Path;
use std::sync::Arc;

use everup_core::config::{self, Config};
use everup_gateway::{Acceptor, Connector, Files, InstanceFiles, TlsError};

/// One for each listener and each service; None where no TLS is spoken.
#[derive(Debug)]
pub(crate) struct TlsFiles {
    listeners: Vec<Option<Files>>,
    services: Vec<Option<InstanceFiles>>,
}

impl TlsFiles {
    /// Relative paths start from the configuration's directory. `lenient`: a worker that takes the place of another
    /// must serve, and leaves out what it cannot read.
    pub(crate) fn open(config: &Config, config_path: &Path, lenient: bool) -> Result<Self, TlsError> {
        let directory = config_path.parent().unwrap_or_else(|| Path::new("/"));
        let listener = |listener: &config::Listener| {
            (!listener.tls.is_empty()).then(|| Files::open(listener, directory, lenient)).transpose()
        };
        let service = |service: &config::Service| {
            service.tls.as_ref().map(|tls| InstanceFiles::open(tls, directory, lenient)).transpose()
        };
        Ok(Self {
            listeners: config.listeners.iter().map(listener).collect::<Result<_, _>>()?,
            services: config.services.iter().map(service).collect::<Result<_, _>>()?,
        })
    }

    /// In the order of `Config::listeners`.
    pub(crate) fn acceptors(&self) -> Vec<Option<Arc<Acceptor>>> {
        self.listeners.iter().map(|files| files.as_ref().map(Files::acceptor)).collect()
    }

    /// In the order of `Config::services`.
    pub(crate) fn connectors(&self) -> Vec<Option<Arc<Connector>>> {
        self.services.iter().map(|files| files.as_ref().map(InstanceFiles::connector)).collect()
    }

    /// Takes up what has changed.
    pub(crate) fn look(&mut self) {
        self.listeners.iter_mut().flatten().for_each(Files::look);
        self.services.iter_mut().flatten().for_each(InstanceFiles::look);
    }
}
