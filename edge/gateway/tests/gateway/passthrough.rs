//! tls-passthrough: a client and an instance shake hands with each other, and everup between them reads the first message
//! only.

use std::io::Write;
use std::sync::Arc;
use std::thread;

use rustls::ClientConfig;

use crate::stage::{Origin, Setting, before_addresses, until};
use crate::tls::{Ca, connect, exchange, shown};
use crate::tls_instances::{Secured, answer_all, config};
use crate::wire::{Wire, get, pattern};

const BY_HOST: &str =
    "protocol = \"tls-passthrough\"\nroute = [{ host = \"*.example\", service = \"app\" }]\n";

fn before(instance: &Secured, listener: &str) -> Setting {
    before_addresses(vec![instance.address]).listener(listener)
}

fn stage_ca() -> (Ca, Arc<ClientConfig>) {
    let ca = Ca::new();
    ca.write("app", &["app.example", "b.app.example"]);
    let client = Arc::new(ca.client());
    (ca, client)
}

#[test]
fn client_and_instance_speak_with_each_other() {
    let (ca, client) = stage_ca();
    let instance = Secured::echo(&ca, "app");
    let stage = before(&instance, BY_HOST).start();
    for host in ["app.example", "b.App.Example"] {
        let mut https = connect(&client, stage.address, host);
        for bytes in [0, 20_000, 2 << 20] {
            let body = pattern(bytes);
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {bytes}\r\n\r\n");
            let (_, answer) = exchange(&mut https, &[head.as_bytes(), &body].concat()).unwrap();
            assert!(answer == body);
        }
        assert_eq!(shown(&https), ca.chain("app")[0]);
    }
    let names: Vec<_> = instance.seen().into_iter().map(|seen| seen.name.unwrap()).collect();
    assert_eq!(names, ["app.example", "b.app.example"]);
    assert_eq!(stage.service.requests.total(), 2);
    stage.settles();
}

#[test]
fn a_first_message_in_pieces_is_one_message() {
    let (ca, client) = stage_ca();
    let instance = Secured::echo(&ca, "app");
    let stage = before(&instance, BY_HOST).start();
    for bytes_per_record in [1, 7, 16_384] {
        let mut https = connect(&client, stage.address, "app.example");
        let mut hello = Vec::new();
        https.conn.write_tls(&mut hello).unwrap();
        let records: Vec<u8> = hello[5..]
            .chunks(bytes_per_record)
            .flat_map(|piece| [&[22, 3, 1], &(piece.len() as u16).to_be_bytes()[..], piece].concat())
            .collect();
        for piece in records.chunks(3) {
            https.sock.write_all(piece).unwrap();
        }
        exchange(&mut https, get("/").as_bytes()).unwrap();
    }
}

#[test]
fn whoever_wants_nobody_here_is_told_so_by_an_alert() {
    let (ca, client) = stage_ca();
    let instance = Secured::echo(&ca, "app");
    let stage = before(&instance, BY_HOST).start();
    let mut https = connect(&client, stage.address, "app.test");
    let told = exchange(&mut https, get("/").as_bytes()).unwrap_err().to_string();
    assert!(told.contains("UnrecognisedName"), "{told}");
    let mut plain = Wire::to(stage.address);
    plain.send(get("/"));
    assert_eq!(plain.rest().0, [21, 3, 3, 0, 2, 2, 50]);
    until("both are counted", || stage.gateway().turned_away().tls == 2);
    assert_eq!(instance.seen().len(), 0);
    stage.settles();
}

#[test]
fn whoever_names_no_host_gets_the_listeners_service() {
    let ca = Ca::new();
    ca.write("address", &["127.0.0.1"]);
    let instance = Secured::echo(&ca, "address");
    let lines = format!("{BY_HOST}service = \"app\"\n");
    let stage = before(&instance, &lines).start();
    let mut https = connect(&Arc::new(ca.client()), stage.address, "127.0.0.1");
    exchange(&mut https, get("/").as_bytes()).unwrap();
    assert_eq!(instance.seen()[0].name, None);
}

#[test]
fn a_client_that_does_not_say_what_it_wants_is_closed_in_time() {
    let (ca, _) = stage_ca();
    let instance = Secured::echo(&ca, "app");
    let stage = before(&instance, BY_HOST).limits("head_time = \"200ms\"").start();
    let mut slow = Wire::to(stage.address);
    slow.send([22, 3, 1, 2, 0, 1]);
    let mut silent = Wire::to(stage.address);
    slow.ends();
    silent.ends();
    assert_eq!(instance.seen().len(), 0);
}

#[test]
fn without_an_instance_the_client_gets_an_alert_instead_of_silence() {
    let (_, client) = stage_ca();
    let nobody = Origin::refusing();
    let setting =
        before_addresses(vec![nobody.address]).listener(BY_HOST).service("park = { time = \"0s\" }");
    let stage = setting.start();
    let mut https = connect(&client, stage.address, "app.example");
    let told = exchange(&mut https, get("/").as_bytes()).unwrap_err().to_string();
    assert!(told.contains("InternalError"), "{told}");
    stage.settles();
}

#[test]
fn proxy_headers_come_before_the_first_message_on_both_sides() {
    let (ca, client) = stage_ca();
    let instance = Secured::with(config(&ca, "app", None), true, answer_all);
    let lines = format!("{BY_HOST}accept_proxy = [\"127.0.0.1\"]\n");
    let stage = before(&instance, &lines).service("send_proxy = \"v1\"").start();
    let mut https = connect(&client, stage.address, "app.example");
    let header = "PROXY TCP4 203.0.113.7 198.51.100.1 40000 443\r\n";
    https.sock.write_all(header.as_bytes()).unwrap();
    exchange(&mut https, get("/").as_bytes()).unwrap();
    assert_eq!(instance.seen()[0].header, header);
}

#[test]
fn many_clients_at_once_reach_their_instance() {
    let (ca, client) = stage_ca();
    let instance = Secured::echo(&ca, "app");
    let stage = before(&instance, BY_HOST).threads(2).start();
    let address = stage.address;
    let clients: Vec<_> = (0..12)
        .map(|_| {
            let client = Arc::clone(&client);
            thread::spawn(move || {
                let mut https = connect(&client, address, "app.example");
                (0..10).for_each(|_| drop(exchange(&mut https, get("/").as_bytes()).unwrap()));
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    stage.settles();
}
