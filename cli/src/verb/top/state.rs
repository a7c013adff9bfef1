//! What `everup top` knows and what keys mean. A machine without a clock, a terminal or a socket: `view.rs` draws it,
//! `top.rs` does what it says.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use everup_admin::api::{Event, Events, InstanceState, InstanceStatus, ServiceStatus, Status};
use everup_core::ids::InstanceId;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// Rates are averaged over so many looks: with one a second, over as long as the service's own rate.
const LOOKS: usize = 6;

/// How many events are kept to be shown: more than any terminal has lines.
const EVENTS: usize = 200;

/// How far a page goes.
const PAGE: isize = 10;

/// How long the answer to an order is shown.
const MESSAGE_TIME: Duration = Duration::from_secs(10);

/// An answer that takes longer is told as missing: the worker may be just being replaced.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// What happened.
#[derive(Debug)]
pub(super) enum Input {
    Key(KeyEvent),
    /// everup was looked at; or why it could not be.
    Looked(Box<Result<(Status, Events), String>>),
    /// What came of an order, in words.
    Done(String),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Output {
    Quit,
    Redraw,
    Drain(InstanceId),
    Undrain(InstanceId),
}

/// In which order a service's instances are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    /// As the configuration has them.
    #[default]
    Configured,
    /// Those in trouble first.
    Trouble,
    /// The busiest first.
    Rate,
    /// Those with the most in flight first.
    InFlight,
}

/// What keys mean now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    #[default]
    Usual,
    Help,
    /// Asks whether this one is to be drained; `is_last`: nobody else of its service takes requests.
    Confirm {
        id: InstanceId,
        is_last: bool,
    },
}

/// everup does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unreachable {
    pub(super) since: SystemTime,
    pub(super) why: String,
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub(super) enum Row<'a> {
    Service(&'a ServiceStatus),
    Instance(&'a ServiceStatus, &'a InstanceStatus),
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The last looks of one worker, the newest at the end.
    looks: VecDeque<Status>,
    events: VecDeque<Event>,
    last_event: u64,
    unreachable: Option<Unreachable>,
    /// Since when an answer is awaited.
    asked: Option<SystemTime>,
    selected: Option<InstanceId>,
    sort: Sort,
    paused: bool,
    mode: Mode,
    message: Option<(SystemTime, String)>,
}

impl State {
    /// Takes what happened and says what is to be done about it.
    pub(super) fn handle(&mut self, now: SystemTime, input: Input) -> Option<Output> {
        match input {
            Input::Key(key) => self.on_key(key),
            Input::Looked(found) => {
                self.asked = None;
                match *found {
                    Ok((status, events)) => {
                        self.unreachable = None;
                        if !self.paused {
                            self.on_look(status, events);
                        }
                    }
                    Err(why) => {
                        let since = self.unreachable.take().map_or(now, |before| before.since);
                        self.unreachable = Some(Unreachable { since, why });
                    }
                }
                None
            }
            Input::Done(message) => {
                self.message = Some((now, message));
                None
            }
        }
    }

    /// Nothing is awaited: it is time to ask, and from now on something is.
    pub(super) fn may_look(&mut self, now: SystemTime) -> bool {
        let may = self.asked.is_none();
        self.asked.get_or_insert(now);
        may
    }

    /// What is shown; none before the first answer.
    pub(super) fn status(&self) -> Option<&Status> {
        self.looks.back()
    }

    /// The oldest first.
    pub(super) fn events(&self) -> impl DoubleEndedIterator<Item = &Event> {
        self.events.iter()
    }

    /// The number of the newest event that is known.
    pub(super) fn last_event(&self) -> u64 {
        self.last_event
    }

    pub(super) fn unreachable(&self) -> Option<&Unreachable> {
        self.unreachable.as_ref()
    }

    /// For how long an answer is missing, if that is worth telling.
    pub(super) fn silence(&self, now: SystemTime) -> Option<Duration> {
        let silence = now.duration_since(self.asked?).ok()?;
        (silence >= ANSWER_TIME).then_some(silence)
    }

