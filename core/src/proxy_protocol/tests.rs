//! What is accepted, what is refused and why, and that nothing depends on how the bytes arrive.

use proptest::collection::vec;
use proptest::prelude::*;

use super::checksum::crc32c;
use super::*;

fn ends(source: &str, destination: &str) -> Ends {
    Ends { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

fn whole(bytes: &[u8]) -> Header {
    match parse(bytes) {
        Ok(Parsed::Whole(header)) => header,
        other => panic!("{other:?}: {}", bytes.escape_ascii()),
    }
}

#[test]
fn lines_of_version_1_are_read() {
    let longest = "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n";
    for (line, expected) in [
        ("PROXY TCP4 192.0.2.1 203.0.113.7 56324 443\r\n", Some(ends("192.0.2.1:56324", "203.0.113.7:443"))),
        (
            "PROXY TCP6 2001:db8::1 2001:DB8::2 0 65535\r\n",
            Some(ends("[2001:db8::1]:0", "[2001:db8::2]:65535")),
        ),
        ("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", Some(ends("[::ffff:192.0.2.1]:1", "[::1]:2"))),
        ("PROXY UNKNOWN\r\n", None),
        (longest, None),
    ] {
        for after in ["", "GET / HTTP/1.1\r\n"] {
            let bytes = format!("{line}{after}");
            assert_eq!(whole(bytes.as_bytes()), Header { ends: expected, bytes: line.len() }, "{bytes:?}");
        }
    }
}

#[test]
fn lines_of_version_1_that_are_not_exact_are_refused() {
    use Malformed::{Address, Line, Missing, Port, TooLong};
    let endless = format!("PROXY UNKNOWN {}", "x".repeat(200));
    for (line, expected) in [
        ("GET / HTTP/1.1\r\n", Missing),
        ("POST / HTTP/1.1\r\n", Missing),
        ("proxy TCP4 192.0.2.1 203.0.113.7 1 2\r\n", Missing),
        ("PROXY\tTCP4 192.0.2.1 203.0.113.7 1 2\r\n", Missing),
        ("PROXYTCP4", Missing),
        (&endless, TooLong),
        ("PROXY \r\n", Line),
        ("PROXY TCP4\r\n", Line),
        ("PROXY TCP5 192.0.2.1 203.0.113.7 1 2\r\n", Line),
        ("PROXY tcp4 192.0.2.1 203.0.113.7 1 2\r\n", Line),
        ("PROXY UDP4 192.0.2.1 203.0.113.7 1 2\r\n", Line),
        ("PROXY TCP4 192.0.2.1 203.0.113.7 1 2\n", Line),
        ("PROXY TCP4 192.0.2.1 203.0.113.7 1\r\n", Line),
        ("PROXY TCP4 192.0.2.1 203.0.113.7 1 2 3\r\n", Line),
        ("PROXY TCP4 192.0.2.1 203.0.113.7 1 2 \r\n", Line),
        ("PROXY TCP4 192.0.2.1 203.0.113.7 1 2\r\r\n", Line),
        ("PROXY UNKNOWN \0\r\n", Line),
        ("PROXY UNKNOWNS\r\n", Line),
        ("PROXY  TCP4 192.0.2.1 203.0.113.7 1 2\r\n", Line),
        ("PROXY TCP4  192.0.2.1 203.0.113.7 1 2\r\n", Line),
        ("PROXY TCP4 203.0.113.700 203.0.113.7 1 2\r\n", Address),
        ("PROXY TCP4 192.0.2.1 203.0.113.256 1 2\r\n", Address),
        ("PROXY TCP4 192.0.2.01 203.0.113.7 1 2\r\n", Address),
        ("PROXY TCP4 192.0.2 203.0.113.7 1 2\r\n", Address),
        ("PROXY TCP4 0xc0.0.2.1 203.0.113.7 1 2\r\n", Address),
        ("PROXY TCP4 2001:db8::1 203.0.113.7 1 2\r\n", Address),
        ("PROXY TCP6 192.0.2.1 2001:db8::1 1 2\r\n", Address),
        ("PROXY TCP6 2001:db8::1::2 2001:db8::1 1 2\r\n", Address),
        ("PROXY TCP6 fe80::1%eth0 2001:db8::1 1 2\r\n", Address),
        ("PROXY TCP6 [2001:db8::1] 2001:db8::1 1 2\r\n", Address),
        ("PROXY TCP4 192.0.2.1 203.0.113.7 65536 2\r\n", Port),
        ("PROXY TCP4 192.0.2.1 203.0.113.7 1 02\r\n", Port),
        ("PROXY TCP4 192.0.2.1 203.0.113.7 00 2\r\n", Port),
        ("PROXY TCP4 192.0.2.1 203.0.113.7 +1 2\r\n", Port),
        ("PROXY TCP4 192.0.2.1 203.0.113.7 -1 2\r\n", Port),
        ("PROXY TCP4 192.0.2.1 203.0.113.7 1 0x2\r\n", Port),
    ] {
        assert_eq!(parse(line.as_bytes()), Err(expected), "{line:?}");
    }
}

/// A header of version 2 with this fourth part.
fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length, block].concat()
}

