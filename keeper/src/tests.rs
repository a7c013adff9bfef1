//! Stories of a whole keeper: it runs in a process of its own (it reaps every child it has), with this test binary as
//! its worker. The scripted worker passes every message of the keeper on to the test, and the test's words on to the
//! keeper, over a unix socket.

mod reload;
mod stage;

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use everup_core::config::{self, Config};
use everup_core::ids::InstanceId;
use everup_core::keeper::{ExitStatus, SocketRole, StopSignal, ToKeeper, ToWorker};

use crate::Options;
use stage::{Actor, Stage, wait_for_end};

/// A configuration of one listener and the service `shop`, which runs one instance by `command`.
pub(crate) fn config_of(command: &[&str]) -> Config {
    // Rust quotes the words of these tests as TOML does.
    let text = format!(
        r#"
        [node]
        watchdog = "off" # Scripted workers show no life.

        [[listener]]
        bind = ["127.0.0.1:0"]
        service = "shop"

        [service.shop.run]
        command = {command:?}
        environment = {{ GREETING = "{{service}} on {{port}}" }}
        log = {{ size = "1MiB", files = 1 }}
        "#
    );
    config::parse(&text).unwrap()
}

/// Options for a keeper with everything in `home`, and this test binary as worker.
pub(crate) fn options_in(home: &Path, command: &[&str]) -> Options {
    Options {
        config_path: home.join("everup.toml"),
        config_text: "# ".repeat(20_000),
        config: config_of(command),
        state: home.join("state"),
        admin: home.join("admin.sock"),
        threads: 2,
        everup: "/usr/bin/everup".into(),
        worker: "/proc/self/exe".into(),
        worker_arguments: ["--exact", "tests::stage::scripted_worker"].map(Into::into).into(),
        watch: false,
    }
}

fn shop_1() -> InstanceId {
    InstanceId::new("shop", "shop-1")
}

fn start() -> ToKeeper {
    ToKeeper::Start { id: shop_1(), port: 20_001, revision: "v1".into() }
}

/// Starts the instance and returns its process.
fn started(stage: &mut Stage, worker: &mut Actor) -> u32 {
    worker.say(&start());
    match worker.hear() {
        ToWorker::Started { id, pid } if id == shop_1() => {
            stage.clean_up(pid);
            pid
        }
        other => panic!("not started: {other:?}"),
    }
}

pub(crate) const FOREVER: &[&str] = &["sleep", "1000"];

#[test]
fn a_worker_is_born_with_everything_it_needs() {
    let stage = Stage::new(FOREVER);
    let worker = stage.worker();
    assert_eq!(worker.born.config_text, "# ".repeat(20_000));
    assert_eq!(worker.born.config_path, stage.home().join("everup.toml").display().to_string());
    assert_eq!((worker.born.keeper_pid, worker.born.restarts), (stage.keeper_pid(), 0));
    let roles: Vec<_> = worker.born.sockets.iter().map(|(role, _, count)| (*role, *count)).collect();
    assert_eq!(roles, [(SocketRole::Listener { listener: 0, bind: 0 }, 2), (SocketRole::Admin, 1)]);
    assert_eq!((worker.born.adopted.len(), worker.born.notes.as_deref()), (0, None));
}

#[test]
fn a_killed_worker_is_replaced_with_the_same_sockets_and_instances_and_no_connection_is_refused() {
    let mut stage = Stage::new(FOREVER);
    let mut first = stage.worker();
    first.say(&ToKeeper::Ready);
    let pid = started(&mut stage, &mut first);
    first.say(&ToKeeper::Remember { notes: "old".into() });
    first.say(&ToKeeper::Remember { notes: "new".into() });

    // The keeper sleeps, so there is certainly nobody while the client connects.
    first.settle();
    stage.signal_keeper(libc::SIGSTOP);
    first.kill();
    let address = first.born.address();
    let mut client = TcpStream::connect(address).unwrap();
    stage.signal_keeper(libc::SIGCONT);

    let mut second = stage.worker();
    assert_eq!(second.born.address(), address);
    assert_eq!(second.born.restarts, 1);
    assert_eq!(second.born.notes.as_deref(), Some("new"));
    assert_eq!(second.born.adopted, [(shop_1(), pid, 20_001, "v1".to_owned())]);
    second.accept();
    let mut greeting = String::new();
    client.read_to_string(&mut greeting).unwrap();
    assert_eq!(greeting, "hello");
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    assert!(stage.words().contains("killed by signal 9; starting another one at once"), "{}", stage.words());
}

