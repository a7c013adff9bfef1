//! The CPU time that a process and everything below it has used, in nanoseconds, from the scheduler's own books.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// Of process `root` and its descendants, user and system time of all their threads. What a thread that has ended
/// used is lost: the proxies keep theirs.
pub(crate) fn time_of_tree(root: u32) -> Result<Duration> {
    let children = children_by_parent()?;
    let mut waiting = vec![root];
    let mut total = Duration::ZERO;
    while let Some(process) = waiting.pop() {
        total += time_of(process);
        waiting.extend(children.get(&process).into_iter().flatten());
    }
    Ok(total)
}

fn children_by_parent() -> Result<BTreeMap<u32, Vec<u32>>> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").context("cannot list /proc")?.flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process that has just ended has no parent to tell.
        if let Some(parent) =
            fs::read_to_string(entry.path().join("stat")).ok().and_then(|stat| parent(&stat))
        {
            children.entry(parent).or_default().push(process);
        }
    }
    Ok(children)
}

/// After the name in parentheses, which may hold anything: state, parent.
fn parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

fn time_of(process: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let times = threads.filter_map(|thread| {
        let books = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        books.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(times.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_found_behind_a_name_with_parentheses() {
        assert_eq!(parent("12 (a) b) S 7 12 12 0 -1"), Some(7));
    }

    #[test]
    fn work_of_this_process_is_counted() {
        let before = time_of_tree(std::process::id()).unwrap();
        let mut sum = 0u64;
        while time_of_tree(std::process::id()).unwrap() < before + Duration::from_millis(5) {
            sum = std::hint::black_box((0..100_000u64).fold(sum, u64::wrapping_add));
        }
    }
}
