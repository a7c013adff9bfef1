//! Core's own sources name nothing of the standard library that reaches the outside. (`core/clippy.toml` says the
//! same to the editor; this also sees what a `use` brings in.)

use super::tree::Tree;
use super::{Violation, syntax};

/// What a path in core must not be, or lie under.
const BANNED: [&str; 15] = [
    "std::time::Instant",
    "std::time::SystemTime",
    "std::time::UNIX_EPOCH",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::net::ToSocketAddrs",
    "std::os",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "std::io::stdin",
    "std::io::stdout",
    "std::hash::RandomState",
];

pub(crate) fn check(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    let core = tree.rust().filter(|(file, _)| file.path.starts_with("core/src/"));
    for (file, syntax) in core {
        for named in syntax::paths(&file.path, syntax) {
            if !named.in_tests && reaches_outside(&named.path) {
                let what = format!("core names `{}`", named.path);
                let instead =
                    "take the time, the bytes or the seed as an argument; do it in a crate under edge/";
                found.push(Violation::new("purity", &file.path, named.line, what, instead));
            }
        }
    }
    found
}

fn reaches_outside(path: &str) -> bool {
    let everything = path.strip_suffix("::*");
    BANNED.iter().any(|banned| {
        let under = path.strip_prefix(banned).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
        let over = everything.is_some_and(|module| banned.starts_with(module));
        under || over
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whats(path: &str, text: &str) -> Vec<String> {
        check(&Tree::of(&[(path, text)])).into_iter().map(|violation| violation.what).collect()
    }

    #[test]
    fn clocks_files_threads_and_globs_over_them_are_found() {
        let text = "use std::time::{Duration, Instant};\nuse std::net::*;\nuse std::fs;\n\
                    fn wait() { std::thread::yield_now(); }\n";

        let expected = [
            "core names `std::time::Instant`",
            "core names `std::net::*`",
            "core names `std::fs`",
            "core names `std::thread::yield_now`",
        ];
        assert_eq!(whats("core/src/a.rs", text), expected);
    }

    #[test]
    fn addresses_durations_tests_and_other_crates_are_free() {
        let pure = "use std::net::SocketAddr;\nuse std::time::Duration;\n";
        let tested = "#[cfg(test)]\nmod tests { use std::fs; }\n";

        assert_eq!(whats("core/src/a.rs", pure), Vec::<String>::new());
        assert_eq!(whats("core/src/a.rs", tested), Vec::<String>::new());
        assert_eq!(whats("edge/health/src/a.rs", "use std::fs;\n"), Vec::<String>::new());
    }
}
