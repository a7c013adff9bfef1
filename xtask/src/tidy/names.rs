//! Names say what a thing is: no `Manager`, `Util`, `Helper` or `Common`, no `get_`, no `test_`.

use syn::visit::{self, Visit};

use super::Violation;
use super::tree::Tree;

const EMPTY_WORDS: [&str; 5] = ["Manager", "Util", "Utils", "Helper", "Common"];

pub(crate) fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (file, syntax) in tree.rust() {
        let mut reader = Reader { path: &file.path, found: &mut found };
        reader.visit_file(syntax);
    }
    found
}

struct Reader<'a> {
    path: &'a str,
    found: &'a mut Vec<Violation>,
}

impl Reader<'_> {
    fn function(&mut self, name: &syn::Ident) {
        let text = name.to_string();
        if text.starts_with("get_") {
            self.say(name, "name what it returns, without `get_`");
        } else if text.starts_with("test_") {
            self.say(name, "name the behaviour, without `test_`");
        }
    }

    fn kind(&mut self, name: &syn::Ident) {
        if EMPTY_WORDS.iter().any(|word| name.to_string().ends_with(word)) {
            self.say(name, "name what it is; `Manager`, `Util`, `Helper` and `Common` say nothing");
        }
    }

    fn module(&mut self, name: &syn::Ident) {
        let text = name.to_string().to_lowercase();
        if EMPTY_WORDS
            .iter()
            .any(|word| text == word.to_lowercase() || text == format!("{}s", word.to_lowercase()))
        {
            self.say(name, "name what is in it");
        }
    }

    fn say(&mut self, name: &syn::Ident, instead: &str) {
        let what = format!("the name `{name}`");
        self.found.push(Violation::new("names", self.path, name.span().start().line, what, instead));
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        self.function(&signature.ident);
        visit::visit_signature(self, signature);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.kind(&item.ident);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.kind(&item.ident);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.kind(&item.ident);
        visit::visit_item_trait(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module(&item.ident);
        visit::visit_item_mod(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_words_and_prefixes_are_violations_in_every_place() {
        let text = "mod utils {}\nstruct PoolManager;\nenum HttpHelper {}\ntrait Common { fn get_it(&self); }\n\
                    fn test_it() {}\nfn target() {}\nstruct Pool;\n";

        let lines: Vec<_> =
            check(&Tree::of(&[("a.rs", text)])).into_iter().map(|violation| violation.line).collect();

        assert_eq!(lines, [1, 2, 3, 4, 4, 5]);
    }
}
