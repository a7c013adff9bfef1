//! Which instances of a service are left out because they answer badly while others answer well, or because they come
//! and go: passive health. It sees counts and verdicts, not requests; whether an instance is up is `machine.rs`'s.
//!
//! ```text
//!                 failures in a row, share of good answers far below the others',
//!                 or up again after too many downs; if share and panic allow it
//!              ┌────────────────────────────────────────────────────────────────┐
//!          ┌───┴──┐                                                        ┌────▼────┐
//!  new ──▶ │  In  │                                                        │ Ejected │
//!          └───▲──┘                                                        └────┬────┘
//!              └────────────────────────────────────────────────────────────────┘
//!                its time is over, too few sound ones are left, or it is another process
//! ```
//!
//! The idea, and the words ejection and outlier, are Envoy's ("Outlier detection", architecture overview): so many
//! 5xx in a row, or a success rate below the mean minus 1.9 standard deviations; the n-th ejection lasts n times as
//! long. What differs, and why, is in `docs/design/0004-passive-health.md`; the main thing is that an instance only
//! counts as left if it is sound itself, so that a cause that all share ejects nobody.
//!
//! An ejected instance is not down: requests it has go on, and who can find no other instance may use it.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config;
use crate::time::Time;

/// How long a new machine returns nobody for want of others: it takes a moment until the first probes have passed.
pub const SETTLING: Duration = Duration::from_secs(5);

/// Why an instance is ejected. `Display` gives the words that `everup status` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// So many bad answers in a row.
    Failures(u32),
    /// Too few good answers beside the others.
    Share {
        /// Of 1000 answers, so many were good.
        good: u32,
        /// The mean of the service's instances, also of 1000.
        mean: u32,
    },
    /// It went down so many times lately.
    Flaps(u32),
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = |of_1000: u32| f64::from(of_1000) / 10.0;
        match *self {
            Self::Failures(count) => write!(f, "{count} bad answers in a row"),
            Self::Share { good, mean } => {
                write!(f, "{} % good answers, others {} %", percent(good), percent(mean))
            }
            Self::Flaps(count) => write!(f, "went down {count} times lately"),
        }
    }
}

/// What can be seen of an instance now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// It is up, runs and is not drained: it would take requests unless ejected.
    pub able: bool,
    /// Bad answers in a row, up to now.
    pub streak: u32,
    /// Good answers, ever.
    pub good: u64,
    /// Bad answers, ever.
    pub bad: u64,
}

/// What the machine is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// What can be seen of every instance now, in their order. Also the answer to [`Machine::next_wakeup`].
    Look(Vec<Seen>),
    /// An instance was up and is down.
    WentDown(usize),
    /// An instance was not up and is.
    CameUp(usize),
    /// Another process, of which nothing is known, took an instance's place.
    Replaced(usize),
}

/// Why an ejection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its time was over.
    Over,
    /// Too few others are left that work.
    Panic,
    /// It is another process now.
    Replaced,
}

/// What follows. In both cases its bad answers in a row count from 0 again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Leave it out.
    Eject {
        /// Which instance.
        instance: usize,
        /// Why.
        cause: Cause,
        /// Until when, unless [`Output::Return`] comes earlier.
        until: Time,
    },
    /// Use it again.
    Return {
        /// Which instance.
        instance: usize,
        /// Why.
        why: Why,
    },
}

/// What the next machine should know of an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// How many ejections are not forgotten.
    pub ejections: u32,
    /// Why it is ejected, and how much longer.
    pub ejected: Option<(Cause, Duration)>,
}

/// The instances of one service.
#[derive(Clone, Debug)]
pub struct Machine {
    rules: config::Outlier,
    instances: Vec<Instance>,
    /// When shares are next compared; None before the first look.
    compare: Option<Time>,
    /// The end of [`SETTLING`], until it is over.
    settles: Option<Time>,
    outputs: VecDeque<Output>,
}

#[derive(Clone, Debug)]
struct Instance {
    standing: Standing,
    seen: Seen,
    /// Good and bad answers when the window began.
    before: (u64, u64),
    /// Ejections that are not forgotten.
    ejections: u32,
    /// When it went down lately, oldest first; at most one more than `flaps`.
    downs: VecDeque<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Not ejected. An ejection is forgotten at `forget`, if there is one.
    In { forget: Time },
    /// Left out.
    Ejected { cause: Cause, until: Time },
}

impl Machine {
    /// For `instances` instances. Nobody is ejected, and nothing was seen.
    pub fn new(now: Time, rules: &config::Outlier, instances: usize) -> Self {
        let new = || Instance {
            standing: Standing::In { forget: now },
            seen: Seen::default(),
            before: (0, 0),
            ejections: 0,
            downs: VecDeque::new(),
        };
        Self {
            instances: std::iter::repeat_with(new).take(instances).collect(),
            compare: None,
            rules: rules.clone(),
            settles: Some(now + SETTLING),
            outputs: VecDeque::new(),
        }
    }

