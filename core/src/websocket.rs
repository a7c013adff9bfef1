//! WebSockets as a gateway sees them (RFC 6455): it carries their bytes as they are and follows only where one frame
//! ends and the next begins, so that it can say goodbye between two of them.
//!
//! Payload is never unmasked, decompressed or judged: what peers say to each other is theirs to refuse.
//! [`Frames`] follows one direction, [`Farewell`] tells when and how a WebSocket whose instance leaves is to be closed,
//! [`spread`] in which order, so that not all clients come back at once.

pub mod close;
pub mod farewell;
pub mod frames;
pub mod spread;

pub use farewell::Farewell;
pub use frames::{Frames, Stop};
