//! Every file in examples/, and the one that packages install, is valid, seen by the binary itself. What an example does when it runs is shown by the
//! whole-binary tests.

use std::path::{Path, PathBuf};
use std::process::Command;

fn examples() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let entries = directory.read_dir().expect("the examples").map(|entry| entry.expect("an entry").path());
    let installed = directory.join("../packaging/everup.toml");
    entries
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .chain([installed])
        .collect()
}

fn check(file: &Path) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_everup")).arg("check").arg(file).output().expect("everup can be run")
}

#[test]
fn every_example_passes_everup_check() {
    let examples = examples();
    assert!(examples.iter().any(|path| path.ends_with("quickstart.toml")), "{examples:?}");
    for example in examples {
        let output = check(&example);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} is refused:\n{said}", example.display());
    }
}

#[test]
fn a_file_with_a_mistake_does_not_pass() {
    let text = std::fs::read_to_string(examples().remove(0)).unwrap();
    let broken = Path::new(env!("CARGO_TARGET_TMPDIR")).join("broken.toml");
    std::fs::write(&broken, format!("{text}\n[nod]\n")).unwrap();

    assert_eq!(check(&broken).status.code(), Some(1));
}
