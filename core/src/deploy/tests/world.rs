//! Whole deployments in random worlds: instances that start, come up, die and hang as they like, data-plane threads that
//! acknowledge late, a disk that fails, workers and keepers that are killed anywhere, operators who order anything. After every step
//! the invariants are looked at, and in the end everything must be all-old or all-new.
//!
//! `EVERUP_SIM_SEEDS=n` runs the seeds 0 to n - 1 (150 unless told), `EVERUP_SIM_SEED=s` that one alone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::*;
use crate::ids::Generation;
use crate::time::Time;

/// What an instance does with its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nature {
    Good,
    ExitsAtStart,
    NeverUp,
    ExitsLater,
    SickLater,
}

const NATURES: [Nature; 5] =
    [Nature::Good, Nature::ExitsAtStart, Nature::NeverUp, Nature::ExitsLater, Nature::SickLater];

/// What is true of a process.
#[derive(Clone, Debug)]
struct Real {
    process: Process,
    began: Time,
    up_since: Option<Time>,
    deaths: u32,
    busy: bool,
    stop_at: Option<Time>,
}

impl Real {
    fn seen(&self) -> Seen {
        let Self { process, up_since, deaths, busy, .. } = self;
        Seen {
            process: *process,
            up: up_since.is_some(),
            deaths: *deaths,
            busy: *busy,
            trouble: String::new(),
        }
    }
}

