//! Readings and histograms → the text that Prometheus scrapes.
//!
//! *Owns* the translation of names and the two text formats. *Must not know* how it is served.
//! *Spec*: Prometheus exposition format 0.0.4; OpenMetrics 1.0; OpenTelemetry specification v1.60
//! `compatibility/prometheus_and_openmetrics.md`.

use std::fmt::Write;

use super::durations::{self, Series};
use super::readings::{self, Reading};
use spoor_core::time::nanoseconds;

/// Which text is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Prometheus' own, 0.0.4.
    Text,
    OpenMetrics,
}

impl Format {
    /// By the `Accept` header of a scrape.
    pub fn accepted(accept: &str) -> Self {
        let wants = accept.split(',').any(|range| range.trim().starts_with("application/openmetrics-text"));
        if wants { Format::OpenMetrics } else { Format::Text }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What the system says of the agent's own process, by the names all Prometheus clients use.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    pub open_descriptors: u64,
    pub max_descriptors: u64,
    pub start_unix_seconds: f64,
}

/// One page of metrics.
#[derive(Debug)]
pub struct Page {
    text: String,
    format: Format,
}

impl Page {
    pub fn new(format: Format) -> Self {
        Self { text: String::with_capacity(16 << 10), format }
    }

    /// Which agent this is.
    pub fn build(&mut self, labels: &[(&str, &str)]) {
        self.head("spoor_build_info", "gauge", "Version of the agent and how it captures; always 1");
        self.sample("spoor_build_info", labels.iter().copied(), None, "1");
    }

    pub fn readings(&mut self, all: &[Reading]) {
        for metric in readings::METRICS {
            let mut some = all.iter().filter(|reading| reading.metric == metric.name).peekable();
            if some.peek().is_none() {
                continue;
            }
            let base = name(metric.name, metric.unit);
            let kind = if metric.counter { "counter" } else { "gauge" };
            let sample = if metric.counter { format!("{base}_total") } else { base.clone() };
            // OpenMetrics names the family, the older format the sample.
            let family = if self.format == Format::OpenMetrics { &base } else { &sample };
            self.head(family, kind, metric.description);
            for reading in some {
                let labels = reading.labels.iter().map(|(key, value)| (*key, value.as_ref()));
                self.sample(&sample, labels, None, &reading.value.to_string());
            }
        }
    }

    pub fn durations(&mut self, all: &[Series]) {
        for (index, metric) in durations::METRICS.iter().enumerate() {
            let mut some = all.iter().filter(|series| series.metric == index).peekable();
            if some.peek().is_none() {
                continue;
            }
            let base = name(metric.name, "s");
            self.head(&base, "histogram", metric.description);
            for series in some {
                self.histogram(&base, metric.bounds, series);
            }
        }
    }

    pub fn process(&mut self, process: &Process) {
        let total = if self.format == Format::OpenMetrics { "" } else { "_total" };
        self.head(&format!("process_cpu_seconds{total}"), "counter", "User and system CPU time of the agent");
        self.sample("process_cpu_seconds_total", [].into_iter(), None, &process.cpu_seconds.to_string());
        let gauges = [
            ("process_resident_memory_bytes", "Resident memory of the agent", process.resident_bytes as f64),
            ("process_virtual_memory_bytes", "Virtual memory of the agent", process.virtual_bytes as f64),
            ("process_open_fds", "Open file descriptors of the agent", process.open_descriptors as f64),
            (
                "process_max_fds",
                "Bound on open file descriptors of the agent",
                process.max_descriptors as f64,
            ),
            ("process_start_time_seconds", "When the agent started (Unix time)", process.start_unix_seconds),
        ];
        for (name, help, value) in gauges {
            self.head(name, "gauge", help);
            self.sample(name, [].into_iter(), None, &value.to_string());
        }
    }

    /// The whole page.
    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn head(&mut self, family: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {family} {help}\n# TYPE {family} {kind}");
    }

    fn histogram(&mut self, base: &str, bounds: &[f64], series: &Series) {
        let labels = || series.labels.iter().map(|(key, value)| (*key, value.as_str()));
        let bucket = format!("{base}_bucket");
        let mut seen = 0;
        for (at, count) in series.counts.iter().enumerate() {
            seen += count;
            let bound = match bounds.get(at) {
                // OpenMetrics writes floats with a point.
                Some(bound) if bound.fract() == 0.0 => format!("{bound:.1}"),
                Some(bound) => bound.to_string(),
                None => "+Inf".to_owned(),
            };
            self.sample(&bucket, labels(), Some(&bound), &seen.to_string());
        }
        let sum = (nanoseconds(series.sum) as f64 / 1e9).to_string();
        self.sample(&format!("{base}_sum"), labels(), None, &sum);
        self.sample(&format!("{base}_count"), labels(), None, &series.count.to_string());
    }

