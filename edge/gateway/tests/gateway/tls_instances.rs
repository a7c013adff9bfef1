//! TLS to instances, which are rustls servers here: whom everup believes, that nothing is sent before, and that connections
//! and sessions are used again.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use everup_core::health::Reason;
use everup_gateway::GatewayEvent;
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::stage::{Origin, Setting, before_addresses};
use crate::tls::Ca;
use crate::wire::{End, ok, pattern, post};

type Https = StreamOwned<ServerConnection, TcpStream>;

/// What an instance saw of a connection when its handshake was over.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The line before the handshake, where one is expected.
    pub(crate) header: String,
    pub(crate) name: Option<String>,
    kind: Option<HandshakeKind>,
    shown: bool,
}

/// An instance that speaks TLS.
pub(crate) struct Secured {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Secured {
    /// Shows NAME.pem; `script` plays every connection after its handshake.
    pub(crate) fn start(ca: &Ca, name: &str, script: impl Fn(&mut Https) + Send + Sync + 'static) -> Self {
        Self::with(config(ca, name, None), false, script)
    }

    /// The same; with `announced`, connections begin with a line.
    pub(crate) fn with(
        config: ServerConfig,
        announced: bool,
        script: impl Fn(&mut Https) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (config, script, seen) = (Arc::new(config), Arc::new(script), Arc::new(Mutex::new(Vec::new())));
        let notes = Arc::clone(&seen);
        thread::spawn(move || {
            for mut tcp in listener.incoming().flatten() {
                let (config, script, notes) = (Arc::clone(&config), Arc::clone(&script), Arc::clone(&notes));
                thread::spawn(move || {
                    let mut header = String::new();
                    while announced && !header.ends_with('\n') {
                        let mut byte = [0];
                        tcp.read_exact(&mut byte).unwrap();
                        header.push(char::from(byte[0]));
                    }
                    let mut connection = ServerConnection::new(config).unwrap();
                    if connection.complete_io(&mut tcp).is_err() {
                        return;
                    }
                    notes.lock().unwrap().push(Seen {
                        header,
                        name: connection.server_name().map(str::to_owned),
                        kind: connection.handshake_kind(),
                        shown: connection.peer_certificates().is_some(),
                    });
                    script(&mut StreamOwned::new(connection, tcp));
                });
            }
        });
        Self { address, seen }
    }

