//! A binary package for Debian: deb(5). What is in it stands in `contents.rs`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use md5::{Digest, Md5};

use super::archive::{Packed, ar, tar_gz};
use super::{Release, contents, hex, output};

/// Who makes the package, unless DEBFULLNAME and DEBEMAIL say it, as for Debian's own tools.
const MAINTAINER: [&str; 2] = ["The everup authors", "everup@localhost"];
/// Scripts that dpkg runs.
const SCRIPTS: [&str; 3] = ["postinst", "postrm", "prerm"];
/// What an upgrade does not replace when it was changed.
const CONFIGURATION: &str = "etc/everup/everup.toml";

/// Its name and its bytes.
pub(crate) fn package(root: &Path, release: &Release) -> Result<(String, Vec<u8>)> {
    let version = format!("{}-1", release.version);
    let architecture = architecture(std::env::consts::ARCH)?;
    let files = contents::of_debian(root, release, &changelog(&version, release.time)?)?;
    let mut control = vec![
        Packed::plain("control", control(&version, architecture, release, &files)?),
        Packed::plain("conffiles", format!("/{CONFIGURATION}\n")),
        Packed::plain("md5sums", sums(&files)),
    ];
    for script in SCRIPTS {
        control.push(Packed::program(script, contents::read(root, &format!("packaging/debian/{script}"))?));
    }
    let control = tar_gz("./", &control, release.time)?;
    let data = tar_gz("./", &files, release.time)?;
    let members: [(&str, &[u8]); 3] =
        [("debian-binary", b"2.0\n"), ("control.tar.gz", &control), ("data.tar.gz", &data)];
    Ok((format!("everup_{version}_{architecture}.deb"), ar(&members, release.time)))
}

fn control(version: &str, architecture: &str, release: &Release, files: &[Packed]) -> Result<String> {
    let kibibytes: usize = files.iter().map(|file| file.bytes.len().div_ceil(1024)).sum();
    let glibc = newest_glibc(&release.binary).context("the binary asks for no GLIBC version")?;
    Ok(format!(
        "Package: everup\n\
         Version: {version}\n\
         Architecture: {architecture}\n\
         Maintainer: {}\n\
         Installed-Size: {kibibytes}\n\
         Depends: libc6 (>= {}.{}), libgcc-s1 (>= 4.2), systemd | systemd-standalone-sysusers | systemd-sysusers | passwd\n\
         Section: net\n\
         Priority: optional\n\
         Description: load balancer that starts, deploys and watches what it balances\n \
         everup keeps a service up: it brings the traffic (HTTP/1.1, https, TCP) to\n \
         the instances, notices failures, sends requests elsewhere, and replaces\n \
         what runs by the next version without losing a request.\n",
        maintainer(),
        glibc.0,
        glibc.1
    ))
}

/// Like md5sum(1), for `dpkg --verify`.
fn sums(files: &[Packed]) -> String {
    let mut files: Vec<&Packed> = files.iter().filter(|file| file.path != CONFIGURATION).collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files.iter().map(|file| format!("{}  {}\n", hex(&Md5::digest(&file.bytes)), file.path)).collect()
}

fn changelog(version: &str, time: u64) -> Result<String> {
    let date = output(Command::new("date").args(["-u", "-R", "-d", &format!("@{time}")]).env("LC_ALL", "C"))?;
    Ok(format!(
        "everup ({version}) unstable; urgency=medium\n\n  \
         * Packaged as released; changelog.gz tells what is new.\n\n \
         -- {}  {}\n",
        maintainer(),
        date.trim()
    ))
}

fn maintainer() -> String {
    let [name, address] = MAINTAINER;
    let or = |variable, default: &str| std::env::var(variable).unwrap_or_else(|_| default.to_owned());
    format!("{} <{}>", or("DEBFULLNAME", name), or("DEBEMAIL", address))
}

/// Debian's name of an architecture.
fn architecture(ours: &str) -> Result<&'static str> {
    match ours {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => bail!("everup is not packaged for {other}"),
    }
}

/// The newest version of the C library that the binary names: `GLIBC_2.34` stands in it as text.
fn newest_glibc(binary: &[u8]) -> Option<(u32, u32)> {
    const MARK: &[u8] = b"GLIBC_";
    let marks = binary.windows(MARK.len()).enumerate().filter(|(_, window)| *window == MARK);
    let versions = marks.filter_map(|(at, _)| {
        let rest = binary.get(at + MARK.len()..)?;
        let end = rest.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.')?;
        let mut numbers = std::str::from_utf8(&rest[..end]).ok()?.split('.');
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    });
    versions.max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_c_library_that_is_named_is_needed() {
        let binary = b"\0GLIBC_2.4\0GLIBC_2.34\0GLIBC_PRIVATE\0GLIBC_2.2.5\0";
        assert_eq!(newest_glibc(binary), Some((2, 34)));
        assert_eq!(newest_glibc(b"nothing"), None);
    }

    #[test]
    fn the_checksums_leave_out_what_the_administrator_changes() {
        let files =
            [Packed::plain("usr/b", "b"), Packed::plain(CONFIGURATION, "c"), Packed::plain("usr/a", "")];
        let expected = "d41d8cd98f00b204e9800998ecf8427e  usr/a\n92eb5ffee6ae2fec3ad71c777531578f  usr/b\n";
        assert_eq!(sums(&files), expected);
    }

    #[test]
    fn the_changelog_bears_the_time_of_the_sources() {
        let text = changelog("1.2.3-1", 1_795_348_706).unwrap();
        assert!(text.starts_with("everup (1.2.3-1) unstable; urgency=medium\n"), "{text}");
        assert!(text.ends_with("  Sun, 22 Nov 2026 11:58:26 +0000\n"), "{text}");
    }
}
