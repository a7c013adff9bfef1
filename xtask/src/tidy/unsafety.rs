//! `unsafe` stands only in the files named here, each use with a `// SAFETY:` line that a stranger can check.

use syn::visit::{self, Visit};

use super::tree::Tree;
use super::{Violation, syntax};

/// The files that may. A file that stands here and has none fails the check: the list can only shrink.
const ALLOWED: [&str; 5] = [
    // Counting allocators.
    "core/tests/pick_does_not_allocate.rs",
    // io_uring is given pointers; its own crate leaves it to its caller that they stay good.
    "edge/gateway/src/engine/batch.rs",
    // What a TCP peer has not acknowledged: nothing else tells a slow reader from one that only holds a place.
    "edge/gateway/src/unacknowledged.rs",
    "edge/gateway/tests/no_allocation.rs",
    // close_range, and what happens between fork and exec of a child.
    "keeper/src/spawn.rs",
];

/// How many lines above `unsafe` its `SAFETY:` comment may begin.
const COMMENT_REACH: usize = 8;

pub(crate) fn check(tree: &Tree) -> Vec<Violation> {
    check_against(tree, &ALLOWED)
}

fn check_against(tree: &Tree, allowed: &[&str]) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut needed = vec![false; allowed.len()];
    for (file, syntax) in tree.rust() {
        let mut reader = Reader { lines: Vec::new() };
        reader.visit_file(syntax);
        for line in reader.lines {
            match allowed.iter().position(|path| *path == file.path) {
                Some(index) => needed[index] = true,
                None => {
                    let instead = "do it with rustix or the standard library, or argue for the file in xtask/src/tidy/unsafety.rs";
                    found.push(Violation::new("unsafety", &file.path, line, "unsafe code".into(), instead));
                }
            }
            if !has_safety_comment(&file.text, line) {
                let instead = "say in a `// SAFETY:` line above it why it is sound";
                found.push(Violation::new(
                    "unsafety",
                    &file.path,
                    line,
                    "unsafe code without its argument".into(),
                    instead,
                ));
            }
        }
    }
    let stale = allowed.iter().zip(needed).filter(|(_, needed)| !needed);
    found.extend(stale.map(|(path, _)| {
        let what = format!("{path} may hold unsafe code and holds none");
        Violation::new("unsafety", "xtask/src/tidy/unsafety.rs", 1, what, "take it from the list")
    }));
    found
}

fn has_safety_comment(text: &str, line: usize) -> bool {
    let above = text.lines().take(line).skip(line.saturating_sub(COMMENT_REACH + 1));
    above.into_iter().any(|line| line.contains("SAFETY:"))
}

struct Reader {
    /// Where `unsafe` stands.
    lines: Vec<usize>,
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_expr_unsafe(&mut self, block: &'ast syn::ExprUnsafe) {
        self.lines.push(block.unsafe_token.span.start().line);
        visit::visit_expr_unsafe(self, block);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        let words = syntax::paths_among(item.tokens.clone());
        self.lines.extend(words.into_iter().filter(|(word, _)| word == "unsafe").map(|(_, line)| line));
        visit::visit_macro(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        self.lines.extend(item.unsafety.iter().map(|token| token.span.start().line));
        visit::visit_item_impl(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.lines.extend(item.unsafety.iter().map(|token| token.span.start().line));
        visit::visit_item_trait(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARGUED: &str = "//! Why.\nfn a() {\n    // SAFETY: the pointer is ours.\n    unsafe { b() }\n}\n";
    const BARE: &str = "//! Why.\nunsafe impl Send for A {}\n";

    fn whats(files: &[(&str, &str)], allowed: &[&str]) -> Vec<String> {
        check_against(&Tree::of(files), allowed).into_iter().map(|violation| violation.what).collect()
    }

    #[test]
    fn unsafe_code_in_a_file_that_is_not_named_is_a_violation() {
        assert_eq!(whats(&[("a.rs", ARGUED)], &[]), ["unsafe code"]);
        assert_eq!(whats(&[("a.rs", ARGUED)], &["a.rs"]), Vec::<String>::new());
    }

    #[test]
    fn unsafe_code_without_its_argument_is_a_violation_everywhere() {
        assert_eq!(whats(&[("a.rs", BARE)], &["a.rs"]), ["unsafe code without its argument"]);
    }

    #[test]
    fn a_named_file_without_unsafe_code_is_a_violation() {
        assert_eq!(whats(&[("a.rs", "//! Why.\n")], &["a.rs"]), ["a.rs may hold unsafe code and holds none"]);
    }
}
