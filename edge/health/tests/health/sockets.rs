//! http and tcp checks.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use everup_core::config::{Check, Health, SendProxy};
use everup_core::health::{Reason, Verdict};

use super::instances::{Instance, Manner, nobody, ok};
use super::verdicts::{Verdicts, http, id, quick, until};

/// The first change of an unknown instance that is checked by http.
fn first_verdict(manner: Manner) -> Verdict {
    let instance = Instance::new(manner);
    let mut verdicts = Verdicts::new();
    verdicts.watch("a", instance.address, quick(http()), Verdict::Unknown);
    verdicts.next().1
}

fn says(answer: &str) -> Manner {
    Manner::Says(answer.to_owned())
}

fn failed(why: &str) -> Verdict {
    Verdict::Down(Reason::ProbeFailed(why.to_owned()))
}

#[test]
fn an_instance_that_answers_200_to_399_is_up() {
    assert_eq!(first_verdict(ok()), Verdict::Up);
    assert_eq!(first_verdict(says("HTTP/1.0 399 whatever\r\n\r\n")), Verdict::Up);
    assert_eq!(first_verdict(says("HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n")), Verdict::Up);
}

#[test]
fn an_instance_that_expects_a_proxy_header_gets_one_of_our_own() {
    for (version, header) in
        [(SendProxy::V1, &b"PROXY UNKNOWN\r\n"[..]), (SendProxy::V2, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0")]
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut begin = vec![0; header.len() + 4];
                if stream.read_exact(&mut begin).is_ok() && begin == [header, b"GET "].concat() {
                    // What is left of the request is not read: the answer is all that counts.
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
                    let _ = stream.read_to_end(&mut Vec::new());
                }
            }
        });
        let mut verdicts = Verdicts::new();
        verdicts.watch_announced("a", address, quick(http()), version, Verdict::Unknown);
        assert_eq!(verdicts.next().1, Verdict::Up, "{version:?}");
    }
}

#[test]
fn an_interim_answer_is_not_the_answer() {
    assert_eq!(
        first_verdict(says("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 503 No\r\n\r\n")),
        Verdict::Down(Reason::ProbeStatus(503))
    );
}

#[test]
fn an_instance_that_answers_slowly_but_in_time_is_up() {
    let late = Duration::from_millis(100);
    assert_eq!(first_verdict(Manner::SaysLate(late, "HTTP/1.1 200 OK\r\n\r\n".to_owned())), Verdict::Up);
}

#[test]
fn an_instance_that_answers_500_is_down_with_that_status() {
    assert_eq!(first_verdict(says("HTTP/1.1 500 Oops\r\n\r\n")), Verdict::Down(Reason::ProbeStatus(500)));
}

#[test]
fn an_instance_that_accepts_and_never_answers_is_down_by_time() {
    assert_eq!(first_verdict(Manner::Hangs), Verdict::Down(Reason::ProbeTimeout));
}

#[test]
fn half_an_answer_is_none() {
    let ended = "the connection ended before a whole answer";
    assert_eq!(first_verdict(says("HTTP/1.1 200 OK\r\nContent-Le")), failed(ended));
    assert_eq!(first_verdict(says("")), failed(ended));
}

#[test]
fn what_is_not_http_fails() {
    assert_eq!(first_verdict(says("SSH-2.0-OpenSSH_9.2\r\n\r\n")), failed("the status line is malformed"));
}

