//! A session over a real connection whose writes wait for the end of the turn: what is given up must not get out, and
//! the goodbye must.

use std::future::{Future, poll_fn};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::Session;
use crate::engine::{Batching, Engine};
use crate::stream::Stream;

/// What encryption adds to a record of TLS 1.3.
const ADDED: usize = 22;

/// What an instance got, and whether it was told that this is all.
type Got = (Vec<u8>, bool);

/// Runs `main` with a connection to an instance that has said one byte in this turn; then says what the instance got.
fn instance_got<F: Future<Output = ()> + 'static>(main: impl FnOnce(Stream) -> F + 'static) -> Got {
    let certified = rcgen::generate_simple_self_signed(vec!["instance".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certified.cert.der().clone()).unwrap();
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let instance: JoinHandle<Got> = thread::spawn(move || {
        let tcp = listener.accept().unwrap().0;
        let mut tls = StreamOwned::new(ServerConnection::new(Arc::new(server)).unwrap(), tcp);
        tls.write_all(b"!").unwrap();
        let mut got = Vec::new();
        let was_told = tls.read_to_end(&mut got).is_ok();
        (got, was_told)
    });
    let engine = Rc::new(Engine::new(Batching::Always).unwrap());
    let here = Rc::clone(&engine);
    engine.run(async move {
        let mut stream = Stream::connect(&here, address).await.unwrap();
        let name = ServerName::try_from("instance").unwrap();
        stream.secure(Session::client(Arc::new(client), name).unwrap());
        poll_fn(|cx| stream.poll_handshake(cx)).await.unwrap();
        assert_eq!(poll_fn(|cx| stream.poll_read(cx, &mut [0; 8])).await.unwrap(), 1);
        main(stream).await;
    });
    drop(engine);
    instance.join().unwrap()
}

#[test]
fn a_request_that_is_given_up_before_it_went_is_not_pushed_out_by_the_goodbye() {
    for length in [100, 4096 - ADDED - 10, 4096 - ADDED] {
        let (got, was_told) = instance_got(move |mut stream| async move {
            let before = stream.passed();
            assert_eq!(stream.try_write(&vec![b'x'; length], &[]).unwrap(), length);
            assert_eq!(stream.passed(), before, "nobody has seen a byte of it");
            drop(stream);
        });
        assert_eq!((got.len(), was_told), (0, false), "and nobody will, of {length}");
    }
}

#[test]
fn what_was_sent_arrives_and_the_goodbye_after_it() {
    let got = instance_got(|mut stream| async move {
        assert_eq!(stream.try_write(b"last words", &[]).unwrap(), 10);
        stream.send_now();
    });
    assert_eq!(got, (b"last words".to_vec(), true));
}
