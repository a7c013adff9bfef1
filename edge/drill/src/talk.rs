//! WebSockets beside a load: each says something every second and listens whether it comes back, once and in order. A
//! WebSocket that ends is opened again, as a client does, and no message is said twice. What became of it stands in
//! [`Talked`].

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, ReadHalf, WriteHalf, split};
use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::connection::{Connection, Dial};
use crate::kind::is_token;
use crate::ledger::{Loss, moment};
use crate::limits;
use crate::lives::{Births, End, Lives};
use crate::load::run_name;
use crate::target::Target;
use crate::websocket::{Ear, Heard, frame, shake_hands};
use crate::{DrillError, Reach, Trust};

/// How long opening a WebSocket may take, and at the end the echoes that are still out.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a peer that was answered its Close may take to end the connection.
const FAREWELL: Duration = Duration::from_secs(2);
/// The longest that a WebSocket waits because a Close told it to (`retry=MS`).
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// After a failure to open one, so long.
const PAUSE: Duration = Duration::from_millis(200);

/// What to say. Built by chaining; checked when it starts.
#[derive(Clone, Debug)]
pub struct Talk {
    target: Target,
    host: Option<String>,
    sockets: usize,
    every: Duration,
    trust: Trust,
}

impl Talk {
    /// One WebSocket to `url` (with http or https in front), a message a second.
    ///
    /// # Errors
    /// When the URL is none of a web server at a loopback or private address.
    pub fn to(url: &str) -> Result<Self, DrillError> {
        Self::reaching(url, Reach::Local)
    }

    /// The same, as far as `reach` allows.
    ///
    /// # Errors
    /// As [`Talk::to`].
    pub fn reaching(url: &str, reach: Reach) -> Result<Self, DrillError> {
        let every = Duration::from_secs(1);
        let target = Target::parse(url, reach)?;
        Ok(Self { target, host: None, sockets: 1, every, trust: Trust::default() })
    }

    /// Another path than the URL's.
    ///
    /// # Errors
    /// When it is none.
    pub fn path(mut self, path: &str) -> Result<Self, DrillError> {
        self.target = self.target.with_path(path)?;
        Ok(self)
    }

    /// So many WebSockets.
    #[must_use]
    pub fn sockets(self, sockets: usize) -> Self {
        Self { sockets, ..self }
    }

    /// How often each says something.
    #[must_use]
    pub fn every(self, every: Duration) -> Self {
        Self { every, ..self }
    }

    /// Another `Host` than the URL's; on https also the name whose certificate is expected.
    #[must_use]
    pub fn host(self, host: &str) -> Self {
        Self { host: Some(host.into()), ..self }
    }

    /// Whose certificates are believed on https.
    #[must_use]
    pub fn trust(self, trust: Trust) -> Self {
        Self { trust, ..self }
    }

    /// Starts talking, on a thread of its own. Times are counted from `origin`.
    ///
    /// # Errors
    /// When a setting is out of its range or the machine gives no thread.
    pub fn start(self, origin: std::time::Instant) -> Result<Talking, DrillError> {
        limits::WEBSOCKETS.check(self.sockets as f64)?;
        if let Some(host) = self.host.as_ref().filter(|host| !is_token(host)) {
            return Err(DrillError::Head(host.clone()));
        }
        let dial = Dial::new(&self.target, self.host.as_deref(), &self.trust)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (stop, stopped) = watch::channel(false);
        let births = Births::new(origin.into());
        let books = Arc::new(Books { births, pages: Mutex::default() });
        let host = self.host.clone().unwrap_or_else(|| self.target.host.clone());
        let Self { target, sockets, every, .. } = self;
        let path = target.path;
        let party = Party {
            dial,
            path,
            host,
            every,
            run: run_name(),
            start: origin.into(),
            stopped,
            books: Arc::clone(&books),
        };
        let drive = move || LocalSet::new().block_on(&runtime, party.talk(sockets));
        let thread = std::thread::Builder::new().name("talk".into()).spawn(drive)?;
        Ok(Talking { stop, books, thread: Some(thread) })
    }
}

