//! The corpora of the fuzz targets as a plain test: every file that was ever worth keeping, and a thousand small
//! changes of each. It replaces no fuzzing: it keeps what fuzzing found from coming back.
#![expect(clippy::disallowed_methods, reason = "this test reads files; core itself does not")]

use std::fs;
use std::path::{Path, PathBuf};

#[path = "corpus/decoders.rs"]
mod decoders;

/// Changes of each file. The same ones in every run.
const CHANGES: u64 = 1_000;

fn files(name: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
    let entries = directory.read_dir().unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    entries.map(|entry| entry.expect("a readable directory").path()).collect()
}

/// `bytes` with one to four of them replaced, removed, doubled or moved.
fn change(bytes: &[u8], seed: u64) -> Vec<u8> {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % below.max(1) as u64).expect("below a usize")
    };
    let mut changed = bytes.to_vec();
    for _ in 0..=next(4) {
        let at = next(changed.len() + 1);
        // Bytes that mean something to one of the decoders come more often than others.
        let byte = match next(3) {
            0 => b"\r\n :;,\t\0{}[]\"=0fF-x"[next(19)],
            _ => u8::try_from(next(256)).expect("below 256"),
        };
        match next(4) {
            0 => changed.insert(at, byte),
            1 if at < changed.len() => changed[at] = byte,
            2 if at < changed.len() => drop(changed.remove(at)),
            _ => {
                let end = (at + next(40)).min(changed.len());
                let piece = changed[at..end].to_vec();
                let to = next(changed.len() + 1);
                changed.splice(to..to, piece);
            }
        }
    }
    changed
}

#[test]
fn no_file_of_any_corpus_and_no_small_change_of_one_breaks_its_decoder() {
    for (name, _) in decoders::ALL {
        let files = files(name);
        assert!(!files.is_empty(), "{name} has no corpus");
        for file in files {
            let bytes = fs::read(&file).unwrap();
            decoders::run(name, &bytes);
            for seed in 0..CHANGES {
                let changed = change(&bytes, seed);
                let outcome = std::panic::catch_unwind(|| decoders::run(name, &changed));
                assert!(
                    outcome.is_ok(),
                    "{} changed with seed {seed}: {:?}",
                    file.display(),
                    changed.escape_ascii().to_string()
                );
            }
        }
    }
}
