//! Runs the hooks of deployments: each in a process group of its own, beside the control loop, with a limit on its time and
//! on what is kept of its output. What follows from how it ends is decided in `core/src/deploy/hooks.rs`.
//!
//! Between this process and the hook stands `everup hook`, which has a pipe of ours as standard input: when that is closed
//! (the time is over, the hook is not wanted any more, or this process died) it kills the hook's whole group.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use everup_core::deploy::{HookOrder, HookResult, Task, WarmUp};
use everup_health::{Watch, try_request};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

/// So much of the end of the output is kept.
const OUTPUT_BYTES: usize = 2048;

/// So many lines of it.
const OUTPUT_LINES: usize = 20;

/// So many instances are warmed up at the same time.
const WARMED_AT_A_TIME: usize = 16;

/// Children that the hook moved out of its group may hold its output open.
const OUTPUT_GRACE: Duration = Duration::from_millis(100);

/// A hook that is to be run, with everything that it is told.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) service: Arc<str>,
    pub(crate) order: HookOrder,
    pub(crate) environment: Vec<(&'static str, String)>,
    /// How the instances that it is about are reached.
    pub(crate) watches: Vec<Watch>,
}

/// A hook is over.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) service: Arc<str>,
    pub(crate) result: HookResult,
}

/// Those that are being run, one of a service at most.
#[derive(Debug)]
pub(crate) struct Hooks {
    running: BTreeMap<Arc<str>, AbortHandle>,
    teller: mpsc::UnboundedSender<Ended>,
    told: mpsc::UnboundedReceiver<Ended>,
}

impl Hooks {
    /// None are.
    pub(crate) fn new() -> Self {
        let (teller, told) = mpsc::unbounded_channel();
        Self { running: BTreeMap::new(), teller, told }
    }

    /// Waits for the end of one.
    pub(crate) async fn ended(&mut self) -> Option<Ended> {
        self.told.recv().await
    }

    /// Begins one.
    pub(crate) fn run(&mut self, run: Run) {
        self.end(&run.service);
        let service = Arc::clone(&run.service);
        let ended = self.teller.clone();
        let task = tokio::spawn(async move {
            let result = match &run.order.task {
                Task::Command { command, timeout } => carry_out(&run, command, *timeout).await,
                Task::WarmUp(warm_up) => warm(&run, warm_up).await,
            };
            let Run { service, order: HookOrder { deployment, run, .. }, .. } = run;
            let (passed, text, output) = result;
            // Without a worker nobody waits for it.
            drop(ended.send(Ended { service, result: HookResult { deployment, run, passed, text, output } }));
        });
        self.running.insert(service, task.abort_handle());
    }

    /// Kills all of them: another worker decides what becomes of the deployments.
    pub(crate) fn end_all(&mut self) {
        std::mem::take(&mut self.running).into_values().for_each(|task| task.abort());
    }

    /// Kills the one of this service.
    pub(crate) fn end(&mut self, service: &str) {
        if let Some(task) = self.running.remove(service) {
            task.abort();
        }
    }
}

/// Whether it passed, how it ended in words, and the last of what it printed.
async fn carry_out(run: &Run, command: &[String], limit: Duration) -> (bool, String, Vec<String>) {
    let (mut child, mut output) = match start(run, command).await {
        Ok(started) => started,
        Err(error) => return (false, format!("cannot be run: {error}"), Vec::new()),
    };
    let mut tail = Tail::default();
    let guard = child.stdin.take();
    let over = tokio::select! {
        status = wait(&mut child, &mut output, &mut tail) => Some(status),
        () = tokio::time::sleep(limit) => None,
    };
    // With this the group is killed, if it is still there.
    drop(guard);
    let (passed, text) = match over {
        Some(Ok(status)) => (status.success(), in_words(status)),
        Some(Err(error)) => (false, format!("cannot be waited for: {error}")),
        None => {
            let _ = tokio::time::timeout(OUTPUT_GRACE, wait(&mut child, &mut output, &mut tail)).await;
            (false, format!("took longer than {} s and was killed", limit.as_secs_f64()))
        }
    };
    let _ = tokio::time::timeout(OUTPUT_GRACE, read(&mut output, &mut tail)).await;
    (passed, text, tail.lines())
}

