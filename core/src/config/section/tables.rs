//! Sections in sections: one, several, or several with names.

use std::marker::PhantomData;

use toml::Spanned;
use toml::de::DeString;

use super::{Kind, NAME, Place, Settings, wrong_type};
use crate::config::reading::{Path, Reading, Table, Toml};
use crate::config::reference::SectionDoc;

/// Makes a `T` of the settings of a table; `None` if it told `Reading` a mistake that leaves nothing to go on with.
type Build<S, T> = fn(S, &Table<'_>, &mut Reading) -> Option<T>;

/// The settings are all there is to it.
pub(in crate::config) fn plain<S>(settings: S, _: &Table<'_>, _: &mut Reading) -> Option<S> {
    Some(settings)
}

/// One table.
pub(in crate::config) struct Inner<S, T> {
    build: Build<S, T>,
    settings: PhantomData<S>,
}

/// A section of its own.
pub(in crate::config) fn table<S: Settings, T>(build: Build<S, T>) -> Inner<S, T> {
    Inner { build, settings: PhantomData }
}

impl<S: Settings, T> Kind for Inner<S, T> {
    type Value = T;
    fn read(&self, value: &Toml<'_>, place: Place<'_>, reading: &mut Reading) -> Option<T> {
        let path = place.path.inside(place.key, false);
        read_table(self.build, path, value, place, reading)
    }
    fn name(&self) -> String {
        "table, a section of its own".to_owned()
    }
    fn describe(&self, parent: &Path, key: &str, sections: &mut Vec<SectionDoc>) {
        S::describe(&parent.inside(key, false), sections);
    }
}

/// Any number of sections of the same kind, in the order of the file.
pub(in crate::config) struct Inners<S, T> {
    build: Build<S, T>,
    most: usize,
    settings: PhantomData<S>,
}

/// `[[key]]`, at most `most` times.
pub(in crate::config) fn tables<S: Settings, T>(most: usize, build: Build<S, T>) -> Inners<S, T> {
    Inners { build, most, settings: PhantomData }
}

impl<S: Settings, T> Kind for Inners<S, T> {
    type Value = Vec<T>;
    fn read(&self, value: &Toml<'_>, place: Place<'_>, reading: &mut Reading) -> Option<Vec<T>> {
        let path = place.path.inside(place.key, true);
        let Some(elements) = value.get_ref().as_array() else {
            let hint = format!("write {path}, with double brackets: there can be several");
            wrong_type(value, place, "one or more tables", &hint, reading);
            return None;
        };
        refuse_too_many(elements.len(), self.most, elements.get(self.most), place, reading);
        let mut read = Vec::new();
        for element in elements.iter().take(self.most) {
            read.extend(read_table(self.build, path.clone(), element, place, reading));
        }
        Some(read)
    }
    fn name(&self) -> String {
        "tables, one for each".to_owned()
    }
    fn range(&self) -> String {
        format!("at most {}", self.most)
    }
    fn describe(&self, parent: &Path, key: &str, sections: &mut Vec<SectionDoc>) {
        S::describe(&parent.inside(key, true), sections);
    }
}

/// Sections of the same kind, each with a name that the operator gives.
pub(in crate::config) struct NamedInners<S, T> {
    build: Build<S, T>,
    most: usize,
    settings: PhantomData<S>,
}

/// `[key.NAME]`; the value holds `None` for each that could not be read, in the order of the file.
pub(in crate::config) fn named_tables<S: Settings, T>(most: usize, build: Build<S, T>) -> NamedInners<S, T> {
    NamedInners { build, most, settings: PhantomData }
}

impl<S: Settings, T> Kind for NamedInners<S, T> {
    type Value = Vec<Option<T>>;
    fn read(&self, value: &Toml<'_>, place: Place<'_>, reading: &mut Reading) -> Option<Vec<Option<T>>> {
        let path = place.path.inside(place.key, false);
        let Some(entries) = value.get_ref().as_table() else {
            wrong_type(value, place, "a table", &format!("write [{}.{NAME}]", place.key), reading);
            return None;
        };
        let mut entries: Vec<_> = entries.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        refuse_too_many(
            entries.len(),
            self.most,
            entries.get(self.most).map(|(_, entry)| *entry),
            place,
            reading,
        );
        let read = |(name, entry): (&Spanned<_>, &Toml<'_>)| {
            let name: &DeString<'_> = name.get_ref();
            read_table(self.build, path.inside(name, false), entry, Place { key: name, ..place }, reading)
        };
        Some(entries.into_iter().take(self.most).map(read).collect())
    }
    fn name(&self) -> String {
        "tables, each with a name".to_owned()
    }
    fn range(&self) -> String {
        format!("at most {}", self.most)
    }
    fn describe(&self, parent: &Path, key: &str, sections: &mut Vec<SectionDoc>) {
        S::describe(&parent.inside(key, false).inside(NAME, false), sections);
    }
}

fn refuse_too_many(
    count: usize,
    most: usize,
    first: Option<&Toml<'_>>,
    place: Place<'_>,
    reading: &mut Reading,
) {
    if let Some(first) = first {
        let message = format!("{count} tables `{}` are too many", place.key);
        reading.mistake(first.span(), message, format!("at most {most}"), place.reason);
    }
}

fn read_table<S: Settings, T>(
    build: Build<S, T>,
    path: Path,
    value: &Toml<'_>,
    place: Place<'_>,
    reading: &mut Reading,
) -> Option<T> {
    let Some(entries) = value.get_ref().as_table() else {
        let hint = format!("write {path}, or {} = {{ … }}", place.key);
        wrong_type(value, place, "a table", &hint, reading);
        return None;
    };
    let table = Table { path, span: value.span(), entries };
    let settings = S::read(&table, reading)?;
    build(settings, &table, reading)
}
