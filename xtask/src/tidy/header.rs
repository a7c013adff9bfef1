//! Every source file opens with why it exists and what it does not do.

use super::Violation;
use super::tree::Tree;

pub(crate) fn check(tree: &Tree) -> Vec<Violation> {
    let bare = tree.rust().filter(|(file, _)| !opens_with_a_purpose(&file.text));
    let found = bare.map(|(file, _)| {
        let instead = "open it with `//!`: why it exists and what it does not do";
        Violation::new("header", &file.path, 1, "the file does not say what it is for".into(), instead)
    });
    found.collect()
}

fn opens_with_a_purpose(text: &str) -> bool {
    let Some(words) = text.strip_prefix("//!") else { return false };
    let first = words.lines().next().unwrap_or_default().trim();
    first.contains(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_opens_with_code_or_with_one_word_is_a_violation() {
        let tree = Tree::of(&[
            ("a.rs", "fn a() {}\n"),
            ("b.rs", "//! placeholder\n"),
            ("c.rs", "//! Why it exists.\n"),
            ("d.md", "No source\n"),
        ]);

        let paths: Vec<_> = check(&tree).into_iter().map(|violation| violation.path).collect();

        assert_eq!(paths, ["a.rs", "b.rs"]);
    }
}
