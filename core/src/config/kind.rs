//! The kinds of values that settings take: numbers, quantities, words, lists. What only one section knows stands there.

mod list;
mod text;

use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

pub(super) use list::{list, pairs};
pub(super) use text::{Text, network, own_address, parse_address, path, text, word};

use super::nearest::nearest;
use super::reading::{Path, Reading, Refusal, Toml};
use super::reference::SectionDoc;
use super::section::{Kind, Place, wrong_type};
use super::units::{PERCENT, RATE, SIZE, TIME, Units};

fn refuse(value: &Toml<'_>, place: Place<'_>, problem: &str, refusal: Refusal, reading: &mut Reading) {
    reading.mistake(value.span(), format!("{place} {problem}"), refusal.label, refusal.hint);
}

fn out_of_range(value: &Toml<'_>, place: Place<'_>, range: &str, reading: &mut Reading) {
    refuse(value, place, "is out of range", Refusal::new(format!("must be {range}"), place.reason), reading);
}

/// A whole number.
pub(super) struct Integer<T> {
    range: RangeInclusive<u64>,
    into: PhantomData<T>,
}

/// A whole number of this range.
pub(super) fn integer<T: TryFrom<u64>>(range: RangeInclusive<u64>) -> Integer<T> {
    Integer { range, into: PhantomData }
}

impl<T: TryFrom<u64>> Kind for Integer<T> {
    type Value = T;
    fn read(&self, value: &Toml<'_>, place: Place<'_>, reading: &mut Reading) -> Option<T> {
        let DeValue::Integer(number) = value.get_ref() else {
            let bare = value.get_ref().as_str().filter(|text| text.parse::<u64>().is_ok());
            let hint = bare.map_or_else(
                || format!("{}, without quotes", self.range()),
                |text| format!("write {text}, without quotes"),
            );
            wrong_type(value, place, "a whole number", &hint, reading);
            return None;
        };
        let number = u64::from_str_radix(number.as_str(), number.radix()).ok();
        let number =
            number.filter(|number| self.range.contains(number)).and_then(|number| T::try_from(number).ok());
        if number.is_none() {
            out_of_range(value, place, &self.range(), reading);
        }
        number
    }
    fn name(&self) -> String {
        "whole number".to_owned()
    }
    fn range(&self) -> String {
        format!("{} to {}", self.range.start(), self.range.end())
    }
}

/// A number with a unit.
pub(super) struct Quantity<T> {
    units: &'static Units,
    range: RangeInclusive<u64>,
    into: fn(u64) -> T,
}

/// A duration; the range is in milliseconds.
pub(super) fn duration(range: RangeInclusive<u64>) -> Quantity<Duration> {
    Quantity { units: &TIME, range, into: Duration::from_millis }
}

/// A number of bytes that are kept in memory.
pub(super) fn memory(range: RangeInclusive<u64>) -> Quantity<usize> {
    Quantity { units: &SIZE, range, into: |bytes| usize::try_from(bytes).unwrap_or(usize::MAX) }
}

/// A number of bytes.
pub(super) fn size(range: RangeInclusive<u64>) -> Quantity<u64> {
    Quantity { units: &SIZE, range, into: |bytes| bytes }
}

/// A number of bytes per second.
pub(super) fn rate(range: RangeInclusive<u64>) -> Quantity<u64> {
    Quantity { units: &RATE, range, into: |rate| rate }
}

/// A percentage.
pub(super) fn percent(range: RangeInclusive<u32>) -> Quantity<u32> {
    let range = u64::from(*range.start())..=u64::from(*range.end());
    Quantity { units: &PERCENT, range, into: |percent| u32::try_from(percent).unwrap_or(u32::MAX) }
}

impl<T> Kind for Quantity<T> {
    type Value = T;
    fn read(&self, value: &Toml<'_>, place: Place<'_>, reading: &mut Reading) -> Option<T> {
        let parsed = match value.get_ref() {
            DeValue::String(text) => self.units.parse(text),
            DeValue::Integer(number) if number.radix() == 10 => self.units.parse(number.as_str()),
            _ => {
                let hint = format!("write it like {}", self.example());
                wrong_type(value, place, &format!("a {}", self.units.what), &hint, reading);
                return None;
            }
        };
        match parsed {
            Ok(quantity) if self.range.contains(&quantity) => Some((self.into)(quantity)),
            Ok(_) => {
                out_of_range(value, place, &self.range(), reading);
                None
            }
            Err(refusal) => {
                refuse(value, place, &format!("is not a {}", self.units.what), refusal, reading);
                None
            }
        }
    }
    fn name(&self) -> String {
        self.units.what.to_owned()
    }
    fn range(&self) -> String {
        format!("{} to {}", self.units.text(*self.range.start()), self.units.text(*self.range.end()))
    }
}

impl<T> Quantity<T> {
    fn example(&self) -> String {
        format!("\"{}\"", self.units.text(*self.range.end()))
    }
}

/// A word that stands for "none", or a value.
pub(super) struct OrWord<K> {
    word: &'static str,
    kind: K,
}

/// What people write for "none".
const NONE_WORDS: [&str; 8] = ["", "none", "no", "never", "false", "disabled", "infinite", "infinity"];

