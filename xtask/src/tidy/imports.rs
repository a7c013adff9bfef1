//! Imports between the workspace's crates run one way: cli -> app, keeper -> edge/* -> core. Edge crates meet in
//! `app`, not in each other. `sim`, `e2e`, `bench` and `xtask` are leaves: nobody imports them.

use super::Violation;
use super::metadata::{Import, Member, Metadata};

/// Where a crate stands. A crate imports only from floors below its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Floor {
    Core,
    Edge,
    App,
    Cli,
    Leaf,
}

/// Edge crates that every edge crate may import.
const SHARED: [&str; 3] = ["edge/failpoint", "edge/observe", "edge/store"];

pub(crate) fn check(metadata: &Metadata) -> Vec<Violation> {
    let mut found = Vec::new();
    for member in &metadata.members {
        for import in &member.imports {
            let Some(imported) = metadata.members.iter().find(|other| other.name == import.name) else {
                continue;
            };
            if !is_allowed(member, import, imported) {
                let manifest = format!("{}/Cargo.toml", member.directory);
                let what = format!("{} imports {}", member.directory, imported.directory);
                let instead =
                    "imports run cli -> app, keeper -> edge/* -> core: pass the value in, or meet in app";
                found.push(Violation::new("imports", &manifest, 1, what, instead));
            }
        }
    }
    found
}

fn is_allowed(member: &Member, import: &Import, imported: &Member) -> bool {
    let (from, to) = (floor(&member.directory), floor(&imported.directory));
    let shared = from == Floor::Edge && SHARED.contains(&imported.directory.as_str());
    let sibling_in_tests = from == Floor::Edge && to == Floor::Edge && import.for_tests;
    (to < from && to != Floor::Leaf) || shared || sibling_in_tests
}

fn floor(directory: &str) -> Floor {
    match directory {
        "core" => Floor::Core,
        "app" | "keeper" => Floor::App,
        "cli" => Floor::Cli,
        _ if directory.starts_with("edge/") => Floor::Edge,
        _ => Floor::Leaf,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(directory: &str, imports: &[(&str, bool)]) -> Member {
        let imports =
            imports.iter().map(|(name, for_tests)| Import { name: (*name).into(), for_tests: *for_tests });
        Member { name: directory.into(), directory: directory.into(), imports: imports.collect() }
    }

    fn whats(members: Vec<Member>) -> Vec<String> {
        check(&Metadata { members, ..Metadata::default() })
            .into_iter()
            .map(|violation| violation.what)
            .collect()
    }

    #[test]
    fn imports_downwards_and_of_the_shared_edge_crates_are_fine() {
        let members = vec![
            member("cli", &[("app", false), ("core", false)]),
            member("app", &[("edge/health", false)]),
            member("edge/health", &[("core", false), ("edge/observe", false), ("edge/drill", true)]),
            member("edge/drill", &[]),
            member("edge/observe", &[]),
            member("core", &[]),
        ];
        assert_eq!(whats(members), Vec::<String>::new());
    }

    #[test]
    fn imports_upwards_sideways_and_of_leaves_are_not() {
        let members = vec![
            member("core", &[("edge/health", false)]),
            member("edge/health", &[("edge/gateway", false)]),
            member("edge/gateway", &[]),
            member("keeper", &[("app", false)]),
            member("app", &[("sim", true)]),
            member("sim", &[]),
        ];
        assert_eq!(
            whats(members),
            [
                "core imports edge/health",
                "edge/health imports edge/gateway",
                "keeper imports app",
                "app imports sim"
            ]
        );
    }
}
