//! Places in keeper and worker at which a test can make everup fail: die, panic, hang, or get an error where one could
//! come. They are how "whatever happens at this step" is tested at every step, on the built binary.
//!
//! A place calls [`hit`] or [`check`] with its name (`controller`, `upgrade.exec`, ...). In a build for users both are
//! empty: there is code behind them only with debug assertions, or with the feature `on` (`cargo build --release
//! --features failpoints`). No place is on the way of a request.
//!
//! Two variables of the environment, which keeper and worker inherit, say what fails:
//!
//! - `EVERUP_FAILPOINT=NAME[:ACTION]`: in every process that comes to this place, the first time it does.
//! - `EVERUP_FAILPOINTS=DIRECTORY`: a file `DIRECTORY/NAME` holding the action arms the place, at any time. Whoever comes there
//!   first takes the file away and fails: once, however many processes there are. That the file is gone tells the test.
//!
//! Actions: `panic` (the default), `kill` (SIGKILL to itself), `stop` (SIGSTOP to itself), `hang` (the thread does not go on),
//! `error` ([`check`] returns one; [`hit`] cannot and panics).
//!
//! Nothing here decides what happens then: that is what tests find out.

use std::io;

#[cfg(any(debug_assertions, feature = "on"))]
mod armed;
#[cfg(not(any(debug_assertions, feature = "on")))]
mod armed {
    //! Nothing fails.

    #[inline(always)]
    pub(crate) fn come_to(_name: &str) -> std::io::Result<()> {
        Ok(())
    }
}

/// A place that cannot return an error.
///
/// # Panics
/// When a test asked for it.
#[inline(always)]
pub fn hit(name: &str) {
    if let Err(error) = armed::come_to(name) {
        panic!("{error}");
    }
}

/// A place at which something can fail.
///
/// # Errors
/// When a test asked for it.
///
/// # Panics
/// When a test asked for it.
#[inline(always)]
pub fn check(name: &str) -> io::Result<()> {
    armed::come_to(name)
}
