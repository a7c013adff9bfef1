//! Affinity: which user belongs to which instance. What a sticky cookie says ([`Ticket`]) and what must be remembered
//! of users ([`Homes`]): who had to move, and which instance gave out an application's cookie.
//!
//! Sealing the ticket (so that nobody but us can write one) is the gateway's work, and so is asking whether the
//! instance it names can take the request. The draw itself is `balance::ip_hash`.

pub use homes::{DISPLACED, DISPLACED_IDLE, Homes, LEARNED};
pub use ticket::{Standing, Ticket, TicketError};

mod homes;
mod ticket;
