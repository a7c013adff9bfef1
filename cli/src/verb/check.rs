//! `everup check`: reads a configuration file and tells every mistake in it. Nothing is started, bound or looked up.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use everup_core::config::{self, Config, Diagnostic};
use serde_json::json;

use crate::diagnostics::{self, count, position};

/// What to check.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The configuration file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Exit 1 if the file has mistakes.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { file, json } = args;
    let text = read(&file)?;
    let parsed = config::parse(&text);
    match &parsed {
        _ if json => println!("{}", as_json(&text, &parsed)),
        Ok(config) => println!("{}: ok: {}", file.display(), summary(config)),
        Err(mistakes) => diagnostics::print(&file, &text, mistakes),
    }
    Ok(if parsed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read(file: &Path) -> anyhow::Result<String> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        anyhow::anyhow!("cannot read {}: line {line} is not UTF-8", file.display())
    })
}

fn summary(config: &Config) -> String {
    let fixed: usize = config.services.iter().map(|service| service.instances.len()).sum();
    let started: usize =
        config.services.iter().filter_map(|service| service.run.as_ref()).map(|run| run.replicas).sum();
    let routes: usize = config.listeners.iter().map(|listener| listener.routes.len()).sum();
    let parts = [
        (config.listeners.len(), count(config.listeners.len(), "listener")),
        (routes, count(routes, "route")),
        (config.services.len(), count(config.services.len(), "service")),
        (fixed, count(fixed, "fixed instance")),
        (started, format!("{} to start", count(started, "instance"))),
    ];
    let there = parts.into_iter().filter(|(number, _)| *number > 0);
    there.map(|(_, part)| part).collect::<Vec<_>>().join(", ")
}

fn as_json(text: &str, parsed: &Result<Config, Vec<Diagnostic>>) -> serde_json::Value {
    let mistakes: Vec<_> =
        parsed.as_ref().err().into_iter().flatten().map(|mistake| mistake_as_json(text, mistake)).collect();
    json!({ "ok": parsed.is_ok(), "mistakes": mistakes })
}

fn mistake_as_json(text: &str, mistake: &Diagnostic) -> serde_json::Value {
    let Diagnostic { message, span, label, hint } = mistake;
    let (line, column) = position(text, span.start);
    let (end_line, end_column) = position(text, span.end);
    json!({
        "message": message,
        "line": line,
        "column": column,
        "end_line": end_line,
        "end_column": end_column,
        "label": label,
        "hint": hint,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "[[listener]]\nbind = [\"127.0.0.1:0\"]\nservice = \"shop\"\n[[listener.route]]\npath = \"/a\"\n\
                        service = \"api\"\n[service.shop]\nrun = { command = [\"shop\"], replicas = 3 }\n\
                        [service.api]\ninstances = [\"10.0.0.1:80\"]\n";

    #[test]
    fn a_valid_file_is_summed_up() {
        let config = config::parse(FILE).unwrap();
        assert_eq!(
            summary(&config),
            "1 listener, 1 route, 2 services, 1 fixed instance, 3 instances to start"
        );
        assert_eq!(as_json(FILE, &Ok(config)), json!({ "ok": true, "mistakes": [] }));
    }

    #[test]
    fn json_tells_each_mistake_with_its_place() {
        let text = FILE.replace("replicas = 3", "replicas = 0");
        let told = as_json(&text, &config::parse(&text));
        assert_eq!(told["ok"], false);
        assert_eq!(told["mistakes"].as_array().unwrap().len(), 1);
        let mistake = &told["mistakes"][0];
        assert_eq!((&mistake["line"], &mistake["column"]), (&json!(8), &json!(40)));
        assert_eq!(mistake["end_column"], 41);
        assert_eq!(mistake["label"], "must be 1 to 1000");
    }
}
