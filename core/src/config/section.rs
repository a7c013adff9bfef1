//! How a section of the file is declared: once, as a struct whose fields carry kind, default and reason. Reading the section,
//! finding its unknown keys and describing it in the reference all come from that one declaration, so that none of them can
//! know a setting that another does not.
//!
//! ```text
//! section! {
//!     /// What the section is for.
//!     pub struct Park {
//!         /// What the setting does.
//!         pub time: Duration = duration(0, 600_000), default "10s", because "why this default and range";
//!     }
//!     later { a_key_of_a_later_version, another = "the harmless value that is taken" }
//! }
//! ```
//! The key is the name of the field, or stands after `as`. `default` is TOML text, or `required`, or `unset "what then happens"`.

mod tables;

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

pub(super) use tables::{Inner, named_tables, plain, table, tables};

use super::nearest::nearest;
use super::reading::{Path, Reading, Table, Toml};
use super::reference::{LaterDoc, SectionDoc, SettingDoc, reference};

/// Stands for the name that the operator gives (of a service) in paths of the reference.
pub(super) const NAME: &str = "NAME";

/// What values a setting takes.
pub(super) trait Kind {
    type Value;
    /// `None`: the value is no good, and `reading` was told why.
    fn read(&self, value: &Toml<'_>, place: Place<'_>, reading: &mut Reading) -> Option<Self::Value>;
    /// In the words of the operator: "duration", "list of addresses".
    fn name(&self) -> String;
    /// Which values of that kind.
    fn range(&self) -> String {
        String::new()
    }
    /// The value of a setting that is not written and has no default.
    fn unset(&self) -> Option<Self::Value> {
        None
    }
    /// Describes the sections that a setting of this kind opens.
    fn describe(&self, _parent: &Path, _key: &str, _sections: &mut Vec<SectionDoc>) {}
}

/// The setting that a value is read for.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) path: &'a Path,
    pub(super) key: &'a str,
    pub(super) reason: &'static str,
    /// The value is one of several that stand in a list.
    pub(super) element: bool,
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.element {
            false => write!(f, "`{}`", self.key),
            true => write!(f, "this value of `{}`", self.key),
        }
    }
}

