//! Another configuration while everything runs: the keeper's half. The other half is `app/src/reload.rs`; the whole
//! story, and what happens when either side dies in it, stands in `docs/design/0008-reload.md`.
//!
//! ```text
//!   asked (signal, worker, file changed) ─▶ waiting ── the file rests ──▶ read and checked whole
//!                                              ▲                            │ wrong: told, nothing changed
//!                                              │                            ▼ users found, new addresses bound
//!        one at a time: the next one ──────────┤◀── refused, worker died ─ prepared: the worker is changing
//!                                              │      (new sockets closed)  │ done: every thread obeys
//!                                              └────────────────────────────┴▶ committed
//! ```
//!
//! The file is read here and only here, in one go: what instances are started with must not come from the worker. It
//! is read when nobody has written to it for a moment, and anew if it changed meanwhile, so that it is seen whole.

use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use everup_core::config::{self, Config, Diagnostic};
use everup_core::reload::{Change, diff, effective};

use crate::sockets::{Held, Place};
use crate::users::Users;
use crate::worker::{Proposal, Worker};
use crate::{Options, log};

/// A file that nobody has written to for so long is whole: an editor or a copy writes in one go.
const REST: Duration = Duration::from_millis(100);
/// How often a file is looked at that is being written.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long it may be written to all the time.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a file is looked at for changes.
const WATCH: Duration = Duration::from_secs(1);
/// So many may wait for their turn.
const WAITING: usize = 100;

/// Who wants to know, or to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// The operator, by SIGHUP.
    Signal,
    /// The file changed, and everup was told to watch it.
    File,
    /// The worker, for somebody at the admin socket.
    Worker(u64),
}

#[derive(Debug)]
struct Ask {
    by: Asker,
    dry: bool,
    /// When its turn came.
    since: Option<Instant>,
    /// When to look at the file.
    at: Instant,
}

/// A configuration that the worker is changing to. Dropping it closes what was bound for it.
#[derive(Debug)]
pub(crate) struct Prepared {
    number: u64,
    changes: Vec<Change>,
    /// What would run: some of the text waits for a restart.
    pub(crate) config: Config,
    pub(crate) text: String,
    pub(crate) users: Users,
    pub(crate) places: Vec<Place>,
}

/// Everything about other configurations.
#[derive(Debug)]
pub(crate) struct Reloads {
    waiting: VecDeque<Ask>,
    prepared: Option<Prepared>,
    last_number: u64,
    asked: u64,
    watched: Option<Watched>,
}

#[derive(Debug)]
struct Watched {
    seen: Option<Stamp>,
    look_at: Instant,
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    written: (i64, i64),
}

/// What came of looking at the file.
#[derive(Debug)]
enum Seen {
    Whole(String),
    /// Somebody is writing to it.
    Unrest,
}

impl Reloads {
    pub(crate) fn new(options: &Options) -> Self {
        let watched = options
            .watch
            .then(|| Watched { seen: Stamp::at(&options.config_path), look_at: Instant::now() + WATCH });
        Self { waiting: VecDeque::new(), prepared: None, last_number: 0, asked: 0, watched }
    }

    /// The worker is changing, or somebody waits for that or for a look at the file.
    pub(crate) fn has_any(&self) -> bool {
        self.prepared.is_some() || !self.waiting.is_empty()
    }

    /// The number of the last proposal, and whether the operator waits for one: what goes on in another binary.
    pub(crate) fn to_state(&self) -> (u64, bool) {
        (self.last_number, self.waiting.iter().any(|ask| matches!(ask.by, Asker::Signal | Asker::File)))
    }

    /// Goes on from what another binary had.
    pub(crate) fn restore(&mut self, last_number: u64, waits: bool) {
        self.last_number = last_number;
        if waits {
            self.ask(Asker::Signal, false);
        }
    }

    /// Tells whoever asked the worker for a look at the file why there is none now.
    pub(crate) fn refuse(&mut self, ask: u64, dry: bool, why: &str, worker: &mut Worker) {
        self.last_number += 1;
        worker.propose(Proposal {
            number: self.last_number,
            ask: Some(ask),
            dry,
            text: "",
            changes: Vec::new(),
            groups: &[],
            refused: Some(why.to_owned()),
        });
    }

