//! Rotation while a real process writes: what is lost where the file system can collapse ranges (nothing), and where not.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use super::*;

const SIZE: u64 = 64 * 1024;
const LIMITS: config::Log = config::Log { size: SIZE, files: 3 };
const BLOCK: usize = 4096;

/// A log in `directory` with `bytes` in it, and its path.
fn log_with(directory: &Path, bytes: &[u8]) -> PathBuf {
    let path = directory.join("shop-1.log");
    fs::write(&path, bytes).unwrap();
    path
}

fn numbers(count: usize) -> Vec<u8> {
    (0..count).flat_map(|number| format!("{number:015}\n").into_bytes()).collect()
}

/// Everything that is left of the log, oldest first.
fn all(path: &Path, files: usize) -> Vec<u8> {
    let old = (1..=files).rev().filter_map(|number| fs::read(numbered(path, number)).ok());
    old.chain(fs::read(path)).flatten().collect()
}

#[test]
fn a_file_within_its_size_and_one_that_is_not_there_are_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let path = log_with(home.path(), &numbers(100));
    assert_eq!(rotate(&path, &LIMITS).unwrap(), Rotation::NotNeeded);
    assert_eq!(rotate(&home.path().join("none.log"), &LIMITS).unwrap(), Rotation::NotNeeded);
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
}

#[test]
fn the_files_in_order_hold_every_byte_once_whatever_the_file_system() {
    for home in [tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm").unwrap()] {
        let written = numbers(6 * BLOCK);
        let path = log_with(home.path(), &written);
        assert_ne!(rotate(&path, &LIMITS).unwrap(), Rotation::NotNeeded);
        assert!(fs::metadata(&path).unwrap().len() <= BLOCK as u64);
        assert_eq!(all(&path, LIMITS.files), written);
    }
}

#[test]
fn no_more_old_files_are_kept_than_wanted() {
    for files in [0, 1, 3] {
        let home = tempfile::tempdir().unwrap();
        let path = log_with(home.path(), b"");
        for _ in 0..5 {
            fs::write(&path, numbers(6 * BLOCK)).unwrap();
            rotate(&path, &config::Log { size: SIZE, files }).unwrap();
        }
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), files + 1);
        assert!((1..=files).all(|number| numbered(&path, number).exists()));
    }
}

/// Set for the process that is the writer of [`rotate_under_a_writer`].
const WRITER: &str = "EVERUP_TEST_WRITER";

/// Not a test by itself: a process that appends numbered lines, each with one write, to the log that is its stderr,
/// until its input is closed.
#[test]
fn writer_process() {
    if std::env::var_os(WRITER).is_none() {
        return;
    }
    let told_to_end = thread::spawn(|| io::copy(&mut io::stdin(), &mut io::sink()));
    let mut number = 0;
    while !told_to_end.is_finished() {
        io::stderr().write_all(format!("{number:015}\n").as_bytes()).unwrap();
        number += 1;
    }
}

/// Rotates many times while a process writes. Returns how, and the numbers of the lines that are left in order.
fn rotate_under_a_writer(home: &Path) -> (Rotation, Vec<usize>) {
    const ROTATIONS: usize = 30;
    let path = log_with(home, b"");
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "rotation::tests::writer_process", "--nocapture"])
        .env(WRITER, "yes")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(crate::log::open(&path).unwrap())
        .spawn()
        .unwrap();
    let limits = config::Log { size: SIZE, files: ROTATIONS };
    let mut done = Vec::new();
    while done.len() < ROTATIONS {
        match rotate(&path, &limits).unwrap() {
            Rotation::NotNeeded => thread::yield_now(),
            rotation => done.push(rotation),
        }
    }
    drop(writer.stdin.take());
    assert!(writer.wait().unwrap().success());
    assert!(done.iter().all(|rotation| *rotation == done[0]), "one file system, one way: {done:?}");
    let left =
        BufReader::new(&*all(&path, ROTATIONS)).lines().map(|line| line.unwrap().parse().unwrap()).collect();
    (done[0], left)
}

/// On the way that collapses nothing is lost or doubled. On the other one (there is no third) whole lines can be lost;
/// how many is told, because it is no promise.
#[test]
fn a_writer_that_is_rotated_loses_no_line_where_the_file_system_can_collapse() {
    for home in [tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm").unwrap()] {
        let (way, left) = rotate_under_a_writer(home.path());
        let wanted = left.last().unwrap() + 1;
        println!("{way:?} in {}: {} of {wanted} lines are left", home.path().display(), left.len());
        assert!(left.is_sorted_by(|a, b| a < b), "no line is doubled or out of order");
        if way == Rotation::Collapsed {
            assert_eq!(left.len(), wanted);
        }
    }
}
