//! The books of a load: what became of every single request. Nothing is sampled and nothing is forgiven; a request
//! is answered whole with a status below 500, or it is lost and the ledger says how.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

/// How a request was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Loss {
    /// Nothing listened.
    ConnectRefused,
    /// No connection within the timeout.
    ConnectTimeout,
    /// Connecting failed otherwise.
    ConnectFailed,
    /// The connection was made, the TLS handshake failed.
    HandshakeFailed,
    /// The connection was reset, while writing or before the whole answer.
    Reset,
    /// The connection ended in the middle of the answer.
    Cut,
    /// The connection ended before the first byte of an answer.
    ClosedBeforeAnswer,
    /// No whole answer within the timeout.
    Timeout,
    /// What came was no HTTP/1.1 answer.
    Garbled,
    /// The answer was meant for another request (it carried another drill id).
    Crossed,
    /// The answer's status was this, 500 or above.
    Status(u16),
    /// Never sent: too many requests were in flight already. The drill's own limit; still a loss.
    NotSent,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::ConnectRefused => "connect-refused",
            Self::ConnectTimeout => "connect-timeout",
            Self::ConnectFailed => "connect-failed",
            Self::HandshakeFailed => "handshake-failed",
            Self::Reset => "reset",
            Self::Cut => "cut",
            Self::ClosedBeforeAnswer => "closed-before-answer",
            Self::Timeout => "timeout",
            Self::Garbled => "garbled",
            Self::Crossed => "crossed",
            Self::NotSent => "not-sent",
            Self::Status(status) => return write!(f, "status-{status}"),
        };
        f.write_str(name)
    }
}

/// What became of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A whole answer with this status (below 500).
    Answered(u16),
    /// No good answer.
    Lost(Loss),
}

/// One request's line in the books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number in the schedule.
    pub number: u64,
    /// Which kind of request it was: an index into the ledger's kinds.
    pub kind: u16,
    /// When it was due, after the start of the load.
    pub due: Duration,
    /// How long after that its answer was whole, or its loss certain.
    pub took: Duration,
    /// What became of it.
    pub outcome: Outcome,
    /// The answer's `X-Instance`, if it had one.
    pub who: Option<String>,
}

/// The closed books. Cheap to ask, in any order.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// Tells this load's ids from another's.
    run: String,
    /// Time between two requests of the schedule.
    period: Duration,
    /// What the kinds of requests are called.
    kinds: Arc<[String]>,
    entries: Vec<Entry>,
}

/// The ledger's figures, as `everup drill --json` prints them. Milliseconds are counted from the scheduled instant.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Requests that were due.
    pub sent: u64,
    /// Answered whole, with a status below 500.
    pub ok: u64,
    /// All others.
    pub lost: u64,
    /// All others, by kind of loss.
    pub lost_by_kind: BTreeMap<String, u64>,
    /// All others, by kind of request.
    pub lost_by_request: BTreeMap<String, u64>,
    /// Whole answers below 500, by status.
    pub answers: BTreeMap<u16, u64>,
    /// Answers by `X-Instance`.
    pub who: BTreeMap<String, u64>,
    /// Half of the answers took no longer.
    pub p50_ms: f64,
    /// 99 of 100 answers took no longer.
    pub p99_ms: f64,
    /// The slowest answer.
    pub max_ms: f64,
    /// The longest stretch of the schedule in which no request was answered.
    pub longest_gap_ms: f64,
}

/// What was due shortly before something happened, and was under way when it did, belongs to what happened. So long at most:
/// what had been under way for longer was held up by something else.
const UNDER_WAY: Duration = Duration::from_secs(1);

/// When it belongs in the course of events what was due then and took so long.
pub(crate) fn moment(due: Duration, took: Duration) -> Duration {
    due + took.min(UNDER_WAY)
}

impl Ledger {
    /// Closes the books of a load that called itself `run`, had one request due every `period` and called its kinds of
    /// requests `kinds`.
    pub fn new(run: String, period: Duration, kinds: Arc<[String]>, mut entries: Vec<Entry>) -> Self {
        entries.sort_unstable_by_key(|entry| entry.number);
        Self { run, period, kinds, entries }
    }

    /// Every request, in the order of the schedule.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How many requests were due.
    pub fn sent(&self) -> u64 {
        self.entries.len() as u64
    }

    /// How many were answered whole with a status below 500.
    pub fn ok(&self) -> u64 {
        self.sent() - self.lost()
    }

    /// How many were not.
    pub fn lost(&self) -> u64 {
        self.losses().count() as u64
    }

    /// How many were lost, by kind.
    pub fn lost_by_kind(&self) -> BTreeMap<Loss, u64> {
        tally(self.losses().map(|(_, loss)| loss))
    }

