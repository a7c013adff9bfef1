//! everup-drill: an open-loop HTTP/1.1 load client that keeps honest books, and the game day built on it.
//!
//! It exists to answer one question without flattery: did anybody lose a request? So it sends at a fixed rate
//! whatever the answers do (a slow answer delays no other request and is counted from the instant it was due), never
//! retries, and every request ends in exactly one line of the [`Ledger`]. It is no benchmark (it measures losses, not
//! speed), speaks no TLS or HTTP/2, and sends to loopback and private addresses only.

mod client;
mod error;
pub mod game_day;
mod ledger;
mod load;
mod response;
mod target;

pub use error::DrillError;
pub use game_day::{GameDay, Report, Victim, game_day};
pub use ledger::{Entry, Ledger, Loss, Outcome, Summary};
pub use load::{DRILL_ID, Load, Mode, Running};
pub use response::{Answer, Broken, read_answer};
