//! Output of `softstep bench`.

use indicatif::ProgressBar;
use serde::Serialize;
use softstep::backend::DeviceInfo;
use softstep::model::Architecture;

use crate::format::short;
use crate::model_summary::model_name;
use crate::terminal::{field, print, print_json, right, serialize_device, style, table};

/// Training speed of a backend on a configuration.
#[derive(Debug, Serialize)]
pub struct Speed {
    /// Median of the steps per second over the rounds.
    pub steps_per_second: f64,
    /// Examples per second.
    pub images_per_second: f64,
    /// 10⁹ floating-point operations of matrix products per second.
    pub gflop_per_second: f64,
    /// Time from opening the device to the first loss on the host.
    pub first_loss_seconds: f64,
    /// Steps per second in each round.
    pub rounds: Vec<f64>,
    /// Device.
    #[serde(flatten, serialize_with = "serialize_device")]
    pub device: DeviceInfo,
}

/// Speeds of a configuration on both backends.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// The model.
    pub architecture: Architecture,
    /// Layer sizes `[features, hidden…, classes]` of a stack of linear layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sizes: Option<Vec<usize>>,
    /// Examples in a step.
    pub batch_size: usize,
    /// Speed of the GPU; `None` without an adapter.
    pub gpu: Option<Speed>,
    /// Speed of the CPU.
    pub cpu: Speed,
    /// Median over the rounds of the ratio of GPU speed to CPU speed.
    pub gpu_per_cpu: Option<f64>,
    /// The faster backend.
    #[serde(rename = "use")]
    pub best: &'static str,
}

/// Progress of a benchmark.
#[derive(Debug)]
pub struct Progress {
    json: bool,
    bar: ProgressBar,
    rows: Vec<Comparison>,
}

impl Progress {
    /// Starts with the number of configurations.
    pub fn new(configurations: usize, json: bool) -> Self {
        let bar = ProgressBar::new(configurations as u64);
        bar.set_style(style("measuring {msg}  {bar:24} {pos}/{len}"));
        Self { json, bar, rows: Vec::new() }
    }

    /// Shows the current configuration.
    pub fn begin(&self, architecture: &Architecture, batch_size: usize) {
        self.bar.set_message(format!("{}, batches of {batch_size}", model_name(architecture)));
        self.bar.tick();
    }

    /// Adds the result of a configuration.
    pub fn measured(&mut self, row: Comparison) -> softstep::Result<()> {
        self.bar.inc(1);
        if self.json {
            self.bar.suspend(|| print_json(&row))?;
        }
        self.rows.push(row);
        Ok(())
    }

    /// Prints the table.
    pub fn done(&self) -> softstep::Result<()> {
        self.bar.finish_and_clear();
        let Some(first) = self.rows.first().filter(|_| !self.json) else { return Ok(()) };
        let mut devices = String::new();
        for (name, speed) in [("GPU", first.gpu.as_ref()), ("CPU", Some(&first.cpu))] {
            if let Some(DeviceInfo { name: adapter, device_type, driver, .. }) = speed.map(|speed| &speed.device) {
                devices += &format!("{}\n", field(name, &format!("{adapter} ({device_type}; {driver})")));
            }
        }
        let has_gpu = first.gpu.is_some();
        let backends = if has_gpu { &["GPU", "CPU"][..] } else { &["CPU"] };
        let figures = ["steps/s", "images/s", "GFLOP/s", "first loss"];
        let mut header = vec!["model".to_string(), "batch".to_string()];
        header.extend(figures.iter().flat_map(|figure| backends.iter().map(move |name| format!("{figure}\n{name}"))));
        if has_gpu {
            header.extend(["GPU/CPU", "use"].map(String::from));
        }
        let mut table = table(&[]);
        table.set_header(right(header));
        for row in &self.rows {
            let speeds: Vec<&Speed> = row.gpu.iter().chain([&row.cpu]).collect();
            let mut cells = vec![model_name(&row.architecture), row.batch_size.to_string()];
            cells.extend(speeds.iter().map(|speed| short(speed.steps_per_second)));
            cells.extend(speeds.iter().map(|speed| short(speed.images_per_second)));
            cells.extend(speeds.iter().map(|speed| short(speed.gflop_per_second)));
            cells.extend(speeds.iter().map(|speed| format!("{} ms", short(1e3 * speed.first_loss_seconds))));
            if let Some(ratio) = row.gpu_per_cpu {
                cells.extend([format!("{ratio:.2}"), row.best.to_string()]);
            }
            table.add_row(right(cells));
        }
        print(&format!("{devices}\n{table}"))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
