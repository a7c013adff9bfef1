//! What is known of a request's way: collected while it goes, told once it is over, to the access log and, if it went
//! uncommon ways, to the memory behind `everup explain`. The common way allocates nothing: only a failed attempt or
//! parking makes the list of events.

use std::rc::Rc;
use std::time::{Duration, SystemTime};

use everup_core::exchange::Failure;
use everup_core::ids::Generation;

use crate::service::Instance;
use crate::tale::{Event, Phases, Tale, Verdict, What};

/// The longest target that is told of a request; the rest is cut off.
const TARGET_BYTES: usize = 1500;

/// The longest method that is told: all registered ones are shorter.
const METHOD_BYTES: usize = 32;

/// The most events that are kept of a request: the first and the last of them, for the middle is alike.
const EVENTS: usize = 16;

/// What a request asked for. A view: nothing is copied unless somebody wants to be told.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Note<'a> {
    method: &'a [u8],
    target: &'a [u8],
    host: &'a [u8],
}

/// The same, kept for longer than the head it was read from.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    method: Vec<u8>,
    target: Vec<u8>,
    host: Vec<u8>,
}

/// See the head of this file. Times are the thread's.
#[derive(Debug)]
pub(crate) struct Trail {
    /// Index of the listener.
    pub(crate) listener: usize,
    /// Index of the route; None: the listener's own service.
    pub(crate) route: Option<usize>,
    /// Read from the client for this request.
    pub(crate) bytes_in: u64,
    /// Handed to the client's connection.
    pub(crate) bytes_out: u64,
    pub(crate) status: u16,
    attempts: u32,
    generation: Generation,
    instance: Option<Rc<Instance>>,
    /// When the attempt began, was connected, and had the head of an answer.
    began: Duration,
    connected: Option<Duration>,
    first_byte: Option<Duration>,
    parked: Duration,
    queued: Duration,
    verdict: Verdict,
    story: Option<Box<Story>>,
}

#[derive(Debug, Default)]
struct Story {
    events: Vec<Event>,
    left_out: usize,
}

/// What of a request the trail does not hold itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) id: &'a str,
    pub(crate) client: &'a str,
    /// Without the query: what is kept here is shown to whoever may ask.
    pub(crate) note: Note<'a>,
    pub(crate) service: &'a str,
    pub(crate) started: Duration,
    pub(crate) ended: Duration,
}

impl<'a> Note<'a> {
    /// The target's query is left out unless it is wanted; what is too long is cut off.
    pub(crate) fn new(method: &'a [u8], target: &'a [u8], host: &'a [u8], query: bool) -> Self {
        let end = memchr::memchr(b'?', target).filter(|_| !query).unwrap_or(target.len());
        let (method, target) = (&method[..method.len().min(METHOD_BYTES)], &target[..end.min(TARGET_BYTES)]);
        Self { method, target, host }
    }

    /// Empty: unknown.
    pub(crate) fn method(&self) -> &'a [u8] {
        self.method
    }

    /// The path, maybe with its query.
    pub(crate) fn target(&self) -> &'a [u8] {
        self.target
    }

    /// Empty: the client named none.
    pub(crate) fn host(&self) -> &'a [u8] {
        self.host
    }

    pub(crate) fn keep(&self) -> Noted {
        let Self { method, target, host } = *self;
        Noted { method: method.to_vec(), target: target.to_vec(), host: host.to_vec() }
    }
}

impl Noted {
    pub(crate) fn note(&self) -> Note<'_> {
        Note { method: &self.method, target: &self.target, host: &self.host }
    }
}

impl Trail {
    /// Of a request of which `bytes_in` were read by now.
    pub(crate) fn new(listener: usize, route: Option<usize>, bytes_in: u64) -> Self {
        Self {
            listener,
            route,
            bytes_in,
            bytes_out: 0,
            status: 0,
            attempts: 0,
            generation: Generation(0),
            instance: None,
            began: Duration::ZERO,
            connected: None,
            first_byte: None,
            parked: Duration::ZERO,
            queued: Duration::ZERO,
            verdict: Verdict::Answered,
            story: None,
        }
    }

    /// An attempt begins with `instance`, chosen from the table `generation`.
    pub(crate) fn on_attempt(&mut self, now: Duration, instance: &Rc<Instance>, generation: Generation) {
        self.attempts += 1;
        self.generation = generation;
        self.instance = Some(Rc::clone(instance));
        self.reset(now);
    }

    /// The attempt has a connection.
    pub(crate) fn on_connected(&mut self, now: Duration) {
        self.connected = Some(now);
    }

    /// The head of the final answer is there.
    pub(crate) fn on_answer(&mut self, now: Duration, status: u16) {
        self.first_byte = Some(now);
        self.status = status;
    }

    /// The attempt failed.
    pub(crate) fn on_failure(&mut self, started: Duration, now: Duration, failure: Failure, written: bool) {
        let Some(instance) = self.instance.as_ref().map(|instance| instance.table.id.clone()) else { return };
        let answered = self.first_byte.is_some();
        let what = What::Failed { instance: instance.instance, failure, written, answered };
        let event = Event {
            at: self.began.saturating_sub(started),
            attempt: self.attempts,
            lasted: now.saturating_sub(self.began),
            generation: self.generation,
            what,
        };
        self.tell(event);
        if !answered {
            self.reset(now);
        }
    }

