//! A test waits for a condition, never for a time: a sleep is either too short on a busy machine or too long.

use super::tree::Tree;
use super::{Violation, syntax};

pub(crate) fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (file, syntax) in tree.rust() {
        let sleeps = syntax::paths(&file.path, syntax)
            .into_iter()
            .filter(|named| named.in_tests && is_sleep(&named.path));
        found.extend(sleeps.map(|named| {
            let what = format!("a test calls `{}`", named.path);
            Violation::new(
                "sleep",
                &file.path,
                named.line,
                what,
                "wait for what must become true, with a deadline",
            )
        }));
    }
    found
}

fn is_sleep(path: &str) -> bool {
    ["sleep", "thread::sleep", "time::sleep", "std::thread::sleep", "tokio::time::sleep"].contains(&path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeps_are_found_in_tests_only() {
        let sleeping = "#[test]\nfn a() { std::thread::sleep(x); }\n";
        let product = "fn backoff() { std::thread::sleep(x); }\n";
        let tree = Tree::of(&[
            ("core/src/a.rs", sleeping),
            ("keeper/src/b.rs", product),
            ("e2e/tests/c.rs", "async fn c() { tokio::time::sleep(x).await; }\n"),
        ]);

        let found: Vec<_> =
            check(&tree).into_iter().map(|violation| (violation.path, violation.line)).collect();

        assert_eq!(found, [("core/src/a.rs".into(), 2), ("e2e/tests/c.rs".into(), 1)]);
    }
}
