//! A load: what is sent, how often, for how long; and the thread that sends it. The schedule is fixed before the
//! first request leaves and no answer changes it (open loop). What became of the requests stands in the
//! [`Ledger`](crate::Ledger).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, sleep_until};

use crate::DrillError;
use crate::client::Client;
use crate::ledger::{Entry, Ledger, Loss, Outcome};
use crate::response::Answer;
use crate::target::Target;

/// The header that carries each request's own id. An instance that echoes it lets crossed answers be seen.
pub const DRILL_ID: &str = "X-Drill-Id";
/// The most requests of one load: its books must fit in memory.
const MOST_REQUESTS: u64 = 5_000_000;
/// The most requests in flight: below what one process has ports and descriptors for.
const MOST_IN_FLIGHT: usize = 10_000;
/// The most cookies kept: far above what one site sets.
const MOST_COOKIES: usize = 50;
/// Requests per second that one thread can keep on schedule.
const RATES: std::ops::RangeInclusive<f64> = 0.1..=20_000.0;

/// How requests use connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// On kept connections, as many as the answers' slowness needs.
    #[default]
    KeepAlive,
    /// One connection for each, `Connection: close`.
    Close,
    /// In turns.
    Mixed,
}

/// What to send. Built by chaining; checked when it starts.
#[derive(Clone, Debug)]
pub struct Load {
    target: Target,
    host: Option<String>,
    rate: f64,
    lasting: Option<Duration>,
    mode: Mode,
    method: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    cookies: bool,
    timeout: Duration,
    id_header: Option<String>,
}

impl Load {
    /// GET `url`, 200 times a second for ten seconds on kept connections, 10 s for each.
    ///
    /// # Errors
    /// When the URL is not plain HTTP to a loopback or private address.
    pub fn to(url: &str) -> Result<Self, DrillError> {
        Ok(Self {
            target: Target::parse(url)?,
            host: None,
            rate: 200.0,
            lasting: Some(Duration::from_secs(10)),
            mode: Mode::default(),
            method: "GET".into(),
            headers: Vec::new(),
            body: None,
            cookies: false,
            timeout: Duration::from_secs(10),
            id_header: None,
        })
    }

    /// Requests per second, 0.1 to 20,000.
    #[must_use]
    pub fn rate(self, rate: f64) -> Self {
        Self { rate, ..self }
    }

    /// How long requests are due; the load ends when the last of them is answered or lost.
    #[must_use]
    pub fn lasting(self, duration: Duration) -> Self {
        Self { lasting: Some(duration), ..self }
    }

    /// Requests are due until [`Running::stop`].
    #[must_use]
    pub fn until_stopped(self) -> Self {
        Self { lasting: None, ..self }
    }

