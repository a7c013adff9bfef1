//! Every crate opts into the workspace's lints and takes its dependencies from the workspace's one list.

use toml::de::{DeTable, DeValue};

use super::Violation;
use super::metadata::Metadata;
use super::tree::Tree;

pub(crate) fn check(tree: &Tree, metadata: &Metadata) -> Vec<Violation> {
    let mut found = Vec::new();
    for member in &metadata.members {
        let path = format!("{}/Cargo.toml", member.directory);
        let Some(manifest) = tree.file(&path).and_then(|file| DeTable::parse(&file.text).ok()) else {
            found.push(Violation::new("manifest", &path, 1, "the manifest cannot be read".into(), "mend it"));
            continue;
        };
        let manifest = manifest.get_ref();
        let lints = manifest.get("lints").map(|lints| lints.get_ref());
        if !lints.is_some_and(is_inherited) {
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
            let section = manifest.get(kind).and_then(|section| section.get_ref().as_table());
            for (name, value) in section.into_iter().flatten() {
                if !is_inherited(value.get_ref()) {
                    let name = name.get_ref();
                    let instead = "name the version in the root Cargo.toml and write `workspace = true` here";
                    let what = format!("{name} has a version of its own");
                    found.push(Violation::new("manifest", &path, 1, what, instead));
                }
            }
        }
    }
    found
}

/// It has `workspace = true`.
fn is_inherited(value: &DeValue<'_>) -> bool {
    value.get("workspace").and_then(|workspace| workspace.get_ref().as_bool()) == Some(true)
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
