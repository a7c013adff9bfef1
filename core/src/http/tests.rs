//! What the codec reads, refuses and writes, as tables of real messages.

mod bodies;
mod cookies;
mod differential;
mod edits;
mod forwarding;
mod requests;
mod responses;
