//! https listeners against a rustls client: who sees which certificate, what passes through unchanged, and what becomes
//! of those who do not keep to the protocol.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};
use tempfile::TempDir;

use crate::stage::{Origin, Setting, Stage, before, until};
use crate::wire::{PATIENCE, Wire, get, ok, pattern};

/// Certificates in a directory of their own.
pub(crate) struct Ca {
    home: TempDir,
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let certificate = params.self_signed(&key).unwrap();
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("ca.pem"), certificate.pem()).unwrap();
        let der = certificate.der().clone();
        Self { home, issuer: Issuer::new(params, key), der }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Puts NAME.pem and NAME.key there, each in one step.
    pub(crate) fn write(&self, name: &str, hosts: &[&str]) -> PrivateKeyDer<'static> {
        self.write_until(name, hosts, None)
    }

    /// The same; it is valid until then.
    fn write_until(&self, name: &str, hosts: &[&str], end: Option<SystemTime>) -> PrivateKeyDer<'static> {
        let key = KeyPair::generate().unwrap();
        let mut params =
            CertificateParams::new(hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        if let Some(end) = end {
            params.not_after = end.into();
        }
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        for (file, text) in [("pem", certificate.pem()), ("key", key.serialize_pem())] {
            fs::write(self.path("new"), text).unwrap();
            fs::rename(self.path("new"), self.path(&format!("{name}.{file}"))).unwrap();
        }
        PrivateKeyDer::try_from(key.serialize_der()).unwrap()
    }

    pub(crate) fn chain(&self, name: &str) -> Vec<CertificateDer<'static>> {
        use rustls::pki_types::pem::PemObject;
        CertificateDer::pem_file_iter(self.path(&format!("{name}.pem")))
            .unwrap()
            .map(Result::unwrap)
            .collect()
    }

    /// Lines of a listener with these certificates.
    pub(crate) fn listener(&self, names: &[&str]) -> String {
        let pair = |name: &&str| {
            let file = |kind: &str| self.path(&format!("{name}.{kind}")).display().to_string();
            format!("{{ certificate = \"{}\", key = \"{}\" }}", file("pem"), file("key"))
        };
        let pairs: Vec<_> = names.iter().map(pair).collect();
        format!("service = \"app\"\ntls = [{}]\n", pairs.join(", "))
    }

    pub(crate) fn client(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        builder.with_root_certificates(roots).with_no_client_auth()
    }
}

pub(crate) type Https = StreamOwned<ClientConnection, TcpStream>;

/// A connection that has not shaken hands yet.
pub(crate) fn connect(config: &Arc<ClientConfig>, address: SocketAddr, host: &str) -> Https {
    let tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), tcp)
}

/// Sends a request and reads its answer: head and body.
pub(crate) fn exchange(https: &mut Https, request: &[u8]) -> std::io::Result<(String, Vec<u8>)> {
    https.write_all(request)?;
    https.flush()?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        https.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    https.read_exact(&mut body)?;
    Ok((head, body))
}

pub(crate) fn shown(https: &Https) -> CertificateDer<'static> {
    https.conn.peer_certificates().unwrap()[0].clone().into_owned()
}

fn stage(ca: &Ca, origin: &Origin, names: &[&str]) -> Stage {
    setting(origin, &ca.listener(names)).start()
}

pub(crate) fn setting(origin: &Origin, listener: &str) -> Setting {
    before([origin]).listener(listener).http_only()
}