    fn sample<'a>(
        &mut self,
        name: &str,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
        bound: Option<&str>,
        value: &str,
    ) {
        self.text.push_str(name);
        let mut opening = '{';
        for (key, value) in labels {
            self.label(opening, key, value);
            opening = ',';
        }
        if let Some(bound) = bound {
            self.label(opening, "le", bound);
            opening = ',';
        }
        if opening == ',' {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    fn label(&mut self, opening: char, key: &str, value: &str) {
        self.text.push(opening);
        self.text.extend(key.chars().map(|c| if c == '.' { '_' } else { c }));
        self.text.push_str("=\"");
        for c in value.chars() {
            match c {
                '\\' => self.text.push_str("\\\\"),
                '"' => self.text.push_str("\\\""),
                '\n' => self.text.push_str("\\n"),
                // Names come from the traffic: shown on a terminal, they must not steer it.
                c if c.is_control() => self.text.push('\u{fffd}'),
                c => self.text.push(c),
            }
        }
        self.text.push('"');
    }
}

/// `http.server.request.duration` in `s` is `http_server_request_duration_seconds`.
fn name(name: &str, unit: &str) -> String {
    let plain = name.replace('.', "_");
    match unit {
        "s" => plain + "_seconds",
        "By" => plain + "_bytes",
        _ => plain,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn page(format: Format) -> String {
        let mut page = Page::new(format);
        page.build(&[("version", "1.2.3")]);
        page.readings(&[
            Reading::plain("spoor.records", 17),
            Reading::labelled("spoor.discarded.size", "cause", "gap", 5),
            Reading::labelled("spoor.held", "odd", "a\"b\\c\nd\u{1b}[2J\r", 2),
        ]);
        let series = Series {
            metric: 2,
            labels: vec![("service.name", "shop".to_owned())],
            counts: vec![1, 0, 2, 0, 0, 0, 0, 0, 0, 1],
            sum: std::time::Duration::from_millis(12_500),
            count: 4,
            since_unix_ns: 0,
        };
        page.durations(&[series]);
        page.finish()
    }

    #[test]
    fn text_is_what_prometheus_reads() {
        expect![[r#"
            # HELP spoor_build_info Version of the agent and how it captures; always 1
            # TYPE spoor_build_info gauge
            spoor_build_info{version="1.2.3"} 1
            # HELP spoor_records_total Records handled
            # TYPE spoor_records_total counter
            spoor_records_total 17
            # HELP spoor_discarded_size_bytes_total Bytes of streams that could not be used or were left alone, by cause
            # TYPE spoor_discarded_size_bytes_total counter
            spoor_discarded_size_bytes_total{cause="gap"} 5
            # HELP spoor_held Operations held until their tree is complete
            # TYPE spoor_held gauge
            spoor_held{odd="a\"b\\c\nd�[2J�"} 2
            # HELP db_client_operation_duration_seconds Duration of database client operations
            # TYPE db_client_operation_duration_seconds histogram
            db_client_operation_duration_seconds_bucket{service_name="shop",le="0.001"} 1
            db_client_operation_duration_seconds_bucket{service_name="shop",le="0.005"} 1
            db_client_operation_duration_seconds_bucket{service_name="shop",le="0.01"} 3
            db_client_operation_duration_seconds_bucket{service_name="shop",le="0.05"} 3
            db_client_operation_duration_seconds_bucket{service_name="shop",le="0.1"} 3
            db_client_operation_duration_seconds_bucket{service_name="shop",le="0.5"} 3
            db_client_operation_duration_seconds_bucket{service_name="shop",le="1.0"} 3
            db_client_operation_duration_seconds_bucket{service_name="shop",le="5.0"} 3
            db_client_operation_duration_seconds_bucket{service_name="shop",le="10.0"} 3
            db_client_operation_duration_seconds_bucket{service_name="shop",le="+Inf"} 4
            db_client_operation_duration_seconds_sum{service_name="shop"} 12.5
            db_client_operation_duration_seconds_count{service_name="shop"} 4
        "#]]
        .assert_eq(&page(Format::Text));
    }

    #[test]
    fn openmetrics_names_families_without_suffix_and_ends() {
        let text = page(Format::OpenMetrics);
        assert!(text.contains("# TYPE spoor_records counter\nspoor_records_total 17\n"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn scrapers_get_the_format_they_ask_for() {
        for (accept, expected) in [
            ("", Format::Text),
            ("*/*", Format::Text),
            ("text/plain;version=0.0.4", Format::Text),
            ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", Format::OpenMetrics),
        ] {
            assert_eq!(Format::accepted(accept), expected, "{accept}");
        }
    }
}