    /// How many were lost, by kind of request.
    pub fn lost_by_request(&self) -> BTreeMap<String, u64> {
        let kind = |entry: &Entry| self.kinds.get(usize::from(entry.kind)).cloned();
        tally(self.losses().map(|(entry, _)| kind(entry).unwrap_or_default()))
    }

    /// The lost requests.
    pub fn losses(&self) -> impl Iterator<Item = (&Entry, Loss)> {
        self.entries.iter().filter_map(|entry| match entry.outcome {
            Outcome::Lost(loss) => Some((entry, loss)),
            Outcome::Answered(_) => None,
        })
    }

    /// Whole answers below 500, by status.
    pub fn answers(&self) -> BTreeMap<u16, u64> {
        tally(self.answered().filter_map(|entry| match entry.outcome {
            Outcome::Answered(status) => Some(status),
            Outcome::Lost(_) => None,
        }))
    }

    /// Answers by the instance that named itself.
    pub fn who(&self) -> BTreeMap<String, u64> {
        tally(self.entries.iter().filter_map(|entry| entry.who.clone()))
    }

    /// The part of the books about requests due from `from` up to and without `to`.
    pub fn between(&self, from: Duration, to: Duration) -> Self {
        let within = self.entries.iter().filter(|entry| entry.due >= from && entry.due < to);
        Self {
            run: self.run.clone(),
            period: self.period,
            kinds: Arc::clone(&self.kinds),
            entries: within.cloned().collect(),
        }
    }

    /// The books cut in parts, the first of which ends where the second begins, and so on; `starts` is in order. A request
    /// that was under way at such a moment belongs to what came then.
    pub fn parts(&self, starts: &[Duration]) -> Vec<Self> {
        let mut parts = vec![Vec::new(); starts.len() + 1];
        for entry in &self.entries {
            let at = moment(entry.due, entry.took);
            parts[starts.partition_point(|start| *start <= at)].push(entry.clone());
        }
        let part = |entries| Self { entries, kinds: Arc::clone(&self.kinds), run: self.run.clone(), ..*self };
        parts.into_iter().map(part).collect()
    }

    /// The time that this share (0.0 to 1.0) of the answered requests did not exceed; zero if none was answered.
    pub fn quantile(&self, share: f64) -> Duration {
        let mut times: Vec<Duration> = self.answered().map(|entry| entry.took).collect();
        times.sort_unstable();
        let rank = (share * times.len() as f64).ceil() as usize;
        times.get(rank.saturating_sub(1).min(times.len().saturating_sub(1))).copied().unwrap_or_default()
    }

    /// The longest stretch of the schedule in which no due request was answered; one period is no gap.
    pub fn longest_gap(&self) -> Duration {
        let Some((first, last)) = self.entries.first().zip(self.entries.last()) else {
            return Duration::ZERO;
        };
        let end = last.due + self.period;
        let mut longest = Duration::ZERO;
        let mut since = first.due;
        for due in self.answered().map(|entry| entry.due).chain([end]) {
            longest = longest.max(due.saturating_sub(since));
            since = due;
        }
        longest.saturating_sub(self.period)
    }

    /// The value of the `X-Drill-Id` header that request `number` carried.
    pub fn id(&self, number: u64) -> String {
        format!("{}-{number}", self.run)
    }

    /// Which of this load's requests occur more than once among the ids that the instances saw: those ran twice.
    pub fn duplicates<'a>(&self, seen: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
        let mut known = BTreeSet::new();
        let ours = |id: &&str| id.strip_prefix(&self.run).is_some_and(|rest| rest.starts_with('-'));
        seen.into_iter().filter(ours).filter(|id| !known.insert(*id)).map(str::to_owned).collect()
    }

    /// The figures.
    pub fn summary(&self) -> Summary {
        let named = self.lost_by_kind().into_iter().map(|(loss, count)| (loss.to_string(), count));
        Summary {
            sent: self.sent(),
            ok: self.ok(),
            lost: self.lost(),
            lost_by_kind: named.collect(),
            lost_by_request: self.lost_by_request(),
            answers: self.answers(),
            who: self.who(),
            p50_ms: millis(self.quantile(0.5)),
            p99_ms: millis(self.quantile(0.99)),
            max_ms: millis(self.quantile(1.0)),
            longest_gap_ms: millis(self.longest_gap()),
        }
    }

    fn answered(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| matches!(entry.outcome, Outcome::Answered(_)))
    }
}

/// One paragraph for a failed assertion: the figures and the first losses.
impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary {
            sent,
            ok,
            lost,
            answers,
            who,
            p50_ms,
            p99_ms,
            max_ms,
            longest_gap_ms,
            lost_by_kind,
            lost_by_request,
        } = self.summary();
        writeln!(f, "sent {sent}, ok {ok}, lost {lost} {lost_by_kind:?} {lost_by_request:?}")?;
        writeln!(f, "answers {answers:?}, by {who:?}")?;
        writeln!(f, "p50 {p50_ms} ms, p99 {p99_ms} ms, max {max_ms} ms, longest gap {longest_gap_ms} ms")?;
        for (entry, loss) in self.losses().take(10) {
            writeln!(
                f,
                "  {} due at {:?} lost after {:?}: {loss}",
                self.id(entry.number),
                entry.due,
                entry.took
            )?;
        }
        Ok(())
    }
}

