//! Shows the mistakes of a configuration file the way compilers do: file, line and column, the line itself underlined, and
//! what to do about it. What is a mistake is decided in `everup_core::config`.

use std::io::{IsTerminal, Write};
use std::path::Path;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use everup_core::config::Diagnostic;

/// Writes every mistake to stderr, in colour on a terminal (unless NO_COLOR is set), and how many there are.
pub(crate) fn print(file: &Path, text: &str, mistakes: &[Diagnostic]) {
    let stderr = std::io::stderr();
    let coloured = stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let renderer = if coloured { Renderer::styled() } else { Renderer::plain() };
    let shown = render(&renderer, file, text, mistakes);
    // Nobody is left to tell when stderr is closed; the exit code still says it.
    let _ = stderr.lock().write_all(shown.as_bytes());
}

fn render(renderer: &Renderer, file: &Path, text: &str, mistakes: &[Diagnostic]) -> String {
    let name = file.display().to_string();
    let mut shown = String::new();
    for mistake in mistakes {
        shown += &renderer.render(&report(&name, text, mistake));
        shown += "\n\n";
    }
    shown + &format!("{name}: {}\n", count(mistakes.len(), "mistake"))
}

fn report<'a>(file: &'a str, text: &'a str, mistake: &'a Diagnostic) -> Vec<Group<'a>> {
    let Diagnostic { message, span, label, hint } = mistake;
    let place = AnnotationKind::Primary.span(span.clone()).label(label.as_str());
    let snippet = Snippet::source(text).path(file).annotation(place);
    let mistake = Level::ERROR.primary_title(message.as_str()).element(snippet);
    match hint {
        Some(hint) => vec![mistake.element(Level::HELP.message(hint.as_str()))],
        None => vec![mistake],
    }
}

/// "1 mistake", "2 mistakes".
pub(crate) fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}

/// The line and column of a byte of the text, both from 1; columns count characters.
pub(crate) fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = &text[..byte];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use everup_core::config::parse;

    use super::*;

    fn shown(text: &str) -> String {
        render(&Renderer::plain(), Path::new("everup.toml"), text, &parse(text).unwrap_err())
    }

    #[test]
    fn a_mistake_is_shown_with_its_place_the_line_underlined_and_a_hint() {
        let text = "[[listener]]\nbind = [\"127.0.0.1:8080\"]\nservice = \"shop\"\n\n\
                    [service.shop]\ninstances = [\"10.0.0.1:80\"]\ntimeout = { connect = \"10\" }\nbalance = \"leastconn\"\n";
        let expected = r#"error: `connect` is not a duration
 --> everup.toml:7:23
  |
7 | timeout = { connect = "10" }
  |                       ^^^^ has no unit
  |
  = help: write "10s" (units: ms, s, m, h)

error: unknown value "leastconn" for `balance`
 --> everup.toml:8:11
  |
8 | balance = "leastconn"
  |           ^^^^^^^^^^^ unknown value
  |
  = help: did you mean "least-connections"?

everup.toml: 2 mistakes
"#;
        assert_eq!(shown(text), expected);
    }

    #[test]
    fn a_mistake_at_the_end_or_in_an_empty_file_is_shown_too() {
        for text in ["", "\n", "[node", "[[listener]]\nbind =", "a = \"é", "\u{feff}[x"] {
            assert!(shown(text).contains("everup.toml:"), "{text:?}: {}", shown(text));
        }
    }

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        assert_eq!(position("", 0), (1, 1));
        assert_eq!(position("é=\nü=x", 6), (2, 2));
        assert_eq!(position("a\n", 2), (2, 1));
    }
}
