//! everup-drill: an open-loop HTTP/1.1 load client that keeps honest books, WebSockets beside it, and the game day built on
//! both.
//!
//! It exists to answer one question without flattery: did anybody lose a request? So it sends at a fixed rate
//! whatever the answers do (a slow answer delays no other request and is counted from the instant it was due), never
//! retries, and every request ends in exactly one line of the [`Ledger`]. It is no benchmark (it measures losses, not
//! speed), speaks no HTTP/2, and sends to loopback and private addresses only unless it is told that the other end is the
//! caller's own.

mod client;
mod command;
mod connection;
mod error;
pub mod game_day;
mod kind;
mod ledger;
pub mod limits;
mod lives;
mod load;
mod report;
mod response;
mod talk;
mod target;
mod timeline;
mod trust;
mod websocket;

pub use command::Shell;
pub use error::DrillError;
pub use game_day::{Change, Event, GameDay, game_day};
pub use kind::{DRILL_ID, Mode};
pub use ledger::{Entry, Ledger, Loss, Outcome, Summary};
pub use lives::{End, Life, Lives};
pub use load::{Load, Running};
pub use report::Report;
pub use response::{Answer, Broken, read_answer};
pub use talk::{Fate, Message, Talk, Talked, Talking};
pub use target::Reach;
pub use trust::Trust;
