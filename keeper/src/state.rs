//! The keeper's state as it goes through an exec into the next binary: everything that [`Keeper`] holds, as text, and the
//! descriptors that the text counts on, in a fixed order.
//!
//! The text lies in a memfd. It and the descriptors are sent through a line to ourselves whose other end becomes standard
//! input, which is how a process can take descriptors without any `unsafe`; standard input itself travels along. What
//! could not be read by the next binary is found out before the exec: it reads the same text when it proves itself.
//!
//! It only packs and unpacks. When that happens, and what then, stands in `upgrade.rs`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use everup_core::config::{self, Config};
use everup_core::ids::InstanceId;
use everup_core::keeper::SocketRole;
use everup_core::reload::effective;
use everup_core::upgrade::KEEPER_STATE;
use everup_link::{DESCRIPTORS, Link};
use rustix::fs::{MemfdFlags, memfd_create};
use serde::{Deserialize, Serialize};

use crate::Options;

/// More text than this is no state of ours: 64 configurations of the largest size and much else.
pub(crate) const TEXT_BYTES: u64 = 128 << 20;

/// See the head of this file. Later versions may add fields.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) version: u32,
    /// The everup that wrote it.
    pub(crate) everup: String,
    options: Started,
    /// See [`Texts`].
    pub(crate) texts: Vec<String>,
    pub(crate) groups: Vec<SocketGroup>,
    /// What the init system passed on: its name and address.
    pub(crate) given: Vec<(String, SocketAddr)>,
    /// Ports that were given up a moment ago.
    pub(crate) given_up: Vec<u16>,
    /// The admin socket's path is deleted at the end.
    pub(crate) deletes_admin: bool,
    /// The worker that serves.
    pub(crate) worker: Option<Serving>,
    /// Workers that finish what they have.
    pub(crate) leaving: Vec<Serving>,
    pub(crate) instances: BTreeMap<String, BTreeMap<String, Running>>,
    pub(crate) notes: Option<String>,
    pub(crate) restarts: u32,
    pub(crate) quick_deaths: u32,
    pub(crate) was_ready: bool,
    /// Counts proposed configurations.
    pub(crate) last_reload: u64,
    /// What the operator must be told as long as this configuration runs.
    #[serde(default)]
    pub(crate) warning: Option<String>,
    /// The operator asked for a reload meanwhile.
    pub(crate) reload_waits: bool,
    /// The upgrade that this is for.
    pub(crate) upgrade: Asked,
}

/// What `everup run` was told. Paths need not be text.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Started {
    config_path: OsString,
    state: OsString,
    admin: OsString,
    threads: usize,
    everup: OsString,
    worker: OsString,
    worker_arguments: Vec<OsString>,
    watch: bool,
}

/// The sockets of one address.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SocketGroup {
    pub(crate) role: SocketRole,
    pub(crate) address: String,
    pub(crate) asked: Option<SocketAddr>,
    pub(crate) sockets: usize,
}

/// A worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Serving {
    pub(crate) pid: u32,
    /// The everup that it is.
    pub(crate) everup: String,
    pub(crate) lived_ms: u64,
    /// If it leaves: in so many milliseconds it is killed.
    pub(crate) left_ms: u64,
    /// It is no child of ours, so its pidfd comes after its link.
    #[serde(default)]
    pub(crate) stranger: bool,
}

/// The process of an instance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Running {
    pub(crate) pid: u32,
    pub(crate) port: u16,
    pub(crate) revision: String,
    /// It is no child of ours, so its pidfd comes along.
    #[serde(default)]
    pub(crate) stranger: bool,
}

/// Who asked for the upgrade, and for what.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Asked {
    pub(crate) ask: u64,
    /// Where the new binary lies.
    pub(crate) path: OsString,
    /// Where the old one was started from.
    pub(crate) before: OsString,
}

/// The texts that make the configuration that runs: usually one. What waits for a restart holds as an older text says, so
/// that one is kept too.
#[derive(Clone, Debug)]
pub(crate) struct Texts(Vec<String>);

/// So many different texts are remembered, each with something that still waits.
const TEXTS: usize = 64;

