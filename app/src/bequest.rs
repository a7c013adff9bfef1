//! What a worker counted and learned, from one that yields to its successor: written into a file without a name, whose
//! descriptor goes over the line between them. It is only a help: what cannot be written or read begins anew.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};

use everup_core::succession::{Bequest, InstanceBequest, ServiceBequest, ToSuccessor};
use everup_link::{Link, Received};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::service::Service;

/// A full memory of users is about 10 MiB for a service.
const BYTES: u64 = 1 << 30;

/// Of all services.
fn of(services: &[Service]) -> Bequest {
    let of_instance = |one: &crate::service::Instance| InstanceBequest {
        name: one.id.instance.to_string(),
        ..one.shared.bequest()
    };
    let of_service = |one: &Service| ServiceBequest {
        name: one.settings.name.to_string(),
        instances: one.instances.iter().map(of_instance).collect(),
        ..one.shared.bequest()
    };
    Bequest { services: services.iter().map(of_service).collect() }
}

/// Sends what was learned of these services.
pub(crate) fn leave(services: &[Service], line: &Link) {
    let sent = file(&of(services)).and_then(|file| {
        let sent = line.try_send(&ToSuccessor::Bequest, &[file.as_fd()]);
        sent.map(drop).map_err(io::Error::other)
    });
    if let Err(error) = sent {
        tracing::warn!(%error, "counters and users' places begin anew in the next worker");
    }
}

/// What the worker at the other end of the line left.
pub(crate) fn take(line: &Link) -> Bequest {
    let Ok(Received::Message(ToSuccessor::Bequest, descriptors)) = line.try_receive() else {
        return Bequest::default();
    };
    let read = descriptors.into_iter().next().ok_or_else(|| io::ErrorKind::NotFound.into()).and_then(read);
    read.unwrap_or_else(|error| {
        tracing::warn!(%error, "what the last worker counted cannot be read: counters begin anew");
        Bequest::default()
    })
}

/// These services go on from there. To be called before the data plane begins.
pub(crate) fn inherit(services: &[Service], bequest: &Bequest) {
    for service in services {
        let name = &*service.settings.name;
        let Some(known) = bequest.services.iter().find(|one| one.name == name) else { continue };
        service.shared.inherit(known);
        for instance in &service.instances {
            let name = &*instance.id.instance;
            if let Some(known) = known.instances.iter().find(|one| one.name == name) {
                instance.shared.inherit(known);
            }
        }
    }
}

fn file(bequest: &Bequest) -> io::Result<OwnedFd> {
    let mut file = io::BufWriter::new(File::from(memfd_create(c"everup-bequest", MemfdFlags::CLOEXEC)?));
    serde_json::to_writer(&mut file, bequest)?;
    file.flush()?;
    Ok(file.into_inner()?.into())
}

fn read(descriptor: OwnedFd) -> io::Result<Bequest> {
    let mut file = File::from(descriptor);
    file.rewind()?;
    let mut text = String::new();
    file.take(BYTES).read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_taken_whole_also_from_a_later_version() {
        let (ours, theirs) = Link::pair().unwrap();
        let theirs = Link::from_descriptor(theirs).unwrap();
        let service = ServiceBequest { name: "shop".into(), requests: 7, ..ServiceBequest::default() };
        let bequest = Bequest { services: vec![service] };
        let sent = file(&bequest).unwrap();
        ours.send(&ToSuccessor::Bequest, &[sent.as_fd()]).unwrap();
        assert_eq!(take(&theirs), bequest);
        let later: Bequest =
            serde_json::from_str(r#"{"services":[{"name":"shop","songs":1}],"x":2}"#).unwrap();
        assert_eq!(later.services[0].name, "shop");
    }

    #[test]
    fn without_anything_or_with_nonsense_everything_begins_anew() {
        let (ours, theirs) = Link::pair().unwrap();
        let theirs = Link::from_descriptor(theirs).unwrap();
        assert_eq!(take(&theirs), Bequest::default());
        ours.send(&ToSuccessor::Bequest, &[File::open("/dev/null").unwrap().as_fd()]).unwrap();
        assert_eq!(take(&theirs), Bequest::default());
        ours.send(&ToSuccessor::Bequest, &[]).unwrap();
        assert_eq!(take(&theirs), Bequest::default());
    }
}
