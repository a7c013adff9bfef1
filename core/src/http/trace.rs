//! W3C Trace Context, as far as a proxy must read it: is there one valid `traceparent`?

/// What a head says of its trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Parent {
    /// No `traceparent`.
    #[default]
    Absent,
    /// One, and it is valid.
    Valid,
    /// Several, or one that is not valid: none that counts (section 4.3).
    Invalid,
}

impl Parent {
    /// With one more line of this value.
    pub(super) fn and(self, value: &[u8]) -> Self {
        match self {
            Self::Absent if is_valid(value) => Self::Valid,
            Self::Absent | Self::Valid | Self::Invalid => Self::Invalid,
        }
    }
}

/// `version "-" trace-id "-" parent-id "-" trace-flags`, in lower case, no id of zeros; a later version may go on after a
/// further hyphen (section 3.2).
fn is_valid(value: &[u8]) -> bool {
    let Some((known, more)) = value.split_at_checked(55) else { return false };
    let hex = |part: &[u8]| part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_zero = |part: &[u8]| part.iter().all(|&byte| byte == b'0');
    let (version, trace, parent, flags) = (&known[..2], &known[3..35], &known[36..52], &known[53..]);
    let ends_well = more.is_empty() || (version != b"00" && more[0] == b'-');
    [2, 35, 52].iter().all(|&at| known[at] == b'-')
        && [version, trace, parent, flags].into_iter().all(hex)
        && version != b"ff"
        && !is_zero(trace)
        && !is_zero(parent)
        && ends_well
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_parent_by_the_letter_is_valid() {
        assert!(is_valid(GOOD.as_bytes()));
        let later = format!("cc{}-what-the-future-brings", &GOOD[2..]);
        assert!(is_valid(later.as_bytes()));
    }

    #[test]
    fn every_other_one_is_not() {
        let zeros = |from: usize, to: usize| {
            let mut text = GOOD.to_owned();
            text.replace_range(from..to, &"0".repeat(to - from));
            text
        };
        let bad = [
            String::new(),
            "nonsense".to_owned(),
            GOOD[..54].to_owned(),
            format!("{GOOD}-x"),
            format!("{GOOD}0"),
            GOOD.to_uppercase(),
            format!("ff{}", &GOOD[2..]),
            format!("cc{}x", &GOOD[2..]),
            GOOD.replace('-', "_"),
            GOOD.replace('b', "g"),
            zeros(3, 35),
            zeros(36, 52),
        ];
        for text in bad {
            assert!(!is_valid(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn two_lines_are_none_that_counts() {
        assert_eq!(Parent::Absent.and(GOOD.as_bytes()).and(GOOD.as_bytes()), Parent::Invalid);
    }
}
