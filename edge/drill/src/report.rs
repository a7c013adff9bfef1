//! What a drill has to report: a line for every event, and beneath it what was lost. As text, as JSON; as a picture in
//! [`crate::timeline`].

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::game_day::Event;
use crate::ledger::{Ledger, Summary, millis};
use crate::lives::{End, Lives};
use crate::talk::{Fate, Talked};

/// So many lines are shown; of more, only those that say something.
const MOST_LINES: usize = 40;
/// So many instances are named in a line.
const MOST_NAMES: usize = 8;
/// What the name of an event is cut to.
const NAME_CHARS: usize = 24;

/// The books of a game day.
#[derive(Clone, Debug)]
pub struct Report {
    /// What happened, in order.
    pub events: Vec<Event>,
    /// All requests.
    pub ledger: Ledger,
    /// The connections that were meant to stay.
    pub connections: Lives,
    /// The WebSockets, if there were any.
    pub talked: Option<Talked>,
    /// How long load was sent.
    pub lasted: Duration,
    /// It was ended early from outside.
    pub interrupted: bool,
}

/// One stretch of the books as `--json` prints it: from the beginning of an event to that of the next.
#[derive(Clone, Debug, Serialize)]
struct Stretch {
    event: String,
    at_ms: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    told: Vec<String>,
    over_after_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
    #[serde(flatten)]
    summary: Summary,
    connections: Kept,
    #[serde(skip_serializing_if = "Option::is_none")]
    websockets: Option<Sockets>,
}

#[derive(Clone, Debug, Serialize)]
struct Kept {
    open_before: u64,
    kept: u64,
    ended: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Serialize)]
struct Sockets {
    open_before: u64,
    kept: u64,
    ended: BTreeMap<String, u64>,
    unopened: BTreeMap<String, u64>,
    echoes: bool,
    messages: u64,
    messages_lost: u64,
    messages_unsent: u64,
}

/// The whole as `--json` prints it.
#[derive(Clone, Debug, Serialize)]
struct Printed {
    passed: bool,
    interrupted: bool,
    lasted_ms: f64,
    #[serde(flatten)]
    whole: Summary,
    #[serde(skip_serializing_if = "Option::is_none")]
    websockets: Option<Sockets>,
    events: Vec<Stretch>,
}

impl Report {
    /// Nothing was lost, and every event took place and was over in time.
    pub fn passed(&self) -> bool {
        self.lost() == 0 && !self.interrupted && self.events.iter().all(|event| event.over_after.is_some())
    }

    /// Requests that were lost, and messages that were lost or out of order.
    pub fn lost(&self) -> u64 {
        let messages = self.talked.as_ref().map_or(0, |talked| talked.lost(Duration::ZERO, Duration::MAX));
        self.ledger.lost() + messages
    }

    /// The books before the first event, and from each to the next.
    pub fn stretches(&self) -> impl Iterator<Item = (Option<&Event>, Ledger, Duration, Duration)> {
        let starts: Vec<Duration> = self.events.iter().map(|event| event.at).collect();
        let parts = self.ledger.parts(&starts);
        let events = [None].into_iter().chain(self.events.iter().map(Some));
        let froms = [Duration::ZERO].into_iter().chain(starts.clone());
        let tos = starts.into_iter().chain([Duration::MAX]);
        events.zip(parts).zip(froms.zip(tos)).map(|((event, part), (from, to))| (event, part, from, to))
    }

    /// One JSON object.
    ///
    /// # Panics
    /// Never: all its keys are text.
    pub fn to_json(&self) -> serde_json::Value {
        let printed = Printed {
            passed: self.passed(),
            interrupted: self.interrupted,
            lasted_ms: millis(self.lasted),
            whole: self.ledger.summary(),
            websockets: self.sockets(Duration::ZERO, Duration::MAX),
            events: self.printed(),
        };
        serde_json::to_value(printed).expect("plain numbers and text keys always become JSON")
    }

    /// The report for people. `terminal`: with bold and colour.
    pub fn text(&self, terminal: bool) -> String {
        let mut text = self.table();
        self.tell_events(&mut text);
        self.tell_whole(&mut text);
        let lost = self.lost();
        let (bold, plain) = match (terminal, lost) {
            (false, _) => ("", ""),
            (true, 0) => ("\x1b[1;32m", "\x1b[0m"),
            (true, _) => ("\x1b[1;31m", "\x1b[0m"),
        };
        put(&mut text, &format!("\n{bold}lost: {lost}{plain}"));
        self.tell_losses(&mut text);
        if self.interrupted {
            put(&mut text, "it was interrupted: what was planned after that did not happen");
        }
        text
    }

