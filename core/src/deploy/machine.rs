//! The machine that keeps the instances of one service as they should be, and deploys.
//!
//! | input | means |
//! | --- | --- |
//! | Instance | this is what is seen of an instance now |
//! | Published | a table with the routes of this number is given to the data plane |
//! | Acknowledged | every data-plane thread uses this table, or a newer one |
//! | Stored, StoreFailed | the row of this version is on the disk, or is not |
//! | Quoted | the last lines of the instance that was asked for |
//! | HookEnded | the hook of [`Output::Hook`] is over |
//! | Wakeup | time passed: [`Machine::next_wakeup`] |
//!
//! After each of them it takes the same turn: as long as the newest row is stored, decide at most one change of it
//! (`decide`), and store that; then compare what the stored row wants with what is seen, and do the difference (`apply`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::hooks::{Hook, HookOrder, HookResult};
use super::record::{Deployment, Held, Outcome, Row, Stage};
use super::slot::Slot;
use super::strategy::Step;
use crate::ids::Generation;
use crate::time::Time;

/// A thread that does not acknowledge a table within this time is in trouble: every loop turn of a healthy one does.
const ACKNOWLEDGEMENT: Duration = Duration::from_secs(30);

/// A store that failed is tried again after this time.
const STORE_AGAIN: Duration = Duration::from_secs(1);

/// What a process does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Process {
    /// There is none, and none is about to come.
    #[default]
    Absent,
    /// It was asked for.
    Starting,
    /// It runs.
    Running,
    /// It ended by itself and is started again after a pause.
    Backoff,
    /// It was told to end.
    Stopping,
}

/// What is seen of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its process.
    pub process: Process,
    /// Its health checks pass.
    pub up: bool,
    /// How often its process ended by itself or could not be started.
    pub deaths: u32,
    /// It has requests.
    pub busy: bool,
    /// Why it is not up, in words.
    pub trouble: String,
}

/// What the machine is told. See the table at the top of this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// What is seen of an instance now.
    Instance {
        /// Which one.
        slot: Slot,
        /// What is seen.
        seen: Seen,
    },
    /// The data plane was given a table.
    Published {
        /// The [`Output::Route`] that it holds; 0 for the routes that the machine began with.
        number: u64,
        /// Its generation.
        generation: Generation,
    },
    /// Every data-plane thread uses this table, or a newer one.
    Acknowledged(Generation),
    /// The row of this version is stored.
    Stored(u64),
    /// It could not be stored, for this reason.
    StoreFailed(String),
    /// The last lines of the instance of [`Output::Quote`].
    Quoted(Vec<String>),
    /// The hook of [`Output::Hook`] is over.
    HookEnded(HookResult),
    /// Time passed.
    Wakeup,
}

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Store this, and say when it is done.
    Store(Box<Row>),
    /// Only these instances are to take requests.
    Route {
        /// To be told back with [`Input::Published`].
        number: u64,
        /// The instances.
        slots: BTreeSet<Slot>,
    },
    /// Start a process.
    Start(Slot),
    /// End it: nobody can send it a request any more.
    Stop(Slot),
    /// It is gone and not wanted: forget it.
    Forget(Slot),
    /// The last lines of this instance are wanted.
    Quote(Slot),
    /// Run this, and say how it ended.
    Hook(Box<HookOrder>),
    /// The hook that is being run is not wanted any more: kill it, and say nothing of it.
    EndHook,
}

/// What the machine needs to know of the service.
#[derive(Clone, Debug)]
pub struct Given {
    /// Its name.
    pub service: Arc<str>,
    /// How many instances it has while nothing is deployed.
    pub replicas: usize,
    /// `drain.time`.
    pub drain: Duration,
}