/// Milliseconds with two decimals.
pub(crate) fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 100_000.0).round() / 100.0
}

fn tally<T: Ord>(items: impl Iterator<Item = T>) -> BTreeMap<T, u64> {
    let mut counts = BTreeMap::new();
    for item in items {
        *counts.entry(item).or_insert(0) += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_millis(10);

    fn ledger(outcomes: &[Outcome]) -> Ledger {
        let entry = |(number, outcome): (usize, &Outcome)| Entry {
            number: number as u64,
            kind: 0,
            due: PERIOD * number as u32,
            took: Duration::from_millis(1 + number as u64),
            outcome: outcome.clone(),
            who: matches!(outcome, Outcome::Answered(_)).then(|| format!("shop-{}", number % 2 + 1)),
        };
        let entries = outcomes.iter().enumerate().map(entry).rev().collect();
        Ledger::new("run".into(), PERIOD, Arc::new(["GET, kept".into()]), entries)
    }

    const OK: Outcome = Outcome::Answered(200);
    const CUT: Outcome = Outcome::Lost(Loss::Cut);

    #[test]
    fn every_request_is_either_ok_or_lost() {
        let books = ledger(&[OK, CUT, OK, Outcome::Lost(Loss::Status(503)), Outcome::Answered(404)]);
        assert_eq!((books.sent(), books.ok(), books.lost()), (5, 3, 2));
        assert_eq!(books.lost_by_kind(), BTreeMap::from([(Loss::Cut, 1), (Loss::Status(503), 1)]));
        assert_eq!(books.lost_by_request(), BTreeMap::from([("GET, kept".to_owned(), 2)]));
        assert_eq!(books.answers(), BTreeMap::from([(200, 2), (404, 1)]));
        assert_eq!(books.who(), BTreeMap::from([("shop-1".to_owned(), 3)]));
    }

    #[test]
    fn an_unbroken_schedule_has_no_gap() {
        assert_eq!(ledger(&[OK, OK, OK]).longest_gap(), Duration::ZERO);
        assert_eq!(ledger(&[]).longest_gap(), Duration::ZERO);
    }

    #[test]
    fn a_gap_is_the_stretch_without_an_answer_also_at_the_ends() {
        assert_eq!(ledger(&[OK, CUT, CUT, OK]).longest_gap(), PERIOD * 2);
        assert_eq!(ledger(&[OK, CUT, CUT, CUT]).longest_gap(), PERIOD * 3);
        assert_eq!(ledger(&[CUT, CUT, CUT]).longest_gap(), PERIOD * 2);
    }

    #[test]
    fn quantiles_count_answered_requests_only() {
        let books = ledger(&[OK, OK, CUT, OK]);
        assert_eq!(books.quantile(0.5), Duration::from_millis(2));
        assert_eq!(books.quantile(1.0), Duration::from_millis(4));
        assert_eq!(ledger(&[CUT]).quantile(0.99), Duration::ZERO);
    }

    #[test]
    fn an_id_that_was_seen_twice_is_a_duplicate_and_foreign_ids_are_not_ours() {
        let books = ledger(&[OK, OK]);
        let seen = ["run-0", "run-1", "run-1", "running-1", "running-1", "other"];
        assert_eq!(books.duplicates(seen), BTreeSet::from(["run-1".to_owned()]));
    }

    #[test]
    fn a_stretch_of_the_books_holds_what_was_due_in_it() {
        let part = ledger(&[OK, CUT, OK, OK]).between(PERIOD, PERIOD * 3);
        assert_eq!((part.sent(), part.lost()), (2, 1));
    }

    #[test]
    fn what_was_under_way_when_something_happened_belongs_to_that() {
        // Due at 0, 10, 20 and 30 ms; they took 1, 2, 3 and 4 ms.
        let parts = ledger(&[OK, CUT, CUT, OK]).parts(&[PERIOD, PERIOD * 2 + Duration::from_millis(2)]);
        let counts: Vec<_> = parts.iter().map(|part| (part.sent(), part.lost())).collect();
        assert_eq!(counts, [(1, 0), (1, 1), (2, 1)]);
        let second = Duration::from_secs(1);
        assert_eq!(
            moment(second, second * 10),
            second * 2,
            "what hangs for long was held up by something else"
        );
    }

    #[test]
    fn the_text_for_a_failed_assertion_names_the_losses() {
        let text = ledger(&[OK, CUT]).to_string();
        assert!(text.contains("lost 1") && text.contains("run-1 due at 10ms lost after 2ms: cut"), "{text}");
    }
}