    /// Somebody wants the file read. Signals that come before the first one's turn are one.
    pub(crate) fn ask(&mut self, by: Asker, dry: bool) {
        self.asked += u64::from(!dry);
        let waits = |ask: &Ask| ask.by == by;
        if self.waiting.len() < WAITING && !self.waiting.iter().any(waits) {
            self.waiting.push_back(Ask { by, dry, since: None, at: Instant::now() });
        }
    }

    /// How often somebody wanted another configuration.
    pub(crate) fn asked(&self) -> u64 {
        self.asked
    }

    /// Somebody still waits for another configuration.
    pub(crate) fn is_busy(&self) -> bool {
        self.prepared.is_some() || self.waiting.iter().any(|ask| !ask.dry)
    }

    /// When to look, if there is a worker that could change.
    pub(crate) fn next_look(&self, can_reload: bool) -> Option<Instant> {
        if !can_reload {
            return None;
        }
        let next = self.waiting.front().filter(|_| self.prepared.is_none()).map(|ask| ask.at);
        next.into_iter().chain(self.watched.as_ref().map(|watched| watched.look_at)).min()
    }

    /// Gives whoever is next its turn, unless the worker is changing already.
    pub(crate) fn look(&mut self, options: &Options, held: &Held, worker: &mut Worker) {
        self.watch(&options.config_path);
        let now = Instant::now();
        while self.prepared.is_none()
            && let Some(ask) = self.waiting.front_mut().filter(|ask| ask.at <= now)
        {
            let since = *ask.since.get_or_insert(now);
            let seen = match read_at_rest(&options.config_path) {
                Ok(Seen::Unrest) if now < since + PATIENCE => {
                    ask.at = now + LOOK_AGAIN;
                    return;
                }
                Ok(Seen::Whole(text)) => Ok(text),
                Ok(Seen::Unrest) => Err("it is written to all the time".to_owned()),
                Err(error) => Err(error.to_string()),
            };
            let Ask { by, dry, .. } = self.waiting.pop_front().expect("it was there a moment ago");
            let seen = seen.map_err(|why| format!("cannot read {}: {why}", options.config_path.display()));
            self.propose(by, dry, seen, (options, held), worker);
        }
    }

    /// Asks for a reload when a watched file has changed.
    fn watch(&mut self, path: &Path) {
        let Some(watched) = &mut self.watched else { return };
        let now = Instant::now();
        if now < watched.look_at {
            return;
        }
        watched.look_at = now + WATCH;
        let stamp = Stamp::at(path);
        // One that is being replaced may be gone for a moment.
        if stamp.is_some() && stamp != watched.seen {
            watched.seen = stamp;
            self.ask(Asker::File, false);
        }
    }

    fn propose(
        &mut self,
        by: Asker,
        dry: bool,
        seen: Result<String, String>,
        (options, held): (&Options, &Held),
        worker: &mut Worker,
    ) {
        self.last_number += 1;
        let number = self.last_number;
        let (text, result) = match seen {
            Ok(text) => {
                let checked = Prepared::check(number, &text, options, held, dry);
                (text, checked)
            }
            Err(why) => (String::new(), Err(vec![why])),
        };
        let ask = match by {
            Asker::Worker(ask) => Some(ask),
            Asker::Signal | Asker::File => None,
        };
        let proposal =
            Proposal { number, ask, dry, text: &text, changes: Vec::new(), groups: &[], refused: None };
        match result {
            Ok(prepared) => {
                let (changes, groups) = (prepared.changes.clone(), &prepared.places[..]);
                worker.propose(Proposal { changes, groups: if dry { &[] } else { groups }, ..proposal });
                self.prepared = Some(prepared).filter(|_| !dry);
            }
            Err(lines) => {
                if ask.is_none() {
                    lines.iter().for_each(|line| log(line));
                    log("the configuration was not changed");
                }
                // Nobody waits for the answer to a signal.
                let refused = lines.into_iter().next();
                if ask.is_some() {
                    worker.propose(Proposal { refused, ..proposal });
                }
            }
        }
    }

    /// The worker is gone: whoever asked it is not waiting any more, and the next one begins with what ran before.
    pub(crate) fn worker_gone(&mut self) {
        self.waiting.retain(|ask| !matches!(ask.by, Asker::Worker(_)));
        self.roll_back("the worker has gone");
    }

