//! Does a WebSocket through everup behave as a direct one? The cases and the comparison are in
//! `websocket/conformance.py`; its peers are the server and the client of the `websockets` library.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};

use everup_e2e::{Config, Everup};

use crate::python::{Python, script};

/// The server that echoes and the one that says the cases.
struct Peers(Child);

impl Drop for Peers {
    fn drop(&mut self) {
        // Dead already is as good.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Tries every case, or one of `one_of`. Whether all were equal.
pub(crate) fn run(python: &Python, one_of: usize) -> bool {
    let conformance = script("websocket/conformance.py");
    let mut command = python.command();
    command.arg("-B").arg(&conformance).arg("peers").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut peers = Peers(command.spawn().expect("python3 can be run"));
    let mut line = String::new();
    let stdout = peers.0.stdout.take().expect("stdout is a pipe");
    BufReader::new(stdout).read_line(&mut line).expect("the peers say where they listen");
    let addresses: Vec<SocketAddr> = line
        .split_whitespace()
        .map(|port| SocketAddr::from(([127, 0, 0, 1], port.parse().expect("a port"))))
        .collect();
    let [echoing, saying] = addresses[..] else { panic!("python3 with the websockets library is needed") };
    let through = [echoing, saying].map(|address| Everup::with(Config::shop([address])).start());
    let mut compare = python.command();
    compare.arg("-B").arg(&conformance).arg("compare").arg(one_of.to_string());
    for (direct, through) in [(echoing, &through[0]), (saying, &through[1])] {
        compare.arg(direct.to_string()).arg(through.address().to_string());
    }
    compare.status().is_ok_and(|status| status.success())
}
