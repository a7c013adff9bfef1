//! The machine step by step, with everything around it played by hand.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::ids::Generation;
use crate::time::Time;

/// A machine, and what the world around it would know.
pub(super) struct Play {
    pub(super) machine: Machine,
    pub(super) now: Time,
    generation: u64,
    /// Outputs since they were last asked for, but for those that `settle` answers.
    told: Vec<String>,
    /// The store and the threads answer by themselves.
    pub(super) answers: bool,
    acknowledges: bool,
    /// The hook that was ordered last.
    pub(super) hook: Option<HookOrder>,
}

pub(super) const S: Duration = Duration::from_secs(1);

impl Play {
    /// Two instances of v1 are up; v2 is being deployed.
    pub(super) fn deploying(deploy: &str) -> Self {
        let mut stage = Self::new(Row::new("v1"));
        let begin = Begin {
            id: "d1".into(),
            to: "v2".into(),
            by: "ann".into(),
            reason: String::new(),
            settings: settings(deploy),
            is_rollback: false,
        };
        stage.machine.begin(stage.now, begin).unwrap();
        stage.settle();
        stage
    }

    pub(super) fn new(row: Row) -> Self {
        let given = Given { service: "shop".into(), replicas: 2, drain: Duration::from_secs(30) };
        let mut machine = Machine::new(given, row, Generation(0));
        let now = Time::from_millis(1_800_000_000_000);
        for number in 1..=2 {
            machine.adopt(now, Slot::new(&"v1".into(), number), up());
        }
        machine.handle(now, Input::Published { number: 0, generation: Generation(1) });
        machine.handle(now, Input::Acknowledged(Generation(1)));
        Self { machine, now, generation: 1, told: Vec::new(), answers: true, acknowledges: true, hook: None }
    }

    pub(super) fn settle(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Store(row) if self.answers => {
                    self.machine.handle(self.now, Input::Stored(row.version))
                }
                Output::Store(_) => self.told.push("store".into()),
                Output::Route { number, slots } => {
                    self.generation += 1;
                    let generation = Generation(self.generation);
                    self.told.push(format!("route {}", self.names(&slots)));
                    self.machine.handle(self.now, Input::Published { number, generation });
                    if self.acknowledges {
                        self.machine.handle(self.now, Input::Acknowledged(generation));
                    }
                }
                Output::Start(slot) => self.told.push(format!("start {}", self.machine.name(&slot))),
                Output::Stop(slot) => self.told.push(format!("stop {}", self.machine.name(&slot))),
                Output::Forget(slot) => self.told.push(format!("forget {}", self.machine.name(&slot))),
                Output::Hook(order) => {
                    self.told.push(match &order.task {
                        Task::Command { command, .. } => format!("hook {} {}", order.run, command.join(" ")),
                        Task::WarmUp(WarmUp { path, .. }) => format!("warm up {} {path}", order.run),
                    });
                    self.hook = Some(*order);
                }
                Output::EndHook => self.told.push("end the hook".into()),
                Output::Quote(_) => self.machine.handle(self.now, Input::Quoted(vec!["oh no".into()])),
            }
        }
    }

    fn names(&self, slots: &BTreeSet<Slot>) -> String {
        slots.iter().map(|slot| self.machine.name(slot)).collect::<Vec<_>>().join(" ")
    }

    pub(super) fn sees(&mut self, revision: &str, number: usize, seen: Seen) {
        let slot = Slot::new(&revision.into(), number);
        self.machine.handle(self.now, Input::Instance { slot, seen });
        self.settle();
    }

    pub(super) fn after(&mut self, time: Duration) {
        self.now = self.now + time;
        self.machine.handle(self.now, Input::Wakeup);
        self.settle();
    }

    pub(super) fn order(&mut self, order: Order) -> Result<String, String> {
        let answer = self.machine.order(self.now, order, "ann");
        self.settle();
        answer
    }

    /// The hook that was ordered last is over.
    pub(super) fn hook_ends(&mut self, passed: bool) {
        let HookOrder { deployment, run, .. } = self.hook.clone().expect("one was ordered");
        let text = if passed { "exited with code 0" } else { "exited with code 1" }.to_owned();
        let output = vec!["it said so".to_owned()];
        self.machine.handle(self.now, Input::HookEnded(HookResult { deployment, run, passed, text, output }));
        self.settle();
    }

    pub(super) fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }

    pub(super) fn at(&self) -> String {
        self.machine.row().deployment.as_ref().unwrap().in_words()
    }
}

