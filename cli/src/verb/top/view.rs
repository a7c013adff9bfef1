//! The picture of `everup top`, for any size of terminal. Pure: a state and a time in, cells out. Plain ASCII, so that
//! a serial console shows it, too.

mod cells;
mod popup;

use std::time::{SystemTime, UNIX_EPOCH};

use everup_admin::api::Status;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use crate::events;
use crate::live;
use crate::table::{Colour, counted, lasting, printable};

use super::state::{Mode, Row, State};
use cells::Columns;

/// Below this there is room for a summary only.
const LEAST: (u16, u16) = (24, 4);

/// From this height on the last events are shown even if they take lines from the table.
const EVENTS_FROM: u16 = 12;

/// Whether there are colours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Palette {
    pub(super) coloured: bool,
}

impl Palette {
    fn style(self, colour: Colour) -> Style {
        let style = match colour {
            Colour::Dim => return Style::new().add_modifier(Modifier::DIM),
            Colour::Bold => return Style::new().add_modifier(Modifier::BOLD),
            Colour::Red => Style::new().fg(Color::Red),
            Colour::Green => Style::new().fg(Color::Green),
            Colour::Yellow => Style::new().fg(Color::Yellow),
        };
        if self.coloured { style } else { Style::new() }
    }
}

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State, now: SystemTime, palette: Palette) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let text = match (state.unreachable(), state.status()) {
            (Some(gone), _) => format!("not reachable since {}", time_of_day(gone.since)),
            (None, Some(status)) => live::summary(status),
            (None, None) => String::new(),
        };
        let text = Paragraph::new(text).wrap(ratatui::widgets::Wrap { trim: true });
        return frame.render_widget(text, area);
    }
    let [head, table, events, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(events_height(area.height, state.rows().len())),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(head_line(state, now, palette), head);
    draw_table(frame, table, state, palette);
    draw_events(frame, events, state, palette);
    frame.render_widget(foot_line(state, now), foot);
    match state.mode() {
        Mode::Usual => {}
        Mode::Help => popup::draw(frame, area, "everup top", popup::HELP),
        Mode::Confirm { id, is_last } => {
            let question = format!("Drain {id}? It gets no new requests until it is undrained.");
            let question = printable(&question);
            let warning = "Nobody else of the service takes requests: they will wait.";
            let lines = if *is_last { vec![question.as_str(), warning] } else { vec![question.as_str()] };
            popup::draw(frame, area, "y: drain   any other key: no", &lines);
        }
    }
}

/// Events get what the table leaves, and on all but small terminals a part in any case. One line alone holds but their
/// title.
fn events_height(height: u16, rows: usize) -> u16 {
    let around_the_table = 3;
    let left = usize::from(height).saturating_sub(around_the_table + rows);
    let least = if height < EVENTS_FROM { 0 } else { height / 4 };
    let lines = u16::try_from(left).unwrap_or(u16::MAX).max(least);
    if lines < 2 { 0 } else { lines }
}

/// How everup itself is; or that it does not answer.
fn head_line(state: &State, now: SystemTime, palette: Palette) -> Line<'static> {
    let mut spans = Vec::new();
    if let Some(gone) = state.unreachable() {
        let lasted = now.duration_since(gone.since).unwrap_or_default().as_secs_f64();
        let text = format!(
            "not reachable since {} UTC ({}): {}",
            time_of_day(gone.since),
            lasting(lasted),
            printable(&gone.why)
        );
        return Line::styled(text, palette.style(Colour::Red).add_modifier(Modifier::BOLD));
    }
    let Some(status) = state.status() else { return Line::raw("asks everup ...") };
    if state.is_paused() {
        spans.push(Span::styled("PAUSED", palette.style(Colour::Yellow).add_modifier(Modifier::REVERSED)));
        spans.push(Span::raw(" "));
    }
    if let Some(silence) = state.silence(now) {
        let text = format!("no answer for {}  ", lasting(silence.as_secs_f64()));
        spans.push(Span::styled(text, palette.style(Colour::Red)));
    }
    let (word, colour) = match (status.stopping, status.ready) {
        (true, _) => ("stopping", Colour::Yellow),
        (false, true) => ("ready", Colour::Green),
        (false, false) => ("not ready", Colour::Red),
    };
    spans.push(Span::styled(printable(&status.node), palette.style(Colour::Bold)));
    spans.push(Span::raw(": "));
    spans.push(Span::styled(word, palette.style(colour)));
    if status.keeper_gone {
        spans.push(Span::styled(", keeper: gone", palette.style(Colour::Red)));
    }
    if !status.warnings.is_empty() {
        spans.push(Span::styled(", WARNING (see status)", palette.style(Colour::Red)));
    }
    spans.push(Span::raw(about(status)));
    Line::from(spans)
}

fn about(status: &Status) -> String {
    let replaced = match status.worker_restarts {
        0 => String::new(),
        n => format!(", worker replaced {}", counted(u64::from(n), "time")),
    };
    format!(
        " for {}  {}  table {}  everup {}{replaced}",
        lasting(status.uptime_seconds),
        counted(status.connections, "connection"),
        status.generation,
        status.version,
    )
}

fn draw_table(frame: &mut Frame<'_>, area: Rect, state: &State, palette: Palette) {
    let rows = state.rows();
    let columns = Columns::of(&rows, area.width);
    let selected = state.selected(&rows);
    let [titles, body] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
    frame.render_widget(Line::styled(columns.titles(), palette.style(Colour::Dim)), titles);
    let first = first_shown(rows.len(), selected, usize::from(body.height));
    let is_old = state.unreachable().is_some();
    let lines = rows.iter().enumerate().skip(first).take(usize::from(body.height)).map(|(index, row)| {
        let line = match row {
            Row::Service(service) => columns.service(service, state.error_rate(service), palette),
            Row::Instance(service, instance) => {
                columns.instance(instance, state.instance_rate(service, instance), palette)
            }
        };
        let line = if is_old { line.patch_style(palette.style(Colour::Dim)) } else { line };
        if Some(index) == selected { line.patch_style(Modifier::REVERSED) } else { line }
    });
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), body);
}

/// The selected row stays in the middle, but for the ends.
fn first_shown(rows: usize, selected: Option<usize>, height: usize) -> usize {
    selected.unwrap_or_default().saturating_sub(height / 2).min(rows.saturating_sub(height))
}

fn draw_events(frame: &mut Frame<'_>, area: Rect, state: &State, palette: Palette) {
    if area.height == 0 {
        return;
    }
    let title = Line::styled("LAST EVENTS (UTC)", palette.style(Colour::Dim));
    let newest = state.events().rev().take(usize::from(area.height) - 1);
    let newest =
        newest.map(|event| Line::styled(events::line(event), palette.style(events::colour(event.kind))));
    let lines: Vec<_> = std::iter::once(title).chain(newest).collect();
    frame.render_widget(Paragraph::new(lines), area);
}

fn foot_line(state: &State, now: SystemTime) -> Line<'static> {
    let text = match state.message(now) {
        Some(message) => printable(message),
        None => format!(
            "j/k select  d drain  u undrain  s sort ({})  p {}  ? help  q quit",
            state.sort().word(),
            if state.is_paused() { "go on" } else { "pause" },
        ),
    };
    Line::styled(text, Modifier::BOLD)
}

/// Of the day in UTC: `11:58:26`.
fn time_of_day(time: SystemTime) -> String {
    let second = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() % 86_400;
    format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests;
