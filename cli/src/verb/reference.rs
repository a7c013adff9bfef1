//! `everup reference`: every setting with its type, default, range and reason, as it is declared in `everup_core::config`.

use std::io::Write;
use std::process::ExitCode;

use everup_core::config::{self, SectionDoc, SettingDoc};

/// What to show and how.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this section, such as health or service.NAME.health
    #[arg(value_name = "SECTION")]
    section: Option<String>,
    /// Print Markdown
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Exit 1 if there is no such section.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { section, markdown, json } = args;
    let sections = match &section {
        None => config::reference(),
        Some(section) => config::sections_named(section),
    };
    if sections.is_empty() {
        let known: Vec<String> = config::reference().into_iter().map(|section| section.path).collect();
        anyhow::bail!(
            "there is no section {}; there are {}",
            section.unwrap_or_default(),
            known[1..].join(" ")
        );
    }
    let shown = match (markdown, json) {
        (true, _) => config::markdown(&sections),
        (false, true) => format!("{}\n", serde_json::to_string_pretty(&sections)?),
        (false, false) => sections.iter().map(plain).collect::<Vec<_>>().join("\n"),
    };
    match std::io::stdout().lock().write_all(shown.as_bytes()) {
        // Whoever reads has seen enough (`everup reference | head`).
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Lines are broken here: readable in a narrow terminal, and short enough to follow in a wide one.
const WIDTH: usize = 96;
const INDENT: &str = "    ";

fn plain(section: &SectionDoc) -> String {
    let SectionDoc { path, help, settings, later } = section;
    let title = if path.is_empty() { "The file" } else { path };
    let mut shown = format!("{title}\n");
    fold(&mut shown, "  ", "", help);
    for SettingDoc { key, kind, default, range, reason, help } in settings {
        shown += &format!("\n  {key}\n");
        fold(&mut shown, INDENT, "", help);
        fold(&mut shown, INDENT, "type     ", kind);
        fold(&mut shown, INDENT, "default  ", default);
        fold(&mut shown, INDENT, "range    ", range);
        fold(&mut shown, INDENT, "why      ", reason);
    }
    if !later.is_empty() {
        let later: Vec<String> = later.iter().map(ToString::to_string).collect();
        shown.push('\n');
        fold(&mut shown, "  ", "", &format!("Not in this version yet: {}.", later.join(", ")));
    }
    shown
}

/// Adds `text` in lines of at most [`WIDTH`], the first after `name`, the others below its text. Nothing for an empty text.
fn fold(shown: &mut String, indent: &str, name: &str, text: &str) {
    let start = format!("{indent}{name}");
    let mut line = start.clone();
    for word in text.replace('`', "").split_whitespace() {
        if line.chars().count() + word.chars().count() > WIDTH {
            shown.push_str(line.trim_end());
            shown.push('\n');
            line = " ".repeat(start.len());
        }
        line.push_str(word);
        line.push(' ');
    }
    if line != start {
        shown.push_str(line.trim_end());
        shown.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_shown_with_type_default_range_and_reason() {
        let park = config::sections_named("park");
        let shown = plain(&park[0]);
        let expected = "  time\n    The longest wait; \"0s\" parks nothing.\n    type     duration\n    default  \"10s\"\n    \
                        range    0s to 10m\n    why      longer than a restart takes, shorter than people wait\n";
        assert!(shown.starts_with("[service.NAME.park]\n"), "{shown}");
        assert!(shown.contains(expected), "{shown}");
    }

    #[test]
    fn no_line_is_longer_than_the_width() {
        for section in config::reference() {
            for line in plain(&section).lines() {
                assert!(line.chars().count() <= WIDTH, "{line}");
            }
        }
    }
}
