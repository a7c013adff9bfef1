//! That a line is valid JSON and says what is true, whatever bytes come.

use std::time::SystemTime;

use super::*;

fn string(text: &[u8]) -> String {
    let mut out = Vec::new();
    text_or_null(&mut out, text);
    String::from_utf8(out).unwrap()
}

#[test]
fn any_bytes_become_a_json_string() {
    assert_eq!(string(b""), "null");
    assert_eq!(string(b"/path"), "\"/path\"");
    assert_eq!(string(b"a\"b\\c"), r#""a\"b\\c""#);
    assert_eq!(string(b"\0\n\x1b\x7f"), r#""\u0000\u000a\u001b\u007f""#);
    assert_eq!(string("é€".as_bytes()), "\"é€\"");
    assert_eq!(string(b"a\xff\xfeb\xe2\x82"), r#""a\ufffd\ufffdb\ufffd""#);
}

#[test]
fn no_byte_becomes_more_than_six() {
    for byte in 0..=u8::MAX {
        assert!(string(&[byte]).len() <= 2 + 6, "{byte}");
    }
}

#[test]
fn times_are_rfc_3339() {
    let text = |seconds: u64, ms: u64| {
        let (mut out, mut second) = (Vec::new(), Second::default());
        write_time(&mut out, &mut second, Duration::from_millis(seconds * 1000 + ms));
        String::from_utf8(out).unwrap()
    };
    assert_eq!(text(0, 0), "1970-01-01T00:00:00.000Z");
    assert_eq!(text(951_782_400, 7), "2000-02-29T00:00:00.007Z");
    assert_eq!(text(951_868_800, 70), "2000-03-01T00:00:00.070Z");
    assert_eq!(text(1_735_689_599, 999), "2024-12-31T23:59:59.999Z");
    assert_eq!(text(1_763_812_706, 123), "2025-11-22T11:58:26.123Z");
    assert_eq!(text(4_102_444_800, 0), "2100-01-01T00:00:00.000Z");
}

#[test]
fn numbers_and_milliseconds_are_exact() {
    let mut out = Vec::new();
    digits(&mut out, 0);
    digits(&mut out, u64::MAX);
    milliseconds(&mut out, b" ", Duration::from_micros(1_234));
    milliseconds(&mut out, b" ", Duration::from_micros(30));
    milliseconds(&mut out, b" ", Duration::from_millis(5));
    assert_eq!(String::from_utf8(out).unwrap(), "018446744073709551615 1.234 0.030 5");
}

#[test]
fn a_line_tells_everything_and_what_is_unknown_is_null() {
    let mut out = Vec::new();
    let note = Note::default();
    let entry = Entry {
        time: SystemTime::UNIX_EPOCH.elapsed().unwrap(),
        id: "",
        client: "::1",
        tls: None,
        note,
        listener: 0,
        route: None,
        service: None,
        instance: None,
        generation: 3,
        attempts: 0,
        status: 400,
        bytes_in: 0,
        bytes_out: 0,
        phases: Phases::default(),
        verdict: Verdict::Refused,
    };
    write(&mut out, &mut Second::default(), &entry);
    let line = String::from_utf8(out).unwrap();
    let (_, rest) = line.split_once("Z\",").unwrap();
    assert_eq!(
        rest,
        "\"id\":null,\"client\":\"::1\",\"tls\":null,\"method\":null,\"host\":null,\"path\":null,\"listener\":1,\"route\":null,\
         \"service\":null,\"instance\":null,\"table\":3,\"attempts\":0,\"status\":400,\"bytes_in\":0,\"bytes_out\":0,\
         \"ms\":0,\"parked_ms\":0,\"queued_ms\":0,\"tried_ms\":0,\"connect_ms\":0,\"first_byte_ms\":0,\"last_byte_ms\":0,\
         \"verdict\":\"refused\"}\n"
    );
}
