//! Certificates as openssl makes them, cut and changed everywhere, and the parts that are easily got wrong.

use super::*;

/// Made with openssl: C=DE, O="Ex, ample=1", CN=shöp, two DNS names and an IP address.
const SHOP: &[u8] = include_bytes!("tests/shop.der");

#[test]
fn a_certificate_tells_its_names_subject_and_end() {
    let expected = Certificate {
        names: vec!["shop.example".to_owned(), "*.shop.example".to_owned()],
        subject: r"CN=sh\C3\B6p,O=Ex\, ample\=1,C=DE".to_owned(),
        common_name: Some("shöp".to_owned()),
        not_after: 2110709242,
    };
    assert_eq!(read(SHOP), Some(expected));
}

#[test]
fn what_is_cut_off_anywhere_is_no_certificate_and_no_changed_byte_makes_reading_panic() {
    for length in 0..SHOP.len() {
        assert_eq!(read(&SHOP[..length]), None, "{length} bytes");
    }
    for at in 0..SHOP.len() {
        for value in [0, 0x30, 0x7f, 0x80, 0x84, 0xff] {
            let mut changed = SHOP.to_vec();
            changed[at] = value;
            if let Some(certificate) = read(&changed) {
                assert!(certificate.subject.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            }
        }
    }
}

#[test]
fn times_of_both_kinds_are_read() {
    for (tag, text, seconds) in [
        (UTC_TIME, "700101000000Z", Some(0)),
        (UTC_TIME, "491231235959Z", Some(2_524_607_999)),
        (UTC_TIME, "500101000000Z", Some(-631_152_000)),
        (GENERALIZED_TIME, "20000229120000Z", Some(951_825_600)),
        (GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799)),
        (UTC_TIME, "700101000000", None),
        (UTC_TIME, "701301000000Z", None),
        (UTC_TIME, "7001010000x0Z", None),
        (GENERALIZED_TIME, "700101000000Z", None),
    ] {
        assert_eq!(time((tag, text.as_bytes())), seconds, "{text}");
    }
}

#[test]
fn a_subject_can_neither_end_its_header_line_nor_pretend_to_have_other_parts() {
    for (value, wanted) in [
        ("a\r\nX: y", r"a\0D\0AX: y"),
        (" lead and trail ", r"\ lead and trail\ "),
        ("#1", r"\#1"),
        ("x,CN=admin+a;\"\\", r#"x\,CN\=admin\+a\;\"\\"#),
        ("\0\u{7f}", r"\00\7F"),
        ("", ""),
    ] {
        assert_eq!(escaped(value.as_bytes()), wanted);
    }
    assert_eq!(dotted(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d]), "1.2.840.113549");
}
