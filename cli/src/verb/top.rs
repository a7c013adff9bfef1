//! `everup top`: services, instances and last events on the whole terminal, with keys to drain and undrain.
//!
//! This file is the loop: it waits for keys, answers and signals, hands them to `state.rs`, which decides, and has
//! `view.rs` draw. What happens to the terminal itself is in `screen.rs`.

mod screen;
mod state;
mod view;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use everup_admin::api::{Events, Status};
use everup_admin::{Client, ClientError};
use everup_core::ids::InstanceId;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{JoinError, JoinSet};
use tokio::time::MissedTickBehavior;

use crate::find::{self, Find};
use screen::{Happened, Screen};
use state::{Input, Output, State};
use view::Palette;

/// How often it looks.
const PERIOD: Duration = Duration::from_secs(1);

/// Which everup.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    find: Find,
}

/// Exit 1 if no everup answers at the start, or there is no terminal. An everup that goes away later is waited for.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let instead = "`everup status` prints the same once, `everup status -w` follows";
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        bail!("top needs a terminal as its standard input and output; {instead}");
    }
    if std::env::var_os("TERM").is_some_and(|term| term == "dumb") {
        bail!("this terminal (TERM=dumb) can only print line after line; {instead}");
    }
    // See no-color.org.
    let coloured = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    find::block_on(async {
        let client = args.find.connect().await?;
        Top { client, state: State::default(), answers: JoinSet::new() }.run(Palette { coloured }).await?;
        Ok(ExitCode::SUCCESS)
    })
}

struct Top {
    client: Client,
    state: State,
    /// What everup was asked; each task ends with what the state is to be told.
    answers: JoinSet<Input>,
}

impl Top {
    /// Until the operator quits or a signal ends it; the terminal is as it was then.
    async fn run(mut self, palette: Palette) -> anyhow::Result<()> {
        let mut signals = Signals::new()?;
        let mut screen = Screen::enter()?;
        let mut looks = tokio::time::interval(PERIOD);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = SystemTime::now();
            screen.draw(|frame| view::draw(frame, &self.state, now, palette))?;
            let input = tokio::select! {
                happened = screen.happened() => match happened? {
                    Happened::Key(key) => Input::Key(key),
                    Happened::Resized => continue,
                },
                Some(answer) = self.answers.join_next() => answered(answer),
                () = any_of(&mut signals.ends) => return Ok(()),
                _ = signals.go_on.recv() => {
                    screen.take_again()?;
                    continue;
                }
                _ = looks.tick() => {
                    self.look();
                    continue;
                }
            };
            if let Some(output) = self.state.handle(SystemTime::now(), input) {
                match output {
                    Output::Quit => return Ok(()),
                    Output::Redraw => screen.clear()?,
                    Output::Drain(id) => self.drain(id),
                    Output::Undrain(id) => self.undrain(id),
                }
            }
        }
    }

    /// Asks for everything, unless the last answer is still awaited.
    fn look(&mut self) {
        if !self.state.may_look(SystemTime::now()) {
            return;
        }
        let (client, after) = (self.client.clone(), self.state.last_event());
        self.answers.spawn(async move {
            Input::Looked(Box::new(look(&client, after).await.map_err(|e| e.to_string())))
        });
    }

    fn drain(&mut self, id: InstanceId) {
        let client = self.client.clone();
        self.answers.spawn(async move {
            Input::Done(match client.drain(&id, None).await {
                Ok(answer) => format!("{id}: {}", answer.message),
                Err(error) => error.to_string(),
            })
        });
    }

    fn undrain(&mut self, id: InstanceId) {
        let client = self.client.clone();
        self.answers.spawn(async move {
            Input::Done(match client.undrain(&id).await {
                Ok(answer) => format!("{id}: {}", answer.message),
                Err(error) => error.to_string(),
            })
        });
    }
}

async fn look(client: &Client, after: u64) -> Result<(Status, Events), ClientError> {
    let status = client.status().await?;
    match client.events(after).await {
        Ok(events) => Ok((status, events)),
        // It is older than events.
        Err(ClientError::Refused(_)) => Ok((status, Events { last: after, events: Vec::new() })),
        Err(error) => Err(error),
    }
}

/// A panic while asking is one of everup top itself.
fn answered(answer: Result<Input, JoinError>) -> Input {
    answer.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(cancelled) => Input::Done(cancelled.to_string()),
    })
}

struct Signals {
    /// What ends it from outside, in order: the terminal is restored.
    ends: [Signal; 4],
    /// It was stopped and goes on.
    go_on: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let on = |kind| signal(kind).context("cannot wait for signals");
        let ends = [
            on(SignalKind::terminate())?,
            on(SignalKind::hangup())?,
            on(SignalKind::interrupt())?,
            on(SignalKind::quit())?,
        ];
        let go_on = on(SignalKind::from_raw(rustix::process::Signal::CONT.as_raw()))?;
        Ok(Self { ends, go_on })
    }
}

async fn any_of([terminate, hangup, interrupt, quit]: &mut [Signal; 4]) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
        _ = interrupt.recv() => {}
        _ = quit.recv() => {}
    }
}
