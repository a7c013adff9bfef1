//! The terminal of a running everup: permanent lines, and below them one live line that is rewritten in place.
//!
//! Log lines (stderr) and permanent lines (stdout) go through the same [`Screen`], so that neither tears the live
//! line. Without a terminal there is no live line and text passes through. A terminal that went away is no reason to
//! stop carrying traffic: write errors are ignored. Nor is one that is held (Ctrl-S), or a pipe that nobody reads: log
//! lines that cannot be written now are dropped and counted, for whoever logs may be a thread that carries traffic.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use everup_admin::api::{InstanceState, Status};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing_subscriber::fmt::MakeWriter;

use crate::table::{counted, milliseconds};

/// Back to the first column and erase the line (ECMA-48 EL).
const ERASE: &str = "\r\x1b[2K";

/// Assumed when the terminal does not tell its width.
const USUAL_COLUMNS: usize = 80;

/// Shared by whoever writes to the terminal.
#[derive(Clone)]
pub(crate) struct Screen {
    state: Arc<Mutex<State>>,
}

struct State {
    /// There is a terminal, and the caller wants the line.
    live: bool,
    line: String,
    /// Texts that were dropped since the last that was written.
    dropped: u64,
}

impl Screen {
    /// A screen on stdout; with `wanted`, and if stdout is a terminal, it has a live line.
    pub(crate) fn new(wanted: bool) -> Self {
        let live = wanted && io::stdout().is_terminal();
        Self { state: Arc::new(Mutex::new(State { live, line: String::new(), dropped: 0 })) }
    }

    /// Writes permanent lines to stdout, above the live one.
    pub(crate) fn say(&self, text: &str) {
        self.state().write_above(&mut io::stdout().lock(), text.as_bytes());
    }

    /// Replaces the live line, if there is one.
    pub(crate) fn show(&self, line: &str) {
        let mut state = self.state();
        if state.live {
            let columns = columns().saturating_sub(1);
            state.line = line.chars().take(columns).collect();
            state.redraw();
        }
    }

    /// Takes the live line away.
    pub(crate) fn clear(&self) {
        self.show("");
    }

    /// From now on the live line is another process's: nothing is drawn any more.
    pub(crate) fn retire(&self) {
        self.state().live = false;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn write_above(&mut self, out: &mut (impl Write + AsFd), text: &[u8]) {
        if !takes(&mut *out) || self.live && !takes(io::stdout()) {
            self.dropped += 1;
            return;
        }
        if self.live {
            let _ = io::stdout().write_all(ERASE.as_bytes());
            let _ = io::stdout().flush();
        }
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            let _ = writeln!(out, "everup: {} dropped: nobody read them", counted(dropped, "line"));
        }
        let _ = out.write_all(text);
        let _ = out.flush();
        if self.live {
            self.redraw();
        }
    }

    /// The cursor rests in the first column: a line that another process writes covers the live one's beginning
    /// instead of standing behind its end.
    fn redraw(&self) {
        if !takes(io::stdout()) {
            return;
        }
        let mut out = io::stdout().lock();
        let _ = write!(out, "{ERASE}{}\r", self.line);
        let _ = out.flush();
    }
}