#[test]
fn an_instance_that_ends_is_reported_once_and_can_be_started_again() {
    let mut stage = Stage::new(&["sh", "-c", "exit 7"]);
    let mut worker = stage.worker();
    for _ in 0..2 {
        let pid = started(&mut stage, &mut worker);
        assert_eq!(worker.hear(), ToWorker::Exited { id: shop_1(), pid, status: ExitStatus::Code(7) });
    }
}

#[test]
fn an_instance_that_ends_while_no_worker_lives_is_not_adopted() {
    let mut stage = Stage::new(FOREVER);
    let mut first = stage.worker();
    first.say(&ToKeeper::Ready);
    let pid = started(&mut stage, &mut first);
    stage.signal_keeper(libc::SIGSTOP);
    first.kill();
    stage::kill(pid, libc::SIGKILL);
    wait_for_end(pid);
    stage.signal_keeper(libc::SIGCONT);
    assert!(stage.worker().born.adopted.is_empty());
}

#[test]
fn an_instance_is_signalled_with_everything_it_started() {
    let mut stage = Stage::new(&["sh", "-c", "sleep 1000 & echo $!; wait"]);
    let mut worker = stage.worker();
    let pid = started(&mut stage, &mut worker);
    let child = stage.wait_for_log_line().trim().parse().unwrap();
    worker.say(&ToKeeper::Signal { id: shop_1(), signal: StopSignal::Terminate });
    assert_eq!(worker.hear(), ToWorker::Exited { id: shop_1(), pid, status: ExitStatus::Signal(15) });
    wait_for_end(child);
}

#[test]
fn what_an_instance_leaves_behind_is_killed() {
    let mut stage = Stage::new(&["sh", "-c", "trap '' TERM; sleep 1000 & echo $!"]);
    let mut worker = stage.worker();
    let pid = started(&mut stage, &mut worker);
    assert_eq!(worker.hear(), ToWorker::Exited { id: shop_1(), pid, status: ExitStatus::Code(0) });
    wait_for_end(stage.wait_for_log_line().trim().parse().unwrap());
}

#[test]
fn an_instance_gets_its_environment_and_no_descriptor_of_ours() {
    let script = "echo $PORT $EVERUP_SERVICE $EVERUP_INSTANCE $EVERUP_REVISION $GREETING $0; pwd; readlink /proc/self/fd/0; \
                  ls -1 /proc/$$/fd; ps -o pgid= -p $$; echo $$; echo oops >&2";
    let mut stage = Stage::new(&["sh", "-c", script, "{everup}-{revision}"]);
    let mut worker = stage.worker();
    let pid = started(&mut stage, &mut worker);
    worker.hear();
    let home = fs::canonicalize(stage.home()).unwrap();
    let expected = format!(
        "20001 shop shop-1 v1 shop on 20001 /usr/bin/everup-v1\n{}\n/dev/null\n0\n1\n2\n{pid}\n{pid}\noops\n",
        home.display()
    );
    let written = fs::read_to_string(stage.log()).unwrap();
    assert_eq!(written.replace([' ', '\t'], ""), expected.replace(' ', ""));
}

