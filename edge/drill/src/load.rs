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
use tokio::time::{Instant, sleep, sleep_until};

use crate::client::Client;
use crate::connection::Dial;
use crate::kind::{DRILL_ID, Kind, Mode, is_token};
use crate::ledger::{Entry, Ledger, Loss, Outcome};
use crate::limits::{self, MOST_COOKIES, MOST_IN_FLIGHT, MOST_REQUESTS};
use crate::lives::{Births, Lives};
use crate::response::Answer;
use crate::target::Target;
use crate::{DrillError, Reach, Trust};

/// How often idle connections are looked at, where they are counted.
const LOOK: Duration = Duration::from_millis(50);

/// What to send. Built by chaining; checked when it starts.
#[derive(Clone, Debug)]
pub struct Load {
    kind: Kind,
    /// Their requests go out in turns with those of `kind`.
    others: Vec<Kind>,
    rate: f64,
    lasting: Option<Duration>,
    held: usize,
    cookies: bool,
    timeout: Duration,
    trust: Trust,
    id_header: Option<String>,
}

impl Load {
    /// GET `url`, 200 times a second for ten seconds on kept connections, 10 s for each.
    ///
    /// # Errors
    /// When the URL is none of a web server at a loopback or private address.
    pub fn to(url: &str) -> Result<Self, DrillError> {
        Self::reaching(url, Reach::Local)
    }

    /// The same, as far as `reach` allows.
    ///
    /// # Errors
    /// As [`Load::to`].
    pub fn reaching(url: &str, reach: Reach) -> Result<Self, DrillError> {
        Ok(Self {
            kind: Kind::new(Target::parse(url, reach)?),
            others: Vec::new(),
            rate: 200.0,
            lasting: Some(Duration::from_secs(10)),
            held: 0,
            cookies: false,
            timeout: Duration::from_secs(10),
            trust: Trust::default(),
            id_header: None,
        })
    }

    /// Requests like those of `other` go out in turns with these. Rate, time and whatever else is not about a single
    /// request stay as they are here.
    #[must_use]
    pub fn in_turns_with(mut self, other: Self) -> Self {
        self.others.push(other.kind);
        self.others.extend(other.others);
        self
    }

    /// Requests per second; see [`limits::RATE`].
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

    /// So many kept connections to each place are open all the time and used by turns, so that each is idle between
    /// two requests; one that ends is replaced. Otherwise there are as few as it takes.
    #[must_use]
    pub fn holding(self, held: usize) -> Self {
        Self { held, ..self }
    }

    /// How requests use connections.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.kind.mode = mode;
        self
    }

    /// Another method, with a body. Give an empty one to send `Content-Length: 0`.
    #[must_use]
    pub fn sending(mut self, method: &str, body: impl Into<Vec<u8>>) -> Self {
        self.kind.body = Some(body.into());
        self.method(method)
    }

    /// Another method, without a body.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.kind.method = method.into();
        self
    }

    /// Another path than the URL's.
    ///
    /// # Errors
    /// When it is none.
    pub fn path(mut self, path: &str) -> Result<Self, DrillError> {
        self.kind.target = self.kind.target.with_path(path)?;
        Ok(self)
    }

    /// One more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.kind.headers.push((name.into(), value.into()));
        self
    }

    /// Another header that carries each request's id, such as the one by which a gateway's log names it.
    #[must_use]
    pub fn id_header(self, name: &str) -> Self {
        Self { id_header: Some(name.into()), ..self }
    }

    /// Another `Host` than the URL's; on https also the name whose certificate is expected.
    #[must_use]
    pub fn host(mut self, host: &str) -> Self {
        self.kind.host = Some(host.into());
        self
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

    /// Whose certificates are believed on https.
    #[must_use]
    pub fn trust(self, trust: Trust) -> Self {
        Self { trust, ..self }
    }

    /// Starts sending, on a thread of its own.
    ///
    /// # Errors
    /// When a setting is out of its range or the machine gives no thread.
    pub fn start(self) -> Result<Running, DrillError> {
        self.check()?;
        let dials = self.kinds().map(|kind| Dial::new(&kind.target, kind.host.as_deref(), &self.trust));
        let dials: Vec<Dial> = dials.collect::<Result<_, _>>()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let names = self.kinds().flat_map(|kind| [kind.name(true), kind.name(false)]).collect();
        let (run, period) = (run_name(), Duration::from_secs_f64(1.0 / self.rate));
        let started = std::time::Instant::now();
        let shared = Arc::new(Shared {
            stop: Notify::new(),
            entries: Mutex::default(),
            births: Arc::new(Births::new(started.into())),
        });
        let (name, books) = (run.clone(), Arc::clone(&shared));
        let drive =
            move || LocalSet::new().block_on(&runtime, drive(self, dials, name, books, started.into()));
        let thread = std::thread::Builder::new().name("drill".into()).spawn(drive)?;
        Ok(Running { run, period, names, started, shared, thread: Some(thread) })
    }

    /// Sends it all and waits for the end.
    ///
    /// # Errors
    /// As [`Load::start`].
    pub fn run(self) -> Result<Ledger, DrillError> {
        self.start()?.finish()
    }

    fn kinds(&self) -> impl Iterator<Item = &Kind> {
        [&self.kind].into_iter().chain(&self.others)
    }

    fn check(&self) -> Result<(), DrillError> {
        limits::RATE.check(self.rate)?;
        if self.lasting.is_some_and(|time| time.as_secs_f64() * self.rate > MOST_REQUESTS as f64) {
            let range = format!("{MOST_REQUESTS} requests");
            return Err(DrillError::Range { what: "rate times duration", range });
        }
        if let Some(name) = self.id_header.as_ref().filter(|name| !is_token(name)) {
            return Err(DrillError::Head(name.clone()));
        }
        self.kinds().try_for_each(Kind::check)
    }
}

