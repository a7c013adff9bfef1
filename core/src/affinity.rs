//! Affinity: which user belongs to which instance. What a sticky cookie says ([`Ticket`]) and who had to move away
//! from the instance that their address draws ([`Displaced`]).
//!
//! Sealing the ticket (so that nobody but us can write one) is the gateway's work, and so is asking whether the
//! instance it names can take the request. The draw itself is `balance::ip_hash`.

pub use displaced::{CAPACITY, Displaced, IDLE};
pub use ticket::{Ticket, TicketError};

mod displaced;
mod ticket;
