//! The shares that each way promises, for any weights, sizes and retries.

use std::cell::Cell;
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::hash::Random;

mod shares;

const EVERY_WAY: [Balance; 7] = [
    Balance::RoundRobin,
    Balance::WeightedRoundRobin,
    Balance::LeastConnections,
    Balance::WeightedLeastConnections,
    Balance::IpHash,
    Balance::Maglev,
    Balance::P2cEwma,
];

fn candidates(weights: &[u32]) -> Vec<Candidate> {
    let candidate = |(index, weight): (usize, &u32)| {
        Candidate::new(index, *weight, hash(format!("shop-{index}").as_bytes()))
    };
    weights.iter().enumerate().map(candidate).collect()
}

fn picker(balance: Balance, seed: u64, candidates: &[Candidate]) -> Picker {
    let mut picker = Picker::new(balance, seed);
    picker.update(candidates);
    picker
}

/// Picks for a client nobody cares about, nothing excluded, nothing in flight.
fn pick(picker: &mut Picker) -> usize {
    picker.pick(0, &[], |_| 0).expect("there are candidates")
}

fn counts(picker: &mut Picker, picks: usize, of: usize) -> Vec<i64> {
    let mut counts = vec![0; of];
    (0..picks).for_each(|_| counts[pick(picker)] += 1);
    counts
}

fn weights(most: usize) -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(prop_oneof![1..=4_u32, 1..=256_u32], 1..=most)
}

/// The sum of (count - expected)^2 / expected: with n - 1 degrees of freedom its mean is n - 1, its variance 2(n - 1).
fn chi_square(counts: &[i64], weights: &[u32]) -> f64 {
    let picks: i64 = counts.iter().sum();
    let total: u32 = weights.iter().sum();
    let square = |(count, weight): (&i64, &u32)| {
        let expected = picks as f64 * f64::from(*weight) / f64::from(total);
        (*count as f64 - expected).powi(2) / expected
    };
    counts.iter().zip(weights).map(square).sum()
}