pub(super) fn up() -> Seen {
    Seen { process: Process::Running, up: true, ..Seen::default() }
}

pub(super) fn with(process: Process) -> Seen {
    Seen { process, ..Seen::default() }
}

fn dead(deaths: u32) -> Seen {
    Seen { process: Process::Backoff, deaths, trouble: "exited with code 7".into(), ..Seen::default() }
}

const ROLLING: &str = "batch = 1\npause_between = \"0s\"";
const BLUE_GREEN: &str = "strategy = \"blue-green\"";

#[test]
fn a_rolling_deployment_from_begin_to_end() {
    let mut stage = Play::deploying(ROLLING);
    assert_eq!(stage.told(), ["start shop-v2-1"]);
    stage.sees("v2", 1, up());
    assert_eq!(stage.told(), Vec::<String>::new(), "it has not proved itself");
    stage.after(3 * S);
    assert_eq!(stage.told(), ["route shop-2 shop-v2-1", "stop shop-1"]);
    stage.sees("v1", 1, with(Process::Absent));
    assert_eq!(stage.told(), ["forget shop-1", "start shop-v2-2"]);
    stage.sees("v2", 2, up());
    stage.after(3 * S);
    assert_eq!(stage.told(), ["route shop-v2-1 shop-v2-2", "stop shop-2"]);
    assert_eq!(&*stage.machine.row().stable, "v1");
    stage.sees("v1", 2, with(Process::Absent));
    assert_eq!(stage.told(), ["forget shop-2"]);
    assert_eq!(stage.at(), "done: v2 serves");
    assert_eq!(&*stage.machine.row().stable, "v2");
    assert_eq!(stage.machine.previous().map(|previous| &**previous), Some("v1"));
}

#[test]
fn nothing_happens_before_it_is_stored_and_nothing_more_while_it_cannot_be() {
    let mut stage = Play::new(Row::new("v1"));
    stage.answers = false;
    let settings = settings(ROLLING);
    let begin = Begin {
        id: "d1".into(),
        to: "v2".into(),
        by: "ann".into(),
        reason: String::new(),
        settings,
        is_rollback: false,
    };
    stage.machine.begin(stage.now, begin).unwrap();
    stage.settle();
    assert_eq!(stage.told(), ["store"]);
    stage.machine.handle(stage.now, Input::StoreFailed("disk full".into()));
    stage.after(S);
    assert_eq!(stage.told(), ["store"], "tried again");
    assert!(stage.order(Order::Abort).unwrap_err().contains("disk full"));
    stage.machine.handle(stage.now, Input::Stored(1));
    stage.settle();
    assert_eq!(stage.told(), ["start shop-v2-1"]);
}

#[test]
fn no_instance_is_stopped_before_the_table_without_it_is_acknowledged() {
    let mut stage = Play::deploying(ROLLING);
    stage.sees("v2", 1, up());
    stage.acknowledges = false;
    stage.after(3 * S);
    stage.after(3 * S);
    assert_eq!(stage.told(), ["start shop-v2-1", "route shop-2 shop-v2-1"]);
    stage.after(30 * S);
    assert!(stage.at().starts_with("held: not every thread"), "{}", stage.at());
    assert_eq!(stage.told(), Vec::<String>::new());
    stage.machine.handle(stage.now, Input::Acknowledged(Generation(2)));
    stage.settle();
    assert_eq!(stage.told(), ["stop shop-1"]);
    assert!(!stage.at().starts_with("held"), "{}", stage.at());
}

