//! `everup reload`: the running everup reads its configuration file anew and changes what differs. It answers when every
//! data-plane thread goes by the new configuration; a file with mistakes changes nothing.

use std::process::ExitCode;

use everup_admin::api::Reloaded;

use crate::changes;
use crate::find::{self, Find};

/// Done, but a thread still goes by the old configuration.
const HELD: u8 = 4;

/// How to say what changed.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    find: Find,
}

/// Exit 1 if nothing was changed, 4 if not every thread has acknowledged it.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { json, find } = args;
    let answer = find::block_on(async { Ok(find.connect().await?.reload().await) })?;
    let Reloaded { generation, acknowledged, changes } = match answer {
        Ok(reloaded) if json => {
            println!("{}", serde_json::to_string(&reloaded)?);
            return Ok(exit_code(reloaded.acknowledged));
        }
        Ok(reloaded) => reloaded,
        Err(error) => return changes::refused(error, json),
    };
    print!("{}", changes::table(&changes));
    match (acknowledged, changes.len()) {
        (true, 0) => println!("nothing has changed"),
        (true, _) => println!("reloaded: every thread uses table {generation}"),
        (false, _) => eprintln!(
            "everup: held: not every thread uses table {generation} yet; nothing that was removed is stopped until then"
        ),
    }
    Ok(exit_code(acknowledged))
}

fn exit_code(acknowledged: bool) -> ExitCode {
    if acknowledged { ExitCode::SUCCESS } else { ExitCode::from(HELD) }
}
