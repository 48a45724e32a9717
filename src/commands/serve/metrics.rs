//! Counts of a server, in the text format of Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use softstep::backend::DeviceInfo;

use crate::format::counted;

/// Upper bounds of the seconds of a prediction.
const SECONDS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Upper bounds of the examples of a batch.
const EXAMPLES: [f64; 8] = [1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0];

/// Counts of a server.
pub struct Metrics {
    /// Labels that tell version and device.
    info: String,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    /// Requests by route and status.
    requests: BTreeMap<(&'static str, u16), u64>,
    /// Seconds of `POST /predict`.
    seconds: Histogram<{ SECONDS.len() }>,
    /// Examples of batches.
    batches: Histogram<{ EXAMPLES.len() }>,
    /// Batches that the device did not compute.
    failed_batches: u64,
    connections: u64,
    refused_connections: u64,
}

/// A histogram with these many bounds.
struct Histogram<const BOUNDS: usize> {
    /// Values up to each bound, and above the one before.
    buckets: [u64; BOUNDS],
    count: u64,
    sum: f64,
}

impl<const BOUNDS: usize> Default for Histogram<BOUNDS> {
    fn default() -> Self {
        Self { buckets: [0; BOUNDS], count: 0, sum: 0.0 }
    }
}

impl<const BOUNDS: usize> Histogram<BOUNDS> {
    fn add(&mut self, value: f64, bounds: &[f64; BOUNDS]) {
        self.count += 1;
        self.sum += value;
        if let Some(bucket) = bounds.iter().position(|&bound| value <= bound) {
            self.buckets[bucket] += 1;
        }
    }

    fn write(&self, text: &mut String, name: &str, help: &str, bounds: &[f64; BOUNDS]) {
        head(text, name, help, "histogram");
        let mut up_to = 0;
        for (bound, bucket) in bounds.iter().zip(self.buckets) {
            up_to += bucket;
            let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {up_to}");
        }
        let _ = writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {}", self.count);
        let _ = writeln!(text, "{name}_sum {}\n{name}_count {}", self.sum, self.count);
    }
}

fn head(text: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// Escapes the value of a label.
fn label(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

impl Metrics {
    /// Creates counts of 0 for a server that computes on this device.
    pub fn new(device: &DeviceInfo) -> Self {
        let (backend, name, version) = (label(device.backend), label(&device.name), env!("CARGO_PKG_VERSION"));
        let info = format!("version=\"{version}\",backend=\"{backend}\",device=\"{name}\"");
        Self { info, counts: Mutex::default() }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an answer, and the seconds of a prediction.
    pub fn answered(&self, route: &'static str, status: u16, predicted_in: Option<Duration>) {
        let mut counts = self.counts();
        *counts.requests.entry((route, status)).or_default() += 1;
        if let Some(time) = predicted_in {
            counts.seconds.add(time.as_secs_f64(), &SECONDS);
        }
    }

    /// Counts a batch.
    pub fn batch(&self, examples: usize, is_computed: bool) {
        let mut counts = self.counts();
        match is_computed {
            true => counts.batches.add(examples as f64, &EXAMPLES),
            false => counts.failed_batches += 1,
        }
    }

    /// Counts a connection that opens.
    pub fn connected(&self) {
        self.counts().connections += 1;
    }

    /// Counts a connection that closes.
    pub fn disconnected(&self) {
        self.counts().connections -= 1;
    }

    /// Counts a connection beyond the most that are allowed.
    pub fn refused_connection(&self) {
        self.counts().refused_connections += 1;
    }

    /// Returns all counts in the text format of Prometheus.
    pub fn text(&self) -> String {
        let counts = self.counts();
        let mut text = String::new();
        head(&mut text, "softstep_info", "Version and device of the server.", "gauge");
        let _ = writeln!(text, "softstep_info{{{}}} 1", self.info);
        head(&mut text, "softstep_requests_total", "Answered requests.", "counter");
        for ((route, status), count) in &counts.requests {
            let _ = writeln!(text, "softstep_requests_total{{path=\"{route}\",status=\"{status}\"}} {count}");
        }
        let help = "Seconds from the head of a request to its prediction.";
        counts.seconds.write(&mut text, "softstep_predict_seconds", help, &SECONDS);
        let help = "Examples that were computed together.";
        counts.batches.write(&mut text, "softstep_batch_examples", help, &EXAMPLES);
        for (name, help, kind, value) in [
            (
                "softstep_failed_batches_total",
                "Batches that the device did not compute.",
                "counter",
                counts.failed_batches,
            ),
            ("softstep_connections", "Open connections.", "gauge", counts.connections),
            (
                "softstep_refused_connections_total",
                "Connections beyond the most that are allowed.",
                "counter",
                counts.refused_connections,
            ),
        ] {
            head(&mut text, name, help, kind);
            let _ = writeln!(text, "{name} {value}");
        }
        text
    }

    /// Returns what was done, in a line.
    pub fn summary(&self) -> String {
        let counts = self.counts();
        let requests: u64 = counts.requests.values().sum();
        format!(
            "answered {}, predicted {} in {}",
            counted(requests as usize, "request"),
            counted(counts.batches.sum as usize, "example"),
            match counts.batches.count {
                1 => "1 batch".into(),
                count => format!("{} batches", crate::format::count(count as usize)),
            }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_written_as_prometheus_reads_them() {
        let name = String::from("a \"b\" \\");
        let device = DeviceInfo { backend: "cpu", name, device_type: "cpu", driver: String::new() };
        let metrics = Metrics::new(&device);
        metrics.answered("/predict", 200, Some(Duration::from_millis(2)));
        metrics.answered("/predict", 200, Some(Duration::from_secs(60)));
        metrics.answered("other", 404, None);
        metrics.batch(3, true);
        metrics.batch(5, false);
        metrics.connected();
        let text = metrics.text();
        for line in [
            "softstep_info{version=\"VERSION\",backend=\"cpu\",device=\"a \\\"b\\\" \\\\\"} 1",
            "# TYPE softstep_requests_total counter",
            "softstep_requests_total{path=\"/predict\",status=\"200\"} 2",
            "softstep_requests_total{path=\"other\",status=\"404\"} 1",
            "softstep_predict_seconds_bucket{le=\"0.001\"} 0",
            "softstep_predict_seconds_bucket{le=\"0.0025\"} 1",
            "softstep_predict_seconds_bucket{le=\"10\"} 1",
            "softstep_predict_seconds_bucket{le=\"+Inf\"} 2",
            "softstep_predict_seconds_sum 60.002",
            "softstep_predict_seconds_count 2",
            "softstep_batch_examples_bucket{le=\"4\"} 1",
            "softstep_batch_examples_sum 3",
            "softstep_failed_batches_total 1",
            "softstep_connections 1",
        ] {
            let line = line.replace("VERSION", env!("CARGO_PKG_VERSION"));
            assert!(text.lines().any(|other| other == line), "{line} in {text}");
        }
        assert_eq!(metrics.summary(), "answered 3 requests, predicted 3 examples in 1 batch");
    }
}
