//! Runs the simulation for many seeds.
//!
//! `EVERUP_SIM_SEEDS=n` runs the seeds 0 to n - 1 (64 unless told), `EVERUP_SIM_SEED=s` that one alone.

use everup_sim::{Summary, World};

const SEEDS: u64 = 64;
/// How much of the story is printed before the place where it went wrong.
const LINES: usize = 60;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

fn run(seed: u64) -> Summary {
    World::new(seed, false).run().unwrap_or_else(|broken| {
        // The same run again, this time with its story.
        let mut world = World::new(seed, true);
        assert_eq!(world.run(), Err(broken.clone()), "the same seed is the same run");
        let story = world.trace();
        let story = story[story.len().saturating_sub(LINES)..].join("\n");
        panic!("{story}\nseed {seed}: {broken}\nagain: EVERUP_SIM_SEED={seed} cargo test -p everup-sim");
    })
}

#[test]
fn all_rules_hold_for_every_seed() {
    let seeds = match number("EVERUP_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("EVERUP_SIM_SEEDS").unwrap_or(SEEDS),
    };
    let mut all = Summary::default();
    for seed in seeds.clone() {
        let Summary { requests, answered, failed, cut, attempts, parked, waited_for_budget, falls, steps } =
            run(seed);
        all.requests += requests;
        all.answered += answered;
        all.failed += failed;
        all.cut += cut;
        all.attempts += attempts;
        all.parked += parked;
        all.waited_for_budget += waited_for_budget;
        all.falls += falls;
        all.steps += steps;
    }
    println!("{seeds:?}: {all:#?}");
    let wide = seeds.end - seeds.start >= SEEDS;
    assert!(!wide || (all.parked > 0 && all.failed > 0 && all.falls > 0), "the faults are felt: {all:?}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    let run = |seed| {
        let mut world = World::new(seed, true);
        let summary = world.run();
        (summary, world.trace().to_vec())
    };
    let (first, again, other) = (run(7), run(7), run(8));
    assert_eq!(first, again);
    assert_ne!(first.1, other.1);
}