/// What became of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It came back.
    Echoed,
    /// It was sent and did not come back.
    Lost,
    /// There was no WebSocket to send it on.
    Unsent,
}

/// One message's line in the books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// When it was due, after the start of the load.
    pub due: Duration,
    /// How long after that its fate was certain.
    pub took: Duration,
    /// What became of it.
    pub fate: Fate,
}

/// The books of WebSockets.
#[derive(Clone, Debug, Default)]
pub struct Talked {
    /// Every WebSocket that was opened.
    pub lives: Lives,
    /// Every message whose fate is certain.
    pub messages: Vec<Message>,
    /// When something came back twice or before what was said earlier.
    pub misplaced: Vec<Duration>,
    /// When a WebSocket could not be opened, and why.
    pub unopened: Vec<(Duration, Loss)>,
}

impl Talked {
    /// Whether anything ever came back. If not, the application is none that echoes, and nothing can be said of messages.
    pub fn echoes(&self) -> bool {
        self.messages.iter().any(|message| message.fate == Fate::Echoed)
    }

    /// How many messages from `from` up to and without `to` met this fate. Those under way belong to what comes then, as
    /// in [`Ledger::parts`](crate::Ledger::parts).
    pub fn count(&self, fate: Fate, from: Duration, to: Duration) -> u64 {
        let within = |message: &&Message| {
            let at = moment(message.due, message.took);
            message.fate == fate && at >= from && at < to
        };
        self.messages.iter().filter(within).count() as u64
    }

    /// How many were lost, or came back twice or too early; 0 where nothing ever comes back.
    pub fn lost(&self, from: Duration, to: Duration) -> u64 {
        let misplaced = self.misplaced.iter().filter(|at| **at >= from && **at < to).count() as u64;
        if self.echoes() { self.count(Fate::Lost, from, to) + misplaced } else { 0 }
    }

    /// How often and why no WebSocket could be opened.
    pub fn unopened(&self, from: Duration, to: Duration) -> BTreeMap<Loss, u64> {
        let mut counts = BTreeMap::new();
        for (_, loss) in self.unopened.iter().filter(|(at, _)| *at >= from && *at < to) {
            *counts.entry(*loss).or_insert(0) += 1;
        }
        counts
    }

    /// Both books in one.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        let Self { lives, messages, misplaced, unopened } = other;
        self.lives.0.extend(lives.0);
        self.messages.extend(messages);
        self.misplaced.extend(misplaced);
        self.unopened.extend(unopened);
        self
    }
}

/// A talk under way. Dropping it ends it.
#[derive(Debug)]
pub struct Talking {
    stop: watch::Sender<bool>,
    books: Arc<Books>,
    thread: Option<JoinHandle<()>>,
}

impl Talking {
    /// How many WebSockets were opened so far.
    pub fn opened(&self) -> usize {
        self.books.births.so_far().0.len()
    }

    /// Says nothing more, waits for the echoes that are out and closes WebSockets and books.
    ///
    /// # Errors
    /// When the talking thread panicked.
    pub fn stop(mut self) -> Result<Talked, DrillError> {
        self.stop.send_replace(true);
        let thread = self.thread.take().ok_or(DrillError::ThreadLost)?;
        thread.join().map_err(|_| DrillError::ThreadLost)?;
        let Pages { messages, misplaced, unopened } = self.books.pages().clone();
        Ok(Talked { lives: self.books.births.so_far(), messages, misplaced, unopened })
    }
}

