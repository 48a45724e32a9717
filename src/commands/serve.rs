//! `softstep serve`: a small HTTP server that predicts with a trained model.
//!
//! One thread speaks HTTP, as many as there are processors read the bodies, and the thread of the command computes: all
//! bodies that have arrived meanwhile make the next batch.

mod batches;
mod body;
mod http;
mod metrics;
mod page;
mod rows;

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use serde_json::json;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::{Builder, Runtime};

use self::http::{Limits, Server};
use self::metrics::Metrics;
use super::predict::{FitChoice, checked_fit};
use super::train::signals::stop_on_signals;
use crate::device;
use crate::model_summary::model_name;
use crate::options::{DeviceArgs, at_least_1};
use crate::run::model;
use crate::terminal;

/// Examples and formats, shown by `--help`.
pub const HELP: &str = "\
Examples:
  softstep serve runs/mlp                                   on http://127.0.0.1:8000
  curl --data-binary @seven.png http://127.0.0.1:8000/predict
  curl -d '[{\"size\": 3.1, \"colour\": \"red\"}]' http://127.0.0.1:8000/predict
  softstep serve runs/mlp --listen 0.0.0.0:80               for the whole network

POST /predict takes a file that `softstep predict` reads (an image, a table, an array, an IDX file), or rows in JSON: objects \
with column names for models of tables, numbers for others. It answers with a JSON object, whose predictions are those that \
`softstep predict --json` prints; ?top=K sets the number of classes. A request that cannot be predicted gets a status 4xx and \
{\"error\": \"the reason\"}. GET / is a page to try the model, GET /health says whether the server works, and GET /metrics \
counts requests, examples and times for Prometheus.

On SIGINT or SIGTERM the server answers the requests that it has begun, and ends. It has neither passwords nor encryption: \
for use beyond this machine, put a server that has both in front of it.";

/// Options of `softstep serve`.
#[derive(Args, Debug)]
pub struct ServeArgs {
    /// The model: a model.safetensors, or a run folder that holds one
    #[arg(value_name = "FILE|FOLDER")]
    model: PathBuf,
    /// Address to listen on; port 0 is any free port
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8000")]
    listen: String,
    /// Fit of pictures to the images of a model, as for `softstep predict`
    #[arg(long, value_enum)]
    fit: Option<FitChoice>,
    /// Read only the largest digit of a picture
    #[arg(long)]
    one: bool,
    /// Largest body of a request, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 10, value_parser = at_least_1)]
    max_body: usize,
    /// Largest number of connections at once; further ones are answered with 503
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = at_least_1)]
    max_connections: usize,
    /// Time limit in seconds, each for a request to arrive, for its prediction, and for sending the answer
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = at_least_1)]
    timeout: usize,
    /// The device.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Print a JSON line with the address for programs
    #[arg(long)]
    json: bool,
}

/// Largest body that `--max-body` allows, in MiB.
const MOST_MIB: usize = 1024;
/// Most connections that `--max-connections` allows.
const MOST_CONNECTIONS: usize = 65_536;
/// Longest time that `--timeout` allows, in seconds.
const MOST_SECONDS: usize = 86_400;
/// Connections that the system keeps until the server takes them.
const BACKLOG: u32 = 1024;

/// Serves until a signal ends it.
pub fn run(args: &ServeArgs) -> Result<()> {
    for (flag, value, most) in [
        ("--max-body", args.max_body, MOST_MIB),
        ("--max-connections", args.max_connections, MOST_CONNECTIONS),
        ("--timeout", args.timeout, MOST_SECONDS),
    ] {
        if value > most {
            bail!("{flag} {value}: the most is {most}");
        }
    }
    let model = Arc::new(model::read_model(&args.model)?);
    let fit = checked_fit(args.fit, args.one, &model)?;
    let limits = Limits {
        body: args.max_body << 20,
        connections: args.max_connections,
        timeout: Duration::from_secs(args.timeout as u64),
    };
    let stop = stop_on_signals()?;
    let (runtime, listener) = listen(&args.listen)?;
    let address = listener.local_addr().context("the address of the server")?;
    let device = pollster::block_on(device::open_device(&args.device))?;
    let info = device.info();
    // The first prediction is to find everything in place.
    let backend = pollster::block_on(device.for_inference(&model.parameters, model.loss))?;
    let metrics = Arc::new(Metrics::new(&info));
    let (server, jobs) = Server::new(Arc::clone(&model), fit, limits, &info, Arc::clone(&metrics));
    let thread = std::thread::Builder::new()
        .name("http".into())
        .spawn(move || runtime.block_on(http::serve(Arc::new(server), listener, stop)))
        .context("the system grants no thread for the server")?;

    if !address.ip().is_loopback() {
        terminal::notice(&format!("--listen {}: whoever reaches this machine reaches the server, too", args.listen));
    }
    let name = model_name(&model.parameters.architecture);
    if args.json {
        terminal::print_event("serving", &json!({ "address": format!("http://{address}"), "model": name }))?;
    } else {
        let text = format!("serving {} ({name}, {}) on http://{address}", args.model.display(), info.name);
        terminal::print(&terminal::line(&text))?;
    }
    batches::run(jobs, &model, backend, || pollster::block_on(device::open_device(&args.device)), &metrics);
    thread.join().map_err(|_| anyhow!("the server stopped: a fault of softstep"))?;
    if !args.json {
        terminal::print(&metrics.summary())?;
    }
    Ok(())
}

/// Starts to listen on an address of the form `HOST:PORT`.
fn listen(text: &str) -> Result<(Runtime, TcpListener)> {
    let wrong = || format!("--listen {text}: an address is HOST:PORT, as in 127.0.0.1:8000 or [::1]:8000");
    let address = text.to_socket_addrs().with_context(wrong)?.next().with_context(wrong)?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(rayon::current_num_threads().max(1))
        .thread_name("body")
        .build()
        .context("the system grants no thread for the server")?;
    let listener = runtime.block_on(async { bound(address) });
    let taken = || format!("cannot listen on {address}: choose another address with --listen; port 0 is any free port");
    Ok((runtime, listener.with_context(taken)?))
}

fn bound(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // On Windows that would let others take the address, too.
    if cfg!(unix) {
        socket.set_reuseaddr(true)?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
