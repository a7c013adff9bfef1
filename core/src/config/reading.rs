//! What is known while a file is read: the mistakes so far, the names of the services, and the facts that can only be
//! judged when everything has been read (`cross.rs` judges them).

use std::net::SocketAddr;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Diagnostic;
use super::syntax::Syntax;

/// A value of the file and where it stands.
pub(super) type Toml<'i> = Spanned<DeValue<'i>>;

/// A table of the file.
pub(super) struct Table<'a> {
    pub(super) path: Path,
    /// Its header, or all of an inline table.
    pub(super) span: Range<usize>,
    pub(super) entries: &'a DeTable<'a>,
}

impl Table<'_> {
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Where the value of `key` stands; the table itself if the key is not written.
    pub(super) fn span_of(&self, key: &str) -> Range<usize> {
        self.entries.get(key).map_or_else(|| self.span.clone(), Spanned::span)
    }

    /// Where `key` stands; the table itself if it is not written.
    pub(super) fn key_span(&self, key: &str) -> Range<usize> {
        self.entries.get_key_value(key).map_or_else(|| self.span.clone(), |(key, _)| key.span())
    }
}

/// The name of a table: `node`, `listener.route`, `service.shop.health`.
#[derive(Clone, Debug)]
pub(super) struct Path {
    /// None: the file itself.
    parts: Vec<String>,
    /// One of an array of tables.
    many: bool,
}

impl Path {
    pub(super) fn root() -> Self {
        Self { parts: Vec::new(), many: false }
    }

    pub(super) fn inside(&self, key: &str, many: bool) -> Self {
        let mut parts = self.parts.clone();
        parts.push(key.to_owned());
        Self { parts, many }
    }

    pub(super) fn is_root(&self) -> bool {
        self.parts.is_empty()
    }

    /// The second part of `service.shop.health`.
    pub(super) fn service(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [service, name, ..] if service == "service" => Some(name),
            _ => None,
        }
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_root() {
            return write!(f, "the file");
        }
        let bare = |part: &str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        let part = |part: &String| if bare(part) { part.clone() } else { format!("{part:?}") };
        let dotted = self.parts.iter().map(part).collect::<Vec<_>>().join(".");
        if self.many { write!(f, "[[{dotted}]]") } else { write!(f, "[{dotted}]") }
    }
}

/// A service of the file. Its index here is its index in `Config::services`.
pub(super) struct Named {
    pub(super) name: String,
    /// Its name in the file.
    pub(super) span: Range<usize>,
    /// A listener or a route names it.
    pub(super) used: bool,
    /// A tcp or a tls-passthrough listener names it.
    pub(super) tcp: bool,
    /// A tls-passthrough listener names it.
    pub(super) passthrough: bool,
    /// Where its `tls` is.
    pub(super) tls: Option<Range<usize>>,
    /// Where its stickiness is asked for, if that needs requests to look at.
    pub(super) http_only: Option<Range<usize>>,
}

/// An address of this host that something listens at.
pub(super) struct Claim {
    pub(super) address: SocketAddr,
    pub(super) span: Range<usize>,
    pub(super) whose: &'static str,
}

/// An address that requests are sent to.
pub(super) struct Target {
    /// An instance of this service.
    pub(super) service: String,
    pub(super) address: SocketAddr,
    pub(super) weight: u32,
    pub(super) span: Range<usize>,
}

/// Why a value is no good.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// What to underline it with.
    pub(super) label: String,
    /// What to write instead.
    pub(super) hint: String,
}

impl Refusal {
    pub(super) fn new(label: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { label: label.into(), hint: hint.into() }
    }
}

/// Mistakes beyond this many are only counted: nobody reads them, and the memory they take must be bounded.
const MAX_MISTAKES: usize = 100;

/// See the file's header.
pub(super) struct Reading {
    pub(super) services: Vec<Named>,
    pub(super) claims: Vec<Claim>,
    pub(super) targets: Vec<Target>,
    /// Where a table starts that has an unknown key, and the known one that is most likely meant: that is not missing.
    pub(super) slips: Vec<(usize, &'static str)>,
    mistakes: Vec<Diagnostic>,
    uncounted: usize,
    /// If it has mistakes, what seems to be missing may be there, but unreadable.
    syntax: Syntax,
}

impl Reading {
    /// `root` is what could be read of a text with this syntax.
    pub(super) fn new(root: &DeTable<'_>, syntax: Syntax) -> Self {
        let mut services: Vec<Named> = root
            .get("service")
            .and_then(|services| services.get_ref().as_table())
            .into_iter()
            .flat_map(|services| services.keys())
            .map(|key| Named {
                name: key.get_ref().to_string(),
                span: key.span(),
                used: false,
                tcp: false,
                passthrough: false,
                tls: None,
                http_only: None,
            })
            .collect();
        services.sort_by_key(|service| service.span.start);
        Self {
            services,
            claims: Vec::new(),
            targets: Vec::new(),
            slips: Vec::new(),
            mistakes: Vec::new(),
            uncounted: 0,
            syntax,
        }
    }

    /// A mistake that is there for sure.
    pub(super) fn mistake(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        label: impl Into<String>,
        hint: impl Into<String>,
    ) {
        if self.is_full() {
            self.uncounted += 1;
            return;
        }
        let hint = Some(hint.into()).filter(|hint| !hint.is_empty());
        self.mistakes.push(Diagnostic { message: message.into(), span, label: label.into(), hint });
    }

    /// Something is missing, or follows from something missing: told only if all of the text could be read.
    pub(super) fn missing(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        label: impl Into<String>,
        hint: impl Into<String>,
    ) {
        if self.syntax.mistakes.is_empty() {
            self.mistake(span, message, label, hint);
        }
    }

    /// `table` has none of `keys`, nor an unknown key that is most likely a slip of one.
    pub(super) fn missing_keys(
        &mut self,
        table: &Table<'_>,
        keys: &[&str],
        message: impl Into<String>,
        label: impl Into<String>,
        hint: impl Into<String>,
    ) {
        if !self.slips.iter().any(|(start, key)| *start == table.span.start && keys.contains(key)) {
            self.missing(table.span.clone(), message, label, hint);
        }
    }

    /// Further mistakes are only counted.
    pub(super) fn is_full(&self) -> bool {
        self.mistakes.len() >= MAX_MISTAKES
    }

    /// Every mistake of `text`, in its order.
    pub(super) fn into_mistakes(self, text: &str) -> Vec<Diagnostic> {
        let Self { mut mistakes, syntax, uncounted, .. } = self;
        mistakes
            .retain(|mistake| !syntax.guessed.iter().any(|guessed| guessed.contains(&mistake.span.start)));
        mistakes.extend(syntax.mistakes);
        mistakes.sort_by_key(|mistake| (mistake.span.start, mistake.span.end));
        let untold = uncounted + mistakes.len().saturating_sub(MAX_MISTAKES);
        mistakes.truncate(MAX_MISTAKES);
        if untold > 0 {
            let end = text.len();
            let message = format!("and {untold} more mistakes");
            let hint = Some("correct those above first".to_owned());
            mistakes.push(Diagnostic { message, span: end..end, label: "in this file".to_owned(), hint });
        }
        mistakes
    }
}
