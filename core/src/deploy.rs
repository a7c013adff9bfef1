//! Deployments: how the instances of one revision of a service are replaced by those of another one without losing a
//! request, and how everything goes back when the new ones are no good.
//!
//! ```text
//!  deploy ─▶ Start ▸ Verify ▸ [Approve] ▸ Shift ▸ Drain ▸ Rest ─▶ … ─▶ Commit ▸ [Keep] ▸ End ─▶ done
//!              └────────┴────────────┴─ the new revision or a hook of it fails, `abort`, `rollback` ─┘
//!                                            ▼
//!                         going back: old ones get requests, new ones leave ─▶ rolled back
//! ```
//!
//! A strategy (`strategy/`) is a recipe: a list of [`Step`]s that is made when the deployment begins, shown by `everup
//! plan`, stored, and then followed. The [`Machine`] follows it. It is level-triggered: the [`Row`] that is stored says
//! which step it is at and, with that, which processes there should be and which of them take requests ([`Row::wanted`]);
//! what is done follows from comparing this with what is observed, so that a worker that takes over in the middle goes on
//! from the row and the processes that it finds. What changes the row is stored before it has an effect.
//!
//! An instance that is to go leaves in this order, always: a table without it is published; every data-plane thread has
//! acknowledged that table; its requests have ended or `drain.time` is over; only then is it told to stop.
//!
//! Nothing here starts a process, writes a file or knows an address.

mod evidence;
mod hooks;
mod judge;
mod lock;
mod machine;
mod operator;
mod record;
mod slot;
mod strategy;
#[cfg(test)]
mod tests;
mod words;

pub use hooks::{Hook, HookOrder, HookResult, HookRun, Hooks, Pending, Task, WarmUp};
pub use lock::Lock;
pub use machine::{Given, Input, Machine, Output, Process, Seen};
pub use operator::{Begin, Order};
pub use record::{Back, Deployment, Event, Held, Outcome, Row, Stage};
pub use slot::Slot;
pub use strategy::{Recipe, Step};
pub use words::Plan;