#[test]
fn requests_in_flight_are_waited_for_as_long_as_a_drain_may_take() {
    let busy = Seen { busy: true, ..up() };
    for (waited, told) in [(29 * S, Vec::new()), (30 * S, vec!["stop shop-1".to_owned()])] {
        let mut stage = Play::deploying(ROLLING);
        stage.sees("v2", 1, up());
        stage.sees("v1", 1, busy.clone());
        stage.after(3 * S);
        stage.told();
        stage.after(waited);
        assert_eq!(stage.told(), told);
        assert!(stage.machine.is_draining());
    }
}

#[test]
fn a_version_that_exits_at_start_never_gets_a_request() {
    let mut stage = Play::deploying(ROLLING);
    stage.sees("v2", 1, dead(1));
    assert_eq!(stage.told(), ["start shop-v2-1"], "once may be an accident");
    stage.sees("v2", 1, dead(2));
    assert_eq!(stage.told(), ["stop shop-v2-1"]);
    stage.sees("v2", 1, with(Process::Absent));
    assert_eq!(stage.at(), "rolled back to v1: shop-v2-1 died 2 times: exited with code 7");
    assert_eq!(stage.machine.row().deployment.as_ref().unwrap().log, ["oh no"]);
    assert_eq!(&*stage.machine.row().stable, "v1");
}

#[test]
fn a_version_that_is_never_up_is_given_up_in_time() {
    let mut stage = Play::deploying("start_timeout = \"10s\"");
    stage.sees("v2", 1, with(Process::Running));
    stage.after(12 * S);
    assert!(stage.at().starts_with("wait until"), "{}", stage.at());
    stage.after(S);
    assert!(stage.at().contains("was not up in time"), "{}", stage.at());
}

#[test]
fn a_version_that_dies_with_requests_goes_back_through_old_ones_that_start_again() {
    let mut stage = Play::deploying(ROLLING);
    stage.sees("v2", 1, up());
    stage.after(3 * S);
    stage.sees("v1", 1, with(Process::Absent));
    stage.told();
    stage.sees("v2", 1, dead(1));
    assert_eq!(stage.told(), ["route shop-1 shop-2 shop-v2-1", "start shop-1", "stop shop-v2-2"]);
    stage.sees("v1", 1, up());
    assert_eq!(stage.told(), ["route shop-1 shop-2", "stop shop-v2-1"]);
    stage.sees("v2", 1, with(Process::Absent));
    stage.sees("v2", 2, with(Process::Absent));
    assert!(stage.at().starts_with("rolled back to v1: shop-v2-1 died"), "{}", stage.at());
}

#[test]
fn when_the_old_ones_fail_too_everything_is_held_and_the_operator_decides() {
    let mut stage = Play::deploying(ROLLING);
    stage.sees("v1", 1, with(Process::Running));
    stage.sees("v2", 1, dead(2));
    assert!(stage.at().contains("the old revision fails too"), "{}", stage.at());
    assert_eq!(stage.told(), ["start shop-v2-1"]);
    stage.order(Order::Resume).unwrap();
    assert!(!stage.at().starts_with("held"), "{}", stage.at());
    stage.order(Order::Abort).unwrap();
    assert_eq!(stage.told(), ["stop shop-v2-1"]);
}

#[test]
fn on_fail_hold_leaves_everything_as_it_is() {
    let mut stage = Play::deploying("on_fail = \"hold\"");
    stage.sees("v2", 1, dead(2));
    assert!(stage.at().starts_with("held: shop-v2-1 died"), "{}", stage.at());
    assert_eq!(stage.told(), ["start shop-v2-1"]);
}

/// Blue-green up to the time in which the old ones are kept.
fn switched() -> Play {
    let mut stage = Play::deploying(BLUE_GREEN);
    assert_eq!(stage.told(), ["start shop-v2-1", "start shop-v2-2"]);
    stage.sees("v2", 1, up());
    stage.after(S);
    stage.sees("v2", 2, up());
    stage.after(2 * S);
    assert_eq!(stage.told(), Vec::<String>::new(), "the second one has not proved itself");
    stage.after(S);
    assert_eq!(stage.told(), ["route shop-v2-1 shop-v2-2"], "one table, and nobody is stopped");
    assert_eq!(&*stage.machine.row().stable, "v2");
    stage
}

