//! Core decides and does nothing: no crate that could do anything stands in its dependency tree.

use std::collections::BTreeMap;

use super::Violation;
use super::metadata::Metadata;

const CORE: &str = "everup-core";

/// Crates that reach the outside: input and output, clocks, randomness, cryptography of the edge.
const BANNED: [&str; 12] = [
    "async-std",
    "getrandom",
    "libc",
    "mio",
    "nix",
    "openssl",
    "rand",
    "ring",
    "rustix",
    "rustls",
    "socket2",
    "tokio",
];

pub(crate) fn check(metadata: &Metadata) -> Vec<Violation> {
    let chains = chains(metadata);
    let found = BANNED.iter().filter_map(|banned| chains.get(banned)).map(|chain| {
        let what = format!("core depends on {}", chain.join(" -> "));
        Violation::new(
            "dependencies",
            "core/Cargo.toml",
            1,
            what,
            "decide in core, do it in a crate under edge/",
        )
    });
    found.collect()
}

/// For every package below core, one way by which core reaches it.
fn chains(metadata: &Metadata) -> BTreeMap<&str, Vec<&str>> {
    let mut chains = BTreeMap::from([(CORE, vec![])]);
    let mut waiting = vec![CORE];
    while let Some(name) = waiting.pop() {
        for used in metadata.normal.get(name).into_iter().flatten() {
            if !chains.contains_key(used.as_str()) {
                let mut chain = chains[name].clone();
                chain.push(used.as_str());
                chains.insert(used, chain);
                waiting.push(used);
            }
        }
    }
    chains
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(edges: &[(&str, &str)]) -> Metadata {
        let mut metadata = Metadata::default();
        for (from, to) in edges {
            metadata.normal.entry((*from).into()).or_default().insert((*to).into());
        }
        metadata
    }

    #[test]
    fn a_banned_crate_far_below_core_is_named_with_the_way_to_it() {
        let found = check(&tree(&[(CORE, "toml"), ("toml", "clock"), ("clock", "libc")]));

        assert_eq!(found.len(), 1);
        assert_eq!(found[0].what, "core depends on toml -> clock -> libc");
    }

    #[test]
    fn what_other_crates_depend_on_is_not_cores_affair() {
        assert_eq!(check(&tree(&[(CORE, "serde"), ("everup-gateway", "tokio")])), []);
    }
}
