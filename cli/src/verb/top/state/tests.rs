//! What keys and answers do to the state, one behaviour per test; the tests play operator and everup.

use std::time::UNIX_EPOCH;

use everup_admin::api::EventKind;

use super::*;

pub(in super::super) fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

pub(in super::super) fn instance(name: &str, state: InstanceState, requests: u64) -> InstanceStatus {
    InstanceStatus {
        name: name.into(),
        address: "127.0.0.1:20000".into(),
        state,
        reason: String::new(),
        returns_in_seconds: None,
        weight: 1,
        backup: false,
        requests,
        in_flight: requests % 7,
        tunnels: 0,
        pid: None,
        revision: None,
        restarts: 0,
        since_seconds: 75.0,
        log: Vec::new(),
    }
}

pub(in super::super) fn service(name: &str, instances: Vec<InstanceStatus>) -> ServiceStatus {
    ServiceStatus {
        name: name.into(),
        balance: "round-robin".into(),
        leaves: false,
        requests_per_second: 99.6,
        in_flight: 2,
        parked: 0,
        queued: 0,
        requests: 0,
        errors: 0,
        retries: 0,
        p50_ms: Some(1.25),
        p99_ms: Some(12.3),
        instances,
        lock: None,
        deployment: None,
    }
}

pub(in super::super) fn status(uptime_seconds: f64, services: Vec<ServiceStatus>) -> Status {
    Status {
        node: "lb1".into(),
        version: "0.1.0".into(),
        config: "q.toml".into(),
        worker_pid: 2,
        keeper_pid: 1,
        worker_restarts: 0,
        generation: 4,
        uptime_seconds,
        ready: true,
        keeper_gone: false,
        warnings: Vec::new(),
        stopping: false,
        connections: 3,
        metrics: None,
        listeners: Vec::new(),
        services,
        leaving: Vec::new(),
    }
}

pub(in super::super) fn events(texts: &[&str]) -> Events {
    let event = |(number, text): (u64, &&str)| Event {
        number,
        time: "2026-11-22T11:58:26.123Z".into(),
        kind: EventKind::Down,
        service: Some("shop".into()),
        instance: Some("shop-1".into()),
        table: 4,
        text: (*text).into(),
    };
    Events { last: texts.len() as u64, events: (1..).zip(texts).map(event).collect() }
}

/// `shop` with a slow, a failed and a busy instance, and `api` with one.
pub(in super::super) fn shop(uptime: f64, requests: [u64; 3]) -> Status {
    let shop = vec![
        instance("shop-1", InstanceState::Up, requests[0]),
        instance("shop-2", InstanceState::Down, requests[1]),
        instance("shop-3", InstanceState::Up, requests[2]),
    ];
    let api = vec![instance("api-1", InstanceState::Up, 0)];
    status(uptime, vec![service("shop", shop), service("api", api)])
}

pub(in super::super) fn looked(status: Status) -> Input {
    Input::Looked(Box::new(Ok((status, events(&[])))))
}

pub(in super::super) fn press(state: &mut State, key: char) -> Option<Output> {
    state.handle(at(0), Input::Key(KeyEvent::new(KeyCode::Char(key), KeyModifiers::NONE)))
}

pub(in super::super) fn seen() -> State {
    let mut state = State::default();
    state.handle(at(0), looked(shop(10.0, [0, 0, 0])));
    state
}

fn names(state: &State) -> Vec<String> {
    let name = |row: &Row<'_>| row.id().map(|id| id.instance.to_string());
    state.rows().iter().filter_map(name).collect()
}

fn chosen(state: &State) -> String {
    let rows = state.rows();
    rows[state.selected(&rows).unwrap()].id().unwrap().to_string()
}

#[test]
fn the_first_instance_is_selected_until_keys_choose_another_and_services_are_skipped() {
    let mut state = seen();
    assert_eq!(chosen(&state), "shop/shop-1");
    for (key, then) in [('j', "shop/shop-2"), ('j', "shop/shop-3"), ('j', "api/api-1"), ('j', "api/api-1")] {
        press(&mut state, key);
        assert_eq!(chosen(&state), then);
    }
    press(&mut state, 'k');
    assert_eq!(chosen(&state), "shop/shop-3");
    for (code, then) in
        [(KeyCode::Home, "shop/shop-1"), (KeyCode::Up, "shop/shop-1"), (KeyCode::End, "api/api-1")]
    {
        state.handle(at(0), Input::Key(code.into()));
        assert_eq!(chosen(&state), then);
    }
}

#[test]
fn the_selection_stays_with_its_instance_when_the_order_changes() {
    let mut state = seen();
    state.handle(at(1), looked(shop(15.0, [5, 0, 500])));
    press(&mut state, 'j');
    assert_eq!(chosen(&state), "shop/shop-2");
    for order in [
        ["shop-2", "shop-1", "shop-3", "api-1"], // by trouble
        ["shop-3", "shop-1", "shop-2", "api-1"], // by rate
        ["shop-1", "shop-3", "shop-2", "api-1"], // by in flight: 5, 500 % 7, 0
        ["shop-1", "shop-2", "shop-3", "api-1"], // as configured
    ] {
        press(&mut state, 's');
        assert_eq!(names(&state), order, "{:?}", state.sort());
        assert_eq!(chosen(&state), "shop/shop-2");
    }
}

#[test]
fn a_drain_is_asked_first_and_only_yes_means_yes() {
    let mut state = seen();
    for no in ['n', 'd', 'q', ' '] {
        assert_eq!(press(&mut state, 'd'), None);
        assert!(matches!(state.mode(), Mode::Confirm { is_last: false, .. }));
        assert_eq!(press(&mut state, no), None, "{no}");
        assert_eq!(state.mode(), &Mode::Usual);
    }
    press(&mut state, 'd');
    assert_eq!(press(&mut state, 'y'), Some(Output::Drain(InstanceId::new("shop", "shop-1"))));
}

