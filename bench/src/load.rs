//! The load: connections that repeat one request, each at once after its answer (closed loop) or at a fixed rate
//! (open loop: arrivals happen when they happen, and latency counts from the scheduled instant).
//!
//! It never retries: a connection that breaks is an error, counted and replaced.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::cell::Cell;
use crate::percentile::quantile;
use crate::readiness::Readiness;
use arrivals::Arrivals;
use connection::{Connection, Progress};

mod arrivals;
mod connection;

/// Before anything is counted: pools fill, branch predictors learn.
const WARM_UP: Duration = Duration::from_millis(500);

/// The longest wait for readiness: the end of the measurement is noticed that late at most.
const LONGEST_WAIT: Duration = Duration::from_millis(20);

/// What one turn of one proxy in one cell gave.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) requests: usize,
    pub(crate) errors: usize,
    /// Used by the proxy.
    cpu: Duration,
    pub(crate) requests_per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

impl Sample {
    pub(crate) fn cpu_per_request_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.requests.max(1) as f64
    }
}

/// Runs `cell` against `address` for `length`, after warming up; `cpu_time` tells what the proxy has used so far.
pub(crate) fn run(
    cell: &Cell,
    address: SocketAddr,
    length: Duration,
    cpu_time: impl Fn() -> Result<Duration>,
) -> Result<Sample> {
    let mut load = Load::start(cell, address)?;
    load.drive(WARM_UP)?;
    load.books = Books::default();
    let (cpu, begun) = (cpu_time()?, Instant::now());
    load.drive(length)?;
    let (cpu, elapsed) = (cpu_time()?.saturating_sub(cpu), begun.elapsed());
    let Books { latencies_us, errors } = load.books;
    Ok(Sample {
        requests: latencies_us.len(),
        errors,
        cpu,
        requests_per_second: latencies_us.len() as f64 / elapsed.as_secs_f64(),
        p50_us: quantile(&latencies_us, 0.5).map_or(f64::NAN, f64::from),
        p99_us: quantile(&latencies_us, 0.99).map_or(f64::NAN, f64::from),
    })
}

struct Load {
    address: SocketAddr,
    request: Vec<u8>,
    readiness: Readiness,
    connections: Vec<Connection>,
    /// Connections without a request, by number. In the closed loop there are none.
    idle: Vec<usize>,
    arrivals: Option<Arrivals>,
    books: Books,
    buffer: Vec<u8>,
}

#[derive(Default)]
struct Books {
    latencies_us: Vec<f32>,
    errors: usize,
}

impl Load {
    fn start(cell: &Cell, address: SocketAddr) -> Result<Self> {
        let readiness = Readiness::new()?;
        let mut connections = Vec::new();
        for number in 0..cell.connections {
            let connection = Connection::open(address).context("the proxy does not take a connection")?;
            readiness.watch(&connection.socket, number)?;
            connections.push(connection);
        }
        let idle = (0..cell.connections).collect();
        let arrivals = cell.rate.map(|rate| Arrivals::new(rate, Instant::now()));
        let books = Books::default();
        let request = cell.request();
        Ok(Self {
            address,
            request,
            readiness,
            connections,
            idle,
            arrivals,
            books,
            buffer: vec![0; 256 << 10],
        })
    }

    fn drive(&mut self, length: Duration) -> Result<()> {
        let end = Instant::now() + length;
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            self.send_due(now)?;
            let next = self.arrivals.as_ref().map(|arrivals| arrivals.next().saturating_duration_since(now));
            let wait = next.unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT).min(end - now);
            let ready: Vec<usize> = self.readiness.wait(wait)?.collect();
            for number in ready {
                self.receive(number)?;
            }
        }
    }

    /// Gives idle connections the requests that are due; in the closed loop every idle one gets one.
    fn send_due(&mut self, now: Instant) -> Result<()> {
        while let Some(number) = self.idle.last().copied() {
            let due = match &mut self.arrivals {
                Some(arrivals) => arrivals.take_due(now),
                None => Some(now),
            };
            let Some(due) = due else { return Ok(()) };
            self.idle.pop();
            self.send(number, due)?;
        }
        Ok(())
    }

    fn send(&mut self, number: usize, due: Instant) -> Result<()> {
        if self.connections[number].send(&self.request, due).is_err() {
            self.replace(number)?;
        }
        Ok(())
    }

    fn receive(&mut self, number: usize) -> Result<()> {
        match self.connections[number].receive(&mut self.buffer) {
            Progress::Waiting => Ok(()),
            Progress::Broken => self.replace(number),
            Progress::Answered { good, due } => {
                self.books.errors += usize::from(!good);
                self.books.latencies_us.push(due.elapsed().as_secs_f32() * 1e6);
                if self.arrivals.is_some() {
                    self.idle.push(number);
                    return Ok(());
                }
                self.send(number, Instant::now())
            }
        }
    }

    /// The connection broke: an error, and a new one takes its place.
    fn replace(&mut self, number: usize) -> Result<()> {
        self.books.errors += 1;
        let connection = Connection::open(self.address).context("the proxy takes no connection any more")?;
        self.readiness.watch(&connection.socket, number)?;
        self.connections[number] = connection;
        self.idle.push(number);
        Ok(())
    }
}
