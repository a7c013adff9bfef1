//! A few lines in a frame over the middle of the picture: the help, and a question.

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::Modifier;
use ratatui::symbols::border;
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Paragraph, Wrap};

/// What `?` shows.
pub(super) const HELP: &[&str] = &[
    "up/k, down/j   select an instance; PageUp, PageDown, Home, End",
    "d              drain it (asks first)",
    "u              undrain it",
    "s              sort instances",
    "p              pause the picture, and go on",
    "Ctrl-L         draw anew",
    "q, Esc, Ctrl-C quit",
    "",
    "REQ/S is over the last 5 s, p50 and p99 over the last 30 s.",
    "A drain goes on after you quit.",
];

const FRAME: border::Set<'_> = border::Set {
    top_left: "+",
    top_right: "+",
    bottom_left: "+",
    bottom_right: "+",
    vertical_left: "|",
    vertical_right: "|",
    horizontal_top: "-",
    horizontal_bottom: "-",
};

/// Draws it as large as it is, or as there is room.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, title: &str, lines: &[&str]) {
    let longest = lines.iter().map(|line| line.chars().count()).max().unwrap_or_default();
    let widest = longest.max(title.chars().count() + 2) + 2;
    let width = u16::try_from(widest).unwrap_or(u16::MAX).min(area.width);
    let text = Paragraph::new(lines.iter().map(|line| Line::raw(*line)).collect::<Vec<_>>());
    let text = text.wrap(Wrap { trim: false });
    let inside = usize::from(width.saturating_sub(2).max(1));
    let height: usize = lines.iter().map(|line| line.chars().count().div_ceil(inside).max(1)).sum();
    // One more where words are wrapped before the line's end.
    let wraps = lines.iter().any(|line| line.chars().count() > inside);
    let height = u16::try_from(height + 2 + usize::from(wraps)).unwrap_or(u16::MAX);
    let place = area.centered(Constraint::Length(width), Constraint::Length(height.min(area.height)));
    let title = Line::styled(format!(" {title} "), Modifier::REVERSED);
    frame.render_widget(Clear, place);
    frame.render_widget(text.block(Block::bordered().border_set(FRAME).title(title)), place);
}
