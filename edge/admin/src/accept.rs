//! Which format of the metrics page a scraper wants (RFC 9110 section 12.5.1): OpenMetrics if it says so and does not like
//! the plain text better, else that text, which everybody reads.

/// How the metrics page is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// What a client with this Accept gets.
    pub(crate) fn wanted(accept: &str) -> Self {
        let best = |name: &str| {
            let ranges = accept.split(',').filter_map(Range::read);
            ranges
                .filter(|range| range.name.eq_ignore_ascii_case(name))
                .map(|range| range.weight)
                .fold(0, u16::max)
        };
        let open_metrics = best("application/openmetrics-text");
        if open_metrics > 0 && open_metrics >= best("text/plain") { Self::OpenMetrics } else { Self::Text }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A media range of a version that we write, if it names one.
struct Range<'a> {
    name: &'a str,
    /// 0 to 1000.
    weight: u16,
}

impl<'a> Range<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let name = parts.next()?;
        let mut weight = 1000;
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match key.trim().to_ascii_lowercase().as_str() {
                "q" => weight = (value.parse::<f64>().ok()?.clamp(0.0, 1.0) * 1000.0) as u16,
                // Both drafts and releases of either format differ in nothing that is on this page but these.
                "version" if !["0.0.4", "1.0.0"].contains(&value) => return None,
                _ => {}
            }
        }
        Some(Self { name, weight })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_gets_openmetrics_by_the_header_of_its_second_and_third_version() {
        let second = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let third = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for accept in
            [second, third, "Application/OpenMetrics-Text", "application/openmetrics-text; version=\"1.0.0\""]
        {
            assert_eq!(Format::wanted(accept), Format::OpenMetrics, "{accept}");
        }
    }

    #[test]
    fn everybody_else_gets_the_plain_text() {
        let others = [
            "",
            "*/*",
            "text/plain",
            "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=nonsense",
            "application/openmetrics-text;version=0.0.1",
            "application/openmetrics-text;version=2.0.0",
            "text/plain,application/openmetrics-text;q=0.5",
        ];
        for accept in others {
            assert_eq!(Format::wanted(accept), Format::Text, "{accept}");
        }
    }
}