impl Texts {
    pub(crate) fn new(text: String) -> Self {
        Self(vec![text])
    }

    /// As another binary had them.
    pub(crate) fn taken(texts: Vec<String>) -> Self {
        Self(texts)
    }

    pub(crate) fn all(&self) -> &[String] {
        &self.0
    }

    /// There was a reload to this text. Older ones that make no difference are forgotten.
    pub(crate) fn push(&mut self, text: String) {
        self.0.push(text);
        let Ok(runs) = configuration(&self.0) else { return };
        let mut at = 0;
        while at + 1 < self.0.len() {
            let mut without = self.0.clone();
            without.remove(at);
            let is_same = configuration(&without).is_ok_and(|config| config == runs);
            if is_same || self.0.len() > TEXTS {
                // Now others may make no difference either.
                (self.0, at) = (without, 0);
            } else {
                at += 1;
            }
        }
    }
}

/// What runs after reloads from the first of these texts to the last. The error is for the operator.
pub(crate) fn configuration(texts: &[String]) -> Result<Config, String> {
    let mut runs: Option<Config> = None;
    for text in texts {
        let next = config::parse(text).map_err(|mistakes| {
            let first = mistakes.into_iter().next();
            let (at, message) = first.map_or((0, String::new()), |one| (one.span.start, one.message));
            let line = text[..at].matches('\n').count() + 1;
            format!("line {line} of the configuration that runs: {message}")
        })?;
        runs = Some(runs.map_or_else(|| next.clone(), |before| effective(&before, &next)));
    }
    runs.ok_or_else(|| "there is no configuration in the keeper's state".to_owned())
}

impl State {
    /// The version and options of what runs; everything else is for the caller to fill in.
    pub(crate) fn of(options: &Options, texts: &Texts, upgrade: Asked) -> Self {
        let Options {
            config_path,
            config_text: _,
            config: _,
            state,
            admin,
            threads,
            everup,
            worker,
            worker_arguments,
            watch,
        } = options;
        let options = Started {
            config_path: config_path.into(),
            state: state.into(),
            admin: admin.into(),
            threads: *threads,
            everup: everup.into(),
            worker: worker.into(),
            worker_arguments: worker_arguments.clone(),
            watch: *watch,
        };
        Self {
            version: KEEPER_STATE,
            everup: crate::VERSION.to_owned(),
            options,
            texts: texts.all().to_vec(),
            groups: Vec::new(),
            given: Vec::new(),
            given_up: Vec::new(),
            deletes_admin: true,
            worker: None,
            leaving: Vec::new(),
            instances: BTreeMap::new(),
            notes: None,
            restarts: 0,
            quick_deaths: 0,
            was_ready: false,
            last_reload: 0,
            warning: None,
            reload_waits: false,
            upgrade,
        }
    }

    /// Reads what another binary wrote, and the configuration in it. The error is for the operator.
    pub(crate) fn read(text: &str) -> Result<(Self, Options), String> {
        let unreadable = |error: serde_json::Error| format!("the keeper's state cannot be read: {error}");
        let state: Self = serde_json::from_str(text).map_err(unreadable)?;
        if state.version != KEEPER_STATE {
            return Err(format!("the keeper's state is of version {}, not {KEEPER_STATE}", state.version));
        }
        let config = configuration(&state.texts)?;
        let Started {
            config_path,
            state: directory,
            admin,
            threads,
            everup,
            worker,
            worker_arguments,
            watch,
        } = state.options.clone();
        let options = Options {
            config_path: config_path.into(),
            config_text: state.texts.last().cloned().unwrap_or_default(),
            config,
            state: directory.into(),
            admin: admin.into(),
            threads,
            everup: everup.into(),
            worker: worker.into(),
            worker_arguments,
            watch,
        };
        Ok((state, options))
    }

    pub(crate) fn write(&self) -> String {
        serde_json::to_string(self).expect("the state holds text, numbers and lists only")
    }

