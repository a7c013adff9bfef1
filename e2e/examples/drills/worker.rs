//! The worker is killed with SIGKILL, again and again, while 300 GETs come in every second. The keeper holds the
//! sockets and the instances.

use std::time::{Duration, Instant};

use everup_e2e::api::Status;
use everup_e2e::{Config, Everup, Loss, Mode, Process};

use crate::promise::Promises;

/// From the kill until the next worker serves: no answer takes longer, and no stretch without answers is.
const BACK_WITHIN: Duration = Duration::from_millis(200);

/// Requests per second.
const RATE: f64 = 300.0;

/// Kills so many times. Whether every promise was kept.
pub(crate) fn run(kills: u64) -> bool {
    let mut everup = Everup::with(Config::runs(3)).start();
    let before = everup.wait_all_up();
    let load = everup.load("/whoami").rate(RATE).mode(Mode::Mixed).start().expect("the load can start");
    let mut times = Vec::new();
    for _ in 0..kills {
        let worker = everup.status().worker_pid;
        times.push(load.elapsed());
        Process::with_id(worker).expect("the worker runs").kill();
        everup.wait_until("another worker serves", |status| status.worker_pid != worker && status.ready);
        wait_for_calm();
    }
    let after = everup.wait_all_up();
    let ledger = load.stop().expect("the load does not panic");
    println!("| kill | lost | longest gap | slowest |\n|---|---|---|---|");
    let ends = times.iter().skip(1).copied().chain([Duration::MAX]);
    let parts: Vec<_> = times.iter().zip(ends).map(|(from, to)| ledger.between(*from, to)).collect();
    for (number, part) in parts.iter().enumerate() {
        let (gap, slowest) = (part.longest_gap(), part.quantile(1.0));
        println!("| {} | {} | {gap:.0?} | {slowest:.0?} |", number + 1, part.lost());
    }
    println!("\n{ledger}\n");

    let mut promises = Promises::default();
    let refused = ledger.lost_by_kind().get(&Loss::ConnectRefused).copied().unwrap_or(0);
    promises.check("no connection is refused", format!("{refused} of {}", ledger.sent()), refused == 0);
    // Requests that came meanwhile waited in the accept queue: they are slow, not lost.
    let away = parts.iter().map(|part| part.longest_gap().max(part.quantile(1.0))).max().unwrap_or_default();
    promises.check("the next worker serves within 200 ms", format!("{away:.1?}"), away <= BACK_WITHIN);
    let (before, after) = (pids(&before), pids(&after));
    promises.check("instances keep their processes", format!("{before:?}, then {after:?}"), before == after);
    promises.kept()
}

/// A worker that lived for a second is restarted at once; one that did not, with backoff. The drill is about the first
/// kind.
fn wait_for_calm() {
    let end = Instant::now() + Duration::from_millis(1_500);
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn pids(status: &Status) -> Vec<Option<u32>> {
    status.services.iter().flat_map(|service| &service.instances).map(|instance| instance.pid).collect()
}
