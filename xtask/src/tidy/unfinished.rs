//! What lands is finished: no `todo!`, no `unimplemented!`, no switched-off test, no note to fix it later.

use super::Violation;
use super::tree::Tree;

/// Put together from halves, so that this file does not find itself.
fn marks() -> [(String, &'static str); 5] {
    [
        (["to", "do!("].concat(), "write it now, or leave it out"),
        (["unimple", "mented!("].concat(), "write it now, or leave it out"),
        (["#[ign", "ore"].concat(), "make it pass in every run, or delete it"),
        (["FIX", "ME"].concat(), "fix it now, or describe the limit as what it is"),
        (["XX", "X:"].concat(), "fix it now, or describe the limit as what it is"),
    ]
}

pub(crate) fn check(tree: &Tree) -> Vec<Violation> {
    let marks = marks();
    let mut found = Vec::new();
    for file in tree.files.iter().filter(|file| file.path.ends_with(".rs")) {
        for (index, line) in file.text.lines().enumerate() {
            for (mark, instead) in &marks {
                if line.contains(mark.as_str()) {
                    let what = format!("unfinished: `{mark}`");
                    found.push(Violation::new("unfinished", &file.path, index + 1, what, instead));
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mark_is_found_with_its_line() {
        let text: String = marks().iter().map(|(mark, _)| format!("// {mark}\n")).collect();

        let lines: Vec<_> =
            check(&Tree::of(&[("a.rs", &text)])).into_iter().map(|violation| violation.line).collect();

        assert_eq!(lines, [1, 2, 3, 4, 5]);
    }
}
