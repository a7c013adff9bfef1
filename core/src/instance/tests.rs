//! The whole table: every input in every state, and the rules that need more than one step.

use super::*;
use State::{Backoff, Cancelling, Killing, Running, Starting, Stopped, Stopping};

/// The time of every input in the table: late enough for a process of old to be stable.
const NOW: Time = Time::from_millis(100_000);
const LATER: Time = Time::from_millis(100_500);
const GRACE: Duration = Duration::from_secs(3);

const DIED: ExitStatus = ExitStatus::Signal(9);
const FRESH: State = Running { stable_at: Time::from_millis(110_000), up: false };
const PROVED: State = Running { stable_at: NOW, up: true };
const DUE: State = Backoff { until: NOW };
const EARLY: State = Backoff { until: LATER };
const CANCELLING: State = Cancelling { grace: Duration::from_secs(5) };
const ENDING: State = Stopping { kill_at: LATER };
const OVERDUE: State = Stopping { kill_at: NOW };

fn machine_in(state: State) -> Machine {
    Machine { state, ..Machine::default() }
}

fn after(state: State, input: Input) -> (State, Vec<Output>) {
    let mut machine = machine_in(state);
    machine.handle(NOW, input);
    (machine.state, outputs(&mut machine))
}

fn outputs(machine: &mut Machine) -> Vec<Output> {
    std::iter::from_fn(|| machine.poll_output()).filter(|output| *output != Output::Changed).collect()
}

fn inputs() -> [Input; 9] {
    [
        Input::Start,
        Input::Adopt,
        Input::Started,
        Input::StartFailed("no".into()),
        Input::Exited(DIED),
        Input::Stop { grace: GRACE },
        Input::Kill,
        Input::BecameUp,
        Input::Wakeup,
    ]
}

/// The row of the table: what each of [`inputs`] makes of the state. None: nothing.
fn expect(state: State, row: [Option<(State, &[Output])>; 9]) {
    for (input, expected) in inputs().into_iter().zip(row) {
        let (next, outputs) = expected.unwrap_or((state, &[]));
        assert_eq!(after(state, input.clone()), (next, outputs.to_vec()), "{state:?} × {input:?}");
    }
}

const START: &[Output] = &[Output::StartProcess];
const TERMINATE: &[Output] = &[Output::Signal(StopSignal::Terminate)];
const KILL: &[Output] = &[Output::Signal(StopSignal::Kill)];
const NOTHING: &[Output] = &[];
const FIRST_PAUSE: State = Backoff { until: Time::from_millis(100_200) };
const ENDS_IN_GRACE: State = Stopping { kill_at: Time::from_millis(103_000) };

#[test]
fn every_input_while_no_process_runs_does_what_the_table_says() {
    expect(
        Stopped,
        [
            Some((Starting, START)),
            Some((PROVED, NOTHING)),
            Some((Killing, KILL)),
            None,
            None,
            None,
            None,
            None,
            None,
        ],
    );
    let cancelled = Cancelling { grace: GRACE };
    expect(
        Starting,
        [
            None,
            None,
            Some((FRESH, NOTHING)),
            Some((FIRST_PAUSE, NOTHING)),
            None,
            Some((cancelled, NOTHING)),
            None,
            None,
            None,
        ],
    );
    for (state, wakeup) in [(DUE, Some((Starting, START))), (EARLY, None)] {
        expect(
            state,
            [None, None, Some((Killing, KILL)), None, None, Some((Stopped, NOTHING)), None, None, wakeup],
        );
    }
}

#[test]
fn every_input_while_a_process_runs_does_what_the_table_says() {
    let fresh_up = Running { stable_at: Time::from_millis(110_000), up: true };
    let stop = Some((ENDS_IN_GRACE, TERMINATE));
    expect(
        FRESH,
        [
            None,
            None,
            None,
            None,
            Some((FIRST_PAUSE, NOTHING)),
            stop,
            Some((FRESH, KILL)),
            Some((fresh_up, NOTHING)),
            None,
        ],
    );
    expect(PROVED, [None, None, None, None, Some((Starting, START)), stop, Some((PROVED, KILL)), None, None]);
}

#[test]
fn every_input_while_an_instance_is_ended_does_what_the_table_says() {
    let cancelled = Cancelling { grace: GRACE };
    let at_once = Cancelling { grace: Duration::ZERO };
    let ends_later = Stopping { kill_at: Time::from_millis(105_000) };
    expect(
        CANCELLING,
        [
            Some((Starting, NOTHING)),
            None,
            Some((ends_later, TERMINATE)),
            Some((Stopped, NOTHING)),
            None,
            Some((cancelled, NOTHING)),
            Some((at_once, NOTHING)),
            None,
            None,
        ],
    );
    for (state, wakeup) in [(ENDING, None), (OVERDUE, Some((Killing, KILL)))] {
        let stopped = Some((Stopped, NOTHING));
        expect(state, [None, None, None, None, stopped, None, Some((Killing, KILL)), None, wakeup]);
    }
    expect(Killing, [None, None, None, None, Some((Stopped, NOTHING)), None, None, None, None]);
}

#[test]
fn a_second_stop_shortens_the_grace_and_never_lengthens_it() {
    let mut machine = machine_in(PROVED);
    for (grace, expected) in [(5, 105), (60, 105), (1, 101)] {
        machine.handle(NOW, Input::Stop { grace: Duration::from_secs(grace) });
        assert_eq!(machine.next_wakeup(), Some(Time::from_millis(expected * 1000)));
    }
    assert_eq!(outputs(&mut machine), TERMINATE);
}

