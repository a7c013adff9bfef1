//! `cargo xtask package`: a Debian package and a tarball of the binary with what belongs to it, and their checksums.
//!
//! What is in them stands in `contents.rs`, how they are written in `archive.rs` and `debian.rs`. Packages of the same sources,
//! compiler and SOURCE_DATE_EPOCH (by default the time of the last commit) are the same, byte for byte. What is packed is for
//! this machine's architecture and C library: the binary itself is asked for its manual.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

mod archive;
mod contents;
mod debian;
mod manual;

/// What was asked for.
#[derive(Debug, Default)]
struct Options {
    /// Packed instead of a new release build.
    binary: Option<PathBuf>,
    /// Default: `package` in cargo's target directory.
    out: Option<PathBuf>,
}

/// What both packages have in common.
pub(crate) struct Release {
    /// Of the workspace.
    pub(crate) version: String,
    /// The time of everything in the packages: seconds since 1970.
    pub(crate) time: u64,
    /// The binary, without symbols.
    pub(crate) binary: Vec<u8>,
    pub(crate) manual: manual::Manual,
}

pub(crate) fn run(root: &Path, arguments: &[&str]) -> Result<ExitCode> {
    let Options { binary, out } = Options::read(arguments)?;
    let target = target_directory(root)?;
    let binary = match binary {
        Some(binary) => binary,
        None => build(root, &target)?,
    };
    let out = out.unwrap_or_else(|| target.join("package"));
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let release = Release {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        time: source_date(root)?,
        manual: manual::Manual::of(&binary)?,
        binary: without_symbols(&binary, &out)?,
    };
    let packages = [debian::package(root, &release)?, tarball(root, &release)?];
    let mut sums = String::new();
    for (name, bytes) in &packages {
        let path = out.join(name);
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        sums += &format!("{}  {name}\n", hex(&Sha256::digest(bytes)));
        println!("{} ({} KiB)", path.display(), bytes.len() / 1024);
    }
    let path = out.join("SHA256SUMS");
    fs::write(&path, sums).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", path.display());
    Ok(ExitCode::SUCCESS)
}

impl Options {
    fn read(arguments: &[&str]) -> Result<Self> {
        let mut options = Self::default();
        let mut rest = arguments.iter();
        while let Some(option) = rest.next() {
            let place = match *option {
                "--binary" => &mut options.binary,
                "--out" => &mut options.out,
                other => bail!("`package` knows --binary PATH and --out DIRECTORY, not {other}"),
            };
            let path = rest.next().with_context(|| format!("{option} needs a path"))?;
            *place = Some(std::path::absolute(path)?);
        }
        Ok(options)
    }
}

/// A file for any Linux of this architecture: everything below one directory.
fn tarball(root: &Path, release: &Release) -> Result<(String, Vec<u8>)> {
    let name = format!("everup-{}-{}-linux-gnu", release.version, std::env::consts::ARCH);
    let mut files = contents::of_tarball(root, release)?;
    files.iter_mut().for_each(|file| file.path = format!("{name}/{}", file.path));
    Ok((format!("{name}.tar.gz"), archive::tar_gz("", &files, release.time)?))
}

/// Where cargo puts what it builds.
fn target_directory(root: &Path) -> Result<PathBuf> {
    let mut command = Command::new(env!("CARGO"));
    let metadata =
        output(command.args(["metadata", "--format-version", "1", "--no-deps"]).current_dir(root))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let target = metadata["target_directory"].as_str().context("cargo names no target directory")?;
    Ok(target.into())
}

fn build(root: &Path, target: &Path) -> Result<PathBuf> {
    let command = ["build", "--release", "--locked", "--quiet", "--package", "everup"];
    let status = Command::new(env!("CARGO")).args(command).current_dir(root).status();
    if !status.context("cannot start cargo")?.success() {
        bail!("everup was not built");
    }
    Ok(target.join("release/everup"))
}

/// What nobody but a debugger reads makes up a third of the file.
fn without_symbols(binary: &Path, out: &Path) -> Result<Vec<u8>> {
    let stripped = out.join("everup.stripped");
    output(Command::new("strip").arg("--strip-all").arg("-o").arg(&stripped).arg(binary))?;
    let bytes = fs::read(&stripped).context("cannot read what `strip` wrote")?;
    fs::remove_file(&stripped)?;
    Ok(bytes)
}

/// See <https://reproducible-builds.org/specs/source-date-epoch/>.
fn source_date(root: &Path) -> Result<u64> {
    let seconds = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(seconds) => seconds,
        Err(_) => output(Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(root))
            .context("set SOURCE_DATE_EPOCH to the time that the packages shall bear")?,
    };
    seconds.trim().parse().context("SOURCE_DATE_EPOCH is no number of seconds")
}

/// What a command prints, if it succeeds.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        bail!("{name} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{name} did not print text"))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_others_refused() {
        let options = Options::read(&["--out", "/tmp/x", "--binary", "/usr/bin/everup"]).unwrap();
        assert_eq!(options.out.as_deref(), Some(Path::new("/tmp/x")));
        assert_eq!(options.binary.as_deref(), Some(Path::new("/usr/bin/everup")));
        assert!(Options::read(&["--out"]).is_err());
        assert!(Options::read(&["--release"]).unwrap_err().to_string().contains("not --release"));
    }
}
