//! What a worker wants its successor to know, kept by the keeper as text: what is believed of every instance, and
//! which are drained. With it a worker that takes the place of a killed one serves at once instead of waiting for
//! probes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use everup_core::health::Verdict;
use everup_core::health::outlier::Cause;
use everup_core::ids::{Generation, InstanceId};
use everup_core::keeper::NOTES_BYTES;
use serde::{Deserialize, Serialize};

/// Raised when a field changes its meaning. Notes of another version are not read.
const VERSION: u32 = 1;

/// Notes on everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Notes {
    version: u32,
    /// The last table that was published; the next worker's are above it.
    pub(crate) generation: Generation,
    /// By service and instance.
    services: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Note>>,
    /// By service that everup runs: in case the store cannot be read.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) revisions: BTreeMap<Arc<str>, Revisions>,
}

/// Which revision is whose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Revisions {
    /// Its instances are named without it.
    pub(crate) first: Arc<str>,
    /// The service's own.
    pub(crate) stable: Arc<str>,
}

/// Notes on one instance. What is usual is left out of the text, so that many fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    verdict: Verdict,
    #[serde(default, skip_serializing_if = "is_default")]
    draining: bool,
    /// A deployment gives it no requests.
    #[serde(default, skip_serializing_if = "is_default")]
    standby: bool,
    /// The weight that the operator gave it, instead of the configured one.
    #[serde(default, skip_serializing_if = "is_default")]
    weight: Option<u32>,
    /// The process that the verdict is about, if everup runs the instance.
    #[serde(default, skip_serializing_if = "is_default")]
    pid: Option<u32>,
    /// It was seen to be up since that process began.
    #[serde(default, skip_serializing_if = "is_default")]
    seen_up: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    restarts: u32,
    /// Ejections that are not forgotten.
    #[serde(default, skip_serializing_if = "is_default")]
    ejections: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    ejected: Option<EjectedNote>,
    /// When it came into its state, in seconds since 1970.
    since: u64,
}

/// That an instance is ejected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct EjectedNote {
    cause: Cause,
    /// In milliseconds since 1970.
    until: u64,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Notes {
    pub(crate) fn new(generation: Generation, instances: impl Iterator<Item = (InstanceId, Note)>) -> Self {
        let mut services = BTreeMap::<_, BTreeMap<_, _>>::new();
        for (InstanceId { service, instance }, note) in instances {
            services.entry(service).or_default().insert(instance, note);
        }
        Self { version: VERSION, generation, services, revisions: BTreeMap::new() }
    }

    /// What the last worker left; nothing if there is none or it cannot be understood.
    pub(crate) fn read(text: Option<&str>) -> Self {
        let Some(text) = text else { return Self::default() };
        match serde_json::from_str::<Self>(text) {
            Ok(notes) if notes.version == VERSION => notes,
            Ok(notes) => {
                tracing::warn!(
                    version = notes.version,
                    "the last worker's notes are of another version: not read"
                );
                Self::default()
            }
            Err(error) => {
                tracing::warn!(%error, "the last worker's notes cannot be read");
                Self::default()
            }
        }
    }

    /// As text of at most [`NOTES_BYTES`]: instances that do not fit are left out, and are unknown to the next worker
    /// until they were probed.
    pub(crate) fn write(mut self) -> String {
        loop {
            let text = serde_json::to_string(&self).expect("notes hold strings, numbers and lists only");
            if text.len() <= NOTES_BYTES {
                return text;
            }
            let count: usize = self.services.values().map(BTreeMap::len).sum();
            self.keep((count * NOTES_BYTES / text.len()).min(count.saturating_sub(1)));
        }
    }

    /// Forgets all instances but the first `count`.
    fn keep(&mut self, count: usize) {
        let mut left = count;
        for instances in self.services.values_mut() {
            instances.retain(|_, _| left.checked_sub(1).map(|less| left = less).is_some());
        }
    }

    /// What is noted of an instance whose process now is `pid` (None: everup does not run it). A drain and a weight hold whatever
    /// became of the process; the verdict only for the same one.
    pub(crate) fn restored(&self, id: &InstanceId, pid: Option<u32>) -> Restored {
        let note = self.services.get(&id.service).and_then(|instances| instances.get(&id.instance));
        let Some(note) = note.cloned() else { return Restored::default() };
        let Note {
            verdict,
            draining,
            standby,
            weight,
            pid: noted,
            seen_up,
            restarts,
            ejections,
            ejected,
            since,
        } = note;
        let same = noted == pid;
        let ejected = ejected.and_then(|EjectedNote { cause, until }| {
            Some(Ejected { cause, until: UNIX_EPOCH.checked_add(Duration::from_millis(until))? })
        });
        Restored {
            verdict: if same { verdict } else { Verdict::Unknown },
            draining,
            standby,
            weight,
            seen_up: same && seen_up,
            restarts,
            ejections: if same { ejections } else { 0 },
            ejected: ejected.filter(|_| same),
            since: UNIX_EPOCH.checked_add(Duration::from_secs(since)).filter(|_| same),
        }
    }

    /// What of the notes holds for an everup that starts anew. Of fixed instances that were down: that they are, until
    /// they pass their checks again. Those that were up are checked first. Ejections and drains stay. Instances that
    /// everup runs are new processes, of which nothing is known.
    pub(crate) fn for_a_new_everup(mut self) -> Self {
        self.generation = Generation(0);
        for instances in self.services.values_mut() {
            instances.retain(|_, note| note.pid.is_none());
            for note in instances.values_mut().filter(|note| note.verdict == Verdict::Up) {
                note.verdict = Verdict::Unknown;
            }
        }
        self
    }
}