#[test]
fn the_certificate_is_chosen_by_the_name_that_the_client_wants() {
    let ca = Ca::new();
    ca.write("first", &["first.example"]);
    ca.write("wild", &["*.shop.example"]);
    ca.write("exact", &["a.shop.example"]);
    let origin = Origin::named("a");
    let stage = stage(&ca, &origin, &["first", "wild", "exact"]);
    let config = Arc::new(ca.client());
    for (host, name) in [
        ("first.example", "first"),
        ("a.shop.example", "exact"),
        ("A.Shop.Example", "exact"),
        ("b.shop.example", "wild"),
    ] {
        let mut https = connect(&config, stage.address, host);
        let (head, body) = exchange(&mut https, get("/").as_bytes()).unwrap();
        assert!(head.starts_with("HTTP/1.1 200") && body == b"a", "{head}");
        assert_eq!(shown(&https), ca.chain(name)[0], "{host}");
        assert_eq!(https.conn.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    }
    for host in ["other.example", "c.b.shop.example", "shop.example"] {
        let mut https = connect(&config, stage.address, host);
        let refused = exchange(&mut https, get("/").as_bytes()).unwrap_err().to_string();
        // The first is shown, and it is for somebody else.
        assert!(
            refused.contains("only valid for DnsName(\"first.example\")")
                || refused.contains("not valid for name"),
            "{host}: {refused}"
        );
    }
}

#[test]
fn the_instance_learns_that_it_was_https_and_the_cookie_is_secure() {
    let ca = Ca::new();
    ca.write("site", &["site.example"]);
    let origin = Origin::named("a");
    let lines = format!("{}hsts = \"1h\"\n", ca.listener(&["site"]));
    let stage = setting(&origin, &lines).service("sticky = { by = \"cookie\" }").start();
    let mut https = connect(&Arc::new(ca.client()), stage.address, "site.example");
    let request =
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: http\r\nX-Client-Cert-Subject: CN=root\r\n\
                    x_client_cert_subject: CN=root\r\n\r\n";
    let (head, _) = exchange(&mut https, request).unwrap();
    assert!(head.contains("; SameSite=Lax; Secure\r\n"), "{head}");
    assert!(head.contains("Strict-Transport-Security: max-age=3600\r\n"), "{head}");
    let arrived = &origin.requests()[0];
    assert_eq!(arrived.header("X-Forwarded-Proto"), Some("https"));
    assert_eq!(arrived.header("X-Client-Cert-Subject"), None);
    assert_eq!(arrived.header("x_client_cert_subject"), None);
    let (head, _) = exchange(&mut https, b"GET / HTTP/2.1\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 505") && head.contains("Strict-Transport-Security"), "{head}");
}

#[test]
fn over_tls_only_a_cookie_that_came_over_tls_is_believed() {
    let ca = Ca::new();
    ca.write("site", &["site.example"]);
    let origins = [Origin::named("a"), Origin::named("b"), Origin::named("c")];
    let stage = before(&origins).listener(&ca.listener(&["site"])).http_only();
    let stage = stage.service("sticky = { by = \"cookie\" }").start();
    let mut https = connect(&Arc::new(ca.client()), stage.address, "site.example");
    let mut ask = |cookie: &str| {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n");
        let (head, body) = exchange(&mut https, request.as_bytes()).unwrap();
        let cookie = head.lines().find_map(|line| line.strip_prefix("Set-Cookie: ")).map(str::to_owned);
        (body, cookie)
    };
    let (home, given) = ask("x=1");
    let given = given.unwrap();
    assert!(
        given.starts_with("__Host-everup=") && given.contains("; Path=/;") && given.ends_with("; Secure")
    );
    let pair = given.split(';').next().unwrap();
    for _ in 0..5 {
        assert_eq!(ask(pair), (home.clone(), None));
    }
    // Without the prefix anybody who can send the browser plain http could have planted it.
    let planted = pair.strip_prefix("__Host-").unwrap();
    assert!(ask(planted).1.is_some());
    assert!(origins.iter().flat_map(Origin::requests).all(|one| one.header("Cookie") != Some(pair)));
}

