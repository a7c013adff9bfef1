//! The code map in ARCHITECTURE.md names exactly the crates of the workspace: a map that nobody checks goes wrong.
//!
//! The map is the table whose rows begin with a directory in backticks: `` | `edge/health/` | ``.

use std::collections::BTreeMap;

use super::Violation;
use super::metadata::Metadata;
use super::tree::Tree;

const PATH: &str = "ARCHITECTURE.md";

pub(crate) fn check(tree: &Tree, metadata: &Metadata) -> Vec<Violation> {
    let text = tree.file(PATH).map_or("", |file| file.text.as_str());
    let rows: BTreeMap<&str, usize> =
        text.lines().enumerate().filter_map(|(index, line)| Some((directory(line)?, index + 1))).collect();
    let mut found = Vec::new();
    for member in &metadata.members {
        if !rows.contains_key(member.directory.as_str()) {
            let what = format!("the map does not show `{}/`", member.directory);
            found.push(Violation::new(
                "map",
                PATH,
                1,
                what,
                "add a row that says what is in it and what is not",
            ));
        }
    }
    for (directory, line) in rows {
        if !metadata.members.iter().any(|member| member.directory == directory) {
            let what = format!("the map shows `{directory}/`, which is no crate of the workspace");
            found.push(Violation::new("map", PATH, line, what, "take the row out"));
        }
    }
    found
}

fn directory(line: &str) -> Option<&str> {
    line.strip_prefix("| `")?.split_once("/` |").map(|(directory, _)| directory)
}

#[cfg(test)]
mod tests {
    use super::super::metadata::Member;
    use super::*;

    fn whats(map: &str) -> Vec<String> {
        let member =
            |directory: &str| Member { name: directory.into(), directory: directory.into(), imports: vec![] };
        let metadata =
            Metadata { members: vec![member("core"), member("edge/health")], ..Metadata::default() };
        check(&Tree::of(&[(PATH, map)]), &metadata).into_iter().map(|violation| violation.what).collect()
    }

    #[test]
    fn a_map_equal_to_the_workspace_is_fine() {
        assert_eq!(whats("| `core/` | decides |\n| `edge/health/` | probes |\n"), Vec::<String>::new());
    }

    #[test]
    fn a_crate_that_is_missing_and_a_row_too_many_are_violations() {
        let expected = [
            "the map does not show `edge/health/`",
            "the map shows `edge/dns/`, which is no crate of the workspace",
        ];
        assert_eq!(whats("| `core/` | decides |\n| `edge/dns/` | answers |\n"), expected);
    }
}
