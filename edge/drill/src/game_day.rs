//! A game day: load, events in the middle of it, and an honest report. It does not know how an event is brought about:
//! that is a [`Change`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use crate::report::Report;
use crate::talk::Talked;
use crate::{DrillError, Load, Running, Talk, Talking};

/// How often is asked whether an event is over, and whether to go on at all.
const LOOK: Duration = Duration::from_millis(20);
/// How long the load goes on at least when an event is over.
const REST: Duration = Duration::from_millis(500);
/// How long WebSockets may take to be opened before anything happens.
const OPENING: Duration = Duration::from_secs(10);

/// Something that is done under the load.
pub trait Change {
    /// What it is called in the table.
    fn name(&self) -> &str;

    /// Does it, and says in a few words what was done.
    ///
    /// # Errors
    /// In one line, when it cannot be done; the drill ends there.
    fn begin(&mut self) -> Result<String, String>;

    /// None while its consequences last; then a few words on how they ended.
    ///
    /// # Errors
    /// In one line, when it went wrong; the drill ends there.
    fn poll_end(&mut self) -> Result<Option<String>, String>;

    /// It took too long, or the drill ends early: what can be undone is undone.
    fn give_up(&mut self);
}

/// What takes place.
#[derive(Clone, Debug)]
pub struct GameDay {
    /// What is sent; its own duration is not used.
    pub load: Load,
    /// WebSockets beside it.
    pub talks: Vec<Talk>,
    /// How long the load lasts before the first event.
    pub warm_up: Duration,
    /// From the beginning of an event to that of the next; longer if the first is not over.
    pub every: Duration,
    /// How long is waited for an event to be over.
    pub patience: Duration,
}

/// One event, when it is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What it is called.
    pub name: String,
    /// When it began, after the start of the load.
    pub at: Duration,
    /// What was done, and how it ended: each a few words.
    pub words: Vec<String>,
    /// How long after its beginning everything was as before; None: it was given up.
    pub over_after: Option<Duration>,
    /// What went wrong.
    pub trouble: Option<String>,
}

/// Sends the load, lets every change happen so many times, and closes the books. Ends early, in order, when an event goes
/// wrong or `interrupted` turns true. `tell` hears of every event when it is over.
///
/// # Errors
/// When the load cannot start, or nothing is answered before the first event.
pub fn game_day(
    day: GameDay,
    changes: &mut [Box<dyn Change + '_>],
    times: u32,
    interrupted: &AtomicBool,
    mut tell: impl FnMut(&Event),
) -> Result<Report, DrillError> {
    let GameDay { load, talks, warm_up, every, patience } = day;
    let sockets = talks.len();
    let load = load.until_stopped().start()?;
    let talks: Vec<Talking> =
        talks.into_iter().map(|talk| talk.start(load.started())).collect::<Result<_, _>>()?;
    let stage = Stage { load, interrupted, every, patience };
    stage.warm_up(warm_up, &talks, sockets)?;
    let mut events: Vec<Event> = Vec::new();
    'day: for _ in 0..times {
        for change in &mut *changes {
            if stage.is_interrupted() {
                break 'day;
            }
            let event = stage.one(change.as_mut());
            tell(&event);
            let ends = event.over_after.is_none();
            events.push(event);
            if ends {
                break 'day;
            }
        }
    }
    let was_interrupted = stage.is_interrupted();
    let lasted = stage.load.elapsed();
    let talked = talks.into_iter().map(Talking::stop).collect::<Result<Vec<_>, _>>()?;
    let talked = talked.into_iter().reduce(Talked::and);
    let (ledger, connections) = stage.load.stop_with_connections()?;
    Ok(Report { events, ledger, connections, talked, lasted, interrupted: was_interrupted })
}

/// What is the same for all events.
struct Stage<'a> {
    load: Running,
    interrupted: &'a AtomicBool,
    every: Duration,
    patience: Duration,
}

impl Stage<'_> {
    /// The load runs and WebSockets are open; nothing is done to a service that does not answer anyhow.
    fn warm_up(&self, time: Duration, talks: &[Talking], sockets: usize) -> Result<(), DrillError> {
        self.wait_until(time);
        while self.load.elapsed() < time + OPENING
            && talks.iter().take(sockets).any(|talk| talk.opened() == 0)
            && !self.is_interrupted()
        {
            sleep(LOOK);
        }
        let ledger = self.load.so_far();
        if ledger.sent() == 0 || ledger.ok() > 0 {
            return Ok(());
        }
        let losses: Vec<String> =
            ledger.lost_by_kind().into_iter().map(|(loss, count)| format!("{loss} {count}")).collect();
        Err(DrillError::Deaf { sent: ledger.sent(), losses: losses.join(", ") })
    }

    fn one(&self, change: &mut dyn Change) -> Event {
        let at = self.load.elapsed();
        let mut event =
            Event { name: change.name().into(), at, words: Vec::new(), over_after: None, trouble: None };
        match change.begin() {
            Ok(words) => event.words.push(words),
            Err(trouble) => {
                event.trouble = Some(trouble);
                return event;
            }
        }
        self.follow(change, &mut event);
        if event.over_after.is_some() {
            self.wait_until((at + self.every).max(self.load.elapsed() + REST.min(self.every)));
        }
        event
    }

    fn follow(&self, change: &mut dyn Change, event: &mut Event) {
        loop {
            match change.poll_end() {
                Ok(Some(words)) => {
                    event.words.push(words);
                    event.over_after = Some(self.load.elapsed().saturating_sub(event.at));
                    return;
                }
                Ok(None) => {}
                Err(trouble) => {
                    change.give_up();
                    event.trouble = Some(trouble);
                    return;
                }
            }
            let trouble = match self.load.elapsed().saturating_sub(event.at) > self.patience {
                true => Some(format!("not over after {:.0} s", self.patience.as_secs_f64())),
                false => self.is_interrupted().then(|| "interrupted".to_owned()),
            };
            if trouble.is_some() {
                change.give_up();
                event.trouble = trouble;
                return;
            }
            sleep(LOOK);
        }
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Waits until the load is so old.
    fn wait_until(&self, age: Duration) {
        while !self.is_interrupted() && self.load.elapsed() < age {
            sleep(LOOK.min(age.saturating_sub(self.load.elapsed())));
        }
    }
}
