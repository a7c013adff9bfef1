//! `[service.NAME.run.log]`: what the instances of a service write.

use super::kind::{integer, size};
use super::section::section;
use super::units::{GIB, KIB};

section! {
    /// What instances write to their standard output and error goes to `log/SERVICE/INSTANCE.log` in the state directory.
    pub struct Log {
        /// When a file is this large, it is put aside and a new one begins.
        pub size: u64 = size(64 * KIB..=1024 * GIB), default "10MiB",
            because "large enough to look back, small enough to open";
        /// How many files that were put aside are kept, for each instance.
        pub files: usize = integer(1..=100), default 5,
            because "so that a talkative instance does not fill the disk";
    }
}
