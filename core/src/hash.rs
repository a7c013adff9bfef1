//! The fixed hash and the tiny random numbers that decisions use: same input, same answer, in every process, on every
//! machine and in every version, because two gateways must send one client to the same instance.
//!
//! Nothing here resists an attacker who wants collisions, and nothing is secret: seeds come from outside.

/// FNV-1a over 64 bits (Fowler, Noll, Vo), then [`mix`]: FNV-1a alone leaves the high bits of short inputs poor.
pub fn hash(bytes: &[u8]) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    mix(bytes.iter().fold(OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME)))
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014; constants "variant 13" by Stafford): a bijection in which
/// every input bit changes every output bit with a probability of about one half.
pub const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// SplitMix64: eight bytes of state, any seed will do. Good enough to spread load; not for secrets.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream that belongs to `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`, by multiplication instead of division (Lemire 2019, without the rejection: the bias
    /// is below bound / 2^64). 0 if `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.bits()) * bound as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_never_changes_its_answers() {
        // Published with FNV-1a: "" and "foobar".
        assert_eq!(hash(b""), mix(0xcbf2_9ce4_8422_2325));
        assert_eq!(hash(b"foobar"), mix(0x8594_4171_f739_67e8));
        assert_eq!(hash(b"shop-1"), 15_037_077_488_111_740_155);
    }

    #[test]
    fn mix_is_the_finaliser_of_splitmix64() {
        // First output of SplitMix64 with seed 0, as published with the generator.
        assert_eq!(Random::new(0).bits(), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn below_stays_below_and_reaches_everything() {
        let mut random = Random::new(7);
        let mut seen = [0_u32; 10];
        (0..10_000).for_each(|_| seen[random.below(10)] += 1);
        assert!(seen.iter().all(|count| (800..1200).contains(count)), "{seen:?}");
        assert_eq!(random.below(0), 0);
    }
}
