//! The key that seals sticky cookies: random, made once, kept in the state directory as `sticky.key` (mode 0600), so
//! that cookies stay valid over restarts. Whoever deletes the file makes every user choose anew, once.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::error::AppError;

/// Bytes of the key (ChaCha20-Poly1305's).
const KEY_BYTES: usize = 32;

/// Reads the key, or makes it when there is none. A file of another size is no key: it is replaced, with a warning.
pub(crate) fn read_or_create(state: &Path) -> Result<[u8; KEY_BYTES], AppError> {
    let path = state.join("sticky.key");
    let failed = |source| AppError::State { path: path.clone(), source };
    match fs::read(&path) {
        Ok(bytes) => match <[u8; KEY_BYTES]>::try_from(bytes.as_slice()) {
            Ok(key) => return Ok(key),
            Err(_) => tracing::warn!(
                path = %path.display(),
                "this is no key ({} bytes instead of {KEY_BYTES}): replaced; sticky cookies are valid no more",
                bytes.len()
            ),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(|error| AppError::System(io::Error::other(error)))?;
    write(state, &path, &key).map_err(failed)?;
    Ok(key)
}

/// Whole or not at all: temp file (mode 0600), fsync, rename, fsync of the directory.
fn write(state: &Path, path: &Path, key: &[u8]) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(state)?;
    file.write_all(key)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(state)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_key_is_made_once_and_only_its_owner_may_read_it() {
        let state = tempfile::tempdir().unwrap();
        let key = read_or_create(state.path()).unwrap();
        assert_eq!(read_or_create(state.path()).unwrap(), key);
        assert_ne!(key, [0; KEY_BYTES]);
        let mode = fs::metadata(state.path().join("sticky.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_is_no_key_is_replaced() {
        let state = tempfile::tempdir().unwrap();
        fs::write(state.path().join("sticky.key"), "short").unwrap();
        let key = read_or_create(state.path()).unwrap();
        assert_eq!(read_or_create(state.path()).unwrap(), key);
    }

    #[test]
    fn a_directory_that_cannot_be_used_is_named() {
        let state = tempfile::tempdir().unwrap();
        let missing = state.path().join("missing");
        let error = read_or_create(&missing).unwrap_err();
        assert!(error.to_string().contains("missing/sticky.key"), "{error}");
    }
}
