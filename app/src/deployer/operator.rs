//! What operators ask of the deployer, and its answers.

use std::time::{SystemTime, UNIX_EPOCH};

use everup_admin::Refusal;
use everup_admin::api::{DeployAnswer, DeployRequest, DeployWish, PlanAnswer};
use everup_core::config::{DeployStrategy, is_revision};
use everup_core::deploy::{Begin, Order, Plan};

use tokio::sync::oneshot;

use super::{Deployer, Fleet};
use crate::clock::Now;
use crate::controller::Controller;

/// Where an answer goes.
pub(crate) type Reply = oneshot::Sender<Result<DeployAnswer, Refusal>>;

/// An order that is not stored yet.
#[derive(Debug)]
pub(super) struct Waiting {
    service: String,
    version: u64,
    answer: DeployAnswer,
    reply: Reply,
}

impl Deployer {
    /// Carries out what was asked, and writes it down. An order is answered when it is stored: from then on it is carried
    /// out, whoever dies.
    pub(crate) fn on_request(
        &mut self,
        now: Now,
        request: DeployRequest,
        reply: Reply,
        controller: &Controller,
    ) {
        let service = request.service.clone();
        let answer = self.carry_out(now, request, controller);
        let fleet = self.fleets.iter().find(|fleet| *fleet.service == *service);
        let version = fleet.map(|fleet| (fleet.machine.row().version, fleet.machine.durable().version));
        match (answer, version) {
            (Ok(answer @ DeployAnswer::Done(_)), Some((newest, durable))) if newest > durable => {
                self.waiting.push(Waiting { service, version: newest, answer, reply });
            }
            // Whoever asked may be gone: then nobody needs the answer.
            (answer, _) => drop(reply.send(answer)),
        }
    }

    /// Nobody here learns any more what is stored.
    pub(crate) fn give_up_waiting(&mut self, why: &str) {
        for one in self.waiting.drain(..) {
            drop(one.reply.send(Err(Refusal::Conflict(why.to_owned()))));
        }
    }

    /// Answers what is stored now, or is not.
    pub(super) fn answer(&mut self, service: &str, version: u64, trouble: Option<&str>) {
        for one in self.waiting.extract_if(.., |one| one.service == service && one.version <= version) {
            let answer = match trouble {
                None => Ok(one.answer),
                Some(why) => Err(Refusal::Conflict(format!(
                    "it is not stored yet, and begins as soon as it is: {why}"
                ))),
            };
            drop(one.reply.send(answer));
        }
    }

    fn carry_out(
        &mut self,
        now: Now,
        request: DeployRequest,
        controller: &Controller,
    ) -> Result<DeployAnswer, Refusal> {
        let DeployRequest { service, by, wish } = request;
        let time = self.time(now);
        if self.ended {
            return Err(Refusal::Conflict("everup is stopping".to_owned()));
        }
        let Some(index) = self.fleets.iter().position(|fleet| *fleet.service == *service) else {
            return Err(self.no_fleet(&service, controller));
        };
        let ordered = wish.as_order();
        let fleet = &mut self.fleets[index];
        let begins = match wish {
            DeployWish::Begin { .. } => true,
            DeployWish::Rollback => fleet.machine.row().active().is_none(),
            DeployWish::Show
            | DeployWish::History
            | DeployWish::Plan { .. }
            | DeployWish::Promote
            | DeployWish::Lock { .. }
            | DeployWish::Unlock
            | DeployWish::Pause
            | DeployWish::Resume
            | DeployWish::Abort => false,
        };
        if begins && self.reloading {
            return Err(Refusal::Conflict("a reload is under way: try again when it is done".to_owned()));
        }
        let order = |fleet: &mut Fleet, order| fleet.machine.order(time, order, &by);
        let answer = match wish {
            DeployWish::Show => return fleet.show(now, time, controller),
            DeployWish::History => return Ok(DeployAnswer::History(fleet.past(time))),
            DeployWish::Plan { revision, strategy } => return fleet.plan(&revision, strategy.as_deref()),
            DeployWish::Begin { revision, strategy, reason } => {
                let settings = fleet.settings_with(strategy.as_deref());
                settings.and_then(|settings| {
                    let to = checked(&revision)?.into();
                    let begin =
                        Begin { id: id(now.wall), to, by: by.clone(), reason, settings, is_rollback: false };
                    fleet.machine.begin(time, begin)
                })
            }
            DeployWish::Promote => order(fleet, Order::Promote),
            DeployWish::Pause => order(fleet, Order::Pause),
            DeployWish::Resume => order(fleet, Order::Resume),
            DeployWish::Abort => order(fleet, Order::Abort),
            DeployWish::Rollback => fleet.roll_back(now, time, &by),
            DeployWish::Lock { reason } => fleet.machine.lock(time, &by, &reason),
            DeployWish::Unlock => fleet.machine.unlock(time),
        };
        if let Ok(writer) = &self.store {
            let outcome = answer.as_ref().map_or_else(|why| format!("refused: {why}"), Clone::clone);
            writer.audit(format!("{} {by}: {ordered} {service}: {outcome}", super::seconds(time)));
        }
        answer.map(DeployAnswer::Done).map_err(Refusal::Conflict)
    }

