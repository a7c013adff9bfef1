//! What the TOML parser found, in words for an operator: one mistake for one slip, not one for every word that follows it.

use std::ops::Range;

use toml::de::{DeTable, DeValue, Error};

use super::Diagnostic;

/// What is wrong with the syntax of a text.
#[derive(Default)]
pub(super) struct Syntax {
    pub(super) mistakes: Vec<Diagnostic>,
    /// What was read from here is a guess: nothing is told about it.
    pub(super) guessed: Vec<Range<usize>>,
}

/// Beyond this many, syntax errors are not looked at: nobody reads them.
const MAX_ERRORS: usize = 100;

impl Syntax {
    /// `root` is what could be read of `text`.
    pub(super) fn new(text: &str, root: &DeTable<'_>, errors: &[Error]) -> Self {
        let mut syntax = Self::default();
        if errors.iter().any(|error| error.message().starts_with("unclosed"))
            && let Some(unclosed) = unclosed_value(text, root)
        {
            syntax.mistakes.push(without_end(text, unclosed.start));
            syntax.guessed.push(unclosed.start..text.len() + 1);
        }
        for error in errors.iter().take(MAX_ERRORS) {
            let span = within(text, error);
            if !syntax.guessed.iter().any(|guessed| guessed.contains(&span.start)) {
                syntax.guessed.push(lines(text, &span));
                syntax.mistakes.push(mistake(text, error, span));
            }
        }
        syntax
    }
}

fn without_end(text: &str, start: usize) -> Diagnostic {
    let (what, close) = if text[start..].starts_with('[') { ("list", ']') } else { ("table", '}') };
    Diagnostic {
        message: format!("this {what} has no end"),
        span: start..start + 1,
        label: "opened here".to_owned(),
        hint: Some(format!("add the closing {close}")),
    }
}

/// The whole lines that `span` lies in.
fn lines(text: &str, span: &Range<usize>) -> Range<usize> {
    let start = text[..span.start].rfind('\n').map_or(0, |end| end + 1);
    let end = text[span.end..].find('\n').map_or(text.len(), |length| span.end + length);
    start..end + 1
}

fn within(text: &str, error: &Error) -> Range<usize> {
    let span = error.span().unwrap_or(text.len()..text.len());
    let start = text.floor_char_boundary(span.start.min(text.len()));
    start..text.ceil_char_boundary(span.end.clamp(start, text.len()))
}

fn mistake(text: &str, error: &Error, span: Range<usize>) -> Diagnostic {
    let (message, expected) = match error.message().split_once(", expected ") {
        Some((message, expected)) => (message, Some(format!("expected {expected}"))),
        None => (error.message(), None),
    };
    if message == "string values must be quoted" && text[span.clone()].trim().is_empty() {
        let hint = Some("write the value, or remove the key".to_owned());
        return Diagnostic {
            message: "there is no value".to_owned(),
            span,
            label: "expected here".to_owned(),
            hint,
        };
    }
    let hint = match message {
        "string values must be quoted" => Some(format!("write \"{}\"", text[span.clone()].escape_default())),
        "duplicate key" => Some("remove one of the two".to_owned()),
        _ => expected,
    };
    Diagnostic { message: message.to_owned(), span, label: "not valid TOML".to_owned(), hint }
}

/// The outermost list or inline table that goes on to the end of the text without being closed.
fn unclosed_value(text: &str, table: &DeTable<'_>) -> Option<Range<usize>> {
    let content = text.trim_end().len();
    table.values().find_map(|value| {
        let span = value.span();
        let opens = |bracket: char| text.get(span.clone()).is_some_and(|text| text.starts_with(bracket));
        match value.get_ref() {
            DeValue::Array(_) if opens('[') && !opens_header(text, &span) && span.end >= content => {
                Some(span)
            }
            DeValue::Table(_) if opens('{') && span.end >= content => Some(span),
            DeValue::Table(inner) => unclosed_value(text, inner),
            DeValue::Array(elements) => elements
                .iter()
                .filter_map(|element| element.get_ref().as_table())
                .find_map(|inner| unclosed_value(text, inner)),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => None,
        }
    })
}

/// `[[name]]` at the beginning of a line is no list.
fn opens_header(text: &str, span: &Range<usize>) -> bool {
    text[..span.start].rsplit('\n').next().is_none_or(|before| before.trim().is_empty())
}
