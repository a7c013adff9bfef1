//! Latencies, limits and slow starts: what ways do with loads and shares beyond requests in flight.

use super::*;

/// Loads as a table.
#[derive(Clone, Debug, Default)]
struct Known {
    in_flight: Vec<u32>,
    latency_ms: Vec<u64>,
    most: Option<u32>,
}

impl Loads for Known {
    fn in_flight(&self, index: usize) -> u32 {
        self.in_flight[index]
    }

    fn latency(&self, index: usize) -> Duration {
        Duration::from_millis(self.latency_ms[index])
    }

    fn is_full(&self, index: usize) -> bool {
        self.most.is_some_and(|most| self.in_flight[index] >= most)
    }
}

#[test]
fn p2c_prefers_the_quicker_and_the_idler_of_two() {
    let mut picker = picker(Balance::P2cEwma, 1, &candidates(&[1, 1]));
    let mut picked = |in_flight: [u32; 2], latency_ms: [u64; 2]| {
        let loads = Known { in_flight: in_flight.into(), latency_ms: latency_ms.into(), most: None };
        let first = picker.pick_by(0, &[], &loads).unwrap();
        assert!(
            (0..20).all(|_| picker.pick_by(0, &[], &loads) == Some(first)),
            "two candidates are both looked at"
        );
        first
    };
    assert_eq!(picked([0, 0], [10, 20]), 0);
    assert_eq!(picked([2, 0], [10, 20]), 1);
    assert_eq!(picked([1, 1], [20, 10]), 1);
    // Nothing is known of the second: it is tried with one request, and with no other before that has ended.
    assert_eq!(picked([0, 0], [10, 0]), 1);
    assert_eq!(picked([50, 1], [10, 0]), 0);
}

#[test]
fn p2c_gives_a_slow_instance_of_many_far_less() {
    let mut picker = picker(Balance::P2cEwma, 1, &candidates(&[1; 10]));
    let mut latency_ms = vec![10; 10];
    latency_ms[3] = 500;
    let loads = Known { in_flight: vec![1; 10], latency_ms, most: None };
    let mut counts = [0; 10];
    (0..10_000).for_each(|_| counts[picker.pick_by(0, &[], &loads).unwrap()] += 1);
    assert_eq!(counts[3], 0, "whichever is looked at beside it waits less: {counts:?}");
    assert!(counts.iter().filter(|count| **count > 800).count() == 9, "{counts:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn nobody_is_given_more_than_it_may_have_and_only_then_requests_queue(
        in_flight in prop::collection::vec(0..4_u32, 1..12), tried in prop::collection::vec(0..12_usize, 0..4),
        never in 0..4_usize, seed: u64, client: u64,
    ) {
        let never = &tried[..never.min(tried.len())];
        let count = in_flight.len();
        let loads = Known { latency_ms: vec![5; count], in_flight, most: Some(3) };
        for balance in EVERY_WAY {
            let mut picker = picker(balance, seed, &candidates(&vec![1; count]));
            let has_room = |index: &usize| !loads.is_full(*index) && !never.contains(index);
            match picker.choose(client, &tried, never, &loads) {
                Choice::Take(index) => {
                    prop_assert!(has_room(&index));
                    let others = (0..count).filter(has_room).any(|index| !tried.contains(&index));
                    prop_assert!(!tried.contains(&index) || !others, "another was there");
                }
                Choice::Queue => {
                    prop_assert!(!(0..count).any(|index| has_room(&index)));
                    prop_assert!((0..count).any(|index| !never.contains(&index)));
                }
                Choice::Park => prop_assert!((0..count).all(|index| never.contains(&index))),
            }
        }
    }

    #[test]
    fn one_that_starts_slowly_gets_less_whatever_the_way_and_others_keep_their_order(share in 10..=60_u32, seed: u64) {
        const CLIENTS: i64 = 4_000;
        for balance in EVERY_WAY {
            let mut picker = picker(balance, seed, &candidates(&[1; 4]));
            let count = |picker: &mut Picker| {
                let mut loads = Known { in_flight: vec![0; 4], latency_ms: vec![10; 4], most: None };
                let mut counts = [0_i64; 4];
                let mut random = Random::new(9);
                for _ in 0..CLIENTS {
                    let picked = picker.pick_by(random.bits(), &[], &loads).unwrap();
                    counts[picked] += 1;
                    loads.in_flight[picked] += 1;
                }
                counts
            };
            picker.set_shares(|index| if index == 2 { share } else { slow_start::WHOLE });
            let counts = count(&mut picker);
            let expected = f64::from(share) / f64::from(300 + share) * CLIENTS as f64;
            let off = (counts[2] as f64 - expected).abs() / expected;
            prop_assert!(off < 0.35, "{balance:?} {share} %: {counts:?} for {expected}");
            picker.set_shares(|_| slow_start::WHOLE);
            let counts = counts_of_second_run(count(&mut picker));
            prop_assert!(counts < 0.2, "{balance:?}: back to a quarter each");
        }
    }

    #[test]
    fn a_client_moves_to_a_growing_instance_once(client: u64, earlier in 10..=100_u32, later in 10..=100_u32) {
        let (earlier, later) = (earlier.min(later), earlier.max(later));
        for balance in [Balance::IpHash, Balance::Maglev] {
            let mut picker = picker(balance, 1, &candidates(&[1; 5]));
            let mut at = |share| {
                picker.set_shares(|index| if index == 0 { share } else { slow_start::WHOLE });
                picker.pick(client, &[], |_| 0).unwrap()
            };
            let (before, after) = (at(earlier), at(later));
            prop_assert!(before == after || after == 0, "{balance:?}: {before} -> {after}");
        }
    }
}

/// How far the fullest is from a quarter.
fn counts_of_second_run(counts: [i64; 4]) -> f64 {
    let quarter = counts.iter().sum::<i64>() as f64 / 4.0;
    counts.iter().map(|count| (*count as f64 - quarter).abs() / quarter).fold(0.0, f64::max)
}

#[test]
fn a_table_that_was_filled_elsewhere_is_taken_as_it_is() {
    let all = candidates(&[1; 6]);
    let table = Arc::new(maglev::Table::new(&all));
    let mut shared = Picker::new(Balance::Maglev, 1);
    shared.share_table(&table);
    shared.update(&all);
    assert_eq!(Arc::strong_count(&table), 2, "it was not filled anew");
    shared.update(&all[1..]);
    assert_eq!(Arc::strong_count(&table), 1, "it was not for these candidates");
}
