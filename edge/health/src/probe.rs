//! One probe of one instance: what to do is in `http`, `tcp` below and `command`; here is its time limit and whose fault a
//! failure is. Decides nothing about the instance.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use everup_core::config::{Check, SendProxy};
use everup_core::health::Reason;
use everup_core::health::machine::Outcome;
use everup_core::ids::InstanceId;
use everup_core::proxy_protocol;
use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::Tls;
use crate::starvation::Starvation;

mod command;
mod http;

/// What is probed and how.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) id: InstanceId,
    pub(crate) address: SocketAddr,
    pub(crate) check: Check,
    pub(crate) send_proxy: SendProxy,
    pub(crate) tls: Option<Tls>,
    pub(crate) timeout: Duration,
}

/// What stands in the way of a pass.
#[derive(Debug)]
enum Trouble {
    /// The instance's.
    Theirs(Reason),
    /// Ours: no descriptor, port or memory left. No evidence.
    Ours(io::Error),
}

/// Probes once, in at most [`Target::timeout`] (longer only by the time for which we starved).
pub(crate) async fn probe(target: &Target, starvation: &Starvation) -> Outcome {
    let checking = async {
        match &target.check {
            Check::Http(path) => http::check(target, path).await,
            Check::Tcp => connect(target).await.map(drop),
            Check::Command(command) => command::check(target, command).await,
        }
    };
    let result = match within(target.timeout, starvation, checking).await {
        Ok(result) => result,
        Err(TimedOut::Instance) => Err(Trouble::Theirs(Reason::ProbeTimeout)),
        Err(TimedOut::Us) => return Outcome::Inconclusive,
    };
    match result {
        Ok(()) => Outcome::Passed,
        Err(Trouble::Theirs(reason)) => Outcome::Failed(reason),
        Err(Trouble::Ours(error)) => {
            tracing::warn!(instance = %target.id, %error, "cannot probe");
            Outcome::Inconclusive
        }
    }
}

/// Who took too long.
#[derive(Debug, PartialEq, Eq)]
enum TimedOut {
    Instance,
    Us,
}

/// How often a probe may get its starved time back before it is given up as inconclusive: without a limit, a machine
/// that is overloaded for ever would keep a probe for ever.
const EXTENSIONS: u32 = 5;

/// Waits for `probe` for `timeout` of time in which we were able to listen: when it is over, the time for which we
/// starved since is given back, as often as needed up to [`EXTENSIONS`] times.
async fn within<T>(
    timeout: Duration,
    starvation: &Starvation,
    probe: impl Future<Output = T>,
) -> Result<T, TimedOut> {
    let mut probe = pin!(probe);
    let mut patience = timeout;
    let mut starved = starvation.total();
    for _ in 0..=EXTENSIONS {
        if let Ok(done) = tokio::time::timeout(patience, &mut probe).await {
            return Ok(done);
        }
        let starved_before = std::mem::replace(&mut starved, starvation.total());
        patience = starved.saturating_sub(starved_before);
        if patience.is_zero() {
            return Err(TimedOut::Instance);
        }
    }
    Err(TimedOut::Us)
}

/// A connection to an instance, with or without TLS.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Connects: the whole tcp check, the beginning of the http check. Both go as far as requests do: with TLS where the service
/// wants that.
async fn connect(target: &Target) -> Result<Box<dyn Wire>, Trouble> {
    let stream = connect_and_announce(target).await?;
    let Some(Tls { current, server_name }) = &target.tls else { return Ok(Box::new(stream)) };
    let failed = |why: String| Trouble::Theirs(Reason::HandshakeFailed(why));
    // A worker without these files reaches no instance; what stood in the way is in the log.
    let config = current
        .load_full()
        .ok_or_else(|| failed("the files of the service's `tls` do not work".to_owned()))?;
    match TlsConnector::from(config).connect(server_name.clone(), stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(failed("the instance closed the connection".to_owned()))
        }
        Err(error) => Err(failed(error.to_string())),
    }
}

/// An instance that expects a PROXY header gets one that says that we speak for ourselves, or it would take the check for a
/// broken connection.
async fn connect_and_announce(target: &Target) -> Result<TcpStream, Trouble> {
    let mut stream = connect_to(target.address).await?;
    let mut header = Vec::new();
    match target.send_proxy {
        SendProxy::Off => return Ok(stream),
        SendProxy::V1 => proxy_protocol::write_v1(&mut header, None),
        SendProxy::V2 => proxy_protocol::write_v2(&mut header, None, proxy_protocol::Fields::default()),
    }
    let written = stream.write_all(&header).await;
    written.map_err(|error| Trouble::Theirs(Reason::ProbeFailed(error.to_string())))?;
    Ok(stream)
}

async fn connect_to(address: SocketAddr) -> Result<TcpStream, Trouble> {
    let stream = TcpStream::connect(address).await.map_err(|error| match error.kind() {
        _ if is_ours(&error) => Trouble::Ours(error),
        io::ErrorKind::ConnectionRefused => Trouble::Theirs(Reason::ConnectRefused),
        _ => Trouble::Theirs(Reason::ConnectFailed(error.to_string())),
    })?;
    // The kernel may choose, as our own port, the very one that we connect to; with nobody listening there we would
    // be talking to ourselves (RFC 9293, 3.5: simultaneous open).
    match stream.local_addr() {
        Ok(local) if local == address => Err(Trouble::Theirs(Reason::ConnectRefused)),
        _ => Ok(stream),
    }
}

/// Errors that say something about this process and its machine, not about the instance.
fn is_ours(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    let ours = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::AGAIN, Errno::ADDRNOTAVAIL];
    errno.is_some_and(|errno| ours.contains(&errno))
}

#[cfg(test)]
mod tests;
