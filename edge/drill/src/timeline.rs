//! A drill as a picture (SVG): how long requests took over time, with the events marked and the losses beneath. What differs,
//! differs in shape and not only in colour; the colours are of a palette that colour-blind people tell apart (Okabe and
//! Ito), on a ground that follows the viewer's light or dark setting.

use std::fmt::Write as _;
use std::time::Duration;

use crate::ledger::Outcome;
use crate::report::{Report, shortened};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 470.0;
/// The field of the curve.
const LEFT: f64 = 66.0;
/// What is right of it is for the last name.
const RIGHT: f64 = 850.0;
const TOP: f64 = 150.0;
const BOTTOM: f64 = 370.0;
/// The line on which losses stand.
const LOST: f64 = 388.0;
/// Into so many parts is the time divided, each with its half and its slowest.
const PARTS: usize = 435;
/// Labels of events that would be closer than that are left out; their lines stay.
const LABEL_ROOM: f64 = 15.0;
/// So many labels stand at the axis of time, about.
const TICKS: f64 = 9.0;

const STYLE: &str = "\
.ground{fill:#ffffff}text{fill:#333333;font:12px system-ui,sans-serif}.title{font-size:15px;font-weight:600}\
.grid{stroke:#999999;stroke-opacity:.35}.event{stroke:#666666;stroke-dasharray:4 3}\
.half{fill:none;stroke:#0072b2;stroke-width:2}.slowest{fill:#e69f00}.lost{stroke:#d55e00;stroke-width:2}\
@media (prefers-color-scheme:dark){.ground{fill:#16181b}text{fill:#dddddd}.event{stroke:#aaaaaa}\
.half{stroke:#56b4e9}.lost{stroke:#ff8a4c}}";

/// What happened in one part of the time.
#[derive(Clone, Debug, Default)]
struct Part {
    answered_ms: Vec<f64>,
    lost: u64,
}

/// Where a moment and a duration are in the picture.
struct Scale {
    seconds: f64,
    /// Powers of ten, in milliseconds.
    least: i32,
    most: i32,
}

impl Report {
    /// The picture: one SVG document.
    pub fn svg(&self, title: &str) -> String {
        let parts = self.parts();
        let scale = Scale::of(self, &parts);
        let mut svg = String::new();
        let messages = match self.lost() - self.ledger.lost() {
            0 => String::new(),
            messages => format!(", and {messages} messages"),
        };
        let subtitle = format!(
            "{} requests, {} lost{messages}; p50 {:.1} ms, p99 {:.1} ms",
            self.ledger.sent(),
            self.ledger.lost(),
            millis(self.ledger.quantile(0.5)),
            millis(self.ledger.quantile(0.99))
        );
        put(
            &mut svg,
            &format!(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
                 height=\"{HEIGHT}\" role=\"img\"><title>{}</title><desc>{subtitle}</desc><style>{STYLE}</style>\
                 <rect class=\"ground\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>",
                escaped(title)
            ),
        );
        words(&mut svg, (LEFT, 24.0), "title", &shown(title));
        words(&mut svg, (LEFT, 42.0), "", &subtitle);
        grid(&mut svg, &scale);
        self.marks(&mut svg, &scale);
        curves(&mut svg, &scale, &parts);
        legend(&mut svg);
        put(&mut svg, "</svg>");
        svg
    }

    fn parts(&self) -> Vec<Part> {
        let mut parts = vec![Part::default(); PARTS];
        let whole = self.lasted.as_secs_f64().max(f64::MIN_POSITIVE);
        for entry in self.ledger.entries() {
            let place = (entry.due.as_secs_f64() / whole * PARTS as f64) as usize;
            let part = &mut parts[place.min(PARTS - 1)];
            match entry.outcome {
                Outcome::Answered(_) => part.answered_ms.push(millis(entry.took)),
                Outcome::Lost(_) => part.lost += 1,
            }
        }
        parts.iter_mut().for_each(|part| part.answered_ms.sort_by(f64::total_cmp));
        parts
    }

    /// A line for every event, with its name at the top where there is room; one that is repeated is named once.
    fn marks(&self, svg: &mut String, scale: &Scale) {
        let (mut last_x, mut last_name) = (f64::NEG_INFINITY, None);
        let (top, y) = (TOP - 8.0, TOP - 12.0);
        for event in &self.events {
            let x = scale.x(event.at);
            put(
                svg,
                &format!("<line class=\"event\" x1=\"{x:.1}\" y1=\"{top}\" x2=\"{x:.1}\" y2=\"{BOTTOM}\"/>"),
            );
            if x - last_x >= LABEL_ROOM && last_name != Some(&event.name) {
                (last_x, last_name) = (x, Some(&event.name));
                let name = escaped(&shortened(&event.name));
                put(
                    svg,
                    &format!(
                        "<text x=\"{x:.1}\" y=\"{y}\" transform=\"rotate(-40 {x:.1} {y})\">{name}</text>"
                    ),
                );
            }
        }
    }
}

impl Scale {
    fn of(report: &Report, parts: &[Part]) -> Self {
        let all = || {
            parts.iter().flat_map(|part| part.answered_ms.first().into_iter().chain(part.answered_ms.last()))
        };
        let least = all().copied().fold(1.0, f64::min).max(0.01);
        let most = all().copied().fold(1.0, f64::max);
        let (least, most) = (least.log10().floor() as i32, most.log10().ceil() as i32);
        Self { seconds: report.lasted.as_secs_f64().max(0.001), least, most: most.max(least + 1) }
    }

    fn x(&self, at: Duration) -> f64 {
        LEFT + (RIGHT - LEFT) * (at.as_secs_f64() / self.seconds).min(1.0)
    }

