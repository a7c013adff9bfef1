//! Shares and disruption, beside the figures of the paper.

use proptest::prelude::*;

use super::*;
use crate::hash::hash;

fn candidates(weights: &[u32]) -> Vec<Candidate> {
    let candidate = |(index, weight): (usize, &u32)| {
        Candidate::new(index, *weight, hash(format!("10.0.{}.{}:80", index / 256, index % 256).as_bytes()))
    };
    weights.iter().enumerate().map(candidate).collect()
}

fn shares(table: &Table) -> Vec<usize> {
    let mut counts = vec![0; table.candidates.len()];
    table.slots.iter().for_each(|place| counts[usize::from(*place)] += 1);
    counts
}

/// The share of slots that belong to another instance now although the one they had is still there.
fn disruption(before: &Table, after: &Table) -> f64 {
    assert_eq!(before.slots(), after.slots());
    let owner = |table: &Table, slot: usize| table.candidates[usize::from(table.slots[slot])].identity;
    let is_there = |identity: u64| after.candidates.iter().any(|one| one.identity == identity);
    let moved = (0..before.slots())
        .filter(|slot| owner(before, *slot) != owner(after, *slot) && is_there(owner(before, *slot)))
        .count();
    moved as f64 / before.slots() as f64
}

fn without(all: &[Candidate], gone: impl Fn(usize) -> bool) -> Vec<Candidate> {
    all.iter().copied().filter(|one| !gone(one.index)).collect()
}

#[test]
fn every_size_is_a_prime() {
    for size in SIZES {
        assert!((2..size).take_while(|n| n * n <= size).all(|n| !size.is_multiple_of(n)), "{size}");
    }
}

#[test]
fn a_table_grows_with_what_it_has_to_tell_apart() {
    let size = |weights: &[u32]| Table::new(&candidates(weights)).slots();
    assert_eq!(size(&[1; 3]), 1_021);
    assert_eq!(size(&[7; 3]), 1_021);
    assert_eq!(size(&[1; 40]), 4_093);
    assert_eq!(size(&[1, 100]), 16_381);
    assert_eq!(size(&[1; 1000]), 65_537);
    assert_eq!(size(&[]), 1_021 - 1_021);
}

#[test]
fn the_shares_of_the_papers_thousand_differ_by_one_slot() {
    let counts = shares(&Table::new(&candidates(&[1; 1000])));
    assert_eq!(counts.iter().sum::<usize>(), 65_537);
    assert_eq!((counts.iter().min(), counts.iter().max()), (Some(&65), Some(&66)));
}

/// Section 5.3, figure 12 of the paper: of 1,000 backends some fail; with a table of 65,537 a few percent of the entries
/// of the others change, and more when more fail.
#[test]
fn the_disruption_is_that_of_the_paper() {
    let all = candidates(&[1; 1000]);
    let before = Table::new(&all);
    let mut last = 0.0;
    for (failed, at_most) in [(1, 0.01), (10, 0.03), (50, 0.06)] {
        let after = Table::new(&without(&all, |index| index % (1000 / failed) == 0));
        let moved = disruption(&before, &after);
        println!("{failed} of 1,000 gone: {:.2} % of the slots of the others move", 100.0 * moved);
        assert!(moved <= at_most, "{failed}: {moved}");
        assert!(moved >= last);
        last = moved;
    }
}

#[test]
fn a_service_of_ten_loses_one_and_few_others_move() {
    let all = candidates(&[1; 10]);
    let before = Table::new(&all);
    for gone in 0..10 {
        let moved = disruption(&before, &Table::new(&without(&all, |index| index == gone)));
        assert!(moved < 0.05, "{gone}: {moved}");
    }
}

/// Prints how long building takes; what is asserted is only that it is no disaster in an unoptimised build.
#[test]
#[expect(clippy::disallowed_types, reason = "a test may look at the clock; nothing is decided by it")]
fn building_is_measured() {
    let started = std::time::Instant::now();
    let rounds = 3;
    let all = candidates(&[1; 1000]);
    for _ in 0..rounds {
        std::hint::black_box(Table::new(std::hint::black_box(&all)));
    }
    let each = started.elapsed() / rounds;
    println!("1,000 candidates, 65,537 slots: {each:?}");
    assert!(each.as_secs() < 5);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn equal_candidates_have_equal_shares_but_for_one_slot(n in 1..300_usize) {
        let counts = shares(&Table::new(&candidates(&vec![3; n])));
        prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1);
    }

    #[test]
    fn shares_follow_the_weights(weights in prop::collection::vec(1..=20_u32, 1..20)) {
        let table = Table::new(&candidates(&weights));
        let total = f64::from(weights.iter().sum::<u32>());
        for (count, weight) in shares(&table).into_iter().zip(&weights) {
            let share = f64::from(*weight) / total;
            // A turn more or less of the last round, and 1 % of the share as the paper has it.
            let expected = share * table.slots() as f64;
            prop_assert!((count as f64 - expected).abs() <= 2.0 + 0.01 * expected, "{count} for {expected}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_never_picked_and_what_can_always_is(
        n in 1..30_usize, barred in prop::collection::vec(0..30_usize, 0..32), client: u64,
    ) {
        let table = Table::new(&candidates(&vec![1; n]));
        let picked = table.pick(&table.candidates, client, |one| !barred.contains(&one.index));
        prop_assert_eq!(picked.is_some(), (0..n).any(|index| !barred.contains(&index)));
        prop_assert!(picked.is_none_or(|index| !barred.contains(&index)));
        let alone = table.pick(&table.candidates, client, |_| true);
        if alone.is_some_and(|index| !barred.contains(&index)) {
            prop_assert_eq!(picked, alone);
        }
    }

    #[test]
    fn the_order_of_indexes_does_not_decide(n in 2..50_usize, client: u64) {
        let all = candidates(&vec![1; n]);
        let moved: Vec<_> = all.iter().map(|one| Candidate { index: one.index + 7, ..*one }).collect();
        let (table, other) = (Table::new(&all), Table::new(&moved));
        prop_assert_eq!(table.pick(&table.candidates, client, |_| true).unwrap() + 7, other.pick(&moved, client, |_| true).unwrap());
        prop_assert!(table.is_for(&all) && !table.is_for(&moved));
    }
}

#[test]
fn one_that_is_too_light_for_a_slot_is_found_when_nobody_else_is_usable() {
    let all = candidates(&[vec![256; 400], vec![1]].concat());
    let table = Table::new(&all);
    assert_eq!(shares(&table)[400], 0);
    assert_eq!(table.pick(&all, 7, |one| one.index == 400), Some(400));
}