#[test]
fn a_proxy_header_comes_before_the_handshake() {
    let ca = Ca::new();
    ca.write("site", &["site.example"]);
    let origin = Origin::answering(|request| ok(request.header("X-Forwarded-For").unwrap()));
    let lines = format!("{}accept_proxy = [\"127.0.0.1\"]\n", ca.listener(&["site"]));
    let stage = setting(&origin, &lines).start();
    let config = Arc::new(ca.client());
    let header = b"PROXY TCP4 203.0.113.7 198.51.100.1 40000 443\r\n";
    let mut https = connect(&config, stage.address, "site.example");
    https.sock.write_all(header).unwrap();
    assert_eq!(exchange(&mut https, get("/").as_bytes()).unwrap().1, b"203.0.113.7");
    // Header and hello at once, and both in pieces.
    for pieces in [1, 7] {
        let mut https = connect(&config, stage.address, "site.example");
        let mut bytes = header.to_vec();
        https.conn.write_tls(&mut bytes).unwrap();
        for piece in bytes.chunks(bytes.len() / pieces + 1) {
            https.sock.write_all(piece).unwrap();
            thread::yield_now();
        }
        assert_eq!(exchange(&mut https, get("/").as_bytes()).unwrap().1, b"203.0.113.7");
    }
    // Inside TLS it means nothing, and without one nobody is let in.
    let mut https = connect(&config, stage.address, "site.example");
    exchange(&mut https, get("/").as_bytes()).unwrap_err();
    until("it is counted", || stage.gateway().turned_away().proxy_header == 1);
}

#[test]
fn a_client_over_its_share_of_connections_is_told_so_within_tls() {
    let ca = Ca::new();
    ca.write("site", &["site.example"]);
    let origin = Origin::named("a");
    let stage = setting(&origin, &ca.listener(&["site"])).limits("connections_per_client = 1").start();
    let config = Arc::new(ca.client());
    let mut first = connect(&config, stage.address, "site.example");
    exchange(&mut first, get("/").as_bytes()).unwrap();
    let mut second = connect(&config, stage.address, "site.example");
    let (head, _) = exchange(&mut second, get("/").as_bytes()).unwrap();
    assert!(head.starts_with("HTTP/1.1 429"), "{head}");
    exchange(&mut first, get("/").as_bytes()).unwrap();
}

#[test]
fn large_bodies_pass_both_ways_unchanged() {
    let ca = Ca::new();
    ca.write("site", &["site.example"]);
    let origin = Origin::answering(|request| ok(&request.body));
    let stage = stage(&ca, &origin, &["site"]);
    let mut https = connect(&Arc::new(ca.client()), stage.address, "site.example");
    for bytes in [0, 1, 16_384, 16_385, 70_000, 10 << 20] {
        let body = pattern(bytes);
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {bytes}\r\n\r\n");
        let (_, answer) = exchange(&mut https, &[head.as_bytes(), &body].concat()).unwrap();
        assert!(answer == body, "{bytes} bytes, and {} came back", answer.len());
    }
    stage.settles();
}

#[test]
fn an_answer_that_a_slow_client_takes_late_is_whole_also_when_it_is_the_last() {
    let ca = Ca::new();
    ca.write("site", &["site.example"]);
    let body = pattern(8 << 20);
    let sent = body.clone();
    let origin = Origin::answering(move |_| ok(&sent));
    let stage = stage(&ca, &origin, &["site"]);
    let mut https = connect(&Arc::new(ca.client()), stage.address, "site.example");
    https.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    until("the answer is on its way", || origin.count() == 1);
    stage.gateway().begin_shutdown();
    let mut all = Vec::new();
    // No error: the end was announced.
    https.read_to_end(&mut all).unwrap();
    assert!(all.ends_with(&body), "{} bytes", all.len());
}

#[test]
fn requests_in_one_record_are_all_answered() {
    let ca = Ca::new();
    ca.write("site", &["site.example"]);
    let origin = Origin::answering(|request| ok(request.path()));
    let stage = stage(&ca, &origin, &["site"]);
    let mut https = connect(&Arc::new(ca.client()), stage.address, "site.example");
    let three = [get("/1"), get("/2"), get("/3")].concat();
    let (_, first) = exchange(&mut https, three.as_bytes()).unwrap();
    let (_, second) = exchange(&mut https, b"").unwrap();
    let (_, third) = exchange(&mut https, b"").unwrap();
    assert_eq!([first, second, third], [b"/1", b"/2", b"/3"]);
}

