//! Everything is built from the default registry, on every machine: no mirror, no replaced source, no dependency
//! from elsewhere is written into the project.

use super::Violation;
use super::tree::Tree;

/// The name of the default registry in `Cargo.lock`.
const DEFAULT: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// What names another source in a manifest or in cargo's configuration.
const SETTINGS: [&str; 6] = ["[source", "[registr", "replace-with", "registry =", "registry-index", "git ="];

pub(crate) fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in &tree.files {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        for (index, line) in file.text.lines().enumerate() {
            let foreign = match name {
                "Cargo.lock" => line.starts_with("source = ") && !line.contains(DEFAULT),
                "Cargo.toml" | "config.toml" => {
                    SETTINGS.iter().any(|setting| line.trim_start().contains(setting))
                }
                _ => false,
            };
            if foreign {
                let what = format!("a source other than the default registry: `{}`", line.trim());
                let instead =
                    "depend on a published crate; settings of one machine belong into its own configuration";
                found.push(Violation::new("sources", &file.path, index + 1, what, instead));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&Tree::of(&[(path, text)])).into_iter().map(|violation| violation.line).collect()
    }

    #[test]
    fn a_locked_package_from_elsewhere_is_a_violation() {
        let text = format!("source = \"{DEFAULT}\"\nsource = \"git+https://example.org/a\"\n");
        assert_eq!(lines("Cargo.lock", &text), [2]);
    }

    #[test]
    fn a_mirror_in_cargos_configuration_is_a_violation() {
        assert_eq!(
            lines(".cargo/config.toml", "[alias]\n[source.crates-io]\nreplace-with = \"near\"\n"),
            [2, 3]
        );
        assert_eq!(
            lines("core/Cargo.toml", "[dependencies]\na = { git = \"https://example.org/a\" }\n"),
            [2]
        );
    }
}
