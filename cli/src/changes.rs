//! What a reload changes, for people: a line for each change and one for what it means for connections. What changes is
//! found out in `everup_core::reload`.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use everup_admin::ClientError;
use everup_core::reload::{Change, Kind, When};

use crate::diagnostics;

/// Each change with its effect below it.
pub(crate) fn table(changes: &[Change]) -> String {
    let mut text = String::new();
    for change in changes {
        let sign = match (change.kind, change.when) {
            (_, When::Deploy | When::Restart) => '.',
            (Kind::Added, When::Now) => '+',
            (Kind::Removed, When::Now) => '-',
            (Kind::Changed, When::Now) => '~',
        };
        writeln!(text, "{sign} {change}\n    {}", change.effect).expect("text takes text");
    }
    text
}

/// In one line: how much, and whether connections are closed.
pub(crate) fn summary(changes: &[Change]) -> String {
    let waiting = changes.iter().filter(|change| change.when != When::Now).count();
    let closing = changes.iter().filter(|change| change.closes_connections).count();
    let waits = if waiting > 0 { format!(", {waiting} of them later") } else { String::new() };
    let closes = match closing {
        0 => "no connection is closed".to_owned(),
        1 => "1 of them closes connections, in order".to_owned(),
        more => format!("{more} of them close connections, in order"),
    };
    format!("{}{waits}; {closes}\n", diagnostics::count(changes.len(), "change"))
}

/// A file with mistakes is shown like `everup check` shows it; exit 1.
pub(crate) fn refused(error: ClientError, json: bool) -> anyhow::Result<ExitCode> {
    let ClientError::WrongFile(file) = error else { return Err(error.into()) };
    if json {
        println!("{}", serde_json::to_string(&file)?);
    } else {
        diagnostics::print(Path::new(&file.path), &file.text, &file.diagnostics());
        eprintln!("everup: nothing was changed: everup runs on with the configuration that it has");
    }
    Ok(ExitCode::FAILURE)
}

#[cfg(test)]
mod tests {
    use everup_core::config::parse;
    use everup_core::reload::diff;

    use super::*;

    const OLD: &str = "[[listener]]\nbind = [\"127.0.0.1:8080\"]\nservice = \"shop\"\n\
                       [[listener]]\nbind = [\"127.0.0.1:8081\"]\nservice = \"shop\"\n\
                       [service.shop]\nrun = { command = [\"shop\"], replicas = 2 }\n";

    #[test]
    fn changes_are_told_with_what_they_mean() {
        let new = "[node]\nthreads = 7\n[[listener]]\nbind = [\"127.0.0.1:8080\"]\nservice = \"shop\"\n\
                   [service.shop]\nbalance = \"ip-hash\"\nrun = { command = [\"shop\"], replicas = 3 }\n";
        let changes = diff(&parse(OLD).unwrap(), &parse(new).unwrap());
        let text = table(&changes);
        let lines: Vec<_> = text.lines().step_by(2).collect();
        assert_eq!(
            lines,
            [
                ". node: threads changed (waits for a restart)",
                "- listener 127.0.0.1:8081: removed",
                "~ service shop: balance changed",
                "+ instance shop/shop-3: added",
            ]
        );
        assert!(text.lines().skip(1).step_by(2).all(|effect| effect.starts_with("    ")));
        assert_eq!(summary(&changes), "4 changes, 1 of them later; 1 of them closes connections, in order\n");
        assert_eq!(summary(&changes[2..3]), "1 change; no connection is closed\n");
    }
}
