//! What the API says of another configuration: what it would change, what it changed, and why it was refused.

use everup_core::config::Diagnostic;
use everup_core::reload::Change;
use serde::{Deserialize, Serialize};

/// What a reload would change now: `GET /v1/plan`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Every difference between what runs and the file; none: they mean the same.
    pub changes: Vec<Change>,
}

/// What a reload changed: `POST /v1/reload`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// The first routing table that goes by the new configuration.
    pub generation: u64,
    /// Every data-plane thread goes by it; nothing can be chosen by an older one. False: they were waited for in vain
    /// so far, and until they do, nothing that was removed is stopped and the next worker would begin with the old
    /// configuration.
    pub acknowledged: bool,
    /// What changed, and what waits for a deploy or a restart.
    pub changes: Vec<Change>,
}

/// Why the configuration was not changed. Everything is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}")]
pub struct NotReloaded {
    /// In one line.
    pub line: String,
    /// The file as it was read, if it is at fault.
    pub file: Option<WrongFile>,
}

/// A configuration file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrongFile {
    /// Its path.
    pub path: String,
    /// Its text as it was read.
    pub text: String,
    /// Every mistake in it, in the order of the text.
    pub mistakes: Vec<Mistake>,
}

/// A mistake in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mistake {
    /// What is wrong, in one line.
    pub message: String,
    /// Where it begins, in bytes of the text.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// A few words for the place itself.
    pub label: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl From<Diagnostic> for Mistake {
    fn from(Diagnostic { message, span, label, hint }: Diagnostic) -> Self {
        Self { message, start: span.start, end: span.end, label, hint }
    }
}

impl WrongFile {
    /// The mistakes as they were found. A place that does not fit the text (it came over a socket) becomes its start.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        let diagnostic = |Mistake { message, start, end, label, hint }: &Mistake| Diagnostic {
            message: message.clone(),
            span: if self.text.get(*start..*end).is_some() { *start..*end } else { 0..0 },
            label: label.clone(),
            hint: hint.clone(),
        };
        self.mistakes.iter().map(diagnostic).collect()
    }
}

#[cfg(test)]
mod tests {
    use everup_core::config;

    use super::*;

    #[test]
    fn mistakes_come_back_as_they_were_found() {
        let text = "[[listener]]\nbind = [\"é\"]\nnonsense = 1\n";
        let found = config::parse(text).unwrap_err();
        let mistakes = found.iter().cloned().map(Mistake::from).collect();
        let file = WrongFile { path: "x".into(), text: text.into(), mistakes };
        let there: WrongFile = serde_json::from_str(&serde_json::to_string(&file).unwrap()).unwrap();
        assert_eq!(there.diagnostics(), found);
    }

    #[test]
    fn a_place_outside_of_the_text_is_its_start() {
        let mistake = Mistake { message: "m".into(), start: 1, end: 2, label: "l".into(), hint: None };
        let file = WrongFile { path: "x".into(), text: "é".into(), mistakes: vec![mistake] };
        assert_eq!(file.diagnostics()[0].span, 0..0);
    }
}
