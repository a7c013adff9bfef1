//! Through the exec: this process packs what it is, executes another binary, and goes on as that. See `upgrade.rs` for the
//! story and `state.rs` for the luggage.

use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::time::{Duration, Instant};

use everup_core::ids::InstanceId;

use super::{Leaving, PREPARE, Step, Upgrade};
use crate::keeper::{Keeper, Running};
use crate::lock::StateLock;
use crate::signals::Signals;
use crate::sockets::Held;
use crate::state::{self, Asked, Luggage, Serving, State, Texts};
use crate::users::Users;
use crate::worker::Worker;
use crate::{KeeperError, Options, log, spawn};

impl Keeper {
    pub(super) fn pack_text(&self, asked: &Asked) -> String {
        let mut state = State::of(&self.options, &self.texts, asked.clone());
        (state.groups, state.given_up, state.deletes_admin) = self.held.to_state();
        state.given = self.held.given().to_state();
        state.worker = self.worker.as_ref().map(|worker| worker.to_state(Duration::ZERO));
        let now = Instant::now();
        let leaving = self.leaving.iter();
        state.leaving =
            leaving.map(|one| one.worker.to_state(one.until.saturating_duration_since(now))).collect();
        let running = |one: &Running| state::Running {
            pid: one.pid,
            port: one.port,
            revision: one.revision.clone(),
            stranger: one.stranger.is_some(),
        };
        state.keep_running(self.instances.iter().map(|(id, one)| (id, running(one))));
        state.notes.clone_from(&self.notes);
        (state.restarts, state.quick_deaths) = (self.restarts, self.quick_deaths);
        state.was_ready = self.was_ready;
        state.warning.clone_from(&self.fallback.warning);
        (state.last_reload, state.reload_waits) = self.reloads.to_state();
        state.write()
    }

    /// Goes on as `binary`, with `other` in the luggage to go back to, and does not return. Ok: a signal came that is to be heeded
    /// first; try again.
    pub(super) fn execute(
        &self,
        binary: &File,
        other: File,
        asked: &Asked,
        returned: Option<&str>,
    ) -> Result<(), String> {
        let luggage = self.luggage(other, asked, returned).map_err(|error| error.to_string())?;
        // From here on a signal waits for whoever we are then.
        spawn::hold_signals(true);
        let gone = if self.signals.has_any() { Ok(()) } else { Err(luggage.carry_into(binary)) };
        spawn::hold_signals(false);
        gone
    }

    fn luggage(&self, other: File, asked: &Asked, returned: Option<&str>) -> std::io::Result<Luggage> {
        let mut descriptors = vec![std::io::stdin().as_fd().try_clone_to_owned()?, other.into()];
        descriptors.push(self.lock.as_fd().try_clone_to_owned()?);
        let leaving = self.leaving.iter().map(|one| &one.worker);
        for worker in self.worker.iter().chain(leaving) {
            descriptors.push(worker.link.as_fd().try_clone_to_owned()?);
            if let Some(process) = &worker.stranger {
                descriptors.push(process.try_clone()?);
            }
        }
        for process in self.instances.values().filter_map(|running| running.stranger.as_ref()) {
            descriptors.push(process.try_clone()?);
        }
        for descriptor in self.held.all_descriptors() {
            descriptors.push(descriptor.try_clone_to_owned()?);
        }
        Ok(Luggage { text: self.pack_text(asked), returned: returned.map(ToOwned::to_owned), descriptors })
    }
}

impl Luggage {
    /// Executes a binary that finds this as its standard input. Returns why it does not.
    fn carry_into(&self, binary: &File) -> String {
        let packed = self.pack();
        let (_line, end) = match packed {
            Ok(ends) => ends,
            Err(why) => return why,
        };
        let Ok(arguments) = arguments(std::env::args_os()) else {
            return "an argument of ours has a NUL".to_owned();
        };
        if let Err(errno) = rustix::stdio::dup2_stdin(&end) {
            return errno.to_string();
        }
        let error = spawn::become_binary(binary.as_fd(), &arguments);
        // Ours again.
        let _ = rustix::stdio::dup2_stdin(&self.descriptors[0]);
        error.to_string()
    }
}

/// The command line of the next binary: what this one was called by, for people who look at processes, and the word that
/// matters. Everything else that was said to `everup run` stands in the state.
fn arguments(ours: impl Iterator<Item = OsString>) -> Result<Vec<CString>, std::ffi::NulError> {
    let mut words: Vec<OsString> = ours.filter(|word| word != UPGRADED).collect();
    words.push(UPGRADED.into());
    words.into_iter().map(|word| CString::new(word.into_vec())).collect()
}

/// The argument of `everup run` by which it goes on instead of beginning.
const UPGRADED: &str = "--upgraded";

