//! The place of an instance: the revision and a number. A restarted process is in the same place.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Which instance of a service that everup runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot {
    /// What it runs.
    pub revision: Arc<str>,
    /// From 1.
    pub number: usize,
}

impl Slot {
    /// The place `number` of a revision.
    pub fn new(revision: &Arc<str>, number: usize) -> Self {
        Self { revision: Arc::clone(revision), number }
    }

    /// The instance's name: `shop-1` if its revision is the service's first one, else `shop-v2-1`.
    pub fn name(&self, service: &str, first: &str) -> String {
        let Self { revision, number } = self;
        match **revision == *first {
            true => format!("{service}-{number}"),
            false => format!("{service}-{revision}-{number}"),
        }
    }

    /// Whether an instance of a service's revision can have this name; bare names can be anybody's.
    pub fn is_name(name: &str, service: &str, revision: &str) -> bool {
        let number = name.strip_prefix(service).and_then(|rest| rest.strip_prefix('-'));
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        number.is_some_and(|rest| {
            let of_revision = rest.strip_prefix(revision).and_then(|rest| rest.strip_prefix('-'));
            is_number(rest) || of_revision.is_some_and(is_number)
        })
    }

    /// The place of an instance of this name that runs `revision`, if it has one.
    pub fn of(name: &str, revision: &str) -> Option<Self> {
        let (_, number) = name.rsplit_once('-')?;
        let number = number.parse().ok().filter(|number| *number > 0)?;
        Some(Self { revision: revision.into(), number })
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.number, self.revision)
    }
}
