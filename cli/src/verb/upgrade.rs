//! `everup upgrade [PATH]`: the running everup goes on as another binary. It answers when a worker of the new binary serves;
//! if anything is wrong with it, everything is as before.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use everup_admin::api::{LeavingWorker, Moved, Upgraded};

use crate::find::{self, Find};
use crate::table::counted;

/// What to go on as, and how to say it.
#[derive(clap::Args)]
#[command(after_help = "\
The file must belong to root or to the user that started everup, and nobody else may write it or its directory.
What moves: listening sockets, instances (they run on), what was learned of them, idle connections, TCP
connections and WebSockets. What stays with the old worker until it is over, for drain.time at most: requests in
flight, whose connections move then, and connections with TLS; `everup status` shows them.")]
pub(crate) struct Args {
    /// The new binary [default: what lies now where the running one was started from]
    path: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    find: Find,
}

/// Exit 1 if nothing was changed.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { path, json, find } = args;
    let path = path.map(|path| {
        let absolute =
            std::path::absolute(&path).with_context(|| format!("cannot locate {}", path.display()))?;
        absolute
            .into_os_string()
            .into_string()
            .map_err(|path| anyhow::anyhow!("{} is no text", path.display()))
    });
    let path = path.transpose()?;
    let upgraded = find::block_on(async { Ok(find.connect().await?.upgrade(path.as_deref()).await?) })?;
    match json {
        true => println!("{}", serde_json::to_string(&upgraded)?),
        false => print!("{}", told(&upgraded)),
    }
    Ok(ExitCode::SUCCESS)
}

/// What moved, what stays and why.
fn told(upgraded: &Upgraded) -> String {
    let Upgraded { from, to, keeper_pid, worker_pid, moved, left } = upgraded;
    let versions = if from == to { format!("everup {to} again") } else { format!("everup {from} -> {to}") };
    let mut text = format!(
        "upgraded: {versions}; keeper {keeper_pid} and every instance run on, worker {worker_pid} serves\n"
    );
    text += &what_moved(*moved)
        .map_or_else(String::new, |what| format!("moved to it, open all the time: {what}\n"));
    text += &match what_stays(left) {
        None => format!("worker {} has nothing left to finish\n", left.pid),
        Some(what) => format!(
            "worker {} finishes {what}, which cannot move now; it ends within {:.0} s\n",
            left.pid, left.ends_in_seconds
        ),
    };
    text
}

/// Connections that changed their process, in words; None: there were none.
fn what_moved(moved: Moved) -> Option<String> {
    let Moved { idle, relays, tunnels, websockets } = moved;
    let kinds = [
        (idle, "idle connection"),
        (relays, "TCP connection"),
        (tunnels, "tunnel"),
        (websockets, "WebSocket"),
    ];
    counts(&kinds)
}

fn counts(kinds: &[(u64, &str)]) -> Option<String> {
    let some = kinds.iter().filter(|(count, _)| *count > 0);
    let words: Vec<_> = some.map(|(count, what)| counted(*count, what)).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

/// What an old worker still has, in words; None: nothing.
pub(crate) fn what_stays(left: &LeavingWorker) -> Option<String> {
    let LeavingWorker { connections, in_flight, tunnels, .. } = *left;
    counts(&[(in_flight, "request"), (tunnels, "tunnel"), (connections, "connection")])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upgraded(connections: u64, in_flight: u64, tunnels: u64) -> Upgraded {
        let left = LeavingWorker {
            pid: 12,
            version: "0.1.0".into(),
            connections,
            in_flight,
            tunnels,
            ends_in_seconds: 30.0,
        };
        let moved = Moved { idle: connections * 2, websockets: tunnels, ..Moved::default() };
        Upgraded { from: "0.1.0".into(), to: "0.2.0".into(), keeper_pid: 11, worker_pid: 13, moved, left }
    }

    #[test]
    fn what_moved_and_what_stays_is_told() {
        assert_eq!(
            told(&upgraded(0, 0, 0)),
            "upgraded: everup 0.1.0 -> 0.2.0; keeper 11 and every instance run on, worker 13 serves\n\
             worker 12 has nothing left to finish\n"
        );
        let text = told(&upgraded(3, 1, 2));
        assert!(
            text.contains("moved to it, open all the time: 6 idle connections, 2 WebSockets\n"),
            "{text}"
        );
        let words = "worker 12 finishes 1 request, 2 tunnels, 3 connections, which cannot move now";
        assert!(text.contains(words) && text.ends_with("within 30 s\n"), "{text}");
    }
}
