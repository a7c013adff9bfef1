//! https with the whole binary: what the operator is told about files that do not work, and that new files are taken up.
//! Certificates are made by openssl and the client is curl: neither shares code with everup.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use everup_e2e::{Config, Everup, Origin};

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"))
}

/// Makes NAME.pem and NAME.key for `shop.example`, signed by itself.
fn make(directory: &Path, name: &str) {
    let file = |kind: &str| directory.join(format!("{name}.{kind}")).display().to_string();
    let subject = format!("/CN={name}");
    let made = run(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            &subject,
            "-addext",
            "subjectAltName=DNS:shop.example",
            "-keyout",
            &file("key"),
            "-out",
            &file("pem"),
        ],
    );
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

fn https(origin: &Origin, directory: &Path, certificate: &str, key: &str) -> Config {
    let path = |name: &str| directory.join(name).display().to_string();
    let line = format!("tls = [{{ certificate = \"{}\", key = \"{}\" }}]", path(certificate), path(key));
    Config::shop([origin.address()]).listener(&line)
}

/// What curl gets, believing in this certificate only.
fn curl(everup: &Everup, trust: &Path) -> Output {
    let port = everup.address().port();
    let resolve = format!("shop.example:{port}:127.0.0.1");
    let url = format!("https://shop.example:{port}/");
    run(
        "curl",
        &[
            "-sS",
            "-i",
            "--max-time",
            "20",
            "--cacert",
            &trust.display().to_string(),
            "--resolve",
            &resolve,
            &url,
        ],
    )
}

#[test]
fn a_certificate_is_shown_and_a_new_one_taken_up_while_everup_runs() {
    let directory = tempfile::tempdir().unwrap();
    make(directory.path(), "site");
    make(directory.path(), "next");
    let origin = Origin::start("a");
    let mut everup = Everup::with(https(&origin, directory.path(), "site.pem", "site.key")).start();
    everup.wait_all_up();
    let old = directory.path().join("old.pem");
    std::fs::copy(directory.path().join("site.pem"), &old).unwrap();
    let answer = curl(&everup, &old);
    let text = String::from_utf8_lossy(&answer.stdout);
    assert!(answer.status.success() && text.starts_with("HTTP/1.1 200"), "{answer:?}");
    for kind in ["pem", "key"] {
        let path = |name: &str| directory.path().join(format!("{name}.{kind}"));
        std::fs::rename(path("next"), path("site")).unwrap();
    }
    let start = Instant::now();
    while !curl(&everup, &directory.path().join("site.pem")).status.success() {
        assert!(start.elapsed() < Duration::from_secs(20), "{}", everup.said());
    }
    assert!(!curl(&everup, &old).status.success(), "the old one is no longer shown");
}

#[test]
fn what_does_not_work_is_told_at_the_start_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    make(directory.path(), "site");
    make(directory.path(), "other");
    std::fs::write(directory.path().join("text.pem"), "hello").unwrap();
    let origin = Origin::start("a");
    for (certificate, key, told) in [
        ("none.pem", "site.key", "none.pem: No such file"),
        ("text.pem", "site.key", "text.pem holds no certificate in PEM"),
        ("site.pem", "site.pem", "site.pem holds a certificate instead of a private key"),
        ("site.pem", "other.key", "does not belong to the certificate"),
    ] {
        let stopped = Everup::with(https(&origin, directory.path(), certificate, key)).spawn().wait_for_end();
        assert!(stopped.said.contains(told), "{told}: {}", stopped.said);
    }
}

/// What `openssl s_client` says, asked to speak this version only. It closes at once.
fn s_client(everup: &Everup, more: &[&str]) -> String {
    let address = everup.address().to_string();
    let mut arguments = vec!["s_client", "-connect", &address, "-servername", "shop.example"];
    arguments.extend(more);
    // Its standard input is empty, so it ends when the handshake is over.
    let said = run("openssl", &arguments);
    String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned()
}

#[test]
fn old_versions_of_tls_are_refused_and_the_two_new_ones_spoken() {
    let directory = tempfile::tempdir().unwrap();
    make(directory.path(), "site");
    let origin = Origin::start("a");
    let everup = Everup::with(https(&origin, directory.path(), "site.pem", "site.key")).start();
    for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let said = s_client(&everup, &[version, "-alpn", "h2,http/1.1"]);
        assert!(
            said.contains(&format!("Protocol  : {name}")) || said.contains(&format!("New, {name}")),
            "{said}"
        );
        assert!(said.contains("ALPN protocol: http/1.1"), "{said}");
    }
    for version in ["-tls1", "-tls1_1"] {
        // OpenSSL itself has to be talked into it.
        let said = s_client(&everup, &[version, "-cipher", "ALL:@SECLEVEL=0"]);
        assert!(said.contains("SSL alert number") && said.contains("Cipher is (NONE)"), "{said}");
    }
}

