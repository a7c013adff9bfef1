//! A game day with events of the test's own, and what its report says of them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where and stop")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use everup_drill::{Change, DrillError, GameDay, Load, Report, Shell, game_day};

/// Serves as long as `answers` is true; then it closes without an answer.
fn serve(answers: &Arc<AtomicBool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answers = Arc::clone(answers);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answers) = (stream.unwrap(), Arc::clone(&answers));
            thread::spawn(move || {
                let mut head = [0; 1024];
                while stream.read(&mut head).is_ok_and(|read| read > 0) && answers.load(Ordering::SeqCst) {
                    let hello = b"HTTP/1.1 200 OK\r\nX-Instance: one\r\nContent-Length: 5\r\n\r\nhello";
                    stream.write_all(hello).unwrap();
                }
            });
        }
    });
    address
}

fn day(address: SocketAddr) -> GameDay {
    let load = Load::to(&format!("http://{address}/")).unwrap().rate(200.0).holding(4);
    GameDay {
        load,
        talks: Vec::new(),
        warm_up: Duration::from_millis(200),
        every: Duration::from_millis(100),
        patience: Duration::from_secs(30),
    }
}

/// Does something, and is over at once.
struct Prank<F>(F);

impl<F: FnMut() -> Result<String, String>> Change for Prank<F> {
    fn name(&self) -> &str {
        "prank"
    }

    fn begin(&mut self) -> Result<String, String> {
        self.0()
    }

    fn poll_end(&mut self) -> Result<Option<String>, String> {
        Ok(Some("as before".into()))
    }

    fn give_up(&mut self) {}
}

fn hold(
    answers: &Arc<AtomicBool>,
    change: impl Change + 'static,
    times: u32,
    interrupted: &AtomicBool,
) -> Result<Report, DrillError> {
    game_day(day(serve(answers)), &mut [Box::new(change)], times, interrupted, |_| {})
}

fn yes() -> Arc<AtomicBool> {
    Arc::new(AtomicBool::new(true))
}

#[test]
fn every_event_takes_place_so_many_times_and_has_its_line() {
    let report = hold(&yes(), Prank(|| Ok("done".into())), 3, &AtomicBool::new(false)).unwrap();
    assert!(report.passed());
    assert_eq!(report.events.len(), 3);
    let text = report.text(false);
    assert!(text.contains("\nlost: 0\n") && text.contains("connections kept"), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("prank  ")).count(), 3, "{text}");
    assert!(text.contains("prank: done\n    as before (0.0 s)\n    answered by one "), "{text}");
    assert!(report.text(true).contains("\x1b[1;32mlost: 0\x1b[0m"));
    let json = report.to_json();
    assert_eq!((json["lost"].as_u64(), json["passed"].as_bool()), (Some(0), Some(true)), "{json}");
    assert_eq!(json["events"][1]["event"], "prank");
    let connections = &json["events"][1]["connections"];
    assert_eq!(connections["kept"], connections["open_before"], "{json}");
    assert!(connections["kept"].as_u64() >= Some(4), "{json}");
    assert!(json["events"][0]["sent"].as_u64() > Some(0));
}

#[test]
fn what_an_event_costs_stands_in_its_line() {
    let answers = yes();
    let off = Arc::clone(&answers);
    let prank = move || {
        off.store(false, Ordering::SeqCst);
        Ok("it answers no more".into())
    };
    let report = hold(&answers, Prank(prank), 1, &AtomicBool::new(false)).unwrap();
    assert!(!report.passed() && report.lost() > 0);
    let json = report.to_json();
    assert_eq!(json["events"][0]["lost"], 0, "{json}");
    assert!(json["events"][1]["lost"].as_u64() > Some(0), "{json}");
    assert!(json["events"][1]["lost_by_request"]["GET http, kept connection"].as_u64() > Some(0), "{json}");
    assert!(json["events"][1]["connections"]["kept"].as_u64() < Some(4), "{json}");
    assert!(report.text(false).contains("closed-before-answer"), "{}", report.text(false));
}

#[test]
fn an_event_that_fails_ends_the_drill_and_is_told() {
    let report = hold(&yes(), Prank(|| Err("no such instance".into())), 5, &AtomicBool::new(false)).unwrap();
    assert_eq!((report.events.len(), report.passed(), report.lost()), (1, false, 0));
    assert!(report.text(false).contains("FAILED: no such instance"), "{}", report.text(false));
}

#[test]
fn nothing_is_done_to_a_service_that_does_not_answer() {
    let done = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&done);
    let prank = move || {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(String::new())
    };
    let answers = Arc::new(AtomicBool::new(false));
    let deaf = hold(&answers, Prank(prank), 1, &AtomicBool::new(false)).unwrap_err();
    assert!(matches!(deaf, DrillError::Deaf { .. }), "{deaf}");
    assert!(deaf.to_string().contains("closed-before-answer"), "{deaf}");
    assert_eq!(done.load(Ordering::SeqCst), 0);
}

#[test]
fn an_interrupted_drill_reports_what_it_has() {
    let interrupted = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&interrupted);
    let prank = move || {
        stop.store(true, Ordering::SeqCst);
        Ok(String::new())
    };
    let report = hold(&yes(), Prank(prank), 100, &interrupted).unwrap();
    assert_eq!((report.events.len(), report.interrupted, report.passed()), (1, true, false));
    assert!(report.text(false).contains("it was interrupted"), "{}", report.text(false));
}

#[test]
fn a_command_is_an_event_and_its_words_are_told() {
    let shell = |command| Shell::new(command, Duration::from_secs(30));
    let report = hold(&yes(), shell("echo reloaded"), 2, &AtomicBool::new(false)).unwrap();
    assert!(report.passed());
    assert!(report.text(false).contains("exit code 0\n    reloaded"), "{}", report.text(false));
    let failed = hold(&yes(), shell("echo no >&2; exit 7"), 2, &AtomicBool::new(false)).unwrap();
    assert_eq!((failed.events.len(), failed.passed()), (1, false));
    assert!(failed.text(false).contains("FAILED: exit code 7\n    no"), "{}", failed.text(false));
}

#[test]
fn the_picture_shows_events_and_losses_and_is_well_formed() {
    let answers = yes();
    let off = Arc::clone(&answers);
    let prank = move || {
        off.store(false, Ordering::SeqCst);
        Ok(String::new())
    };
    let report = hold(&answers, Prank(prank), 1, &AtomicBool::new(false)).unwrap();
    let svg = report.svg("a <drill> & more");
    assert!(svg.starts_with("<svg xmlns=") && svg.trim_end().ends_with("</svg>"));
    assert!(
        svg.contains(">prank</text>")
            && svg.contains("class=\"lost\"")
            && svg.contains("a &lt;drill&gt; &amp; more")
    );
    let (opened, closed) = (svg.matches('<').count(), svg.matches('>').count());
    assert_eq!(opened, closed, "every tag that opens ends");
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
}
