//! What a worker keeps for the keeper that takes it over when its own has died: copies of every listening socket (they share
//! the queue with those of the data plane; nothing is ever accepted here), the lock of the state directory, and the text of
//! the configuration.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use everup_core::keeper::SocketRole;
use everup_link::{Inherited, Sockets};

/// Everything that the next keeper needs and this worker does not.
#[derive(Debug)]
pub(crate) struct Estate {
    pub(crate) sockets: Copies,
    pub(crate) lock: Option<OwnedFd>,
    pub(crate) text: String,
    /// The state directory.
    pub(crate) state: PathBuf,
}

impl Estate {
    /// Takes out what nobody else needs.
    ///
    /// # Errors
    /// The process may have no more descriptors.
    pub(crate) fn of(inherited: &mut Inherited, state: &Path) -> io::Result<Self> {
        Ok(Self {
            sockets: Copies::of(&inherited.sockets)?,
            lock: inherited.lock.take(),
            text: std::mem::take(&mut inherited.config_text),
            state: state.to_owned(),
        })
    }
}

/// What is open, by its role.
#[derive(Debug, Default)]
pub(crate) struct Copies(Vec<Sockets>);

impl Copies {
    fn of<'a>(sockets: impl IntoIterator<Item = &'a Sockets>) -> io::Result<Self> {
        sockets.into_iter().map(copy).collect::<io::Result<_>>().map(Self)
    }

    /// Those of another configuration: `kept` tells what the roles of sockets that stay were and are.
    pub(crate) fn rearranged<'a>(
        &self,
        kept: &[(SocketRole, SocketRole)],
        new: impl IntoIterator<Item = &'a Sockets>,
    ) -> io::Result<Self> {
        let stay = |(was, role): &(SocketRole, SocketRole)| {
            let sockets = self.0.iter().find(|sockets| sockets.role == *was)?;
            Some(copy(sockets).map(|copy| Sockets { role: *role, ..copy }))
        };
        let kept = kept.iter().filter_map(stay);
        kept.chain(new.into_iter().map(copy)).collect::<io::Result<_>>().map(Self)
    }

    /// Copies to give away.
    ///
    /// # Errors
    /// The process may have no more descriptors.
    pub(crate) fn again(&self) -> io::Result<Vec<Sockets>> {
        self.0.iter().map(copy).collect()
    }
}

fn copy(sockets: &Sockets) -> io::Result<Sockets> {
    let Sockets { role, address, descriptors } = sockets;
    let descriptors = descriptors.iter().map(OwnedFd::try_clone).collect::<io::Result<_>>()?;
    Ok(Sockets { role: *role, address: address.clone(), descriptors })
}
