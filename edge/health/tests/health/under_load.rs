//! Probes while the process burns all the cores it can get.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use everup_core::config::Health;
use everup_core::health::{Reason, Verdict};

use super::instances::{Instance, Manner, ok};
use super::verdicts::{Verdicts, http, quick, until};

/// Spins on every core, two threads each, until dropped.
struct Burning {
    over: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Burning {
    fn new() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let cores = thread::available_parallelism().unwrap().get();
        let spin = |_| {
            let over = over.clone();
            thread::spawn(move || while !over.load(Ordering::Relaxed) {})
        };
        let threads = (0..2 * cores).map(spin).collect();
        Self { over, threads }
    }
}

impl Drop for Burning {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

#[test]
fn under_full_load_probes_go_on_and_blame_nobody_but_the_dead() {
    let fine: Vec<_> = (0..20).map(|_| Instance::new(ok())).collect();
    let mut verdicts = Verdicts::new();
    for (n, instance) in fine.iter().enumerate() {
        verdicts.watch(&format!("fine-{n}"), instance.address, quick(http()), Verdict::Up);
    }
    until("all were probed", || fine.iter().all(|instance| instance.connections() > 0));

    let burning = Burning::new();
    let start = Instant::now();
    let before: usize = fine.iter().map(Instance::connections).sum();
    until("time passes", || start.elapsed() > Duration::from_secs(3));
    let probes = fine.iter().map(Instance::connections).sum::<usize>() - before;
    // 15 rounds of 20 fit into 3 s; the fake instances need the same cores to answer.
    assert!(probes >= 100, "{probes} probes in {:?}", start.elapsed());
    assert_eq!(verdicts.waiting(), [], "nobody is judged down because we are busy");

    let dead = Instance::new(Manner::Hangs);
    verdicts.watch("dead", dead.address, Health { fall: 2, ..quick(http()) }, Verdict::Up);
    assert_eq!(verdicts.next(), ("dead".to_owned(), Verdict::Down(Reason::ProbeTimeout)));
    drop(burning);
}