impl Drop for Talking {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

#[derive(Debug)]
struct Books {
    births: Births,
    pages: Mutex<Pages>,
}

#[derive(Clone, Debug, Default)]
struct Pages {
    messages: Vec<Message>,
    misplaced: Vec<Duration>,
    unopened: Vec<(Duration, Loss)>,
}

impl Books {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What all WebSockets of a talk share.
struct Party {
    dial: Dial,
    path: String,
    host: String,
    every: Duration,
    run: String,
    start: Instant,
    stopped: watch::Receiver<bool>,
    books: Arc<Books>,
}

/// Why a WebSocket is left.
enum Left {
    /// The talk is over.
    Stopped,
    /// It ended; to be opened again, after a while if the peer said so.
    Ended(End, Duration),
}

/// One WebSocket while it is open.
struct Line {
    ear: Ear<ReadHalf<Connection>>,
    mouth: WriteHalf<Connection>,
    /// Said and not yet heard.
    out: VecDeque<(u64, Duration)>,
}

impl Party {
    async fn talk(self, sockets: usize) {
        let party = Rc::new(self);
        let mut members = JoinSet::new();
        for number in 0..sockets {
            // Spread over the interval, as people are.
            let phase = party.every.mul_f64(number as f64 / sockets as f64);
            members.spawn_local(Rc::clone(&party).one(number, phase));
        }
        while members.join_next().await.is_some() {}
    }

    /// One member's messages: due at `phase`, and then at every interval, whether or not there is a WebSocket.
    async fn one(self: Rc<Self>, member: usize, phase: Duration) {
        let mut stopped = self.stopped.clone();
        let mut turn = self.first_turn(phase);
        while !*stopped.borrow() {
            let opened = tokio::select! {
                opened = self.open() => opened,
                _ = stopped.wait_for(|stopped| *stopped) => return,
            };
            let back_at = match opened {
                Ok(mut line) => {
                    let number = self.books.births.opened();
                    let left = self.converse(&mut line, (member, phase), &mut turn).await;
                    self.settle(line.out, Fate::Lost);
                    match left {
                        Left::Stopped => return,
                        Left::Ended(how, pause) => {
                            self.books.births.ended(number, how);
                            Instant::now() + pause
                        }
                    }
                }
                Err(loss) => {
                    self.books.pages().unopened.push((self.start.elapsed(), loss));
                    Instant::now() + PAUSE
                }
            };
            tokio::select! {
                () = sleep_until(back_at) => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
            // What was due meanwhile is not made up for.
            let now = self.first_turn(phase);
            let missed = (turn..now).map(|turn| (turn, phase + self.every.mul_f64(turn as f64)));
            self.settle(missed.collect(), Fate::Unsent);
            turn = turn.max(now);
        }
    }

    /// The first message that is not yet due.
    fn first_turn(&self, phase: Duration) -> u64 {
        let since = self.start.elapsed().saturating_sub(phase);
        (since.as_secs_f64() / self.every.as_secs_f64()).ceil() as u64
    }

    async fn open(&self) -> Result<Line, Loss> {
        let deadline = Instant::now() + PATIENCE;
        let mut connection = self.dial.connect(deadline).await?;
        let hands = shake_hands(&mut connection, &self.path, &self.host);
        let begun = timeout_at(deadline, hands).await.map_err(|_| Loss::Timeout)??;
        let (reading, mouth) = split(connection);
        Ok(Line { ear: Ear::new(reading, begun), mouth, out: VecDeque::new() })
    }

    /// Says what is due and hears what comes, until either side ends it.
    async fn converse(&self, line: &mut Line, (member, phase): (usize, Duration), turn: &mut u64) -> Left {
        let mut stopped = self.stopped.clone();
        loop {
            let due = phase + self.every.mul_f64(*turn as f64);
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stopped| *stopped) => break,
                heard = line.ear.next() => {
                    if let Some(left) = self.take_in(line, member, heard).await {
                        return left;
                    }
                }
                () = sleep_until(self.start + due) => {
                    let text = self.text(member, *turn);
                    line.out.push_back((*turn, due));
                    *turn += 1;
                    if !line.say(0x1, text.as_bytes()).await {
                        return Left::Ended(End::Cut, Duration::ZERO);
                    }
                }
            }
        }
        self.hear_out(line, member).await
    }

