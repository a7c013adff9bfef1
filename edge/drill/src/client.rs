//! One request on one connection, and the idle connections between requests. Never a second attempt: what happens to
//! the request here goes into the books as it is.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout_at};

use crate::connection::{Connection, Dial};
use crate::ledger::Loss;
use crate::lives::{Births, End};
use crate::response::{Answer, Broken, read_answer};

/// A plain client without retries.
pub(crate) struct Client {
    dial: Dial,
    timeout: Duration,
    /// So many connections are kept open and used by turns. 0: as few as it takes, the last used first.
    held: usize,
    /// The last used at the end.
    idle: RefCell<VecDeque<Kept>>,
    /// Kept connections, also those in use or being opened.
    open: Cell<usize>,
    births: Arc<Births>,
}

struct Kept {
    connection: Connection,
    number: usize,
}

impl Client {
    /// A client that gives every request `timeout` from connecting to the answer's last byte.
    pub(crate) fn new(dial: Dial, timeout: Duration, held: usize, births: Arc<Births>) -> Self {
        Self { dial, timeout, held, idle: RefCell::default(), open: Cell::new(0), births }
    }

    /// Sends `request` and reads its answer. `keep`: on an idle connection if there is one, which is kept afterwards.
    pub(crate) async fn send(&self, request: &[u8], keep: bool, head_only: bool) -> Result<Answer, Loss> {
        let deadline = Instant::now() + self.timeout;
        if !keep {
            let mut connection = self.dial.connect(deadline).await?;
            return exchange(&mut connection, request, head_only, deadline).await;
        }
        let mut kept = match self.take_idle() {
            Some(kept) => kept,
            None => self.open(deadline).await?,
        };
        let answer = exchange(&mut kept.connection, request, head_only, deadline).await;
        match &answer {
            Ok(answer) if answer.keeps_alive => self.idle.borrow_mut().push_back(kept),
            Ok(_) => self.end(&kept, End::Told),
            Err(_) => self.end(&kept, End::Broken),
        }
        answer
    }

    /// Looks which of the idle connections are closed by now.
    pub(crate) fn look(&self) {
        self.idle.borrow_mut().retain(|kept| {
            let quiet = kept.connection.is_quiet();
            if !quiet {
                self.end(kept, End::ClosedIdle);
            }
            quiet
        });
    }

    async fn open(&self, deadline: Instant) -> Result<Kept, Loss> {
        self.open.set(self.open.get() + 1);
        let connected = self.dial.connect(deadline).await;
        let connection = connected.inspect_err(|_| self.open.set(self.open.get() - 1))?;
        Ok(Kept { connection, number: self.births.opened() })
    }

    /// An idle connection that the peer has given no sign of having closed. None as long as fewer are open than are held.
    fn take_idle(&self) -> Option<Kept> {
        let mut idle = self.idle.borrow_mut();
        while self.open.get() >= self.held {
            let kept = if self.held > 0 { idle.pop_front() } else { idle.pop_back() }?;
            if kept.connection.is_quiet() {
                return Some(kept);
            }
            self.end(&kept, End::ClosedIdle);
        }
        None
    }

    fn end(&self, kept: &Kept, how: End) {
        self.open.set(self.open.get() - 1);
        self.births.ended(kept.number, how);
    }
}

async fn exchange(
    connection: &mut Connection,
    request: &[u8],
    head_only: bool,
    deadline: Instant,
) -> Result<Answer, Loss> {
    let exchange = async {
        connection.write_all(request).await.map_err(|_| Loss::Reset)?;
        connection.flush().await.map_err(|_| Loss::Reset)?;
        read_answer(connection, head_only).await.map_err(loss_of)
    };
    timeout_at(deadline, exchange).await.map_err(|_| Loss::Timeout)?
}

fn loss_of(broken: Broken) -> Loss {
    match broken {
        Broken::ClosedBeforeAnswer => Loss::ClosedBeforeAnswer,
        Broken::Cut => Loss::Cut,
        Broken::Reset => Loss::Reset,
        Broken::Garbled => Loss::Garbled,
    }
}