    pub(crate) fn running(&self) -> BTreeMap<InstanceId, Running> {
        let of_service = |(service, instances): (&String, &BTreeMap<String, Running>)| {
            let service: std::sync::Arc<str> = service.as_str().into();
            let id = |name: &String| InstanceId::new(std::sync::Arc::clone(&service), name.as_str());
            instances.iter().map(|(name, running)| (id(name), running.clone())).collect::<Vec<_>>()
        };
        self.instances.iter().flat_map(of_service).collect()
    }

    pub(crate) fn keep_running<'a>(&mut self, all: impl Iterator<Item = (&'a InstanceId, Running)>) {
        for (InstanceId { service, instance }, running) in all {
            self.instances.entry(service.to_string()).or_default().insert(instance.to_string(), running);
        }
    }

    /// How many descriptors go with it, in the order of [`Luggage`].
    fn descriptors(&self) -> usize {
        let workers = self.worker.iter().chain(&self.leaving).map(|one| 1 + usize::from(one.stranger));
        let instances = self.instances.values().flat_map(BTreeMap::values).filter(|one| one.stranger);
        let sockets = self.groups.iter().map(|group| group.sockets);
        FIXED + workers.sum::<usize>() + instances.count() + sockets.sum::<usize>() + self.given.len()
    }
}

/// Standard input as it was, the binary to go back to, the lock of the state directory.
const FIXED: usize = 3;

/// A state with its descriptors: those that every one has; then of the worker and of those that leave the link, and the pidfd of
/// one that is no child of ours; then the pidfds of such instances; then the sockets of each group, and those that the init system passed on.
#[derive(Debug)]
pub(crate) struct Luggage {
    pub(crate) text: String,
    /// Why it comes back to the binary that wrote it; None: it goes to the next one.
    pub(crate) returned: Option<String>,
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// What is sent through the line to ourselves; descriptors travel beside it, the text's memfd as the first of all.
#[derive(Debug, Serialize, Deserialize)]
struct Piece {
    returned: Option<String>,
    /// Descriptors that come after this piece's.
    left: usize,
}

impl Luggage {
    /// Puts it into a line whose end is to be the next binary's standard input. Both ends must be kept until then.
    pub(crate) fn pack(&self) -> Result<(Link, OwnedFd), String> {
        let failed =
            |error: everup_link::LinkError| format!("the keeper's state cannot be handed over: {error}");
        let text = memfd(self.text.as_bytes())
            .map_err(|error| format!("the keeper's state has no place: {error}"))?;
        let (link, end) = Link::pair().map_err(failed)?;
        let mut all: Vec<BorrowedFd<'_>> = vec![text.as_fd()];
        all.extend(self.descriptors.iter().map(AsFd::as_fd));
        let mut left = all.len();
        for some in all.chunks(DESCRIPTORS) {
            left -= some.len();
            if !link.try_send(&Piece { returned: self.returned.clone(), left }, some).map_err(failed)? {
                return Err("the keeper has more sockets than fit through an upgrade".to_owned());
            }
        }
        Ok((link, end))
    }

    /// Takes what a keeper packed into the line that is our standard input, which becomes what it was.
    pub(crate) fn receive() -> Result<Self, String> {
        let failed = |error: everup_link::LinkError| format!("no upgrade is under way here: {error}");
        let link = Link::inherited().map_err(failed)?;
        let mut descriptors = Vec::new();
        let returned = loop {
            let (Piece { returned, left }, some) =
                link.receive().map_err(failed)?.ok_or("its state broke off")?;
            descriptors.extend(some);
            if left == 0 {
                break returned;
            }
        };
        if descriptors.len() <= FIXED {
            return Err("the keeper's state has lost its descriptors".to_owned());
        }
        let text = text_of(descriptors.remove(0).into()).map_err(|error| error.to_string())?;
        Ok(Self { text, returned, descriptors })
    }

