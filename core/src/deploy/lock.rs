//! A lock keeps new revisions from a service: a freeze that is stored, with who wanted it and why.
//!
//! It refuses deployments that begin. What is under way goes on, and can be ordered as ever; and the way back is never locked:
//! `abort` and `rollback` work, because whoever freezes a service wants it to work.

use serde::{Deserialize, Serialize};

use super::machine::Machine;
use crate::calendar;
use crate::time::Time;

/// Who locked a service, since when and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// Who.
    pub by: String,
    /// Why; empty if that was not said.
    pub reason: String,
    /// Since when, from 1970.
    pub since: Time,
}

impl Lock {
    /// `locked by ann since 2026-11-22 18:30:00Z: a big sale`
    pub fn in_words(&self) -> String {
        let Self { by, reason, since } = self;
        let second = calendar::second_text(since.since(Time::ZERO).as_secs());
        let second = String::from_utf8_lossy(&second).replace('T', " ");
        match reason.as_str() {
            "" => format!("locked by {by} since {second}Z"),
            why => format!("locked by {by} since {second}Z: {why}"),
        }
    }
}

impl Machine {
    /// From now on no deployment begins. One lock is enough: the first one stays.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn lock(&mut self, now: Time, by: &str, reason: &str) -> Result<String, String> {
        self.can_change_lock()?;
        if let Some(lock) = &self.row.lock {
            return Err(format!("{} is {} already", self.given.service, lock.in_words()));
        }
        self.row.lock = Some(Lock { by: by.to_owned(), reason: reason.to_owned(), since: now });
        self.store();
        self.turn(now);
        Ok(match self.row.active() {
            Some(active) => format!("locked; deployment {} that is under way goes on", active.id),
            None => "locked: nothing is deployed until `everup unlock`".to_owned(),
        })
    }

    /// Deployments may begin again.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn unlock(&mut self, now: Time) -> Result<String, String> {
        self.can_change_lock()?;
        let Some(lock) = self.row.lock.take() else {
            return Err(format!("{} is not locked", self.given.service));
        };
        self.store();
        self.turn(now);
        Ok(format!("unlocked; it was {}", lock.in_words()))
    }

    fn can_change_lock(&self) -> Result<(), String> {
        self.trouble().map_or(Ok(()), |trouble| Err(format!("nothing is changed now: {trouble}")))
    }

    /// Why no deployment begins, if the service is locked.
    pub(super) fn refusal_of_lock(&self) -> Option<String> {
        let service = &self.given.service;
        let lock = self.row.lock.as_ref()?;
        Some(format!("{service} is {}; `everup unlock {service}` ends that", lock.in_words()))
    }
}
