//! A game day: load, one event in the middle of it, and an honest report. It does not know how the event is brought
//! about: killing an instance and seeing it back are the caller's.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::ledger::{Ledger, Summary, millis};
use crate::{DrillError, Load};

/// How often a game day asks whether the instance is back.
const LOOK: Duration = Duration::from_millis(50);

/// What takes place.
#[derive(Clone, Debug)]
pub struct GameDay {
    /// What is sent; its own duration is not used.
    pub load: Load,
    /// How long it is sent at least.
    pub lasting: Duration,
    /// How long after the start the event happens.
    pub strike_after: Duration,
    /// How long the load goes on waiting for the instance to be back.
    pub patience: Duration,
}

impl GameDay {
    /// `load` for at least `lasting`, the event at one third of it, half a minute of patience.
    pub fn new(load: Load, lasting: Duration) -> Self {
        Self { load, lasting, strike_after: lasting / 3, patience: Duration::from_secs(30) }
    }
}

/// The instance that the event hit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Victim {
    /// Its service.
    pub service: String,
    /// Its name.
    pub instance: String,
    /// The process that was killed.
    pub pid: Option<u32>,
}

/// What became of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// The instance that was killed.
    pub victim: Victim,
    /// When, after the start of the load.
    pub struck_at: Duration,
    /// How long after that it was back; None: not within the patience.
    pub back_after: Option<Duration>,
    /// The books of all requests.
    pub ledger: Ledger,
}

/// The report as `everup drill --json` prints it.
#[derive(Clone, Debug, Serialize)]
struct Printed<'a> {
    #[serde(flatten)]
    victim: &'a Victim,
    struck_at_ms: f64,
    back_after_ms: Option<f64>,
    who_before: BTreeMap<String, u64>,
    who_while_away: BTreeMap<String, u64>,
    who_after: BTreeMap<String, u64>,
    #[serde(flatten)]
    summary: Summary,
}

/// Sends the load, calls `strike` once when its time has come, then asks `is_back` until it says so.
///
/// # Errors
/// When the load cannot start, or either callback fails.
pub fn game_day(
    day: GameDay,
    strike: impl FnOnce() -> Result<Victim, String>,
    mut is_back: impl FnMut(&Victim) -> Result<bool, String>,
) -> Result<Report, DrillError> {
    let GameDay { load, lasting, strike_after, patience } = day;
    let running = load.until_stopped().start()?;
    sleep(strike_after.saturating_sub(running.elapsed()));
    let struck_at = running.elapsed();
    let struck = Instant::now();
    let victim = strike().map_err(DrillError::Event)?;
    let back_after = loop {
        if is_back(&victim).map_err(DrillError::Event)? {
            break Some(struck.elapsed());
        }
        if struck.elapsed() > patience {
            break None;
        }
        sleep(LOOK);
    };
    sleep(lasting.saturating_sub(running.elapsed()));
    Ok(Report { victim, struck_at, back_after, ledger: running.stop()? })
}

impl Report {
    /// Nothing was lost, and the instance came back.
    pub fn passed(&self) -> bool {
        self.ledger.lost() == 0 && self.back_after.is_some()
    }

    /// One JSON object.
    ///
    /// # Panics
    /// Never: all its keys are text.
    pub fn to_json(&self) -> serde_json::Value {
        let [who_before, who_while_away, who_after] = self.phases();
        let printed = Printed {
            victim: &self.victim,
            struck_at_ms: millis(self.struck_at),
            back_after_ms: self.back_after.map(millis),
            who_before,
            who_while_away,
            who_after,
            summary: self.ledger.summary(),
        };
        serde_json::to_value(printed).expect("plain numbers and text keys always become JSON")
    }

    /// The report for people. `terminal`: with bold and colour.
    pub fn text(&self, terminal: bool) -> String {
        let summary = self.ledger.summary();
        let [before, away, after] = self.phases();
        let mut text = String::new();
        let mut row =
            |name: &str, value: String| writeln!(text, "  {name:<18}{value}").expect("text takes text");
        row("killed", self.killed_line());
        row("back", self.back_line());
        row("requests", format!("{} sent, {} answered", summary.sent, summary.ok));
        row("answered by", format!("before: {}", names(&before)));
        row("", format!("meanwhile: {}", names(&away)));
        row("", format!("after: {}", names(&after)));
        row(
            "slowest request",
            format!("{} ms  (p50 {} ms, p99 {} ms)", summary.max_ms, summary.p50_ms, summary.p99_ms),
        );
        row("longest gap", format!("{} ms without an answer", summary.longest_gap_ms));
        let (bold, plain) = match (terminal, summary.lost) {
            (false, _) => ("", ""),
            (true, 0) => ("\x1b[1;32m", "\x1b[0m"),
            (true, _) => ("\x1b[1;31m", "\x1b[0m"),
        };
        writeln!(text, "\n{bold}lost: {}{plain}", summary.lost).expect("text takes text");
        for (kind, count) in &summary.lost_by_kind {
            writeln!(text, "  {kind:<24}{count}").expect("text takes text");
        }
        text
    }

    fn killed_line(&self) -> String {
        let Victim { service, instance, pid } = &self.victim;
        let pid = pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
        format!(
            "{service}/{instance}{pid} with SIGKILL, {:.1} s after the start",
            self.struck_at.as_secs_f64()
        )
    }

    fn back_line(&self) -> String {
        match self.back_after {
            Some(after) => format!("{:.1} s later, taking requests again", after.as_secs_f64()),
            None => "not back when the drill ended".into(),
        }
    }

    /// Who answered before the event, until the instance was back, and after.
    fn phases(&self) -> [BTreeMap<String, u64>; 3] {
        let back = self.back_after.map_or(Duration::MAX, |after| self.struck_at + after);
        let spans = [(Duration::ZERO, self.struck_at), (self.struck_at, back), (back, Duration::MAX)];
        spans.map(|(from, to)| self.ledger.between(from, to).who())
    }
}

fn names(who: &BTreeMap<String, u64>) -> String {
    if who.is_empty() {
        return "nobody".into();
    }
    let each: Vec<String> = who.iter().map(|(name, count)| format!("{name} {count}")).collect();
    each.join(", ")
}