/// What the machine keeps of an instance.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    pub(super) seen: Seen,
    /// Since when it has been up without a break.
    pub(super) up_since: Option<Time>,
    /// Since when it is not up, after it was.
    pub(super) down_since: Option<Time>,
    /// When a process was last ordered for it.
    pub(super) ordered: Option<Time>,
    /// Its deaths when it began to take requests.
    pub(super) deaths_before: u32,
    /// The first table without it; None: it takes requests, or that table is not published yet.
    out: Option<Generation>,
    /// Since when nobody can send it a request.
    free_since: Option<Time>,
    /// It was told to stop and not to start since.
    told_to_stop: bool,
}

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Machine {
    pub(super) given: Given,
    /// The newest row.
    pub(super) row: Row,
    /// The newest row that is stored: only it has effects.
    pub(super) durable: Row,
    /// Those on their way to the disk.
    storing: VecDeque<Row>,
    store_trouble: Option<(String, Time)>,
    /// Nothing may be changed, for this reason: there is no store.
    pub(super) frozen: Option<String>,
    pub(super) places: BTreeMap<Slot, Place>,
    routes: BTreeSet<Slot>,
    number: u64,
    /// The first table with the newest routes, and when it was published.
    published: Option<(Generation, Time)>,
    acknowledged: Generation,
    /// Tables before this one may hold anybody.
    floor: Generation,
    pub(super) outputs: VecDeque<Output>,
    /// The hook that was ordered and is not over.
    pub(super) ordered_hook: Option<(String, u64)>,
    /// One that another machine may have ordered: nobody knows how far it came.
    pub(super) left_hook: Option<(String, u64)>,
    /// When it took its first turn.
    pub(super) began: Option<Time>,
    /// When it took its last turn: nothing that was due then is due again.
    looked: Time,
}

impl Machine {
    /// Keeps the instances of `service` as `row`, which is stored, says. The table that is published next must hold the
    /// routes of the row, [`Machine::routes`]; it is acknowledged when `floor` is. A worker that has just begun passes 0:
    /// nobody uses an older table any more.
    pub fn new(given: Given, row: Row, floor: Generation) -> Self {
        let routes = takers(&row.wanted(given.replicas));
        Self {
            given,
            floor,
            looked: Time::ZERO,
            began: None,
            ordered_hook: None,
            left_hook: row.active().and_then(Deployment::hook_key),
            durable: row.clone(),
            row,
            storing: VecDeque::new(),
            store_trouble: None,
            frozen: None,
            places: BTreeMap::new(),
            routes,
            number: 0,
            published: None,
            acknowledged: Generation(0),
            outputs: VecDeque::new(),
        }
    }

    /// Whoever carried out what it wanted failed, and nobody knows how far that came: it begins anew as [`Machine::new`] does,
    /// with the same row, and what was on its way to the disk is on its way again.
    pub fn begin_anew(&mut self, floor: Generation) {
        let anew = Self::new(self.given.clone(), self.durable.clone(), floor);
        let Self { row, storing, store_trouble, frozen, ordered_hook, .. } = std::mem::replace(self, anew);
        (self.row, self.store_trouble, self.frozen) = (row, store_trouble, frozen);
        // Whether it was ordered is not known either.
        self.left_hook = self.row.active().and_then(Deployment::hook_key);
        self.outputs = ordered_hook.map(|_| Output::EndHook).into_iter().collect();
        let stores = storing.iter().map(|row| Output::Store(Box::new(row.clone())));
        self.outputs.extend(stores);
        self.storing = storing;
    }

    /// An instance that is there before the machine begins. All of them must be told before anything else is.
    pub fn adopt(&mut self, now: Time, slot: Slot, seen: Seen) {
        self.on_seen(now, slot.clone(), seen);
        if self.routes.contains(&slot)
            && let Some(place) = self.places.get_mut(&slot)
            && place.up_since.is_none()
        {
            // It was up before it got requests.
            place.down_since = Some(now);
        }
    }

    /// The service has other settings from now on. The number of instances must not change during a deployment.
    pub fn give(&mut self, now: Time, given: Given) {
        self.given = given;
        self.turn(now);
    }