    fn x_of_part(&self, part: usize) -> f64 {
        LEFT + (RIGHT - LEFT) * (part as f64 + 0.5) / PARTS as f64
    }

    /// A longer time is higher, and ten times as long is always as much higher.
    fn y(&self, ms: f64) -> f64 {
        let height = (ms.max(1e-9).log10() - f64::from(self.least)) / f64::from(self.most - self.least);
        BOTTOM - (BOTTOM - TOP) * height.clamp(0.0, 1.0)
    }
}

/// Lines and numbers of both axes.
fn grid(svg: &mut String, scale: &Scale) {
    for power in scale.least..=scale.most {
        let (y, value) = (scale.y(10_f64.powi(power)), 10_f64.powi(power));
        let label = if value >= 1000.0 { format!("{} s", value / 1000.0) } else { format!("{value} ms") };
        put(svg, &format!("<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{RIGHT}\" y2=\"{y:.1}\"/>"));
        put(
            svg,
            &format!("<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>", LEFT - 8.0, y + 4.0),
        );
    }
    let step = round_step(scale.seconds / TICKS);
    let mut at = 0.0;
    while at <= scale.seconds * 1.0001 {
        let x = LEFT + (RIGHT - LEFT) * at / scale.seconds;
        let decimals = usize::from(step < 1.0);
        put(
            svg,
            &format!(
                "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{at:.decimals$} s</text>",
                LOST + 24.0
            ),
        );
        at += step;
    }
    put(
        svg,
        &format!("<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">lost</text>", LEFT - 8.0, LOST + 4.0),
    );
    put(svg, &format!("<line class=\"grid\" x1=\"{LEFT}\" y1=\"{LOST}\" x2=\"{RIGHT}\" y2=\"{LOST}\"/>"));
}

/// 1, 2 or 5 times a power of ten, at least so much.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= least)
        .unwrap_or(least)
}

fn curves(svg: &mut String, scale: &Scale, parts: &[Part]) {
    for (number, part) in parts.iter().enumerate() {
        if let Some(slowest) = part.answered_ms.last() {
            let (x, y) = (scale.x_of_part(number), scale.y(*slowest));
            put(svg, &format!("<circle class=\"slowest\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2\"/>"));
        }
    }
    let mut path = String::new();
    let mut joined = false;
    for (number, part) in parts.iter().enumerate() {
        match part.answered_ms.get(part.answered_ms.len() / 2) {
            Some(half) => {
                let step = if joined { "L" } else { "M" };
                write!(path, "{step}{:.1} {:.1}", scale.x_of_part(number), scale.y(*half))
                    .expect("text takes text");
                joined = true;
            }
            // Where requests were due and none was answered, there is nothing to draw a line through.
            None => joined &= part.lost == 0,
        }
    }
    put(svg, &format!("<path class=\"half\" d=\"{path}\"/>"));
    for (number, _) in parts.iter().enumerate().filter(|(_, part)| part.lost > 0) {
        cross(svg, scale.x_of_part(number), LOST);
    }
}

fn legend(svg: &mut String) {
    let y = HEIGHT - 24.0;
    let middle = y - 4.0;
    put(svg, &format!("<path class=\"half\" d=\"M{LEFT} {middle}L{:.1} {middle}\"/>", LEFT + 24.0));
    words(svg, (LEFT + 32.0, y), "", "half of the answers took no longer");
    put(svg, &format!("<circle class=\"slowest\" cx=\"{:.1}\" cy=\"{middle}\" r=\"3\"/>", LEFT + 268.0));
    words(svg, (LEFT + 280.0, y), "", "slowest answer");
    cross(svg, LEFT + 400.0, middle);
    words(svg, (LEFT + 412.0, y), "", "lost requests");
    put(
        svg,
        &format!(
            "<line class=\"event\" x1=\"{0:.1}\" y1=\"{1:.1}\" x2=\"{0:.1}\" y2=\"{2:.1}\"/>",
            LEFT + 522.0,
            middle - 8.0,
            middle + 8.0
        ),
    );
    words(svg, (LEFT + 534.0, y), "", "event; times count from the moment a request was due");
}

fn cross(svg: &mut String, x: f64, y: f64) {
    let (left, right, top, bottom) = (x - 4.0, x + 4.0, y - 4.0, y + 4.0);
    put(
        svg,
        &format!(
            "<path class=\"lost\" d=\"M{left:.1} {top:.1}L{right:.1} {bottom:.1}M{left:.1} {bottom:.1}L{right:.1} {top:.1}\"/>"
        ),
    );
}

fn words(svg: &mut String, (x, y): (f64, f64), class: &str, text: &str) {
    put(svg, &format!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escaped(text)));
}

/// A title that fits into one line.
fn shown(title: &str) -> String {
    let most = 110;
    match title.chars().count() > most {
        true => title.chars().take(most - 3).chain("...".chars()).collect(),
        false => title.to_owned(),
    }
}

/// XML 1.0: markup escaped, characters that it cannot hold replaced.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(' '),
            '\0'..' ' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            plain => escaped.push(plain),
        }
    }
    escaped
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn put(svg: &mut String, line: &str) {
    writeln!(svg, "{line}").expect("text takes text");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_the_axis_are_round() {
        assert_eq!((round_step(0.9), round_step(1.1), round_step(3.0)), (1.0, 2.0, 5.0));
        assert_eq!((round_step(60.0), round_step(0.03)), (100.0, 0.05));
    }

    #[test]
    fn markup_in_names_stays_text() {
        assert_eq!(escaped("a<b & \"c\"\u{1}"), "a&lt;b &amp; &quot;c&quot;\u{fffd}");
    }
}
