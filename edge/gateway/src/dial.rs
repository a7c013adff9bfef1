//! A new connection to an instance: connecting, the PROXY header if the service wants one, the TLS handshake if it wants
//! that. All of it is over within `timeout.connect`, and nothing of a request was written: another attempt may be made.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::time::Duration;

use everup_core::exchange::Failure;
use everup_core::health::Reason;

use crate::announce::announce;
use crate::client::Client;
use crate::local::Local;
use crate::service::{Instance, Service};
use crate::stream::Stream;

/// Whom to connect to, and for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dial<'a> {
    pub(crate) service: &'a Service,
    pub(crate) instance: &'a Instance,
    pub(crate) request_id: &'a str,
    /// The time that is left for the request: that it ran out says nothing about the instance.
    pub(crate) left: Duration,
}

/// How far it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Connecting,
    ShakingHands,
}

/// What went wrong on the way.
enum Trouble {
    Io(io::Error),
    Announce(Failure),
}

/// Connects; a failure that is the instance's is reported to health.
pub(crate) async fn dial(local: &Local, client: &Client, dial: Dial<'_>) -> Result<Stream, Failure> {
    let Dial { service, instance, left, .. } = dial;
    let limit = service.settings.timeout.connect;
    client.watch.set_deadline(None);
    let stage = Cell::new(Stage::Connecting);
    let connected = local.engine.timeout(limit.min(left), connect(local, client, dial, &stage)).await;
    let (failure, reason) = match connected {
        Ok(Ok(stream)) if local.table().takes(instance.key()) => return Ok(stream),
        // Judged down or taken out while we connected: nothing was written, so the newer table decides.
        Ok(Ok(_)) => return Err(Failure::JudgedDown),
        Ok(Err(Trouble::Announce(failure))) => return Err(failure),
        // Our own want says nothing about the instance; another attempt may find a connection in a pool.
        Ok(Err(Trouble::Io(error))) if is_our_want(&error) => return Err(Failure::ConnectFailed),
        Ok(Err(Trouble::Io(error))) => because_of(stage.get(), &error),
        Err(_) if left < limit => return Err(Failure::RequestTimeout),
        Err(_) => {
            let ms = limit.as_millis();
            let reason = match stage.get() {
                Stage::Connecting => Reason::ConnectFailed(format!("no connection within {ms} ms")),
                Stage::ShakingHands => Reason::HandshakeFailed(format!("not done within {ms} ms")),
            };
            (Failure::ConnectTimeout, reason)
        }
    };
    local.report(instance, reason);
    Err(failure)
}

async fn connect(
    local: &Local,
    client: &Client,
    dial: Dial<'_>,
    stage: &Cell<Stage>,
) -> Result<Stream, Trouble> {
    let Dial { service, instance, request_id, left: _ } = dial;
    let address = instance.table.address;
    let mut stream = Stream::connect(&local.engine, address).await.map_err(Trouble::Io)?;
    announce(local, client, service.settings.send_proxy, request_id, &mut stream)
        .map_err(Trouble::Announce)?;
    if let Some(connector) = &service.connector {
        stage.set(Stage::ShakingHands);
        connector.secure(&mut stream, address).await.map_err(Trouble::Io)?;
    }
    Ok(stream)
}

fn because_of(stage: Stage, error: &io::Error) -> (Failure, Reason) {
    match stage {
        Stage::Connecting if error.kind() == ErrorKind::ConnectionRefused => {
            (Failure::ConnectRefused, Reason::ConnectRefused)
        }
        Stage::Connecting => (Failure::ConnectFailed, Reason::ConnectFailed(error.to_string())),
        Stage::ShakingHands if error.kind() == ErrorKind::UnexpectedEof => (
            Failure::HandshakeFailed,
            Reason::HandshakeFailed("the instance closed the connection".to_owned()),
        ),
        Stage::ShakingHands => (Failure::HandshakeFailed, Reason::HandshakeFailed(error.to_string())),
    }
}

/// No descriptors, ports or memory left on this side.
fn is_our_want(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let wants = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOMEM, Errno::AGAIN];
    wants.iter().any(|want| error.raw_os_error() == Some(want.raw_os_error()))
}