/// A struct declared by [`section!`].
pub(super) trait Settings: Sized {
    fn read(table: &Table<'_>, reading: &mut Reading) -> Option<Self>;
    fn describe(path: &Path, sections: &mut Vec<SectionDoc>);
}

/// A setting but for its kind.
pub(super) struct Rule {
    pub(super) key: &'static str,
    pub(super) fallback: Fallback,
    pub(super) help: &'static str,
    pub(super) reason: &'static str,
}

/// What holds if a setting is not written.
pub(super) enum Fallback {
    Required,
    /// Nothing; in words, what happens then.
    Unset(&'static str),
    /// This TOML text.
    Toml(&'static str),
}

/// A key that a later version will know.
pub(super) struct Later {
    pub(super) key: &'static str,
    pub(super) accepted: Option<&'static str>,
}

macro_rules! fallback {
    (required) => {
        $crate::config::section::Fallback::Required
    };
    (unset $then:literal) => {
        $crate::config::section::Fallback::Unset($then)
    };
    ($toml:tt) => {
        $crate::config::section::Fallback::Toml(stringify!($toml))
    };
}

macro_rules! section {
    (
        $(#[doc = $help:literal])+
        $visibility:vis struct $name:ident {
            $(
                $(#[doc = $text:literal])+
                $visible:vis $field:ident $(as $key:ident)?: $type:ty = $kind:expr,
                default $default:tt $($then:literal)?,
                because $reason:literal;
            )*
        }
        $(later { $($later:ident $(= $accepted:tt)?),* $(,)? })?
    ) => {
        $(#[doc = $help])+
        #[derive(Clone, Debug, PartialEq, Eq)]
        $visibility struct $name {
            $( $(#[doc = $text])+ $visible $field: $type, )*
        }

        impl $name {
            const LATER: &'static [$crate::config::section::Later] = &[$($(
                $crate::config::section::Later {
                    key: stringify!($later),
                    accepted: [$(Some(stringify!($accepted)),)? None][0],
                },
            )*)?];

            $(
                fn $field() -> $crate::config::section::Rule {
                    $crate::config::section::Rule {
                        key: [$(stringify!($key),)? stringify!($field)][0],
                        fallback: $crate::config::section::fallback!($default $($then)?),
                        help: concat!($($text),+),
                        reason: $reason,
                    }
                }
            )*
        }

        impl $crate::config::section::Settings for $name {
            fn read(
                table: &$crate::config::reading::Table<'_>,
                reading: &mut $crate::config::reading::Reading,
            ) -> Option<Self> {
                use $crate::config::section;
                section::refuse_unknown_keys(table, &[$(Self::$field().key),*], Self::LATER, reading);
                $( let $field = section::read_setting(&$kind, &Self::$field(), table, reading); )*
                Some(Self { $($field: $field?),* })
            }

            fn describe(
                path: &$crate::config::reading::Path,
                sections: &mut Vec<$crate::config::reference::SectionDoc>,
            ) {
                use $crate::config::section;
                sections.push($crate::config::reference::SectionDoc {
                    path: section::shown(path),
                    help: section::prose(concat!($($help),+)),
                    settings: vec![$( section::describe_setting::<$type, _>(&$kind, &Self::$field()) ),*],
                    later: section::describe_later(Self::LATER),
                });
                $( section::describe_inner::<$type, _>(&$kind, path, Self::$field().key, sections); )*
            }
        }
    };
}
pub(super) use {fallback, section};

/// Reads one setting. Its fallback also stands in for a bad value, so that reading goes on and finds the other mistakes.
pub(super) fn read_setting<K: Kind>(
    kind: &K,
    rule: &Rule,
    table: &Table<'_>,
    reading: &mut Reading,
) -> Option<K::Value> {
    let place = Place { path: &table.path, key: rule.key, reason: rule.reason, element: false };
    match table.entries.get(rule.key) {
        Some(written) => {
            let value = kind.read(written, place, reading);
            if value.is_some() {
                return value;
            }
        }
        None if matches!(rule.fallback, Fallback::Required) => reading.missing_keys(
            table,
            &[rule.key],
            format!("{} has no `{}`", table.path, rule.key),
            format!("`{}` is missing", rule.key),
            format!("add `{}` ({}): {}", rule.key, kind.name(), prose(rule.help)),
        ),
        None => {}
    }
    match rule.fallback {
        Fallback::Required => None,
        Fallback::Unset(_) => kind.unset(),
        Fallback::Toml(text) => kind.read(&DeValue::parse_recoverable(text).0, place, reading),
    }
}

/// Tells every key of `table` that is neither known nor an accepted one of a later version.
pub(super) fn refuse_unknown_keys(
    table: &Table<'_>,
    known: &[&'static str],
    later: &[Later],
    reading: &mut Reading,
) {
    for (key, value) in table.entries.iter().filter(|(key, _)| !known.contains(&key.get_ref().as_ref())) {
        match later.iter().find(|later| later.key == key.get_ref().as_ref()) {
            Some(later) => refuse_later(table, later, key.span(), value, reading),
            None => refuse_unknown_key(table, key, known, reading),
        }
    }
}

fn refuse_unknown_key(
    table: &Table<'_>,
    key: &Spanned<DeString<'_>>,
    known: &[&'static str],
    reading: &mut Reading,
) {
    let near = nearest(key.get_ref(), known.iter().copied());
    if let Some(near) = near {
        reading.slips.push((table.span.start, near));
    }
    let homes = if reading.is_full() { Vec::new() } else { homes(key.get_ref(), &table.path) };
    let hint = match near {
        _ if !homes.is_empty() => format!("`{}` belongs in {}", key.get_ref(), homes.join(" or ")),
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known here: {}", known.join(", ")),
    };
    let message = format!("unknown key `{}` in {}", key.get_ref(), table.path);
    reading.mistake(key.span(), message, "not known here", hint);
}

/// The sections that know `key`, as seen from `path`.
fn homes(key: &str, path: &Path) -> Vec<String> {
    reference()
        .into_iter()
        .filter(|section| section.settings.iter().any(|setting| setting.key == key))
        .map(|section| match path.service() {
            _ if section.path.is_empty() => Path::root().to_string(),
            Some(service) => section.path.replace(NAME, service),
            None => section.path,
        })
        .collect()
}

fn refuse_later(
    table: &Table<'_>,
    later: &Later,
    key: Range<usize>,
    value: &Toml<'_>,
    reading: &mut Reading,
) {
    let (span, hint) = match later.accepted {
        None => (key, "remove it".to_owned()),
        Some(accepted) if same(value.get_ref(), DeValue::parse_recoverable(accepted).0.get_ref()) => return,
        Some(accepted) => (value.span(), format!("remove it, or write {} = {accepted}", later.key)),
    };
    let message = format!("`{}` in {} is not in this version yet", later.key, table.path);
    reading.mistake(span, message, "not in this version yet", hint);
}

/// Equality of the simple values that `later` accepts.
fn same(a: &DeValue<'_>, b: &DeValue<'_>) -> bool {
    match (a, b) {
        (DeValue::String(a), DeValue::String(b)) => a == b,
        (DeValue::Boolean(a), DeValue::Boolean(b)) => a == b,
        (DeValue::Table(a), DeValue::Table(b)) => {
            a.len() == b.len()
                && a.iter().all(|(key, a)| {
                    b.get(key.get_ref().as_ref()).is_some_and(|b| same(a.get_ref(), b.get_ref()))
                })
        }
        _ => false, // toml's enum, not ours: no other kind is accepted
    }
}

/// A path as its header is written; empty for the file itself.
pub(super) fn shown(path: &Path) -> String {
    if path.is_root() { String::new() } else { path.to_string() }
}

/// One line from the lines of a doc comment.
pub(super) fn prose(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

pub(super) fn describe_setting<T, K: Kind<Value = T>>(kind: &K, rule: &Rule) -> SettingDoc {
    let default = match rule.fallback {
        Fallback::Required => "required".to_owned(),
        Fallback::Unset(then) => then.to_owned(),
        Fallback::Toml(text) => format!("`{text}`"),
    };
    SettingDoc {
        key: rule.key.to_owned(),
        kind: kind.name(),
        default,
        range: kind.range(),
        reason: prose(rule.reason),
        help: prose(rule.help),
    }
}

pub(super) fn describe_later(later: &[Later]) -> Vec<LaterDoc> {
    let doc =
        |later: &Later| LaterDoc { key: later.key.to_owned(), accepted: later.accepted.map(str::to_owned) };
    later.iter().map(doc).collect()
}

pub(super) fn describe_inner<T, K: Kind<Value = T>>(
    kind: &K,
    path: &Path,
    key: &str,
    sections: &mut Vec<SectionDoc>,
) {
    kind.describe(path, key, sections);
}

/// The root of the file.
pub(super) fn read_root<S: Settings>(root: &Spanned<DeTable<'_>>, reading: &mut Reading) -> Option<S> {
    S::read(&Table { path: Path::root(), span: 0..0, entries: root.get_ref() }, reading)
}

/// Tells that a value is of another type than `wanted` ("a table").
pub(super) fn wrong_type(
    value: &Toml<'_>,
    place: Place<'_>,
    wanted: &str,
    hint: &str,
    reading: &mut Reading,
) {
    let found = match value.get_ref() {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(true) => "true",
        DeValue::Boolean(false) => "false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    reading.mistake(value.span(), format!("{place} must be {wanted}"), format!("this is {found}"), hint);
}
