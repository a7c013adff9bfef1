//! The configuration is reloaded over and over, each time with a change of another kind, while 500 requests come in every
//! second, kept connections ask in between and WebSockets talk.

use std::time::Instant;

use everup_e2e::reloads::{KINDS, configuration};
use everup_e2e::{Connection, Everup, Ledger, Mode, Sample, WebSocket};

use crate::promise::Promises;

/// Requests per second of each of four loads: GET and POST, on kept connections and on one each.
const RATE: f64 = 125.0;

/// Kept connections and WebSockets that are looked at after each reload.
const KEPT: usize = 50;

/// Memory that the worker may have more afterwards, in percent.
const GROWTH: u64 = 5;

const REQUEST: &str = "GET /whoami HTTP/1.1\r\nHost: x\r\n\r\n";

/// Reloads so many times. Whether every promise was kept.
pub(crate) fn run(reloads: u64) -> bool {
    let (a, b) = (Sample::start("a"), Sample::start("b"));
    let fixed = [a.address(), b.address()];
    let mut everup = Everup::with(configuration(0, fixed)).start();
    everup.wait_all_up();
    let address = everup.address();
    let mut connections: Vec<_> = (0..KEPT).map(|_| Connection::open(address)).collect();
    let mut sockets: Vec<_> = (0..KEPT).map(|_| WebSocket::open(address, "/ws")).collect();
    let load = |path: &str, mode| everup.load(path).rate(RATE).mode(mode);
    let body = "x".repeat(2000);
    let loads = [
        load("/whoami", Mode::KeepAlive),
        load("/fixed", Mode::Close),
        load("/fixed", Mode::KeepAlive).sending("POST", &*body),
        load("/whoami", Mode::Close).sending("POST", &*body),
    ];
    let loads = loads.map(|load| load.start().expect("the load can start"));
    // What a first round takes (buffers, pools, tables of every kind) is not growth.
    let warm_up = KINDS.min(reloads / 2);
    let (mut closed, mut silent, mut memory, mut slowest) = (0, 0, 0, std::time::Duration::ZERO);
    for changes in 1..=reloads {
        let began = Instant::now();
        everup.reload(configuration(changes, fixed));
        slowest = slowest.max(began.elapsed());
        let alive = |connection: &mut Connection| {
            connection.try_send(REQUEST).is_ok()
                && connection.try_answer().is_ok_and(|answer| answer.status == 200)
        };
        closed += connections.extract_if(.., |connection| !alive(connection)).count();
        silent += sockets.extract_if(.., |socket| !socket.echoes(&format!("after {changes}"))).count();
        if changes == warm_up {
            memory = worker_memory(&everup);
        }
    }
    let after = worker_memory(&everup);
    let ledgers = loads.map(|load| load.stop().expect("the load does not panic"));
    ledgers.iter().for_each(|ledger| println!("{ledger}\n"));
    println!("{reloads} reloads, the slowest took {slowest:.0?}; memory {memory} KiB, then {after} KiB\n");

    let mut promises = Promises::default();
    let (lost, sent) = (sum(&ledgers, Ledger::lost), sum(&ledgers, Ledger::sent));
    promises.check("no request is lost", format!("{lost} of {sent}"), lost == 0);
    promises.check("no connection is closed", format!("{closed} of {KEPT}"), closed == 0);
    promises.check("WebSockets go on", format!("{silent} of {KEPT} fell silent"), silent == 0);
    let is_small = after <= memory + memory * GROWTH / 100;
    promises.check(
        "memory does not grow by more than 5 %",
        format!("{memory} KiB, then {after} KiB"),
        is_small,
    );
    promises.kept()
}

fn sum(ledgers: &[Ledger], of: fn(&Ledger) -> u64) -> u64 {
    ledgers.iter().map(of).sum()
}

/// The worker's resident memory in KiB.
fn worker_memory(everup: &Everup) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", everup.status().worker_pid));
    let status = status.expect("the worker runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number of kB")
}