#[test]
fn only_clients_of_the_authority_are_let_in_and_the_instance_learns_who_they_are() {
    let directory = tempfile::tempdir().unwrap();
    make(directory.path(), "site");
    make(directory.path(), "mallory");
    let origin = Origin::start("a");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let config = https(&origin, directory.path(), "site.pem", "site.key");
    let config = config.listener(&format!("client_ca = \"{}\"", path("ca.pem")));
    let openssl = |arguments: &str| {
        let made = Command::new("openssl").args(arguments.split(' ')).current_dir(directory.path()).output();
        assert!(made.is_ok_and(|made| made.status.success()), "{arguments}");
    };
    let new = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(&format!("{new} -x509 -days 2 -subj /CN=partners -keyout ca.key -out ca.pem"));
    openssl(&format!("{new} -subj /O=Example/CN=bob -keyout bob.key -out bob.csr"));
    std::fs::write(directory.path().join("purpose"), "extendedKeyUsage=clientAuth\n").unwrap();
    let sign = "x509 -req -days 2 -CA ca.pem -CAkey ca.key -CAcreateserial -extfile purpose";
    openssl(&format!("{sign} -in bob.csr -out bob.pem"));
    let everup = Everup::with(config).start();
    let port = everup.address().port();
    let ask = |name: Option<&str>| {
        let (resolve, url) =
            (format!("shop.example:{port}:127.0.0.1"), format!("https://shop.example:{port}/who"));
        let ca = path("site.pem");
        let mut arguments = vec!["-sS", "--max-time", "20", "--cacert", &ca, "--resolve", &resolve, &url];
        let files = name.map(|name| (path(&format!("{name}.pem")), path(&format!("{name}.key"))));
        if let Some((certificate, key)) = &files {
            arguments.extend(["--cert", certificate, "--key", key, "-H", "X-Client-Cert-Subject: CN=root"]);
        }
        run("curl", &arguments).status.success()
    };
    assert!(!ask(None) && !ask(Some("mallory")));
    assert_eq!(origin.count(), 0);
    assert!(ask(Some("bob")));
    let request = origin.the_request("/who");
    assert_eq!(request.header("x-client-cert-subject"), Some("CN=bob,O=Example"));
}

/// With a reload: another certificate for the handshakes that begin, TLS where there was none, and none where there was;
/// a file that does not work refuses all of it. An open connection goes on as it began.
#[test]
fn a_reload_changes_certificates_and_begins_and_ends_tls() {
    let directory = tempfile::tempdir().unwrap();
    make(directory.path(), "site");
    make(directory.path(), "next");
    let origin = Origin::start("a");
    let with = |name: &str| https(&origin, directory.path(), &format!("{name}.pem"), &format!("{name}.key"));
    let mut everup = Everup::with(Config::shop([origin.address()])).start();
    everup.wait_all_up();
    let [site, next] = ["site.pem", "next.pem"].map(|name| directory.path().join(name));
    let is_shown = |everup: &Everup, trust: &Path| curl(everup, trust).status.success();
    let mut plain = everup_e2e::Connection::open(everup.address());
    let ask = |connection: &mut everup_e2e::Connection| {
        connection.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        connection.answer().status
    };
    assert_eq!((ask(&mut plain), is_shown(&everup, &site)), (200, false));

    let said = everup.reload(with("site"));
    assert!(said.out.contains("~ listener 127.0.0.1:0: tls changed"), "{said:?}");
    assert!(is_shown(&everup, &site) && !is_shown(&everup, &next));
    everup.reload(with("next"));
    assert!(is_shown(&everup, &next) && !is_shown(&everup, &site));

    everup.configure(with("missing").set("balance = \"ip-hash\""));
    let refused = everup.verb(&["reload"]);
    assert!(refused.code == Some(1) && refused.err.contains("missing"), "{refused:?}");
    assert_eq!((is_shown(&everup, &next), &*everup.service("shop").balance), (true, "round-robin"));

    assert_eq!(ask(&mut plain), 200, "it began without TLS");
    everup.reload(Config::shop([origin.address()]));
    let mut again = everup_e2e::Connection::open(everup.address());
    assert_eq!((ask(&mut again), ask(&mut plain), is_shown(&everup, &next)), (200, 200, false));
}
