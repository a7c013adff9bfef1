//! everup goes on as a copy of itself over and over, while 500 requests come in every second, kept connections ask in
//! between and WebSockets talk.

use std::time::{Duration, Instant};

use everup_e2e::{Config, Connection, Everup, Ledger, Mode, WebSocket, everup_binary};

use crate::promise::Promises;

/// Requests per second of each of four loads: GET and POST, on kept connections and on one each.
const RATE: f64 = 125.0;

/// Kept connections and WebSockets that are looked at after each upgrade.
const KEPT: usize = 50;

/// 99 of 100 requests in the second around an upgrade are answered within this.
const P99: Duration = Duration::from_millis(100);

const REQUEST: &str = "GET /whoami HTTP/1.1\r\nHost: x\r\n\r\n";

/// Upgrades so many times. Whether every promise was kept.
pub(crate) fn run(upgrades: u64) -> bool {
    let mut everup = Everup::with(Config::runs(3)).start();
    everup.wait_all_up();
    let copy = everup.directory().join("everup-new");
    let made =
        std::process::Command::new("install").args(["-m", "755"]).arg(everup_binary()).arg(&copy).status();
    assert!(made.expect("install is there").success());
    let (before, address) = (processes(&everup), everup.address());
    let mut connections: Vec<_> = (0..KEPT).map(|_| Connection::open(address)).collect();
    let mut sockets: Vec<_> = (0..KEPT).map(|_| WebSocket::open(address, "/ws")).collect();
    let load = |path, mode| everup.load(path).rate(RATE).mode(mode);
    let body = "x".repeat(2000);
    let loads = [
        load("/whoami", Mode::KeepAlive),
        load("/whoami", Mode::Close),
        load("/echo", Mode::KeepAlive).sending("POST", &*body),
        load("/echo", Mode::Close).sending("POST", &*body),
    ];
    let loads = loads.map(|load| load.start().expect("the load can start"));
    let (mut closed, mut silent, mut refused, mut slowest) = (0, 0, 0, Duration::ZERO);
    let mut around = Vec::new();
    for upgrade in 1..=upgrades {
        let (began, elapsed) = (Instant::now(), loads[0].elapsed());
        let said = everup.verb(&["upgrade", &copy.display().to_string()]);
        refused += u64::from(said.code != Some(0));
        slowest = slowest.max(began.elapsed());
        let alive = |connection: &mut Connection| {
            connection.try_send(REQUEST).is_ok()
                && connection.try_answer().is_ok_and(|answer| answer.status == 200)
        };
        closed += connections.extract_if(.., |connection| !alive(connection)).count();
        silent += sockets.extract_if(.., |socket| !socket.echoes(&format!("after {upgrade}"))).count();
        everup.wait_until("the old worker has nothing left", |status| status.leaving.is_empty());
        around.push((elapsed, elapsed + Duration::from_secs(1)));
    }
    let unchanged = processes(&everup) == before;
    let ledgers = loads.map(|load| load.stop().expect("the load does not panic"));
    ledgers.iter().for_each(|ledger| println!("{ledger}\n"));
    println!("{upgrades} upgrades, the slowest took {slowest:.0?}\n");

    let mut promises = Promises::default();
    let (lost, sent) = (sum(&ledgers, Ledger::lost), sum(&ledgers, Ledger::sent));
    promises.check("no request is lost", format!("{lost} of {sent}"), lost == 0);
    promises.check("no upgrade is refused", format!("{refused} of {upgrades}"), refused == 0);
    promises.check("no connection is closed", format!("{closed} of {KEPT}"), closed == 0);
    promises.check("WebSockets go on", format!("{silent} of {KEPT} fell silent"), silent == 0);
    promises.check("keeper and instances are the same processes", format!("{before:?}"), unchanged);
    let worst =
        |ledger: &Ledger| around.iter().map(|(from, to)| ledger.between(*from, *to).quantile(0.99)).max();
    let worst = ledgers.iter().filter_map(worst).max().unwrap_or_default();
    promises.check("99 % within 100 ms around each", format!("{worst:.0?}"), worst < P99);
    promises.kept()
}

/// Of the keeper and of every instance.
fn processes(everup: &Everup) -> (u32, Vec<Option<u32>>) {
    let status = everup.status();
    let instances = status.services.iter().flat_map(|service| &service.instances);
    (status.keeper_pid, instances.map(|instance| instance.pid).collect())
}

fn sum(ledgers: &[Ledger], of: fn(&Ledger) -> u64) -> u64 {
    ledgers.iter().map(of).sum()
}