/// A write of a few lines will not wait. (A pipe that has room has room for 4 KiB.)
fn takes(out: impl AsFd) -> bool {
    let mut ready = [PollFd::new(&out, PollFlags::OUT)];
    poll(&mut ready, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

fn columns() -> usize {
    rustix::termios::tcgetwinsize(io::stdout())
        .map(|size| usize::from(size.ws_col))
        .ok()
        .filter(|columns| *columns > 0)
        .unwrap_or(USUAL_COLUMNS)
}

/// For the log: each event is one write.
impl<'a> MakeWriter<'a> for Screen {
    type Writer = LogWriter;

    fn make_writer(&'a self) -> LogWriter {
        LogWriter { screen: self.clone() }
    }
}

/// Writes log lines to stderr, above the live line.
pub(crate) struct LogWriter {
    screen: Screen,
}

impl Write for LogWriter {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.screen.state().write_above(&mut io::stderr().lock(), text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The live line: what an operator glances at.
pub(crate) fn summary(status: &Status) -> String {
    let services = &status.services;
    let rate: f64 = services.iter().map(|service| service.requests_per_second).sum();
    let in_flight: u64 = services.iter().map(|service| service.in_flight).sum();
    let parked: u64 = services.iter().map(|service| service.parked).sum();
    let errors: u64 = services.iter().map(|service| service.errors).sum();
    let p99 = services.iter().filter_map(|service| service.p99_ms).reduce(f64::max);
    let instances = || services.iter().flat_map(|service| &service.instances);
    let up = instances().filter(|instance| instance.state == InstanceState::Up).count();
    let parked = if parked > 0 { format!("  {parked} parked") } else { String::new() };
    format!(
        "{rate:.0} requests/s  {in_flight} in flight{parked}  p99 {}  {up} of {} up  {}",
        milliseconds(p99),
        counted(instances().count() as u64, "instance"),
        counted(errors, "error"),
    )
}

/// What runs where and what to try next, said once when everup serves. `called` is how the operator called the
/// binary, `config` the file as the operator would name it.
pub(crate) fn greeting(status: &Status, called: &str, config: &str) -> String {
    let mut text = String::new();
    for service in &status.services {
        let up = service.instances.iter().filter(|instance| instance.state == InstanceState::Up).count();
        let all = service.instances.len();
        let count =
            if up == all { counted(all as u64, "instance") } else { format!("{up} of {all} instances up") };
        let mut revisions: Vec<_> = service.instances.iter().filter_map(|i| i.revision.as_deref()).collect();
        revisions.sort_unstable();
        revisions.dedup();
        let revisions =
            if revisions.is_empty() { String::new() } else { format!(" ({})", revisions.join(", ")) };
        text +=
            &format!("{}: {count}{revisions} behind {}\n", service.name, entrances(status, &service.name));
    }
    text += &format!("see:  {called} status -w --config {config}\n");
    text += &format!("try:  {called} drill --config {config}\n");
    text += "stop: Ctrl-C\n";
    text
}

/// The addresses that lead to a service: those it is the default of, else all of http, for a route leads there.
fn entrances(status: &Status, service: &str) -> String {
    let url = |protocol: &str, address: &String| format!("{protocol}://{address}");
    let of = |wanted: &dyn Fn(Option<&str>, usize) -> bool| {
        let listeners =
            status.listeners.iter().filter(|listener| wanted(listener.service.as_deref(), listener.routes));
        listeners
            .flat_map(|listener| listener.addresses.iter().map(|address| url(&listener.protocol, address)))
            .collect::<Vec<_>>()
    };
    let default = of(&|default, _| default == Some(service));
    let shown = if default.is_empty() { of(&|_, routes| routes > 0) } else { default };
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use everup_admin::api::{InstanceStatus, ListenerStatus, ServiceStatus};

    use super::*;

    fn instance(name: &str, state: InstanceState) -> InstanceStatus {
        InstanceStatus {
            name: name.into(),
            address: String::new(),
            state,
            reason: String::new(),
            returns_in_seconds: None,
            weight: 1,
            backup: false,
            requests: 0,
            in_flight: 0,
            tunnels: 0,
            pid: None,
            revision: Some("v1".into()),
            restarts: 0,
            since_seconds: 0.0,
            log: Vec::new(),
        }
    }

    fn status(instances: Vec<InstanceStatus>) -> Status {
        let service = ServiceStatus {
            name: "shop".into(),
            balance: "round-robin".into(),
            leaves: false,
            requests_per_second: 99.6,
            in_flight: 2,
            parked: 0,
            queued: 0,
            requests: 0,
            errors: 0,
            retries: 0,
            p50_ms: None,
            p99_ms: Some(12.3),
            instances,
            lock: None,
            deployment: None,
        };
        Status {
            node: "n".into(),
            version: "0.1.0".into(),
            config: "q.toml".into(),
            worker_pid: 2,
            keeper_pid: 1,
            worker_restarts: 0,
            generation: 1,
            uptime_seconds: 0.0,
            ready: true,
            keeper_gone: false,
            warnings: Vec::new(),
            stopping: false,
            connections: 0,
            metrics: None,
            listeners: vec![ListenerStatus {
                protocol: "http".into(),
                addresses: vec!["127.0.0.1:8080".into()],
                routes: 0,
                service: Some("shop".into()),
                tls: false,
            }],
            services: vec![service],
            leaving: Vec::new(),
        }
    }

    #[test]
    fn a_reader_that_does_not_read_holds_nobody_up_and_is_told_what_it_missed() {
        let (mut reader, mut writer) = io::pipe().unwrap();
        let mut state = State { live: false, line: String::new(), dropped: 0 };
        let text = [b'x'; 4096];
        while takes(&writer) {
            state.write_above(&mut writer, &text);
        }
        state.write_above(&mut writer, b"one\n");
        state.write_above(&mut writer, b"two\n");
        io::Read::read_exact(&mut reader, &mut [0; 8192]).unwrap();
        state.write_above(&mut writer, b"three\n");
        drop(writer);
        let mut rest = String::new();
        io::Read::read_to_string(&mut reader, &mut rest).unwrap();
        let lines = rest.trim_start_matches('x');
        assert_eq!(lines, "everup: 2 lines dropped: nobody read them\nthree\n");
    }

    #[test]
    fn four_lines_say_what_runs_where_and_what_to_try_next() {
        let up = vec![instance("shop-1", InstanceState::Up), instance("shop-2", InstanceState::Up)];
        assert_eq!(
            greeting(&status(up), "target/release/everup", "q.toml"),
            "shop: 2 instances (v1) behind http://127.0.0.1:8080\n\
             see:  target/release/everup status -w --config q.toml\n\
             try:  target/release/everup drill --config q.toml\n\
             stop: Ctrl-C\n"
        );
    }

    #[test]
    fn a_service_that_is_not_all_up_says_so() {
        let some = vec![instance("shop-1", InstanceState::Up), instance("shop-2", InstanceState::Backoff)];
        assert!(
            greeting(&status(some), "everup", "q.toml").starts_with("shop: 1 of 2 instances up (v1) behind ")
        );
    }

    #[test]
    fn the_summary_counts_over_all_services() {
        let mixed = vec![instance("shop-1", InstanceState::Up), instance("shop-2", InstanceState::Down)];
        assert_eq!(
            summary(&status(mixed)),
            "100 requests/s  2 in flight  p99 12.3 ms  1 of 2 instances up  0 errors"
        );
    }
}
