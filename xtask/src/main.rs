//! The project's own chores, started as `cargo xtask <chore>`: what `cargo` itself cannot do.
//!
//! `tidy` reads the whole tree and fails with one line for each rule that is broken; `drills` starts the long
//! measurements; `package` makes what is released. The rest of what must pass before a commit is in `./test`, which calls `tidy`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people at a terminal")]

use std::path::Path;
use std::process::ExitCode;

mod drills;
mod package;
mod tidy;

const USAGE: &str = "usage: cargo xtask tidy | cargo xtask drills NAME | cargo xtask package [--binary PATH] [--out DIRECTORY]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["tidy"] => tidy::run(root()),
        ["drills", rest @ ..] => drills::run(root(), rest),
        ["package", rest @ ..] => package::run(root(), rest),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::from(1)
    })
}

/// The workspace: the directory above this crate.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies inside the workspace")
}
