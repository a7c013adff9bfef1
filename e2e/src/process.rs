//! Processes by their id: alive, signalled, and who descends from whom (from `/proc`).

use std::collections::BTreeMap;

use rustix::process::{Pid, Signal, kill_process};

/// One process, told from a later one with the same id by its start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    started: u64,
}

/// What `/proc/PID/stat` tells.
struct Stat {
    parent: u32,
    state: char,
    started: u64,
}

impl Process {
    /// The process that has this id now, unless it is dead (a zombie is).
    pub fn with_id(pid: u32) -> Option<Self> {
        let stat = read_stat(pid).filter(Stat::is_alive)?;
        Some(Self { pid, started: stat.started })
    }

    /// Whether any thread of it still runs: until the last one is gone, its connections stay open.
    pub fn is_alive(self) -> bool {
        let stat = read_stat(self.pid).filter(|stat| stat.started == self.started);
        stat.is_some_and(|stat| stat.is_alive() || threads(self.pid) > 1)
    }

    /// Whether it is stopped by a signal.
    pub fn is_frozen(self) -> bool {
        read_stat(self.pid).is_some_and(|stat| stat.state == 'T')
    }

    /// Signals it if it still runs.
    pub fn signal(self, signal: Signal) {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return };
        if self.is_alive() {
            // It may end between the look and the signal; then there is nobody to signal any more.
            let _gone_meanwhile = kill_process(pid, signal);
        }
    }

    /// SIGKILL.
    pub fn kill(self) {
        self.signal(Signal::KILL);
    }
}

impl Stat {
    fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// All living processes below `pid`.
pub fn descendants(pid: u32) -> Vec<Process> {
    let mut children: BTreeMap<u32, Vec<Process>> = BTreeMap::new();
    let entries = std::fs::read_dir("/proc").expect("Linux has /proc");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids {
        if let Some(stat) = read_stat(pid).filter(Stat::is_alive) {
            children.entry(stat.parent).or_default().push(Process { pid, started: stat.started });
        }
    }
    let mut found = Vec::new();
    let mut parents = vec![pid];
    while let Some(parent) = parents.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            parents.push(child.pid);
            found.push(child);
        }
    }
    found
}

/// Memory in KiB that only these processes have: written to, and shared with nobody. What is mapped from files can be
/// had again, and counts for nothing.
pub fn private_memory(processes: &[Process]) -> u64 {
    let of = |process: &Process| {
        let books = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", process.pid)).ok()?;
        let line = books.lines().find_map(|line| line.strip_prefix("Private_Dirty:"))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    };
    processes.iter().filter_map(of).sum()
}

fn threads(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// See proc(5): the name in parentheses may hold anything, so fields are counted after its end.
fn read_stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    let state = fields.first()?.chars().next()?;
    Some(Stat { state, parent: fields.get(1)?.parse().ok()?, started: fields.get(19)?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_child_is_found_alive_frozen_and_dead() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::with_id(child.id()).unwrap();
        assert!(descendants(std::process::id()).contains(&process));
        process.signal(Signal::STOP);
        crate::until("it is frozen", || process.is_frozen());
        process.kill();
        crate::until("it is dead", || !process.is_alive());
        child.wait().unwrap();
        assert_eq!(Process::with_id(child.id()), None);
    }
}
