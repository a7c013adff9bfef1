//! What `cargo xtask package` makes: the same bytes every time, a unit file that systemd understands, and a Debian package that
//! can be installed, used, upgraded, removed and purged. That is done in a root directory of its own, put together from
//! the host's base packages as dpkg knows them; it needs root, dpkg and namespaces, and says so where they are not.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use everup_e2e::{everup_binary, repository};

/// Beside the essential packages, which every Debian has; what they depend on comes along.
const BASE: [&str; 2] = ["libgcc-s1", "passwd"];

/// Runs a command to its end; what it printed.
#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let last = &said[said.floor_char_boundary(said.len().saturating_sub(8_000))..];
    assert!(output.status.success(), "{:?}: {}\n{last}", command.get_program(), output.status);
    said
}

fn succeeds(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).output().is_ok_and(|output| output.status.success())
}

/// Packs the binary under test into `out`.
#[track_caller]
fn package(out: &Path) {
    let mut xtask = Command::new(env!("CARGO"));
    xtask.args(["run", "--quiet", "--package", "xtask", "--", "package", "--binary"]).arg(everup_binary());
    run(xtask.arg("--out").arg(out).env("SOURCE_DATE_EPOCH", "1795348706").current_dir(repository()));
}

/// Where it lies packed, once for all tests.
fn packed() -> &'static Path {
    static PACKED: LazyLock<PathBuf> = LazyLock::new(|| {
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("package");
        // What an earlier run left may be of another version, or not be there.
        let _ = fs::remove_dir_all(&out);
        package(&out);
        out
    });
    &PACKED
}

fn the_one(directory: &Path, ending: &str) -> PathBuf {
    let entries = fs::read_dir(directory).expect("a directory");
    let mut found = entries.map(|entry| entry.expect("an entry").path());
    found.find(|path| path.to_string_lossy().ends_with(ending)).unwrap_or_else(|| panic!("no *{ending}"))
}

/// True, and told, if something that this test needs is not there.
fn is_skipped(why: &str, needed: bool) -> bool {
    if !needed {
        // Past the capturing of what passing tests print.
        writeln!(std::io::stderr(), "skipped: {why}").expect("standard error takes a line");
    }
    !needed
}

#[test]
fn packages_are_reproducible_and_match_their_checksums() {
    let second = tempfile::tempdir().unwrap();
    package(second.path());
    run(Command::new("sha256sum").args(["--check", "--strict", "SHA256SUMS"]).current_dir(packed()));
    for ending in [".deb", ".tar.gz", "SHA256SUMS"] {
        let read = |directory: &Path| fs::read(the_one(directory, ending)).unwrap();
        assert!(read(packed()) == read(second.path()), "{ending} differs");
    }
    let tarball = the_one(packed(), ".tar.gz");
    run(Command::new("tar").arg("-xzf").arg(&tarball).arg("-C").arg(second.path()));
    let unpacked = the_one(second.path(), "-linux-gnu");
    let version = run(Command::new(unpacked.join("bin/everup")).arg("--version"));
    assert!(version.starts_with("everup "), "{version}");
    run(Command::new(unpacked.join("bin/everup")).arg("check").arg(unpacked.join("packaging/everup.toml")));
    if !is_skipped("lintian is not installed", succeeds(Command::new("lintian").arg("--version"))) {
        // Who publishes the package has an address.
        let fine = "bogus-mail-host,bogus-mail-host-in-debian-changelog";
        let mut lintian = Command::new("lintian");
        lintian.args(["--allow-root", "--fail-on", "error", "--suppress-tags", fine]);
        run(lintian.arg(the_one(packed(), ".deb")));
    }
}

#[test]
fn systemd_understands_the_units_and_finds_the_service_well_protected() {
    if is_skipped("systemd-analyze is not there", succeeds(Command::new("systemd-analyze").arg("--version")))
    {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let [units, programs] = ["usr/lib/systemd/system", "usr/bin"].map(|path| root.path().join(path));
    fs::create_dir_all(&units).unwrap();
    fs::create_dir_all(&programs).unwrap();
    fs::copy("/bin/true", programs.join("everup")).unwrap();
    for entry in fs::read_dir("/usr/lib/systemd/system").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "target") {
            fs::copy(&path, units.join(path.file_name().unwrap())).unwrap();
        }
    }
    for unit in ["everup.service", "everup.socket"] {
        fs::copy(repository().join("packaging").join(unit), units.join(unit)).unwrap();
    }
    let analyze = || {
        let mut analyze = Command::new("systemd-analyze");
        analyze.arg(format!("--root={}", root.path().display())).arg("--man=no");
        analyze
    };
    let complaints =
        run(analyze().args(["--recursive-errors=no", "verify", "everup.service", "everup.socket"]));
    assert_eq!(complaints, "");
    // Of 10.0; 2.5 is where systemd's "OK" ends for a service that talks to a network.
    run(analyze().args(["--offline=true", "--threshold=25", "security", "everup.service"]));
}