#[test]
fn blue_green_ends_the_old_ones_after_the_time_for_a_rollback() {
    let mut stage = switched();
    stage.after(599 * S);
    assert_eq!(stage.told(), Vec::<String>::new());
    stage.after(S);
    assert_eq!(stage.told(), ["stop shop-1", "stop shop-2"]);
    stage.sees("v1", 1, with(Process::Absent));
    stage.sees("v1", 2, with(Process::Absent));
    assert_eq!(stage.at(), "done: v2 serves");
}

#[test]
fn a_rollback_while_the_old_ones_are_kept_is_one_table() {
    let mut stage = switched();
    assert!(stage.order(Order::Abort).unwrap_err().contains("everup rollback shop"));
    stage.order(Order::Rollback).unwrap();
    assert_eq!(stage.told(), ["route shop-1 shop-2", "stop shop-v2-1", "stop shop-v2-2"]);
    assert_eq!(&*stage.machine.row().stable, "v1");
    assert_eq!(stage.machine.previous(), None);
}

#[test]
fn a_failure_while_the_old_ones_are_kept_goes_back_by_itself() {
    let mut stage = switched();
    stage.sees("v2", 2, dead(1));
    assert_eq!(stage.told(), ["route shop-1 shop-2", "stop shop-v2-1", "stop shop-v2-2"]);
}

#[test]
fn the_next_deployment_ends_the_retention_and_deploying_the_old_revision_is_a_rollback() {
    let begin = |to: &str| Begin {
        id: "d2".into(),
        to: to.into(),
        by: "ann".into(),
        reason: String::new(),
        settings: settings(ROLLING),
        is_rollback: false,
    };
    let mut stage = switched();
    let now = stage.now;
    assert!(stage.machine.begin(now, begin("v2")).unwrap_err().contains("runs v2 already"));
    assert_eq!(stage.machine.begin(now, begin("v1")), Ok("d1".into()));
    stage.settle();
    assert_eq!(stage.told()[0], "route shop-1 shop-2");

    let mut stage = switched();
    assert_eq!(stage.machine.begin(now, begin("v3")), Ok("d2".into()));
    stage.settle();
    let told = stage.told();
    assert!(told.contains(&"start shop-v3-1".into()) && told.contains(&"stop shop-1".into()), "{told:?}");
}

#[test]
fn a_second_deployment_is_refused_while_the_first_has_not_come_through() {
    let mut stage = Play::deploying(ROLLING);
    let settings = settings(ROLLING);
    let begin = Begin {
        id: "d2".into(),
        to: "v3".into(),
        by: "bob".into(),
        reason: String::new(),
        settings,
        is_rollback: false,
    };
    let refused = stage.machine.begin(stage.now, begin).unwrap_err();
    assert!(refused.contains("is being deployed from v1 to v2"), "{refused}");
}

#[test]
fn an_approval_is_waited_for_and_a_pause_holds_the_next_step_but_no_rollback() {
    let mut stage = Play::deploying("approve = \"manual\"\nbatch = 1");
    assert!(stage.order(Order::Promote).unwrap_err().contains("start instance 1"));
    stage.sees("v2", 1, up());
    stage.after(3 * S);
    stage.after(100 * S);
    assert_eq!(stage.at(), "wait for `everup promote`");
    stage.order(Order::Pause).unwrap();
    stage.order(Order::Promote).unwrap();
    assert_eq!(stage.told(), ["start shop-v2-1"], "paused");
    stage.order(Order::Resume).unwrap();
    assert_eq!(stage.told(), ["route shop-2 shop-v2-1", "stop shop-1"]);
    stage.order(Order::Pause).unwrap();
    stage.sees("v2", 1, dead(1));
    assert!(stage.at().starts_with("goes back to v1"), "{}", stage.at());
}

#[test]
fn orders_without_a_deployment_change_nothing_and_say_so() {
    let mut stage = Play::new(Row::new("v1"));
    for order in [Order::Promote, Order::Pause, Order::Resume, Order::Abort, Order::Rollback] {
        assert_eq!(stage.order(order), Err("nothing is being deployed to shop".to_owned()));
    }
    assert_eq!(stage.told(), Vec::<String>::new());
}

