//! Promises and whether they were kept, printed one per line.

/// What was promised and measured so far.
#[derive(Default)]
pub(crate) struct Promises {
    broken: bool,
}

impl Promises {
    /// One more: `what`, what was `measured`, and whether that `holds`.
    pub(crate) fn check(&mut self, what: &str, measured: impl std::fmt::Display, holds: bool) {
        println!("{} {what}: {measured}", if holds { "kept  " } else { "BROKEN" });
        self.broken |= !holds;
    }

    /// Whether all were kept.
    pub(crate) fn kept(&self) -> bool {
        !self.broken
    }
}