#[test]
fn a_head_without_end_fails() {
    let endless = format!("HTTP/1.1 200 OK\r\n{}", "X-A: aaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(1000));
    assert_eq!(first_verdict(says(&endless)), failed("the answer's head is longer than 16 KiB"));
}

#[test]
fn a_reset_connection_fails() {
    let Verdict::Down(Reason::ProbeFailed(why)) = first_verdict(Manner::Resets) else { panic!("not failed") };
    assert!(why.contains("reset"), "{why}");
}

#[test]
fn nobody_listening_means_down_at_the_first_probe_and_up_once_somebody_does() {
    let address = nobody();
    let mut verdicts = Verdicts::new();
    let slow = Health { fall: 1000, ..quick(http()) };
    verdicts.watch("a", address, slow, Verdict::Up);
    assert_eq!(verdicts.next().1, Verdict::Down(Reason::ConnectRefused));
    let _instance = Instance::at(address, ok());
    assert_eq!(verdicts.next().1, Verdict::Up);
}

#[test]
fn a_tcp_check_passes_when_somebody_listens() {
    let instance = Instance::new(Manner::Hangs);
    let mut verdicts = Verdicts::new();
    verdicts.watch("a", instance.address, quick(Check::Tcp), Verdict::Unknown);
    assert_eq!(verdicts.next().1, Verdict::Up);
    drop(instance);
    assert_eq!(verdicts.next().1, Verdict::Down(Reason::ConnectRefused));
}

#[test]
fn ipv6_is_checked_like_ipv4() {
    let instance = Instance::at(SocketAddr::from((Ipv6Addr::LOCALHOST, 0)), ok());
    let mut verdicts = Verdicts::new();
    verdicts.watch("a", instance.address, quick(http()), Verdict::Unknown);
    assert_eq!(verdicts.next().1, Verdict::Up);
}

#[test]
fn a_refused_request_means_down_at_once_without_waiting_for_a_probe() {
    let instance = Instance::new(ok());
    let mut verdicts = Verdicts::new();
    let rare = Health { interval: Duration::from_secs(3600), ..quick(http()) };
    verdicts.watch("a", instance.address, rare, Verdict::Unknown);
    assert_eq!(verdicts.next().1, Verdict::Up);
    let probes = instance.connections();
    verdicts.handle.connect_failed(id("a"), Reason::ConnectRefused);
    assert_eq!(verdicts.next().1, Verdict::Down(Reason::ConnectRefused));
    until("it is probed at once", || instance.connections() > probes);
}

#[test]
fn the_end_of_the_process_means_down_at_once_with_how_it_ended() {
    let instance = Instance::new(ok());
    let mut verdicts = Verdicts::new();
    verdicts.watch("a", instance.address, quick(http()), Verdict::Unknown);
    assert_eq!(verdicts.next().1, Verdict::Up);
    verdicts.handle.exited(id("a"), "killed by signal 9");
    assert_eq!(verdicts.next().1, Verdict::Down(Reason::Exited("killed by signal 9".to_owned())));
    assert_eq!(verdicts.next().1, Verdict::Up, "it answers again: restarted");
}

#[test]
fn who_is_no_longer_watched_is_no_longer_probed_nor_judged() {
    let (gone, stays) = (Instance::new(ok()), Instance::new(ok()));
    let mut verdicts = Verdicts::new();
    verdicts.watch("gone", gone.address, quick(http()), Verdict::Up);
    until("it is probed", || gone.connections() >= 2);
    verdicts.handle.unwatch(&id("gone"));
    // The inbox is in order: once this one is probed, the other is forgotten.
    verdicts.watch("stays", stays.address, quick(http()), Verdict::Unknown);
    assert_eq!(verdicts.next(), ("stays".to_owned(), Verdict::Up));
    let probes = gone.connections();
    verdicts.handle.connect_failed(id("gone"), Reason::ConnectRefused);
    let seen = stays.connections();
    until("the other goes on", || stays.connections() >= seen + 5);
    assert_eq!((gone.connections(), verdicts.waiting()), (probes, vec![]));
}

#[test]
fn a_hanging_instance_does_not_delay_the_probes_of_others() {
    let fine = Instance::new(ok());
    let hanging: Vec<_> = (0..50).map(|_| Instance::new(Manner::Hangs)).collect();
    let mut verdicts = Verdicts::new();
    let patient = Health { timeout: Duration::from_secs(3600), ..quick(http()) };
    for (n, instance) in hanging.iter().enumerate() {
        verdicts.watch(&format!("hanging-{n}"), instance.address, patient.clone(), Verdict::Up);
    }
    until("all of them hang", || hanging.iter().all(|instance| instance.connections() == 1));
    let start = Instant::now();
    verdicts.watch("fine", fine.address, quick(http()), Verdict::Unknown);
    assert_eq!(verdicts.next(), ("fine".to_owned(), Verdict::Up));
    until("it is probed in its rhythm", || fine.connections() >= 10);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(verdicts.waiting(), []);
}
