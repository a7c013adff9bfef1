//! Which core does what: one for the proxy under test, one for origin and load.

use anyhow::{Context, Result, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

pub(crate) struct Cores {
    pub(crate) proxy: usize,
    pub(crate) load: usize,
}

/// The first two cores that this process may use.
pub(crate) fn two() -> Result<Cores> {
    let allowed = sched_getaffinity(None).context("cannot ask for the cores")?;
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).take(2).collect();
    ensure!(cores.len() == 2, "two cores are needed: one for the proxy, one for origin and load");
    Ok(Cores { proxy: cores[0], load: cores[1] })
}

/// Pins the calling thread, and with it what it starts from now on.
pub(crate) fn pin_this_thread(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).with_context(|| format!("cannot pin to core {core}"))
}
