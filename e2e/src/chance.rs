//! Chance that can be repeated: a seed is printed with every failure and taken from `EVERUP_SEED` when set.

/// A small xorshift generator; good enough to be unpredictable to a parser.
#[derive(Clone, Debug)]
pub struct Chance(u64);

/// The seed to use: `EVERUP_SEED` (hexadecimal), else the clock.
pub fn seed() -> u64 {
    let given = std::env::var("EVERUP_SEED").ok();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    given
        .map(|text| {
            u64::from_str_radix(text.trim_start_matches("0x"), 16).expect("EVERUP_SEED is hexadecimal")
        })
        .unwrap_or_else(|| now.map_or(1, |now| now.as_nanos() as u64))
}

impl Chance {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // The high bits are the better ones.
        ((self.0 >> 11) as usize) % end.max(1)
    }

    /// So many bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.below(256) as u8).collect()
    }
}
