//! A file has at most 800 lines, a function at most 70; a function of the tests, which often is one long story, 120.

use super::tree::Tree;
use super::{Violation, syntax};

const FILE_LINES: usize = 800;
const FUNCTION_LINES: usize = 70;
const TEST_FUNCTION_LINES: usize = 120;

pub(crate) fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (file, syntax) in tree.rust() {
        let lines = file.text.lines().count();
        if lines > FILE_LINES {
            let what = format!("the file has {lines} lines, {FILE_LINES} are allowed");
            found.push(Violation::new(
                "length",
                &file.path,
                1,
                what,
                "split off a part with its own state and tests",
            ));
        }
        for function in syntax::functions(&file.path, syntax) {
            let cap = if function.in_tests { TEST_FUNCTION_LINES } else { FUNCTION_LINES };
            if function.lines > cap {
                let what = format!("`{}` has {} lines, {cap} are allowed", function.name, function.lines);
                let instead = "let it decide and give the plain work to helpers";
                let violation = Violation::new("length", &file.path, function.line, what, instead);
                found.push(violation.in_item(&function.name));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(name: &str, lines: usize) -> String {
        format!("fn {name}() {{\n{}}}\n", "    ();\n".repeat(lines - 2))
    }

    fn whats(path: &str, text: &str) -> Vec<String> {
        check(&Tree::of(&[(path, text)])).into_iter().map(|violation| violation.what).collect()
    }

    #[test]
    fn a_function_of_71_lines_is_too_long_and_one_of_70_is_not() {
        assert_eq!(whats("a.rs", &function("act", 70)), Vec::<String>::new());
        assert_eq!(whats("a.rs", &function("act", 71)), ["`act` has 71 lines, 70 are allowed"]);
    }

    #[test]
    fn tests_may_be_longer_but_not_endless() {
        assert_eq!(whats("core/tests/a.rs", &function("story", 120)), Vec::<String>::new());
        assert_eq!(
            whats("core/tests/a.rs", &function("story", 121)),
            ["`story` has 121 lines, 120 are allowed"]
        );
    }

    #[test]
    fn a_file_of_801_lines_is_too_long() {
        assert_eq!(whats("a.rs", &"// why\n".repeat(800)), Vec::<String>::new());
        assert_eq!(whats("a.rs", &"// why\n".repeat(801)), ["the file has 801 lines, 800 are allowed"]);
    }
}
