//! Log files of instances: where they are, how they are opened, how their end is read.
//!
//! Instances write to them directly: no reader of ours stands between, whose death could kill a writer. Rotation is
//! in `rotation.rs`.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use everup_core::ids::InstanceId;

/// The part of the end of a log that is looked at for [`last_lines`].
const TAIL_BYTES: u64 = 4096;

/// `DIRECTORY/SERVICE/INSTANCE.log`. The configuration admits no names that leave the directory.
pub(crate) fn path(directory: &Path, id: &InstanceId) -> PathBuf {
    directory.join(&*id.service).join(format!("{}.log", id.instance))
}

/// For appending; makes the directory (0750) and the file (0640).
pub(crate) fn open(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o750).create(directory)?;
    }
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

/// The last `count` lines of the last [`TAIL_BYTES`]. A line that began earlier is shown from where it is known.
pub(crate) fn last_lines(path: &Path, count: usize) -> io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(TAIL_BYTES)))?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut tail)?;
    let text = String::from_utf8_lossy(&tail);
    let lines: Vec<_> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(count)..].iter().map(|line| escape(line)).collect())
}

/// Deletes `NAME.log` and `NAME.log.N` of the instances that `is_old`. A directory that is not there has none.
pub(crate) fn delete(directory: &Path, is_old: impl Fn(&str) -> bool) -> io::Result<()> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let file = entry.file_name();
        let Some(name) = file.to_str().and_then(|file| file.split_once(".log")).map(|(name, _)| name) else {
            continue;
        };
        if is_old(name) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// An instance's output goes to an operator's terminal: it must not be able to control it.
fn escape(line: &str) -> String {
    let mut escaped = String::with_capacity(line.len());
    for character in line.chars() {
        match character {
            '\t' => escaped.push('\t'),
            _ if character.is_control() => escaped.extend(character.escape_default()),
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn written(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = path(directory.path(), &InstanceId::new("shop", "shop-1"));
        open(&path).unwrap().write_all(bytes).unwrap();
        (directory, path)
    }

    #[test]
    fn a_log_is_appended_to_when_it_is_opened_again() {
        let (directory, path) = written(b"one\n");
        assert!(path.ends_with("shop/shop-1.log") && path.starts_with(directory.path()));
        open(&path).unwrap().write_all(b"two\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one\ntwo\n");
    }

    #[test]
    fn the_last_lines_come_in_the_order_they_were_written() {
        let (_directory, path) = written(b"one\ntwo\nthree\n");
        assert_eq!(last_lines(&path, 2).unwrap(), ["two", "three"]);
        assert_eq!(last_lines(&path, 9).unwrap(), ["one", "two", "three"]);
        assert!(last_lines(&path, 0).unwrap().is_empty());
    }

    #[test]
    fn no_more_than_the_tail_of_a_huge_line_is_shown() {
        let (_directory, path) = written(&vec![b'x'; 100_000]);
        assert_eq!(last_lines(&path, 3).unwrap(), ["x".repeat(4096)]);
    }

    #[test]
    fn broken_text_and_control_characters_are_made_harmless() {
        let (_directory, path) = written(b"\x1b[2Jred\tgr\xc3\xbcn \xff\x07\n");
        assert_eq!(last_lines(&path, 1).unwrap(), ["\\u{1b}[2Jred\tgrün \u{fffd}\\u{7}"]);
    }
}
