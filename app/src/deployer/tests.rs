//! The order in which machines are told things.

use std::time::{Instant, UNIX_EPOCH};

use everup_instance::{Change, Supervisor};
use tokio::sync::mpsc;

use super::*;
use crate::controller::Input as News;
use crate::notes::Notes;

const CONFIG: &str = r#"
[[listener]]
bind = ["127.0.0.1:0"]
service = "api"

[service.api]
run = { command = ["api"] }
"#;

#[test]
fn before_an_acknowledgement_counts_the_instances_are_looked_at() {
    let config = config::parse(CONFIG).unwrap();
    let state = tempfile::tempdir().unwrap();
    let notes = Notes::default();
    let now = Now { time: Time::from_millis(1), instant: Instant::now(), wall: UNIX_EPOCH };
    let mut controller = Controller::new(&config, 1, &notes, now);
    let mut supervisor = Supervisor::new(state.path().join("log"), 1, &config.services).unwrap();
    let (done, _stored) = mpsc::unbounded_channel();
    let founded =
        Founded { state: state.path(), services: &config.services, notes: &notes, adopted: &[], done };
    let mut deployer = Deployer::new(now, founded, &mut supervisor, &mut controller);
    deployer.adopt(now, &controller);
    let mut process = Change {
        id: InstanceId::new("api", "api-1"),
        phase: Phase::Running,
        pid: Some(7),
        port: Some(20_000),
        revision: "v1".into(),
        restarts: 0,
        crash_loop: false,
        last_exit: None,
        since: Time::ZERO,
    };
    controller.handle(now, News::Changed(process.clone()));
    assert!(deployer.observe(now, &controller));
    // Something happens between the last look and the acknowledgement: here an exit, else a last request by an old table.
    process.phase = Phase::Backoff;
    controller.handle(now, News::Changed(process));
    deployer.acknowledged(now, Generation(1), &controller);
    assert!(!deployer.observe(now, &controller), "it was looked at only after the acknowledgement");
}