#[test]
fn a_session_is_resumed_also_after_the_certificate_was_replaced() {
    let ca = Ca::new();
    ca.write("site", &["site.example"]);
    let origin = Origin::named("a");
    let mut stage = stage(&ca, &origin, &["site"]);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(ca.der.clone()).unwrap();
        let config =
            ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
        let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
        let kind = || {
            let mut https = connect(&config, stage.address, "site.example");
            exchange(&mut https, get("/").as_bytes()).unwrap();
            https.conn.handshake_kind()
        };
        assert_ne!(kind(), Some(HandshakeKind::Resumed));
        assert_eq!(kind(), Some(HandshakeKind::Resumed));
        ca.write("site", &["site.example"]);
        let files = stage.files.as_mut().unwrap();
        files.look();
        files.look();
        let mut https = connect(&config, stage.address, "site.example");
        exchange(&mut https, get("/").as_bytes()).unwrap();
        assert_eq!(https.conn.handshake_kind(), Some(HandshakeKind::Resumed));
    }
}

#[test]
fn files_are_taken_up_when_they_change_and_broken_ones_are_not() {
    let ca = Ca::new();
    ca.write("site", &["site.example"]);
    let origin = Origin::named("a");
    let mut stage = stage(&ca, &origin, &["site"]);
    let first = ca.chain("site")[0].clone();
    let seen = |stage: &Stage| {
        let mut https = connect(&Arc::new(ca.client()), stage.address, "site.example");
        exchange(&mut https, get("/").as_bytes()).unwrap();
        shown(&https)
    };
    let look = |stage: &mut Stage, times: usize| {
        (0..times).for_each(|_| stage.files.as_mut().unwrap().look());
    };
    // A connection from before goes on.
    let mut old = connect(&Arc::new(ca.client()), stage.address, "site.example");
    exchange(&mut old, get("/").as_bytes()).unwrap();
    ca.write("other", &["other.example"]);
    fs::rename(ca.path("other.key"), ca.path("site.key")).unwrap();
    look(&mut stage, 3);
    assert_eq!(seen(&stage), first, "a key that does not belong is not taken up");
    fs::write(ca.path("site.pem"), "nonsense").unwrap();
    look(&mut stage, 3);
    assert_eq!(seen(&stage), first);
    ca.write("site", &["site.example"]);
    look(&mut stage, 1);
    assert_eq!(seen(&stage), first, "what was just changed may not be whole yet");
    look(&mut stage, 1);
    assert_eq!(seen(&stage), ca.chain("site")[0]);
    assert_ne!(seen(&stage), first);
    exchange(&mut old, get("/").as_bytes()).unwrap();
}

/// A client that shows a certificate of `issuer`, valid until `end`.
fn as_alice(ca: &Ca, issuer: &Ca, end: Option<SystemTime>) -> Arc<ClientConfig> {
    let key = issuer.write_until("alice", &[], end);
    let mut config = ca.client();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let made = rustls::sign::CertifiedKey::from_der(issuer.chain("alice"), key, &provider).unwrap();
    config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(made));
    Arc::new(config)
}

#[test]
fn a_session_does_not_outlive_the_certificate_that_its_client_has_shown() {
    let ca = Ca::new();
    ca.write("site", &["site.example"]);
    let origin = Origin::named("a");
    let lines = format!("{}client_ca = \"{}\"\n", ca.listener(&["site"]), ca.path("ca.pem").display());
    let stage = setting(&origin, &lines).start();
    let end = SystemTime::now() + Duration::from_secs(4);
    let config = as_alice(&ca, &ca, Some(end));
    let ask = || exchange(&mut connect(&config, stage.address, "site.example"), get("/").as_bytes());
    assert!(ask().is_ok() && ask().is_ok());
    until("it has expired", || SystemTime::now() > end + Duration::from_millis(1100));
    let arrived = origin.count();
    // Whatever tickets the client has got so far.
    (0..12).for_each(|_| assert!(ask().is_err()));
    assert_eq!(origin.count(), arrived);
}

