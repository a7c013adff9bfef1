//! That lines reach the file, also one that is rotated, and that nothing waits for it.

use std::path::Path;
use std::time::Instant;

use super::*;
use crate::tale::{Phases, Verdict};
use crate::trail::Note;

fn write(log: &Log, id: &str) {
    let note = Note::default();
    log.write(&Entry {
        time: Duration::from_secs(1),
        id,
        client: "10.0.0.1",
        tls: None,
        note,
        listener: 0,
        route: None,
        service: Some("app"),
        instance: None,
        generation: 1,
        attempts: 1,
        status: 200,
        bytes_in: 1,
        bytes_out: 2,
        phases: Phases::default(),
        verdict: Verdict::Answered,
    });
}

fn begin(path: &Path) -> (Writer, Log, Arc<AtomicU64>) {
    let dropped = Arc::default();
    let settings = AccessLog { file: Some(path.to_owned()), query: false };
    let (writer, mut logs) = start(settings, 1, &dropped).unwrap();
    (writer, logs.pop().unwrap(), dropped)
}

fn ids(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| line.split('"').nth(7).unwrap_or("?").to_owned()).collect()
}

#[track_caller]
fn until(mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

#[test]
fn every_line_is_in_the_file_when_the_log_has_ended_and_only_its_group_may_read() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let (writer, log, dropped) = begin(&path);
    for number in 0..100 {
        write(&log, &format!("id-{number}"));
    }
    drop(log);
    writer.finish();
    assert_eq!(ids(&path), (0..100).map(|number| format!("id-{number}")).collect::<Vec<_>>());
    assert_eq!(dropped.load(Ordering::Relaxed), 0);
    // The umask may take more away.
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o137, 0);
}

#[test]
fn a_file_that_is_moved_away_is_begun_anew_and_no_line_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let (path, old) = (directory.path().join("access.log"), directory.path().join("access.log.1"));
    let (writer, log, _) = begin(&path);
    write(&log, "before");
    log.flush();
    until(|| ids(&path) == ["before"]);
    std::fs::rename(&path, &old).unwrap();
    write(&log, "after");
    log.flush();
    until(|| ids(&path) == ["after"]);
    assert_eq!(ids(&old), ["before"]);
    std::fs::remove_file(&path).unwrap();
    write(&log, "deleted");
    drop(log);
    writer.finish();
    assert_eq!(ids(&path), ["deleted"]);
}

#[test]
fn when_nobody_writes_lines_are_dropped_and_counted_and_nothing_waits() {
    // A fifo that nobody reads: opening it for writing waits, as a disk that hangs does.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let (_writer, log, dropped) = begin(&path);
    let lines = 20_000;
    (0..lines).for_each(|_| write(&log, "a"));
    let lost = dropped.load(Ordering::Relaxed);
    assert!(lost > 0 && lost < lines, "{lost}");
    // Somebody reads at last: what was kept comes through, whole.
    let reading = std::fs::File::open(&path).unwrap();
    drop(log);
    let text = std::io::read_to_string(reading).unwrap();
    assert_eq!(text.lines().count() as u64, lines - lost);
    assert!(text.lines().all(|line| line.starts_with('{') && line.ends_with('}')));
}

#[test]
fn a_log_that_cannot_be_written_counts_every_line() {
    let directory = tempfile::tempdir().unwrap();
    let (writer, log, dropped) = begin(&directory.path().join("missing/access.log"));
    (0..3).for_each(|_| write(&log, "a"));
    drop(log);
    writer.finish();
    assert_eq!(dropped.load(Ordering::Relaxed), 3);
}
