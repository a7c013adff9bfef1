//! The lookups of a request by themselves, in this process: its route among few and among many, its instance likewise.

use std::hint::black_box;
use std::time::{Duration, Instant};

use everup_core::balance::{Candidate, Picker, hash};
use everup_core::config::{self, Balance};
use everup_core::http::{Parsed, Storage, request};
use everup_core::route::Table;

use super::MANY;
use crate::promise::Promises;

/// Looked up so often.
const TIMES: u32 = 500;
/// The best of so many tries counts: a busy machine only adds.
const TRIES: usize = 400;
/// Among a thousand a lookup may take so many times what it takes among ten.
const FLAT: f64 = 4.0;

const FEW: usize = 10;

/// The host of the last route.
pub(super) const LAST_HOST: &str = "h999.example";

const BALANCES: [(&str, Balance, bool); 7] = [
    ("round-robin", Balance::RoundRobin, true),
    ("least-connections", Balance::LeastConnections, true),
    ("weighted-least-connections", Balance::WeightedLeastConnections, true),
    ("maglev", Balance::Maglev, true),
    ("p2c-ewma", Balance::P2cEwma, true),
    // These look at every instance, by their nature: not flat, and told so.
    ("weighted-round-robin", Balance::WeightedRoundRobin, false),
    ("ip-hash", Balance::IpHash, false),
];

/// A route of the listener, as lines of its section: exact hosts, wildcards and paths, mixed.
pub(super) fn route(number: usize) -> String {
    let what = match number % 4 {
        0 => format!("host = \"*.w{number}.example\""),
        1 => format!("path = \"/p{number}/\""),
        2 => format!("host = \"h{number}.example\"\npath = \"/p{number}/\""),
        _ => format!("host = \"h{number}.example\""),
    };
    format!("\n[[listener.route]]\n{what}\nservice = \"shop\"\n")
}

pub(super) fn measure(promises: &mut Promises) {
    println!("| lookup | among {FEW} | among {MANY} | ratio |");
    println!("|---|---|---|---|");
    let last = |count: usize| format!("h{}.example", count - 1 - (count % 4));
    let mut report = |name: &str, few: f64, many: f64, promised: bool| {
        println!("| {name} | {few:.0} ns | {many:.0} ns | {:.1} |", many / few);
        if promised {
            let what = format!("{name} stays flat");
            promises.check(&what, format!("{:.1} times", many / few), many <= few * FLAT + 100.0);
        }
    };
    let route = |count: usize, host: &str| {
        let table = table(count);
        let head = format!("GET /anything HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\n\r\n");
        let mut storage = Storage::new();
        let Ok(Parsed::Whole(request)) = request::parse(head.as_bytes(), &mut storage) else {
            panic!("a whole request")
        };
        nanoseconds(|| {
            black_box(table.lookup_route(black_box(&request)));
        })
    };
    report("the last route", route(FEW, &last(FEW)), route(MANY, LAST_HOST), true);
    report("no route", route(FEW, "a.b.other.example"), route(MANY, "a.b.other.example"), true);
    for (name, balance, promised) in BALANCES {
        report(name, pick(balance, FEW), pick(balance, MANY), promised);
    }
    println!();
}

fn table(routes: usize) -> Table {
    let routes: String = (0..routes).map(route).collect();
    let text = format!(
        "[[listener]]\nbind = [\"127.0.0.1:0\"]\nservice = \"shop\"\n{routes}\n[service.shop]\ninstances = \
         [\"127.0.0.1:1\"]\n"
    );
    let config = config::parse(&text).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    Table::new(&config.listeners[0])
}

fn pick(balance: Balance, instances: usize) -> f64 {
    let candidates: Vec<Candidate> = (0..instances)
        .map(|index| Candidate::new(index, 1, hash(format!("10.0.0.{index}:80").as_bytes())))
        .collect();
    let mut picker = Picker::new(balance, 7);
    picker.update(&candidates);
    let mut client = 0_u64;
    nanoseconds(|| {
        client = client.wrapping_add(0x9e37_79b9_7f4a_7c15);
        black_box(picker.pick(client, &[], |index: usize| (index % 3) as u32));
    })
}

/// How long one call takes.
fn nanoseconds(mut call: impl FnMut()) -> f64 {
    let mut best = Duration::MAX;
    for _ in 0..TRIES {
        let begun = Instant::now();
        (0..TIMES).for_each(|_| call());
        best = best.min(begun.elapsed());
    }
    best.as_secs_f64() * 1e9 / f64::from(TIMES)
}
