//! How samples are written: Prometheus' text format 0.0.4, or OpenMetrics 1.0.0 for who asks for it. The same families and
//! labels in both, so that a series is the same whichever was scraped; OpenMetrics adds exemplars and an end.

use std::fmt::Write;
use std::time::Duration;

use everup_admin::Format;
use everup_gateway::Measured;

/// What stands behind a family's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A page in the making.
#[derive(Debug)]
pub(super) struct Page {
    text: String,
    format: Format,
}

impl Page {
    pub(super) fn new(format: Format) -> Self {
        Self { text: String::new(), format }
    }

    /// Begins a family; its samples must follow at once. A counter's name ends in `_total`.
    pub(super) fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let word = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // OpenMetrics: the suffix is the sample's, not the family's.
        let name = match self.format {
            Format::Text => name,
            Format::OpenMetrics => name.strip_suffix("_total").unwrap_or(name),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {word}");
    }

    pub(super) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Into<Number>) {
        self.unended(name, labels, value.into());
        self.text.push('\n');
    }

    /// The samples of one histogram. `unit`: so much of the measured is 1 in the sample.
    pub(super) fn histogram(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        measured: &Measured,
        (bounds, unit): (&[u64], f64),
    ) {
        let bucket = format!("{name}_bucket");
        let mut count = 0;
        for band in 0..=bounds.len() {
            let bound =
                bounds.get(band).map_or_else(|| "+Inf".to_owned(), |&bound| float(bound as f64 / unit));
            count += measured.spread.counts.get(band).copied().unwrap_or(0);
            let labelled: Vec<_> = labels.iter().copied().chain([("le", &*bound)]).collect();
            self.unended(&bucket, &labelled, Number::Whole(count));
            if let (Format::OpenMetrics, Some(Some(one))) = (self.format, measured.exemplars.get(band)) {
                let (id, value) = (escaped(&one.name), float(one.value as f64 / unit));
                let _ = write!(self.text, " # {{request_id=\"{id}\"}} {value} {}", seconds(one.wall));
            }
            self.text.push('\n');
        }
        let sum = measured.spread.sum;
        let sum = if unit == 1.0 { Number::Whole(sum) } else { Number::Broken(sum as f64 / unit) };
        self.sample(&format!("{name}_sum"), labels, sum);
        self.sample(&format!("{name}_count"), labels, count);
    }

    /// The whole page.
    pub(super) fn end(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn unended(&mut self, name: &str, labels: &[(&str, &str)], value: Number) {
        self.text.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let opens = if index == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{opens}{label}=\"{}\"", escaped(text));
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = match value {
            Number::Whole(value) => write!(self.text, " {value}"),
            Number::Broken(value) => write!(self.text, " {value}"),
        };
    }
}

/// A sample's value.
#[derive(Debug)]
pub(super) enum Number {
    Whole(u64),
    Broken(f64),
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

/// A bound is a float and looks like one: OpenMetrics wants `1.0`, and the other format must not make another series.
fn float(value: f64) -> String {
    format!("{value:?}")
}

/// To the millisecond.
fn seconds(wall: Duration) -> String {
    format!("{}.{:03}", wall.as_secs(), wall.subsec_millis())
}

/// The formats' rule for label values: backslash, quote and line feed are escaped, everything else stands as it is.
fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use everup_gateway::{DURATION_BOUNDS, Durations, durations};
    use everup_observe::PerThread;

    use super::*;

    #[test]
    fn label_values_are_escaped() {
        let mut page = Page::new(Format::Text);
        page.sample("x", &[("a", "back\\slash \"quote\"\nline"), ("b", "é")], 1);
        assert_eq!(page.end(), "x{a=\"back\\\\slash \\\"quote\\\"\\nline\",b=\"é\"} 1\n");
    }

    #[test]
    fn openmetrics_takes_the_suffix_off_a_counter_and_ends() {
        let mut page = Page::new(Format::OpenMetrics);
        page.family("x_total", Kind::Counter, "Help.");
        page.sample("x_total", &[], 1);
        assert_eq!(page.end(), "# HELP x Help.\n# TYPE x counter\nx_total 1\n# EOF\n");
    }

    #[test]
    fn a_histogram_counts_up_to_all_and_every_bound_is_a_float() {
        let cells = PerThread::<Durations>::new(1);
        for ms in [0, 3, 20_000] {
            cells.cell(0).record(Duration::from_millis(ms));
        }
        let mut page = Page::new(Format::Text);
        let measured = durations(&cells, Duration::ZERO);
        page.histogram("x", &[("a", "b")], &measured, (&DURATION_BOUNDS, 1e6));
        let text = page.end();
        for (le, n) in [("0.001", 1), ("0.005", 2), ("10.0", 2), ("+Inf", 3)] {
            let line = format!("x_bucket{{a=\"b\",le=\"{le}\"}} {n}\n");
            assert!(text.contains(&line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("x_sum{a=\"b\"} 20.003\nx_count{a=\"b\"} 3\n"), "{text}");
    }
}