    /// It was parked from `since` to `now`, looking at the table `generation`.
    pub(crate) fn on_parked(
        &mut self,
        started: Duration,
        since: Duration,
        now: Duration,
        generation: Generation,
    ) {
        let lasted = now.saturating_sub(since);
        self.parked += lasted;
        let before = self.story.as_mut().and_then(|story| story.events.last_mut());
        match before {
            Some(Event { lasted: so_far, what: What::Parked, .. }) => *so_far += lasted,
            Some(_) | None => {
                let at = since.saturating_sub(started);
                self.tell(Event { at, attempt: 0, lasted, generation, what: What::Parked });
            }
        }
        self.reset(now);
    }

    /// It stood in the queue from `since` to `now`. A wait that brings it to an instance is no story: under overload that
    /// is every request.
    pub(crate) fn on_queued(
        &mut self,
        started: Duration,
        since: Duration,
        now: Duration,
        generation: Generation,
        in_vain: bool,
    ) {
        let lasted = now.saturating_sub(since);
        self.queued += lasted;
        if in_vain {
            let (at, lasted) = (since.saturating_sub(started), self.queued);
            self.tell(Event { at, attempt: 0, lasted, generation, what: What::Queued });
        }
        self.reset(now);
    }

    /// How it ended. An answer's verdict says what it took.
    pub(crate) fn end(&mut self, verdict: Verdict) {
        self.verdict = match verdict {
            Verdict::Answered if !self.parked.is_zero() => Verdict::Parked,
            Verdict::Answered if self.attempts > 1 => Verdict::Retried,
            other => other,
        };
    }

    /// Everup answered it itself.
    pub(crate) fn end_refused(&mut self, status: u16) {
        self.status = status;
        self.end(Verdict::Refused);
    }

    pub(crate) fn verdict(&self) -> Verdict {
        self.verdict
    }

    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    /// The instance of the last attempt.
    pub(crate) fn instance(&self) -> Option<&str> {
        self.instance.as_ref().map(|instance| &*instance.table.id.instance)
    }

    /// Whether somebody may ask what happened to it: it failed by us, was cut, retried or parked.
    pub(crate) fn is_remembered(&self) -> bool {
        self.story.is_some()
            || self.verdict == Verdict::Cut
            || (self.verdict == Verdict::Refused && self.status >= 500)
    }

    /// Where the time went.
    pub(crate) fn phases(&self, started: Duration, ended: Duration) -> Phases {
        let began = if self.instance.is_some() || !(self.parked + self.queued).is_zero() {
            self.began
        } else {
            started
        };
        let first_byte = self.first_byte.unwrap_or(ended);
        let connected = self.connected.unwrap_or(first_byte);
        Phases {
            parked: self.parked,
            queued: self.queued,
            tried: began.saturating_sub(started).saturating_sub(self.parked + self.queued),
            connect: connected.saturating_sub(began),
            first_byte: first_byte.saturating_sub(connected),
            last_byte: ended.saturating_sub(first_byte),
        }
    }

    /// All that is known, for whoever asks later. `wall` is when it started.
    pub(crate) fn tale(&self, subject: Subject<'_>, wall: SystemTime) -> Tale {
        let Subject { id, client, note, service, started, ended } = subject;
        let phases = self.phases(started, ended);
        let told = self.story.as_deref();
        let mut events = told.map_or_else(Vec::new, |story| story.events.clone());
        let left_out = told.map_or(0, |story| story.left_out);
        if let (Some(instance), Some(first_byte)) = (&self.instance, self.first_byte)
            && self.verdict != Verdict::Cut
        {
            events.push(Event {
                at: self.began.saturating_sub(started),
                attempt: self.attempts,
                lasted: ended.saturating_sub(self.began),
                generation: self.generation,
                what: What::Answered { instance: instance.table.id.instance.clone(), status: self.status },
            });
            debug_assert!(first_byte >= self.began, "an attempt begins before its answer");
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Tale {
            id: id.to_owned(),
            started: wall,
            client: client.to_owned(),
            method: text(note.method()),
            host: text(note.host()),
            path: text(note.target()),
            listener: self.listener,
            route: self.route,
            service: service.to_owned(),
            instance: self.instance().map(str::to_owned),
            generation: self.generation,
            attempts: self.attempts,
            status: self.status,
            verdict: self.verdict,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            phases,
            events,
            left_out,
        }
    }

    fn reset(&mut self, now: Duration) {
        self.began = now;
        self.connected = None;
        self.first_byte = None;
    }

    fn tell(&mut self, event: Event) {
        let story = self.story.get_or_insert_default();
        if story.events.len() == EVENTS {
            story.events.remove(EVENTS / 2);
            story.left_out += 1;
        }
        story.events.push(event);
    }
}
