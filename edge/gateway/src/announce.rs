//! `send_proxy`: the PROXY header that a new connection to an instance begins with, so that the instance knows whose it
//! is. Such a connection speaks for one client and goes into no pool.

use everup_core::config::SendProxy;
use everup_core::exchange::Failure;
use everup_core::proxy_protocol::{self, Ends};

use crate::client::Client;
use crate::local::Local;
use crate::stream::Stream;

/// Writes the header, if the service wants one.
///
/// # Errors
/// Nothing of a request was written; another attempt may be made.
pub(crate) fn announce(
    local: &Local,
    client: &Client,
    send_proxy: SendProxy,
    request_id: &str,
    instance: &mut Stream,
) -> Result<(), Failure> {
    if send_proxy == SendProxy::Off {
        return Ok(());
    }
    let destination = client.destination().map_err(|_| Failure::ConnectFailed)?;
    let ends = Some(Ends { source: client.source, destination });
    let mut header = local.buffers.take();
    match send_proxy {
        SendProxy::Off => {}
        SendProxy::V1 => proxy_protocol::write_v1(&mut header, ends),
        SendProxy::V2 => proxy_protocol::write_v2(&mut header, ends, client.proxy_fields(request_id)),
    }
    // A new connection's kernel buffer holds far more than the few hundred bytes of a header.
    let written = instance.try_write(&header, &[]);
    let whole = written.is_ok_and(|written| written == header.len());
    local.buffers.give(header);
    if whole { Ok(()) } else { Err(Failure::ConnectFailed) }
}