/// An ejection as people and the next worker are told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ejected {
    pub(crate) cause: Cause,
    pub(crate) until: SystemTime,
}

/// What is known of an instance from an earlier worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Restored {
    pub(crate) verdict: Verdict,
    pub(crate) draining: bool,
    pub(crate) standby: bool,
    pub(crate) weight: Option<u32>,
    pub(crate) seen_up: bool,
    pub(crate) restarts: u32,
    /// Ejections that are not forgotten.
    pub(crate) ejections: u32,
    pub(crate) ejected: Option<Ejected>,
    pub(crate) since: Option<SystemTime>,
}

impl Default for Restored {
    fn default() -> Self {
        Self {
            verdict: Verdict::Unknown,
            draining: false,
            standby: false,
            weight: None,
            seen_up: false,
            restarts: 0,
            ejections: 0,
            ejected: None,
            since: None,
        }
    }
}

impl Note {
    /// A note on what is known of an instance whose process is `pid`.
    pub(crate) fn new(known: Restored, pid: Option<u32>) -> Self {
        let Restored { verdict, draining, standby, weight, seen_up, restarts, ejections, ejected, since } =
            known;
        // A clock that stands before 1970 is noted as 1970.
        let since_1970 = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let ejected = ejected.map(|Ejected { cause, until }| EjectedNote {
            cause,
            until: u64::try_from(since_1970(until).as_millis()).unwrap_or(u64::MAX),
        });
        let since = since.map(since_1970).unwrap_or_default().as_secs();
        Self { verdict, draining, standby, weight, pid, seen_up, restarts, ejections, ejected, since }
    }
}

#[cfg(test)]
mod tests {
    use everup_core::health::Reason;

    use super::*;

    fn note(name: &str, verdict: Verdict, draining: bool, pid: Option<u32>) -> (InstanceId, Note) {
        let since = Some(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let weight = draining.then_some(3);
        let known =
            Restored { verdict, draining, weight, seen_up: true, restarts: 2, since, ..Restored::default() };
        (InstanceId::new("shop", name), Note::new(known, pid))
    }

    fn reread(instances: Vec<(InstanceId, Note)>) -> Notes {
        Notes::read(Some(&Notes::new(Generation(7), instances.into_iter()).write()))
    }

    #[test]
    fn the_next_worker_reads_what_the_last_one_wrote() {
        let down = Verdict::Down(Reason::ProbeStatus(500));
        let notes = reread(vec![
            note("shop-1", Verdict::Up, false, Some(9)),
            note("shop-2", down.clone(), true, None),
        ]);
        assert_eq!(notes.generation, Generation(7));
        let first = notes.restored(&InstanceId::new("shop", "shop-1"), Some(9));
        assert_eq!((first.verdict, first.draining, first.restarts), (Verdict::Up, false, 2));
        assert_eq!(first.since, Some(UNIX_EPOCH + Duration::from_secs(1_800_000_000)));
        let second = notes.restored(&InstanceId::new("shop", "shop-2"), None);
        assert_eq!((second.verdict, second.draining, second.weight), (down, true, Some(3)));
    }

    #[test]
    fn a_verdict_about_another_process_is_forgotten_and_a_drain_is_not() {
        let notes = reread(vec![note("shop-1", Verdict::Up, true, Some(9))]);
        let restored = notes.restored(&InstanceId::new("shop", "shop-1"), Some(10));
        assert_eq!((restored.verdict, restored.draining, restored.seen_up), (Verdict::Unknown, true, false));
    }

    #[test]
    fn an_instance_without_a_note_is_unknown() {
        assert_eq!(reread(vec![]).restored(&InstanceId::new("shop", "shop-1"), None), Restored::default());
    }

    #[test]
    fn times_that_no_clock_can_show_are_none() {
        let text = Notes::new(Generation(1), [note("a", Verdict::Up, false, None)].into_iter()).write();
        let text = text.replace("1800000000", &u64::MAX.to_string());
        let restored = Notes::read(Some(&text)).restored(&InstanceId::new("shop", "a"), None);
        assert_eq!((restored.verdict, restored.since), (Verdict::Up, None));
    }

    #[test]
    fn notes_that_cannot_be_understood_are_none() {
        for text in ["", "{", r#"{"version":2,"generation":7,"services":{}}"#] {
            assert_eq!(Notes::read(Some(text)), Notes::default(), "{text}");
        }
        assert_eq!(Notes::read(None), Notes::default());
    }

    #[test]
    fn notes_on_a_thousand_instances_fit() {
        let many = |n| (0..n).map(|i| note(&format!("shop-{i}"), Verdict::Up, false, Some(1_000_000 + i)));
        let kept = |notes: Notes| notes.services.values().map(BTreeMap::len).sum::<usize>();
        assert_eq!(kept(reread(many(1000).collect())), 1000);
        let text = Notes::new(Generation(1), many(5000)).write();
        assert!(text.len() <= NOTES_BYTES);
        assert!(kept(Notes::read(Some(&text))) > 1000);
    }
}
