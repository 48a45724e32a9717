//! Counts of a server, in the text format of Prometheus.

use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, prometheus_text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use softstep::backend::DeviceInfo;

use crate::format::{count, counted};

/// Media type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;
/// Upper bounds of the seconds of a prediction.
const SECONDS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Upper bounds of the examples of a batch.
const EXAMPLES: [f64; 8] = [1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0];

/// Counts of a server.
pub struct Metrics {
    registry: Registry,
    requests: Family<Answer, Counter>,
    /// Seconds of `POST /predict`.
    seconds: Histogram,
    /// Examples of batches.
    batches: Histogram,
    /// Batches that the device did not compute.
    failed_batches: Counter,
    connections: Gauge,
    refused_connections: Counter,
    totals: Totals,
}

/// Totals for the summary: families and histograms cannot be read.
#[derive(Default)]
struct Totals {
    requests: Counter,
    examples: Counter,
    batches: Counter,
}

/// Labels of an answered request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    path: &'static str,
    status: u16,
}

impl Metrics {
    /// Creates counts of 0 for a server that computes on this device.
    pub fn new(device: &DeviceInfo) -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            requests: Family::default(),
            seconds: Histogram::new(SECONDS),
            batches: Histogram::new(EXAMPLES),
            failed_batches: Counter::default(),
            connections: Gauge::default(),
            refused_connections: Counter::default(),
            totals: Totals::default(),
        };
        let labels = [("version", env!("CARGO_PKG_VERSION")), ("backend", device.backend), ("device", &device.name)];
        let info = Info::new(labels.map(|(name, value)| (name, value.to_string())));
        // The registry appends a full stop to each text, `_info` to the name of an info, and `_total` to those of counters.
        let registry = &mut metrics.registry;
        registry.register("softstep", "Version and device of the server", info);
        registry.register("softstep_requests", "Answered requests", metrics.requests.clone());
        let help = "Seconds from the head of a request to its prediction";
        registry.register("softstep_predict_seconds", help, metrics.seconds.clone());
        registry.register("softstep_batch_examples", "Examples that were computed together", metrics.batches.clone());
        let help = "Batches that the device did not compute";
        registry.register("softstep_failed_batches", help, metrics.failed_batches.clone());
        registry.register("softstep_connections", "Open connections", metrics.connections.clone());
        let help = "Connections beyond the most that are allowed";
        registry.register("softstep_refused_connections", help, metrics.refused_connections.clone());
        metrics
    }

    /// Counts an answer, and the seconds of a prediction.
    pub fn answered(&self, path: &'static str, status: u16, predicted_in: Option<Duration>) {
        self.totals.requests.inc();
        self.requests.get_or_create(&Answer { path, status }).inc();
        if let Some(time) = predicted_in {
            self.seconds.observe(time.as_secs_f64());
        }
    }

    /// Counts a batch.
    pub fn batch(&self, examples: usize, is_computed: bool) {
        if is_computed {
            self.totals.batches.inc();
            self.totals.examples.inc_by(examples as u64);
            self.batches.observe(examples as f64);
        } else {
            self.failed_batches.inc();
        }
    }

    /// Counts a connection that opens.
    pub fn connected(&self) {
        self.connections.inc();
    }

    /// Counts a connection that closes.
    pub fn disconnected(&self) {
        self.connections.dec();
    }

    /// Counts a connection beyond the most that are allowed.
    pub fn refused_connection(&self) {
        self.refused_connections.inc();
    }

    /// Returns all counts in the text format of Prometheus.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // A String takes any text.
        let _ = prometheus_text::encode(&mut text, &self.registry);
        text
    }

    /// Returns what was done, in a line.
    pub fn summary(&self) -> String {
        let [requests, examples, batches] =
            [&self.totals.requests, &self.totals.examples, &self.totals.batches].map(|total| total.get() as usize);
        format!(
            "answered {}, predicted {} in {}",
            counted(requests, "request"),
            counted(examples, "example"),
            if batches == 1 { "1 batch".into() } else { format!("{} batches", count(batches)) }
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
            "softstep_batch_examples_sum 3.0",
            "softstep_failed_batches_total 1",
            "softstep_connections 1",
        ] {
            let line = line.replace("VERSION", env!("CARGO_PKG_VERSION"));
            assert!(text.lines().any(|other| other == line), "{line} in {text}");
        }
        assert_eq!(metrics.summary(), "answered 3 requests, predicted 3 examples in 1 batch");
    }
}
