//! One module per verb: its `Args`, and `run`, which does it.

pub(crate) mod check;
pub(crate) mod completion;
pub(crate) mod deploy;
pub(crate) mod drain;
pub(crate) mod drill;
pub(crate) mod explain;
pub(crate) mod history;
pub(crate) mod hook;
pub(crate) mod lock;
pub(crate) mod order;
pub(crate) mod plan;
pub(crate) mod reference;
pub(crate) mod reload;
pub(crate) mod run;
pub(crate) mod sample_app;
pub(crate) mod status;
#[cfg(feature = "top")]
pub(crate) mod top;
pub(crate) mod undrain;
pub(crate) mod upgrade;
pub(crate) mod weight;
pub(crate) mod worker;
