//! Quantities with a unit, as they are written in the file: `500ms`, `16KiB`, `10%`. Whole numbers only; nothing is guessed.

use super::reading::Refusal;

/// The units of one quantity.
#[derive(Debug)]
pub(super) struct Units {
    /// What the quantity is called in a message.
    pub(super) what: &'static str,
    /// Ascending; a unit is worth so many of the first one.
    known: &'static [(&'static str, u64)],
    /// What people write instead (lower case), and the unit that they most likely mean.
    mistaken: &'static [(&'static str, &'static str)],
    /// The unit of examples.
    usual: &'static str,
    /// The unit that a bare number most likely has, and that zero is shown in.
    bare: &'static str,
}

pub(super) const TIME: Units = Units {
    what: "duration",
    known: &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)],
    mistaken: &[
        ("msec", "ms"),
        ("millis", "ms"),
        ("milliseconds", "ms"),
        ("sec", "s"),
        ("secs", "s"),
        ("second", "s"),
        ("seconds", "s"),
        ("min", "m"),
        ("mins", "m"),
        ("minute", "m"),
        ("minutes", "m"),
        ("hour", "h"),
        ("hours", "h"),
    ],
    usual: "s",
    bare: "s",
};

pub(super) const KIB: u64 = 1 << 10;
pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;

pub(super) const SIZE: Units = Units {
    what: "size",
    known: &[("B", 1), ("KiB", KIB), ("MiB", MIB), ("GiB", GIB)],
    mistaken: &[
        ("bytes", "B"),
        ("k", "KiB"),
        ("ki", "KiB"),
        ("kb", "KiB"),
        ("m", "MiB"),
        ("mi", "MiB"),
        ("mb", "MiB"),
        ("g", "GiB"),
        ("gi", "GiB"),
        ("gb", "GiB"),
    ],
    usual: "KiB",
    bare: "B",
};

pub(super) const RATE: Units = Units {
    what: "rate",
    known: &[("B/s", 1), ("KiB/s", KIB), ("MiB/s", MIB), ("GiB/s", GIB)],
    mistaken: &[
        ("b", "B/s"),
        ("kib", "KiB/s"),
        ("kb", "KiB/s"),
        ("kb/s", "KiB/s"),
        ("kbps", "KiB/s"),
        ("mib", "MiB/s"),
        ("mb", "MiB/s"),
        ("mb/s", "MiB/s"),
        ("mbps", "MiB/s"),
    ],
    usual: "KiB/s",
    bare: "B/s",
};

pub(super) const PERCENT: Units = Units {
    what: "percentage",
    known: &[("%", 1)],
    mistaken: &[("percent", "%"), ("pct", "%")],
    usual: "%",
    bare: "%",
};

impl Units {
    /// The quantity in the first unit (milliseconds, bytes, percent).
    pub(super) fn parse(&self, text: &str) -> Result<u64, Refusal> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let unit = unit.trim_start();
        if number.is_empty() {
            let label = format!("not a {}", self.what);
            return Err(Refusal { label, hint: format!("write it like \"10{}\"", self.usual) });
        }
        if unit.starts_with(['.', ',']) {
            let label = "not a whole number".to_owned();
            return Err(Refusal {
                label,
                hint: format!("write a whole number of a smaller unit ({})", self.list()),
            });
        }
        let Some(&(_, worth)) = self.known.iter().find(|(name, _)| *name == unit) else {
            return Err(self.wrong_unit(number, unit));
        };
        let too_large =
            || Refusal { label: "too large".to_owned(), hint: "write a smaller number".to_owned() };
        number.parse::<u64>().ok().and_then(|number| number.checked_mul(worth)).ok_or_else(too_large)
    }

    fn wrong_unit(&self, number: &str, unit: &str) -> Refusal {
        let label = if unit.is_empty() { "has no unit".to_owned() } else { format!("unknown unit `{unit}`") };
        let lower = unit.to_ascii_lowercase();
        let mistaken = self.mistaken.iter().find(|(wrong, _)| *wrong == lower).map(|(_, right)| *right);
        let other_case =
            self.known.iter().map(|(name, _)| *name).find(|name| name.eq_ignore_ascii_case(unit));
        let right = mistaken.or(other_case).unwrap_or(self.bare);
        Refusal { label, hint: format!("write \"{number}{right}\" (units: {})", self.list()) }
    }

    /// The quantity in the largest unit that divides it: what [`parse`](Self::parse) reads back.
    pub(super) fn text(&self, quantity: u64) -> String {
        if quantity == 0 {
            return format!("0{}", self.bare);
        }
        let (name, worth) = self
            .known
            .iter()
            .rev()
            .find(|(_, worth)| quantity.is_multiple_of(*worth))
            .expect("the first unit is worth 1 and divides everything");
        format!("{}{name}", quantity / worth)
    }

    fn list(&self) -> String {
        self.known.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }
}
