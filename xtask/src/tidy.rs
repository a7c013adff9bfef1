//! The rules of the house that a compiler does not know, kept by a check instead of by asking.
//!
//! Every check is a file of its own: a pure function from what was read to violations, with a test in which it
//! fails. What may stand against a rule is listed, with a reason, in `xtask/tidy-exceptions.txt`; an entry that
//! nothing needs any more is a violation itself, so that the list can only shrink.

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use exceptions::Exceptions;
use metadata::Metadata;
use tree::Tree;

mod dependencies;
mod exceptions;
mod header;
mod imports;
mod layout;
mod length;
mod manifest;
mod map;
mod metadata;
mod names;
mod purity;
mod sleep;
mod sources;
mod syntax;
mod tree;
mod unfinished;
mod unsafety;

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Violation {
    /// Relative to the workspace.
    path: String,
    /// Counted from 1.
    line: usize,
    /// The check's name, as in the list of exceptions.
    check: &'static str,
    /// A part of the file that an exception can name: a function, for example.
    item: Option<String>,
    what: String,
    instead: String,
}

impl Violation {
    fn new(check: &'static str, path: &str, line: usize, what: String, instead: &str) -> Self {
        Self { path: path.into(), line, check, item: None, what, instead: instead.into() }
    }

    fn in_item(self, item: &str) -> Self {
        Self { item: Some(item.into()), ..self }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}; {}", self.path, self.line, self.what, self.instead)
    }
}

/// Checks the tree at `root` and prints what is wrong. Exit code 1 if anything is.
pub(crate) fn run(root: &Path) -> Result<ExitCode> {
    let tree = Tree::read(root)?;
    let metadata = Metadata::read(root)?;
    let exceptions = Exceptions::read(root)?;
    let violations = exceptions.apply(check(&tree, &metadata));
    for violation in &violations {
        println!("{violation}");
    }
    if violations.is_empty() {
        println!("tidy: {} files, nothing to say", tree.files.len());
        return Ok(ExitCode::SUCCESS);
    }
    println!("tidy: {} to mend", violations.len());
    Ok(ExitCode::from(1))
}

fn check(tree: &Tree, metadata: &Metadata) -> Vec<Violation> {
    let mut found = dependencies::check(metadata);
    found.extend(imports::check(metadata));
    found.extend(manifest::check(tree, metadata));
    found.extend(map::check(tree, metadata));
    found.extend(sources::check(tree));
    found.extend(header::check(tree));
    found.extend(layout::check(tree));
    found.extend(length::check(tree));
    found.extend(names::check(tree));
    found.extend(purity::check(tree));
    found.extend(sleep::check(tree));
    found.extend(unfinished::check(tree));
    found.extend(unsafety::check(tree));
    found.sort();
    found
}