#[test]
fn without_a_store_everything_goes_on_and_nothing_is_deployed() {
    let mut stage = Play::new(Row::new("v1"));
    stage.machine.freeze("it is broken");
    stage.sees("v1", 1, dead(9));
    stage.after(1000 * S);
    assert_eq!(stage.told(), Vec::<String>::new());
    let settings = settings(ROLLING);
    let begin = Begin {
        id: "d1".into(),
        to: "v2".into(),
        by: "ann".into(),
        reason: String::new(),
        settings,
        is_rollback: false,
    };
    assert!(stage.machine.begin(stage.now, begin).unwrap_err().contains("it is broken"));
}

#[test]
fn what_was_proved_before_a_crash_is_proved_again() {
    let mut stage = Play::deploying(ROLLING);
    stage.sees("v2", 1, up());
    stage.after(2 * S);
    let given = stage.machine.given.clone();
    let mut machine = Machine::new(given, stage.machine.durable().clone(), Generation(0));
    for (revision, number) in [("v1", 1), ("v1", 2), ("v2", 1)] {
        machine.adopt(stage.now, Slot::new(&revision.into(), number), up());
    }
    stage.machine = machine;
    stage.told();
    stage.after(2 * S);
    assert_eq!(stage.told(), Vec::<String>::new());
    stage.after(S);
    assert_eq!(stage.told(), ["route shop-2 shop-v2-1", "stop shop-1"]);
}

fn replicas(replicas: usize) -> Given {
    Given { service: "shop".into(), replicas, drain: Duration::from_secs(30) }
}

#[test]
fn other_replicas_come_and_go_and_the_last_one_that_is_up_stays() {
    let mut stage = Play::new(Row::new("v1"));
    stage.machine.give(stage.now, replicas(3));
    stage.settle();
    assert_eq!(stage.told(), ["route shop-1 shop-2 shop-3", "start shop-3"]);
    stage.sees("v1", 3, up());
    for number in 1..=2 {
        stage.sees("v1", number, dead(1));
    }
    stage.machine.give(stage.now, replicas(2));
    stage.settle();
    assert_eq!(stage.told(), Vec::<String>::new(), "only the one that is to go is up");
    stage.sees("v1", 1, Seen { deaths: 1, ..up() });
    assert_eq!(stage.told(), ["route shop-1 shop-2", "stop shop-3"]);
    stage.sees("v1", 3, with(Process::Absent));
    assert_eq!(stage.told(), ["forget shop-3"]);
}

#[test]
fn a_shift_is_not_done_while_its_table_waits_for_an_instance_that_went_down_meanwhile() {
    let mut play = Play::deploying("strategy = \"blue-green\"");
    for number in 1..=2 {
        play.sees("v2", number, up());
    }
    play.answers = false;
    // The shift is decided, and on its way to the disk.
    play.after(S * 3);
    let version = play.machine.row().version;
    let down = Seen { up: false, ..up() };
    play.sees("v2", 1, down);
    play.answers = true;
    play.machine.handle(play.now, Input::Stored(version));
    play.settle();
    let step = |play: &Play| play.machine.row().active().and_then(|deployment| deployment.step().cloned());
    assert_eq!(step(&play), Some(Step::Shift { admitted: 2, retired: 2 }));
    play.sees("v2", 1, up());
    assert_ne!(step(&play), Some(Step::Shift { admitted: 2, retired: 2 }));
}

#[test]
fn a_machine_that_begins_anew_does_nothing_that_is_not_stored_and_stores_it_again() {
    let mut play = Play::deploying("");
    for number in 1..=2 {
        play.sees("v2", number, up());
    }
    play.answers = false;
    play.after(S * 3);
    let (durable, newest) = (play.machine.durable().clone(), play.machine.row().clone());
    assert!(newest.version > durable.version);
    play.machine.handle(play.now, Input::StoreFailed("full".into()));
    play.machine.begin_anew(Generation(9));
    assert_eq!((play.machine.durable(), play.machine.row()), (&durable, &newest));
    assert_eq!(play.machine.trouble(), Some("full"));
    let again = play.machine.poll_output();
    assert!(matches!(&again, Some(Output::Store(row)) if **row == newest), "{again:?}");
}