/// A load under way. Dropping it stops it.
#[derive(Debug)]
pub struct Running {
    run: String,
    period: Duration,
    names: Arc<[String]>,
    started: std::time::Instant,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    stop: Notify,
    entries: Mutex<Vec<Entry>>,
    births: Arc<Births>,
}

impl Running {
    /// When it started: zero on the scale of [`Entry::due`].
    pub fn started(&self) -> std::time::Instant {
        self.started
    }

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
        Ledger::new(self.run.clone(), self.period, Arc::clone(&self.names), entries)
    }

    /// The kept connections so far.
    pub fn connections(&self) -> Lives {
        self.shared.births.so_far()
    }

    /// Sends nothing more, waits for the requests in flight (each has its timeout) and closes the books.
    ///
    /// # Errors
    /// When the sending thread panicked.
    pub fn stop(self) -> Result<Ledger, DrillError> {
        Ok(self.stop_with_connections()?.0)
    }

    /// The same, with the books of the kept connections.
    ///
    /// # Errors
    /// When the sending thread panicked.
    pub fn stop_with_connections(self) -> Result<(Ledger, Lives), DrillError> {
        self.shared.stop.notify_one();
        let shared = Arc::clone(&self.shared);
        Ok((self.finish()?, shared.births.so_far()))
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
    /// One for each kind; kinds that go to the same place share one.
    clients: Vec<Rc<Client>>,
    cookies: RefCell<BTreeMap<String, String>>,
    books: Arc<Shared>,
    start: Instant,
}

/// The driver: waits for the next instant of the schedule, sends, goes on; at the end waits for what is in flight.
async fn drive(load: Load, dials: Vec<Dial>, run: String, books: Arc<Shared>, start: Instant) {
    let (rate, most) = (load.rate, most_requests(&load));
    let clients = clients(&load, dials, &books.births);
    let watch = (load.held > 0).then(|| tokio::task::spawn_local(watch(clients.clone())));
    let sender = Rc::new(Sender { load, run, clients, cookies: RefCell::default(), books, start });
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
            sender.enter((number, due), Outcome::Lost(Loss::NotSent), None);
        }
        // When the machine fell behind the schedule, the answers must be read all the same.
        tokio::task::yield_now().await;
    }
    while flights.join_next().await.is_some() {}
    if let Some(watch) = watch {
        watch.abort();
    }
    sender.clients.iter().for_each(|client| client.look());
}

fn clients(load: &Load, dials: Vec<Dial>, births: &Arc<Births>) -> Vec<Rc<Client>> {
    let mut known: Vec<(&Kind, Rc<Client>)> = Vec::new();
    for (kind, dial) in load.kinds().zip(dials) {
        let place = |kind: &Kind| (kind.target.address, kind.target.secure.clone(), kind.host.clone());
        let same =
            known.iter().find(|(other, _)| place(other) == place(kind)).map(|(_, same)| Rc::clone(same));
        let client =
            same.unwrap_or_else(|| Rc::new(Client::new(dial, load.timeout, load.held, Arc::clone(births))));
        known.push((kind, client));
    }
    known.into_iter().map(|(_, client)| client).collect()
}

/// Sees idle connections close when they do, and not when their turn comes.
async fn watch(clients: Vec<Rc<Client>>) {
    loop {
        sleep(LOOK).await;
        clients.iter().for_each(|client| client.look());
    }
}

fn most_requests(load: &Load) -> u64 {
    load.lasting.map_or(MOST_REQUESTS, |time| (time.as_secs_f64() * load.rate).round() as u64)
}

impl Sender {
    async fn one(self: Rc<Self>, number: u64, due: Duration) {
        let (index, keep) = self.turn(number);
        let kind = self.load.kinds().nth(index).expect("the index is a remainder of their number");
        let id = format!("{}-{number}", self.run);
        let ids: Vec<&str> = [DRILL_ID].into_iter().chain(self.load.id_header.as_deref()).collect();
        let request = kind.request(&id, &ids, keep, &self.cookies.borrow());
        let head_only = kind.method == "HEAD";
        match self.clients[index].send(&request, keep, head_only).await {
            Ok(answer) => {
                self.keep_cookies(&answer);
                let outcome = judge(&answer, &id);
                self.enter((number, due), outcome, answer.header("x-instance").map(str::to_owned));
            }
            Err(loss) => self.enter((number, due), Outcome::Lost(loss), None),
        }
    }

    /// Which kind's turn it is, and whether on a kept connection.
    fn turn(&self, number: u64) -> (usize, bool) {
        let kinds = 1 + self.load.others.len() as u64;
        let index = usize::try_from(number % kinds).unwrap_or_default();
        let kind = self.load.kinds().nth(index).expect("the index is a remainder of their number");
        (index, kind.keeps(number / kinds))
    }

    fn enter(&self, (number, due): (u64, Duration), outcome: Outcome, who: Option<String>) {
        let took = self.start.elapsed().saturating_sub(due);
        let (index, keep) = self.turn(number);
        let kind = u16::try_from(index * 2 + usize::from(!keep)).unwrap_or(u16::MAX);
        let mut entries = self.books.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.push(Entry { number, kind, due, took, outcome, who });
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
pub(crate) fn run_name() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{:x}-{:x}", std::process::id(), now.as_nanos())
}
