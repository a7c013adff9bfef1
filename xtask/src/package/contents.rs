//! What is in the packages, and where. How it is packed, nobody here knows.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::Release;
use super::archive::{Packed, gz};

/// Documents, in the tree and in the packages alike, so that their links lead on.
const DOCUMENTS: [&str; 9] = [
    "README.md",
    "SECURITY.md",
    "docs/guide.md",
    "docs/install.md",
    "docs/lexicon.md",
    "docs/operate.md",
    "docs/reference/README.md",
    "docs/reference/admin-api.json",
    "docs/reference/settings.md",
];

const DOC: &str = "usr/share/doc/everup";

/// The files of the Debian package; `changelog` is Debian's own.
pub(crate) fn of_debian(root: &Path, release: &Release, changelog: &str) -> Result<Vec<Packed>> {
    let at = |from: &str, to: &str| -> Result<Packed> { Ok(Packed::plain(to, read(root, from)?)) };
    let Release { binary, manual, .. } = release;
    let mut files = vec![
        Packed::program("usr/bin/everup", binary.clone()),
        at("packaging/everup.toml", "etc/everup/everup.toml")?,
        at("packaging/everup.service", "usr/lib/systemd/system/everup.service")?,
        at("packaging/everup.sysusers", "usr/lib/sysusers.d/everup.conf")?,
        at("packaging/debian/copyright", &format!("{DOC}/copyright"))?,
        at("packaging/everup.socket", &format!("{DOC}/examples/everup.socket"))?,
        Packed::plain(format!("{DOC}/changelog.gz"), gz(&read(root, "CHANGELOG.md")?)?),
        Packed::plain(format!("{DOC}/changelog.Debian.gz"), gz(changelog.as_bytes())?),
        Packed::plain("usr/share/man/man1/everup.1.gz", gz(manual.page(release).as_bytes())?),
        Packed::plain("usr/share/bash-completion/completions/everup", manual.completion.clone()),
    ];
    files.extend(documents(root, &format!("{DOC}/"))?);
    files.extend(examples(root, &format!("{DOC}/examples/"))?);
    Ok(files)
}

/// The files of the tarball.
pub(crate) fn of_tarball(root: &Path, release: &Release) -> Result<Vec<Packed>> {
    let at = |from: &str, to: &str| -> Result<Packed> { Ok(Packed::plain(to, read(root, from)?)) };
    let Release { binary, manual, .. } = release;
    let mut files = vec![
        Packed::program("bin/everup", binary.clone()),
        Packed::plain("share/man/man1/everup.1", manual.page(release)),
        Packed::plain("share/bash-completion/completions/everup", manual.completion.clone()),
    ];
    for name in ["everup.service", "everup.socket", "everup.sysusers", "everup.toml"] {
        files.push(at(&format!("packaging/{name}"), &format!("packaging/{name}"))?);
    }
    for name in ["CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT"] {
        files.push(at(name, name)?);
    }
    files.extend(documents(root, "")?);
    files.extend(examples(root, "examples/")?);
    Ok(files)
}

fn documents(root: &Path, prefix: &str) -> Result<Vec<Packed>> {
    DOCUMENTS.iter().map(|path| Ok(Packed::plain(format!("{prefix}{path}"), read(root, path)?))).collect()
}

fn examples(root: &Path, prefix: &str) -> Result<Vec<Packed>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root.join("examples")).context("cannot list the examples")? {
        let name = entry?.file_name().into_string().ok().context("an example's name is not text")?;
        if name.ends_with(".toml") {
            files.push(Packed::plain(format!("{prefix}{name}"), read(root, &format!("examples/{name}"))?));
        }
    }
    Ok(files)
}

pub(crate) fn read(root: &Path, path: &str) -> Result<Vec<u8>> {
    fs::read(root.join(path)).with_context(|| format!("cannot read {path}"))
}
