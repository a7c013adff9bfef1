//! Ip hash: the same client goes to the same instance, as far as possible also when instances come and go, without
//! any memory: every thread and every gateway comes to the same answer.
//!
//! Rendezvous hashing, "highest random weight" (Thaler and Ravishankar 1998): client and candidate together draw a
//! number, the best draw wins. Taking one of n candidates away moves only that candidate's clients, spread over the
//! others by weight; adding one moves only those that it wins, 1/(n+1) of all.
//! Measured (test `the_disruption_of_a_change_is_the_least_possible`, 100,000 clients, 10 equal instances): removing
//! one moves 10.00 % of the clients (ideal 10.00 %), adding one moves 9.13 % (ideal 9.09 %); nobody else moves.
//!
//! Weights: the draw u in (0, 1) costs -log2(u) / weight, and the lowest cost wins (Schindelhauer and Schomaker
//! 2005): a race of exponentially distributed arrivals, which a candidate wins with probability weight / W. The
//! logarithm is computed in integers, so that it is the same on every machine.

use std::cmp::Ordering;
use std::net::IpAddr;

use super::{Candidate, hash};
use crate::hash::mix;

/// What identifies a client by its address: all of an IPv4 address; of an IPv6 address the first 64 bits, because
/// hosts change the rest at will (RFC 8981). An IPv4 address that came mapped into IPv6 counts as IPv4.
pub fn client_hash(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(v4) => hash(&v4.octets()),
        IpAddr::V6(v6) => hash(&v6.octets()[..8]),
    }
}

/// The index of the usable candidate with the client's best draw. The next best, once that one is not usable or gone, is
/// where the client would go without it. While a candidate starts slowly, its clients come to it one after the other, and
/// each only once.
pub fn pick(
    candidates: &[Candidate],
    client_hash: u64,
    usable: impl Fn(&Candidate) -> bool,
) -> Option<usize> {
    let client = mix(client_hash);
    candidates
        .iter()
        .filter(|candidate| usable(candidate))
        .map(|candidate| (cost(mix(client ^ candidate.identity)), candidate))
        .min_by(|(a_cost, a), (b_cost, b)| compare(*a_cost, a.power(), *b_cost, b.power()))
        .map(|(_, candidate)| candidate.index)
}

/// Compares `a_cost / a_power` with `b_cost / b_power`: at most 2^54 * 2^15 on each side.
fn compare(a_cost: u64, a_power: u32, b_cost: u64, b_power: u32) -> Ordering {
    (u128::from(a_cost) * u128::from(b_power)).cmp(&(u128::from(b_cost) * u128::from(a_power)))
}

/// Fraction bits of a [`cost`].
const FRACTION: u32 = 48;
/// The table of logarithms has 2^STEPS pieces; between its points a straight line does. Its slope is wrong by at
/// most 2^-(STEPS + 1), which bounds the error of the shares: 0.2 %.
const STEPS: u32 = 8;
/// log2(1 + i / 2^STEPS) with [`FRACTION`] bits.
const LOGARITHMS: [u64; (1 << STEPS) + 1] = logarithms();

/// -log2(draw / 2^64) with [`FRACTION`] bits; the draw 0 counts as 1.
fn cost(draw: u64) -> u64 {
    let draw = draw.max(1);
    let zeros = draw.leading_zeros();
    // The leading one at the top is implied: what remains is the mantissa's fraction, 63 bits used.
    let fraction = (draw << zeros) & (u64::MAX >> 1);
    let step = (fraction >> (63 - STEPS)) as usize;
    let within = (fraction << (STEPS + 1)) >> 32;
    let rise = LOGARITHMS[step + 1] - LOGARITHMS[step];
    let logarithm = LOGARITHMS[step] + ((u128::from(rise) * within as u128) >> 32) as u64;
    ((u64::from(zeros) + 1) << FRACTION) - logarithm
}

/// Bit by bit: squaring x in [1, 2) doubles its logarithm, and the square's integer part is the next bit.
const fn logarithms() -> [u64; (1 << STEPS) + 1] {
    let mut table = [0; (1 << STEPS) + 1];
    let mut i = 0;
    while i < 1 << STEPS {
        let mut x: u128 = (1 << 62) + ((i as u128) << (62 - STEPS));
        let mut bit = FRACTION;
        while bit > 0 {
            bit -= 1;
            x = (x * x) >> 62;
            if x >= 1 << 63 {
                x >>= 1;
                table[i] |= 1 << bit;
            }
        }
        i += 1;
    }
    table[1 << STEPS] = 1 << FRACTION;
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_integer_logarithm_agrees_with_the_real_one() {
        let mut random = crate::hash::Random::new(1);
        for shift in 0..64 {
            let draw = random.bits() >> shift | 1;
            let real = -((draw as f64) / 2_f64.powi(64)).log2();
            let ours = cost(draw) as f64 / 2_f64.powi(FRACTION as i32);
            assert!((ours - real).abs() <= real * 0.002 + 1e-12, "{draw}: {ours} for {real}");
        }
    }

    #[test]
    fn a_better_draw_never_costs_more() {
        let mut random = crate::hash::Random::new(2);
        for _ in 0..100_000 {
            let (a, b) = (random.bits(), random.bits() >> random.below(40));
            assert_eq!(cost(a.max(b)).min(cost(a.min(b))), cost(a.max(b)));
        }
        assert_eq!(cost(0), 64 << FRACTION);
        assert!(cost(u64::MAX) < 1 << 8);
    }

    #[test]
    fn one_user_is_one_client() {
        let client = |text: &str| client_hash(text.parse().expect("an address"));
        assert_eq!(client("192.0.2.7"), client("::ffff:192.0.2.7"));
        assert_eq!(client("2001:db8::1"), client("2001:db8::ffff:1:2"));
        assert_ne!(client("2001:db8::1"), client("2001:db8:0:1::1"));
        assert_ne!(client("192.0.2.7"), client("192.0.2.8"));
    }
}
