//! What was measured, as the Markdown table of docs/benchmarks.md: medians, ranges, and ratios within a round.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::cell::Cell;
use crate::load::Sample;
use crate::percentile::quantile;
use crate::proxy::Kind;

#[derive(Default)]
pub(crate) struct Results {
    /// In the order of their first measurement.
    cells: Vec<String>,
    /// One sample per round.
    samples: BTreeMap<(String, Kind), Vec<Sample>>,
}

impl Results {
    pub(crate) fn add(&mut self, cell: &Cell, kind: Kind, sample: Sample) {
        let cell = cell.to_string();
        if !self.cells.contains(&cell) {
            self.cells.push(cell.clone());
        }
        self.samples.entry((cell, kind)).or_default().push(sample);
    }

    /// Of all proxies together.
    pub(crate) fn errors(&self) -> usize {
        self.samples.values().flatten().map(|sample| sample.errors).sum()
    }

    pub(crate) fn to_markdown(&self) -> String {
        let mut text = String::from(
            "| cell | haproxy us/req | nginx us/req | everup us/req | everup/haproxy | everup/nginx \
             | everup req/s | p50 us: haproxy, nginx, everup | everup p99 us | errors |\n\
             |---|---|---|---|---|---|---|---|---|---|\n",
        );
        for cell in &self.cells {
            let (haproxy, nginx) = (self.haproxy(cell), self.cost(cell, Kind::Nginx));
            let everup = self.cost(cell, Kind::Everup);
            let own = self.samples.get(&(cell.clone(), Kind::Everup)).map_or(&[][..], Vec::as_slice);
            let speed: Vec<f64> = own.iter().map(|sample| sample.requests_per_second).collect();
            let p99: Vec<f64> = own.iter().map(|sample| sample.p99_us).collect();
            let p50s = [Kind::Haproxy, Kind::Nginx, Kind::Everup].map(|kind| middle(&self.p50(cell, kind)));
            let errors = own.iter().map(|sample| sample.errors).sum::<usize>();
            writeln!(
                text,
                "| {cell} | {} | {} | {} | {} | {} | {} | {} | {} | {errors} |",
                spread(&haproxy, 1),
                spread(&nginx, 1),
                spread(&everup, 1),
                spread(&ratios(&everup, &haproxy), 2),
                spread(&ratios(&everup, &nginx), 2),
                middle(&speed),
                p50s.join(", "),
                middle(&p99),
            )
            .expect("writing to a string");
        }
        text
    }

    /// CPU microseconds per request, by round.
    fn cost(&self, cell: &str, kind: Kind) -> Vec<f64> {
        let samples = self.samples.get(&(cell.to_owned(), kind)).into_iter().flatten();
        samples.map(Sample::cpu_per_request_us).collect()
    }

    /// Half of a round's requests took at most so long; by round.
    fn p50(&self, cell: &str, kind: Kind) -> Vec<f64> {
        let samples = self.samples.get(&(cell.to_owned(), kind)).into_iter().flatten();
        samples.map(|sample| sample.p50_us).collect()
    }

    /// The better of HAProxy's two configurations.
    fn haproxy(&self, cell: &str) -> Vec<f64> {
        let (plain, bulk) = (self.cost(cell, Kind::Haproxy), self.cost(cell, Kind::HaproxyBulk));
        match (quantile(&plain, 0.5), quantile(&bulk, 0.5)) {
            (Some(plain_median), Some(bulk_median)) if bulk_median < plain_median => bulk,
            _ => plain,
        }
    }
}

/// Of the same round each.
fn ratios(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect()
}

/// `median [least-most]`
fn spread(values: &[f64], digits: usize) -> String {
    match [0.5, 0.0, 1.0].map(|share| quantile(values, share)) {
        [Some(median), Some(least), Some(most)] => {
            format!("{median:.digits$} [{least:.digits$}-{most:.digits$}]")
        }
        _ => "-".into(),
    }
}

fn middle(values: &[f64]) -> String {
    quantile(values, 0.5).map_or_else(|| "-".into(), |value| format!("{value:.0}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_compare_what_was_measured_in_the_same_round() {
        assert_eq!(spread(&ratios(&[7.0, 16.0, 6.0], &[10.0, 20.0, 10.0]), 2), "0.70 [0.60-0.80]");
    }

    #[test]
    fn a_proxy_that_is_not_there_leaves_its_column_empty() {
        assert_eq!(spread(&[], 1), "-");
    }
}