const FOUR: [u8; 12] = [192, 0, 2, 1, 203, 0, 113, 7, 0xdc, 0x04, 0x01, 0xbb];

#[test]
fn headers_of_version_2_are_read() {
    let four = Some(ends("192.0.2.1:56324", "203.0.113.7:443"));
    let six =
        [&[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1][..], &[0; 16], &[0, 1, 0, 2]].concat();
    let field = [&FOUR[..], &[0x05, 0, 2, b'i', b'd'], &[0xe0, 0, 0]].concat();
    for (bytes, expected) in [
        (v2(0x21, 0x11, &FOUR), four),
        (v2(0x21, 0x12, &FOUR), four),
        (v2(0x21, 0x11, &field), four),
        (v2(0x21, 0x21, &six), Some(ends("[2001:db8::1]:1", "[::]:2"))),
        (v2(0x21, 0x31, &[1; 216]), None),
        (v2(0x21, 0x00, &[]), None),
        (v2(0x20, 0x00, &[]), None),
        // Whatever a LOCAL header brings is skipped.
        (v2(0x20, 0x11, &FOUR), None),
        (v2(0x20, 0xff, &[1, 2, 3]), None),
    ] {
        let more = [&bytes, &b"more"[..]].concat();
        assert_eq!(whole(&more), Header { ends: expected, bytes: bytes.len() }, "{}", bytes.escape_ascii());
    }
}

