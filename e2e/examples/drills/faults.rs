//! Everything that an instance can do wrong, one after another, while 200 GETs and 100 POSTs come in every second:
//! first with three fixed instances, then with three that everup runs.
//!
//! A GET whose answer an instance breaks off after everup has passed on its beginning is lost whatever a gateway does,
//! and counted apart. A request that was at a frozen instance waits until checks find out; what is said of times leaves
//! those out, and says how many they were.

use std::path::Path;
use std::time::{Duration, Instant};

use everup_drill::Running;
use everup_e2e::api::InstanceState;
use everup_e2e::chance::Chance;
use everup_e2e::{Config, Everup, Ledger, Load, Mode, Process, until};
use rustix::process::Signal;

use crate::origin::mood::{Mood, Reset};
use crate::origin::{Origin, lines, program};
use report::{Half, Struck};

mod report;

/// What happens to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL, later started again.
    Kill,
    /// SIGSTOP, later SIGCONT: connections are taken by the kernel and nothing is answered.
    Freeze,
    /// Every answer 20 to 200 ms late.
    Slow,
    /// Its kernel drops every packet; connections are half open. Later it is back.
    Vanish,
    /// It accepts nothing and its queue is full: connecting hangs.
    Full,
    /// Connections are reset instead of answered.
    Reset,
    /// They are reset in the middle of the answer's head.
    ResetInHead,
    /// One in four is reset in the middle of the answer's body.
    ResetInBody,
}

const FAULTS: [Fault; 8] = [
    Fault::Kill,
    Fault::Freeze,
    Fault::Slow,
    Fault::Vanish,
    Fault::Full,
    Fault::Reset,
    Fault::ResetInHead,
    Fault::ResetInBody,
];

const NAMES: [&str; 3] = ["shop-1", "shop-2", "shop-3"];

impl Fault {
    /// The mood that it is, if the process stays as it is.
    fn mood(self, chance: &mut Chance) -> Option<Mood> {
        Some(match self {
            Self::Kill | Self::Freeze => return None,
            Self::Slow => Mood::Slow(Duration::from_millis(20 + chance.below(180) as u64)),
            Self::Vanish => Mood::Vanished,
            Self::Full => Mood::Full,
            Self::Reset => Mood::Reset(Reset::Silent),
            Self::ResetInHead => Mood::Reset(Reset::InHead),
            Self::ResetInBody => Mood::Reset(Reset::InBody),
        })
    }

    /// Whether the instance took what came and said nothing.
    fn is_mute(self) -> bool {
        matches!(self, Self::Freeze | Self::Vanish | Self::Full)
    }
}

/// Drills for so many seconds. Whether every promise was kept. `timed`: also those about time.
pub(crate) fn run(seconds: u64, seed: u64, timed: bool) -> bool {
    let mut chance = Chance::new(seed);
    let lasting = Duration::from_secs(seconds) / 2;
    let halves = [fixed(lasting, &mut chance), supervised(lasting, &mut chance)];
    report::judge(&halves, timed)
}

/// Three instances that the drill runs itself.
fn fixed(lasting: Duration, chance: &mut Chance) -> Half {
    let books = tempfile::tempdir().expect("a temporary directory");
    let mut origins = NAMES.map(|name| Origin::start(name, books.path()));
    let names = [0, 1, 2].map(|index| origins[index].address().to_string());
    let config = configured(Config::shop(origins.iter().map(Origin::address)), books.path());
    let everup = Everup::with(config).start();
    let kill = |index: usize, pause: Duration, _: &mut Everup| {
        origins[index].end(Signal::KILL);
        std::thread::sleep(pause);
        origins[index].start_again();
    };
    drill("fixed instances", everup, &names, books.path(), lasting, chance, kill)
}

/// Three instances that everup runs, and starts again when they die.
fn supervised(lasting: Duration, chance: &mut Chance) -> Half {
    let books = tempfile::tempdir().expect("a temporary directory");
    let command = format!(
        r#"["{}", "origin", "{{port}}", "{{instance}}", "{}"]"#,
        program().display(),
        books.path().display()
    );
    let config = configured(Config::runs_command(NAMES.len(), &command), books.path());
    let everup = Everup::with(config).start();
    let kill = |index: usize, _: Duration, everup: &mut Everup| {
        let old = everup.instance(NAMES[index]).pid;
        let died = everup.instance_process(NAMES[index]);
        died.kill();
        everup.wait_until("the instance was started again", |status| {
            let mut instances = status.services.iter().flat_map(|service| &service.instances);
            instances.any(|one| one.name == NAMES[index] && one.pid.is_some() && one.pid != old)
        });
    };
    let names = NAMES.map(str::to_owned);
    drill("instances that everup runs", everup, &names, books.path(), lasting, chance, kill)
}

fn configured(config: Config, books: &Path) -> Config {
    let log = books.join("access.log");
    config
        .set("timeout = { connect = \"100ms\" }")
        // Ejected instances come back sooner than by default, so that there is time for more faults.
        .set("outlier = { time = \"2s\" }")
        .health("http = \"/healthz\"")
        .health("interval = \"500ms\"")
        .health("timeout = \"250ms\"")
        .more(&format!("[access_log]\nto = \"{}\"\n", log.display()))
}

fn drill(
    title: &'static str,
    mut everup: Everup,
    names: &[String; 3],
    books: &Path,
    lasting: Duration,
    chance: &mut Chance,
    mut kill: impl FnMut(usize, Duration, &mut Everup),
) -> Half {
    everup.wait_all_up();
    let gets = start(everup.load("/get").rate(200.0));
    let posts = start(everup.load("/post").rate(100.0).sending("POST", "a body"));
    let mut struck = Vec::new();
    let mut round: Vec<Fault> = Vec::new();
    let end = Instant::now() + lasting;
    while Instant::now() < end {
        if round.is_empty() {
            round.extend(FAULTS);
        }
        // In random order, and each as often as the others.
        let fault = round.swap_remove(chance.below(round.len()));
        let index = chance.below(NAMES.len());
        let pause = Duration::from_millis(300 + chance.below(2_000) as u64);
        let from = [gets.elapsed(), posts.elapsed()];
        let control = books.join(format!("{}.control", NAMES[index]));
        match fault.mood(chance) {
            Some(mood) => {
                mood.impose(&control);
                std::thread::sleep(pause);
                Mood::Well.impose(&control);
            }
            None if fault == Fault::Kill => kill(index, pause, &mut everup),
            None => freeze(Mood::Well.impose(&control), pause),
        }
        let over = [gets.elapsed(), posts.elapsed()];
        struck.push(Struck { fault, instance: names[index].clone(), from, over });
        everup.wait_for(&names[index], InstanceState::Up);
        std::thread::sleep(Duration::from_millis(500));
    }
    let close = |load: Running| load.stop().expect("the load does not panic");
    let ledgers: [Ledger; 2] = [close(gets), close(posts)];
    let read = |suffix: &str| -> Vec<String> {
        NAMES.iter().flat_map(|name| lines(&books.join(format!("{name}{suffix}")))).collect()
    };
    let (seen, cuts) = (read(""), read(".cuts"));
    Half::new(title, struck, ledgers, seen, cuts, &everup, &books.join("access.log"))
}

fn start(load: Load) -> Running {
    load.mode(Mode::Mixed).id_header("X-Request-Id").start().expect("the load can start")
}

fn freeze(pid: u32, pause: Duration) {
    let process = Process::with_id(pid).expect("the instance runs");
    process.signal(Signal::STOP);
    until("the instance is frozen", || process.is_frozen());
    std::thread::sleep(pause);
    process.signal(Signal::CONT);
}