    /// Takes over what an earlier machine knew of an instance. Nothing is said about it: ask [`Machine::ejected`].
    pub fn restore(&mut self, now: Time, instance: usize, memory: Memory) {
        let Self { rules, instances, .. } = self;
        let Memory { ejections, ejected } = memory;
        let ejections = ejections.min(most_ejections(rules));
        instances[instance].ejections = ejections;
        instances[instance].standing = match ejected {
            Some((cause, left)) => Standing::Ejected { cause, until: now + left.min(rules.longest) },
            None => Standing::In { forget: now + length(rules, ejections) },
        };
    }

    /// What the next machine should know of an instance.
    pub fn memory(&self, now: Time, instance: usize) -> Memory {
        let Instance { standing, ejections, .. } = &self.instances[instance];
        let ejected = match standing {
            Standing::In { .. } => None,
            Standing::Ejected { cause, until } => Some((*cause, until.since(now))),
        };
        Memory { ejections: *ejections, ejected }
    }

    /// Why an instance is ejected, and until when; None: it is not.
    pub fn ejected(&self, instance: usize) -> Option<(Cause, Time)> {
        match self.instances[instance].standing {
            Standing::In { .. } => None,
            Standing::Ejected { cause, until } => Some((cause, until)),
        }
    }

    /// When to hand in [`Input::Look`] even if nothing happens.
    pub fn next_wakeup(&self) -> Time {
        let due = |instance: &Instance| match instance.standing {
            Standing::In { forget } if instance.ejections > 0 => Some(forget),
            Standing::In { .. } => None,
            Standing::Ejected { until, .. } => Some(until),
        };
        self.instances
            .iter()
            .filter_map(due)
            .chain(self.settles)
            .fold(self.compare.unwrap_or(Time::ZERO), Time::min)
    }

