//! The lines of the table: a few aligned columns that services and instances share, and behind them what there is to
//! say of either. What does not fit is left out from the right.

use everup_admin::api::{InstanceState, InstanceStatus, ServiceStatus};
use ratatui::text::{Line, Span};

use crate::table::{Colour, colour, counted, lasting, milliseconds, printable};

use super::super::state::Row;
use super::Palette;

/// Widths of the columns behind the name, with the two blanks in front of each.
const STATE: usize = 15;
const SINCE: usize = 9;
const RATE: usize = 9;
const IN_FLIGHT: usize = 8;

/// How far instances are moved in.
const INDENT: &str = "  ";

/// Which columns there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Columns {
    name: usize,
    since: bool,
    rate: bool,
    in_flight: bool,
}

impl Columns {
    /// The columns that fit into `width`.
    pub(super) fn of(rows: &[Row<'_>], width: u16) -> Self {
        let width = usize::from(width);
        let longest = rows.iter().map(|row| match row {
            Row::Service(service) => service.name.chars().count(),
            Row::Instance(_, instance) => instance.name.chars().count() + INDENT.len(),
        });
        let name = longest.max().unwrap_or_default().clamp(8, (width / 2).max(8));
        let mut left = width.saturating_sub(name + STATE);
        let mut fits = |column: usize| {
            let fits = left >= column;
            left = if fits { left - column } else { 0 };
            fits
        };
        Self { name, rate: fits(RATE), in_flight: fits(IN_FLIGHT), since: fits(SINCE) }
    }

    /// The line above.
    pub(super) fn titles(self) -> String {
        self.cells("SERVICE", "STATE", "SINCE", "REQ/S", "FLIGHT").concat() + "  "
    }

    /// A service's own line.
    pub(super) fn service(
        self,
        service: &ServiceStatus,
        errors: Option<f64>,
        palette: Palette,
    ) -> Line<'static> {
        let ServiceStatus { name, requests_per_second, in_flight, parked, queued, instances, .. } = service;
        let up = instances.iter().filter(|one| one.state == InstanceState::Up).count();
        let colour = match up {
            0 => Colour::Red,
            n if n < instances.len() => Colour::Yellow,
            _ => Colour::Green,
        };
        let up = format!("{up} of {} up", instances.len());
        let rate = format!("{requests_per_second:.1}");
        let [name, state, rest] = self.cells(&printable(name), &up, "", &rate, &in_flight.to_string());
        let mut spans = vec![
            Span::styled(name, palette.style(Colour::Bold)),
            Span::styled(state, palette.style(colour)),
            Span::raw(rest),
        ];
        if *parked > 0 {
            spans.push(Span::styled(format!("  {parked} parked"), palette.style(Colour::Yellow)));
        }
        if *queued > 0 {
            spans.push(Span::styled(format!("  {queued} queued"), palette.style(Colour::Yellow)));
        }
        if let Some(errors) = errors.filter(|errors| *errors > 0.0) {
            spans.push(Span::styled(format!("  {errors:.1} errors/s"), palette.style(Colour::Red)));
        }
        let (p50, p99) = (milliseconds(service.p50_ms), milliseconds(service.p99_ms));
        spans.push(Span::raw(format!("  p50 {p50}  p99 {p99}")));
        Line::from(spans)
    }

    /// An instance's line.
    pub(super) fn instance(
        self,
        instance: &InstanceStatus,
        rate: Option<f64>,
        palette: Palette,
    ) -> Line<'static> {
        let InstanceStatus { name, state, since_seconds, in_flight, .. } = instance;
        let rate = rate.map(|rate| format!("{rate:.1}")).unwrap_or_default();
        let name = format!("{INDENT}{}", printable(name));
        let [name, word, rest] =
            self.cells(&name, &state.to_string(), &lasting(*since_seconds), &rate, &in_flight.to_string());
        Line::from(vec![
            Span::raw(name),
            Span::styled(word, palette.style(colour(*state))),
            Span::raw(rest),
            Span::raw(format!("  {}", remarks(instance))),
        ])
    }

    /// Name, state, and the rest of the columns.
    fn cells(self, name: &str, state: &str, since: &str, rate: &str, in_flight: &str) -> [String; 3] {
        let width = self.name;
        let name: String = name.chars().take(width).collect();
        let mut rest = String::new();
        if self.since {
            rest += &format!("  {since:<7}");
        }
        if self.rate {
            rest += &format!("{rate:>RATE$}");
        }
        if self.in_flight {
            rest += &format!("{in_flight:>IN_FLIGHT$}");
        }
        [format!("{name:<width$}"), format!("  {state:<13}"), rest]
    }
}

/// What is unusual about an instance, the most important first.
fn remarks(instance: &InstanceStatus) -> String {
    let InstanceStatus {
        reason, returns_in_seconds, weight, backup, restarts, tunnels, pid, revision, ..
    } = instance;
    let mut remarks = Vec::new();
    if !reason.is_empty() {
        remarks.push(printable(reason));
    }
    if let Some(left) = returns_in_seconds {
        remarks.push(format!("returns in {left:.0} s"));
    }
    if *backup {
        remarks.push("backup".to_owned());
    }
    if *weight != 1 {
        remarks.push(format!("weight {weight}"));
    }
    if *restarts > 0 {
        remarks.push(counted(*restarts, "restart"));
    }
    if *tunnels > 0 {
        remarks.push(counted(*tunnels, "tunnel"));
    }
    remarks.extend(pid.map(|pid| format!("pid {pid}")));
    remarks.extend(revision.as_deref().map(printable));
    remarks.join(", ")
}