#[test]
fn headers_of_version_2_that_are_not_exact_are_refused() {
    use Malformed::{Command, Family, Field, Length, Missing, TooLong};
    let with = |field: &[u8]| v2(0x21, 0x11, &[&FOUR[..], field].concat());
    for (bytes, expected) in [
        (b"\r\n\r\n\0\r\nQUIT\r".to_vec(), Missing),
        (b"\r\nGET / HTTP/1.1\r\n".to_vec(), Missing),
        (b"\x16\x03\x01".to_vec(), Missing),
        (v2(0x11, 0x11, &FOUR), Command),
        (v2(0x22, 0x11, &FOUR), Command),
        (v2(0x31, 0x11, &FOUR), Command),
        (v2(0x21, 0x10, &FOUR), Family),
        (v2(0x21, 0x01, &FOUR), Family),
        (v2(0x21, 0x13, &FOUR), Family),
        (v2(0x21, 0x41, &FOUR), Family),
        (v2(0x21, 0x11, &FOUR[..11]), Length),
        (v2(0x21, 0x21, &FOUR), Length),
        (v2(0x21, 0x31, &FOUR), Length),
        (with(&[0x05]), Field),
        (with(&[0x05, 0]), Field),
        (with(&[0x05, 0, 1]), Field),
        (with(&[0x05, 0, 1, 1, 1]), Field),
        (v2(0x21, 0x00, &FOUR[..2]), Field),
        (v2(0x21, 0x11, &[0; V2_BYTES]), TooLong),
        (v2(0x20, 0x00, &[0; V2_BYTES]), TooLong),
    ] {
        assert_eq!(parse(&bytes), Err(expected), "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_checksum_must_be_right() {
    let zero = [&FOUR[..], &[0x03, 0, 4, 0, 0, 0, 0], &[0x04, 0, 1, 9]].concat();
    let mut bytes = v2(0x21, 0x11, &zero);
    let sum = crc32c([&bytes[..]]).to_be_bytes();
    assert_eq!(parse(&bytes), Err(Malformed::Checksum));
    bytes[31..35].copy_from_slice(&sum);
    assert_eq!(whole(&bytes).ends, Some(ends("192.0.2.1:56324", "203.0.113.7:443")));
    // Without its type, byte 28, it is no checksum any more.
    for at in (16..bytes.len()).filter(|at| *at != 28) {
        let mut broken = bytes.clone();
        broken[at] ^= 1;
        assert!(parse(&broken).is_err(), "byte {at}");
    }
    let short = v2(0x21, 0x11, &[&FOUR[..], &[0x03, 0, 3, 0, 0, 0]].concat());
    assert_eq!(parse(&short), Err(Malformed::Checksum));
}

#[test]
fn headers_of_ones_own_are_unknown_and_local() {
    let mut out = Vec::new();
    write_v1(&mut out, None);
    assert_eq!(out, b"PROXY UNKNOWN\r\n");
    out.clear();
    write_v2(&mut out, None, named(b"id"));
    assert_eq!(out, v2(0x20, 0x00, &[]));
}

#[test]
fn ends_of_two_families_are_both_written_as_ipv6() {
    let mixed = ends("192.0.2.1:1", "[2001:db8::1]:2");
    let mut out = Vec::new();
    write_v1(&mut out, Some(mixed));
    assert_eq!(out, b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::1 1 2\r\n");
    assert_eq!(whole(&out).ends, Some(ends("[::ffff:192.0.2.1]:1", "[2001:db8::1]:2")));
}

#[test]
fn an_id_that_is_too_long_is_left_out() {
    let some = Some(ends("192.0.2.1:1", "192.0.2.2:2"));
    for (id, bytes) in [(0, 28), (1, 32), (UNIQUE_ID_BYTES, 31 + UNIQUE_ID_BYTES), (UNIQUE_ID_BYTES + 1, 28)]
    {
        let mut out = Vec::new();
        write_v2(&mut out, some, named(&vec![b'i'; id]));
        assert_eq!(whole(&out).bytes, bytes);
    }
}

fn named(unique_id: &[u8]) -> Fields<'_> {
    Fields { unique_id, ..Fields::default() }
}

#[test]
fn what_is_known_of_a_clients_tls_is_told() {
    let some = Some(ends("192.0.2.1:56324", "203.0.113.7:443"));
    let written = |tls| {
        let mut out = Vec::new();
        let fields = Fields { unique_id: b"id", authority: "a.b", protocol: b"http/1.1", tls };
        write_v2(&mut out, some, fields);
        assert_eq!(whole(&out).bytes, out.len());
        out
    };
    let known = [&FOUR[..], b"\x01\0\x08http/1.1", b"\x02\0\x03a.b", b"\x05\0\x02id"].concat();
    assert_eq!(written(None), v2(0x21, 0x11, &known));
    let without = Tls { version: "TLSv1.2", certificate: None };
    let field = b"\x20\0\x0f\x01\0\0\0\x01\x21\0\x07TLSv1.2";
    assert_eq!(written(Some(without)), v2(0x21, 0x11, &[&known[..], field].concat()));
    for (in_this_connection, client) in [(true, 7), (false, 5)] {
        let shown = Shown { in_this_connection, common_name: "alice" };
        let tls = Tls { version: "TLSv1.3", certificate: Some(shown) };
        let field = [&b"\x20\0\x17"[..], &[client], b"\0\0\0\0\x21\0\x07TLSv1.3\x22\0\x05alice"].concat();
        assert_eq!(written(Some(tls)), v2(0x21, 0x11, &[&known[..], &field].concat()));
    }
}

#[test]
fn text_that_is_too_long_is_left_out() {
    let mut out = Vec::new();
    let long = "a".repeat(256);
    let shown = Shown { in_this_connection: true, common_name: &long };
    let tls = Some(Tls { version: "TLSv1.3", certificate: Some(shown) });
    let fields = Fields { unique_id: b"", authority: &long, protocol: long.as_bytes(), tls };
    write_v2(&mut out, Some(ends("192.0.2.1:1", "192.0.2.2:2")), fields);
    assert_eq!(whole(&out).bytes, 16 + 12 + 3 + 5 + 3 + 7);
}

/// However much is there, it is the beginning of what it turns out to be, or that already.
fn judge_splits(bytes: &[u8]) {
    let at_last = parse(bytes);
    for end in 0..bytes.len() {
        let early = parse(&bytes[..end]);
        assert!(early == Ok(Parsed::Partial) || early == at_last, "{early:?} at {end}, then {at_last:?}");
        assert!(early != Ok(Parsed::Partial) || end < V2_BYTES);
    }
    if let Ok(Parsed::Whole(header)) = at_last {
        assert!(header.bytes <= bytes.len() && header.bytes <= V2_BYTES);
        assert_eq!(parse(&bytes[..header.bytes]), at_last);
        assert_eq!(parse(&bytes[..header.bytes - 1]), Ok(Parsed::Partial));
    }
}

fn end() -> impl Strategy<Value = SocketAddr> {
    let four = any::<[u8; 4]>().prop_map(IpAddr::from);
    let six = any::<[u8; 16]>().prop_map(IpAddr::from);
    (prop_oneof![four, six], any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(source in end(), destination in end(), id in vec(any::<u8>(), 0..140), more in vec(any::<u8>(), 0..9)) {
        let expected = Ends { source, destination }.of_one_family();
        for version in [1, 2] {
            let mut bytes = Vec::new();
            match version {
                1 => write_v1(&mut bytes, Some(expected)),
                _ => write_v2(&mut bytes, Some(expected), named(&id)),
            }
            let length = bytes.len();
            prop_assert!(version == 2 || length <= V1_BYTES);
            bytes.extend_from_slice(&more);
            prop_assert_eq!(parse(&bytes), Ok(Parsed::Whole(Header { ends: Some(expected), bytes: length })));
            judge_splits(&bytes);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..300)) {
        judge_splits(&bytes);
    }

    #[test]
    fn no_line_makes_it_panic(line in "PROXY (TCP4|TCP6|UNKNOWN|T)( [0-9a-f:.+]{0,12}){0,5}\r?\n?.{0,3}") {
        judge_splits(line.as_bytes());
    }

    #[test]
    fn no_block_makes_it_panic(command in 0x1e_u8..0x24, family in 0_u8..0x34, block in vec(any::<u8>(), 0..300)) {
        judge_splits(&v2(command, family, &block));
    }

    #[test]
    fn no_fields_make_it_panic(fields in vec((0_u8..6, vec(any::<u8>(), 0..6)), 0..6)) {
        let fields: Vec<u8> = fields.iter().flat_map(|(kind, value)| [&[*kind, 0, value.len() as u8][..], value].concat()).collect();
        judge_splits(&v2(0x21, 0x11, &[&FOUR[..], &fields].concat()));
    }
}
