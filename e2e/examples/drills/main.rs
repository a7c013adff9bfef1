//! The long measurements, started as `cargo xtask drills NAME`: minutes of faults under an open-loop load, with the
//! books kept. They print a table and fail when a promise is broken. `./test` does not run them: the stories in
//! `tests/` check the same promises, fault by fault, in seconds.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people at a terminal")]

use std::process::ExitCode;

use everup_e2e::chance;

use python::Python;

mod clients;
mod crash;
mod differential;
mod faults;
mod flat;
mod instances;
mod origin;
mod overload;
mod promise;
mod python;
mod reload;
mod upgrade;
mod websocket;

const USAGE: &str = "\
usage: drills instances [SECONDS]   instances killed, stopped, frozen and started again (120)
       drills faults [SECONDS]      all that an instance can do wrong, fixed and run by everup (240)
       drills websocket             WebSockets through everup beside direct ones (needs python3 and its package index)
       drills clients               the tests of requests, redis-py and pymemcache, directly and through everup (needs
                                    python3 and its package index, redis-server, memcached)
       drills flat [CONNECTIONS]    1,000 routes, 1,000 instances, idle connections: lookups and memory (10000)
       drills crash [KILLS]         the worker killed under load (50), then the keeper, two times for each five of these
       drills upgrade [UPGRADES]    everup goes on as another binary under load (50)
       drills reload [RELOADS] [--peers]
                                    the configuration reloaded under load, in every way (300); --peers: HAProxy and nginx
                                    reloaded beside it
       drills overload [SECONDS]    twice the load that a service can carry (20)
       drills cookies               a million forged cookies
       drills differential [COUNT]  where requests end, beside llhttp and h11 (200000; needs node, python3 with h11)
       drills record FILE           the same, and writes a sample: core/tests/readings.txt
The seed is printed; EVERUP_SEED repeats a run.";

/// Byte strings of which a sample is recorded.
const RECORDED: u64 = 100_000;

/// How often a sample kills the worker.
const SAMPLE_KILLS: u64 = 5;
/// How long a sample drills.
const SAMPLE_SECONDS: u64 = 20;
/// One case out of so many: a number that the lists of cases have no rhythm of.
const SAMPLE_OF_CASES: usize = 7;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let peers = words.first() == Some(&"reload") && words.contains(&"--peers");
    words.retain(|word| !(peers && *word == "--peers"));
    let (name, number) = match words.as_slice() {
        ["record", path] => {
            let kept = differential::run(RECORDED, chance::seed(), Some(path));
            return if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        ["origin", port, name, directory] => return origin::serve(port, name, directory),
        ["sample", name] => return sample(name),
        [name] => (*name, None),
        [name, number] => (*name, number.parse().ok()),
        _ => ("", None),
    };
    let seed = chance::seed();
    println!("seed {seed:x}\n");
    let kept = match name {
        "instances" => instances::run(number.unwrap_or(120), seed),
        "faults" => faults::run(number.unwrap_or(240), seed, true),
        "websocket" => websocket::run(&Python::with(&["websockets"]), 1),
        "clients" => clients::run(),
        "overload" => overload::run(number.unwrap_or(20)),
        "flat" => flat::run(number.unwrap_or(10_000)),
        "crash" => crash::run(number.unwrap_or(50), seed, true),
        "reload" => reload::run(number.unwrap_or(300), peers),
        "upgrade" => upgrade::run(number.unwrap_or(50)),
        "differential" => differential::run(number.unwrap_or(200_000), seed, None),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What `./test` runs: some seconds of a drill, without the promises about time, which a busy machine breaks.
fn sample(name: &str) -> ExitCode {
    let seed = chance::seed();
    println!("seed {seed:x}\n");
    let kept = match name {
        "crash" => crash::run(SAMPLE_KILLS, seed, false),
        "faults" => faults::run(SAMPLE_SECONDS, seed, false),
        "reload" => reload::sample(),
        "websocket" => websocket::run(&Python::system(), SAMPLE_OF_CASES),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