    fn table(&self) -> String {
        let stretches = self.printed();
        let head = [
            "event",
            "at",
            "requests",
            "lost",
            "slowest",
            "longest gap",
            "connections kept",
            "WebSockets kept",
        ]
        .map(str::to_owned);
        let columns = if self.talked.is_some() { head.len() } else { head.len() - 1 };
        let shown = |stretch: &&Stretch| stretches.len() <= MOST_LINES || stretch.says_something();
        let mut rows = vec![head];
        rows.extend(stretches.iter().filter(shown).map(Stretch::row));
        let hidden = stretches.len() + 1 - rows.len();
        let widths: Vec<usize> = (0..columns)
            .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default())
            .collect();
        let mut text = String::new();
        for row in &rows {
            let mut line = format!("{:<width$}", row[0], width = widths[0]);
            for (cell, width) in row.iter().zip(&widths).skip(1) {
                write!(line, "  {cell:>width$}").expect("text takes text");
            }
            put(&mut text, line.trim_end());
        }
        if hidden > 0 {
            put(&mut text, &format!("and {hidden} more, with nothing lost or closed"));
        }
        text
    }

    fn printed(&self) -> Vec<Stretch> {
        self.stretches().map(|(event, part, from, to)| self.stretch(event, &part, from, to)).collect()
    }

    fn stretch(&self, event: Option<&Event>, part: &Ledger, from: Duration, to: Duration) -> Stretch {
        let (open_before, kept) = self.connections.kept(from, to);
        Stretch {
            event: event.map_or_else(|| "before".into(), |event| event.name.clone()),
            at_ms: millis(from),
            told: event.map(|event| event.words.clone()).unwrap_or_default(),
            over_after_ms: event.and_then(|event| event.over_after).map(millis),
            trouble: event.and_then(|event| event.trouble.clone()),
            // A gap is one of the schedule, in which nothing is moved from one stretch to the next.
            summary: Summary {
                longest_gap_ms: millis(self.ledger.between(from, to).longest_gap()),
                ..part.summary()
            },
            connections: Kept { open_before, kept, ended: named(self.connections.ends(from, to)) },
            websockets: self.sockets(from, to),
        }
    }

    fn sockets(&self, from: Duration, to: Duration) -> Option<Sockets> {
        let talked = self.talked.as_ref()?;
        let (open_before, kept) = talked.lives.kept(from, to);
        let unopened = talked.unopened(from, to).into_iter();
        let counted = |fate| talked.count(fate, from, to);
        Some(Sockets {
            open_before,
            kept,
            ended: named(talked.lives.ends(from, to)),
            unopened: unopened.map(|(loss, count)| (loss.to_string(), count)).collect(),
            echoes: talked.echoes(),
            messages: counted(Fate::Echoed) + counted(Fate::Lost),
            messages_lost: talked.lost(from, to),
            messages_unsent: counted(Fate::Unsent),
        })
    }

    /// What was done, how it ended and who answered.
    fn tell_events(&self, text: &mut String) {
        let told = self.stretches().filter_map(|(event, part, ..)| Some((event?, part)));
        let last = self.events.len().saturating_sub(MOST_LINES);
        for (event, part) in told.skip(last) {
            let over = event.over_after.map(|after| format!(" ({:.1} s)", after.as_secs_f64()));
            let lines: Vec<&str> = event.words.iter().flat_map(|words| words.lines()).collect();
            put(text, &format!("\n{}: {}{}", event.name, lines.join("\n    "), over.unwrap_or_default()));
            if let Some(trouble) = &event.trouble {
                put(text, &format!("    FAILED: {}", trouble.lines().collect::<Vec<_>>().join("\n    ")));
            }
            let who = part.who();
            if !who.is_empty() {
                put(text, &format!("    answered by {}", names(&who)));
            }
        }
    }

    fn tell_whole(&self, text: &mut String) {
        let summary = self.ledger.summary();
        put(
            text,
            &format!(
                "\n{} requests in {:.1} s, {} answered; p50 {} ms, p99 {} ms, slowest {} ms, longest gap {} ms",
                summary.sent,
                self.lasted.as_secs_f64(),
                summary.ok,
                summary.p50_ms,
                summary.p99_ms,
                summary.max_ms,
                summary.longest_gap_ms
            ),
        );
        let refusals = summary.answers.iter().filter(|(status, _)| **status >= 400);
        for (status, count) in refusals {
            put(text, &format!("{count} answers were {status}: that is an answer, not a loss"));
        }
        let ends = self.connections.ends(Duration::ZERO, Duration::MAX);
        if !ends.is_empty() {
            put(text, &format!("connections that did not stay: {}", listed(named(ends))));
        }
        if let Some(sockets) = self.sockets(Duration::ZERO, Duration::MAX) {
            put(text, &sockets.line());
        }
    }

    fn tell_losses(&self, text: &mut String) {
        let summary = self.ledger.summary();
        for (kind, count) in summary.lost_by_kind.iter().chain(&summary.lost_by_request) {
            put(text, &format!("  {kind:<32}{count}"));
        }
        let messages = self.lost() - self.ledger.lost();
        if messages > 0 {
            put(text, &format!("  {:<32}{messages}", "messages on WebSockets"));
        }
    }
}