#[test]
fn what_is_drained_is_what_was_asked_even_if_the_picture_changed_meanwhile() {
    let mut state = seen();
    press(&mut state, 'd');
    state.handle(
        at(1),
        looked(status(11.0, vec![service("api", vec![instance("api-1", InstanceState::Up, 0)])])),
    );
    assert_eq!(press(&mut state, 'y'), Some(Output::Drain(InstanceId::new("shop", "shop-1"))));
}

#[test]
fn the_last_one_that_takes_requests_is_known() {
    let mut state = seen();
    state.handle(at(0), Input::Key(KeyCode::End.into()));
    press(&mut state, 'd');
    assert!(matches!(state.mode(), Mode::Confirm { is_last: true, .. }));
}

#[test]
fn undrain_does_not_ask() {
    assert_eq!(press(&mut seen(), 'u'), Some(Output::Undrain(InstanceId::new("shop", "shop-1"))));
}

#[test]
fn keys_before_the_first_answer_harm_nobody() {
    let mut state = State::default();
    for key in ['j', 'k', 'd', 'y', 'u', 's', 'p', '?', 'x'] {
        assert_eq!(press(&mut state, key), None, "{key}");
    }
    assert_eq!(press(&mut state, 'q'), Some(Output::Quit));
}

#[test]
fn control_c_quits_even_a_question() {
    let mut state = seen();
    press(&mut state, 'd');
    let key = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(state.handle(at(0), Input::Key(key)), Some(Output::Quit));
}

#[test]
fn any_key_leaves_the_help_and_does_nothing_else() {
    let mut state = seen();
    press(&mut state, '?');
    assert_eq!(state.mode(), &Mode::Help);
    assert_eq!(press(&mut state, 'q'), None);
    assert_eq!(state.mode(), &Mode::Usual);
}

#[test]
fn a_rate_is_that_of_the_last_looks_by_the_workers_own_clock() {
    let mut state = State::default();
    let rate = |state: &State| {
        let rows = state.rows();
        let Row::Instance(service, instance) = rows[1] else { panic!("{rows:?}") };
        state.instance_rate(service, instance)
    };
    state.handle(at(0), looked(shop(10.0, [100, 0, 0])));
    assert_eq!(rate(&state), None);
    for second in 1..=10 {
        state.handle(at(0), looked(shop(10.0 + second as f64, [100 + second * 20, 0, 0])));
    }
    assert_eq!(rate(&state), Some(20.0));
    for second in 11..=15 {
        state.handle(at(0), looked(shop(10.0 + f64::from(second), [300, 0, 0])));
    }
    assert_eq!(rate(&state), Some(0.0));
}

#[test]
fn another_worker_counts_from_nothing() {
    let mut state = seen();
    let mut next = shop(11.0, [7, 0, 0]);
    next.worker_pid += 1;
    state.handle(at(1), looked(next));
    let rows = state.rows();
    let Row::Instance(service, instance) = rows[1] else { panic!("{rows:?}") };
    assert_eq!(state.instance_rate(service, instance), None);
}

#[test]
fn an_everup_that_went_is_missing_since_its_first_silence_and_returns() {
    let mut state = seen();
    for second in 5..8 {
        state.handle(at(second), Input::Looked(Box::new(Err(format!("gone {second}")))));
    }
    assert_eq!(state.unreachable(), Some(&Unreachable { since: at(5), why: "gone 7".into() }));
    assert!(state.status().is_some(), "what was known last is still shown");
    state.handle(at(9), looked(shop(1.0, [0, 0, 0])));
    assert_eq!(state.unreachable(), None);
}

#[test]
fn one_look_at_a_time_and_a_late_answer_is_told() {
    let mut state = State::default();
    assert!(state.may_look(at(0)));
    assert!(!state.may_look(at(1)));
    assert_eq!(state.silence(at(1)), None);
    assert_eq!(state.silence(at(3)), Some(Duration::from_secs(3)));
    state.handle(at(4), looked(shop(1.0, [0, 0, 0])));
    assert_eq!(state.silence(at(9)), None);
    assert!(state.may_look(at(9)));
}

#[test]
fn a_paused_picture_stands_still_and_misses_no_event() {
    let mut state = seen();
    press(&mut state, 'p');
    state.handle(at(1), Input::Looked(Box::new(Ok((shop(11.0, [9, 9, 9]), events(&["one"]))))));
    assert_eq!(state.status().unwrap().uptime_seconds, 10.0);
    assert_eq!(state.last_event(), 0, "it is asked for again");
    press(&mut state, 'p');
    state.handle(at(2), Input::Looked(Box::new(Ok((shop(12.0, [9, 9, 9]), events(&["one", "two"]))))));
    assert_eq!(state.events().count(), 2);
    assert_eq!(state.last_event(), 2);
}

#[test]
fn only_so_many_events_are_kept() {
    let mut state = seen();
    let texts = ["x"; EVENTS + 10];
    state.handle(at(1), Input::Looked(Box::new(Ok((shop(11.0, [0, 0, 0]), events(&texts))))));
    assert_eq!(state.events().count(), EVENTS);
    assert_eq!(state.events().last().unwrap().number, EVENTS as u64 + 10);
}

#[test]
fn what_came_of_an_order_is_shown_for_a_while() {
    let mut state = seen();
    state.handle(at(100), Input::Done("shop/shop-1: drained".into()));
    assert_eq!(state.message(at(105)), Some("shop/shop-1: drained"));
    assert_eq!(state.message(at(111)), None);
}