#[test]
fn only_clients_with_a_certificate_of_the_authority_are_served_and_their_subject_is_passed_on() {
    let ca = Ca::new();
    ca.write("site", &["site.example"]);
    let origin = Origin::named("a");
    let lines = format!("{}client_ca = \"{}\"\n", ca.listener(&["site"]), ca.path("ca.pem").display());
    let stage = setting(&origin, &lines).start();
    let stranger = Ca::new();
    let with = |issuer: &Ca| as_alice(&ca, issuer, None);
    for config in [Arc::new(ca.client()), with(&stranger)] {
        let mut https = connect(&config, stage.address, "site.example");
        exchange(&mut https, get("/").as_bytes()).unwrap_err();
    }
    assert_eq!(origin.count(), 0);
    let config = with(&ca);
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let mut https = connect(&config, stage.address, "site.example");
        let request = b"GET / HTTP/1.1\r\nHost: a\r\nX-Client-Cert-Subject: CN=root\r\n\r\n";
        exchange(&mut https, request).unwrap();
        let resumed = https.conn.handshake_kind() == Some(HandshakeKind::Resumed);
        assert_eq!(resumed, kind == HandshakeKind::Resumed);
        let arrived = origin.requests().pop().unwrap();
        assert_eq!(arrived.header("X-Client-Cert-Subject"), Some("CN=alice"));
    }
}

#[test]
fn an_instance_that_gets_proxy_headers_learns_of_the_clients_tls() {
    let ca = Ca::new();
    ca.write("site", &["site.example"]);
    let key = ca.write("alice", &[]);
    // Answers with the fields behind the addresses.
    let origin = Origin::start(|visit| {
        let head = visit.wire.take(16);
        let block = visit.wire.take(usize::from(u16::from_be_bytes([head[14], head[15]])));
        visit.request();
        visit.wire.send(ok(&block[12..]));
    });
    let listener = format!("{}client_ca = \"{}\"\n", ca.listener(&["site"]), ca.path("ca.pem").display());
    let stage = setting(&origin, &listener).service("send_proxy = \"v2\"").start();
    let mut config = ca.client();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let made = rustls::sign::CertifiedKey::from_der(ca.chain("alice"), key, &provider).unwrap();
    config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(made));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let config = Arc::new(config);
    // The second connection goes on with the first one's session.
    for client in [7, 5] {
        let mut https = connect(&config, stage.address, "site.example");
        let request = get("/").replace("\r\n\r\n", "\r\nX-Request-Id: 123\r\n\r\n");
        let (_, fields) = exchange(&mut https, request.as_bytes()).unwrap();
        let ssl = [&b"\x20\0\x17"[..], &[client], b"\0\0\0\0\x21\0\x07TLSv1.3\x22\0\x05alice"].concat();
        let known = b"\x01\0\x08http/1.1\x02\0\x0csite.example\x05\0\x03123";
        assert_eq!(fields, [&known[..], &ssl].concat(), "{}", fields.escape_ascii());
    }
}

#[test]
fn plain_text_is_refused_with_an_alert_and_the_connection_closed() {
    let ca = Ca::new();
    ca.write("site", &["site.example"]);
    let origin = Origin::named("a");
    let stage = stage(&ca, &origin, &["site"]);
    let mut client = Wire::to(stage.address);
    client.send(get("/"));
    let (rest, _) = client.rest();
    // One record: an alert, fatal (RFC 8446 section 6).
    assert!(rest.starts_with(&[21, 3]) && rest.len() == 7 && rest[5] == 2, "{rest:?}");
    until("the connection is forgotten", || stage.gateway().connections() == 0);
    assert_eq!(origin.connections(), 0);
}

