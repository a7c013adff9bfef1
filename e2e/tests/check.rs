//! `everup check`, and that nothing starts from a configuration that is wrong.

use everup_e2e::{Said, everup, repository};

fn check(text: &str) -> Said {
    let directory = tempfile::tempdir().unwrap_or_else(|error| panic!("no temporary directory: {error}"));
    let file = directory.path().join("everup.toml");
    std::fs::write(&file, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
    everup(["check", file.to_str().unwrap_or_default()])
}

const WRONG: &str = r#"[[listener]]
bind = ["127.0.0.1:8080"]
servce = "shop"

[[listener]]
bind = ["127.0.0.1:8080"]
service = "shop"

[service.shop]
balance = "least-conections"
instances = ["127.0.0.1:9001"]
timeout = { connect = "1 parsec" }

[service.empty]
"#;

#[test]
fn every_mistake_is_told_at_once_with_line_underline_and_hint() {
    let told = check(WRONG);
    assert_eq!(told.code, Some(1), "{told:?}");
    let text = told.out + &told.err;
    for part in [":3:", ":6:", ":10:", ":12:", ":14:", "^", "`service`", "least-connections"] {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
}

#[test]
fn a_file_that_is_no_toml_and_one_that_is_not_there_are_told() {
    assert_eq!(check("[[listener").code, Some(1));
    let told = everup(["check", "/nonexistent.toml"]);
    assert_eq!(told.code, Some(1));
    assert!(told.err.contains("/nonexistent.toml"), "{told:?}");
}

#[test]
fn every_example_passes() {
    let files = std::fs::read_dir(repository().join("examples")).unwrap();
    let files = files
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "toml"));
    let mut seen = 0;
    for file in files {
        let told = everup(["check", file.to_str().unwrap()]);
        assert_eq!(told.code, Some(0), "{}: {told:?}", file.display());
        seen += 1;
    }
    assert!(seen > 0);
}

#[test]
fn run_refuses_a_wrong_configuration_before_anything_is_bound() {
    let started = everup_e2e::Everup::with(WRONG).spawn().wait_for_end();
    assert_eq!(started.code, Some(1), "{}", started.said);
    assert!(started.said.contains("least-connections"), "{}", started.said);
}

#[test]
fn run_says_which_address_is_taken_and_leaves_nothing_behind() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let config = everup_e2e::Config::runs(2).bind(&[&address]);
    let stopped = everup_e2e::Everup::with(config).spawn().wait_for_end();
    assert_eq!((stopped.code, stopped.left.as_slice()), (Some(1), &[][..]), "{}", stopped.said);
    assert!(stopped.said.contains(&address), "{}", stopped.said);
}

#[test]
fn wrong_usage_is_exit_2() {
    assert_eq!(everup(["run"]).code, Some(2));
    assert_eq!(everup(["frobnicate"]).code, Some(2));
}

#[test]
fn the_reference_tells_every_section() {
    let told = everup(["reference"]);
    assert_eq!(told.code, Some(0), "{told:?}");
    for part in ["listener", "balance", "interval", "park", "sticky", "replicas"] {
        assert!(told.out.contains(part), "`{part}` is not in the reference");
    }
}