    /// As many descriptors as the state counts on.
    pub(crate) fn is_whole(&self, state: &State) -> bool {
        self.descriptors.len() == state.descriptors()
    }
}

/// An anonymous file with this content, to be read from its beginning.
pub(crate) fn memfd(content: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create(c"everup-keeper", MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file.into())
}

/// The text in a file.
pub(crate) fn text_of(mut file: File) -> io::Result<String> {
    file.rewind()?;
    let mut text = String::new();
    file.take(TEXT_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// When something began that has lived for so long.
pub(crate) fn began(lived_ms: u64) -> Instant {
    let now = Instant::now();
    now.checked_sub(Duration::from_millis(lived_ms)).unwrap_or(now)
}

pub(crate) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Asked {
    pub(crate) fn path(&self) -> PathBuf {
        self.path.clone().into()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::tests::{FOREVER, options_in};

    const FIRST: &str = "[node]\nthreads = 1\n[[listener]]\nbind = [\"127.0.0.1:80\"]\nservice = \"shop\"\n\
                         [service.shop]\nrun = { command = [\"one\"] }\n";

    fn state() -> State {
        let mut options = options_in(Path::new("/srv"), FOREVER);
        options.config_text = FIRST.to_owned();
        let upgrade = Asked { ask: 7, path: "/new".into(), before: "/old".into() };
        State::of(&options, &Texts::new(FIRST.to_owned()), upgrade)
    }

    #[test]
    fn a_state_is_read_as_it_was_written_also_with_fields_of_a_later_version() {
        let mut written = state();
        let running = Running { pid: 9, port: 20_000, revision: "v1".into(), stranger: false };
        written.keep_running([(&InstanceId::new("shop", "shop-1"), running)].into_iter());
        let mut text: serde_json::Value = serde_json::from_str(&written.write()).unwrap();
        text["songs"] = "of later".into();
        let (read, options) = State::read(&text.to_string()).unwrap();
        assert_eq!(read.write(), written.write());
        assert_eq!((options.config_text.as_str(), options.threads), (FIRST, 2));
        assert_eq!(read.running()[&InstanceId::new("shop", "shop-1")].pid, 9);
    }

    #[test]
    fn a_state_that_makes_no_sense_is_refused_with_words() {
        let version = state().write().replace("\"version\":1", "\"version\":2");
        let broken = state().write().replace("bind = ", "bint = ");
        let cases = [
            ("", "cannot be read"),
            (&*version, "is of version 2"),
            (&*broken, "line 4 of the configuration"),
        ];
        for (text, words) in cases {
            let refused = State::read(text).unwrap_err();
            assert!(refused.contains(words), "{refused}");
        }
    }

    #[test]
    fn older_texts_are_kept_only_while_something_of_them_holds() {
        let mut texts = Texts::new(FIRST.to_owned());
        let balanced = FIRST.replace("[service.shop]\n", "[service.shop]\nbalance = \"ip-hash\"\n");
        texts.push(balanced.clone());
        assert_eq!(texts.all(), std::slice::from_ref(&balanced));
        // Another command waits for a restart; so the old one must be known.
        let waits = balanced.replace("one", "two");
        texts.push(waits.clone());
        assert_eq!(texts.all(), [balanced.clone(), waits.clone()]);
        let runs = configuration(texts.all()).unwrap();
        assert_eq!(runs, effective(&config::parse(&balanced).unwrap(), &config::parse(&waits).unwrap()));
        assert_eq!(runs.services[0].run.as_ref().unwrap().command, ["one"]);
        texts.push(balanced.clone());
        assert_eq!(texts.all(), [balanced]);
    }

    #[test]
    fn luggage_that_is_packed_holds_every_descriptor() {
        let nothing = || OwnedFd::from(File::open("/dev/null").unwrap());
        let descriptors: Vec<_> = (0..3 * DESCRIPTORS).map(|_| nothing()).collect();
        let luggage = Luggage { text: state().write(), returned: None, descriptors };
        let (_link, end) = luggage.pack().unwrap();
        let end = Link::from_descriptor(end).unwrap();
        let mut came = Vec::new();
        while let Some((Piece { left, .. }, some)) = end.receive().unwrap() {
            came.extend(some);
            if left == 0 {
                break;
            }
        }
        assert_eq!(came.len(), 1 + 3 * DESCRIPTORS);
        assert_eq!(text_of(came.remove(0).into()).unwrap(), state().write());
    }
}
