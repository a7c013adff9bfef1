//! The configuration is reloaded over and over, each time with a change of another kind, under 500 requests a second: GET and
//! POST, on kept connections and on one each, half of them over TLS; beside them WebSockets, half of them over TLS. With
//! `--peers`, HAProxy and nginx are reloaded as often under the same load, the one after the other.

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use everup_drill::{Change, End, Event, GameDay, Report, Shell, Talk, Trust, game_day};
use everup_e2e::reloads::{KINDS, secured};
use everup_e2e::{Certificate, Everup, Load, Mode, Peer, Process, Sample, private_memory};

use crate::promise::Promises;

/// How much is sent.
#[derive(Clone, Copy)]
struct Size {
    /// Requests per second, of eight kinds in turns.
    rate: f64,
    /// Kept connections that are used by turns: to the plain and to the https listener.
    kept: usize,
    /// WebSockets to each of the two, a message a second each.
    sockets: usize,
    /// How long a request may take.
    timeout: Duration,
}

const WHOLE: Size = Size { rate: 500.0, kept: 50, sockets: 100, timeout: Duration::from_secs(10) };
/// What a machine that is busy with other tests can do, too.
const SAMPLE: Size = Size { rate: 80.0, kept: 10, sockets: 10, timeout: Duration::from_secs(30) };

/// From one reload to the next, at least.
const EVERY: Duration = Duration::from_millis(250);
/// Load before the first one.
const WARM_UP: Duration = Duration::from_secs(5);
/// Reloads before memory is first looked at, if there are three times as many: by then pools and buffers are as large as the
/// load makes them, and every kind of change has been there several times. They are in the books like all others.
const SETTLING: u64 = 100;
/// Memory that the worker may have more afterwards, in percent.
const GROWTH: u64 = 5;
/// Whose certificate is shown.
const HOST: &str = "shop.example";

/// One line of the table.
struct Outcome {
    proxy: &'static str,
    report: Report,
    /// Private memory in KiB, and after how many reloads it was that.
    memory: Vec<(u64, u64)>,
}

/// One round of all kinds, without the promise about memory, which takes longer to settle. Whether the others were kept.
pub(crate) fn sample() -> bool {
    let (a, b) = (Sample::start("a"), Sample::start("b"));
    let certificates = [Certificate::of(HOST), Certificate::of("other.example")];
    let outcome = everup(SAMPLE, (0, KINDS + 1), [a.address(), b.address()], &certificates);
    tell(KINDS + 1, std::slice::from_ref(&outcome));
    promises(&outcome).kept()
}

/// Reloads so many times, after those until memory has settled. Whether every promise was kept.
pub(crate) fn run(reloads: u64, peers: bool) -> bool {
    let settling = if reloads >= 3 * SETTLING { SETTLING } else { KINDS.min(reloads / 2) };
    let reloads = settling + reloads;
    let (a, b) = (Sample::start("a"), Sample::start("b"));
    let origins = [a.address(), b.address()];
    let certificates = [Certificate::of(HOST), Certificate::of("other.example")];
    let everup = everup(WHOLE, (settling, reloads), origins, &certificates);
    let mut outcomes = vec![everup];
    if peers {
        let against = |proxy, peer: Peer| against(proxy, &peer, (settling, reloads));
        let haproxy = Peer::haproxy(origins, &certificates[0]).map(|peer| against("haproxy", peer));
        let nginx = Peer::nginx(origins, &certificates[0]).map(|peer| against("nginx", peer));
        outcomes.extend([haproxy, nginx].into_iter().flatten());
    }
    tell(reloads, &outcomes);
    let mut promises = promises(&outcomes[0]);
    if let [(first, before), .., (last, after)] = outcomes[0].memory[..] {
        let depths = deepest(&outcomes[0].report, usize::try_from(first).unwrap_or(usize::MAX));
        let what = format!(
            "{before} KiB after {first} reloads, {after} KiB after {last}; at most {} requests were open at a time before, {} since",
            depths[0], depths[1]
        );
        let holds = after <= before + before * GROWTH / 100;
        promises.check("memory does not grow by more than 5 % once it has settled", what, holds);
    }
    promises.kept()
}

