//! Several values: lists, and tables of strings whose keys are the operator's.

use std::marker::PhantomData;
use std::ops::RangeInclusive;

use toml::de::DeValue;

use super::{out_of_range, refuse};
use crate::config::reading::{Path, Reading, Refusal, Toml};
use crate::config::reference::SectionDoc;
use crate::config::section::{Kind, Place, wrong_type};

/// A list.
pub(in crate::config) struct List<K> {
    kind: K,
    sizes: RangeInclusive<usize>,
}

/// So many values of a kind.
pub(in crate::config) fn list<K: Kind>(sizes: RangeInclusive<usize>, kind: K) -> List<K> {
    List { kind, sizes }
}

impl<K: Kind> Kind for List<K> {
    type Value = Vec<K::Value>;
    fn read(&self, value: &Toml<'_>, place: Place<'_>, reading: &mut Reading) -> Option<Self::Value> {
        let Some(elements) = value.get_ref().as_array() else {
            let hint = match value.get_ref().as_str() {
                Some(text) => format!("write [\"{}\"]", text.escape_default()),
                None => "write […]".to_owned(),
            };
            wrong_type(value, place, "a list", &hint, reading);
            return None;
        };
        if !self.sizes.contains(&elements.len()) {
            let label =
                if elements.is_empty() { "empty".to_owned() } else { format!("{} of them", elements.len()) };
            refuse(
                value,
                place,
                &format!("takes {}", self.sizes_in_words()),
                Refusal::new(label, place.reason),
                reading,
            );
            return None;
        }
        let each = Place { element: true, ..place };
        // Those that can be read stand in for all, so that reading goes on.
        Some(elements.iter().filter_map(|element| self.kind.read(element, each, reading)).collect())
    }
    fn name(&self) -> String {
        format!("list, each: {}", self.kind.name())
    }
    fn range(&self) -> String {
        let each = self.kind.range();
        if each.is_empty() {
            self.sizes_in_words()
        } else {
            format!("{}; each: {each}", self.sizes_in_words())
        }
    }
    fn describe(&self, parent: &Path, key: &str, sections: &mut Vec<SectionDoc>) {
        self.kind.describe(parent, key, sections);
    }
}

impl<K> List<K> {
    fn sizes_in_words(&self) -> String {
        format!("{} to {} values", self.sizes.start(), self.sizes.end())
    }
}

/// Reads a key and its value.
pub(in crate::config) type ReadPair = fn(&str, &str) -> Result<(String, String), Refusal>;

/// A table of strings whose keys are the operator's.
pub(in crate::config) struct Pairs<C> {
    name: &'static str,
    range: &'static str,
    most: usize,
    read: ReadPair,
    into: PhantomData<C>,
}

/// At most `most` strings, each of which `read` reads with its key.
pub(in crate::config) fn pairs<C: FromIterator<(String, String)>>(
    name: &'static str,
    range: &'static str,
    most: usize,
    read: ReadPair,
) -> Pairs<C> {
    Pairs { name, range, most, read, into: PhantomData }
}

impl<C: FromIterator<(String, String)>> Kind for Pairs<C> {
    type Value = C;
    fn read(&self, value: &Toml<'_>, place: Place<'_>, reading: &mut Reading) -> Option<C> {
        let Some(entries) = value.get_ref().as_table() else {
            let hint = format!("write {} = {{ name = \"value\" }}", place.key);
            wrong_type(value, place, "a table", &hint, reading);
            return None;
        };
        if entries.len() > self.most {
            out_of_range(value, place, &format!("at most {}", self.most), reading);
        }
        let mut read = Vec::new();
        for (key, value) in entries.iter() {
            let Some(text) = pair_value(value, Place { key: key.get_ref(), ..place }, reading) else {
                continue;
            };
            match (self.read)(key.get_ref(), text) {
                Ok(pair) => read.push(pair),
                Err(refusal) => {
                    let message = format!("`{}` cannot stand in `{}`", key.get_ref(), place.key);
                    let span = key.span().start..value.span().end.max(key.span().end);
                    reading.mistake(span, message, refusal.label, refusal.hint);
                }
            }
        }
        Some(read.into_iter().collect())
    }
    fn name(&self) -> String {
        self.name.to_owned()
    }
    fn range(&self) -> String {
        format!("at most {}; {}", self.most, self.range)
    }
}

fn pair_value<'v>(value: &'v Toml<'_>, place: Place<'_>, reading: &mut Reading) -> Option<&'v str> {
    let text = value.get_ref().as_str();
    if text.is_none() {
        let hint = match value.get_ref() {
            DeValue::Integer(number) if number.radix() == 10 => format!("write \"{}\"", number.as_str()),
            DeValue::Boolean(truth) => format!("write \"{truth}\""),
            _ => "write it in quotes".to_owned(),
        };
        wrong_type(value, place, "a string", &hint, reading);
    }
    text
}