    /// How requests use connections.
    #[must_use]
    pub fn mode(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    /// Another method, with a body. Give an empty one to send `Content-Length: 0`.
    #[must_use]
    pub fn sending(self, method: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { method: method.into(), body: Some(body.into()), ..self }
    }

    /// Another method, without a body.
    #[must_use]
    pub fn method(self, method: &str) -> Self {
        Self { method: method.into(), ..self }
    }

    /// One more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Another header that carries each request's id, such as the one by which a gateway's log names it.
    #[must_use]
    pub fn id_header(self, name: &str) -> Self {
        Self { id_header: Some(name.into()), ..self }
    }

    /// Another `Host` than the URL's.
    #[must_use]
    pub fn host(self, host: &str) -> Self {
        Self { host: Some(host.into()), ..self }
    }

    /// Keep and return cookies: all requests are one user.
    #[must_use]
    pub fn cookies(self) -> Self {
        Self { cookies: true, ..self }
    }

    /// How long one request may take, from connecting to the answer's last byte.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Starts sending, on a thread of its own.
    ///
    /// # Errors
    /// When a setting is out of its range or the machine gives no thread.
    pub fn start(self) -> Result<Running, DrillError> {
        self.check()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let shared = Arc::new(Shared::default());
        let books = Arc::clone(&shared);
        let (run, period) = (run_name(), Duration::from_secs_f64(1.0 / self.rate));
        let name = run.clone();
        let started = std::time::Instant::now();
        let drive = move || LocalSet::new().block_on(&runtime, drive(self, name, books, started.into()));
        let thread = std::thread::Builder::new().name("drill".into()).spawn(drive)?;
        Ok(Running { run, period, started, shared, thread: Some(thread) })
    }

    /// Sends it all and waits for the end.
    ///
    /// # Errors
    /// As [`Load::start`].
    pub fn run(self) -> Result<Ledger, DrillError> {
        self.start()?.finish()
    }

    fn check(&self) -> Result<(), DrillError> {
        if !RATES.contains(&self.rate) {
            return Err(DrillError::Range { what: "the rate", range: "0.1 to 20000 requests per second" });
        }
        if self.lasting.is_some_and(|time| time.as_secs_f64() * self.rate > MOST_REQUESTS as f64) {
            return Err(DrillError::Range { what: "rate times duration", range: "5000000 requests" });
        }
        let token = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        let value = |text: &str| text.bytes().all(|byte| byte >= b' ' && byte != 0x7f);
        if let Some(name) = [&self.method].into_iter().chain(&self.id_header).find(|name| !token(name)) {
            return Err(DrillError::Head(name.clone()));
        }
        let broken = self.headers.iter().find(|(name, text)| !token(name) || !value(text));
        match broken {
            Some((name, text)) => Err(DrillError::Head(format!("{name}: {text}"))),
            None => Ok(()),
        }
    }

    /// The request's bytes.
    fn request(&self, id: &str, keep: bool, cookies: &BTreeMap<String, String>) -> Vec<u8> {
        let host = self.host.as_ref().unwrap_or(&self.target.host);
        let mut head =
            format!("{} {} HTTP/1.1\r\nHost: {host}\r\n{DRILL_ID}: {id}\r\n", self.method, self.target.path);
        if let Some(name) = &self.id_header {
            head += &format!("{name}: {id}\r\n");
        }
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !cookies.is_empty() {
            let pairs: Vec<String> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            head += &format!("Cookie: {}\r\n", pairs.join("; "));
        }
        if let Some(body) = &self.body {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        head += if keep { "\r\n" } else { "Connection: close\r\n\r\n" };
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }
}

/// A load under way. Dropping it stops it.
#[derive(Debug)]
pub struct Running {
    run: String,
    period: Duration,
    started: std::time::Instant,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: Notify,
    entries: Mutex<Vec<Entry>>,
}

impl Running {
    /// Time since the load's start, on the scale of [`Entry::due`].
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// How many requests are settled, well or badly.
    pub fn settled(&self) -> usize {
        self.shared.entries.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The books so far; requests in flight are not in them.
    pub fn so_far(&self) -> Ledger {
        let entries = self.shared.entries.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ledger::new(self.run.clone(), self.period, entries)
    }

    /// Sends nothing more, waits for the requests in flight (each has its timeout) and closes the books.
    ///
    /// # Errors
    /// When the sending thread panicked.
    pub fn stop(self) -> Result<Ledger, DrillError> {
        self.shared.stop.notify_one();
        self.finish()
    }

    /// Waits until all that was due is settled and closes the books.
    ///
    /// # Errors
    /// When the sending thread panicked.
    pub fn finish(mut self) -> Result<Ledger, DrillError> {
        let thread = self.thread.take().ok_or(DrillError::ThreadLost)?;
        thread.join().map_err(|_| DrillError::ThreadLost)?;
        Ok(self.so_far())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.stop.notify_one();
    }
}

/// What the requests of a load share on its thread.
struct Sender {
    load: Load,
    run: String,
    client: Client,
    cookies: RefCell<BTreeMap<String, String>>,
    books: Arc<Shared>,
    start: Instant,
}

/// The driver: waits for the next instant of the schedule, sends, goes on; at the end waits for what is in flight.
async fn drive(load: Load, run: String, books: Arc<Shared>, start: Instant) {
    let (rate, most) = (load.rate, most_requests(&load));
    let client = Client::new(load.target.address, load.timeout);
    let sender = Rc::new(Sender { load, run, client, cookies: RefCell::default(), books, start });
    let mut flights = JoinSet::new();
    for number in 0..most {
        let due = Duration::from_secs_f64(number as f64 / rate);
        tokio::select! {
            biased;
            () = sender.books.stop.notified() => break,
            () = sleep_until(start + due) => {}
        }
        while flights.try_join_next().is_some() {}
        if flights.len() < MOST_IN_FLIGHT {
            flights.spawn_local(Rc::clone(&sender).one(number, due));
        } else {
            sender.enter(number, due, Outcome::Lost(Loss::NotSent), None);
        }
        // When the machine fell behind the schedule, the answers must be read all the same.
        tokio::task::yield_now().await;
    }
    while flights.join_next().await.is_some() {}
}

fn most_requests(load: &Load) -> u64 {
    load.lasting.map_or(MOST_REQUESTS, |time| (time.as_secs_f64() * load.rate).round() as u64)
}

impl Sender {
    async fn one(self: Rc<Self>, number: u64, due: Duration) {
        let keep = match self.load.mode {
            Mode::KeepAlive => true,
            Mode::Close => false,
            Mode::Mixed => number.is_multiple_of(2),
        };
        let id = format!("{}-{number}", self.run);
        let request = self.load.request(&id, keep, &self.cookies.borrow());
        let head_only = self.load.method == "HEAD";
        match self.client.send(&request, keep, head_only).await {
            Ok(answer) => {
                self.keep_cookies(&answer);
                let outcome = judge(&answer, &id);
                self.enter(number, due, outcome, answer.header("x-instance").map(str::to_owned));
            }
            Err(loss) => self.enter(number, due, Outcome::Lost(loss), None),
        }
    }

    fn enter(&self, number: u64, due: Duration, outcome: Outcome, who: Option<String>) {
        let took = self.start.elapsed().saturating_sub(due);
        let mut entries = self.books.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.push(Entry { number, due, took, outcome, who });
    }

    fn keep_cookies(&self, answer: &Answer) {
        if !self.load.cookies {
            return;
        }
        let mut jar = self.cookies.borrow_mut();
        for (_, value) in answer.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let pair = value.split(';').next().and_then(|pair| pair.split_once('='));
            if let Some((name, value)) = pair.filter(|_| jar.len() < MOST_COOKIES) {
                jar.insert(name.trim().into(), value.trim().into());
            }
        }
    }
}

fn judge(answer: &Answer, id: &str) -> Outcome {
    if answer.header(&DRILL_ID.to_ascii_lowercase()).is_some_and(|echoed| echoed != id) {
        Outcome::Lost(Loss::Crossed)
    } else if answer.status >= 500 {
        Outcome::Lost(Loss::Status(answer.status))
    } else {
        Outcome::Answered(answer.status)
    }
}

/// Differs between loads on one machine: process, wall clock.
fn run_name() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{:x}-{:x}", std::process::id(), now.as_nanos())
}