#[test]
fn a_handshake_that_does_not_end_is_ended_and_holds_nobody_up() {
    let ca = Ca::new();
    ca.write("site", &["site.example"]);
    let origin = Origin::named("a");
    let stage =
        setting(&origin, &ca.listener(&["site"])).limits("head_time = \"300ms\"\nhandshakes = 2").start();
    let mut slow = Wire::to(stage.address);
    slow.send([22, 3, 1]);
    let mut silent = Wire::to(stage.address);
    // Both places are taken: who comes now waits until those have been ended.
    let mut https = connect(&Arc::new(ca.client()), stage.address, "site.example");
    exchange(&mut https, get("/").as_bytes()).unwrap();
    slow.ends();
    silent.ends();
}

#[test]
fn silent_clients_hold_up_nobody_who_shakes_hands() {
    let ca = Ca::new();
    ca.write("site", &["site.example"]);
    let origin = Origin::named("a");
    let stage =
        setting(&origin, &ca.listener(&["site"])).limits("head_time = \"60s\"\nhandshakes = 2").start();
    let mut silent: Vec<_> = (0..6).map(|_| Wire::to(stage.address)).collect();
    // Before it, three rounds of two are ended.
    let mut https = connect(&Arc::new(ca.client()), stage.address, "site.example");
    exchange(&mut https, get("/").as_bytes()).unwrap();
    silent.iter_mut().for_each(Wire::ends);
    assert_eq!(stage.gateway().turned_away().tls, 6);
    // Its place is not wanted.
    let last = Wire::to(stage.address);
    until("it is in, alone", || stage.gateway().connections() == 2);
    let began = Instant::now();
    until("it would have been ended", || began.elapsed() > Duration::from_secs(2));
    assert_eq!(stage.gateway().connections(), 2);
    drop(last);
}

#[test]
fn a_request_in_many_small_records_is_one_request() {
    let ca = Ca::new();
    ca.write("site", &["site.example"]);
    let origin = Origin::answering(|request| ok(&request.body));
    let stage = stage(&ca, &origin, &["site"]);
    let mut https = connect(&Arc::new(ca.client()), stage.address, "site.example");
    let request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhell";
    for byte in request {
        https.write_all(&[*byte]).unwrap();
        https.flush().unwrap();
    }
    let (_, body) = exchange(&mut https, b"o").unwrap();
    assert_eq!(body, b"hello");
}

#[test]
fn an_upgrade_goes_through_tls_both_ways() {
    let ca = Ca::new();
    ca.write("site", &["site.example"]);
    let origin = Origin::start(|visit| {
        visit.request();
        visit.wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
        let (all, _) = visit.wire.rest();
        visit.wire.send(all);
    });
    let stage = stage(&ca, &origin, &["site"]);
    let mut https = connect(&Arc::new(ca.client()), stage.address, "site.example");
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
    https.write_all(request).unwrap();
    let body = pattern(3 << 20);
    https.write_all(&body).unwrap();
    // The tunnel's one direction ends, and the other goes on.
    https.conn.send_close_notify();
    https.flush().unwrap();
    let mut all = Vec::new();
    https.read_to_end(&mut all).unwrap();
    assert!(all.ends_with(&body), "{} bytes", all.len());
}

/// A client for whom much waits in the gateway's session.
fn narrow(ca: &Ca, stage: &Stage) -> Https {
    let name = ServerName::try_from("site.example").unwrap();
    let connection = ClientConnection::new(Arc::new(ca.client()), name).unwrap();
    StreamOwned::new(connection, crate::wire::narrow(stage.address))
}