    /// Answers every request with its body.
    pub(crate) fn echo(ca: &Ca, name: &str) -> Self {
        Self::start(ca, name, answer_all)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

pub(crate) fn answer_all(https: &mut Https) {
    while let Some(body) = request(https) {
        if https.write_all(&ok(&body)).and_then(|()| https.flush()).is_err() {
            return;
        }
    }
}

/// The body of the next request, which has a Content-Length if it has a body.
fn request(https: &mut Https) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        https.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    https.read_exact(&mut body).ok()?;
    Some(body)
}

pub(crate) fn config(ca: &Ca, name: &str, clients: Option<&Ca>) -> ServerConfig {
    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::pem::PemObject;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(clients.chain("ca"));
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = PrivateKeyDer::from_pem_file(ca.path(&format!("{name}.key"))).unwrap();
    builder.with_single_cert(ca.chain(name), key).unwrap()
}

pub(crate) fn before(instances: &[&Secured]) -> Setting {
    before_addresses(instances.iter().map(|instance| instance.address).collect())
}

/// Lines of the service; `more` stands in its `tls`.
pub(crate) fn tls(ca: &Ca, more: &str) -> String {
    format!("tls = {{ ca = \"{}\"{more} }}\n", ca.path("ca.pem").display())
}

const NAMED: &str = ", server_name = \"app.internal\"";

#[test]
fn connections_and_sessions_are_used_again() {
    let ca = Ca::new();
    ca.write("app", &["app.internal"]);
    let instance = Secured::start(&ca, "app", |https| {
        // Two requests, then this connection is over.
        for _ in 0..2 {
            let Some(body) = request(https) else { return };
            https.write_all(&ok(&body)).unwrap();
        }
        https.conn.send_close_notify();
        let _ = https.flush();
    });
    let stage = before(&[&instance]).service(&tls(&ca, NAMED)).start();
    let mut client = stage.connect();
    // GETs: a POST may be lost on a connection that the instance is just closing, and nobody may repeat it.
    for _ in 0..6 {
        assert_eq!(client.get("/").status(), 200);
    }
    let seen = instance.seen();
    let kinds: Vec<_> = seen.iter().map(|one| one.kind == Some(HandshakeKind::Resumed)).collect();
    assert_eq!(kinds, [false, true, true]);
    assert!(seen.iter().all(|one| one.name.as_deref() == Some("app.internal") && !one.shown), "{seen:?}");
}

#[test]
fn without_a_name_the_certificate_must_be_for_the_address() {
    let ca = Ca::new();
    ca.write("address", &["127.0.0.1"]);
    let instance = Secured::echo(&ca, "address");
    let stage = before(&[&instance]).service(&tls(&ca, "")).start();
    assert_eq!(stage.connect().get("/").status(), 200);
    assert_eq!(instance.seen()[0].name, None, "an address is no server name (RFC 6066 section 3)");
}

#[test]
fn an_instance_that_cannot_prove_itself_gets_nothing_and_another_one_gets_it() {
    let (ca, stranger) = (Ca::new(), Ca::new());
    ca.write("app", &["app.internal"]);
    ca.write("other", &["other.internal"]);
    stranger.write("app", &["app.internal"]);
    let good = Secured::echo(&ca, "app");
    let plain = Origin::start(|visit| visit.wire.send("HTTP/1.1 400 Bad Request\r\n\r\n"));
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for (bad, why) in [
        (Secured::echo(&ca, "other").address, "not valid for name"),
        (Secured::echo(&stranger, "app").address, "invalid peer certificate"),
        (plain.address, "InvalidContentType"),
        (silent.local_addr().unwrap(), "not done within 300 ms"),
    ] {
        let lines = format!("{}timeout = {{ connect = \"300ms\" }}", tls(&ca, NAMED));
        let mut stage = before_addresses(vec![bad, good.address]).service(&lines).start();
        for _ in 0..2 {
            let mut client = stage.connect();
            client.send(post("/", "once"));
            assert_eq!(client.answer().text(), "once", "{why}");
        }
        let Some(GatewayEvent::ConnectFailed { address, reason: Reason::HandshakeFailed(said), .. }) =
            stage.next_event()
        else {
            panic!("the failure is reported: {why}");
        };
        assert!(address == bad && said.contains(why), "{said}");
    }
    assert_eq!(plain.count(), 0);
}

#[test]
fn an_instance_that_wants_a_certificate_gets_one() {
    let ca = Ca::new();
    ca.write("app", &["app.internal"]);
    ca.write("everup", &[]);
    let instance = Secured::with(config(&ca, "app", Some(&ca)), false, answer_all);
    let file = |kind: &str| ca.path(&format!("everup.{kind}")).display().to_string();
    let pair = format!("{NAMED}, certificate = \"{}\", key = \"{}\"", file("pem"), file("key"));
    let stage = before(&[&instance]).service(&tls(&ca, &pair)).start();
    assert_eq!(stage.connect().get("/").status(), 200);
    assert!(instance.seen()[0].shown);
}

#[test]
fn large_bodies_pass_both_ways_and_tcp_too() {
    let ca = Ca::new();
    ca.write("app", &["app.internal"]);
    let instance = Secured::echo(&ca, "app");
    let stage = before(&[&instance]).service(&tls(&ca, NAMED)).start();
    for address in [stage.address, stage.tcp] {
        let mut client = crate::wire::Wire::to(address);
        for bytes in [1, 16_384, 70_000, 5 << 20] {
            let body = pattern(bytes);
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {bytes}\r\n\r\n");
            let mut writer = client.writer();
            let sent = body.clone();
            let sender = thread::spawn(move || writer.send([head.as_bytes(), &sent].concat()));
            assert!(client.answer().body == body, "{bytes}");
            sender.join().unwrap();
        }
    }
    stage.settles();
}

#[test]
fn the_proxy_header_comes_before_the_handshake() {
    let ca = Ca::new();
    ca.write("app", &["app.internal"]);
    let instance = Secured::with(config(&ca, "app", None), true, answer_all);
    let lines = format!("{}send_proxy = \"v1\"", tls(&ca, NAMED));
    let stage = before(&[&instance]).service(&lines).start();
    assert_eq!(stage.connect().get("/").status(), 200);
    assert!(instance.seen()[0].header.starts_with("PROXY TCP4 127.0.0.1 127.0.0.1 "));
}

#[test]
fn an_end_that_the_instance_did_not_announce_is_no_end_of_a_body() {
    let ca = Ca::new();
    ca.write("app", &["app.internal"]);
    let instance = Secured::start(&ca, "app", |https| {
        let announced = request(https).is_some_and(|body| body == b"announced");
        https.write_all(b"HTTP/1.1 200 OK\r\n\r\nhalf").unwrap();
        if announced {
            https.conn.send_close_notify();
        }
        https.flush().unwrap();
    });
    let stage = before(&[&instance]).service(&tls(&ca, NAMED)).start();
    for (body, wanted) in [("announced", End::Closed), ("not", End::Reset)] {
        let mut client = stage.connect();
        client.send(post("/", body));
        let (answer, end) = client.rest();
        // A reset may overtake what was sent before it.
        assert!(end == wanted && (end == End::Reset || answer.ends_with(b"half")), "{body}: {end:?}");
    }
    assert_eq!(stage.service.errors.total(), 1);
}
