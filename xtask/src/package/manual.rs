//! The manual page and the completions for bash, as the binary itself tells them: what it prints for `--help` of every verb,
//! set as a page. Nothing is written twice.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Release, output};

/// What the binary says of itself.
pub(crate) struct Manual {
    overview: String,
    /// Name and help of each verb.
    verbs: Vec<(String, String)>,
    /// For bash.
    pub(crate) completion: String,
}

impl Manual {
    pub(crate) fn of(binary: &Path) -> Result<Self> {
        let say = |arguments: &[&str]| output(Command::new(binary).args(arguments).env("COLUMNS", "100"));
        let overview = say(&["--help"])?;
        let mut verbs = Vec::new();
        for name in verbs_in(&overview) {
            verbs.push((name.to_owned(), say(&[name, "--help"])?));
        }
        Ok(Self { completion: say(&["completion", "bash"])?, overview, verbs })
    }

    /// The page `everup(1)`, in the language of man(7).
    pub(crate) fn page(&self, release: &Release) -> String {
        let (about, rest) = self.overview.split_once("\n\n").unwrap_or((&self.overview, ""));
        let about = about.trim_end_matches('.').split(':').next().unwrap_or_default().to_lowercase();
        let version = &release.version;
        let mut page = format!(
            ".TH EVERUP 1 \"\" \"everup {version}\" \"User commands\"\n.SH NAME\neverup \\- {}\n.SH OVERVIEW\n",
            plain(&about)
        );
        page += &verbatim(rest);
        for (name, help) in &self.verbs {
            page += &format!(".SH EVERUP {}\n{}", plain(&name.to_uppercase()), verbatim(help));
        }
        page += ".SH EXIT STATUS\n0: done. 1: refused or failed; standard error says why in one line. 2: wrong usage. 4: held: done, \
                 but not acknowledged by every thread.\n";
        page += ".SH FILES\n.TP\n/etc/everup/everup.toml\nThe configuration of the system's everup.\n.TP\n/var/lib/everup\nIts state.\n";
        page += ".SH SEE ALSO\n/usr/share/doc/everup/docs/guide.md, /usr/share/doc/everup/docs/operate.md\n";
        page
    }
}

/// The verbs of an overview, but for `help` itself.
fn verbs_in(overview: &str) -> impl Iterator<Item = &str> {
    let lines = overview.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = lines.take_while(|line| !line.is_empty()).filter_map(|line| {
        // Lines that go on are indented deeper.
        line.strip_prefix("  ").filter(|line| !line.starts_with(' '))?.split_whitespace().next()
    });
    names.filter(|name| *name != "help")
}

fn verbatim(text: &str) -> String {
    let lines: String = text.trim_end().lines().map(|line| format!("{}\n", plain(line))).collect();
    format!(".nf\n{lines}.fi\n")
}

/// A line in which nothing is a command of roff.
fn plain(line: &str) -> String {
    let line = line.replace('\\', "\\e").replace('-', "\\-");
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OVERVIEW: &str = "Keeps a service up: it does.\n\nUsage: everup <COMMAND>\n\nCommands:\n  run    Start it\n\
                            \x20        and keep it running\n  check  Read it\n  help   Print this\n\nOptions:\n  -h  Print help\n";

    #[test]
    fn verbs_are_found_in_the_overview() {
        assert_eq!(verbs_in(OVERVIEW).collect::<Vec<_>>(), ["run", "check"]);
    }

    #[test]
    fn a_page_holds_every_verbs_help_and_no_stray_command() {
        let verbs = vec![("sample-app".to_owned(), "Be it\n\n.dotted 'x' \\n --port\n".to_owned())];
        let manual = Manual { overview: OVERVIEW.to_owned(), verbs, completion: String::new() };
        let release = Release { version: "1.2.3".into(), time: 0, binary: vec![], manual };
        let page = release.manual.page(&release);
        assert!(page.contains("everup \\- keeps a service up\n"), "{page}");
        assert!(
            page.contains(".SH EVERUP SAMPLE\\-APP\n.nf\nBe it\n\n\\&.dotted 'x' \\en \\-\\-port\n.fi\n"),
            "{page}"
        );
    }
}
