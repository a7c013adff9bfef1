//! The thread that writes. Orders are carried out one after the other; whoever gave one is told when it is on the disk.

use std::collections::HashMap;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use everup_core::deploy::Row;
use everup_observe::contained;

use crate::{Store, StoreError};

/// What became of a row.
#[derive(Debug)]
pub struct Done {
    /// Of which service.
    pub service: String,
    /// Its version.
    pub version: u64,
    /// It is on the disk, or why not.
    pub result: Result<(), StoreError>,
}

enum Order {
    Write(String, Box<Row>),
    Audit(String),
}

/// Writes to a store. When it is dropped, what was ordered is written first.
#[derive(Debug)]
pub struct Writer {
    /// None: being dropped.
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread; it calls `done` for every row.
    ///
    /// # Errors
    /// The operating system gave no thread.
    pub fn spawn(mut store: Store, done: impl Fn(Done) + Send + 'static) -> std::io::Result<Self> {
        let (orders, ordered) = channel();
        let mut newest = HashMap::<String, u64>::new();
        let work = move || {
            for order in ordered {
                match order {
                    Order::Write(service, row) => {
                        // One that was ordered again, and went in after all with a newer one, must not take its place.
                        let is_old = newest.get(&service).is_some_and(|newest| *newest >= row.version);
                        let write = || {
                            everup_failpoint::hit("store");
                            store.write(&service, &row)
                        };
                        let result = match is_old {
                            true => Ok(()),
                            false => {
                                contained("the store's writer", write).unwrap_or(Err(StoreError::Inside))
                            }
                        };
                        if result.is_ok() && !is_old {
                            newest.insert(service.clone(), row.version);
                        }
                        done(Done { version: row.version, service, result });
                    }
                    Order::Audit(line) => {
                        let written = contained("the store's writer", || {
                            everup_failpoint::hit("store.audit");
                            store.audit(&line)
                        });
                        if let Err(error) = written.unwrap_or(Err(StoreError::Inside)) {
                            tracing::error!(%error, order = line, "an order cannot be written down");
                        }
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("everup-store".to_owned()).spawn(work)?;
        Ok(Self { orders: Some(orders), thread: Some(thread) })
    }

    /// Has a row written.
    pub fn write(&self, service: String, row: Box<Row>) {
        self.order(Order::Write(service, row));
    }

    /// Has an order written down.
    pub fn audit(&self, line: String) {
        self.order(Order::Audit(line));
    }

    fn order(&self, order: Order) {
        let sent = self.orders.as_ref().map(|orders| orders.send(order));
        if !matches!(sent, Some(Ok(()))) {
            tracing::error!("nothing is stored any more: the thread for it has panicked");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // One that panicked has told so.
            let _ = thread.join();
        }
    }
}
