//! `[service.NAME.outlier]`: when an instance that answers badly is left out for a while.

use std::time::Duration;

use super::kind::{duration, integer, or_word, percent};
use super::reading::{Reading, Table};
use super::section::section;

section! {
    /// An instance whose answers are bad while those of others are good is left out for a while (ejected), and longer each
    /// time. Bad is a 5xx answer of the instance, a connection lost under a request, a broken answer, and
    /// `timeout.attempt`. Http only. `outlier = "off"` ejects nobody.
    pub struct Outlier {
        /// So many bad answers in a row eject an instance.
        pub failures: Option<u32> = or_word("off", integer(2..=1000)), default 5,
            because "five in a row are no accident while others answer well, and few users have met them";
        /// An instance is ejected when its share of good answers over a `window` is below the service's average by more than
        /// so much of the standard deviation.
        pub deviation: Option<u32> = or_word("off", percent(100..=1000)), default "190%",
            because "of 20 instances that differ by chance, less than one is so far off";
        /// And by at least so much of all answers.
        pub gap: u32 = percent(1..=100), default "5%",
            because "when the others make no mistake at all, one mistake is already far off";
        /// Over how long shares are compared.
        pub window: Duration = duration(1000..=3_600_000), default "10s",
            because "long enough for a fair comparison, short enough to matter";
        /// Instances with fewer answers in a `window` are not compared.
        pub requests: u32 = integer(1..=1_000_000), default 100,
            because "a share of a few answers says nothing";
        /// Nothing is compared between fewer instances.
        pub instances: u32 = integer(3..=1024), default 5,
            because "one of n can be at most the root of n - 1 deviations off: with fewer than 5 nobody reaches 190%";
        /// An instance that went down more than so many times within `flap_window` is left out when it comes up again.
        pub flaps: Option<u32> = or_word("off", integer(1..=100)), default 5,
            because "a rolling restart takes an instance down once; who comes and goes takes requests along each time";
        /// Over how long flaps are counted.
        pub flap_window: Duration = duration(1000..=3_600_000), default "1m",
            because "what happened earlier has another cause";
        /// How long the first ejection lasts; the n-th lasts n times as long. One is forgotten for every time that the
        /// instance then behaves as long as its last ejection would have lasted.
        pub time: Duration = duration(100..=3_600_000), default "10s",
            because "about what a restart takes; a wrong ejection costs little";
        /// The longest ejection.
        pub longest: Duration = duration(100..=86_400_000), default "5m",
            because "who repaired an instance should not wait longer to see it used";
        /// At most this share of a service's instances is ejected at a time, and never the last one that is left.
        pub share: u32 = percent(0..=100), default "50%",
            because "the others get its requests too";
        /// Nobody is ejected while fewer than this share of the service's instances would be left that work, and whoever is
        /// ejected then returns.
        pub panic: u32 = percent(0..=100), default "30%",
            because "when most instances answer badly the cause is elsewhere, and ejecting only adds overload";
    }
}

/// A longest ejection that is shorter than the first makes no sense.
pub(super) fn judge(outlier: Outlier, table: &Table<'_>, reading: &mut Reading) -> Option<Outlier> {
    let Outlier { time, longest, .. } = outlier;
    if longest < time {
        reading.mistake(
            table.span_of(if table.has("longest") { "longest" } else { "time" }),
            "`longest` must not be shorter than `time`",
            format!("`time` is {time:?}, `longest` is {longest:?}"),
            "the first ejection lasts `time`; later ones last longer, up to `longest`",
        );
    }
    Some(outlier)
}
