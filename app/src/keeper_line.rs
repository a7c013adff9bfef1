//! The line to the keeper within the control loop: messages in, messages out, never waiting in between. What does not
//! fit into the socket now stays in an outbox.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use everup_core::keeper::{ToKeeper, ToWorker};
use everup_link::{Link, LinkError, Received};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The worker's end.
#[derive(Debug)]
pub(crate) struct KeeperLine {
    link: AsyncFd<Link>,
    outbox: VecDeque<(ToKeeper, Vec<OwnedFd>)>,
}

impl KeeperLine {
    /// Must be called within a tokio runtime.
    #[expect(deprecated, reason = "its replacement is unsafe; a Link owns the one descriptor that it names")]
    pub(crate) fn new(link: Link) -> io::Result<Self> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        Ok(Self { link: AsyncFd::with_interest(link, interest)?, outbox: VecDeque::new() })
    }

    /// Sends now or as soon as there is room. Of several notes or signs of life that wait, only the newest is of use.
    pub(crate) fn send(&mut self, message: ToKeeper, descriptor: Option<OwnedFd>) {
        self.send_with(message, descriptor.into_iter().collect());
    }

    /// The same with any number of descriptors, up to the link's limit.
    pub(crate) fn send_with(&mut self, message: ToKeeper, descriptors: Vec<OwnedFd>) {
        if matches!(message, ToKeeper::Remember { .. } | ToKeeper::Alive { .. }) {
            let kind = std::mem::discriminant(&message);
            self.outbox.retain(|(waiting, _)| std::mem::discriminant(waiting) != kind);
        }
        self.outbox.push_back((message, descriptors));
        // A keeper that is gone is told by `receive`.
        let _ = self.flush();
    }

    /// The next message of the keeper and the descriptors beside it; None when the keeper is gone. May be cancelled without losing a message.
    pub(crate) async fn receive(&mut self) -> Result<Option<(ToWorker, Vec<OwnedFd>)>, LinkError> {
        loop {
            let all_sent = self.flush()?;
            let interest =
                if all_sent { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
            let mut guard = self.link.ready(interest).await.map_err(LinkError::System)?;
            if !guard.ready().is_readable() {
                // Writable, it says: if the socket is full after all, wait for the next time.
                if !send_all(self.link.get_ref(), &mut self.outbox)? {
                    guard.clear_ready_matching(tokio::io::Ready::WRITABLE);
                }
                continue;
            }
            match guard.get_inner().try_receive()? {
                Received::Message(message, descriptors) => return Ok(Some((message, descriptors))),
                Received::Gone => return Ok(None),
                Received::Nothing => guard.clear_ready_matching(tokio::io::Ready::READABLE),
            }
        }
    }

    /// Sends what waits, also if that takes time: for the last message.
    pub(crate) fn finish(self) -> Result<(), LinkError> {
        let Self { link, outbox } = self;
        let link = link.into_inner();
        for (message, descriptors) in outbox {
            let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
            link.send(&message, &descriptors)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<bool, LinkError> {
        send_all(self.link.get_ref(), &mut self.outbox)
    }
}

/// False if something waits still.
fn send_all(link: &Link, outbox: &mut VecDeque<(ToKeeper, Vec<OwnedFd>)>) -> Result<bool, LinkError> {
    while let Some((message, descriptors)) = outbox.front() {
        let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        if !link.try_send(message, &descriptors)? {
            return Ok(false);
        }
        outbox.pop_front();
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn more_than_fits_into_the_socket_arrives_in_order_once_the_keeper_reads() {
        let (keeper, end) = Link::pair().unwrap();
        let mut line = KeeperLine::new(Link::from_descriptor(end).unwrap()).unwrap();
        let signal = |n: usize| ToKeeper::Signal {
            id: everup_core::ids::InstanceId::new("shop".repeat(1000), format!("shop-{n}")),
            signal: everup_core::keeper::StopSignal::Kill,
        };
        for n in 0..500 {
            line.send(signal(n), None);
        }
        assert!(!line.outbox.is_empty(), "the socket took everything: the test needs more");
        let reading = std::thread::spawn(move || {
            for n in 0..500 {
                assert_eq!(keeper.receive::<ToKeeper>().unwrap().unwrap().0, signal(n));
            }
            keeper.send(&ToWorker::Begin, &[]).unwrap();
            keeper
        });
        assert_eq!(line.receive().await.unwrap().unwrap().0, ToWorker::Begin);
        drop(reading.join().unwrap());
        assert!(line.receive().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn of_notes_that_wait_only_the_newest_is_kept() {
        let (keeper, end) = Link::pair().unwrap();
        let mut line = KeeperLine::new(Link::from_descriptor(end).unwrap()).unwrap();
        for n in 0..100 {
            line.send(ToKeeper::Remember { notes: format!("{n}").repeat(60_000) }, None);
        }
        assert_eq!(line.outbox.len(), 1);
        let reading = std::thread::spawn(move || {
            let mut last = String::new();
            while let Some((ToKeeper::Remember { notes }, _)) = keeper.receive().unwrap() {
                last = notes;
            }
            last
        });
        line.finish().unwrap();
        assert!(reading.join().unwrap().starts_with("9999"));
    }
}