/// `None` is written as `word`.
pub(super) fn or_word<K: Kind>(word: &'static str, kind: K) -> OrWord<K> {
    OrWord { word, kind }
}

impl<K: Kind> Kind for OrWord<K> {
    type Value = Option<K::Value>;
    fn read(&self, value: &Toml<'_>, place: Place<'_>, reading: &mut Reading) -> Option<Self::Value> {
        let text = value.get_ref().as_str();
        if text == Some(self.word) {
            return Some(None);
        }
        let meant = match text {
            Some(text) => NONE_WORDS.contains(&text) || nearest(text, [self.word]).is_some(),
            None => value.get_ref().as_bool() == Some(false),
        };
        if meant {
            let refusal = Refusal::new("unknown word", format!("did you mean \"{}\"?", self.word));
            refuse(
                value,
                place,
                &format!("is neither {} nor \"{}\"", with_article(&self.kind.name()), self.word),
                refusal,
                reading,
            );
            return None;
        }
        self.kind.read(value, place, reading).map(Some)
    }
    fn name(&self) -> String {
        format!("{}, or `\"{}\"`", self.kind.name(), self.word)
    }
    fn range(&self) -> String {
        self.kind.range()
    }
    fn describe(&self, parent: &Path, key: &str, sections: &mut Vec<SectionDoc>) {
        self.kind.describe(parent, key, sections);
    }
}

fn with_article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {noun}")
}

/// A value that may be left out.
pub(super) struct Optional<K>(K);

/// `None` if it is not written.
pub(super) fn optional<K: Kind>(kind: K) -> Optional<K> {
    Optional(kind)
}

impl<K: Kind> Kind for Optional<K> {
    type Value = Option<K::Value>;
    fn read(&self, value: &Toml<'_>, place: Place<'_>, reading: &mut Reading) -> Option<Self::Value> {
        self.0.read(value, place, reading).map(Some)
    }
    fn name(&self) -> String {
        self.0.name()
    }
    fn range(&self) -> String {
        self.0.range()
    }
    fn unset(&self) -> Option<Self::Value> {
        Some(None)
    }
    fn describe(&self, parent: &Path, key: &str, sections: &mut Vec<SectionDoc>) {
        self.0.describe(parent, key, sections);
    }
}

/// One of some words.
pub(super) struct Choice<T: 'static> {
    words: &'static [(&'static str, T)],
    later: &'static [&'static str],
}

/// One of `words`. Those of `later` are for a later version; one with a colon stands for all that begin so.
pub(super) fn choice<T: Copy>(
    words: &'static [(&'static str, T)],
    later: &'static [&'static str],
) -> Choice<T> {
    Choice { words, later }
}

impl<T: Copy> Kind for Choice<T> {
    type Value = T;
    fn read(&self, value: &Toml<'_>, place: Place<'_>, reading: &mut Reading) -> Option<T> {
        let Some(text) = value.get_ref().as_str() else {
            wrong_type(value, place, "a string", &format!("one of {}", self.list()), reading);
            return None;
        };
        if let Some((_, meaning)) = self.words.iter().find(|(word, _)| *word == text) {
            return Some(*meaning);
        }
        let head = text.split(':').next();
        if self.later.iter().any(|later| later.split(':').next() == head) {
            let message = format!("{} = \"{text}\" is not in this version yet", place.key);
            reading.mistake(
                value.span(),
                message,
                "not in this version yet",
                format!("one of {}", self.list()),
            );
            return None;
        }
        let near = nearest(text, self.words.iter().map(|(word, _)| *word));
        let hint = near
            .map_or_else(|| format!("one of {}", self.list()), |near| format!("did you mean \"{near}\"?"));
        reading.mistake(
            value.span(),
            format!("unknown value \"{text}\" for `{}`", place.key),
            "unknown value",
            hint,
        );
        None
    }
    fn name(&self) -> String {
        "word".to_owned()
    }
    fn range(&self) -> String {
        let words: Vec<String> = self.words.iter().map(|(word, _)| format!("`\"{word}\"`")).collect();
        if self.later.is_empty() {
            return words.join(", ");
        }
        let later: Vec<String> = self.later.iter().map(|word| format!("`\"{word}\"`")).collect();
        format!("{} (not in this version yet: {})", words.join(", "), later.join(", "))
    }
}

impl<T> Choice<T> {
    fn list(&self) -> String {
        self.words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
    }
}

/// `true` or `false`.
pub(super) struct Flag;

/// Yes or no.
pub(super) fn flag() -> Flag {
    Flag
}

impl Kind for Flag {
    type Value = bool;
    fn read(&self, value: &Toml<'_>, place: Place<'_>, reading: &mut Reading) -> Option<bool> {
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            wrong_type(value, place, "true or false", "write it without quotes", reading);
        }
        flag
    }
    fn name(&self) -> String {
        "`true` or `false`".to_owned()
    }
}

/// `true`, if written at all.
pub(super) struct True;

impl Kind for True {
    type Value = ();
    fn read(&self, value: &Toml<'_>, place: Place<'_>, reading: &mut Reading) -> Option<()> {
        if value.get_ref().as_bool() != Some(true) {
            wrong_type(value, place, "true", "write true, or leave it out", reading);
            return None;
        }
        Some(())
    }
    fn name(&self) -> String {
        "`true`".to_owned()
    }
}
