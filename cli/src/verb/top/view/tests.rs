//! Pictures, drawn into memory.

use everup_admin::api::InstanceState;
use everup_core::ids::InstanceId;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;

use super::super::state::Input;
use super::super::state::tests::{at, events, instance, looked, press, seen, service, shop, status};
use super::*;

fn drawn(state: &State, width: u16, height: u16, coloured: bool) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, state, at(43_112), Palette { coloured })).unwrap();
    terminal.backend().buffer().clone()
}

fn lines(state: &State, width: u16, height: u16) -> Vec<String> {
    let buffer = drawn(state, width, height, true);
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(line).collect()
}

#[test]
fn services_instances_rates_and_events_stand_on_one_screen() {
    let mut state = seen();
    let mut next = shop(15.0, [60, 0, 600]);
    next.services[0].instances[1].reason = "refused the connection".into();
    next.services[0].parked = 3;
    state.handle(at(1), Input::Looked(Box::new(Ok((next, events(&["up", "down: refused the connection"]))))));
    let expected = [
        "lb1: ready for 15s  3 connections  table 4  everup 0.1.0",
        "SERVICE   STATE          SINCE      REQ/S  FLIGHT",
        "shop      2 of 3 up                  99.6       2  3 parked  p50 1.25 ms  p99 12",
        "  shop-1  up             1m 15s      12.0       4",
        "  shop-2  down           1m 15s       0.0       0  refused the connection",
        "  shop-3  up             1m 15s     120.0       5",
        "api       1 of 1 up                  99.6       2  p50 1.25 ms  p99 12.3 ms",
        "  api-1   up             1m 15s       0.0       0",
        "LAST EVENTS (UTC)",
        "11-22 11:58:26  shop/shop-1  down: refused the connection",
        "11-22 11:58:26  shop/shop-1  up",
        "j/k select  d drain  u undrain  s sort (as configured)  p pause  ? help  q quit",
    ];
    let lines = lines(&state, 80, 12);
    assert_eq!(lines, expected, "\n{}\n", lines.join("\n"));
}

#[test]
fn an_everup_that_does_not_answer_is_told_with_the_time_and_the_last_picture_stays() {
    let mut state = seen();
    state.handle(at(43_100), Input::Looked(Box::new(Err("everup does not run here".into()))));
    let lines = lines(&state, 80, 12);
    assert_eq!(lines[0], "not reachable since 11:58:20 UTC (12s): everup does not run here");
    assert!(lines.iter().any(|line| line.contains("shop-2")), "{lines:?}");
}

#[test]
fn a_narrow_terminal_keeps_names_and_states() {
    let lines = lines(&seen(), 26, 8);
    assert!(lines.iter().any(|line| line.starts_with("  shop-2  down")), "{lines:?}");
}

#[test]
fn a_tiny_terminal_gets_a_summary() {
    let lines = lines(&seen(), 60, 3);
    assert!(lines[0].starts_with("199 requests/s"), "{lines:?}");
}

#[test]
fn no_size_is_too_small_and_none_too_large() {
    let mut state = seen();
    for (width, height) in [(1, 1), (1, 50), (200, 1), (24, 4), (25, 5), (300, 100)] {
        for key in ['?', 'x', 'd', 'n'] {
            press(&mut state, key);
            drawn(&state, width, height, true);
        }
    }
}

#[test]
fn the_selected_instance_is_always_on_the_screen() {
    let many = (1..=50).map(|n| instance(&format!("shop-{n}"), InstanceState::Up, 0)).collect();
    let mut state = State::default();
    state.handle(at(0), looked(status(1.0, vec![service("shop", many)])));
    for n in 1..=50 {
        let buffer = drawn(&state, 80, 10, true);
        let reversed = |y: u16| buffer[(3, y)].modifier.contains(Modifier::REVERSED);
        let row = (0..9).find(|y| reversed(*y)).expect("a row is marked");
        let text: String = (0..12).map(|x| buffer[(x, row)].symbol()).collect();
        assert!(text.starts_with(&format!("  shop-{n} ")), "{n}: {text}");
        press(&mut state, 'j');
    }
}

#[test]
fn a_drain_is_asked_with_the_instances_name_and_a_warning_if_it_is_the_last() {
    let mut state = seen();
    press(&mut state, 'd');
    let text = lines(&state, 80, 24).join("\n");
    assert!(text.contains("Drain shop/shop-1?") && text.contains("y: drain"), "{text}");
    assert!(!text.contains("they will wait"), "{text}");
    for key in ['n', 'j', 'j', 'j', 'd'] {
        press(&mut state, key);
    }
    let text = lines(&state, 80, 24).join("\n");
    assert!(text.contains("Drain api/api-1?") && text.contains("they will wait"), "{text}");
}

#[test]
fn the_help_names_every_key() {
    let mut state = seen();
    press(&mut state, '?');
    let text = lines(&state, 80, 24).join("\n");
    for key in ["up/k", "down/j", "d   ", "u   ", "s   ", "p   ", "q, Esc"] {
        assert!(text.contains(key), "{key} is not in\n{text}");
    }
}

#[test]
fn a_paused_picture_says_so() {
    let mut state = seen();
    press(&mut state, 'p');
    assert!(lines(&state, 80, 24)[0].starts_with("PAUSED lb1: ready"));
}

#[test]
fn without_colours_there_are_none_and_the_selection_is_still_seen() {
    let coloured = drawn(&seen(), 80, 24, true);
    assert!(coloured.content().iter().any(|cell| cell.fg == Color::Green));
    let plain = drawn(&seen(), 80, 24, false);
    assert!(plain.content().iter().all(|cell| (cell.fg, cell.bg) == (Color::Reset, Color::Reset)));
    assert!(plain.content().iter().any(|cell| cell.modifier.contains(Modifier::REVERSED)));
}

#[test]
fn what_an_application_says_cannot_steer_the_terminal() {
    let mut failed = instance("shop-1", InstanceState::Down, 0);
    failed.reason = "answered with \u{1b}]0;gotcha\u{7}".into();
    let mut state = State::default();
    state.handle(at(0), looked(status(1.0, vec![service("shop", vec![failed])])));
    state.handle(at(0), Input::Done(format!("{}: \u{1b}c", InstanceId::new("shop", "shop-1"))));
    let buffer = drawn(&state, 80, 24, true);
    assert!(buffer.content().iter().all(|cell| !cell.symbol().contains(char::is_control)));
}