fn everup(
    size: Size,
    reloads: (u64, u64),
    origins: [SocketAddr; 2],
    certificates: &[Certificate; 2],
) -> Outcome {
    let [first, second] = certificates;
    let configuration = |changes| secured(changes, origins, [first, second]);
    let mut everup = Everup::with(configuration(0)).start();
    everup.wait_all_up();
    let worker = everup.status().worker_pid;
    let day = day(size, everup.address(), everup.listener(1)[0], "/fixed");
    let reload =
        Reload { everup: &everup, configuration: &configuration, changes: 0, slowest: Duration::ZERO };
    let memory = || private_memory(&Process::with_id(worker).into_iter().collect::<Vec<_>>());
    let (report, memory) = hold(day, vec![Box::new(reload)], reloads, &memory);
    Outcome { proxy: "everup", report, memory }
}

fn against(proxy: &'static str, peer: &Peer, reloads: (u64, u64)) -> Outcome {
    let day = day(WHOLE, peer.address(), peer.secure(), "/whoami");
    let shell = Shell::new(peer.reload(), Duration::from_secs(30));
    let memory = || private_memory(&peer.processes());
    let (report, memory) = hold(day, vec![Box::new(shell)], reloads, &memory);
    Outcome { proxy, report, memory }
}

/// The load, the same for all. `other`: a second path to ask for.
fn day(size: Size, plain: SocketAddr, secure: SocketAddr, other: &str) -> GameDay {
    let bases = [format!("http://{plain}"), format!("https://{secure}")];
    let body = "x".repeat(2000);
    let mut loads = Vec::new();
    for base in &bases {
        let to = |path: &str| {
            let load = Load::to(&format!("{base}{path}")).expect("a loopback address is a target");
            load.mode(Mode::Mixed).host(HOST)
        };
        loads.push(to("/whoami"));
        loads.push(to("/echo").sending("POST", &*body));
        loads.push(to(other));
        loads.push(to(other).sending("POST", &*body));
    }
    let load = loads.into_iter().reduce(Load::in_turns_with).expect("there are eight");
    let load = load.rate(size.rate).holding(size.kept).trust(Trust::Anybody).timeout(size.timeout);
    let talk = |base: &String| {
        let talk = Talk::to(&format!("{base}/ws")).expect("a loopback address is a target");
        talk.sockets(size.sockets).host(HOST).trust(Trust::Anybody)
    };
    let talks = bases.iter().map(talk).collect();
    GameDay { load, talks, warm_up: WARM_UP, every: EVERY, patience: Duration::from_secs(60) }
}

/// Memory is looked at when it has settled, after every hundredth, and at the end.
fn hold(
    day: GameDay,
    mut changes: Vec<Box<dyn Change + '_>>,
    (settling, reloads): (u64, u64),
    memory: &dyn Fn() -> u64,
) -> (Report, Vec<(u64, u64)>) {
    let (mut done, mut seen) = (0, Vec::new());
    let times = u32::try_from(reloads).unwrap_or(u32::MAX);
    let tell = |_: &Event| {
        done += 1;
        if done == settling || (done > settling && done % 100 == 0) || done == reloads {
            seen.push((done, memory()));
        }
    };
    let report = game_day(day, &mut changes, times, &AtomicBool::new(false), tell);
    let report = report.unwrap_or_else(|error| panic!("the drill could not be held: {error}"));
    (report, seen)
}

/// The next configuration of the series.
struct Reload<'a> {
    everup: &'a Everup,
    configuration: &'a dyn Fn(u64) -> String,
    changes: u64,
    slowest: Duration,
}

impl Change for Reload<'_> {
    fn name(&self) -> &str {
        "reload"
    }

    fn begin(&mut self) -> Result<String, String> {
        self.changes += 1;
        self.everup.configure((self.configuration)(self.changes));
        let began = Instant::now();
        let said = self.everup.verb(&["reload"]);
        self.slowest = self.slowest.max(began.elapsed());
        if said.code == Some(0) { Ok(said.out) } else { Err(format!("{said:?}")) }
    }

    fn poll_end(&mut self) -> Result<Option<String>, String> {
        Ok(Some(format!("the slowest so far took {:.0?}", self.slowest)))
    }

    fn give_up(&mut self) {}
}

