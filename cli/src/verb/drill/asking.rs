//! What a drill is going to do, told beforehand, and the question whether it shall. Nobody at a terminal and no `--yes`: no.

use std::fmt::Write as _;
use std::io::{BufRead as _, IsTerminal as _, stdin};
use std::time::Duration;

use anyhow::bail;
use everup_admin::api::Status;

use super::event::EventKind;
use super::field::{Everup, Field};
use super::options::Options;
use crate::table::counted;

/// For a drill of the running everup.
pub(super) fn about_everup(
    everup: &Everup,
    field: &Field,
    events: &[EventKind],
    options: &Options,
    lasting: Duration,
) -> anyhow::Result<String> {
    let Status { node, keeper_pid, config, .. } = everup.status()?;
    let path = options.path.as_deref().unwrap_or("/");
    let urls: Vec<String> = field.entrances.iter().map(|entrance| entrance.url(path)).collect();
    let mut text = about_load(&urls.join(" and "), options);
    put(
        &mut text,
        &format!(
            "That is the service {} with {}, of the everup of {node} (pid {keeper_pid}, {config}).",
            field.service,
            counted(field.instances as u64, "instance"),
        ),
    );
    put(&mut text, &format!("Meanwhile, {}:", rhythm(options, lasting)));
    for event in events {
        put(&mut text, &format!("  {:<16} {}", event.name(), event.plan(everup, field, options)?));
    }
    Ok(text)
}

/// For a drill of another proxy.
pub(super) fn about_proxy(url: &str, command: &str, options: &Options, lasting: Duration) -> String {
    let mut text = about_load(url, options);
    put(&mut text, &format!("Meanwhile, {}, this is run by sh:", rhythm(options, lasting)));
    put(&mut text, &format!("  {command}"));
    text
}

/// Whether it shall begin.
///
/// # Errors
/// When nobody can be asked.
pub(super) fn agreed(told: &str, options: &Options) -> anyhow::Result<bool> {
    // What a program reads is the report alone.
    if options.json {
        eprint!("{told}");
    } else {
        print!("{told}");
    }
    if options.yes {
        return Ok(true);
    }
    if !stdin().is_terminal() {
        bail!("a drill asks before it begins, and nobody is at a terminal here: --yes begins without asking");
    }
    eprint!("Begin? [y/N] ");
    let mut answer = String::new();
    stdin().lock().read_line(&mut answer)?;
    let agreed = matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes");
    if !agreed {
        eprintln!("nothing was done");
    }
    Ok(agreed)
}

fn about_load(urls: &str, options: &Options) -> String {
    let posts = match &options.post {
        Some(path) => format!("GET, and POST of {} bytes to {path}", options.body()),
        None => "GET".to_owned(),
    };
    let mut text = format!(
        "A drill sends {} requests/s to {urls}: {posts}; in turns on {} and on new ones, without retries",
        options.rate(),
        counted(options.connections() as u64, "kept connection"),
    );
    if options.websockets() > 0 {
        let sockets = counted(options.websockets() as u64, "WebSocket");
        write!(text, "; a message a second on {sockets} to {}", options.websocket_path())
            .expect("text takes text");
    }
    text + ".\n"
}

fn rhythm(options: &Options, lasting: Duration) -> String {
    let times = match options.times() {
        1 => String::new(),
        times => format!("{times} times, "),
    };
    format!("{times}every {} s, for {:.0} s or longer", options.every().as_secs_f64(), lasting.as_secs_f64())
}

fn put(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("text takes text");
}
