//! `everup status`: what runs where, in which state and why, and the load. `-w` follows.

use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use everup_admin::{Client, ClientError};

use crate::events;
use crate::find::{self, Find};
use crate::table;

/// How often `-w` looks.
const PERIOD: Duration = Duration::from_secs(1);

/// How many of the last events stand below the table.
const EVENTS: usize = 5;

/// Cursor home, and erase what is left below once the new table stands.
const HOME: &str = "\x1b[H";
const ERASE_BELOW: &str = "\x1b[J";
const ERASE_LINE_END: &str = "\x1b[K\n";
const CLEAR: &str = "\x1b[2J";

/// What to show and how.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Follow: show it anew every second, until Ctrl-C
    #[arg(short, long)]
    watch: bool,
    /// Print JSON (one line per look with -w)
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    find: Find,
}

/// Exit 1 if no everup answers.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    find::block_on(async {
        let client = args.find.connect().await?;
        let redraws = args.watch && !args.json && std::io::stdout().is_terminal();
        if redraws {
            print!("{CLEAR}");
        }
        loop {
            let reader_is_there = match look(&client, args.json).await {
                Ok(text) => show(&text, redraws)?,
                // With -w a worker that is just being replaced is no reason to leave.
                Err(error) if redraws => show(&format!("{error}\n"), redraws)?,
                Err(error) if args.watch => {
                    eprintln!("everup: {error}");
                    true
                }
                Err(error) => return Err(error.into()),
            };
            if !args.watch || !reader_is_there {
                return Ok(ExitCode::SUCCESS);
            }
            tokio::time::sleep(PERIOD).await;
        }
    })
}

async fn look(client: &Client, json: bool) -> Result<String, ClientError> {
    let status = client.status().await?;
    if json {
        let text = serde_json::to_string(&status).expect("a status holds strings, numbers and lists only");
        return Ok(text + "\n");
    }
    let coloured = std::io::stdout().is_terminal();
    let table = table::render(&status, coloured);
    match client.events(0).await {
        Ok(happened) => Ok(table + &events::last(&happened.events, EVENTS, coloured)),
        // It is older than events.
        Err(ClientError::Refused(_)) => Ok(table),
        Err(error) => Err(error),
    }
}

/// False when the reader went away (`| head`), which is no error of anybody.
fn show(text: &str, redraws: bool) -> anyhow::Result<bool> {
    let mut out = std::io::stdout().lock();
    let text = if redraws {
        format!("{HOME}{}{ERASE_BELOW}", text.replace('\n', ERASE_LINE_END))
    } else {
        text.to_owned()
    };
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}