#[test]
fn an_instance_blocks_no_signal_and_ignores_none_of_what_rust_ignores() {
    let mut stage = Stage::new(&["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]);
    let mut worker = stage.worker();
    started(&mut stage, &mut worker);
    worker.hear();
    let written = fs::read_to_string(stage.log()).unwrap();
    let masks: Vec<_> = written
        .lines()
        .map(|line| u64::from_str_radix(line.rsplit('\t').next().unwrap(), 16).unwrap())
        .collect();
    assert_eq!(masks[0], 0);
    assert_eq!(masks[1] & (1 << (libc::SIGPIPE - 1)), 0);
}

#[test]
fn as_root_the_worker_and_its_instances_have_the_rights_of_the_nodes_user() {
    if !rustix::process::getuid().is_root() {
        return; // Only root can give its rights away.
    }
    let mut stage =
        Stage::with_users(&["sh", "-c", "id -un; echo $HOME; env | grep -c ^CARGO"], [Some("nobody"), None]);
    let mut worker = stage.worker();
    let status = fs::read_to_string(format!("/proc/{}/status", worker.born.pid)).unwrap();
    assert!(status.contains("Uid:\t65534\t65534\t65534\t65534"), "{status}");
    started(&mut stage, &mut worker);
    worker.hear();
    assert_eq!(fs::read_to_string(stage.log()).unwrap(), "nobody\n/nonexistent\n0\n");
    assert_eq!(fs::metadata(stage.home().join("state")).unwrap().uid(), 65534);
}

#[test]
fn instances_outlive_the_keeper_also_those_of_another_user() {
    for users in [[None; 2], [Some("nobody"), Some("root")]] {
        if users[0].is_some() && !rustix::process::getuid().is_root() {
            continue; // Only root can start it as somebody else.
        }
        let mut stage = Stage::with_users(FOREVER, users);
        let mut worker = stage.worker();
        let pid = started(&mut stage, &mut worker);
        stage.signal_keeper(libc::SIGKILL);
        assert_eq!(stage.end(), None);
        // The scripted worker ends with its keeper.
        wait_for_end(worker.born.pid);
        assert!(Path::new(&format!("/proc/{pid}")).exists());
    }
}

#[test]
fn a_worker_and_its_health_commands_are_in_the_configuration_files_directory() {
    let stage = Stage::new(FOREVER);
    let worker = stage.worker();
    let directory = fs::read_link(format!("/proc/{}/cwd", worker.born.pid)).unwrap();
    assert_eq!(directory, fs::canonicalize(stage.home()).unwrap());
}

#[test]
fn worker_and_instances_are_in_sessions_of_their_own_without_the_operators_terminal() {
    let mut stage = Stage::new(FOREVER);
    let mut worker = stage.worker();
    let instance = started(&mut stage, &mut worker);
    for pid in [worker.born.pid, instance] {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        // proc_pid_stat(5), after the name in brackets: state, parent, group, session, terminal.
        let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        assert_eq!(fields[2..5], [pid.to_string(), pid.to_string(), "0".to_owned()], "{stat}");
    }
}

#[test]
fn what_the_configuration_does_not_name_is_not_started() {
    let stage = Stage::new(FOREVER);
    let mut worker = stage.worker();
    let id = InstanceId::new("shop", "shop-2");
    worker.say(&ToKeeper::Start { id: id.clone(), port: 20_001, revision: "v1".into() });
    let reason = "the service has no instance \"shop-2\"".to_owned();
    assert_eq!(worker.hear(), ToWorker::StartFailed { id, reason });
    assert!(stage.words().contains("shop/shop-2 is not started"), "{}", stage.words());
}

#[test]
fn an_instance_that_runs_is_not_started_twice() {
    let mut stage = Stage::new(FOREVER);
    let mut worker = stage.worker();
    let pid = started(&mut stage, &mut worker);
    worker.say(&start());
    let reason = format!("it runs already as process {pid}");
    assert_eq!(worker.hear(), ToWorker::StartFailed { id: shop_1(), reason });
}

#[test]
fn ctrl_c_lets_the_worker_end_everything_in_order() {
    let mut stage = Stage::new(FOREVER);
    let mut worker = stage.worker();
    worker.say(&ToKeeper::Ready);
    let pid = started(&mut stage, &mut worker);
    stage.signal_keeper(libc::SIGINT);
    assert_eq!(worker.hear(), ToWorker::Shutdown { hasten: false });
    assert!(Path::new(&format!("/proc/{pid}")).exists(), "the worker drains first");
    stage.signal_keeper(libc::SIGTERM);
    assert_eq!(worker.hear(), ToWorker::Shutdown { hasten: true });
    worker.say(&ToKeeper::Signal { id: shop_1(), signal: StopSignal::Terminate });
    assert_eq!(worker.hear(), ToWorker::Exited { id: shop_1(), pid, status: ExitStatus::Signal(15) });
    worker.say(&ToKeeper::Finished);
    worker.exit(0);
    assert_eq!(stage.end(), Some(0), "{}", stage.words());
    assert!(!stage.home().join("admin.sock").exists());
}

#[test]
fn the_third_signal_kills_everything() {
    let mut stage = Stage::new(&["sh", "-c", "trap '' TERM INT; sleep 1000"]);
    let mut worker = stage.worker();
    worker.say(&ToKeeper::Ready);
    let pid = started(&mut stage, &mut worker);
    for hasten in [false, true] {
        stage.signal_keeper(libc::SIGINT);
        assert_eq!(worker.hear(), ToWorker::Shutdown { hasten });
    }
    stage.signal_keeper(libc::SIGINT);
    assert_eq!(stage.end(), Some(1));
    wait_for_end(pid);
    assert!(stage.words().contains("third signal"), "{}", stage.words());
}

#[test]
fn a_worker_that_dies_while_everything_ends_does_not_leave_instances_behind() {
    let mut stage = Stage::new(FOREVER);
    let mut worker = stage.worker();
    worker.say(&ToKeeper::Ready);
    let pid = started(&mut stage, &mut worker);
    stage.signal_keeper(libc::SIGTERM);
    worker.hear();
    worker.exit(9);
    assert_eq!(stage.end(), Some(1));
    wait_for_end(pid);
    assert!(stage.words().contains("exited with code 9 before everything was stopped"), "{}", stage.words());
}

#[test]
fn a_worker_that_dies_before_it_was_ever_ready_ends_everything_with_its_reason() {
    let mut stage = Stage::new(FOREVER);
    let mut worker = stage.worker();
    let pid = started(&mut stage, &mut worker);
    worker.exit(3);
    assert_eq!(stage.end(), Some(1));
    wait_for_end(pid);
    assert!(stage.words().contains("exited with code 3 before it was ready"), "{}", stage.words());
}

#[test]
fn a_worker_that_dies_again_and_again_is_started_after_growing_pauses() {
    let stage = Stage::new(FOREVER);
    let mut first = stage.worker();
    first.say(&ToKeeper::Ready);
    first.exit(1);
    for _ in 0..3 {
        stage.worker().exit(1);
    }
    stage.worker();
    let words = stage.words();
    let pauses: Vec<_> = words.lines().filter_map(|line| line.split("another one ").nth(1)).collect();
    assert_eq!(pauses[1..], ["in 100 ms", "in 200 ms", "in 400 ms"], "{words}");
}

#[test]
fn a_worker_that_talks_nonsense_is_replaced() {
    let stage = Stage::new(FOREVER);
    let mut first = stage.worker();
    first.say(&ToKeeper::Ready);
    first.say_nonsense();
    assert_eq!(stage.worker().born.restarts, 1);
    assert!(stage.words().contains("is not understood"), "{}", stage.words());
}

#[test]
fn a_second_keeper_of_the_same_state_is_refused_with_the_process_in_charge() {
    let stage = Stage::new(FOREVER);
    stage.worker();
    let (code, words) = stage.second_keeper();
    assert_eq!(code, Some(1));
    assert!(words.contains(&format!("another everup (process {})", stage.keeper_pid())), "{words}");
}
