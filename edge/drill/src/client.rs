//! One request on one connection, and the idle connections between requests. Never a second attempt: what happens to
//! the request here goes into the books as it is.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::ledger::Loss;
use crate::response::{Answer, Broken, read_answer};

/// A plain client without retries.
pub(crate) struct Client {
    address: SocketAddr,
    timeout: Duration,
    /// Idle connections, the last used at the end.
    idle: RefCell<Vec<TcpStream>>,
}

impl Client {
    /// A client of `address` that gives every request `timeout` from connecting to the answer's last byte.
    pub(crate) fn new(address: SocketAddr, timeout: Duration) -> Self {
        Self { address, timeout, idle: RefCell::default() }
    }

    /// Sends `request` and reads its answer. `keep`: on an idle connection if there is one, which is kept afterwards.
    pub(crate) async fn send(&self, request: &[u8], keep: bool, head_only: bool) -> Result<Answer, Loss> {
        let deadline = Instant::now() + self.timeout;
        let pooled = if keep { self.take_idle() } else { None };
        let mut connection = match pooled {
            Some(connection) => connection,
            None => self.connect(deadline).await?,
        };
        let exchange = async {
            connection.write_all(request).await.map_err(|_| Loss::Reset)?;
            read_answer(&mut connection, head_only).await.map_err(loss_of)
        };
        let answer = timeout_at(deadline, exchange).await.map_err(|_| Loss::Timeout)??;
        if keep && answer.keeps_alive {
            self.idle.borrow_mut().push(connection);
        }
        Ok(answer)
    }

    /// An idle connection that the peer has given no sign of having closed, as any client would look.
    fn take_idle(&self) -> Option<TcpStream> {
        let mut idle = self.idle.borrow_mut();
        while let Some(connection) = idle.pop() {
            // Asked of the kernel, not of tokio's memory of its last event.
            let (flags, byte) = (RecvFlags::PEEK | RecvFlags::DONTWAIT, &mut [0]);
            if recv(&connection, byte, flags).is_err_and(|error| error == Errno::WOULDBLOCK) {
                return Some(connection);
            }
        }
        None
    }

    async fn connect(&self, deadline: Instant) -> Result<TcpStream, Loss> {
        match timeout_at(deadline, TcpStream::connect(self.address)).await {
            Ok(Ok(connection)) => {
                connection.set_nodelay(true).map_err(|_| Loss::ConnectFailed)?;
                Ok(connection)
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Err(Loss::ConnectRefused),
            Ok(Err(_)) => Err(Loss::ConnectFailed),
            Err(_) => Err(Loss::ConnectTimeout),
        }
    }
}

fn loss_of(broken: Broken) -> Loss {
    match broken {
        Broken::ClosedBeforeAnswer => Loss::ClosedBeforeAnswer,
        Broken::Cut => Loss::Cut,
        Broken::Reset => Loss::Reset,
        Broken::Garbled => Loss::Garbled,
    }
}
