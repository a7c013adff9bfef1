//! Twice the load that a service can carry. Its instances answer in a fixed time and take so many requests at once
//! (`max_connections`), so the capacity is known; what is beyond it waits in the queue or is refused at once.

use std::fs;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use everup_e2e::{Behaviour, Config, Everup, Ledger, Loss, Origin, Outcome};

use crate::promise::Promises;

const INSTANCES: usize = 2;
const AT_ONCE: usize = 20;
const SERVICE_TIME: Duration = Duration::from_millis(25);
const QUEUE_TIME: Duration = Duration::from_millis(500);
/// How long a step of the search for the peak lasts.
const STEP: Duration = Duration::from_secs(4);
/// How often the worker's memory is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Requests that begin and end an overload are no part of it.
const EDGE: Duration = Duration::from_secs(1);

/// Drills for so many seconds. Whether every promise was kept.
pub(crate) fn run(seconds: u64) -> bool {
    let origins: Vec<Origin> = (0..INSTANCES).map(|index| Origin::start(&format!("o{index}"))).collect();
    for origin in &origins {
        origin.behave(Behaviour::Slow(SERVICE_TIME));
    }
    let config = Config::shop(origins.iter().map(Origin::address))
        .set(&format!("max_connections = {AT_ONCE}"))
        .set(&format!("queue = {{ time = \"{}ms\", requests = 2000 }}", QUEUE_TIME.as_millis()));
    let mut everup = Everup::with(config).start();
    everup.wait_all_up();
    let worker = everup.status().worker_pid;
    let capacity = (INSTANCES * AT_ONCE) as f64 / SERVICE_TIME.as_secs_f64();
    println!("capacity by calculation: {capacity:.0}/s\n");
    println!(
        "| offered | answered/s | refused/s | p50 | p99 | refusal p50 | slowest | memory of the worker |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let mut peak = 0_f64;
    let mut before = 0;
    for share in [0.5, 0.7, 0.8, 0.9, 1.0] {
        let measured = step(&everup, capacity * share, STEP, worker);
        peak = peak.max(measured.goodput);
        before = measured.memory;
    }
    let over = step(&everup, capacity * 2.0, Duration::from_secs(seconds), worker);
    println!();
    let mut promises = Promises::default();
    let share = over.goodput / peak;
    promises.check(
        "goodput at twice the capacity is 90 % of the peak",
        format!("{:.1} %", share * 100.0),
        share >= 0.9,
    );
    let bound = QUEUE_TIME + SERVICE_TIME + Duration::from_millis(100);
    promises.check(
        "p99 of what is answered is bounded by the queue's time",
        format!("{:.0?}", over.p99),
        over.p99 <= bound,
    );
    promises.check(
        "every refusal is a 503",
        format!("{} other losses", over.other_losses),
        over.other_losses == 0,
    );
    let grown = over.memory.saturating_sub(before);
    // 2,000 waiting requests, each with a connection of its own, in an open loop.
    promises.check("memory is bounded", format!("{} KiB more", grown / 1024), grown <= 100 << 20);
    promises.kept()
}

/// What a step showed.
struct Measured {
    goodput: f64,
    p99: Duration,
    other_losses: u64,
    memory: u64,
}

fn step(everup: &Everup, rate: f64, lasting: Duration, worker: u32) -> Measured {
    let load = everup.load("/").rate(rate).lasting(lasting);
    let running = load.start().expect("the load can start");
    let (measuring, over) = mpsc::channel();
    let sampler = sample_memory(worker, over);
    let ledger = running.finish().expect("the load does not panic");
    drop(measuring);
    let memory = sampler.join().expect("reading a file does not panic");
    let settled = ledger.between(EDGE, lasting.saturating_sub(EDGE));
    let seconds = lasting.saturating_sub(EDGE * 2).as_secs_f64();
    let refused = |loss: Loss| loss == Loss::Status(503);
    let refusals = settled.losses().filter(|(_, loss)| refused(*loss)).count();
    let (median, slowest) = refusal_times(&settled);
    let measured = Measured {
        goodput: settled.ok() as f64 / seconds,
        p99: settled.quantile(0.99),
        other_losses: settled.losses().filter(|(_, loss)| !refused(*loss)).count() as u64,
        memory,
    };
    println!(
        "| {rate:.0}/s | {:.0} | {:.0} | {:.1?} | {:.1?} | {median:.1?} | {slowest:.1?} | {:.1} MiB |",
        measured.goodput,
        refusals as f64 / seconds,
        settled.quantile(0.5),
        measured.p99,
        memory as f64 / f64::from(1 << 20),
    );
    measured
}

/// Median and longest time to a refusal.
fn refusal_times(ledger: &Ledger) -> (Duration, Duration) {
    let refused = |outcome: &Outcome| matches!(outcome, Outcome::Lost(Loss::Status(503)));
    let mut times: Vec<Duration> =
        ledger.entries().iter().filter(|entry| refused(&entry.outcome)).map(|entry| entry.took).collect();
    times.sort_unstable();
    let at = |place: usize| times.get(place).copied().unwrap_or_default();
    (at(times.len() / 2), at(times.len().saturating_sub(1)))
}

/// The most memory (bytes) that the process holds at the looks taken until `over` is dropped.
fn sample_memory(pid: u32, over: Receiver<()>) -> JoinHandle<u64> {
    std::thread::spawn(move || {
        let mut most = resident(pid);
        while over.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
            most = most.max(resident(pid));
        }
        most
    })
}

fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}
