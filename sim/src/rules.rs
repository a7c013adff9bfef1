//! What must hold after every step, whatever the faults.
//!
//! 1. No instance is picked that the thread's table does not hold, or whose verdict has not been Up for longer than a
//!    table takes to travel, nor one that this request tried while there is another.
//! 2. An instance that passes probes for as long as a return takes is up, in every thread's table: so no service
//!    with a sound instance is left with none for longer than that.
//! 3. An instance that fails probes for as long as a detection takes is not up.
//! 4. An instance falls at most once per fault: verdicts do not flap.
//! 5. A non-idempotent request of which a byte was written is never sent again.
//! 6. Attempts are bounded: those that count by `retry.attempts`, all others by time.
//! 7. An idempotent request is never failed while some instance served all the time, unless its attempts were used
//!    up, it waited for the retry budget, or its time was over.
//! 8. The load of every instance is what is open on it; in the end nothing is open, and everybody is up.

use std::fmt;

use everup_core::health::Verdict;
use everup_core::time::Time;

use crate::request::Request;
use crate::setting::TABLE_LAG;
use crate::world::World;

/// More attempts than this are a loop. A request meets at most every instance once per table, and tables change as
/// often as instances fall and return.
const ATTEMPTS_AT_MOST: u32 = 100;

/// A rule that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    what: String,
    at: Option<Time>,
}

impl Broken {
    fn new(what: String) -> Self {
        Self { what, at: None }
    }

    pub(crate) fn at(self, time: Time) -> Self {
        Self { at: Some(time), ..self }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.unwrap_or_default().as_micros() as f64 / 1000.0;
        write!(f, "at {at:.3} ms: {}", self.what)
    }
}

fn must(holds: bool, what: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken::new(what())) }
}

/// Rules 2, 3, 4 and 8, of every instance.
pub(crate) fn check(world: &World) -> Result<(), Broken> {
    let now = world.queue.now();
    let (returns, falls) = (world.setting.returns_within(), world.setting.falls_within());
    for (n, (truth, watched)) in world.instances.iter().zip(&world.watched).enumerate() {
        let verdict = watched.machine.verdict();
        let up = *verdict == Verdict::Up;
        let back = truth.passes_since.is_some_and(|since| now.since(since) > returns);
        must(up || !back, || format!("instance {n} passes for {returns:?} and is still {verdict:?}"))?;
        let listed = world.threads.iter().all(|thread| thread.table.up[n]);
        let lagged = truth.passes_since.is_some_and(|since| now.since(since) > returns + TABLE_LAG);
        must(listed || !lagged, || format!("instance {n} is up and not in every table"))?;
        let gone = truth.fails_since.is_some_and(|since| now.since(since) > falls);
        must(!up || !gone, || format!("instance {n} fails for {falls:?} and is still up"))?;
        must(watched.falls <= truth.faults, || {
            format!("instance {n} fell {} times for {} faults", watched.falls, truth.faults)
        })?;
        let open = world.requests.values().filter(|request| request.state.instance() == Some(n)).count();
        must(open == world.load[n] as usize, || {
            format!("instance {n} has load {} for {open}", world.load[n])
        })?;
    }
    Ok(())
}

/// Rules 1 and 6, when `request` is to go to `instance`.
pub(crate) fn check_pick(world: &World, id: u64, instance: usize) -> Result<(), Broken> {
    let request = &world.requests[&id];
    let thread = &world.threads[request.thread];
    must(thread.table.up[instance], || format!("request {id} picked instance {instance}, not in its table"))?;
    let is_newest = thread.table.generation == world.generation;
    must(is_newest || world.queue.now() <= thread.table_due, || {
        format!("thread {} is behind", request.thread)
    })?;
    let up = *world.watched[instance].machine.verdict() == Verdict::Up;
    must(up || !is_newest, || {
        format!("request {id} picked instance {instance}, which the newest table forbids")
    })?;
    must(!request.never.contains(&instance), || format!("request {id} goes back to instance {instance}"))?;
    let tried = |n: &usize| request.never.contains(n) || request.tried.contains(n);
    let other = (0..world.instances.len()).find(|n| thread.table.up[*n] && !tried(n));
    must(other.is_none() || !tried(&instance), || {
        format!("request {id} goes to instance {instance} again instead of {other:?}")
    })?;
    must(request.attempt <= ATTEMPTS_AT_MOST, || format!("request {id} makes attempt {}", request.attempt))?;
    must(request.costly < world.setting.attempts, || format!("request {id} goes beyond retry.attempts"))
}

/// Rule 5, when a byte of the request was written once more.
pub(crate) fn check_send(request: &Request) -> Result<(), Broken> {
    must(request.idempotent || request.sends <= 1, || "a non-idempotent request was sent twice".to_owned())
}

/// Rule 7, when the client is to get `status`.
pub(crate) fn check_loss(world: &World, id: u64, status: u16) -> Result<(), Broken> {
    let (now, request) = (world.queue.now(), &world.requests[&id]);
    let needed = now.since(request.arrived) + world.setting.returns_within() + TABLE_LAG;
    let saviour = world
        .instances
        .iter()
        .position(|truth| truth.serves_since.is_some_and(|since| now.since(since) > needed));
    let excused = !request.idempotent
        || request.costly >= world.setting.attempts
        || request.waited_for_budget
        || now.since(request.arrived) >= world.setting.request_timeout;
    must(excused || saviour.is_none(), || {
        format!("request {id} got {status} while instance {saviour:?} served all the time")
    })
}

/// Rule 8, at the end.
pub(crate) fn check_end(world: &World) -> Result<(), Broken> {
    must(world.requests.is_empty(), || format!("{} requests never ended", world.requests.len()))?;
    let all_up = world.watched.iter().all(|watched| *watched.machine.verdict() == Verdict::Up);
    must(all_up, || "somebody is not up in the end".to_owned())?;
    let crate::Summary { requests, answered, failed, cut, .. } = world.summary;
    must(requests == answered + failed + cut, || "requests vanished".to_owned())
}
