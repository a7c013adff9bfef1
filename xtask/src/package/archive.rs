//! Tar, gzip and ar, so that the same files become the same bytes: sorted, root's, of one time, with modes that do not
//! depend on the umask of whoever packs. What the files are, nobody here knows.

use std::collections::BTreeSet;
use std::io::Write;

use anyhow::Result;
use flate2::{Compression, GzBuilder};

/// A file in a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packed {
    /// Where it will lie: `usr/bin/everup`.
    pub(crate) path: String,
    pub(crate) mode: u32,
    pub(crate) bytes: Vec<u8>,
}

impl Packed {
    /// One that everybody may read.
    pub(crate) fn plain(path: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), mode: 0o644, bytes: bytes.into() }
    }

    /// One that everybody may execute.
    pub(crate) fn program(path: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), mode: 0o755, bytes: bytes.into() }
    }
}

/// The files and their directories, with `prefix` before every path (dpkg wants `./`).
pub(crate) fn tar_gz(prefix: &str, files: &[Packed], time: u64) -> Result<Vec<u8>> {
    let mut files: Vec<&Packed> = files.iter().collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let mut tar = tar::Builder::new(Vec::new());
    if !prefix.is_empty() {
        add(&mut tar, prefix, 0o755, tar::EntryType::Directory, &[], time)?;
    }
    let mut known = BTreeSet::new();
    for Packed { path, mode, bytes } in files {
        for (end, _) in path.match_indices('/') {
            let directory = &path[..=end];
            if known.insert(directory) {
                let name = format!("{prefix}{directory}");
                add(&mut tar, &name, 0o755, tar::EntryType::Directory, &[], time)?;
            }
        }
        add(&mut tar, &format!("{prefix}{path}"), *mode, tar::EntryType::Regular, bytes, time)?;
    }
    compress(&tar.into_inner()?, Compression::default())
}

fn add(
    tar: &mut tar::Builder<Vec<u8>>,
    path: &str,
    mode: u32,
    kind: tar::EntryType,
    bytes: &[u8],
    time: u64,
) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_username("root")?;
    header.set_groupname("root")?;
    header.set_mtime(time);
    header.set_size(bytes.len() as u64);
    // Not `append_data`, which would take `./` from the path.
    let name = path.as_bytes();
    let field = &mut header.as_old_mut().name;
    anyhow::ensure!(name.len() <= field.len(), "{path} is longer than a tar header holds");
    field[..name.len()].copy_from_slice(name);
    header.set_cksum();
    tar.append(&header, bytes)?;
    Ok(())
}

/// A document, as small as can be.
pub(crate) fn gz(bytes: &[u8]) -> Result<Vec<u8>> {
    compress(bytes, Compression::best())
}

/// Without a name or time of its own.
fn compress(bytes: &[u8], level: Compression) -> Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), level);
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

/// The members in this order, as ar(5) has it: a header of text of 60 bytes, the content, and a byte more if it is odd.
pub(crate) fn ar(members: &[(&str, &[u8])], time: u64) -> Vec<u8> {
    let mut archive = b"!<arch>\n".to_vec();
    for (name, bytes) in members {
        let (user, group, mode, size) = (0, 0, "100644", bytes.len());
        archive.extend(format!("{name:<16}{time:<12}{user:<6}{group:<6}{mode:<8}{size:<10}`\n").bytes());
        archive.extend_from_slice(bytes);
        if bytes.len() % 2 == 1 {
            archive.push(b'\n');
        }
    }
    archive
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn files() -> Vec<Packed> {
        vec![Packed::program("usr/bin/b", "bb"), Packed::plain("usr/a", "a"), Packed::plain("etc/c", "")]
    }

    #[test]
    fn a_tarball_is_sorted_of_root_of_one_time_and_names_every_directory_once_before_what_is_in_it() {
        let packed = tar_gz("./", &files(), 1_000).unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(packed.as_slice()));
        let mut seen = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let header = entry.header();
            assert_eq!(
                (header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()),
                (0, 0, 1_000)
            );
            assert_eq!(header.username().unwrap(), Some("root"));
            let (path, mode) =
                (String::from_utf8(entry.path_bytes().into()).unwrap(), header.mode().unwrap());
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            seen.push(format!("{path} {mode:o} {text}"));
        }
        let expected = [
            "./ 755 ",
            "./etc/ 755 ",
            "./etc/c 644 ",
            "./usr/ 755 ",
            "./usr/a 644 a",
            "./usr/bin/ 755 ",
            "./usr/bin/b 755 bb",
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn the_order_in_which_files_are_given_changes_nothing() {
        let mut turned = files();
        turned.reverse();
        assert_eq!(tar_gz("", &files(), 7).unwrap(), tar_gz("", &turned, 7).unwrap());
    }

    #[test]
    fn an_ar_archive_has_headers_of_sixty_bytes_at_even_places() {
        let archive = ar(&[("debian-binary", b"2.0\n"), ("odd", b"x"), ("last", b"yy")], 12);
        assert_eq!(archive.len(), 8 + 60 + 4 + 60 + 2 + 60 + 2);
        assert!(
            archive
                .starts_with(b"!<arch>\ndebian-binary   12          0     0     100644  4         `\n2.0\n")
        );
        assert_eq!(&archive[archive.len() - 62..archive.len() - 50], b"last        ");
    }
}
