//! A new configuration is on probation: if workers die with it, one after the other, the one before it comes back. That is the last
//! resort of a reload that everybody had agreed to, and that brought out a fault of ours: an old configuration that
//! serves is better than a new one that does not.
//!
//! A worker that somebody kills with SIGKILL is no sign of anything. The file stays as it is: the operator is told, and
//! mends it.

use std::time::{Duration, Instant};

use everup_core::config::Config;
use everup_core::keeper::ExitStatus;

use crate::state::Texts;

/// A configuration with which no worker died for so long has proved itself.
const PROBATION: Duration = Duration::from_secs(60);

/// So many deaths on probation, and the one before comes back. One may be chance; clients wait during each.
const DEATHS: u32 = 3;

/// A configuration that ran.
#[derive(Debug)]
pub(crate) struct Earlier {
    pub(crate) config: Config,
    pub(crate) text: String,
    /// All that make it.
    pub(crate) texts: Texts,
}

/// The configuration to come back to, if there is one.
#[derive(Debug)]
pub(crate) struct Fallback {
    earlier: Option<Earlier>,
    /// The last change, or the last death since.
    since: Instant,
    deaths: u32,
    /// What the operator is told since it came to that.
    pub(crate) warning: Option<String>,
}

impl Fallback {
    pub(crate) fn new() -> Self {
        Self { earlier: None, since: Instant::now(), deaths: 0, warning: None }
    }

    /// A reload was taken; `before` is what ran, if that was something else. The last that has proved itself is kept, which
    /// need not be the last.
    pub(crate) fn changed(&mut self, now: Instant, before: Option<Earlier>) {
        self.warning = None;
        let Some(before) = before else { return };
        if self.earlier.is_none() || now >= self.since + PROBATION {
            self.earlier = Some(before);
        }
        (self.since, self.deaths) = (now, 0);
    }

    /// A worker died by itself. Some: this configuration is to take the place of the one that runs.
    pub(crate) fn worker_died(&mut self, now: Instant, status: ExitStatus) -> Option<Earlier> {
        if now >= self.since + PROBATION {
            self.earlier = None;
        }
        self.since = now;
        self.deaths += 1;
        let earlier = self.earlier.take_if(|_| self.deaths >= DEATHS)?;
        self.warning = Some(format!(
            "the configuration from before the last reload runs: with the newer one {} workers died within a minute of each \
             other (the last one {status}). The file is as it was: change it back, or what is wrong in it, and reload",
            self.deaths
        ));
        Some(earlier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::config_of;

    const DIED: ExitStatus = ExitStatus::Code(101);

    fn configuration(text: &str) -> Earlier {
        Earlier { config: config_of(&["true"]), text: text.into(), texts: Texts::new(text.into()) }
    }

    fn falls_back_to(fallback: &mut Fallback, now: Instant) -> Option<String> {
        fallback.worker_died(now, DIED).map(|earlier| earlier.text)
    }

    #[test]
    fn the_third_death_after_a_change_brings_the_earlier_configuration_back() {
        let now = Instant::now();
        let mut fallback = Fallback::new();
        assert_eq!(falls_back_to(&mut fallback, now), None);
        fallback.changed(now, Some(configuration("good")));
        assert_eq!([(); 2].map(|()| falls_back_to(&mut fallback, now)), [None, None]);
        assert_eq!(falls_back_to(&mut fallback, now).as_deref(), Some("good"));
        assert!(fallback.warning.as_ref().unwrap().contains("3 workers died"));
        // There is no other: it is tried again and again.
        assert_eq!([(); 3].map(|()| falls_back_to(&mut fallback, now)), [None, None, None]);
        fallback.changed(now, Some(configuration("good")));
        assert_eq!(fallback.warning, None);
    }

    #[test]
    fn a_configuration_that_ran_for_a_while_has_proved_itself() {
        let now = Instant::now();
        let mut fallback = Fallback::new();
        fallback.changed(now, Some(configuration("old")));
        for minutes in 1..5 {
            assert_eq!(falls_back_to(&mut fallback, now + minutes * PROBATION), None);
        }
    }

    #[test]
    fn of_several_changes_in_a_row_the_one_that_had_proved_itself_comes_back() {
        let now = Instant::now();
        let mut fallback = Fallback::new();
        fallback.changed(now, Some(configuration("good")));
        fallback.changed(now, Some(configuration("hardly tried")));
        let died = [(); 3].map(|()| falls_back_to(&mut fallback, now));
        assert_eq!(died[2].as_deref(), Some("good"));
        fallback.changed(now, Some(configuration("good")));
        fallback.changed(now + PROBATION, Some(configuration("better")));
        let died = [(); 3].map(|()| falls_back_to(&mut fallback, now + PROBATION));
        assert_eq!(died[2].as_deref(), Some("better"));
    }

    #[test]
    fn a_reload_that_changes_nothing_is_no_change_to_come_back_from() {
        let now = Instant::now();
        let mut fallback = Fallback::new();
        fallback.changed(now, None);
        assert_eq!([(); 3].map(|()| falls_back_to(&mut fallback, now)), [None, None, None]);
    }
}
