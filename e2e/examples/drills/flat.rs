//! Does a request stay as cheap among many? A thousand routes, a thousand instances, ten thousand idle connections: first the
//! lookups by themselves, then the CPU that everup's data-plane threads use per request, beside an everup that has few of each;
//! and the memory of an idle connection, beside HAProxy's when that is installed.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use everup_e2e::{Config, Everup, Load, Mode, until};

use crate::promise::Promises;

mod lookups;
mod process;

/// Many routes, and many instances.
const MANY: usize = 1_000;
/// Requests per second while the CPU is measured.
const RATE: f64 = 2_000.0;
const STEP: Duration = Duration::from_secs(2);
const ROUNDS: usize = 5;
/// What may be added to the cost of a request by the thousandth route.
const FLAT: f64 = 1.15;

/// An everup with much of one thing.
struct Candidate {
    name: &'static str,
    everup: Everup,
    host: &'static str,
    /// CPU per request, relative to the everup with few of everything in the same round.
    ratios: Vec<f64>,
    /// Connections that stay open.
    idle: Vec<TcpStream>,
}

/// Whether lookups stay flat with so many idle connections.
pub(crate) fn run(connections: u64) -> bool {
    let connections = usize::try_from(connections).unwrap_or(usize::MAX);
    let mut promises = Promises::default();
    lookups::measure(&mut promises);
    let port = echoing();
    let mut candidates = candidates(port, connections);
    for candidate in &mut candidates {
        candidate.everup.wait_all_up();
        // Every instance gets its connection before anything is measured.
        load(candidate).rate(RATE).lasting(STEP).run().expect("the load can run");
    }
    memory(&mut candidates, connections, port, &mut promises);
    println!("| everup with | CPU per request | to that with few | p50 | p99 | lost |");
    println!("|---|---|---|---|---|---|");
    for _ in 0..ROUNDS {
        let mut few = 0.0;
        for candidate in &mut candidates {
            let worker = candidate.everup.status().worker_pid;
            let before = process::data_plane_time(worker);
            let ledger = load(candidate).rate(RATE).lasting(STEP).run().expect("the load can run");
            let used = process::data_plane_time(worker).saturating_sub(before);
            let each = used.as_secs_f64() * 1e6 / ledger.sent() as f64;
            few = if candidate.name == FEW { each } else { few };
            candidate.ratios.push(each / few);
            println!(
                "| {} | {each:.1} us | {:.2} | {:.2?} | {:.2?} | {} |",
                candidate.name,
                each / few,
                ledger.quantile(0.5),
                ledger.quantile(0.99),
                ledger.lost()
            );
        }
    }
    println!();
    for candidate in candidates.iter_mut().filter(|candidate| candidate.name != FEW) {
        candidate.ratios.sort_by(f64::total_cmp);
        let median = candidate.ratios[ROUNDS / 2];
        let range = format!("{:.2}-{:.2}", candidate.ratios[0], candidate.ratios[ROUNDS - 1]);
        let measured = format!("{median:.2} times [{range}]");
        // A thousand instances are a thousand connections: that they are cold is no lookup, and told only.
        if candidate.name == INSTANCES {
            println!("       CPU per request with {}: {measured}", candidate.name);
        } else {
            let what = format!("CPU per request stays flat with {}", candidate.name);
            promises.check(&what, measured, median <= FLAT);
        }
    }
    promises.kept()
}

const FEW: &str = "few of everything";
const INSTANCES: &str = "1,000 instances";

fn load(candidate: &Candidate) -> Load {
    candidate
        .everup
        .load("/anything")
        .host(candidate.host)
        .mode(Mode::KeepAlive)
        .timeout(Duration::from_secs(10))
}

fn candidates(port: u16, connections: usize) -> Vec<Candidate> {
    let few = [1, 2].map(|last| SocketAddr::from(([127, 0, 1, last], port)));
    let many = (0..MANY).map(|number| {
        let [high, low] = [number / 250, number % 250 + 1].map(|part| u8::try_from(part).unwrap_or(u8::MAX));
        SocketAddr::from(([127, 0, 2 + high, low], port))
    });
    let calm = |config: Config| config.health("interval = \"10s\"").health("timeout = \"5s\"");
    let routes: String = (0..MANY).map(lookups::route).collect();
    let start = |name, config: Config, host| Candidate {
        name,
        everup: Everup::with(config).start(),
        host,
        ratios: Vec::new(),
        idle: Vec::with_capacity(connections),
    };
    // Routes are lines of the listener, and come before what follows it.
    vec![
        start(FEW, calm(Config::shop(few)), "shop.example"),
        start("1,000 routes", calm(Config::shop(few).listener(&routes)), lookups::LAST_HOST),
        start(INSTANCES, calm(Config::shop(many)), "shop.example"),
        start("10,000 idle connections", calm(Config::shop(few)), "shop.example"),
    ]
}

