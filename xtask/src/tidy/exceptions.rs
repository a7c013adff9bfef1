//! The list of what may stand against a rule: one `check path[::item] # reason` per line. An entry without a
//! reason, or one that nothing needs any more, is a violation.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::Violation;

const PATH: &str = "xtask/tidy-exceptions.txt";

pub(crate) struct Exceptions {
    entries: Vec<Entry>,
}

struct Entry {
    line: usize,
    check: String,
    place: String,
    reason: String,
}

impl Exceptions {
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let text = fs::read_to_string(root.join(PATH)).with_context(|| format!("cannot read {PATH}"))?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let lines =
            text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
        let entries = lines.map(|(index, line)| {
            let (rule, reason) = line.split_once('#').unwrap_or((line, ""));
            let (check, place) = rule.trim().split_once(' ').unwrap_or_else(|| (rule.trim(), ""));
            Entry {
                line: index + 1,
                check: check.into(),
                place: place.trim().into(),
                reason: reason.trim().into(),
            }
        });
        Self { entries: entries.collect() }
    }

    /// `violations` without the excepted ones, with one more for each bad entry of the list.
    pub(crate) fn apply(&self, violations: Vec<Violation>) -> Vec<Violation> {
        let mut needed = vec![false; self.entries.len()];
        let mut left = Vec::new();
        for violation in violations {
            match self.entries.iter().position(|entry| entry.covers(&violation)) {
                Some(index) => needed[index] = true,
                None => left.push(violation),
            }
        }
        for (entry, needed) in self.entries.iter().zip(needed) {
            let name = format!("the exception `{} {}`", entry.check, entry.place);
            if !needed {
                let what = format!("{name} is not needed any more");
                left.push(Violation::new("exceptions", PATH, entry.line, what, "delete the line"));
            } else if entry.reason.is_empty() {
                let what = format!("{name} has no reason");
                left.push(Violation::new("exceptions", PATH, entry.line, what, "say why after a #"));
            }
        }
        left
    }
}

impl Entry {
    fn covers(&self, violation: &Violation) -> bool {
        let place = match &violation.item {
            Some(item) => format!("{}::{item}", violation.path),
            None => violation.path.clone(),
        };
        self.check == violation.check && (self.place == place || self.place == violation.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(path: &str, function: &str) -> Violation {
        Violation::new("length", path, 3, "too long".into(), "shorten it").in_item(function)
    }

    #[test]
    fn an_exception_covers_the_item_it_names_and_no_other() {
        let exceptions = Exceptions::parse("# the list\n\nlength a.rs::run # one table\n");

        let left = exceptions.apply(vec![long("a.rs", "run"), long("a.rs", "stop"), long("b.rs", "run")]);

        assert_eq!(left, [long("a.rs", "stop"), long("b.rs", "run")]);
    }

    #[test]
    fn an_entry_that_nothing_needs_is_a_violation() {
        let left = Exceptions::parse("length a.rs::run # one table\n").apply(vec![]);

        assert_eq!(left.len(), 1);
        assert_eq!(left[0].what, "the exception `length a.rs::run` is not needed any more");
        assert_eq!((left[0].path.as_str(), left[0].line), (PATH, 1));
    }

    #[test]
    fn an_entry_without_a_reason_is_a_violation() {
        let left = Exceptions::parse("length a.rs\n").apply(vec![long("a.rs", "run")]);

        assert_eq!(left[0].what, "the exception `length a.rs` has no reason");
    }
}