#[test]
fn an_instance_that_is_wanted_again_while_it_ends_starts_afterwards_unless_it_is_stopped_again() {
    for state in [ENDING, Killing] {
        let mut machine = machine_in(state);
        machine.handle(NOW, Input::Start);
        machine.handle(NOW, Input::Exited(DIED));
        assert_eq!((machine.state, outputs(&mut machine)), (Starting, START.to_vec()));

        let mut machine = machine_in(state);
        machine.handle(NOW, Input::Start);
        machine.handle(NOW, Input::Stop { grace: GRACE });
        machine.handle(NOW, Input::Exited(DIED));
        assert_eq!((machine.state, outputs(&mut machine)), (Stopped, vec![]));
    }
}

/// One short life: started at `now`, dead 10 ms later.
fn live_and_die(machine: &mut Machine, now: Time) {
    machine.handle(now, Input::Started);
    machine.handle(now, Input::BecameUp);
    machine.handle(now + Duration::from_millis(10), Input::Exited(DIED));
}

#[test]
fn quick_deaths_are_answered_after_growing_pauses_up_to_a_limit() {
    let mut machine = Machine::default();
    let mut now = NOW;
    machine.handle(now, Input::Start);
    let mut pauses = Vec::new();
    for _ in 0..10 {
        live_and_die(&mut machine, now);
        let due = machine.next_wakeup().unwrap();
        pauses.push(due.since(now).as_millis() - 10);
        now = due;
        machine.handle(now, Input::Wakeup);
    }
    assert_eq!(pauses, [200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000]);
    assert_eq!(machine.restarts(), 10);
}

#[test]
fn three_quick_deaths_are_a_crash_loop_until_a_process_is_up_and_stable() {
    let mut machine = Machine::default();
    machine.handle(NOW, Input::Start);
    for deaths in 1..=3 {
        live_and_die(&mut machine, NOW);
        assert_eq!(machine.crash_loop(), deaths == 3);
        machine.handle(machine.next_wakeup().unwrap(), Input::Wakeup);
    }
    machine.handle(NOW, Input::Started);
    assert_eq!(machine.next_wakeup(), None);
    machine.handle(NOW, Input::BecameUp);
    machine.handle(NOW + STABLE - Duration::from_millis(1), Input::Wakeup);
    assert!(machine.crash_loop());
    outputs(&mut machine);
    machine.handle(machine.next_wakeup().unwrap(), Input::Wakeup);
    assert!(!machine.crash_loop());
    assert_eq!(machine.poll_output(), Some(Output::Changed));
    assert_eq!(machine.next_wakeup(), None);
}

#[test]
fn an_adopted_process_is_stable_also_at_the_beginning_of_time() {
    let mut machine = Machine::new(4);
    machine.handle(Time::ZERO, Input::Adopt);
    machine.handle(Time::ZERO, Input::Exited(DIED));
    assert_eq!((machine.state, machine.restarts()), (Starting, 5));
}

#[test]
fn a_process_that_was_never_up_dies_quickly_however_long_it_lived() {
    let mut machine = machine_in(Running { stable_at: Time::ZERO, up: false });
    machine.handle(NOW, Input::Exited(DIED));
    assert_eq!(machine.state, FIRST_PAUSE);
}

#[test]
fn a_process_that_becomes_up_late_is_stable_at_once() {
    let mut machine = machine_in(Running { stable_at: Time::ZERO, up: false });
    machine.quick_deaths = 5;
    machine.handle(NOW, Input::BecameUp);
    assert!(!machine.crash_loop());
    machine.handle(NOW, Input::Exited(DIED));
    assert_eq!((machine.state, machine.restarts()), (Starting, 1));
}

#[test]
fn a_stop_makes_the_past_forgotten() {
    let mut machine = machine_in(EARLY);
    machine.quick_deaths = 5;
    machine.handle(NOW, Input::Stop { grace: GRACE });
    assert!(!machine.crash_loop());
}

#[test]
fn what_is_shown_follows_the_state() {
    let states =
        [Stopped, Starting, FRESH, EARLY, CANCELLING, ENDING, Killing].map(|state| machine_in(state).phase());
    let phases = [
        Phase::Stopped,
        Phase::Starting,
        Phase::Running,
        Phase::Backoff,
        Phase::Stopping,
        Phase::Stopping,
        Phase::Stopping,
    ];
    assert_eq!(states, phases);
}

#[test]
fn the_shown_time_is_that_of_the_phase() {
    let mut machine = machine_in(PROVED);
    machine.handle(NOW, Input::Stop { grace: GRACE });
    machine.handle(LATER, Input::Kill);
    assert_eq!((machine.phase(), machine.since()), (Phase::Stopping, NOW));
}

#[test]
fn the_last_end_is_told_in_words() {
    let mut machine = machine_in(Starting);
    machine.handle(NOW, Input::StartFailed("./shop does not exist".into()));
    assert_eq!(machine.last_exit().unwrap().to_string(), "could not be started: ./shop does not exist");
    let mut machine = machine_in(PROVED);
    machine.handle(NOW, Input::Exited(ExitStatus::Code(1)));
    assert_eq!(machine.last_exit().unwrap().to_string(), "exited with code 1");
}
