//! WebSockets of an instance that is drained, and of an everup that ends: each is told when to come back, between two
//! messages and in its turn; nobody else notices.

use std::net::SocketAddr;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use everup_e2e::api::Status;
use everup_e2e::{Config, Everup, Sample, WebSocket, get, until};
use rustix::process::Signal;

const DRAIN: Duration = Duration::from_secs(6);

/// A WebSocket that was told to go.
struct Told {
    after: Duration,
    instance: String,
    retry: u64,
}

fn stage() -> (Vec<Sample>, Everup) {
    let samples: Vec<Sample> = ["a", "b"].map(Sample::start).into();
    let config = Config::shop(samples.iter().map(Sample::address));
    let config = config.set("balance = \"round-robin\"").set("drain.time = \"6s\"");
    let mut everup = Everup::with(config).start();
    everup.wait_all_up();
    (samples, everup)
}

/// Talks until it is told to go, or has talked for so long; every message comes back whole and in its order.
fn talk(address: SocketAddr, began: Instant, for_so_long: Duration) -> Option<Told> {
    let mut socket = WebSocket::open(address, "/ws");
    let instance = socket.instance().to_owned();
    for number in 0.. {
        let text = format!("{instance} {number}");
        socket.say(&text);
        let (opcode, content) = socket.hear();
        if opcode == 0x8 {
            let after = began.elapsed();
            assert_eq!(content[..2], 1012_u16.to_be_bytes(), "{}", content.escape_ascii());
            let reason = String::from_utf8_lossy(&content[2..]);
            let retry = reason.strip_prefix("retry=").and_then(|millis| millis.parse().ok());
            let retry = retry.unwrap_or_else(|| panic!("no time to come back in `{reason}`"));
            assert!(socket.answer_close(&content[..2]), "the connection ends in order");
            return Some(Told { after, instance, retry });
        }
        assert_eq!((opcode, content), (0x1, text.into_bytes()));
        if began.elapsed() > for_so_long {
            assert!(socket.close());
            return None;
        }
        thread::park_timeout(Duration::from_millis(10));
    }
    unreachable!("it talks until it is told to go")
}

fn talkers(count: usize, address: SocketAddr, for_so_long: Duration) -> Vec<JoinHandle<Option<Told>>> {
    let began = Instant::now();
    (0..count).map(|_| thread::spawn(move || talk(address, began, for_so_long))).collect()
}

fn all_told(talkers: Vec<JoinHandle<Option<Told>>>) -> Vec<Told> {
    let mut told: Vec<Told> =
        talkers.into_iter().filter_map(|one| one.join().expect("every message comes back")).collect();
    told.sort_by_key(|one| one.after);
    told
}

/// Waits until all are open; how many of them are with the first instance.
#[track_caller]
fn wait_open(everup: &mut Everup, all: u64) -> usize {
    let tunnels =
        |status: &Status| status.services[0].instances.iter().map(|instance| instance.tunnels).sum::<u64>();
    let status = everup.wait_until("all are open", |status| tunnels(status) == all);
    usize::try_from(status.services[0].instances[0].tunnels).expect("a few")
}

#[track_caller]
fn by_turns(told: &[Told]) {
    let spread = told[told.len() - 1].after - told[0].after;
    assert!(spread > Duration::from_millis(500) && spread < DRAIN, "within {spread:?}");
    let times: Vec<_> = told.iter().map(|one| one.after).collect();
    let at_once =
        times.iter().map(|from| times.iter().filter(|at| (*from..*from + spread / 4).contains(*at)).count());
    assert!(at_once.max() < Some(told.len() * 3 / 4), "{times:?}");
}