    fn no_fleet(&self, service: &str, controller: &Controller) -> Refusal {
        let is_known = controller.services().iter().any(|one| *one.settings.name == *service);
        Refusal::NotFound(match is_known {
            true => format!("{service} has fixed instances: everup deploys those that it runs (`run`)"),
            false => {
                let names: Vec<_> = self.fleets.iter().map(|fleet| &*fleet.service).collect();
                match names.is_empty() {
                    true => format!("there is no service {service}, and none that everup runs"),
                    false => format!("there is no service {service}; everup runs {}", names.join(", ")),
                }
            }
        })
    }
}

impl Fleet {
    fn settings_with(&self, strategy: Option<&str>) -> Result<everup_core::config::Deploy, String> {
        let mut settings = self.settings.deploy.clone();
        if let Some(word) = strategy {
            settings.strategy = DeployStrategy::from_word(word)
                .ok_or_else(|| format!("there is no strategy \"{word}\": rolling or blue-green"))?;
        }
        Ok(settings)
    }

    fn plan(&self, revision: &str, strategy: Option<&str>) -> Result<DeployAnswer, Refusal> {
        let planned = || {
            let deploy = self.settings_with(strategy)?;
            let to = checked(revision)?;
            let from = &self.machine.row().stable;
            if **from == *to {
                return Err(format!("{} runs {to} already", self.service));
            }
            let mut service = self.settings.clone();
            let word = deploy.strategy.word();
            service.deploy = deploy;
            let Plan { steps, at_least, processes, doubts, rollback } =
                Plan::new(&service, self.given().replicas, from, to);
            Ok(PlanAnswer {
                service: self.service.to_string(),
                from: from.to_string(),
                to: to.to_owned(),
                strategy: word.to_owned(),
                steps,
                at_least_seconds: at_least.as_secs_f64(),
                processes: processes as u64,
                zero_downtime: doubts.is_empty(),
                doubts,
                rollback,
            })
        };
        planned().map(|plan| DeployAnswer::Plan(Box::new(plan))).map_err(Refusal::Conflict)
    }

    /// Back within the deployment that is under way, else a deployment of the revision before.
    fn roll_back(&mut self, now: Now, time: everup_core::time::Time, by: &str) -> Result<String, String> {
        if self.machine.row().active().is_some() {
            return self.machine.order(time, Order::Rollback, by);
        }
        let Some(to) = self.machine.previous().cloned() else {
            return Err(format!("{} has no revision to go back to: nothing was deployed yet", self.service));
        };
        let reason = format!("rollback of {}", self.machine.row().stable);
        let settings = self.settings.deploy.clone();
        let message = format!("{to} does not run any more: it is deployed again");
        self.machine.begin(
            time,
            Begin { id: id(now.wall), to, by: by.to_owned(), reason, settings, is_rollback: true },
        )?;
        Ok(message)
    }
}

/// A revision becomes part of names and paths.
fn checked(revision: &str) -> Result<&str, String> {
    let why = || "a revision has 1 to 64 of A-Z a-z 0-9 . _ - and does not begin with a dot".to_owned();
    is_revision(revision).then_some(revision).ok_or_else(why)
}

/// A ULID: 48 bits of milliseconds since 1970 and 80 random ones, in Crockford's base 32.
fn id(wall: SystemTime) -> String {
    const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let millis = wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    // Chance only tells two deployments of the same millisecond apart.
    let chance = u128::from(getrandom::u64().unwrap_or_default()) << 16;
    let number = millis << 80 | chance;
    let letter = |place: u32| LETTERS[usize::try_from(number >> (5 * place) & 31).expect("below 32")];
    (0..26).rev().map(|place| char::from(letter(place))).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn ids_sort_as_they_were_made_and_differ() {
        let at = |ms| id(UNIX_EPOCH + Duration::from_millis(ms));
        assert!(at(1_800_000_000_000) < at(1_800_000_000_001));
        assert_ne!(at(7), at(7));
        assert_eq!(at(1_469_918_176_385).split_at(10).0, "01ARYZ6S41");
    }

    #[test]
    fn a_revision_is_a_word_that_can_be_a_part_of_a_path() {
        for good in ["v2", "2.0.1", "a_b-c", "7"] {
            assert_eq!(checked(good), Ok(good));
        }
        for bad in ["", ".", "..", ".x", "a/b", "a b", "ü", &"x".repeat(65)] {
            assert!(checked(bad).is_err(), "{bad}");
        }
    }
}
