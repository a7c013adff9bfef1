//! `[service.NAME.health]`: how it is found out which instances work.

use std::time::Duration;

use super::kind::{True, duration, integer, list, optional, text};
use super::reading::{Reading, Refusal, Table};
use super::section::section;

section! {
    /// How it is found out which instances work. At most one of `http`, `tcp` and `command`; without any of them, `tcp`.
    /// Requests that cannot connect are heeded at once, whatever stands here.
    pub(super) struct Written {
        /// GET this path of the instance; an answer of 200 to 399 passes.
        http: Option<String> = optional(text("path", "begins with `/`", request_path)), default unset "off",
            because "the service itself knows best whether it works";
        /// Connect to the instance; a connection passes.
        tcp: Option<()> = optional(True), default unset "on, if neither `http` nor `command` is there",
            because "it works for every service";
        /// Run this command in the configuration file's directory, with SERVICE, INSTANCE, ADDRESS, HOST and PORT in its
        /// environment and the rights of `node.user`; exit code 0 passes.
        command: Option<Vec<String>> = optional(list(1..=256, text("string", "without NUL", argument))), default unset "off",
            because "for what neither can tell; it costs a process for every probe";
        /// The time between two probes of an instance. In doubt, probes come four times as often.
        interval: Duration = duration(10..=3_600_000), default "1s",
            because "a failure is noticed within seconds, and a probe a second costs nothing";
        /// The longest that a probe may take.
        timeout: Option<Duration> = optional(duration(10..=3_600_000)), default unset "`\"500ms\"`, or `interval` if that is shorter",
            because "the next probe must not begin before the last has ended";
        /// How many probes must pass in a row before an instance that was down gets requests.
        rise: u32 = integer(1..=100), default 2,
            because "one answer may be luck";
        /// How many probes must fail in a row before an instance gets no more requests.
        fall: u32 = integer(1..=100), default 2,
            because "one lost packet is no failure";
    }
}

const USUAL_TIMEOUT: Duration = Duration::from_millis(500);

/// How it is found out which instances work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// What a probe does.
    pub check: Check,
    /// Between two probes of an instance.
    pub interval: Duration,
    /// The longest that a probe may take; at most `interval`.
    pub timeout: Duration,
    /// Good probes in a row that make an instance up.
    pub rise: u32,
    /// Bad probes in a row that make an instance down.
    pub fall: u32,
}

/// What a probe does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// GET this path; 200-399 passes.
    Http(String),
    /// Connect.
    Tcp,
    /// Run this; exit code 0 passes.
    Command(Vec<String>),
}

pub(super) fn build(written: Written, table: &Table<'_>, reading: &mut Reading) -> Option<Health> {
    let Written { http, tcp, command, interval, timeout, rise, fall } = written;
    refuse_several(table, reading);
    let check = match (http, tcp, command) {
        (Some(path), _, _) => Check::Http(path),
        (None, _, Some(command)) => Check::Command(command),
        (None, Some(()) | None, None) => Check::Tcp,
    };
    if timeout.is_some_and(|timeout| timeout > interval) {
        reading.mistake(
            table.span_of("timeout"),
            "`timeout` must not be longer than `interval`",
            format!("`interval` is {interval:?}"),
            "the next probe must not begin before the last has ended",
        );
    }
    let timeout = timeout.unwrap_or_else(|| USUAL_TIMEOUT.min(interval));
    Some(Health { check, interval, timeout, rise, fall })
}

fn refuse_several(table: &Table<'_>, reading: &mut Reading) {
    let mut written: Vec<&str> =
        ["http", "tcp", "command"].into_iter().filter(|key| table.has(key)).collect();
    written.sort_by_key(|key| table.key_span(key).start);
    for other in written.iter().skip(1) {
        let message = format!("{} has more than one check", table.path);
        reading.mistake(
            table.key_span(other),
            message,
            format!("`{}` is there too", written[0]),
            "keep one of them",
        );
    }
}

pub(super) fn request_path(path: &str) -> Result<String, Refusal> {
    if !path.starts_with('/') {
        return Err(Refusal::new("must begin with /", format!("write \"/{path}\"")));
    }
    if let Some(other) = path.chars().find(|c| !c.is_ascii_graphic() || *c == '#') {
        return Err(Refusal::new(format!("{other:?} cannot be sent"), "write it as %XX"));
    }
    Ok(path.to_owned())
}

/// An argument of a command; also for `run.command`.
pub(super) fn argument(text: &str) -> Result<String, Refusal> {
    if text.contains('\0') {
        return Err(Refusal::new("has a NUL", "no argument can have one"));
    }
    Ok(text.to_owned())
}