/// Sends every instance its requests; the first one that fails ends it.
async fn warm(run: &Run, WarmUp { path, requests, timeout }: &WarmUp) -> (bool, String, Vec<String>) {
    let (requests, timeout) = (*requests, *timeout);
    let missing = run.order.slots.len() - run.watches.len();
    if missing > 0 {
        return (false, format!("{missing} of the instances cannot be reached"), Vec::new());
    }
    let mut waiting = run.watches.iter();
    let mut busy = JoinSet::new();
    loop {
        while busy.len() < WARMED_AT_A_TIME
            && let Some(watch) = waiting.next()
        {
            let (watch, path) = (watch.clone(), path.clone());
            busy.spawn(async move {
                for number in 1..=requests {
                    let asked = try_request(&watch, &path, timeout).await;
                    asked.map_err(|why| {
                        let name = &watch.id.instance;
                        format!("{name}, request {number} of {requests} for {path}: {why}")
                    })?;
                }
                Ok(())
            });
        }
        match busy.join_next().await {
            None => break,
            Some(Ok(Ok(()))) => {}
            Some(Ok(Err(why))) => return (false, why, Vec::new()),
            Some(Err(error)) => return (false, error.to_string(), Vec::new()),
        }
    }
    let names: Vec<&str> = run.watches.iter().map(|watch| &*watch.id.instance).collect();
    (true, format!("{requests} requests answered by {}", names.join(", ")), Vec::new())
}

/// On a thread for blocking work: `exec` from a disk that hangs must not stop the control loop.
async fn start(run: &Run, words: &[String]) -> io::Result<(Child, pipe::Receiver)> {
    let (reader, writer) = io::pipe()?;
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("everup")
        .args(["hook", "--"])
        .args(words)
        .envs(run.environment.iter().map(|(name, value)| (*name, value)))
        .stdin(Stdio::piped())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0);
    let child = tokio::task::spawn_blocking(move || command.spawn()).await.map_err(io::Error::other)??;
    Ok((child, pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?))
}

async fn wait(child: &mut Child, output: &mut pipe::Receiver, tail: &mut Tail) -> io::Result<ExitStatus> {
    tokio::select! {
        status = child.wait() => status,
        () = read(output, tail) => child.wait().await,
    }
}

/// Reads to the end.
async fn read(output: &mut pipe::Receiver, tail: &mut Tail) {
    let mut piece = [0; 4096];
    while let Ok(read @ 1..) = output.read(&mut piece).await {
        tail.push(&piece[..read]);
    }
}

/// `everup hook` ends with the code of the hook, or as a shell does if that was killed.
fn in_words(status: ExitStatus) -> String {
    match status.code() {
        Some(code @ 129..=192) => format!("exited with code {code} (signal {})", code - 128),
        Some(code) => format!("exited with code {code}"),
        None => format!("was ended from outside ({status})"),
    }
}

/// The end of what was printed.
#[derive(Debug, Default)]
struct Tail {
    bytes: VecDeque<u8>,
    cut: bool,
}

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        let surplus = self.bytes.len().saturating_sub(OUTPUT_BYTES);
        self.cut |= surplus > 0;
        self.bytes.drain(..surplus);
    }

    /// The last lines; what steers terminals is taken out.
    fn lines(mut self) -> Vec<String> {
        let text = String::from_utf8_lossy(self.bytes.make_contiguous()).into_owned();
        let all = text.lines().skip(usize::from(self.cut)).map(|line| line.replace(char::is_control, " "));
        let mut lines: Vec<String> = all.collect();
        lines.drain(..lines.len().saturating_sub(OUTPUT_LINES));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_output_the_last_whole_lines_are_kept_and_nothing_that_steers_terminals() {
        let mut tail = Tail::default();
        (0..1000).for_each(|number| tail.push(format!("line {number}\n").as_bytes()));
        tail.push(b"\x1b[2J\xff");
        let lines = tail.lines();
        assert_eq!((lines.len(), lines[0].as_str()), (OUTPUT_LINES, "line 981"));
        assert_eq!(lines[OUTPUT_LINES - 1], " [2J\u{fffd}");
        let mut tail = Tail::default();
        tail.push(&[b'x'; 3 * OUTPUT_BYTES]);
        assert_eq!(tail.lines(), Vec::<String>::new());
    }
}