struct World {
    chance: u64,
    now: Time,
    machine: Machine,
    given: Given,
    nature: Nature,
    replicas: usize,
    unavailable: usize,
    min_healthy: Duration,
    /// What is on the disk.
    stored: Row,
    storing: VecDeque<Row>,
    disk_works: bool,
    real: BTreeMap<Slot, Real>,
    /// Tables by generation, and which one each thread uses.
    tables: Vec<BTreeSet<Slot>>,
    numbers: Vec<u64>,
    threads: [usize; 2],
    threads_work: bool,
    /// An instance was lost at this time: capacity may be missing for that reason.
    lost: Option<Time>,
    /// The hook that is run, when it ends and how.
    hook: Option<(HookOrder, Time, bool)>,
    /// Hooks that were ordered: none is ordered twice.
    hooks: BTreeSet<(String, u64)>,
    proved: BTreeSet<Slot>,
    story: Vec<String>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut chance = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut draw = |below: u64| draw(&mut chance, below);
        let replicas = 1 + usize::try_from(draw(5)).unwrap();
        let given = Given { service: "shop".into(), replicas, drain: Duration::from_secs(1 + draw(20)) };
        let nature = if draw(3) == 0 { Nature::Good } else { NATURES[usize::try_from(draw(5)).unwrap()] };
        let row = Row::new("v1");
        let machine = Machine::new(given.clone(), row.clone(), Generation(0));
        let routes = machine.routes().clone();
        let mut world = Self {
            chance,
            now: Time::from_millis(1_800_000_000_000),
            machine,
            given,
            nature,
            replicas,
            unavailable: 0,
            min_healthy: Duration::ZERO,
            stored: row,
            storing: VecDeque::new(),
            disk_works: true,
            real: BTreeMap::new(),
            tables: vec![routes],
            numbers: vec![0],
            threads: [0; 2],
            threads_work: true,
            lost: None,
            hook: None,
            hooks: BTreeSet::new(),
            proved: BTreeSet::new(),
            story: Vec::new(),
        };
        for number in 1..=replicas {
            let up = Real {
                process: Process::Running,
                began: world.now,
                up_since: Some(world.now),
                deaths: 0,
                busy: true,
                stop_at: None,
            };
            let slot = Slot::new(&"v1".into(), number);
            world.machine.adopt(world.now, slot.clone(), up.seen());
            world.real.insert(slot, up);
        }
        world.tell(Input::Published { number: 0, generation: Generation(0) });
        world.tell(Input::Acknowledged(Generation(0)));
        world
    }

    fn draw(&mut self, below: u64) -> u64 {
        draw(&mut self.chance, below)
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.draw(many) == 0
    }

    fn begin(&mut self) {
        let strategy = if self.one_in(2) { "rolling" } else { "blue-green" };
        let unavailable = self.draw(3);
        let surge = if unavailable > 0 && self.one_in(2) { "surge = 0\n" } else { "" };
        let keep = if self.one_in(3) { "keep_previous = \"20s\"\n" } else { "" };
        let hooks = ["before", "before_switch", "per_batch", "after_switch", "after", "on_rollback"];
        let hooks = hooks.map(|hook| match self.one_in(3) {
            true => format!("{hook} = [\"{hook}\"]\n"),
            false => String::new(),
        });
        let repeats = self.one_in(2);
        let warm_up = if self.one_in(3) { "warm_up = \"/\"\n" } else { "" };
        let text = format!(
            "{}{warm_up}hooks_repeatable = {repeats}\nstrategy = \"{strategy}\"\nbatch = {}\nmax_unavailable = \
             {unavailable}\n{surge}{keep}min_healthy = \"{}s\"\nstart_timeout = \"20s\"\npause_between = \"{}s\"",
            hooks.concat(),
            1 + self.draw(3),
            self.draw(4),
            self.draw(3)
        );
        let settings = settings(&text);
        self.note(format!("deploy a {:?} version with {text:?}", self.nature));
        let fresh = format!("d{}", self.story.len());
        let begin = Begin {
            id: fresh.clone(),
            to: "v2".into(),
            by: "ann".into(),
            reason: String::new(),
            settings,
            is_rollback: false,
        };
        // While the disk fails or another one is under way it is refused.
        let recipe = Recipe::new(&begin.settings, self.replicas);
        if self.machine.begin(self.now, begin).as_ref().is_ok_and(|id| *id == fresh) {
            assert!(self.machine.row().lock.is_none(), "a locked service is deployed to");
            (self.unavailable, self.min_healthy) = (recipe.unavailable, recipe.min_healthy);
        }
        self.obey();
    }

    fn note(&mut self, line: String) {
        let at = self.now.since(Time::from_millis(1_800_000_000_000));
        self.story.push(format!("{at:?} {line}"));
    }

    fn tell(&mut self, input: Input) {
        self.machine.handle(self.now, input);
        self.obey();
    }

    // ----- the machine's orders, and what must hold of each -----------------------------------------------------

    fn obey(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            if !matches!(output, Output::Store(_)) {
                self.note(format!("  {output:?}"));
            }
            let wanted = self.stored.wanted(self.replicas);
            match output {
                Output::Store(row) => {
                    assert!(self.stored.version <= row.version);
                    if !self.storing.iter().any(|one| one.version == row.version) {
                        self.storing.push_back(*row);
                    }
                }
                Output::Route { number, slots } => self.on_route(number, slots, &wanted),
                Output::Start(slot) => {
                    assert!(wanted.contains_key(&slot), "{slot} starts before that is stored");
                    self.start(slot);
                }
                Output::Stop(slot) => {
                    assert!(!wanted.contains_key(&slot), "{slot} is stopped and wanted");
                    for thread in self.threads {
                        assert!(!self.tables[thread].contains(&slot), "I2: a thread can still choose {slot}");
                    }
                    let stop_at = self.now + Duration::from_millis(self.draw(3000));
                    if let Some(real) = self.real.get_mut(&slot) {
                        (real.process, real.stop_at) = (Process::Stopping, Some(stop_at));
                    }
                }
                Output::Forget(slot) => {
                    assert!(!wanted.contains_key(&slot));
                    self.real.remove(&slot);
                    self.proved.remove(&slot);
                }
                Output::Hook(order) => self.on_hook(*order),
                Output::EndHook => self.hook = None,
                Output::Quote(_) => self.machine.handle(self.now, Input::Quoted(vec!["last words".into()])),
            }
        }
    }

    fn on_route(&mut self, number: u64, slots: BTreeSet<Slot>, wanted: &BTreeMap<Slot, bool>) {
        let stored = wanted.iter().filter(|(_, takes)| **takes).map(|(slot, _)| slot.clone());
        assert_eq!(slots, stored.collect(), "I9: routes are those that are stored");
        let before = self.tables.last().expect("there is a first table");
        for slot in slots.difference(before).filter(|slot| &*slot.revision == "v2") {
            assert!(self.proved.contains(slot), "I5: {slot} gets requests and has not proved itself");
        }
        let ready = |table: &BTreeSet<Slot>| {
            let up = |slot: &&Slot| self.real.get(slot).is_some_and(|real| real.up_since.is_some());
            table.iter().filter(up).count()
        };
        let needed = (self.replicas - self.unavailable).min(ready(before));
        let has_lost = self.lost.is_some_and(|at| self.now.since(at) < Duration::from_secs(3));
        assert!(has_lost || ready(&slots) >= needed, "I1: {} of {needed} are ready", ready(&slots));
        self.tables.push(slots);
        self.numbers.push(number);
        let generation = Generation(self.tables.len() as u64 - 1);
        self.machine.handle(self.now, Input::Published { number, generation });
    }

    fn on_hook(&mut self, order: HookOrder) {
        let stored = self.stored.active().expect("a hook belongs to a deployment");
        let pending = stored.hook.as_ref().expect("that it is to be run is stored");
        assert_eq!((&stored.id, pending.run), (&order.deployment, order.run));
        assert!(self.hook.is_none(), "two hooks at a time");
        assert!(self.hooks.insert((order.deployment.clone(), order.run)), "{order:?} is run twice");
        if matches!(order.hook, Hook::WarmUp | Hook::BeforeSwitch) {
            assert!(order.slots.iter().all(|slot| self.proved.contains(slot)), "{order:?}");
            for thread in self.threads {
                assert!(order.slots.iter().all(|slot| !self.tables[thread].contains(slot)), "{order:?}");
            }
        }
        if order.hook == Hook::OnRollback {
            let newest = self.tables.last().expect("there is a first table");
            assert!(newest.iter().all(|slot| slot.revision == stored.from), "{order:?}");
        }
        let (ends, passes) = (self.now + Duration::from_millis(self.draw(5000)), !self.one_in(6));
        self.hook = Some((order, ends, passes));
    }

    fn live_hook(&mut self) {
        if let Some((order, _, passed)) = self.hook.take_if(|(_, ends, _)| self.now >= *ends) {
            let HookOrder { deployment, run, .. } = order;
            let result = HookResult { deployment, run, passed, text: "it ended".into(), output: Vec::new() };
            self.tell(Input::HookEnded(result));
        }
    }

    fn start(&mut self, slot: Slot) {
        let now = self.now;
        let real = self.real.entry(slot).or_insert(Real {
            process: Process::Starting,
            began: now,
            up_since: None,
            deaths: 0,
            busy: false,
            stop_at: None,
        });
        // One that is being stopped starts again after that.
        if real.process != Process::Stopping {
            (real.process, real.began) = (Process::Starting, now);
        }
    }

    // ----- what happens by itself -------------------------------------------------------------------------------

    fn live(&mut self) {
        self.now = self.now + Duration::from_millis(1 + self.draw(400));
        for slot in self.real.keys().cloned().collect::<Vec<_>>() {
            self.live_one(&slot);
        }
        self.live_hook();
        if self.disk_works
            && !self.one_in(3)
            && let Some(row) = self.storing.pop_front()
        {
            let version = row.version;
            self.stored = row;
            self.tell(Input::Stored(version));
        } else if !self.disk_works && !self.storing.is_empty() {
            self.tell(Input::StoreFailed("disk full".into()));
        }
        for thread in 0..2 {
            if self.threads_work && !self.one_in(3) {
                self.threads[thread] = self.tables.len() - 1;
            }
        }
        let acknowledged = self.threads.iter().min().copied().unwrap_or_default();
        self.tell(Input::Acknowledged(Generation(acknowledged as u64)));
        self.tell(Input::Wakeup);
    }

    fn live_one(&mut self, slot: &Slot) {
        let nature = if &*slot.revision == "v1" { Nature::Good } else { self.nature };
        let can_be_chosen = self.threads.iter().any(|thread| self.tables[*thread].contains(slot));
        let (chance, now, min_healthy) = (self.draw(4), self.now, self.min_healthy);
        let Some(real) = self.real.get_mut(slot) else { return };
        let before = real.seen();
        if can_be_chosen {
            real.busy = true;
        } else if chance == 0 {
            real.busy = false;
        }
        let age = now.since(real.began);
        let is_due = |time: Duration| age >= time;
        match real.process {
            Process::Starting if nature == Nature::ExitsAtStart => {
                (real.process, real.deaths) = (Process::Backoff, real.deaths + 1);
            }
            Process::Starting => real.process = Process::Running,
            Process::Backoff => (real.process, real.began) = (Process::Starting, now),
            Process::Running => {
                let sick = nature == Nature::SickLater && is_due(Duration::from_secs(9));
                if nature == Nature::ExitsLater && is_due(Duration::from_secs(7)) {
                    (real.process, real.deaths, real.up_since) = (Process::Backoff, real.deaths + 1, None);
                    self.lost = Some(now);
                } else if sick && real.up_since.is_some() {
                    real.up_since = None;
                    self.lost = Some(now);
                } else if nature != Nature::NeverUp && !sick && is_due(Duration::from_millis(500)) {
                    real.up_since.get_or_insert(now);
                }
            }
            Process::Stopping => {
                real.up_since = None;
                if real.stop_at.is_some_and(|at| now >= at) {
                    let again = self.stored.wanted(self.replicas).contains_key(slot);
                    let next = if again { Process::Starting } else { Process::Absent };
                    (real.process, real.began, real.stop_at) = (next, now, None);
                }
            }
            Process::Absent => {}
        }
        if real.up_since.is_some_and(|since| now.since(since) >= min_healthy) {
            self.proved.insert(slot.clone());
        }
        let seen = real.seen();
        if seen != before {
            self.tell(Input::Instance { slot: slot.clone(), seen });
        }
    }

    /// The worker is killed: machine, threads and what was on its way to the disk are gone, processes stay. Those go, too,
    /// if the keeper is killed with it.
    fn crash(&mut self, keeper_too: bool) {
        self.note(format!("the worker is killed, the keeper too: {keeper_too}"));
        if keeper_too {
            self.real.clear();
            self.proved.clear();
        }
        if self.one_in(2)
            && let Some(row) = self.storing.pop_front()
        {
            self.stored = row;
        }
        self.storing.clear();
        self.hook = None;
        self.real.retain(|_, real| real.process != Process::Absent);
        for real in self.real.values_mut() {
            match real.process {
                // The order may or may not have come through; a supervisor that is gone starts nothing again.
                Process::Starting | Process::Backoff => real.process = Process::Running,
                Process::Stopping | Process::Running | Process::Absent => {}
            }
            if real.process == Process::Stopping {
                (real.process, real.stop_at) = (Process::Running, None);
            }
        }
        self.machine = Machine::new(self.given.clone(), self.stored.clone(), Generation(0));
        for (slot, real) in &self.real {
            self.machine.adopt(self.now, slot.clone(), real.seen());
        }
        self.tables.push(self.machine.routes().clone());
        self.numbers.push(0);
        let newest = self.tables.len() - 1;
        self.threads = [newest; 2];
        let generation = Generation(newest as u64);
        self.lost = Some(self.now);
        self.tell(Input::Published { number: 0, generation });
        self.tell(Input::Acknowledged(generation));
    }

    fn order(&mut self) {
        let orders = [Order::Promote, Order::Pause, Order::Resume, Order::Abort, Order::Rollback];
        let order = orders[usize::try_from(self.draw(5)).unwrap()];
        let answer = self.machine.order(self.now, order, "ann");
        self.note(format!("{order:?}: {answer:?}"));
        self.obey();
    }

    fn lock(&mut self) {
        let answer = match self.one_in(2) {
            true => self.machine.lock(self.now, "ann", "a sale"),
            false => self.machine.unlock(self.now),
        };
        self.note(format!("lock: {answer:?}"));
        self.obey();
    }

    fn disturb(&mut self) {
        match self.draw(60) {
            0 => self.crash(false),
            1 => self.crash(true),
            2 => {
                self.disk_works = !self.disk_works;
                self.note(format!("the disk works: {}", self.disk_works));
            }
            3 => {
                self.threads_work = !self.threads_work;
                self.note(format!("threads acknowledge: {}", self.threads_work));
            }
            4 => self.order(),
            5 => self.begin(),
            6 => self.lock(),
            _ => {}
        }
    }

    /// All-old or all-new: processes, routes and what is stored say the same.
    fn is_whole(&self) -> bool {
        let row = self.machine.row();
        let all: BTreeSet<Slot> = (1..=self.replicas).map(|number| Slot::new(&row.stable, number)).collect();
        row.active().is_none()
            && self.real.keys().cloned().collect::<BTreeSet<_>>() == all
            // A version that shows only later that it is no good may have come through.
            && (&*row.stable == "v2" && self.nature != Nature::Good
                || self.real.values().all(|real| real.up_since.is_some()))
            && self.threads.iter().all(|thread| self.tables[*thread] == all)
            && self.stored == *row
    }

    fn play(&mut self) {
        for _ in 0..20 {
            self.live();
        }
        self.begin();
        for _ in 0..200 {
            self.live();
            self.disturb();
        }
        (self.disk_works, self.threads_work) = (true, true);
        self.note("from now on nothing disturbs".into());
        for turn in 0..3000 {
            self.live();
            if turn % 500 == 499 {
                // Whoever was told that it is held decides.
                for order in [Order::Resume, Order::Promote] {
                    let _ = self.machine.order(self.now, order, "ann");
                    self.obey();
                }
            }
            if self.is_whole() {
                return;
            }
        }
        panic!("I10: {:?}\n{:?}", self.machine.row(), self.real);
    }
}

fn draw(chance: &mut u64, below: u64) -> u64 {
    *chance ^= *chance << 13;
    *chance ^= *chance >> 7;
    *chance ^= *chance << 17;
    (*chance >> 11) % below
}

#[expect(
    clippy::disallowed_methods,
    reason = "core reads no environment, but its tests are told how much to do"
)]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn in_every_world_the_invariants_hold_and_it_ends_all_old_or_all_new() {
    let seeds = match number("EVERUP_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("EVERUP_SIM_SEEDS").unwrap_or(150),
    };
    let (mut done, mut back) = (0, 0);
    for seed in seeds {
        let mut world = World::new(seed);
        let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.play()));
        if played.is_err() {
            let story = world.story.join("\n");
            panic!(
                "{story}\nseed {seed}; again: EVERUP_SIM_SEED={seed} cargo test -p everup-core in_every_world"
            );
        }
        match world.machine.row().stable.as_ref() {
            "v2" => done += 1,
            _ => back += 1,
        }
    }
    println!("{done} worlds ended with the new revision, {back} with the old one");
}
