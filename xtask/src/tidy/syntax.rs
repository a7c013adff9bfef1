//! What the checks ask of a file's syntax: its functions, its paths, and whether a place belongs to the tests. It
//! knows no rule.

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// A function with a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    /// From its signature to its closing brace.
    pub(crate) lines: usize,
    pub(crate) in_tests: bool,
}

/// A path as it is written, a `use` tree taken apart: `std::time::Instant`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedPath {
    pub(crate) path: String,
    pub(crate) line: usize,
    pub(crate) in_tests: bool,
    /// It stands in a `use`.
    pub(crate) imported: bool,
}

/// Whether the whole file belongs to the tests.
pub(crate) fn is_test_file(path: &str) -> bool {
    let part_of = |directory: &str| path.starts_with(directory) || path.contains(&format!("/{directory}"));
    part_of("tests/") || path.ends_with("/tests.rs") || path.starts_with("e2e/") || path.starts_with("sim/")
}

pub(crate) fn functions(path: &str, syntax: &syn::File) -> Vec<Function> {
    let mut reader = Reader::new(is_test_file(path));
    reader.visit_file(syntax);
    reader.functions
}

pub(crate) fn paths(path: &str, syntax: &syn::File) -> Vec<NamedPath> {
    let mut reader = Reader::new(is_test_file(path));
    reader.visit_file(syntax);
    reader.paths
}

struct Reader {
    in_tests: bool,
    functions: Vec<Function>,
    paths: Vec<NamedPath>,
}

impl Reader {
    fn new(in_tests: bool) -> Self {
        Self { in_tests, functions: Vec::new(), paths: Vec::new() }
    }

    fn function(&mut self, signature: &syn::Signature, body: &syn::Block) {
        let (first, last) = (signature.ident.span().start().line, body.brace_token.span.close().end().line);
        let name = signature.ident.to_string();
        self.functions.push(Function { name, line: first, lines: last + 1 - first, in_tests: self.in_tests });
    }

    /// Reads something that carries `attributes`, which may make it a part of the tests.
    fn within(&mut self, attributes: &[syn::Attribute], read: impl FnOnce(&mut Self)) {
        let before = self.in_tests;
        self.in_tests |= attributes.iter().any(marks_tests);
        read(self);
        self.in_tests = before;
    }

    fn use_tree(&mut self, prefix: &str, tree: &syn::UseTree) {
        match tree {
            syn::UseTree::Path(path) => self.use_tree(&format!("{prefix}{}::", path.ident), &path.tree),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.use_tree(prefix, item)),
            syn::UseTree::Name(name) => self.name(prefix, &name.ident),
            syn::UseTree::Rename(rename) => self.name(prefix, &rename.ident),
            syn::UseTree::Glob(glob) => {
                self.path(format!("{prefix}*"), glob.star_token.spans[0].start().line, true)
            }
        }
    }

    fn name(&mut self, prefix: &str, name: &syn::Ident) {
        let path =
            if name == "self" { prefix.trim_end_matches("::").into() } else { format!("{prefix}{name}") };
        self.path(path, name.span().start().line, true);
    }

    fn path(&mut self, path: String, line: usize, imported: bool) {
        self.paths.push(NamedPath { path, line, in_tests: self.in_tests, imported });
    }
}

/// `#[test]`, `#[tokio::test]`, `#[cfg(test)]`.
fn marks_tests(attribute: &syn::Attribute) -> bool {
    let last = attribute.path().segments.last().map(|segment| segment.ident.to_string());
    match last.as_deref() {
        Some("test") => true,
        Some("cfg") => attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test")),
        _ => false,
    }
}

/// Words joined by `::`, with the line of the first.
pub(crate) fn paths_among(tokens: TokenStream) -> Vec<(String, usize)> {
    let mut paths: Vec<(String, usize)> = Vec::new();
    let mut colons = 0;
    for token in tokens {
        match token {
            TokenTree::Ident(word) => {
                match paths.last_mut().filter(|_| colons == 2) {
                    Some((path, _)) => *path += &format!("::{word}"),
                    None => paths.push((word.to_string(), word.span().start().line)),
                }
                colons = 0;
            }
            TokenTree::Punct(mark) if mark.as_char() == ':' => colons += 1,
            TokenTree::Group(group) => {
                paths.extend(paths_among(group.stream()));
                colons = 0;
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => colons = 0,
        }
    }
    paths
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.within(&item.attrs, |reader| visit::visit_item_mod(reader, item));
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.within(&item.attrs, |reader| {
            reader.function(&item.sig, &item.block);
            visit::visit_item_fn(reader, item);
        });
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        self.within(&item.attrs, |reader| visit::visit_item_impl(reader, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.within(&item.attrs, |reader| {
            reader.function(&item.sig, &item.block);
            visit::visit_impl_item_fn(reader, item);
        });
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(body) = &item.default {
            self.function(&item.sig, body);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.within(&item.attrs, |reader| reader.use_tree("", &item.tree));
    }

    /// What stands inside a macro's brackets is not syntax yet: its paths are put together from the words.
    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        for (path, line) in paths_among(item.tokens.clone()) {
            self.path(path, line, false);
        }
        visit::visit_macro(self, item);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let line = path.segments.first().map_or(0, |segment| segment.ident.span().start().line);
        self.path(names.join("::"), line, false);
        visit::visit_path(self, path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "//! Why.
use std::{fs, time::{self, Instant as Now}};

impl Thing {
    fn act(&self) {
        std::thread::sleep(1);
    }
}

#[cfg(test)]
mod tests {
    fn help() {}
}
";

    #[test]
    fn functions_come_with_their_length_and_whether_they_are_tests() {
        let syntax = syn::parse_file(TEXT).unwrap();

        let functions = functions("core/src/a.rs", &syntax);

        let act = Function { name: "act".into(), line: 5, lines: 3, in_tests: false };
        let help = Function { name: "help".into(), line: 12, lines: 1, in_tests: true };
        assert_eq!(functions, [act, help]);
    }

    #[test]
    fn use_trees_are_taken_apart() {
        let syntax = syn::parse_file(TEXT).unwrap();

        let paths: Vec<_> = paths("core/src/a.rs", &syntax).into_iter().map(|named| named.path).collect();

        for expected in ["std::fs", "std::time", "std::time::Instant", "std::thread::sleep"] {
            assert!(paths.iter().any(|path| path == expected), "{expected} in {paths:?}");
        }
    }

    #[test]
    fn paths_inside_a_macro_are_seen() {
        let syntax =
            syn::parse_file("fn a() { select! { _ = tokio::time::sleep(x) => {}, b => c::d() } }").unwrap();

        let paths: Vec<_> = paths("a.rs", &syntax).into_iter().map(|named| named.path).collect();

        assert!(paths.contains(&"tokio::time::sleep".to_owned()), "{paths:?}");
        assert!(paths.contains(&"c::d".to_owned()), "{paths:?}");
    }

    #[test]
    fn files_of_tests_are_known_by_their_place() {
        for path in ["core/tests/corpus.rs", "core/src/http/tests.rs", "e2e/src/lib.rs", "sim/src/run.rs"] {
            assert!(is_test_file(path), "{path}");
        }
        assert!(!is_test_file("core/src/latests.rs"));
    }
}