#[test]
fn the_debian_package_is_installed_used_upgraded_removed_and_purged_without_a_trace() {
    let is_root = rustix::process::getuid().is_root();
    let tools = || ["dpkg-query", "apt-cache", "tar", "unshare", "ip"].into_iter();
    let missing = tools().find(|tool| !succeeds(Command::new("sh").args(["-c", "command -v \"$0\"", tool])));
    if is_skipped("only root can make a root directory", is_root)
        || is_skipped(&format!("{} is not there", missing.unwrap_or_default()), missing.is_none())
        || is_skipped("no namespaces here", succeeds(&mut in_namespaces("true")))
    {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("root");
    base_system(&root);
    fs::copy(the_one(packed(), ".deb"), root.join("everup.deb")).unwrap();
    fs::write(root.join("story.sh"), include_str!("package/story.sh")).unwrap();
    let said = run(in_namespaces(
        "ip link set lo up; mount -t proc proc \"$0/proc\"; mount --rbind /dev \"$0/dev\"; exec chroot \"$0\" sh -eux /story.sh",
    )
    .arg(&root)
    .env_clear()
    .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"));
    assert!(said.contains("\nthe story is over\n"), "{said}");
}

/// A shell command with mounts, processes and a network of its own.
fn in_namespaces(command: &str) -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation=private", "--pid", "--fork", "--kill-child", "--net"]);
    unshare.args(["sh", "-ec", command]);
    unshare
}

/// Copies the files of the base packages, and tells dpkg there that they are installed.
fn base_system(root: &Path) {
    let options = ["recommends", "suggests", "conflicts", "breaks", "replaces", "enhances"];
    let mut depends = Command::new("apt-cache");
    depends
        .args(["depends", "--recurse", "--installed"])
        .args(options.map(|option| format!("--no-{option}")));
    let shown = run(Command::new("dpkg-query").args(["--show", "--showformat=${Essential} ${Package}\\n"]));
    let essential = shown.lines().filter_map(|line| line.strip_prefix("yes "));
    let told = run(depends.args(essential).args(BASE));
    let known = told.lines().filter(|line| !line.starts_with([' ', '<', '|']));
    // With the architecture, where dpkg's own files have it. What another package only provides is not known to it.
    let mut show = Command::new("dpkg-query");
    show.args(["--show", "--showformat=${db:Status-Status} ${binary:Package}\\n"]).args(known);
    let shown = show.output().expect("dpkg-query can be run").stdout;
    let told = String::from_utf8_lossy(&shown);
    let packages: BTreeSet<_> = told.lines().filter_map(|line| line.strip_prefix("installed ")).collect();
    assert!(packages.contains("dpkg"), "{packages:?}");

    let listed = run(Command::new("dpkg-query").arg("--listfiles").args(&packages));
    let mut paths: BTreeSet<&str> = listed.lines().filter_map(|line| line.strip_prefix('/')).collect();
    paths.extend(["bin", "lib", "lib64", "sbin", "usr/lib64"]);
    paths.retain(|path| Path::new("/").join(path).symlink_metadata().is_ok());
    // /bin and others lead into /usr, which must be there first.
    let (usr, rest): (Vec<_>, Vec<_>) = paths.into_iter().partition(|path| path.starts_with("usr"));
    let list: String = usr.into_iter().chain(rest).map(|path| format!("{path}\n")).collect();
    fs::create_dir_all(root).expect("a directory");
    let copy = "tar -C / --no-recursion -cf - -T - | tar -C \"$0\" -xpf -";
    let mut copying = Command::new("sh")
        .args(["-ec", copy])
        .arg(root)
        .stdin(Stdio::piped())
        .spawn()
        .expect("tar can be run");
    let mut names = copying.stdin.take().expect("stdin is a pipe");
    names.write_all(list.as_bytes()).expect("tar reads the names");
    drop(names);
    assert!(copying.wait().expect("a child can be waited for").success());

    for directory in
        ["dev", "etc", "proc", "run", "tmp", "var/lib/dpkg/info", "var/lib/dpkg/updates", "var/log"]
    {
        fs::create_dir_all(root.join(directory)).expect("a directory");
    }
    for name in ["passwd", "group"] {
        let master = format!("usr/share/base-passwd/{name}.master");
        fs::copy(root.join(master), root.join("etc").join(name)).expect("base-passwd has it");
    }
    let status = run(Command::new("dpkg-query").arg("--status").args(&packages));
    fs::write(root.join("var/lib/dpkg/status"), status).expect("dpkg's directory takes a file");
    for package in &packages {
        let list = run(Command::new("dpkg-query").arg("--listfiles").arg(package));
        fs::write(root.join(format!("var/lib/dpkg/info/{package}.list")), list)
            .expect("dpkg's directory takes a file");
    }
}
