//! The files of the project, read once. It knows no rule.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// A text file of the project.
pub(crate) struct File {
    /// Relative to the workspace, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    /// Of a `.rs` file.
    pub(crate) syntax: Option<syn::File>,
}

/// Every text file of the project that a check reads.
pub(crate) struct Tree {
    pub(crate) files: Vec<File>,
}

/// What is read: sources, manifests and documents.
const ENDINGS: [&str; 4] = [".rs", ".toml", ".md", ".lock"];

impl Tree {
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut files = Vec::new();
        read_directory(root, "", &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { files })
    }

    pub(crate) fn rust(&self) -> impl Iterator<Item = (&File, &syn::File)> {
        self.files.iter().filter_map(|file| Some((file, file.syntax.as_ref()?)))
    }

    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }
}

#[cfg(test)]
impl Tree {
    /// A tree of these paths and texts.
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| File::new(path, (*text).into()).expect("valid Rust"));
        Self { files: files.collect() }
    }
}

impl File {
    fn new(path: &str, text: String) -> Result<Self> {
        let rust = path.ends_with(".rs");
        let syntax = rust
            .then(|| syn::parse_file(&text))
            .transpose()
            .with_context(|| format!("cannot read {path}"))?;
        Ok(Self { path: path.into(), text, syntax })
    }
}

fn read_directory(directory: &Path, prefix: &str, files: &mut Vec<File>) -> Result<()> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        if entry.file_type()?.is_dir() {
            if !is_foreign(&name) {
                read_directory(&entry.path(), &format!("{path}/"), files)?;
            }
        } else if ENDINGS.iter().any(|ending| path.ends_with(ending)) {
            let text = fs::read_to_string(entry.path()).with_context(|| format!("cannot read {path}"))?;
            files.push(File::new(&path, text)?);
        }
    }
    Ok(())
}

/// Directories that hold nothing written by us. `corpus` holds bytes, not text.
fn is_foreign(name: &str) -> bool {
    name.starts_with("target") || [".git", "node_modules", "corpus", "artifacts"].contains(&name)
}
