//! What everup reads of an X.509 certificate itself (RFC 5280): whom it names, its subject as text, until when it is
//! valid. It verifies nothing: signatures, chains and purposes are the TLS library's.

#[cfg(test)]
mod tests;

use crate::calendar::days_since_1970;

/// What a certificate says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// The host names it is for, in lower case; a wildcard as `*.example`.
    pub names: Vec<String>,
    /// The subject as in RFC 4514, `CN=shop,O=Example`, most specific first; ASCII without controls, so that it fits
    /// a header line. What is not plain is escaped as `\XX`.
    pub subject: String,
    /// The subject's most specific common name, if it is text without control characters.
    pub common_name: Option<String>,
    /// The last moment it is valid, in seconds since 1970 UTC.
    pub not_after: i64,
}

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const BMP_STRING: u8 = 0x1e;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const DNS_NAME: u8 = 0x82;

const SUBJECT_ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];

const COMMON_NAME: &[u8] = &[0x55, 4, 3];

/// The attributes that RFC 4514 section 3 names, and the two more that people use.
const ATTRIBUTES: &[(&[u8], &str)] = &[
    (COMMON_NAME, "CN"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 9], "STREET"),
    (&[0x55, 4, 5], "SERIALNUMBER"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1], "EMAIL"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
];

/// Reads a certificate in DER. None: it is none.
pub fn read(der: &[u8]) -> Option<Certificate> {
    let mut outer = Der(der);
    let mut fields = Der(Der(outer.expect(SEQUENCE)?).expect(SEQUENCE)?);
    if fields.peek() == Some(VERSION) {
        fields.next()?;
    }
    fields.expect(INTEGER)?; // serial number
    fields.expect(SEQUENCE)?; // signature algorithm
    fields.expect(SEQUENCE)?; // issuer
    let mut validity = Der(fields.expect(SEQUENCE)?);
    validity.next()?;
    let not_after = time(validity.next()?)?;
    let (subject, common_name) = subject(fields.expect(SEQUENCE)?)?;
    fields.expect(SEQUENCE)?; // public key
    let mut names = Vec::new();
    while let Some((tag, content)) = fields.next() {
        if tag == EXTENSIONS {
            names = alternative_names(Der(content).expect(SEQUENCE)?)?;
        }
    }
    Some(Certificate { names, subject, common_name, not_after })
}

/// Elements one after the other.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The next element's tag and content; None at the end, or if it is malformed.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..0x80 => (usize::from(first), rest),
            0x81..=0x84 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
                (digits.iter().fold(0, |length, &digit| length << 8 | usize::from(digit)), rest)
            }
            0x80 | 0x85.. => return None, // no DER, or larger than anything we read
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    fn expect(&mut self, wanted: u8) -> Option<&'a [u8]> {
        self.next().filter(|(tag, _)| *tag == wanted).map(|(_, content)| content)
    }
}

fn alternative_names(extensions: &[u8]) -> Option<Vec<String>> {
    let mut extensions = Der(extensions);
    let mut names = Vec::new();
    while let Some((_, extension)) = extensions.next() {
        let mut extension = Der(extension);
        if extension.expect(OBJECT_IDENTIFIER)? != SUBJECT_ALTERNATIVE_NAME {
            continue;
        }
        // `critical` may stand between.
        let value = std::iter::from_fn(|| extension.next()).find(|(tag, _)| *tag == OCTET_STRING)?.1;
        let mut general = Der(Der(value).expect(SEQUENCE)?);
        while let Some((tag, name)) = general.next() {
            if tag == DNS_NAME && name.is_ascii() {
                names.push(String::from_utf8_lossy(name).to_ascii_lowercase());
            }
        }
    }
    Some(names)
}

/// As text, and its common name.
fn subject(name: &[u8]) -> Option<(String, Option<String>)> {
    let mut name = Der(name);
    let mut parts = Vec::new();
    let mut common_name = None;
    while !name.0.is_empty() {
        let mut set = Der(name.expect(SET)?);
        let mut several = Vec::new();
        while !set.0.is_empty() {
            let mut pair = Der(set.expect(SEQUENCE)?);
            let identifier = pair.expect(OBJECT_IDENTIFIER)?;
            let (tag, value) = pair.next()?;
            let value = text(tag, value);
            several.push(format!("{}={}", attribute(identifier), escaped(&value)));
            if identifier == COMMON_NAME {
                common_name = String::from_utf8(value).ok().filter(|name| !name.contains(char::is_control));
            }
        }
        parts.push(several.join("+"));
    }
    parts.reverse();
    Some((parts.join(","), common_name))
}

fn attribute(identifier: &[u8]) -> String {
    let known = ATTRIBUTES.iter().find(|(known, _)| *known == identifier);
    known.map_or_else(|| dotted(identifier), |(_, name)| (*name).to_owned())
}

/// `2.5.4.3`.
fn dotted(identifier: &[u8]) -> String {
    let mut numbers = Vec::new();
    let mut number = 0u64;
    for &byte in identifier {
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if numbers.is_empty() {
                let first = (number / 40).min(2);
                numbers.extend([first, number - 40 * first]);
            } else {
                numbers.push(number);
            }
            number = 0;
        }
    }
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(".")
}

/// The bytes of a string as UTF-8, where the kind of string says how.
fn text(tag: u8, value: &[u8]) -> Vec<u8> {
    if tag != BMP_STRING {
        return value.to_vec();
    }
    let units = value.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    char::decode_utf16(units)
        .map(|read| read.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect::<String>()
        .into()
}

/// RFC 4514 section 2.4, with everything that is not printable ASCII escaped too.
fn escaped(value: &[u8]) -> String {
    let mut out = String::new();
    for (at, &byte) in value.iter().enumerate() {
        let edge = at == 0 || at + 1 == value.len();
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' | b'=' => out.extend(['\\', char::from(byte)]),
            b'#' if at == 0 => out.push_str("\\#"),
            b' ' if edge => out.push_str("\\ "),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\{byte:02X}")),
        }
    }
    out
}

/// UTCTime `YYMMDDHHMMSSZ` or GeneralizedTime `YYYYMMDDHHMMSSZ` (RFC 5280 section 4.1.2.5).
fn time((tag, text): (u8, &[u8])) -> Option<i64> {
    let (year_digits, century) = match tag {
        UTC_TIME => (2, None),
        GENERALIZED_TIME => (4, Some(0)),
        _ => return None,
    };
    let digits = text.strip_suffix(b"Z").filter(|digits| digits.len() == year_digits + 10)?;
    let number = |digits: &[u8]| {
        digits.iter().try_fold(0i64, |number, digit| {
            digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0'))
        })
    };
    let (year, rest) = digits.split_at(year_digits);
    let year = number(year)?;
    let year = century.unwrap_or(if year < 50 { 2000 } else { 1900 }) + year;
    let mut parts = rest.chunks_exact(2).map(number);
    let mut part = || parts.next().flatten();
    let (month, day, hour, minute, second) = (part()?, part()?, part()?, part()?, part()?);
    if !(1..=12).contains(&month) {
        return None;
    }
    Some(((days_since_1970(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}