/// Goes on with what a keeper packed that was this process before.
pub(crate) fn resume() -> Result<(), KeeperError> {
    let luggage = Luggage::receive().map_err(KeeperError::Resume)?;
    // The name of a file descriptor, by now.
    let _ = rustix::thread::set_name(c"everup");
    let _ = rustix::stdio::dup2_stdin(&luggage.descriptors[0]);
    spawn::keep_descriptors_to_ourselves()?;
    spawn::adopt_orphans()?;
    let unpacked = everup_failpoint::check("upgrade.resume").map_err(|error| error.to_string());
    match unpacked.and_then(|()| unpack(&luggage)) {
        Ok(parts) => {
            let mut keeper = Keeper::resumed(parts, Signals::catch()?);
            spawn::hold_signals(false);
            // Held twice by now: what is given up later must be closed.
            let Luggage { text: _, returned, descriptors } = luggage;
            drop(descriptors);
            match returned {
                None => keeper.arrive(),
                Some(why) => keeper.come_back(&why),
            }
            keeper.go_on()
        }
        Err(why) if luggage.returned.is_some() => Err(KeeperError::Resume(why)),
        Err(why) => Err(KeeperError::Resume(return_unread(luggage, why))),
    }
}

/// Executes the binary that packed this, which can read it. Returns why it does not.
fn return_unread(mut luggage: Luggage, why: String) -> String {
    log(&format!("upgrade: {why}; everup goes back to the binary that ran"));
    let Ok(ourselves) = File::open("/proc/self/exe") else { return why };
    let old = File::from(std::mem::replace(&mut luggage.descriptors[1], ourselves.into()));
    luggage.returned = Some(why.clone());
    format!("{why}; and the old binary cannot be executed: {}", luggage.carry_into(&old))
}

/// What a keeper is made of that was another binary a moment ago.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) options: Options,
    pub(crate) users: Users,
    pub(crate) held: Held,
    pub(crate) lock: StateLock,
    pub(crate) texts: Texts,
    pub(crate) worker: Option<Worker>,
    pub(crate) leaving: Vec<Leaving>,
    pub(crate) instances: BTreeMap<InstanceId, Running>,
    pub(crate) state: State,
    other: File,
}

fn unpack(luggage: &Luggage) -> Result<Parts, String> {
    let (state, options) = State::read(&luggage.text)?;
    if !luggage.is_whole(&state) {
        return Err("the keeper's state has lost a descriptor".to_owned());
    }
    let users = Users::choose(&options.config).map_err(|error| error.to_string())?;
    let copies = luggage.descriptors.iter().map(OwnedFd::try_clone).collect::<Result<Vec<_>, _>>();
    let mut descriptors = copies.map_err(|error| error.to_string())?.into_iter();
    let _stdin = descriptors.next();
    let mut next = || descriptors.next().ok_or_else(|| "the keeper's state has lost a descriptor".to_owned());
    let (other, lock) = (File::from(next()?), StateLock::taken(next()?));
    let mut taken = |serving: &Serving| {
        let (link, stranger) = (next()?, if serving.stranger { Some(next()?) } else { None });
        Worker::taken(serving, link, stranger).map_err(|error| error.to_string())
    };
    let worker = state.worker.as_ref().map(&mut taken).transpose()?;
    let mut leaving = Vec::new();
    for one in &state.leaving {
        let until = Instant::now() + Duration::from_millis(one.left_ms);
        leaving.push(Leaving { worker: taken(one)?, until });
    }
    let mut instances = BTreeMap::new();
    for (id, state::Running { pid, port, revision, stranger }) in state.running() {
        let stranger = if stranger { Some(next()?) } else { None };
        instances.insert(id, Running { pid, port, revision, stranger });
    }
    let admin = state.deletes_admin.then(|| options.admin.clone());
    let held = Held::taken(&state.groups, (&state.given, &state.given_up), descriptors, admin);
    let texts = Texts::taken(state.texts.clone());
    Ok(Parts { options, users, held, lock, texts, worker, leaving, instances, state, other })
}

impl Keeper {
    fn resumed(parts: Parts, signals: Signals) -> Self {
        let Parts { options, users, held, lock, texts, worker, leaving, instances, state, other } = parts;
        let mut keeper = Self::new(options, users, held, lock, signals);
        keeper.texts = texts;
        keeper.worker = worker;
        keeper.leaving = leaving;
        keeper.instances = instances;
        keeper.notes = state.notes;
        (keeper.restarts, keeper.quick_deaths) = (state.restarts, state.quick_deaths);
        keeper.was_ready = state.was_ready;
        keeper.fallback.warning = state.warning;
        keeper.reloads.restore(state.last_reload, state.reload_waits);
        keeper.upgrade = Some(Upgrade {
            asked: state.upgrade,
            step: Step::Returning { why: String::new() },
            until: Instant::now() + PREPARE,
            from: Some((other, state.everup)),
            lines: Vec::new(),
        });
        keeper
    }
}
