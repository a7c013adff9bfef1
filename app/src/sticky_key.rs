//! The keys of sticky cookies: random, kept in the state directory as `sticky.key` (mode 0600), so that cookies stay
//! valid over restarts. One key per line, in 64 hexadecimal digits; the first seals, all open, so that the operator can
//! put a new one in front and take the old one away once the cookies that it sealed are gone. Whoever deletes the file
//! makes every user choose anew, once.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::error::AppError;

/// Bytes of a key (ChaCha20-Poly1305's).
const KEY_BYTES: usize = 32;
/// Keys that are tried on a cookie: a forged one costs all of them.
const MAX_KEYS: usize = 8;

type Key = [u8; KEY_BYTES];

/// Reads the keys, or makes one when there is no file. Lines that are no key are left out, and a file without any is
/// replaced, both with a warning: stickiness is not worth a standstill.
pub(crate) fn read_or_create(state: &Path) -> Result<Vec<Key>, AppError> {
    let path = state.join("sticky.key");
    let failed = |source| AppError::State { path: path.clone(), source };
    match fs::read(&path) {
        Ok(bytes) => match keys(&bytes, &path) {
            keys if keys.is_empty() => tracing::warn!(
                path = %path.display(),
                "there is no key in here: replaced; sticky cookies are valid no more"
            ),
            keys => return Ok(keys),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(|error| AppError::System(io::Error::other(error)))?;
    write(state, &path, &key).map_err(failed)?;
    Ok(vec![key])
}

/// The keys of a file; one of exactly 32 bytes, as everup wrote it at first, is a key itself.
fn keys(bytes: &[u8], path: &Path) -> Vec<Key> {
    if let Ok(key) = Key::try_from(bytes) {
        return vec![key];
    }
    let text = String::from_utf8_lossy(bytes);
    let mut keys = Vec::new();
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        match key(line) {
            Some(_) if keys.len() == MAX_KEYS => {
                tracing::warn!(path = %path.display(), "line {number} is left out: {MAX_KEYS} keys are the most");
            }
            Some(key) => keys.push(key),
            None if line.is_empty() || line.starts_with('#') => {}
            None => {
                tracing::warn!(path = %path.display(), "line {number} is left out: not 64 hexadecimal digits")
            }
        }
    }
    keys
}

fn key(line: &str) -> Option<Key> {
    let digits: Vec<u32> = line.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
    let bytes: Vec<u8> =
        digits.chunks_exact(2).filter_map(|two| u8::try_from(two[0] << 4 | two[1]).ok()).collect();
    if digits.len() == 2 * KEY_BYTES { Key::try_from(bytes).ok() } else { None }
}

/// Whole or not at all: temp file (mode 0600), fsync, rename, fsync of the directory.
fn write(state: &Path, path: &Path, key: &Key) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(state)?;
    let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    writeln!(file, "{digits}")?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(state)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn read(text: impl AsRef<[u8]>) -> Vec<Key> {
        let state = tempfile::tempdir().unwrap();
        fs::write(state.path().join("sticky.key"), text).unwrap();
        let keys = read_or_create(state.path()).unwrap();
        assert_eq!(read_or_create(state.path()).unwrap(), keys, "the file is stable");
        keys
    }

    #[test]
    fn the_key_is_made_once_and_only_its_owner_may_read_it() {
        let state = tempfile::tempdir().unwrap();
        let keys = read_or_create(state.path()).unwrap();
        assert_eq!(read_or_create(state.path()).unwrap(), keys);
        assert!(keys.len() == 1 && keys[0] != [0; KEY_BYTES]);
        let mode = fs::metadata(state.path().join("sticky.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_without_a_key_is_replaced() {
        assert_eq!(read("short").len(), 1);
        assert_eq!(read("# nothing\n").len(), 1);
    }

    #[test]
    fn every_line_is_a_key_in_its_order_and_what_is_none_is_left_out() {
        let (one, two) = ("0a".repeat(32), "FF".repeat(32));
        let text = format!("# newest first\n{one}\n\n  {two}\r\n{one}0\nxx{}\n", &one[2..]);
        assert_eq!(read(text), [[0x0a; 32], [0xff; 32]]);
        assert_eq!(read(format!("{one}\n").repeat(9)).len(), MAX_KEYS);
    }

    #[test]
    fn the_bare_bytes_of_an_earlier_version_are_a_key() {
        assert_eq!(read([7; KEY_BYTES]), [[7; KEY_BYTES]]);
    }

    #[test]
    fn a_directory_that_cannot_be_used_is_named() {
        let state = tempfile::tempdir().unwrap();
        let missing = state.path().join("missing");
        let error = read_or_create(&missing).unwrap_err();
        assert!(error.to_string().contains("missing/sticky.key"), "{error}");
    }
}