/// An origin on every loopback address, on the port that is returned; it lives as long as the drill.
fn echoing() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a free port");
    let port = listener.local_addr().expect("a listener has an address").port();
    thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            thread::Builder::new()
                .stack_size(64 * 1024)
                .spawn(move || {
                    let mut request = [0; 4096];
                    // The load's requests come in one piece.
                    while socket.read(&mut request).is_ok_and(|read| read > 0) {
                        if socket.write_all(ANSWER).is_err() {
                            break;
                        }
                    }
                })
                .expect("a thread for each connection");
        }
    });
    port
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";

/// Memory per idle connection, of everup and of HAProxy.
fn memory(candidates: &mut [Candidate], connections: usize, port: u16, promises: &mut Promises) {
    let idle = candidates.last_mut().expect("there are some");
    let worker = idle.everup.status().worker_pid;
    let before = process::resident(worker);
    idle.idle = open_idle(idle.everup.address(), connections);
    let ours = process::resident(worker).saturating_sub(before) as f64 / idle.idle.len() as f64;
    println!("\neverup: {ours:.0} bytes for each of {} idle connections", idle.idle.len());
    let Some(haproxy) = Haproxy::start(port, connections) else {
        println!("       haproxy is not installed: no comparison\n");
        return;
    };
    let before = process::resident(haproxy.child.id());
    let open = open_idle(haproxy.address, connections.min(Haproxy::MOST));
    let theirs = process::resident(haproxy.child.id()).saturating_sub(before) as f64 / open.len() as f64;
    println!("haproxy: {theirs:.0} bytes for each of {} idle connections\n", open.len());
    let measured = format!("{:.2} of it", ours / theirs);
    promises.check("an idle connection takes no more memory than HAProxy's", measured, ours <= theirs);
}

/// Connections that have had one request each.
fn open_idle(address: SocketAddr, connections: usize) -> Vec<TcpStream> {
    let mut open = Vec::with_capacity(connections);
    for _ in 0..connections {
        let Ok(mut socket) = TcpStream::connect(address) else { break };
        let asked = socket.write_all(b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n");
        let answered = asked.and_then(|()| socket.read(&mut [0; 4096]));
        assert!(answered.is_ok_and(|read| read > 0), "connection {} is answered", open.len());
        open.push(socket);
    }
    open
}

/// A HAProxy with the same work, killed when it is over.
struct Haproxy {
    child: Child,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Haproxy {
    /// It wants two descriptors for each, and not every system gives it more than 20,000.
    const MOST: usize = 9_500;

    /// None: it is not installed, or does not start.
    fn start(port: u16, connections: usize) -> Option<Self> {
        let directory = tempfile::tempdir().ok()?;
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
        let address = free.local_addr().ok()?;
        drop(free);
        let file = directory.path().join("haproxy.cfg");
        let text = format!(
            "global\n  nbthread 2\n  maxconn {}\ndefaults\n  mode http\n  timeout client 60s\n  timeout server 60s\n  \
             timeout connect 5s\n  timeout http-keep-alive 60s\nfrontend http\n  bind {address}\n  option \
             http-keep-alive\n  http-request set-header X-Forwarded-For %[src]\n  default_backend shop\nbackend shop\n  \
             http-reuse always\n  server a 127.0.1.1:{port}\n  server b 127.0.1.2:{port}\n",
            connections.min(Self::MOST) + 100
        );
        std::fs::write(&file, text).ok()?;
        let mut command = Command::new("haproxy");
        let child = command.arg("-f").arg(&file).stdin(Stdio::null()).spawn().ok()?;
        let started = Self { child, address, _directory: directory };
        until("haproxy listens", || TcpStream::connect(address).is_ok());
        Some(started)
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        // Dead already is as good.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
