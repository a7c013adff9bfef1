//! Checks of instances that speak TLS, or should.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;

use everup_core::config::Check;
use everup_core::health::{Reason, Verdict};
use everup_health::Tls;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::instances::{Instance, ok};
use super::verdicts::{Verdicts, http, quick};

/// An instance with a certificate for `app.internal`, what its authority makes us believe, and the Host lines it was sent.
fn secured() -> (SocketAddr, Arc<ClientConfig>, Arc<Mutex<Vec<String>>>) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let authority_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let named = CertificateParams::new(["app.internal".to_owned()]).unwrap();
    let certificate = named.signed_by(&key, &Issuer::new(params, authority_key)).unwrap();

    let server = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let server = server.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let server = Arc::new(server.with_single_cert(vec![certificate.der().clone()], key).unwrap());

    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let client = Arc::new(client.with_root_certificates(roots).with_no_client_auth());

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let hosts = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&hosts);
    thread::spawn(move || {
        for tcp in listener.incoming().flatten() {
            let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&server)).unwrap(), tcp);
            let mut head = [0; 1024];
            let Ok(read @ 1..) = stream.read(&mut head) else { continue };
            let head = String::from_utf8_lossy(&head[..read]).into_owned();
            noted
                .lock()
                .unwrap()
                .extend(head.lines().find(|line| line.starts_with("Host: ")).map(str::to_owned));
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").and_then(|()| stream.flush());
        }
    });
    (address, client, hosts)
}

fn tls(config: Option<&Arc<ClientConfig>>, name: &'static str) -> Tls {
    Tls {
        current: Arc::new(arc_swap::ArcSwapOption::new(config.cloned())),
        server_name: ServerName::try_from(name).unwrap(),
    }
}

fn first_verdict(address: SocketAddr, check: Check, tls: Tls) -> Verdict {
    let mut verdicts = Verdicts::new();
    verdicts.watch_secured("a", address, quick(check), tls);
    verdicts.next().1
}

#[test]
fn an_instance_that_proves_itself_is_checked_within_tls() {
    let (address, config, hosts) = secured();
    for check in [http(), Check::Tcp] {
        assert_eq!(first_verdict(address, check, tls(Some(&config), "app.internal")), Verdict::Up);
    }
    assert_eq!(hosts.lock().unwrap()[0], "Host: app.internal");
}

#[test]
fn an_instance_that_does_not_prove_itself_is_down_whatever_the_check() {
    let (address, config, _) = secured();
    let plain = Instance::new(ok());
    for (address, tls, why) in [
        (address, tls(Some(&config), "other.internal"), "not valid for name"),
        (address, tls(None, "app.internal"), "do not work"),
        (plain.address, tls(Some(&config), "app.internal"), ""),
    ] {
        for check in [http(), Check::Tcp] {
            let verdict = first_verdict(address, check, tls.clone());
            let Verdict::Down(reason) = verdict else { panic!("{why}: {verdict:?}") };
            match reason {
                Reason::HandshakeFailed(said) => assert!(said.contains(why), "{said}"),
                // What speaks no TLS may wait for a request until our patience ends.
                Reason::ProbeTimeout if why.is_empty() => {}
                other => panic!("{why}: {other:?}"),
            }
        }
    }
}
