//! A request on the common path (keep-alive on both sides, no body, no cookie) allocates nothing: a counting allocator
//! watches the data-plane thread while a thousand requests go through it over real sockets.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use everup_core::config;
use everup_core::ids::{Generation, InstanceId};
use everup_gateway::{
    AccessLog, Availability, Batching, Gateway, InstanceShared, InstanceTable, ListenerSockets,
    ListenerTable, ServiceShared, ServiceTable, Setup, Snapshot,
};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The test's own threads do not count; what is left is the data plane.
    static OURS: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    if !OURS.try_with(Cell::get).unwrap_or(true) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

#[expect(unsafe_code, reason = "an allocator that counts cannot be written without")]
// SAFETY: every call goes to the system's allocator unchanged; counting touches an atomic and a const-initialised
// thread-local, neither of which allocates.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller upholds the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds the contract of `dealloc`, which is the same.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller upholds the contract of `realloc`, which is the same.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A request that takes longer is not on the common path: the gateway may keep its tale. On a busy machine that happens.
const COMMON: Duration = Duration::from_millis(90);

/// So often a round is tried in which all requests are quicker.
const ROUNDS: usize = 10;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello";
const REQUEST: &[u8] =
    b"GET /path?query HTTP/1.1\r\nHost: app.example.com\r\nUser-Agent: test/1.0\r\nAccept: */*\r\n\r\n";

/// An instance that answers every request the same.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        OURS.set(true);
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                OURS.set(true);
                answer_all(stream);
            });
        }
    });
    address
}

fn answer_all(mut stream: TcpStream) {
    let mut buffer = [0u8; 4096];
    let mut filled = 0;
    while let Ok(read @ 1..) = stream.read(&mut buffer[filled..]) {
        filled += read;
        if buffer[..filled].ends_with(b"\r\n\r\n") {
            filled = 0;
            if stream.write_all(ANSWER).is_err() {
                return;
            }
        }
    }
}

/// A gateway with one thread, one listener and one service over two origins.
fn gateway(access_log: Option<AccessLog>, batching: Batching) -> (Gateway, SocketAddr) {
    let (first, second) = (origin(), origin());
    let text = format!(
        "[[listener]]\nbind = [\"127.0.0.1:0\"]\n[[listener.route]]\nhost = \"app.example.com\"\nservice = \"app\"\n\n[service.app]\ninstances = [\"{first}\", \"{second}\"]\n"
    );
    let config = config::parse(&text).expect("the configuration is valid");
    let settings = Arc::new(config.services[0].clone());
    let instances = settings.instances.iter().map(|instance| InstanceTable {
        id: InstanceId::new("app", instance.address.to_string()),
        address: instance.address,
        weight: instance.weight,
        state: Availability::Takes,
        backup: false,
        warms_since: None,
        shared: Arc::new(InstanceShared::new(1)),
    });
    let service = ServiceTable {
        name: "app".into(),
        instances: instances.collect(),
        settings: Arc::clone(&settings),
        shared: Arc::new(ServiceShared::new(1)),
        connector: None,
        leaves: false,
        maglev: None,
    };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("sockets can be non-blocking");
    let local = listener.local_addr().expect("it is bound");
    let sockets = ListenerSockets {
        listener: 0,
        protocol: config::Protocol::Http,
        local,
        tls: None,
        fds: vec![listener.into()],
    };
    let snapshot = Snapshot {
        generation: Generation(1),
        listeners: vec![ListenerTable::new(&config.listeners[0])],
        services: vec![service],
    };
    let setup = Setup {
        limits: config.limits,
        access_log,
        makes_trace_parents: true,
        batching,
        sockets: vec![sockets],
        threads: 1,
        sticky_keys: [[1; 32]].into(),
        worker_seed: 7,
    };
    let (events, _) = tokio::sync::mpsc::unbounded_channel();
    (Gateway::start(setup, snapshot, events).expect("the data plane starts"), local)
}

fn exchange(client: &mut TcpStream) {
    client.write_all(REQUEST).expect("the gateway reads");
    let mut answer = [0u8; ANSWER.len()];
    client.read_exact(&mut answer).expect("the gateway answers");
    assert_eq!(answer, ANSWER);
}

fn allocations(access_log: Option<AccessLog>, batching: Batching) -> u64 {
    let (gateway, address) = gateway(access_log, batching);
    let mut client = TcpStream::connect(address).expect("the gateway accepts");
    // Long enough for every buffer of the access log to have been around.
    for _ in 0..2000 {
        exchange(&mut client);
    }
    let mut allocations = 0;
    for _ in 0..ROUNDS {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let slowest = (0..1000).map(|_| {
            let began = Instant::now();
            exchange(&mut client);
            began.elapsed()
        });
        let slowest = slowest.max();
        allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
        if slowest < Some(COMMON) {
            break;
        }
    }
    assert_eq!(gateway.dropped_lines(), 0);
    gateway.stop();
    allocations
}

/// One test, because the counter is one for the process.
#[test]
fn a_request_on_the_common_path_allocates_nothing_with_and_without_an_access_log() {
    OURS.set(true);
    for batching in [Batching::Never, Batching::Always] {
        assert_eq!(allocations(None, batching), 0, "allocations over 1,000 requests, {batching:?} batching");
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("access.log");
    let log = AccessLog { file: Some(file.clone()), query: true };
    assert_eq!(
        allocations(Some(log), Batching::default()),
        0,
        "allocations over 1,000 requests with an access log"
    );
    let lines = std::fs::read_to_string(file).expect("the log is there").lines().count();
    assert!(lines >= 3000, "{lines}");
}