/// How many requests were open at a time at most: before the reload of this number and since. A machine that cannot keep up
/// with the load makes a queue, and a queue takes memory, reloads or not.
fn deepest(report: &Report, number: usize) -> [i64; 2] {
    let turn = report.events.get(number).map_or(Duration::MAX, |event| event.at);
    let mut steps: Vec<(Duration, i64)> = Vec::new();
    for entry in report.ledger.entries() {
        steps.extend([(entry.due, 1), (entry.due + entry.took, -1)]);
    }
    steps.sort_unstable();
    let (mut open, mut most) = (0, [0, 0]);
    for (at, step) in steps {
        open += step;
        let side = &mut most[usize::from(at >= turn)];
        *side = open.max(*side);
    }
    most
}

const ALWAYS: (Duration, Duration) = (Duration::ZERO, Duration::MAX);

/// How many kept connections ended: by themselves, and in the middle of a request.
fn closed(report: &Report) -> (u64, u64) {
    let ends = report.connections.ends(ALWAYS.0, ALWAYS.1);
    let broken = ends.get(&End::Broken).copied().unwrap_or_default();
    (ends.values().sum::<u64>() - broken, broken)
}

fn tell(reloads: u64, outcomes: &[Outcome]) {
    for Outcome { proxy, report, .. } in outcomes {
        println!("{proxy}: {}", report.ledger);
        if let Some(trouble) = report.events.iter().find_map(|event| event.trouble.as_ref()) {
            println!("{proxy}: {trouble}");
        }
    }
    println!(
        "| {reloads} reloads of | requests | lost | p99 | slowest | longest gap | kept connections closed, broken | WebSockets closed | messages | lost | private memory |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for Outcome { proxy, report, memory } in outcomes {
        let (ledger, (closed, broken)) = (&report.ledger, closed(report));
        let talked = report.talked.as_ref().expect("there are WebSockets");
        let memory: Vec<String> = memory
            .iter()
            .map(|(after, kib)| format!("{:.1} MiB after {after}", *kib as f64 / 1024.0))
            .collect();
        println!(
            "| {proxy} | {} | {} | {:.1?} | {:.1?} | {:.0?} | {closed}, {broken} | {} | {} | {} | {} |",
            ledger.sent(),
            ledger.lost(),
            ledger.quantile(0.99),
            ledger.quantile(1.0),
            ledger.longest_gap(),
            talked.lives.ends(ALWAYS.0, ALWAYS.1).values().sum::<u64>(),
            talked.messages.len(),
            talked.lost(ALWAYS.0, ALWAYS.1),
            memory.join(", "),
        );
    }
    println!();
}

fn promises(Outcome { report, .. }: &Outcome) -> Promises {
    let mut promises = Promises::default();
    let done = report.events.iter().filter(|event| event.over_after.is_some()).count();
    promises.check(
        "every reload takes place",
        format!("{done} of {}", report.events.len()),
        report.events.len() == done,
    );
    let (lost, sent) = (report.ledger.lost(), report.ledger.sent());
    promises.check("no request is lost", format!("{lost} of {sent}"), lost == 0);
    let (closed, broken) = closed(report);
    let opened = report.connections.0.len();
    let what = format!("{closed} closed and {broken} broken of {opened}");
    promises.check("no connection is closed", what, closed + broken == 0);
    let talked = report.talked.as_ref().expect("there are WebSockets");
    let ended = talked.lives.ends(ALWAYS.0, ALWAYS.1);
    promises.check(
        "no WebSocket is closed",
        format!("{ended:?} of {}", talked.lives.0.len()),
        ended.is_empty(),
    );
    let (lost, said) = (talked.lost(ALWAYS.0, ALWAYS.1), talked.messages.len());
    let heard = lost == 0 && talked.echoes();
    promises.check("no message is lost or out of order", format!("{lost} of {said}"), heard);
    promises
}
