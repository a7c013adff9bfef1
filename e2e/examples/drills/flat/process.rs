//! What the kernel's books say of a process.

use std::fs;
use std::time::Duration;

/// Memory that the process holds, in bytes.
pub(super) fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}

/// CPU time, user and system, of a worker's data-plane threads.
pub(super) fn data_plane_time(worker: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{worker}/task")).into_iter().flatten().flatten();
    let times = threads.filter_map(|thread| {
        let name = fs::read_to_string(thread.path().join("comm")).ok()?;
        let books = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let time = books.split(' ').next()?.parse::<u64>().ok()?;
        name.starts_with("data-").then_some(time)
    });
    Duration::from_nanos(times.sum())
}
