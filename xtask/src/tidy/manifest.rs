//! Every crate opts into the workspace's lints and takes its dependencies from the workspace's one list.

use toml::{Table, Value};

use super::Violation;
use super::metadata::Metadata;
use super::tree::Tree;

pub(crate) fn check(tree: &Tree, metadata: &Metadata) -> Vec<Violation> {
    let mut found = Vec::new();
    for member in &metadata.members {
        let path = format!("{}/Cargo.toml", member.directory);
        let Some(manifest) = tree.file(&path).and_then(|file| file.text.parse::<Table>().ok()) else {
            found.push(Violation::new("manifest", &path, 1, "the manifest cannot be read".into(), "mend it"));
            continue;
        };
        if !is_true(manifest.get("lints").and_then(|lints| lints.get("workspace"))) {
            let instead = "add `[lints]` with `workspace = true`";
            found.push(Violation::new(
                "manifest",
                &path,
                1,
                "the workspace's lints are not in force".into(),
                instead,
            ));
        }
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (name, value) in manifest.get(kind).and_then(Value::as_table).into_iter().flatten() {
                if !is_true(value.get("workspace")) {
                    let instead = "name the version in the root Cargo.toml and write `workspace = true` here";
                    let what = format!("{name} has a version of its own");
                    found.push(Violation::new("manifest", &path, 1, what, instead));
                }
            }
        }
    }
    found
}

fn is_true(value: Option<&Value>) -> bool {
    value.and_then(Value::as_bool) == Some(true)
}

#[cfg(test)]
mod tests {
    use super::super::metadata::Member;
    use super::*;

    fn whats(manifest: &str) -> Vec<String> {
        let members = vec![Member { name: "a".into(), directory: "a".into(), imports: vec![] }];
        let metadata = Metadata { members, ..Metadata::default() };
        let found = check(&Tree::of(&[("a/Cargo.toml", manifest)]), &metadata);
        found.into_iter().map(|violation| violation.what).collect()
    }

    #[test]
    fn a_crate_without_the_workspaces_lints_is_a_violation() {
        assert_eq!(whats("[package]\nname = \"a\"\n"), ["the workspace's lints are not in force"]);
        assert_eq!(whats("[lints]\nworkspace = true\n"), Vec::<String>::new());
    }

    #[test]
    fn a_dependency_with_a_version_of_its_own_is_a_violation() {
        let manifest = "[dependencies]\nb.workspace = true\nc = \"1\"\n[lints]\nworkspace = true\n";
        assert_eq!(whats(manifest), ["c has a version of its own"]);
    }
}
