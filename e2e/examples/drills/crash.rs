//! The worker is killed with SIGKILL, again and again, and then the keeper, while 300 requests come in every second, GETs and
//! POSTs, on new connections and on old ones. The keeper holds sockets and instances when the worker dies, and the worker when
//! the keeper does.

use std::time::{Duration, Instant};

use everup_e2e::api::Status;
use everup_e2e::chance::Chance;
use everup_e2e::{Config, Entry, Everup, Ledger, Load, Loss, Mode, Process, until};

use crate::promise::Promises;

/// From the kill until the next worker serves: no answer takes longer, and no stretch without answers is.
const BACK_WITHIN: Duration = Duration::from_millis(200);

/// Requests per second, of each kind.
const RATE: f64 = 150.0;

/// A worker that lived for a second is restarted at once; one that did not, with pauses. The drill is about the first kind.
const CALM: usize = 1_200;
/// And so many milliseconds more, by chance: a kill should find a worker in any moment.
const MORE: usize = 800;

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Killed {
    Worker,
    Keeper,
}

/// A kill, on the clock of each load: from just before it until its process was dead.
struct Kill {
    who: Killed,
    spans: Vec<(Duration, Duration)>,
    /// Until the next one serves, or has taken over.
    back: Duration,
}

impl Kill {
    /// The request was under way when it came.
    fn hit(&self, load: usize, entry: &Entry) -> bool {
        let (from, to) = self.spans[load];
        entry.due <= to && entry.due + entry.took >= from
    }
}

/// Kills the worker so many times, and the keeper two times for each five. Whether every promise was kept; those about time only
/// if `times` count.
pub(crate) fn run(kills: u64, seed: u64, times: bool) -> bool {
    let mut everup = Everup::with(Config::runs(3)).start();
    let before = everup.wait_all_up();
    let mut chance = Chance::new(seed);
    let load = |load: Load| load.rate(RATE).mode(Mode::Mixed).start().expect("the load can start");
    let loads = [load(everup.load("/whoami")), load(everup.load("/echo").sending("POST", "a book"))];
    let keepers = (kills * 2).div_ceil(5);
    let who = std::iter::repeat_n(Killed::Worker, kills as usize);
    let who = who.chain(std::iter::repeat_n(Killed::Keeper, keepers as usize));
    let mut all = Vec::new();
    for who in who {
        wait(CALM + chance.below(MORE));
        let begun: Vec<_> = loads.iter().map(|load| load.elapsed()).collect();
        let start = Instant::now();
        match who {
            Killed::Worker => kill_worker(&everup),
            Killed::Keeper => everup.kill_keeper(),
        }
        let spans = begun.into_iter().zip(loads.iter().map(|load| load.elapsed())).collect();
        come_back(&mut everup, who, &before);
        all.push(Kill { who, spans, back: start.elapsed() });
    }
    wait(CALM);
    let after = everup.wait_all_up();
    let ledgers = loads.map(|load| load.stop().expect("the load does not panic"));
    judge(&all, &ledgers, (&before, &after), times)
}

fn kill_worker(everup: &Everup) {
    let worker = Process::with_id(everup.status().worker_pid).expect("the worker runs");
    worker.kill();
    until("the worker is dead", || !worker.is_alive());
}

fn come_back(everup: &mut Everup, who: Killed, before: &Status) {
    match who {
        Killed::Worker => {
            everup.wait_until("another worker serves", |status| status.ready);
        }
        Killed::Keeper => {
            let worker = everup.status().worker_pid;
            everup.run_again();
            let keeper = everup.keeper().pid;
            everup.wait_until("another keeper has taken over", |status| {
                status.keeper_pid == keeper && !status.keeper_gone && status.worker_pid == worker
            });
        }
    }
    let status = everup.status();
    assert_eq!(pids(&status), pids(before), "instances keep their processes");
}

fn judge(kills: &[Kill], ledgers: &[Ledger; 2], states: (&Status, &Status), times: bool) -> bool {
    println!("| killed | in flight | lost | longest gap | slowest | back after |\n|---|---|---|---|---|---|");
    let mut promises = Promises::default();
    let (mut lost_with_keeper, mut away) = (0, Duration::ZERO);
    for (number, kill) in kills.iter().enumerate() {
        let (mut flying, mut lost, mut gap, mut slowest) = (0, 0, Duration::ZERO, Duration::ZERO);
        for (which, ledger) in ledgers.iter().enumerate() {
            flying += ledger.entries().iter().filter(|entry| kill.hit(which, entry)).count();
            lost += ledger.losses().filter(|(entry, _)| kill.hit(which, entry)).count();
            let until = kills.get(number + 1).map_or(Duration::MAX, |next| next.spans[which].0);
            let part = ledger.between(kill.spans[which].0, until);
            (gap, slowest) = (gap.max(part.longest_gap()), slowest.max(part.quantile(1.0)));
        }
        let Kill { who, back, .. } = kill;
        println!("| {who:?} | {flying} | {lost} | {gap:.0?} | {slowest:.0?} | {back:.0?} |");
        away = away.max(gap).max(slowest);
        if *who == Killed::Keeper {
            lost_with_keeper += lost;
        }
    }
    let elsewhere = |(which, ledger): (usize, &Ledger)| {
        ledger.losses().filter(|(entry, _)| !kills.iter().any(|kill| kill.hit(which, entry))).count()
    };
    let lost_elsewhere: usize = ledgers.iter().enumerate().map(elsewhere).sum();
    ledgers.iter().for_each(|ledger| println!("\n{ledger}"));
    println!();
    let of_kind = |ledger: &Ledger| ledger.lost_by_kind().get(&Loss::ConnectRefused).copied().unwrap_or(0);
    let refused: u64 = ledgers.iter().map(of_kind).sum();
    let sent: u64 = ledgers.iter().map(Ledger::sent).sum();
    promises.check("no connection is refused", format!("{refused} of {sent}"), refused == 0);
    let what = "with a worker nothing is lost but what was in flight";
    promises.check(what, format!("{lost_elsewhere} others"), lost_elsewhere == 0);
    promises.check("with a keeper nothing is lost", lost_with_keeper, lost_with_keeper == 0);
    if times {
        // Requests that came meanwhile waited in the accept queue: they are slow, not lost.
        promises.check("clients wait 200 ms at most", format!("{away:.1?}"), away <= BACK_WITHIN);
    }
    let (before, after) = (pids(states.0), pids(states.1));
    promises.check("instances keep their processes", format!("{before:?}, then {after:?}"), before == after);
    promises.kept()
}

fn wait(ms: usize) {
    let end = Instant::now() + Duration::from_millis(ms as u64);
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn pids(status: &Status) -> Vec<Option<u32>> {
    status.services.iter().flat_map(|service| &service.instances).map(|instance| instance.pid).collect()
}
