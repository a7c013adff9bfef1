//! Where files stand: `x.rs` beside `x/`, no `mod.rs`; tests of a file in `x/tests.rs`.

use super::Violation;
use super::tree::Tree;

pub(crate) fn check(tree: &Tree) -> Vec<Violation> {
    let modules = tree.rust().filter(|(file, _)| file.path.ends_with("/mod.rs"));
    let found = modules.map(|(file, _)| {
        let instead = "name it after its directory and put it beside that: `x.rs` + `x/`";
        Violation::new("layout", &file.path, 1, "a file called mod.rs".into(), instead)
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mod_rs_is_a_violation() {
        let tree = Tree::of(&[("core/src/http/mod.rs", "//! Why.\n"), ("core/src/http.rs", "//! Why.\n")]);

        let paths: Vec<_> = check(&tree).into_iter().map(|violation| violation.path).collect();

        assert_eq!(paths, ["core/src/http/mod.rs"]);
    }
}