    /// The store cannot be used: whatever runs goes on as it is, and nothing is deployed.
    pub fn freeze(&mut self, reason: impl Into<String>) {
        self.frozen = Some(reason.into());
    }

    /// Who takes requests, as last told.
    pub fn routes(&self) -> &BTreeSet<Slot> {
        &self.routes
    }

    /// The newest row; what it says may not be stored yet.
    pub fn row(&self) -> &Row {
        &self.row
    }

    /// The newest row that is stored.
    pub fn durable(&self) -> &Row {
        &self.durable
    }

    /// Why nothing can be changed now, if that is so.
    pub fn trouble(&self) -> Option<&str> {
        self.frozen.as_deref().or_else(|| self.store_trouble.as_ref().map(|(why, _)| why.as_str()))
    }

    /// The name of an instance.
    pub fn name(&self, slot: &Slot) -> String {
        slot.name(&self.given.service, &self.row.first)
    }

    /// Takes one input. See the table at the top of this file.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Instance { slot, seen } => self.on_seen(now, slot, seen),
            Input::Published { number, generation } => self.on_published(now, number, generation),
            Input::Acknowledged(generation) => self.acknowledged = self.acknowledged.max(generation),
            Input::Stored(version) => self.on_stored(version),
            Input::StoreFailed(reason) => self.store_trouble = Some((reason, now)),
            Input::Quoted(lines) => self.on_quoted(lines),
            Input::HookEnded(result) => self.on_hook_ended(now, result),
            Input::Wakeup => {}
        }
        self.turn(now);
    }

    /// What is to be done, oldest first; None when everything was taken.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to say [`Input::Wakeup`]. Saying it earlier or more often does no harm.
    pub fn next_wakeup(&self) -> Option<Time> {
        let retry = self.store_trouble.as_ref().map(|(_, since)| *since + STORE_AGAIN);
        let drains = self.places.values().filter(|place| !place.told_to_stop);
        let drains = drains.filter_map(|place| Some(place.free_since? + self.given.drain));
        let step = self.row.active().map(|deployment| self.step_times(deployment)).unwrap_or_default();
        retry.into_iter().chain(drains).chain(step).filter(|time| *time > self.looked).min()
    }

    /// It waits for requests to end on an instance that is to stop: say what is seen of it every now and then.
    pub fn is_draining(&self) -> bool {
        self.places.values().any(|place| place.out.is_some() && place.seen.busy)
    }

    // ----- inputs ---------------------------------------------------------------------------------------------

    fn on_seen(&mut self, now: Time, slot: Slot, seen: Seen) {
        // An instance in no table: nobody has ever been able to send it something, or the last worker's tables are meant,
        // and whoever used them is gone.
        let out = (!self.routes.contains(&slot)).then_some(self.floor);
        let place = self.places.entry(slot).or_insert_with(|| Place {
            out,
            deaths_before: seen.deaths,
            ..Place::default()
        });
        let is_up = seen.up && seen.process == Process::Running;
        let had_break = seen.deaths != place.seen.deaths;
        match (is_up, place.up_since) {
            (true, Some(_)) if !had_break => {}
            (true, _) => (place.up_since, place.down_since) = (Some(now), None),
            (false, Some(_)) => (place.up_since, place.down_since) = (None, Some(now)),
            (false, None) => {}
        }
        place.seen = seen;
    }

    fn on_published(&mut self, now: Time, number: u64, generation: Generation) {
        // A table with older routes says nothing of who is out now.
        if number != self.number || self.published.is_some() {
            return;
        }
        self.published = Some((generation, now));
        for (slot, place) in &mut self.places {
            if !self.routes.contains(slot) && place.out.is_none() {
                place.out = Some(generation);
            }
        }
    }

    fn on_stored(&mut self, version: u64) {
        self.store_trouble = None;
        while self.storing.front().is_some_and(|row| row.version <= version) {
            self.durable = self.storing.pop_front().expect("it was just looked at");
        }
    }

    fn on_quoted(&mut self, lines: Vec<String>) {
        if let Some(deployment) = &mut self.row.deployment
            && deployment.log.is_empty()
            && !lines.is_empty()
        {
            deployment.log = lines;
            self.store();
        }
    }

    /// The row was changed: nothing of it holds before it is stored.
    pub(super) fn store(&mut self) {
        self.row.version += 1;
        self.storing.push_back(self.row.clone());
        self.outputs.push_back(Output::Store(Box::new(self.row.clone())));
    }

    pub(super) fn is_stored(&self) -> bool {
        self.storing.is_empty()
    }

    // ----- the turn -------------------------------------------------------------------------------------------

    pub(super) fn turn(&mut self, now: Time) {
        self.looked = now;
        self.began.get_or_insert(now);
        self.store_again(now);
        self.apply(now);
        self.apply_hook(now);
        self.note_acknowledged(now);
        self.stop_who_left(now);
        if self.is_stored() && self.frozen.is_none() && self.decide(now) {
            self.store();
        }
    }

    fn store_again(&mut self, now: Time) {
        if self.store_trouble.as_ref().is_some_and(|(_, since)| now >= *since + STORE_AGAIN) {
            if let Some((_, since)) = &mut self.store_trouble {
                *since = now;
            }
            // In order, each with what it changes.
            let again = self.storing.iter().map(|row| Output::Store(Box::new(row.clone())));
            self.outputs.extend(again);
        }
    }

    fn note_acknowledged(&mut self, now: Time) {
        for place in self.places.values_mut() {
            if place.out.is_some_and(|out| self.acknowledged >= out) {
                place.free_since.get_or_insert(now);
            }
        }
    }

    /// Changes the row by one transition, if one is due. True: it did.
    fn decide(&mut self, now: Time) -> bool {
        match self.row.active().map(|deployment| &deployment.stage) {
            None | Some(Stage::Ended(_)) => false,
            Some(Stage::Forward) => self.forward(now),
            Some(Stage::Back(_)) => self.back(now),
        }
    }

    fn forward(&mut self, now: Time) -> bool {
        let deployment = self.row.active().expect("only called while one is active");
        match &deployment.held {
            Some(Held::Unacknowledged) if self.routes_are_in_use() => return self.let_go(now),
            Some(_) => return false,
            None => {}
        }
        if let Some(fault) = self.fault(deployment, now) {
            return self.on_fault(now, fault);
        }
        if self.is_unacknowledged(now) {
            return self.hold(now, Held::Unacknowledged);
        }
        if let Some(changed) = self.look_at_hook(now) {
            return changed;
        }
        let Some(deployment) = self.row.active() else { return false };
        if deployment.paused || !self.is_done(deployment, now) {
            return false;
        }
        self.go_on(now);
        true
    }

    /// The step is done: takes the next one.
    fn go_on(&mut self, now: Time) {
        let proof = self.row.active().map(|deployment| self.proof(deployment, now)).unwrap_or_default();
        let Row { stable, previous, deployment: Some(deployment), .. } = &mut self.row else { return };
        let next = deployment.at + 1;
        let words = deployment.recipe.in_words(next, &deployment.from, &deployment.to);
        deployment.enter(now, next);
        match deployment.step() {
            None => {
                (deployment.stage, deployment.ended) = (Stage::Ended(Outcome::Done), now);
                deployment.tell(now, format!("done: {} serves", deployment.to));
                deployment.because(proof);
                return;
            }
            Some(Step::Commit) => {
                deployment.committed = true;
                deployment.before = previous.replace(Arc::clone(&deployment.from));
                *stable = Arc::clone(&deployment.to);
            }
            Some(Step::Shift { .. }) => {
                for (slot, place) in &mut self.places {
                    let is_new = slot.revision == deployment.to && !self.routes.contains(slot);
                    if is_new {
                        place.deaths_before = place.seen.deaths;
                    }
                }
            }
            Some(
                Step::Start { .. }
                | Step::Verify
                | Step::Approve
                | Step::Hook { .. }
                | Step::Drain
                | Step::Rest { .. }
                | Step::Keep { .. }
                | Step::End,
            ) => {}
        }
        deployment.tell(now, words);
        deployment.because(proof);
    }

    /// What the step waits for is there.
    fn is_done(&self, deployment: &Deployment, now: Time) -> bool {
        let Some(step) = deployment.step() else { return false };
        let has_passed = |time| now >= deployment.since + time || deployment.promoted;
        match step {
            Step::Start { target } => {
                let runs = |place: &Place| place.seen.process == Process::Running;
                self.are_all(&deployment.to, *target, runs)
            }
            Step::Verify => self.have_proved_themselves(deployment, now),
            Step::Approve => deployment.promoted && self.have_proved_themselves(deployment, now),
            // Who was up when it began may be on its way up again.
            Step::Hook { hook } if hook.is_of_new_ones() => self.have_proved_themselves(deployment, now),
            Step::Hook { .. } => true,
            Step::Shift { .. } => self.routes_are_in_use(),
            Step::Drain => self.old_ones(deployment).all(|(slot, place)| {
                slot.number > deployment.retired || deployment.recipe.keeps && self.has_left(place, now)
            }),
            Step::Rest { time } | Step::Keep { time } => has_passed(*time),
            Step::Commit => true,
            Step::End => self.old_ones(deployment).next().is_none(),
        }
    }

    /// On the way back: new instances leave as old ones come up.
    fn back(&mut self, now: Time) -> bool {
        if let Some(changed) = self.look_at_hook(now) {
            return changed;
        }
        let deployment = self.row.active().expect("only called while one is active");
        let Stage::Back(back) = &deployment.stage else { return false };
        let recipe = &deployment.recipe;
        let (ready, admitted) = self.still_needed(deployment);
        let is_late = now >= back.since + recipe.start_timeout;
        let is_over = admitted == 0
            && self.routes_are_in_use()
            && self.new_ones(deployment, usize::MAX).next().is_none()
            && (ready >= recipe.replicas || is_late);
        if admitted < deployment.admitted {
            let Some(deployment) = &mut self.row.deployment else { return false };
            (deployment.admitted, deployment.held) = (admitted, None);
            deployment.tell(
                now,
                format!(
                    "{ready} of {} are up: {admitted} of {} are still needed",
                    deployment.from, deployment.to
                ),
            );
            return true;
        }
        if is_over {
            let cause = back.cause.clone();
            if self.begin_last_hook(now) {
                return true;
            }
            let Some(deployment) = &mut self.row.deployment else { return false };
            deployment.tell(now, format!("rolled back: {} serves", deployment.from));
            (deployment.stage, deployment.ended, deployment.held) =
                (Stage::Ended(Outcome::RolledBack(cause)), now, None);
            return true;
        }
        if admitted > 0 && is_late && deployment.held.is_none() {
            let what = format!("{ready} of {} instances of {} are up", recipe.replicas, deployment.from);
            return self.hold(now, Held::OldDown(what));
        }
        false
    }

    /// How many old instances are up, and how many new ones have to go on taking requests until more of them are.
    fn still_needed(&self, deployment: &Deployment) -> (usize, usize) {
        let recipe = &deployment.recipe;
        let is_ready = |place: &Place| place.up_since.is_some() && !place.told_to_stop;
        let ready = self.old_ones(deployment).filter(|(_, place)| is_ready(place)).count();
        let needed = (recipe.replicas - recipe.unavailable).saturating_sub(ready);
        (ready, deployment.admitted.min(needed))
    }

    /// From now on everything goes back. If the old instances are up this is one table.
    pub(super) fn turn_back(&mut self, now: Time, cause: impl Into<String>) {
        let Some(needed) = self.row.active().map(|deployment| self.still_needed(deployment).1) else {
            return;
        };
        let Row { stable, previous, deployment: Some(deployment), .. } = &mut self.row else { return };
        if std::mem::take(&mut deployment.committed) {
            *stable = Arc::clone(&deployment.from);
            *previous = deployment.before.take();
        }
        deployment.admitted = needed;
        deployment.go_back(now, cause);
    }

    pub(super) fn hold(&mut self, now: Time, held: Held) -> bool {
        let Some(deployment) = &mut self.row.deployment else { return false };
        deployment.tell(now, format!("held: {}", held.in_words()));
        deployment.held = Some(held);
        true
    }

    fn let_go(&mut self, now: Time) -> bool {
        let Some(deployment) = &mut self.row.deployment else { return false };
        deployment.tell(now, "goes on");
        deployment.held = None;
        true
    }

    // ----- effects --------------------------------------------------------------------------------------------

    /// Does what the stored row wants and is not so.
    fn apply(&mut self, now: Time) {
        let wanted = self.durable.wanted(self.given.replicas);
        if self.frozen.is_some() {
            // Only who is missing among those that surely belong here.
            if self.places.keys().any(|slot| slot.revision != self.durable.stable) {
                return;
            }
        } else {
            self.route(&wanted);
        }
        for slot in wanted.keys() {
            let takes = self.routes.contains(slot);
            let place = self
                .places
                .entry(slot.clone())
                .or_insert_with(|| Place { out: (!takes).then_some(self.floor), ..Place::default() });
            let ends = place.told_to_stop && place.seen.process == Process::Stopping;
            if ends || place.seen.process == Process::Absent {
                place.told_to_stop = false;
                place.seen.process = Process::Starting;
                place.ordered = Some(now);
                self.outputs.push_back(Output::Start(slot.clone()));
            }
        }
    }

    fn route(&mut self, wanted: &BTreeMap<Slot, bool>) {
        let routes = takers(wanted);
        if routes == self.routes || self.is_too_early(&routes) {
            return;
        }
        for slot in routes.difference(&self.routes) {
            if let Some(place) = self.places.get_mut(slot) {
                (place.out, place.free_since) = (None, None);
            }
        }
        self.number += 1;
        (self.routes, self.published) = (routes.clone(), None);
        self.outputs.push_back(Output::Route { number: self.number, slots: routes });
    }

    /// Storing takes time: a new instance that was up before may not be any more. It comes up again, or is judged. And when
    /// there are to be fewer instances, the last one that is up stays until another one is.
    fn is_too_early(&self, routes: &BTreeSet<Slot>) -> bool {
        let is_up = |slot: &Slot| self.places.get(slot).is_some_and(|place| place.up_since.is_some());
        match self.durable.active() {
            None => !routes.iter().any(is_up) && self.routes.difference(routes).any(is_up),
            Some(deployment) if deployment.stage == Stage::Forward => {
                routes.iter().filter(|slot| slot.revision == deployment.to).any(|slot| !is_up(slot))
            }
            Some(_) => false,
        }
    }

    /// Ends who is not wanted and cannot get a request any more; forgets who has ended.
    fn stop_who_left(&mut self, now: Time) {
        if self.frozen.is_some() {
            return;
        }
        let wanted = self.durable.wanted(self.given.replicas);
        // Who is wanted by a row that is on its way to the disk was counted on.
        let soon = self.row.wanted(self.given.replicas);
        let is_unwanted = |slot: &&Slot| !wanted.contains_key(slot) && !soon.contains_key(slot);
        let unwanted: Vec<Slot> = self.places.keys().filter(is_unwanted).cloned().collect();
        for slot in unwanted {
            let place = &self.places[&slot];
            if place.seen.process == Process::Absent {
                self.places.remove(&slot);
                self.outputs.push_back(Output::Forget(slot));
            } else if !place.told_to_stop && self.has_left(place, now) {
                self.places.entry(slot.clone()).and_modify(|place| place.told_to_stop = true);
                self.outputs.push_back(Output::Stop(slot));
            }
        }
    }

    // ----- looking --------------------------------------------------------------------------------------------

    /// Nobody can send it a request, and those it had are over or have had their time.
    fn has_left(&self, place: &Place, now: Time) -> bool {
        place.free_since.is_some_and(|since| !place.seen.busy || now >= since + self.given.drain)
    }

    /// Every thread uses the routes that the row wants.
    fn routes_are_in_use(&self) -> bool {
        let wanted = self.durable.wanted(self.given.replicas);
        self.durable.version == self.row.version
            && self.routes == takers(&wanted)
            && self.published.is_some_and(|(generation, _)| self.acknowledged >= generation)
    }

    /// The newest table with other routes, and when it was published.
    pub(super) fn published_since(&self) -> (u64, Option<Time>) {
        self.published.map_or((0, None), |(generation, since)| (generation.0, Some(since)))
    }

    fn is_unacknowledged(&self, now: Time) -> bool {
        self.published.is_some_and(|(generation, since)| {
            self.acknowledged < generation && now >= since + ACKNOWLEDGEMENT
        })
    }

    pub(super) fn old_ones<'a>(
        &'a self,
        deployment: &'a Deployment,
    ) -> impl Iterator<Item = (&'a Slot, &'a Place)> {
        self.places.iter().filter(|(slot, _)| slot.revision == deployment.from)
    }

    /// New instances up to this number.
    pub(super) fn new_ones<'a>(
        &'a self,
        deployment: &'a Deployment,
        last: usize,
    ) -> impl Iterator<Item = (&'a Slot, &'a Place)> {
        self.places.iter().filter(move |(slot, _)| slot.revision == deployment.to && slot.number <= last)
    }

    /// All instances up to this number are there, and this holds of each.
    fn are_all(&self, revision: &Arc<str>, last: usize, holds: impl Fn(&Place) -> bool) -> bool {
        (1..=last).all(|number| self.places.get(&Slot::new(revision, number)).is_some_and(&holds))
    }

    pub(super) fn have_proved_themselves(&self, deployment: &Deployment, now: Time) -> bool {
        let proved =
            |place: &Place| place.up_since.is_some_and(|since| now >= since + deployment.recipe.min_healthy);
        self.are_all(&deployment.to, deployment.target, proved)
    }

    /// When something may be due in the step.
    fn step_times(&self, deployment: &Deployment) -> Vec<Time> {
        let recipe = &deployment.recipe;
        let mut times = self.judged_times(deployment);
        times.extend(self.published.map(|(_, since)| since + ACKNOWLEDGEMENT));
        match (&deployment.stage, deployment.step()) {
            (Stage::Back(back), _) => times.push(back.since + recipe.start_timeout),
            (_, Some(Step::Verify | Step::Hook { hook: Hook::WarmUp | Hook::BeforeSwitch })) => {
                let ups =
                    self.new_ones(deployment, deployment.target).filter_map(|(_, place)| place.up_since);
                times.extend(ups.map(|since| since + recipe.min_healthy));
            }
            (_, Some(Step::Rest { time } | Step::Keep { time })) => times.push(deployment.since + *time),
            (
                Stage::Forward | Stage::Ended(_),
                Some(
                    Step::Start { .. }
                    | Step::Approve
                    | Step::Hook { .. }
                    | Step::Shift { .. }
                    | Step::Drain
                    | Step::Commit
                    | Step::End,
                )
                | None,
            ) => {}
        }
        times
    }
}

/// Who of them takes requests.
fn takers(wanted: &BTreeMap<Slot, bool>) -> BTreeSet<Slot> {
    wanted.iter().filter(|(_, takes)| **takes).map(|(slot, _)| slot.clone()).collect()
}
