//! The certificates of all listeners and services: read at the start, looked at again once a second.

use std::path::Path;
use std::sync::Arc;

use everup_core::config::{self, Config};
use everup_core::reload::pair_listeners;
use everup_gateway::{Acceptor, Connector, Files, InstanceFiles, TlsError};

/// What another configuration needs.
#[derive(Debug)]
pub(crate) struct Prepared {
    listeners: Vec<Source<Files>>,
    services: Vec<Source<InstanceFiles>>,
}

#[derive(Debug)]
enum Source<T> {
    /// What is at this place now.
    Kept(usize),
    New(Option<T>),
}

fn taken<T>(mut old: Vec<Option<T>>, sources: Vec<Source<T>>) -> Vec<Option<T>> {
    let take = |source| match source {
        Source::Kept(before) => old.get_mut(before).and_then(Option::take),
        Source::New(files) => files,
    };
    sources.into_iter().map(take).collect()
}

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

    /// What another configuration needs: what is the same in both stays, with its tickets; what is new is read now.
    /// Nothing is changed.
    pub(crate) fn prepare(
        &self,
        old: &Config,
        new: &Config,
        config_path: &Path,
    ) -> Result<Prepared, TlsError> {
        let directory = config_path.parent().unwrap_or_else(|| Path::new("/"));
        let listener = |(listener, before): (&config::Listener, &Option<usize>)| {
            let same = |before: &usize| {
                let old = &old.listeners[*before];
                (&old.tls, &old.client_ca) == (&listener.tls, &listener.client_ca)
            };
            Ok(match before.filter(same) {
                Some(before) => Source::Kept(before),
                None if listener.tls.is_empty() => Source::New(None),
                None => Source::New(Some(Files::open(listener, directory, false)?)),
            })
        };
        let service = |service: &config::Service| {
            let same = |old: &config::Service| old.name == service.name && old.tls == service.tls;
            Ok(match (old.services.iter().position(same), &service.tls) {
                (Some(before), _) => Source::Kept(before),
                (None, None) => Source::New(None),
                (None, Some(tls)) => Source::New(Some(InstanceFiles::open(tls, directory, false)?)),
            })
        };
        let pairs = pair_listeners(&old.listeners, &new.listeners).before;
        Ok(Prepared {
            listeners: new.listeners.iter().zip(&pairs).map(listener).collect::<Result<_, TlsError>>()?,
            services: new.services.iter().map(service).collect::<Result<_, TlsError>>()?,
        })
    }

    /// What listeners accept with after [`TlsFiles::take`].
    pub(crate) fn acceptors_with(&self, prepared: &Prepared) -> Vec<Option<Arc<Acceptor>>> {
        let of = |source: &Source<Files>| match source {
            Source::Kept(before) => self.listeners.get(*before)?.as_ref().map(Files::acceptor),
            Source::New(files) => files.as_ref().map(Files::acceptor),
        };
        prepared.listeners.iter().map(of).collect()
    }

    /// Goes by another configuration.
    pub(crate) fn take(&mut self, prepared: Prepared) {
        let Prepared { listeners, services } = prepared;
        self.listeners = taken(std::mem::take(&mut self.listeners), listeners);
        self.services = taken(std::mem::take(&mut self.services), services);
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