#[test]
fn a_slow_client_gets_its_answer_also_when_that_waits_in_the_session() {
    let ca = Ca::new();
    ca.write("site", &["site.example"]);
    let origin = Origin::answering(|_| ok(vec![b'x'; 16 << 20]));
    let stage = stage(&ca, &origin, &["site"]);
    let mut https = narrow(&ca, &stage);
    https.write_all(get("/").as_bytes()).unwrap();
    let started = Instant::now();
    // 4 kB/s, four times the least, for longer than anyone is given who is slower than that.
    for step in 0..180 {
        until("it is time to read on", || started.elapsed().as_millis() >= step * 200);
        https.read_exact(&mut [0; 800]).unwrap_or_else(|error| panic!("{step}: {error}"));
    }
}

#[test]
fn the_last_bytes_of_a_tunnel_do_not_wait_for_others_behind_them() {
    let ca = Ca::new();
    ca.write("site", &["site.example"]);
    let origin = Origin::start(|visit| {
        visit.request();
        visit.wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
        while let Some(kibibytes) = visit.wire.try_take(1) {
            visit.wire.send(pattern(usize::from(kibibytes[0]) * 1024));
        }
    });
    let stage = stage(&ca, &origin, &["site"]);
    let mut https = narrow(&ca, &stage);
    https.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n").unwrap();
    let mut head =
        vec![0; b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n".len()];
    https.read_exact(&mut head).unwrap();
    for kibibytes in (4..=240).step_by(4) {
        https.write_all(&[kibibytes]).unwrap();
        // Long enough for the gateway to have met the full buffer, which is what this is about.
        thread::park_timeout(Duration::from_millis(15));
        let mut all = vec![0; usize::from(kibibytes) * 1024];
        https.read_exact(&mut all).unwrap_or_else(|error| panic!("{kibibytes} KiB: {error}"));
        assert!(all == pattern(all.len()), "{kibibytes} KiB");
    }
}

#[test]
fn a_tunnel_that_was_broken_off_does_not_look_ended() {
    let ca = Ca::new();
    ca.write("site", &["site.example"]);
    let switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
    let origin = Origin::start(move |visit| {
        visit.request();
        visit.wire.send([switched, "half"].concat());
        visit.wire.take(1);
        visit.wire.writer().reset();
    });
    let stage = stage(&ca, &origin, &["site"]);
    let mut https = connect(&Arc::new(ca.client()), stage.address, "site.example");
    https.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n").unwrap();
    let mut all = vec![0; switched.len() + b"half".len()];
    https.read_exact(&mut all).unwrap();
    https.write_all(b"!").unwrap();
    let end = https.read_to_end(&mut all).map_err(|error| error.kind());
    assert_eq!(end, Err(std::io::ErrorKind::UnexpectedEof));
}

#[test]
fn what_no_route_takes_is_sent_to_https() {
    let origin = Origin::named("a");
    let lines = "redirect = \"https\"\nroute = [{ path = \"/.well-known/\", service = \"app\" }]";
    let stage = setting(&origin, lines).start();
    let mut client = stage.connect();
    client.send("GET /a?b=c HTTP/1.1\r\nHost: Shop.example:8080\r\n\r\n");
    let answer = client.answer();
    assert_eq!(answer.status(), 308);
    assert_eq!(answer.header("Location"), Some("https://Shop.example/a?b=c"));
    assert_eq!(client.get("/.well-known/x").text(), "a");
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.answer().status(), 404, "without a host nobody can say where to");
}

#[test]
fn many_clients_at_once_are_served_by_several_threads() {
    let ca = Ca::new();
    ca.write("site", &["site.example"]);
    let origin = Origin::answering(|request| ok(&request.body));
    let stage = setting(&origin, &ca.listener(&["site"])).threads(2).start();
    let config = Arc::new(ca.client());
    let address = stage.address;
    let clients: Vec<_> = (0..16)
        .map(|number| {
            let config = Arc::clone(&config);
            thread::spawn(move || {
                let mut https = connect(&config, address, "site.example");
                for round in 0..20 {
                    let body = pattern(1000 * number + round);
                    let head =
                        format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
                    let (_, answer) = exchange(&mut https, &[head.as_bytes(), &body].concat()).unwrap();
                    assert!(answer == body);
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    stage.settles();
}