    pub(super) fn sort(&self) -> Sort {
        self.sort
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    pub(super) fn mode(&self) -> &Mode {
        &self.mode
    }

    /// What came of the last order, for a while.
    pub(super) fn message(&self, now: SystemTime) -> Option<&str> {
        let (since, message) = self.message.as_ref()?;
        let is_fresh = now.duration_since(*since).is_ok_and(|age| age < MESSAGE_TIME);
        is_fresh.then_some(message)
    }

    /// The lines of the table in the order in which they are shown.
    pub(super) fn rows(&self) -> Vec<Row<'_>> {
        let mut rows = Vec::new();
        for service in self.status().into_iter().flat_map(|status| &status.services) {
            rows.push(Row::Service(service));
            let mut instances: Vec<_> = service.instances.iter().collect();
            match self.sort {
                Sort::Configured => {}
                Sort::Trouble => instances.sort_by_key(|one| trouble(one.state)),
                Sort::Rate => instances.sort_by(|a, b| {
                    let rate = |one| self.instance_rate(service, one).unwrap_or_default();
                    rate(b).total_cmp(&rate(a))
                }),
                Sort::InFlight => instances.sort_by_key(|one| std::cmp::Reverse(one.in_flight)),
            }
            rows.extend(instances.into_iter().map(|instance| Row::Instance(service, instance)));
        }
        rows
    }

    /// Which of the rows is selected: the first instance until another one is.
    pub(super) fn selected(&self, rows: &[Row<'_>]) -> Option<usize> {
        let is_selected = |row: &Row<'_>| row.id().is_some_and(|id| Some(&id) == self.selected.as_ref());
        let first = || rows.iter().position(|row| matches!(row, Row::Instance(..)));
        rows.iter().position(is_selected).or_else(first)
    }

    /// Requests per second over the last looks; none while there is but one.
    pub(super) fn instance_rate(&self, service: &ServiceStatus, instance: &InstanceStatus) -> Option<f64> {
        self.rate(service, |before| {
            let before = before.instances.iter().find(|one| one.name == instance.name)?;
            Some(instance.requests.saturating_sub(before.requests))
        })
    }

    /// Errors of everup itself per second, likewise.
    pub(super) fn error_rate(&self, service: &ServiceStatus) -> Option<f64> {
        self.rate(service, |before| Some(service.errors.saturating_sub(before.errors)))
    }

    /// The worker's own clock says how much time lies between two looks.
    fn rate(&self, service: &ServiceStatus, since: impl Fn(&ServiceStatus) -> Option<u64>) -> Option<f64> {
        let (first, last) = (self.looks.front()?, self.looks.back()?);
        let seconds = last.uptime_seconds - first.uptime_seconds;
        let before = first.services.iter().find(|one| one.name == service.name)?;
        (seconds > 0.0).then_some(since(before)? as f64 / seconds)
    }

    fn on_look(&mut self, status: Status, events: Events) {
        let is_same = |last: &Status| {
            (last.worker_pid, last.keeper_pid) == (status.worker_pid, status.keeper_pid)
                && last.uptime_seconds <= status.uptime_seconds
        };
        if !self.looks.back().is_some_and(is_same) {
            // Another worker counts from nothing.
            self.looks.clear();
        }
        if self.looks.len() == LOOKS {
            self.looks.pop_front();
        }
        self.looks.push_back(status);
        self.last_event = events.last;
        self.events.extend(events.events);
        self.events.drain(..self.events.len().saturating_sub(EVENTS));
    }

    fn on_key(&mut self, key: KeyEvent) -> Option<Output> {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Some(Output::Quit),
                KeyCode::Char('l') => Some(Output::Redraw),
                _ => None,
            };
        }
        match std::mem::take(&mut self.mode) {
            // Any key leaves the help.
            Mode::Help => None,
            Mode::Confirm { id, .. } => match key.code {
                KeyCode::Char('y' | 'Y') => Some(Output::Drain(id)),
                _ => None,
            },
            Mode::Usual => self.on_usual_key(key.code),
        }
    }

    fn on_usual_key(&mut self, key: KeyCode) -> Option<Output> {
        self.message = None;
        match key {
            KeyCode::Char('q') | KeyCode::Esc => return Some(Output::Quit),
            KeyCode::Up | KeyCode::Char('k') => self.select(-1),
            KeyCode::Down | KeyCode::Char('j') => self.select(1),
            KeyCode::PageUp => self.select(-PAGE),
            KeyCode::PageDown => self.select(PAGE),
            KeyCode::Home => self.select(isize::MIN),
            KeyCode::End => self.select(isize::MAX),
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('p') => self.paused = !self.paused,
            KeyCode::Char('?' | 'h') => self.mode = Mode::Help,
            KeyCode::Char('d') => self.mode = self.ask_to_drain().unwrap_or_default(),
            KeyCode::Char('u') => return self.selected_row().map(|(id, _)| Output::Undrain(id)),
            _ => {}
        }
        None
    }

    /// Moves the selection by so many instances, not beyond the first and the last.
    fn select(&mut self, by: isize) {
        let rows = self.rows();
        let ids: Vec<_> = rows.iter().filter_map(Row::id).collect();
        let Some(at) = self.selected(&rows).and_then(|row| rows[row].id()) else { return };
        let at = ids.iter().position(|id| *id == at).unwrap_or_default();
        let last = ids.len().saturating_sub(1);
        self.selected = ids.into_iter().nth(at.saturating_add_signed(by).min(last));
    }

    fn ask_to_drain(&self) -> Option<Mode> {
        let (id, is_last) = self.selected_row()?;
        Some(Mode::Confirm { id, is_last })
    }

    /// The selected instance, and whether no other one of its service takes requests.
    fn selected_row(&self) -> Option<(InstanceId, bool)> {
        let rows = self.rows();
        let Row::Instance(service, instance) = rows[self.selected(&rows)?] else { return None };
        let is_other = |one: &&InstanceStatus| one.name != instance.name;
        let others = service.instances.iter().filter(is_other);
        let is_last = !others.map(|one| one.state).any(takes);
        Some((InstanceId::new(service.name.as_str(), instance.name.as_str()), is_last))
    }
}

