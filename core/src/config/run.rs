//! `[service.NAME.run]`: everup starts the instances itself.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::health::argument;
use super::kind::{integer, list, optional, pairs, path, text, word};
use super::log::Log;
use super::nearest::distance;
use super::node::user_name;
use super::reading::{Reading, Refusal, Table};
use super::section::{plain, section, table};

/// More instances a service cannot have.
pub const REPLICAS: u64 = 1000;

section! {
    /// everup starts the instances itself, each with a port of its own from 20000 to 29999, and starts them again when they
    /// end. In `command` and in the values of `environment` stand {port}, {revision}, {instance}, {service} and {everup} (the
    /// path of the everup binary) for what they name.
    pub struct Run {
        /// The program and its arguments. No shell is involved.
        pub command: Vec<String> = list(1..=256, text("string", "without NUL", argument)), default required,
            because "an instance must listen at {port}, which it also finds in the environment as PORT";
        /// Where it runs.
        pub directory: Option<PathBuf> = optional(path()), default unset "the directory of the file",
            because "paths in `command` start there too";
        /// How many instances.
        pub replicas: usize = integer(1..=REPLICAS), default 1,
            because "more than one to survive the loss of one; there are 10000 ports";
        /// The name of what runs. Becomes {revision}.
        pub revision: String = text("revision", "1 to 64 of A-Z a-z 0-9 . _ -, no leading dot", revision), default "v1",
            because "it becomes part of paths";
        /// Added to the environment of everup; to PATH, LANG, LC_*, TZ and TERM only if the instance runs under another user. PORT, EVERUP_SERVICE, EVERUP_INSTANCE and EVERUP_REVISION are added in any case.
        pub environment: BTreeMap<String, String> = pairs("table of strings", "names of A-Z a-z 0-9 _", 256, variable),
            default {}, because "every instance holds a copy";
        /// The user that the instances run as, if everup was started as root.
        pub user: Option<String> = optional(text("name of a user", "1 to 32 of A-Z a-z 0-9 . _ -", user_name)),
            default unset "`node.user`", because "a service needs no access to what is everup's";
        /// What instances write to their standard output and error.
        pub log: Log = table::<Log, _>(plain), default {}, because "every key has a default";
    }
    later { runtime = "process" }
}

pub(super) fn build(run: Run, table: &Table<'_>, reading: &mut Reading) -> Option<Run> {
    judge_program(&run.command, table, reading);
    let command = run.command.iter().map(String::as_str);
    refuse_slips(command, "command", table, reading);
    refuse_slips(run.environment.values().map(String::as_str), "environment", table, reading);
    Some(run)
}

fn judge_program(command: &[String], table: &Table<'_>, reading: &mut Reading) {
    let Some(program) = command.first() else { return };
    if program.is_empty() {
        let hint = "the first string is the program, then each argument";
        reading.mistake(
            table.span_of("command"),
            "`command` has no program",
            "the first string is empty",
            hint,
        );
    } else if command.len() == 1 && program.contains(' ') {
        let parts: Vec<String> =
            program.split_whitespace().map(|part| format!("\"{}\"", part.escape_default())).collect();
        let message = "`command` is one string with spaces";
        let hint = format!("write [{}]: program and arguments one by one", parts.join(", "));
        reading.mistake(table.span_of("command"), message, "taken for the name of a program", hint);
    }
}

const PLACEHOLDERS: [&str; 5] = ["port", "revision", "instance", "service", "everup"];

/// Braces have other uses too, so only what is one letter beside a placeholder is told.
fn refuse_slips<'t>(
    texts: impl Iterator<Item = &'t str>,
    key: &str,
    table: &Table<'_>,
    reading: &mut Reading,
) {
    let in_braces = |text: &'t str| {
        let of_a_shell = |at: usize| text[..at].ends_with('$');
        let opened = text.match_indices('{').filter(move |(at, _)| !of_a_shell(*at));
        opened.filter_map(move |(at, _)| text[at + 1..].split_once('}')).map(|(word, _)| word)
    };
    for word in texts.flat_map(in_braces).filter(|word| !PLACEHOLDERS.contains(word) && word.len() < 32) {
        let letters: Vec<char> = word.to_lowercase().chars().collect();
        let slip = |known: &&&str| distance(&letters, &known.chars().collect::<Vec<_>>()) <= 1;
        if let Some(meant) = PLACEHOLDERS.iter().find(slip) {
            let message = format!("`{key}` has an unknown {{{word}}}");
            let hint = format!("did you mean {{{meant}}}?");
            reading.mistake(table.span_of(key), message, "would stay as it is", hint);
        }
    }
}

/// Whether this can be the name of a revision: it is a part of names and paths, and leads out of none.
pub fn is_revision(text: &str) -> bool {
    revision(text).is_ok()
}

fn revision(text: &str) -> Result<String, Refusal> {
    if text.starts_with('.') {
        return Err(Refusal::new("begins with a dot", "write it like \"v1\""));
    }
    word(text, 64, |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'), "A-Z a-z 0-9 . _ -")
}

/// What everup sets itself.
const OWN_VARIABLES: [&str; 4] = ["PORT", "EVERUP_SERVICE", "EVERUP_INSTANCE", "EVERUP_REVISION"];

fn variable(name: &str, value: &str) -> Result<(String, String), Refusal> {
    if OWN_VARIABLES.contains(&name) {
        return Err(Refusal::new("everup sets it", "remove it"));
    }
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(Refusal::new("no name of a variable", "letters, digits and _, no leading digit"));
    }
    let name = word(name, 128, |c| c.is_ascii_alphanumeric() || c == '_', "A-Z a-z 0-9 _")?;
    if value.contains('\0') {
        return Err(Refusal::new("has a NUL", "no variable can have one"));
    }
    Ok((name, value.to_owned()))
}
