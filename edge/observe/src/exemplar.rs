//! The example of a histogram's band: a value, when it was seen, and a name under which more can be learned of it. Written
//! seldom by one thread and read by any, without a lock: a reader that meets a writer looks again (the idea is the
//! kernel's seqlock; Boehm, "Can seqlocks get along with programming language memory models?").
//!
//! ```text
//! writer: version odd ─► fence ─► words ─► version even (release)
//! reader: version (acquire) ─► words ─► fence ─► version the same? else again
//! ```

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

/// The longest name, in bytes: OpenMetrics allows 128 characters to an exemplar's labels, `request_id` taking ten.
pub const NAME_BYTES: usize = 118;

const NAME_WORDS: usize = NAME_BYTES.div_ceil(8);

/// How often a reader looks again before it does without.
const TRIES: usize = 100;

/// An example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exemplar {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: u64,
    /// When it was seen, since 1970.
    pub wall: Duration,
}

/// An example for each of `N` bands. One writer, any number of readers. Memory is taken when the first example of a band
/// comes.
#[derive(Debug)]
pub struct Exemplars<const N: usize>([OnceLock<Box<Slot>>; N]);

#[derive(Debug, Default)]
struct Slot {
    version: AtomicU64,
    value: AtomicU64,
    wall_nanos: AtomicU64,
    length: AtomicU64,
    name: [AtomicU64; NAME_WORDS],
}

impl<const N: usize> Default for Exemplars<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| OnceLock::new()))
    }
}

impl<const N: usize> Exemplars<N> {
    /// Takes an example for a band. A name that is empty or longer than [`NAME_BYTES`] is none: half of it would lead
    /// nowhere. Only the thread that owns the cell may call this.
    pub fn take(&self, band: usize, name: &str, value: u64, wall: Duration) {
        if (1..=NAME_BYTES).contains(&name.len())
            && let Some(slot) = self.0.get(band)
        {
            slot.get_or_init(Box::default).write(name, value, wall);
        }
    }

    /// When the band's example was seen.
    pub fn last(&self, band: usize) -> Option<Duration> {
        let slot = self.0.get(band)?.get()?;
        Some(Duration::from_nanos(slot.wall_nanos.load(Ordering::Relaxed)))
    }

    /// The examples there are, by band.
    pub fn read(&self) -> Vec<Option<Exemplar>> {
        self.0.iter().map(|slot| slot.get().and_then(|slot| slot.read())).collect()
    }
}

impl Slot {
    fn write(&self, name: &str, value: u64, wall: Duration) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        self.value.store(value, Ordering::Relaxed);
        let nanos = u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX);
        self.wall_nanos.store(nanos, Ordering::Relaxed);
        self.length.store(name.len() as u64, Ordering::Relaxed);
        for (word, bytes) in self.name.iter().zip(name.as_bytes().chunks(8)) {
            let mut full = [0; 8];
            full[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_le_bytes(full), Ordering::Relaxed);
        }
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }

    /// None: it is being written all the time, or was never.
    fn read(&self) -> Option<Exemplar> {
        for _ in 0..TRIES {
            let version = self.version.load(Ordering::Acquire);
            let value = self.value.load(Ordering::Relaxed);
            let wall = Duration::from_nanos(self.wall_nanos.load(Ordering::Relaxed));
            let length = self.length.load(Ordering::Relaxed) as usize;
            let words = self.name.each_ref().map(|word| word.load(Ordering::Relaxed).to_le_bytes());
            fence(Ordering::Acquire);
            if version.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == version {
                let name = words.as_flattened().get(..length)?;
                let name = String::from_utf8(name.to_vec()).ok()?;
                return (version > 0).then_some(Exemplar { name, value, wall });
            }
            std::hint::spin_loop();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_example_of_a_band_is_read_back_whole() {
        let exemplars = Exemplars::<3>::default();
        assert_eq!(exemplars.read(), [None, None, None]);
        exemplars.take(1, "first", 5, Duration::from_millis(7));
        let longest = "x".repeat(NAME_BYTES);
        exemplars.take(1, &longest, 6, Duration::from_millis(8));
        exemplars.take(1, &"y".repeat(NAME_BYTES + 1), 7, Duration::from_millis(9));
        exemplars.take(1, "", 7, Duration::from_millis(9));
        exemplars.take(3, "outside", 7, Duration::from_millis(9));
        let wanted = Exemplar { name: longest, value: 6, wall: Duration::from_millis(8) };
        assert_eq!(exemplars.read(), [None, Some(wanted), None]);
        assert_eq!(exemplars.last(1), Some(Duration::from_millis(8)));
        assert_eq!(exemplars.last(2), None);
    }

    #[test]
    fn a_reader_never_sees_half_of_one_and_half_of_another() {
        let exemplars = Exemplars::<1>::default();
        let write = |number: u64| {
            let name = char::from(b'a' + (number % 26) as u8).to_string().repeat(1 + number as usize % 100);
            exemplars.take(0, &name, number, Duration::from_nanos(number));
        };
        write(0);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| (1..200_000).for_each(write));
            while !writer.is_finished() {
                let Some(Some(Exemplar { name, value, wall })) = exemplars.read().pop() else { continue };
                assert_eq!(wall, Duration::from_nanos(value));
                assert_eq!(name.len() as u64, 1 + value % 100);
                assert!(name.bytes().all(|byte| byte == b'a' + (value % 26) as u8), "{name} {value}");
            }
        });
    }
}