impl Row<'_> {
    /// The instance's; none of a service's own line.
    fn id(&self) -> Option<InstanceId> {
        match self {
            Row::Service(_) => None,
            Row::Instance(service, instance) => {
                Some(InstanceId::new(service.name.as_str(), instance.name.as_str()))
            }
        }
    }
}

impl Sort {
    /// As the operator is told.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Configured => "as configured",
            Self::Trouble => "by trouble",
            Self::Rate => "by rate",
            Self::InFlight => "by in flight",
        }
    }

    fn next(self) -> Self {
        match self {
            Self::Configured => Self::Trouble,
            Self::Trouble => Self::Rate,
            Self::Rate => Self::InFlight,
            Self::InFlight => Self::Configured,
        }
    }
}

/// It gets requests, if need be.
fn takes(state: InstanceState) -> bool {
    match state {
        InstanceState::Up | InstanceState::Ejected => true,
        InstanceState::Down
        | InstanceState::Unknown
        | InstanceState::Draining
        | InstanceState::Drained
        | InstanceState::Standby
        | InstanceState::Starting
        | InstanceState::Backoff
        | InstanceState::CrashLooping
        | InstanceState::Stopped => false,
    }
}

/// The smallest comes first.
fn trouble(state: InstanceState) -> u8 {
    match state {
        InstanceState::CrashLooping => 0,
        InstanceState::Down => 1,
        InstanceState::Backoff => 2,
        InstanceState::Ejected => 3,
        InstanceState::Unknown => 4,
        InstanceState::Starting => 5,
        InstanceState::Draining => 6,
        InstanceState::Drained => 7,
        InstanceState::Stopped => 8,
        InstanceState::Standby => 9,
        InstanceState::Up => 10,
    }
}

#[cfg(test)]
pub(super) mod tests;