    /// The worker has not changed.
    pub(crate) fn roll_back(&mut self, why: &str) {
        if self.prepared.take().is_some() {
            log(&format!("the configuration was not changed: {why}"));
        }
    }

    /// The worker has changed to the configuration of this number.
    pub(crate) fn commit(&mut self, number: u64) -> Option<Prepared> {
        let prepared = self.prepared.take_if(|prepared| prepared.number == number)?;
        if prepared.changes.is_empty() {
            log("read the configuration: nothing has changed");
        }
        prepared.changes.iter().for_each(|change| log(&format!("reloaded: {change}")));
        Some(prepared)
    }
}

impl Prepared {
    /// All that can go wrong on this side goes wrong here, before anything is changed. The error has a line for each
    /// mistake.
    fn check(
        number: u64,
        text: &str,
        options: &Options,
        held: &Held,
        dry: bool,
    ) -> Result<Self, Vec<String>> {
        let new = config::parse(text).map_err(|mistakes| tell(&options.config_path, text, &mistakes))?;
        let changes = diff(&options.config, &new);
        let config = effective(&options.config, &new);
        let line = |error: crate::KeeperError| vec![error.to_string()];
        let users = Users::choose(&config).map_err(line)?;
        let places =
            if dry { Vec::new() } else { held.rearranged(&config, options.threads).map_err(line)? };
        Ok(Self { number, changes, config, text: text.to_owned(), users, places })
    }
}

/// First how many, then each in a line.
fn tell(path: &Path, text: &str, mistakes: &[Diagnostic]) -> Vec<String> {
    let count = match mistakes.len() {
        1 => "1 mistake".to_owned(),
        count => format!("{count} mistakes"),
    };
    let path = path.display();
    let line = |mistake: &Diagnostic| {
        let line = text[..mistake.span.start].matches('\n').count() + 1;
        format!("{path}:{line}: {}", mistake.message)
    };
    let head = format!("{path} has {count}: see `everup check {path}`");
    std::iter::once(head).chain(mistakes.iter().map(line)).collect()
}

/// The file's text, if nobody writes to it.
fn read_at_rest(path: &Path) -> io::Result<Seen> {
    let mut file = File::open(path)?;
    let before = Stamp::of(&file.metadata()?);
    if before.is_fresh() {
        return Ok(Seen::Unrest);
    }
    let mut text = String::new();
    // One byte more than is allowed, so that parsing tells that it is too much.
    (&mut file).take(config::MAX_BYTES as u64 + 1).read_to_string(&mut text)?;
    // The same file as before, and still the one of that name.
    let same = Stamp::of(&file.metadata()?) == before && Stamp::at(path) == Some(before);
    Ok(if same { Seen::Whole(text) } else { Seen::Unrest })
}

impl Stamp {
    fn at(path: &Path) -> Option<Self> {
        path.metadata().ok().map(|metadata| Self::of(&metadata))
    }

    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            written: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }

    /// It was written a moment ago. A time in the future says nothing: clocks are set.
    fn is_fresh(&self) -> bool {
        let (seconds, nanoseconds) = self.written;
        let since_1970 = Duration::new(seconds.try_into().unwrap_or(0), nanoseconds.try_into().unwrap_or(0));
        let written = SystemTime::UNIX_EPOCH + since_1970;
        SystemTime::now().duration_since(written).is_ok_and(|age| age < REST)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_read_only_when_nobody_has_just_written_to_it() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("everup.toml");
        fs::write(&path, "half of").unwrap();
        assert!(matches!(read_at_rest(&path), Ok(Seen::Unrest)));
        let old = SystemTime::now() - Duration::from_secs(1);
        File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        assert!(matches!(read_at_rest(&path), Ok(Seen::Whole(text)) if text == "half of"));
    }

    #[test]
    fn mistakes_are_told_with_their_lines() {
        let text = "[[listener]]\nbind = 1\n";
        let lines = tell(Path::new("/x.toml"), text, &config::parse(text).unwrap_err());
        assert!(
            lines[0].starts_with("/x.toml has ") && lines[0].ends_with("see `everup check /x.toml`"),
            "{lines:?}"
        );
        assert!(lines.iter().any(|line| line.starts_with("/x.toml:2: ")), "{lines:?}");
    }
}