    /// Nothing more is said; what is out may still come back.
    async fn hear_out(&self, line: &mut Line, member: usize) -> Left {
        let end = Instant::now() + PATIENCE;
        while !line.out.is_empty() {
            let Ok(heard) = timeout_at(end, line.ear.next()).await else { break };
            if let Some(left) = self.take_in(line, member, heard).await {
                return left;
            }
        }
        line.say(0x8, &1000_u16.to_be_bytes()).await;
        Left::Stopped
    }

    async fn take_in(&self, line: &mut Line, member: usize, heard: Heard) -> Option<Left> {
        match heard {
            Heard::Message(content) => {
                self.hear(line, member, &content);
                None
            }
            Heard::Ping(content) => {
                line.say(0xa, &content).await;
                None
            }
            Heard::Close(code, reason) => {
                line.say(0x8, &code.to_be_bytes()).await;
                // Whoever said Close first ends the connection; if it does not, so do we.
                drop(timeout(FAREWELL, line.ear.next()).await);
                Some(Left::Ended(End::Closed(code), retry(&reason)))
            }
            Heard::End => Some(Left::Ended(End::Cut, Duration::ZERO)),
        }
    }

    /// Looks whether it is one of ours. Whatever else an application says is of no interest.
    fn hear(&self, line: &mut Line, member: usize, content: &[u8]) {
        let Some(turn) = self.turn_in(member, content) else { return };
        let place = line.out.iter().position(|(out, _)| *out == turn);
        if place != Some(0) {
            self.books.pages().misplaced.push(self.start.elapsed());
        }
        if let Some((_, due)) = place.and_then(|place| line.out.remove(place)) {
            self.settle(VecDeque::from([(turn, due)]), Fate::Echoed);
        }
    }

    fn settle(&self, messages: VecDeque<(u64, Duration)>, fate: Fate) {
        let now = self.start.elapsed();
        let line = |(_, due)| Message { due, took: now.saturating_sub(due), fate };
        self.books.pages().messages.extend(messages.into_iter().map(line));
    }

    fn text(&self, member: usize, turn: u64) -> String {
        format!("{}{turn};", self.mark(member))
    }

    /// The turn that a message is of, wherever in `content` an application has put it.
    fn turn_in(&self, member: usize, content: &[u8]) -> Option<u64> {
        let text = std::str::from_utf8(content).ok()?;
        let (_, rest) = text.split_once(&self.mark(member))?;
        rest.split_once(';')?.0.parse().ok()
    }

    fn mark(&self, member: usize) -> String {
        format!("drill {} {member} ", self.run)
    }
}

impl Line {
    /// Whether the peer took it.
    async fn say(&mut self, opcode: u8, content: &[u8]) -> bool {
        let bytes = frame(opcode, content);
        let said = async {
            self.mouth.write_all(&bytes).await?;
            self.mouth.flush().await
        };
        timeout(PATIENCE, said).await.is_ok_and(|said| said.is_ok())
    }
}

/// `retry=MS` in the reason of a Close: when to come back.
fn retry(reason: &str) -> Duration {
    let told = reason.split_whitespace().find_map(|word| word.strip_prefix("retry="));
    let told = told.and_then(|ms| ms.parse().ok()).map_or(Duration::ZERO, Duration::from_millis);
    told.min(LONGEST_RETRY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_can_tell_when_to_come_back() {
        assert_eq!(retry("retry=250"), Duration::from_millis(250));
        assert_eq!(retry("retry=999999999"), LONGEST_RETRY);
        assert_eq!(retry("going away"), Duration::ZERO);
    }

    #[test]
    fn nothing_is_called_lost_where_nothing_ever_comes_back() {
        let message = |fate| Message { due: Duration::ZERO, took: Duration::ZERO, fate };
        let mute = Talked { messages: vec![message(Fate::Lost)], ..Talked::default() };
        assert_eq!(mute.lost(Duration::ZERO, Duration::MAX), 0);
        let echoing = mute.and(Talked { messages: vec![message(Fate::Echoed)], ..Talked::default() });
        assert_eq!(echoing.lost(Duration::ZERO, Duration::MAX), 1);
    }
}