#[test]
fn a_drained_instances_websockets_go_by_turns_and_the_others_stay() {
    let (samples, mut everup) = stage();
    let talkers = talkers(40, everup.address(), DRAIN + Duration::from_secs(4));
    let leaving = wait_open(&mut everup, 40);
    let metrics = everup.metrics();
    assert!(get(metrics, "/metrics").text().contains("everup_websockets{service=\"shop\"} 40\n"));
    let began = Instant::now();
    let drained = everup.verb(&["drain", "shop", &samples[0].address().to_string()]);
    assert!(began.elapsed() < DRAIN);
    assert_eq!(drained.code, Some(0), "{drained:?}");
    assert!(drained.out.ends_with(": drained\n"), "{drained:?}");
    assert!(drained.err.contains(" tunnels left\n"), "{drained:?}");
    let told = all_told(talkers);
    assert_eq!(told.len(), leaving);
    assert!(told.iter().all(|one| one.instance == "a" && one.retry < 1000));
    by_turns(&told);
    let line = format!("everup_websockets_ended_total{{service=\"shop\",how=\"closed\"}} {leaving}\n");
    assert!(get(metrics, "/metrics").text().contains(&line));
}

#[test]
fn when_everup_is_told_to_end_all_go_by_turns_and_come_back_after_it() {
    let (_samples, mut everup) = stage();
    let address = everup.address();
    let talkers = talkers(20, address, Duration::from_secs(60));
    wait_open(&mut everup, 20);
    let began = Instant::now();
    let stopped = everup.stop_with(Signal::TERM);
    assert!(began.elapsed() < DRAIN, "{:?}", began.elapsed());
    assert_eq!((stopped.code, stopped.left.as_slice()), (Some(0), &[][..]), "{}", stopped.said);
    let told = all_told(talkers);
    assert_eq!(told.len(), 20);
    // When it is over at the latest, and not all together.
    assert!(
        told.iter().all(|one| one.retry >= 4000),
        "{:?}",
        told.iter().map(|one| one.retry).collect::<Vec<_>>()
    );
    let spread = told[19].after - told[0].after;
    assert!(spread > Duration::from_millis(250), "all at once: {spread:?}");
}

#[test]
fn a_drain_that_is_not_waited_for_names_the_tunnels_that_are_left() {
    let (samples, mut everup) = stage();
    let talkers = talkers(40, everup.address(), DRAIN + Duration::from_secs(4));
    let leaving = wait_open(&mut everup, 40);
    let drained = everup.verb(&["drain", "shop", &samples[0].address().to_string(), "--wait", "0.2"]);
    assert_eq!(drained.code, Some(1), "{drained:?}");
    assert!(drained.out.contains(" tunnels still open after "), "{drained:?}");
    until("all of them have gone", || everup.instance(&samples[0].address().to_string()).tunnels == 0);
    assert_eq!(all_told(talkers).len(), leaving);
}

#[test]
fn an_instance_or_a_service_that_a_reload_removes_takes_leave_of_its_websockets() {
    let samples = ["a", "b"].map(Sample::start);
    let settings =
        |config: Config| String::from(config.set("balance = \"round-robin\"").set("drain.time = \"6s\""));
    let mut everup = Everup::with(settings(Config::shop(samples.iter().map(Sample::address)))).start();
    everup.wait_all_up();
    let running = talkers(20, everup.address(), Duration::from_secs(60));
    let leaving = wait_open(&mut everup, 20);
    let without_a = settings(Config::shop([samples[1].address()]));
    everup.reload(without_a.clone());
    everup.wait_until("a has left", |status| status.services[0].instances.len() == 1);
    until("its clients have gone", || running.iter().filter(|one| one.is_finished()).count() == leaving);
    let (gone, staying): (Vec<_>, Vec<_>) = running.into_iter().partition(JoinHandle::is_finished);
    assert_eq!((gone.len(), staying.len()), (leaving, 20 - leaving));
    assert!(all_told(gone).iter().all(|one| one.instance == "a"));
    let began = Instant::now();
    everup.reload(without_a.replace("shop", "store"));
    everup.wait_until("shop has left", |status| status.services.len() == 1);
    assert!(began.elapsed() < DRAIN);
    let told = all_told(staying);
    assert!(told.len() == 20 - leaving && told.iter().all(|one| one.instance == "b"));
}
