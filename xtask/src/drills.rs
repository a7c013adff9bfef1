//! Starts one of the long measurements in a release build. What they do and promise stands beside the stage that they
//! use: `e2e/examples/drills/`.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

/// Builds everup and runs the drill with these `arguments`; its exit code is ours.
pub(crate) fn run(root: &Path, arguments: &[&str]) -> Result<ExitCode> {
    if arguments == ["cookies"] {
        return cookies(root);
    }
    let build = ["build", "--release", "--quiet", "--package", "everup"];
    let drill = ["run", "--release", "--quiet", "--package", "everup-e2e", "--example", "drills", "--"];
    if !cargo(root, &build, &[])? {
        return Ok(ExitCode::FAILURE);
    }
    let kept = cargo(root, &drill, arguments)?;
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The gateway's test of forged cookies, with a million of them.
fn cookies(root: &Path) -> Result<ExitCode> {
    let test = ["test", "--release", "--package", "everup-gateway", "--lib", "forged", "--", "--nocapture"];
    let status = Command::new(env!("CARGO"))
        .args(test)
        .env("EVERUP_FORGED_COOKIES", "1000000")
        .current_dir(root)
        .status();
    let kept = status.context("cannot start cargo")?.success();
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn cargo(root: &Path, command: &[&str], arguments: &[&str]) -> Result<bool> {
    let status = Command::new(env!("CARGO")).args(command).args(arguments).current_dir(root).status();
    Ok(status.context("cannot start cargo")?.success())
}