proptest! {
    #[test]
    fn round_robin_counts_differ_by_at_most_one_over_any_window(
        n in 1..40_usize, skip in 0..100_usize, window in 0..200_usize, seed: u64,
    ) {
        let mut picker = picker(Balance::RoundRobin, seed, &candidates(&vec![7; n]));
        counts(&mut picker, skip, n);
        let counts = counts(&mut picker, window, n);
        prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
    }

    #[test]
    fn round_robin_goes_on_behind_the_last_choice_when_candidates_change(
        n in 2..20_usize, picks in 0..50_usize, gone in 0..20_usize, seed: u64,
    ) {
        let all = candidates(&vec![1; n]);
        let mut picker = picker(Balance::RoundRobin, seed, &all);
        counts(&mut picker, picks, n);
        let due = pick(&mut picker.clone());
        let left: Vec<_> = all.iter().copied().filter(|candidate| candidate.index != gone % n).collect();
        picker.update(&left);
        let expected = if due == gone % n { (due + 1) % n } else { due };
        prop_assert_eq!(pick(&mut picker), expected);
    }

    #[test]
    fn smooth_round_robin_is_exact_over_one_period_and_then_repeats(weights in weights(12), seed: u64) {
        let mut picker = picker(Balance::WeightedRoundRobin, seed, &candidates(&weights));
        let period = weights.iter().sum::<u32>() as usize;
        let first: Vec<_> = (0..period).map(|_| pick(&mut picker)).collect();
        for (index, weight) in weights.iter().enumerate() {
            prop_assert_eq!(first.iter().filter(|picked| **picked == index).count(), *weight as usize);
        }
        let second: Vec<_> = (0..period).map(|_| pick(&mut picker)).collect();
        prop_assert_eq!(first, second);
    }

    #[test]
    fn smooth_round_robin_is_never_one_ahead_nor_a_harmonic_number_behind(weights in weights(30), seed: u64) {
        let mut picker = picker(Balance::WeightedRoundRobin, seed, &candidates(&weights));
        let total = f64::from(weights.iter().sum::<u32>());
        let behind_at_most: f64 = (2..=weights.len()).map(|j| 1.0 / j as f64).sum();
        let mut counts = vec![0; weights.len()];
        for picks in 1..=500 {
            counts[pick(&mut picker)] += 1;
            for (count, weight) in counts.iter().zip(&weights) {
                let behind = f64::from(picks) * f64::from(*weight) / total - f64::from(*count);
                prop_assert!(behind > -1.0 && behind <= behind_at_most + 1e-9, "{behind} for {weight} of {total}");
            }
        }
    }

    #[test]
    fn smooth_round_robin_comes_back_to_its_shares_after_any_change(
        before in weights(10), after in weights(10), picks in 0..100_usize, seed: u64,
    ) {
        let mut picker = picker(Balance::WeightedRoundRobin, seed, &candidates(&before));
        counts(&mut picker, picks, before.len());
        picker.update(&candidates(&after));
        let period = after.iter().sum::<u32>() as usize;
        let counts = counts(&mut picker, 4 * period, after.len());
        for (count, weight) in counts.iter().zip(&after) {
            prop_assert!((count - 4 * i64::from(*weight)).abs() <= after.len() as i64, "{counts:?} for {after:?}");
        }
    }

    #[test]
    fn least_connections_never_passes_over_a_lower_load(
        loads in prop::collection::vec(0..9_u32, 1..=32), excluded in prop::collection::vec(0..32_usize, 0..4), seed: u64,
    ) {
        let mut picker = picker(Balance::LeastConnections, seed, &candidates(&vec![3; loads.len()]));
        let picked = picker.pick(0, &excluded, |index| loads[index]);
        let least = (0..loads.len()).filter(|index| !excluded.contains(index)).map(|index| loads[index]).min();
        prop_assert_eq!(picked.map(|index| loads[index]), least);
    }

    #[test]
    fn least_connections_keeps_loads_level(n in 1..=32_usize, requests in 0..200_usize, seed: u64) {
        let mut picker = picker(Balance::LeastConnections, seed, &candidates(&vec![1; n]));
        let mut loads = vec![0; n];
        for _ in 0..requests {
            let picked = picker.pick(0, &[], |index| loads[index]).unwrap();
            loads[picked] += 1;
        }
        prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1);
    }

    #[test]
    fn weighted_least_connections_minimises_what_the_load_per_weight_becomes(
        instances in prop::collection::vec((0..=u32::MAX, 1..=256_u32), 1..=32), seed: u64,
    ) {
        let (loads, weights): (Vec<u32>, Vec<u32>) = instances.into_iter().unzip();
        let mut picker = picker(Balance::WeightedLeastConnections, seed, &candidates(&weights));
        let chosen = picker.pick(0, &[], |index| loads[index]).unwrap();
        let becomes = |index: usize| (u128::from(loads[index]) + 1, u128::from(weights[index]));
        let (load, weight) = becomes(chosen);
        for other in 0..loads.len() {
            let (other_load, other_weight) = becomes(other);
            prop_assert!(load * other_weight <= other_load * weight);
        }
    }

    #[test]
    fn weighted_least_connections_fills_in_proportion(weights in weights(32), seed: u64) {
        let mut picker = picker(Balance::WeightedLeastConnections, seed, &candidates(&weights));
        let mut loads = vec![0; weights.len()];
        for _ in 0..4 * weights.iter().sum::<u32>() {
            let picked = picker.pick(0, &[], |index| loads[index]).unwrap();
            loads[picked] += 1;
        }
        prop_assert!(loads.iter().zip(&weights).all(|(load, weight)| *load == 4 * weight), "{loads:?} {weights:?}");
    }

    #[test]
    fn ties_rotate_among_idle_instances(n in 1..=32_usize, seed: u64) {
        for balance in [Balance::LeastConnections, Balance::WeightedLeastConnections] {
            let mut picker = picker(balance, seed, &candidates(&vec![2; n]));
            prop_assert_eq!(counts(&mut picker, 3 * n, n), vec![3; n]);
        }
    }

}

proptest! {
    // Unoptimised, filling a table for `maglev` takes its time.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn no_way_ever_picks_an_excluded_candidate_or_misses_the_last_one(
        weights in prop::collection::vec(1..=4_u32, 1..=80), excluded in prop::collection::vec(0..80_usize, 0..90), seed: u64, client: u64,
    ) {
        for balance in EVERY_WAY {
            let mut picker = picker(balance, seed, &candidates(&weights));
            for _ in 0..5 {
                let picked = picker.pick(client, &excluded, |index| index as u32 % 3);
                let available = (0..weights.len()).any(|index| !excluded.contains(&index));
                prop_assert_eq!(picked.is_some(), available);
                prop_assert!(picked.is_none_or(|index| index < weights.len() && !excluded.contains(&index)));
            }
        }
    }

}

proptest! {
    #[test]
    fn ip_hash_gives_the_next_best_exactly_as_if_the_excluded_were_gone(
        weights in weights(12), client: u64, tried in prop::collection::vec(0..12_usize, 0..5), seed: u64,
    ) {
        let all = candidates(&weights);
        let left: Vec<_> = all.iter().copied().filter(|candidate| !tried.contains(&candidate.index)).collect();
        let excluding = picker(Balance::IpHash, seed, &all).pick(client, &tried, |_| 0);
        let removing = picker(Balance::IpHash, !seed, &left).pick(client, &[], |_| 0);
        prop_assert_eq!(excluding, removing);
    }
}

#[test]
fn no_candidates_no_pick() {
    for balance in EVERY_WAY {
        let mut picker = Picker::new(balance, 1);
        assert_eq!(picker.pick(1, &[], |_| 0), None);
        picker.update(&candidates(&[1, 2]));
        assert!(picker.pick(1, &[], |_| 0).is_some());
        picker.update(&[]);
        assert_eq!(picker.pick(1, &[], |_| 0), None);
    }
}

