//! Every bound of a drill, with its name and its reason. Whoever reads a number from outside checks it here, so that the
//! command line, the library and the message say the same.

use std::fmt;

use crate::DrillError;

/// What a number may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    what: &'static str,
    least: f64,
    most: f64,
    unit: &'static str,
}

/// As many as one thread keeps on schedule.
pub const RATE: Limit = Limit::new("the rate", 0.1, 20_000.0, "requests per second");
/// Each kept connection is a descriptor here, in the proxy, and maybe behind it.
pub const CONNECTIONS: Limit = Limit::new("the number of kept connections", 1.0, 5_000.0, "connections");
/// The same for WebSockets.
pub const WEBSOCKETS: Limit = Limit::new("the number of WebSockets", 0.0, 5_000.0, "WebSockets");
/// Larger bodies measure bandwidth, which is another question.
pub const BODY: Limit = Limit::new("the body of a POST", 0.0, 1_048_576.0, "bytes");
/// Longer than any client waits.
pub const TIMEOUT: Limit = Limit::new("the timeout", 0.1, 60.0, "seconds");
/// Less would leave no request between two events; more is two drills.
pub const EVERY: Limit = Limit::new("the time between two events", 0.1, 600.0, "seconds");
/// Long enough for connections to be opened and caches to be filled.
pub const WARM_UP: Limit = Limit::new("the warm-up", 0.5, 60.0, "seconds");
/// More rounds than anybody reads lines of.
pub const TIMES: Limit = Limit::new("the number of rounds", 1.0, 1_000.0, "rounds");
/// A frozen instance is of no use to anybody for so long.
pub const FREEZE: Limit = Limit::new("the time that an instance stays frozen", 0.5, 60.0, "seconds");
/// A command that takes longer is not what changes a proxy.
pub const COMMAND: Limit = Limit::new("the time that the command may take", 1.0, 300.0, "seconds");
/// A whole drill: its events, its rounds and the warm-up.
pub const WHOLE: Limit = Limit::new("the whole drill", 0.0, 3_600.0, "seconds");

/// The most requests of one load: its books must fit in memory.
pub(crate) const MOST_REQUESTS: u64 = 5_000_000;
/// The most requests in flight: below what one process has ports and descriptors for.
pub(crate) const MOST_IN_FLIGHT: usize = 10_000;
/// The most cookies kept: far above what one site sets.
pub(crate) const MOST_COOKIES: usize = 50;

impl Limit {
    const fn new(what: &'static str, least: f64, most: f64, unit: &'static str) -> Self {
        Self { what, least, most, unit }
    }

    /// The number itself, if it is possible.
    ///
    /// # Errors
    /// [`DrillError::Range`], which names what is.
    pub fn check(self, number: f64) -> Result<f64, DrillError> {
        match (self.least..=self.most).contains(&number) {
            true => Ok(number),
            false => Err(DrillError::Range { what: self.what, range: self.to_string() }),
        }
    }

    /// What stands in `text`, as the command line gives it; `5s` is 5 seconds.
    ///
    /// # Errors
    /// One line that names what is possible.
    pub fn read(self, text: &str) -> Result<f64, String> {
        let digits = if self.unit == "seconds" { text.trim_end_matches('s') } else { text };
        let number = digits.parse::<f64>().ok();
        number.and_then(|number| self.check(number).ok()).ok_or_else(|| self.to_string())
    }

    /// The same for what there are no fractions of.
    ///
    /// # Errors
    /// One line that names what is possible.
    pub fn read_whole(self, text: &str) -> Result<u32, String> {
        let number = self.read(text)?;
        match number.fract() == 0.0 {
            true => Ok(number as u32),
            false => Err(format!("{self}, without a fraction")),
        }
    }
}

/// What is possible: `0.1 to 20000 requests per second`.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {} {}", self.least, self.most, self.unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_within_its_bounds_and_the_message_names_them() {
        assert_eq!((RATE.read("0.1"), RATE.read("20000")), (Ok(0.1), Ok(20_000.0)));
        for wrong in ["0", "NaN", "20001", "fast", "1s"] {
            assert_eq!(RATE.read(wrong), Err("0.1 to 20000 requests per second".into()), "{wrong}");
        }
        assert_eq!((EVERY.read("5s"), EVERY.read("0.5")), (Ok(5.0), Ok(0.5)));
        assert!(EVERY.read("1e9").is_err());
    }

    #[test]
    fn what_is_counted_has_no_fractions() {
        assert_eq!(TIMES.read_whole("7"), Ok(7));
        assert_eq!(TIMES.read_whole("1.5"), Err("1 to 1000 rounds, without a fraction".into()));
        assert!(TIMES.read_whole("0").is_err());
    }

    #[test]
    fn what_is_refused_says_what_it_was() {
        let refused = CONNECTIONS.check(1e6).unwrap_err().to_string();
        assert_eq!(refused, "the number of kept connections must be within 1 to 5000 connections");
    }
}
