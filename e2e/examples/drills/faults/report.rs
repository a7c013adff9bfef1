//! What the drill of all faults found: the table, and which promises were kept.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use everup_e2e::{Everup, Ledger, Loss, until};
use serde_json::Value;

use super::{FAULTS, Fault};
use crate::promise::Promises;

/// Requests slower than this are looked into: where were they?
const SLOW: Duration = Duration::from_millis(50);

/// What 99.9 of 100 answers may take.
const MOST: Duration = Duration::from_millis(300);

/// A fault that was, on the time scales of the GETs and the POSTs.
pub(super) struct Struck {
    pub(super) fault: Fault,
    /// As everup calls it.
    pub(super) instance: String,
    pub(super) from: [Duration; 2],
    pub(super) over: [Duration; 2],
}

/// One answered or lost request, and what is to be known of it.
struct Line {
    is_get: bool,
    /// The fault before it, if any.
    fault: Option<Fault>,
    took: Duration,
    loss: Option<Loss>,
    /// An instance cut its answer off in the middle.
    cut: bool,
    twice: bool,
    at_frozen: bool,
    at_mute: bool,
    /// Why, for those that a promise was broken for.
    story: Option<String>,
}

/// What one configuration gave.
pub(super) struct Half {
    title: &'static str,
    struck: Vec<(Fault, usize)>,
    lines: Vec<Line>,
}

/// Where a request was, by everup's own account.
struct Whereabouts {
    /// The instance of its last attempt by id, and how many attempts there were.
    log: BTreeMap<String, (String, u64)>,
}

impl Half {
    pub(super) fn new(
        title: &'static str,
        struck: Vec<Struck>,
        ledgers: [Ledger; 2],
        seen: Vec<String>,
        cuts: Vec<String>,
        everup: &Everup,
        log: &Path,
    ) -> Self {
        let sent = ledgers.iter().map(Ledger::sent).sum();
        let whereabouts = Whereabouts::read(log, sent);
        let cuts: BTreeSet<String> = cuts.into_iter().collect();
        let mut lines = Vec::new();
        for (scale, ledger) in ledgers.iter().enumerate() {
            let twice = ledger.duplicates(seen.iter().map(String::as_str));
            let losses: BTreeMap<u64, Loss> =
                ledger.losses().map(|(entry, loss)| (entry.number, loss)).collect();
            for entry in ledger.entries() {
                let id = ledger.id(entry.number);
                let before = struck.iter().rev().find(|struck| struck.from[scale] <= entry.due);
                let loss = losses.get(&entry.number).copied();
                let odd = entry.took >= SLOW || loss.is_some();
                let (visited, story) = match odd {
                    true => whereabouts.of(&id, everup),
                    false => (Vec::new(), None),
                };
                let end = entry.due + entry.took;
                let was_at = |is: fn(Fault) -> bool| {
                    struck.iter().any(|one| {
                        let during = one.from[scale] <= end && entry.due <= one.over[scale];
                        is(one.fault) && during && visited.contains(&one.instance)
                    })
                };
                lines.push(Line {
                    is_get: scale == 0,
                    fault: before.map(|struck| struck.fault),
                    took: entry.took,
                    loss,
                    cut: cuts.contains(&id),
                    twice: twice.contains(&id),
                    at_frozen: was_at(|fault| fault == Fault::Freeze),
                    at_mute: was_at(Fault::is_mute),
                    story: story.map(|story| format!("{:.0?} {loss:?} {story}", entry.took)),
                });
            }
        }
        let mut times = FAULTS.map(|fault| (fault, 0));
        for one in &struck {
            times.iter_mut().filter(|(fault, _)| *fault == one.fault).for_each(|(_, times)| *times += 1);
        }
        Self { title, struck: times.into(), lines }
    }

    fn print(&self) {
        println!("{}\n", self.title);
        println!(
            "| fault | times | requests | failed GETs | cut in the body | POSTs 5xx | POSTs twice | p50 | p99 | \
             p99.9 | at a frozen one | slowest GET | slowest POST |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
        for (fault, times) in &self.struck {
            let of_fault: Vec<&Line> = self.lines.iter().filter(|line| line.fault == Some(*fault)).collect();
            row(&format!("{fault:?}"), *times, &of_fault);
        }
        let times = self.struck.iter().map(|(_, times)| times).sum();
        row("all", times, &self.lines.iter().collect::<Vec<_>>());
        println!();
    }
}

fn row(name: &str, times: usize, lines: &[&Line]) {
    let count = |is: fn(&Line) -> bool| lines.iter().filter(|line| is(line)).count();
    let times_of = outside(lines, |line| line.at_frozen);
    println!(
        "| {name} | {times} | {} | {} | {} | {} | {} | {:.1?} | {:.1?} | {:.1?} | {} | {:.0?} | {:.0?} |",
        lines.len(),
        count(Line::is_failed_get),
        count(|line| line.is_get && line.is_cut()),
        count(|line| !line.is_get && matches!(line.loss, Some(Loss::Status(_)))),
        count(|line| !line.is_get && line.twice),
        quantile(&times_of, 0.5),
        quantile(&times_of, 0.99),
        quantile(&times_of, 0.999),
        count(|line| line.at_frozen),
        slowest(lines, |line| line.is_get),
        slowest(lines, |line| !line.is_get),
    );
}

impl Line {
    /// Lost because the instance broke off an answer that had begun.
    fn is_cut(&self) -> bool {
        self.cut && matches!(self.loss, Some(Loss::Cut | Loss::Reset))
    }