    /// The next thing that follows, until None.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Look(seen) => self.look(now, &seen),
            Input::WentDown(instance) => self.note_down(now, instance),
            Input::CameUp(instance) => self.hold_down(now, instance),
            Input::Replaced(instance) => self.forget(now, instance),
        }
    }

    fn look(&mut self, now: Time, seen: &[Seen]) {
        for (instance, seen) in self.instances.iter_mut().zip(seen) {
            instance.seen = *seen;
        }
        self.let_time_pass(now);
        self.eject_failing(now);
        if self.compare.is_none_or(|compare| now >= compare) {
            if self.compare.is_some() {
                self.eject_outliers(now);
            }
            self.compare = Some(now + self.rules.window);
            for Instance { before, seen, .. } in &mut self.instances {
                *before = (seen.good, seen.bad);
            }
        }
        if self.settles.is_none_or(|settles| now >= settles) {
            self.settles = None;
            self.return_all_in_panic(now);
        }
    }

    /// Ejections end, and are forgotten.
    fn let_time_pass(&mut self, now: Time) {
        for index in 0..self.instances.len() {
            match self.instances[index].standing {
                Standing::Ejected { until, .. } if now >= until => self.take_back(now, index, Why::Over),
                Standing::Ejected { .. } => {}
                Standing::In { mut forget } => {
                    let instance = &mut self.instances[index];
                    while instance.ejections > 0 && now >= forget {
                        instance.ejections -= 1;
                        forget = forget + length(&self.rules, instance.ejections);
                    }
                    instance.standing = Standing::In { forget };
                }
            }
        }
    }

    fn eject_failing(&mut self, now: Time) {
        let Some(limit) = self.rules.failures else { return };
        for index in 0..self.instances.len() {
            let Seen { able, streak, .. } = self.instances[index].seen;
            if able && streak >= limit {
                self.eject(now, index, Cause::Failures(streak));
            }
        }
    }

    /// The comparison at the end of a window.
    fn eject_outliers(&mut self, now: Time) {
        let Some(deviation) = self.rules.deviation else { return };
        let shares: Vec<(usize, f64)> = self.shares().collect();
        let count = shares.len() as f64;
        if shares.is_empty() || count < f64::from(self.rules.instances) {
            return;
        }
        let mean = shares.iter().map(|(_, share)| share).sum::<f64>() / count;
        let variance = shares.iter().map(|(_, share)| (share - mean).powi(2)).sum::<f64>() / count;
        let far = f64::from(deviation) / 100.0 * variance.sqrt();
        let least = mean - far.max(f64::from(self.rules.gap) / 100.0);
        let mut outliers: Vec<_> = shares.into_iter().filter(|(_, share)| *share < least).collect();
        outliers.sort_by(|(_, a), (_, b)| a.total_cmp(b));
        for (index, share) in outliers {
            let of_1000 = |share: f64| (share * 1000.0).round() as u32;
            self.eject(now, index, Cause::Share { good: of_1000(share), mean: of_1000(mean) });
        }
    }

    /// The share of good answers in the window that ends, of every instance that can be compared.
    fn shares(&self) -> impl Iterator<Item = (usize, f64)> {
        self.instances.iter().enumerate().filter_map(|(index, instance)| {
            let Instance { standing, seen, before, .. } = instance;
            let good = seen.good.saturating_sub(before.0);
            let all = good + seen.bad.saturating_sub(before.1);
            let compared = matches!(standing, Standing::In { .. })
                && seen.able
                && all >= u64::from(self.rules.requests.max(1));
            compared.then(|| (index, good as f64 / all as f64))
        })
    }

    fn note_down(&mut self, now: Time, index: usize) {
        let Some(flaps) = self.rules.flaps else { return };
        let downs = &mut self.instances[index].downs;
        downs.push_back(now);
        while downs.len() > flaps as usize + 1 {
            downs.pop_front();
        }
        self.instances[index].seen.able = false;
    }

    /// What comes and goes is up only after a while, longer each time.
    fn hold_down(&mut self, now: Time, index: usize) {
        let Self { rules, instances, .. } = self;
        let Instance { downs, seen, .. } = &mut instances[index];
        seen.able = true;
        while downs.front().is_some_and(|&down| now.since(down) > rules.flap_window) {
            downs.pop_front();
        }
        let downs = downs.len();
        if rules.flaps.is_some_and(|flaps| downs > flaps as usize) {
            self.eject(now, index, Cause::Flaps(u32::try_from(downs).unwrap_or(u32::MAX)));
        }
    }

    fn forget(&mut self, now: Time, index: usize) {
        if let Standing::Ejected { .. } = self.instances[index].standing {
            self.take_back(now, index, Why::Replaced);
        }
        let Instance { seen, before, ejections, downs, standing: _ } = &mut self.instances[index];
        *before = (seen.good, seen.bad);
        seen.able = false;
        seen.streak = 0;
        *ejections = 0;
        downs.clear();
    }

    /// Leaves it out, if that may be.
    fn eject(&mut self, now: Time, index: usize, cause: Cause) {
        if !self.may_eject(index) {
            return;
        }
        let instance = &mut self.instances[index];
        instance.ejections = (instance.ejections + 1).min(most_ejections(&self.rules));
        let until = now + length(&self.rules, instance.ejections);
        instance.standing = Standing::Ejected { cause, until };
        instance.seen.streak = 0;
        self.outputs.push_back(Output::Eject { instance: index, cause, until });
    }

    fn take_back(&mut self, now: Time, index: usize, why: Why) {
        let instance = &mut self.instances[index];
        instance.standing = Standing::In { forget: now + length(&self.rules, instance.ejections) };
        instance.seen.streak = 0;
        // What it answered before is punished already.
        instance.before = (instance.seen.good, instance.seen.bad);
        self.outputs.push_back(Output::Return { instance: index, why });
    }

    fn may_eject(&self, index: usize) -> bool {
        let Standing::In { .. } = self.instances[index].standing else { return false };
        let of_all = |percent: u32| percent as usize * self.instances.len();
        (self.ejected_count() + 1) * 100 <= of_all(self.rules.share)
            && self.are_enough(self.sound(Some(index)))
    }

    fn return_all_in_panic(&mut self, now: Time) {
        if self.ejected_count() == 0 || self.are_enough(self.sound(None)) {
            return;
        }
        for index in 0..self.instances.len() {
            if let Standing::Ejected { .. } = self.instances[index].standing {
                self.take_back(now, index, Why::Panic);
            }
        }
    }

    fn ejected_count(&self) -> usize {
        self.instances.iter().filter(|one| matches!(one.standing, Standing::Ejected { .. })).count()
    }

    /// At least one, and no fewer than `panic` asks for.
    fn are_enough(&self, sound: usize) -> bool {
        sound > 0 && sound * 100 >= self.rules.panic as usize * self.instances.len()
    }

    /// How many take requests and answer them well, as far as can be seen, but for one. An instance is in doubt from
    /// half of the bad answers in a row on that would eject it.
    fn sound(&self, except: Option<usize>) -> usize {
        let doubt = self.rules.failures.map_or(u32::MAX, |failures| failures.div_ceil(2));
        let is_sound = |(index, instance): &(usize, &Instance)| {
            let Instance { standing, seen: Seen { able, streak, .. }, .. } = instance;
            Some(*index) != except && matches!(standing, Standing::In { .. }) && *able && *streak < doubt
        };
        self.instances.iter().enumerate().filter(is_sound).count()
    }
}

/// How long the n-th ejection lasts.
fn length(rules: &config::Outlier, ejections: u32) -> Duration {
    rules.time.saturating_mul(ejections).min(rules.longest)
}

/// The first that lasts as long as possible: more need not be remembered.
fn most_ejections(rules: &config::Outlier) -> u32 {
    let times = rules.longest.as_micros().div_ceil(rules.time.as_micros().max(1));
    u32::try_from(times).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests;