impl Stretch {
    fn says_something(&self) -> bool {
        let lost = |sockets: &Sockets| sockets.messages_lost > 0 || !sockets.ended.is_empty();
        self.summary.lost > 0
            || self.trouble.is_some()
            || !self.connections.ended.is_empty()
            || self.websockets.as_ref().is_some_and(lost)
    }

    fn row(&self) -> [String; 8] {
        let lost = self.summary.lost + self.websockets.as_ref().map_or(0, |sockets| sockets.messages_lost);
        let kept = |kept: u64, of: u64| format!("{kept} of {of}");
        let before = self.event == "before" && self.told.is_empty() && self.trouble.is_none();
        let open =
            if before { String::new() } else { kept(self.connections.kept, self.connections.open_before) };
        let sockets = self.websockets.as_ref().filter(|_| !before);
        [
            shortened(&self.event),
            format!("{:.1} s", self.at_ms / 1e3),
            self.summary.sent.to_string(),
            lost.to_string(),
            format!("{:.1} ms", self.summary.max_ms),
            format!("{:.0} ms", self.summary.longest_gap_ms),
            open,
            sockets.map(|sockets| kept(sockets.kept, sockets.open_before)).unwrap_or_default(),
        ]
    }
}

impl Sockets {
    fn line(&self) -> String {
        let mut line = match self.echoes {
            true => format!("{} messages on WebSockets, {} lost", self.messages, self.messages_lost),
            false => "the application echoes nothing: only the closing of WebSockets was watched".to_owned(),
        };
        if self.messages_unsent > 0 {
            line += &format!(", {} not sent because theirs was closed", self.messages_unsent);
        }
        for (what, counts) in [("ended", &self.ended), ("not opened", &self.unopened)] {
            if !counts.is_empty() {
                line += &format!("; {what}: {}", listed(counts.clone()));
            }
        }
        line
    }
}

fn named(ends: BTreeMap<End, u64>) -> BTreeMap<String, u64> {
    ends.into_iter().map(|(end, count)| (end.to_string(), count)).collect()
}

fn listed(counts: BTreeMap<String, u64>) -> String {
    let each: Vec<String> = counts.into_iter().map(|(name, count)| format!("{name} {count}")).collect();
    each.join(", ")
}

fn names(who: &BTreeMap<String, u64>) -> String {
    let rest = who.len().saturating_sub(MOST_NAMES);
    let shown = who.iter().take(MOST_NAMES).map(|(name, count)| (name.clone(), *count)).collect();
    if rest > 0 { format!("{} and {rest} more", listed(shown)) } else { listed(shown) }
}

/// A name that is not longer than the table bears.
pub(crate) fn shortened(name: &str) -> String {
    let name = name.lines().next().unwrap_or_default();
    match name.chars().count() > NAME_CHARS {
        true => name.chars().take(NAME_CHARS - 3).chain("...".chars()).collect(),
        false => name.to_owned(),
    }
}

fn put(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("text takes text");
}