    fn is_failed_get(&self) -> bool {
        self.is_get && self.loss.is_some() && !self.is_cut()
    }
}

fn slowest(lines: &[&Line], of: fn(&Line) -> bool) -> Duration {
    let answered = lines.iter().filter(|line| line.loss.is_none() && of(line));
    answered.map(|line| line.took).max().unwrap_or_default()
}

/// How long the answers took that are not to be left out, sorted.
fn outside(lines: &[&Line], left_out: fn(&Line) -> bool) -> Vec<Duration> {
    let within = lines.iter().filter(|line| line.loss.is_none() && !left_out(line));
    let mut times: Vec<Duration> = within.map(|line| line.took).collect();
    times.sort_unstable();
    times
}

fn quantile(times: &[Duration], share: f64) -> Duration {
    let rank = (share * times.len() as f64).ceil() as usize;
    times.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// Prints the tables and the promises. Whether all were kept.
pub(super) fn judge(halves: &[Half], timed: bool) -> bool {
    let mut promises = Promises::default();
    for half in halves {
        half.print();
    }
    for half in halves {
        let lines: Vec<&Line> = half.lines.iter().collect();
        let count = |is: fn(&Line) -> bool| lines.iter().filter(|line| is(line)).count();
        let gets = count(|line| line.is_get);
        let failed = count(Line::is_failed_get);
        promises.check("no GET fails", format!("{failed} of {gets}, {}", half.title), failed == 0);
        let twice = count(|line| !line.is_get && line.twice);
        promises.check("no POST runs twice", format!("{twice}, {}", half.title), twice == 0);
        let whole = count(|line| line.cut && line.loss.is_none());
        promises.check("no answer that was broken off looks whole", format!("{whole}"), whole == 0);
        let slow = quantile(&outside(&lines, |line| line.at_frozen), 0.999);
        let elsewhere = quantile(&outside(&lines, |line| line.at_mute), 0.999);
        if timed {
            let what = "p99.9 is below 300 ms outside requests at a frozen instance";
            promises.check(what, format!("{slow:.1?}, {}", half.title), slow < MOST);
        }
        println!("       p99.9 outside requests at any instance that said nothing: {elsewhere:.1?}");
    }
    for half in halves {
        explain("GETs that failed", half, Line::is_failed_get);
        explain("slowest outside a frozen instance", half, |line| line.took >= MOST && !line.at_frozen);
    }
    promises.kept()
}

fn explain(what: &str, half: &Half, of: fn(&Line) -> bool) {
    let mut found: Vec<&Line> = half.lines.iter().filter(|line| of(line)).collect();
    found.sort_by_key(|line| std::cmp::Reverse(line.took));
    if !found.is_empty() {
        println!("\n{what}, {}: {} requests, the first of them:", half.title, found.len());
    }
    for line in found.iter().take(12) {
        println!("  after {:?}: {}", line.fault, line.story.as_deref().unwrap_or("?"));
    }
}

impl Whereabouts {
    /// Reads the access log, when it has a line for each request.
    fn read(log: &Path, sent: u64) -> Self {
        let text = || std::fs::read_to_string(log).unwrap_or_default();
        // Requests that never reached everup have no line.
        let most = sent.saturating_sub(sent / 100) as usize;
        until("the access log is written", || text().lines().count() >= most);
        let parse = |line: &str| -> Option<(String, (String, u64))> {
            let value: Value = serde_json::from_str(line).ok()?;
            let instance = value["instance"].as_str().unwrap_or_default().to_owned();
            Some((value["id"].as_str()?.to_owned(), (instance, value["attempts"].as_u64()?)))
        };
        Self { log: text().lines().filter_map(parse).collect() }
    }

    /// The instances that had the request, and the whole story.
    fn of(&self, id: &str, everup: &Everup) -> (Vec<String>, Option<String>) {
        let Some((last, attempts)) = self.log.get(id) else { return (Vec::new(), None) };
        if *attempts <= 1 {
            return (vec![last.clone()], Some(format!("one attempt, at {last}")));
        }
        let said = everup.verb(&["explain", id, "--json"]);
        let value: Value = serde_json::from_str(&said.out).unwrap_or_default();
        let mut visited = vec![last.clone()];
        instances(&value, &mut visited);
        let plain = everup.verb(&["explain", id]).out.replace('\n', "; ");
        (visited, Some(plain))
    }
}

/// Every value of a key `instance`, however deep.
fn instances(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("instance").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|field| instances(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| instances(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
