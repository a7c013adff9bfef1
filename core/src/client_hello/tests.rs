//! Messages made by hand, and one that openssl made.

use super::*;

/// `openssl s_client -connect HOST -servername Shop.Example -alpn h2,http/1.1`, OpenSSL 3.
const OPENSSL: &[u8] = include_bytes!("tests/openssl.bin");

fn long(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

fn short(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

fn extension(kind: u16, value: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &long(value)].concat()
}

fn name(name: &[u8]) -> Vec<u8> {
    extension(0, &long(&[&[0], &long(name)[..]].concat()))
}

/// A body up to its extensions.
fn begin() -> Vec<u8> {
    [&[3, 3][..], &[7; 32], &short(&[1; 32]), &long(&[0x13, 0x01]), &short(&[0])].concat()
}

fn body(extensions: &[Vec<u8>]) -> Vec<u8> {
    [begin(), long(&extensions.concat())].concat()
}

fn message(body: &[u8]) -> Vec<u8> {
    [&[1, 0], &long(body)[..]].concat()
}

/// The message in records with so many bytes each.
fn records(message: &[u8], bytes: usize) -> Vec<u8> {
    message.chunks(bytes).flat_map(|piece| [&[22, 3, 1], &long(piece)[..]].concat()).collect()
}

fn read(body: &[u8]) -> Result<Parsed, Malformed> {
    parse(&records(&message(body), RECORD_BYTES))
}

fn hello(server_name: Option<&str>, protocols: &[&str]) -> Result<Parsed, Malformed> {
    Ok(Parsed::Whole(ClientHello {
        server_name: server_name.map(str::to_owned),
        protocols: protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect(),
    }))
}

#[test]
fn what_openssl_sends_is_understood_however_it_comes() {
    let whole = hello(Some("shop.example"), &["h2", "http/1.1"]);
    assert_eq!(parse(OPENSSL), whole);
    let mut needed = 0;
    for end in 0..OPENSSL.len() {
        let Ok(Parsed::Partial { needed: wants }) = parse(&OPENSSL[..end]) else { panic!("whole at {end}") };
        assert!(wants > end && wants >= needed && wants <= OPENSSL.len(), "{wants} at {end}");
        needed = wants;
    }
    let message = &OPENSSL[5..];
    for bytes in [1, 2, 3, 4, 5, 100] {
        let pieces = records(message, bytes);
        assert_eq!(parse(&pieces), whole, "{bytes} in a record");
        let more = [&pieces[..], &[20, 3, 3, 0, 1, 1]].concat();
        assert_eq!(parse(&more), whole);
    }
}

#[test]
fn a_client_may_say_nothing_of_itself() {
    assert_eq!(read(&begin()), hello(None, &[]));
    assert_eq!(read(&body(&[])), hello(None, &[]));
    assert_eq!(read(&body(&[extension(0xfe0d, b"unknown")])), hello(None, &[]));
}

#[test]
fn names_are_host_names() {
    for (given, wanted) in [("a", "a"), ("Shop.EXAMPLE", "shop.example"), ("a_b.1-2.x", "a_b.1-2.x")] {
        assert_eq!(read(&body(&[name(given.as_bytes())])), hello(Some(wanted), &[]));
    }
    let long_label = [b'a'; 64];
    let long_name = [b"ab.".repeat(84), b"abc".to_vec()].concat();
    let wrong: [&[u8]; 11] = [
        b"",
        b".",
        b"a.",
        b".a",
        b"a..b",
        b"a b",
        b"a\0",
        b"\xc3\xa4.example",
        b"::1",
        &long_label,
        &long_name,
    ];
    for given in wrong {
        assert_eq!(read(&body(&[name(given)])), Err(Malformed::ServerName), "{}", given.escape_ascii());
    }
    let one = [&[0], &long(b"a")[..]].concat();
    let (twice, other) = ([&one[..], &one].concat(), [&[1], &long(b"a")[..]].concat());
    for list in [long(&twice), long(&other), long(&[]), one, vec![], [&long(b"a")[..], b"x"].concat()] {
        assert_eq!(read(&body(&[extension(0, &list)])), Err(Malformed::ServerName), "{list:?}");
    }
}

#[test]
fn protocols_are_a_list_of_names() {
    let list = |names: &[&[u8]]| long(&names.iter().flat_map(|name| short(name)).collect::<Vec<_>>());
    assert_eq!(read(&body(&[extension(16, &list(&[b"h2", b"x"]))])), hello(None, &["h2", "x"]));
    for wrong in [list(&[]), list(&[b"h2", b""]), b"\0\x03\x02h2x".to_vec(), b"\0\x02\x02h".to_vec(), vec![]]
    {
        assert_eq!(read(&body(&[extension(16, &wrong)])), Err(Malformed::Protocols), "{wrong:?}");
    }
}

#[test]
fn what_two_could_read_differently_is_refused() {
    let whole = body(&[name(b"a.example")]);
    assert_eq!(read(&body(&[name(b"a.example"), name(b"b.example")])), Err(Malformed::Twice));
    assert_eq!(read(&body(&[extension(5, b""), extension(5, b"")])), Err(Malformed::Twice));
    for end in 0..whole.len() {
        // Where the extensions would begin a client may stop.
        let wanted = if end == begin().len() { hello(None, &[]) } else { Err(Malformed::Broken) };
        assert_eq!(read(&whole[..end]), wanted, "cut at {end}");
    }
    assert_eq!(read(&[&whole[..], b"x"].concat()), Err(Malformed::Broken));
    let two = [message(&whole), message(&whole)].concat();
    assert_eq!(parse(&records(&two, RECORD_BYTES)), Err(Malformed::Trailing));
    let changed = |at: usize, to: u8| {
        let mut body = body(&[name(b"a.example")]);
        body[at] = to;
        read(&body)
    };
    assert_eq!(changed(0, 2), Err(Malformed::Broken), "the version");
    assert_eq!(changed(34, 33), Err(Malformed::Broken), "the session id");
    assert_eq!(changed(68, 1), Err(Malformed::Broken), "the cipher suites");
}

#[test]
fn what_is_not_tls_is_told_at_once() {
    for (bytes, wanted) in [
        (&b"GET / HTTP/1.1\r\n"[..], Malformed::NotTls),
        (b"\x80\x2e\x01\x03\x01", Malformed::NotTls),
        (b"\x16\x02", Malformed::NotTls),
        (b"\x15\x03", Malformed::NotTls),
        (b"\x16\x03\x01\0\0", Malformed::Record),
        (b"\x16\x03\x01\x40\x01", Malformed::Record),
        (b"\x16\x03\x01\0\x01\x02", Malformed::OtherMessage),
        (b"\x16\x03\x01\0\x04\x01\0\x40\x01", Malformed::TooLong),
        // A second record that is none.
        (b"\x16\x03\x01\0\x01\x01\x17", Malformed::NotTls),
    ] {
        assert_eq!(parse(bytes), Err(wanted), "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_message_without_end_is_not_waited_for() {
    let long_message = message(&vec![0; HELLO_BYTES - 4]);
    let pieces = records(&long_message, 100);
    let told = (0..pieces.len()).map(|end| parse(&pieces[..end])).find(Result::is_err);
    assert_eq!(told, Some(Err(Malformed::TooLong)));
    // Its first record says already that it is too long.
    assert_eq!(parse(&records(&long_message, RECORD_BYTES)[..5]), Err(Malformed::TooLong));
}