#[test]
fn smooth_round_robin_is_the_example_of_nginx() {
    let mut picker = picker(Balance::WeightedRoundRobin, 0, &candidates(&[5, 1, 1]));
    let picks: Vec<_> = (0..7).map(|_| pick(&mut picker)).collect();
    assert_eq!(picks, [0, 0, 1, 0, 2, 0, 0]);
}

#[test]
fn pickers_with_different_seeds_do_not_start_in_step() {
    for balance in [Balance::RoundRobin, Balance::WeightedRoundRobin, Balance::LeastConnections] {
        let mut random = Random::new(3);
        let mut first = [0_i64; 4];
        for _ in 0..4000 {
            first[pick(&mut picker(balance, random.bits(), &candidates(&[1; 4])))] += 1;
        }
        assert!(chi_square(&first, &[1; 4]) < 20.0, "{balance:?}: {first:?}");
    }
}

#[test]
fn many_candidates_stay_level_by_sampling() {
    const INSTANCES: usize = 200;
    let mut picker = picker(Balance::LeastConnections, 9, &candidates(&[1; INSTANCES]));
    let loads: Vec<_> = (0..INSTANCES).map(|_| Cell::new(0_u32)).collect();
    let looked = Cell::new(0_usize);
    let requests = 50 * INSTANCES;
    for _ in 0..requests {
        let load = |index: usize| {
            looked.set(looked.get() + 1);
            loads[index].get()
        };
        let picked = picker.pick(0, &[], load).unwrap();
        loads[picked].set(loads[picked].get() + 1);
    }
    assert!(looked.get() <= looks::SAMPLES * requests, "each pick looks at five");
    // The best of d random ones leaves the fullest about ln ln n / ln d above the mean: 2 here.
    let fullest = loads.iter().map(Cell::get).max().unwrap();
    assert!(fullest <= 50 + 4, "{fullest} for a mean of 50");
}

/// The clients of this test: distinct addresses, hashed as the gateway does.
fn clients() -> impl Iterator<Item = u64> {
    (0..100_000_u32).map(|n| ip_hash::client_hash(std::net::Ipv4Addr::from(0x0a00_0000 + n * 3).into()))
}

#[test]
fn ip_hash_shares_pass_a_chi_square_test() {
    for weights in
        [vec![1; 2], vec![1; 10], vec![256; 50], vec![1, 2, 3, 4], vec![1, 256], vec![10, 1, 1, 1, 30]]
    {
        let mut picker = picker(Balance::IpHash, 0, &candidates(&weights));
        let mut counts = vec![0; weights.len()];
        clients().for_each(|client| counts[picker.pick(client, &[], |_| 0).unwrap()] += 1);
        // Mean plus four standard deviations: exceeded by chance once in some thousands of runs.
        let freedom = (weights.len() - 1) as f64;
        let bound = freedom + 4.0 * (2.0 * freedom).sqrt();
        let chi_square = chi_square(&counts, &weights);
        assert!(chi_square < bound, "{chi_square} of {bound}: {counts:?} for {weights:?}");
    }
}

#[test]
fn the_disruption_of_a_change_is_the_least_possible() {
    let all = candidates(&[1; 11]);
    let choose = |candidates: &[Candidate]| -> Vec<usize> {
        clients().map(|client| ip_hash::pick(candidates, client, |_| true).unwrap()).collect()
    };
    let ten = choose(&all[..10]);

    let nine = choose(&all[..9]);
    let mut went = BTreeMap::new();
    for (before, after) in ten.iter().zip(&nine).filter(|(before, after)| before != after) {
        assert_eq!(*before, 9, "only clients of the removed one move");
        *went.entry(*after).or_insert(0_i64) += 1;
    }
    let left: Vec<i64> = went.into_values().collect();
    let moved_by_removal = left.iter().sum::<i64>() as f64 / ten.len() as f64;
    assert!(chi_square(&left, &[1; 9]) < 8.0 + 4.0 * 4.0, "its clients spread evenly: {left:?}");

    let eleven = choose(&all);
    let movers: Vec<_> = ten.iter().zip(&eleven).filter(|(before, after)| before != after).collect();
    assert!(movers.iter().all(|(_, after)| **after == 10), "clients move only to the added one");
    let moved_by_adding = movers.len() as f64 / ten.len() as f64;

    println!("removing 1 of 10 moves {:.2} % of the clients (ideal 10.00 %)", 100.0 * moved_by_removal);
    println!("adding 1 to 10 moves {:.2} % of the clients (ideal 9.09 %)", 100.0 * moved_by_adding);
    assert!((moved_by_removal - 1.0 / 10.0).abs() < 0.005);
    assert!((moved_by_adding - 1.0 / 11.0).abs() < 0.005);
}
