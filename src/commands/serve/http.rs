//! Connections, requests and answers, within bounds.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use softstep::backend::DeviceInfo;
use softstep::data::predict_inputs::{Fit, Inputs};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::{Sleep, sleep, timeout};

use super::batches::Job;
use super::body::{self, Refusal};
use super::metrics::{self, Metrics};
use super::page;
use crate::commands::predict;
use crate::run::model::Model;

/// Classes of a prediction where `?top=` does not say.
const TOP: usize = 3;
/// Most predicted classes of all examples of a request.
const MOST_CLASSES: usize = 200_000;
/// Bodies that may be in memory at once, in largest bodies.
const BODIES: usize = 8;
/// Requests that wait for the device.
const WAITING: usize = 4096;
/// Largest head of a request in bytes.
const HEAD: usize = 64 << 10;
/// Time between two looks for a signal.
const LOOK: Duration = Duration::from_millis(50);
/// Time that a refused body may pause before it is no longer waited for.
const PAUSE: Duration = Duration::from_millis(200);
/// Page and script, whose policy the page itself repeats.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'self'; connect-src 'self'; \
                      frame-ancestors 'none'";

/// Bounds of a server.
#[derive(Clone, Copy)]
pub struct Limits {
    /// Largest body in bytes.
    pub body: usize,
    /// Most connections at once.
    pub connections: usize,
    /// Longest time for a request to arrive, to be predicted, and for its answer to leave.
    pub timeout: Duration,
}

/// Model, limits and metrics, shared by all connections.
pub struct Server {
    model: Arc<Model>,
    fit: Fit,
    limits: Limits,
    jobs: mpsc::Sender<Job>,
    metrics: Arc<Metrics>,
    page: String,
    /// A permit for each KiB of the bodies in memory.
    bodies: Arc<Semaphore>,
    /// Set where the last batch was not computed.
    is_broken: AtomicBool,
}

impl Server {
    /// Creates a server, and the end at which its jobs come out until the server is dropped.
    pub fn new(
        model: Arc<Model>,
        fit: Fit,
        limits: Limits,
        device: &DeviceInfo,
        metrics: Arc<Metrics>,
    ) -> (Self, mpsc::Receiver<Job>) {
        let (jobs, waiting) = mpsc::channel(WAITING);
        let page = page::page(&model, fit, device);
        let bodies = Arc::new(Semaphore::new(BODIES * limits.body.div_ceil(1024)));
        (Self { model, fit, limits, jobs, metrics, page, bodies, is_broken: AtomicBool::new(false) }, waiting)
    }
}

/// Serves until `stop` is set; then answers what has begun.
pub async fn serve(server: Arc<Server>, listener: TcpListener, stop: Arc<AtomicBool>) {
    let (stopping, stopped) = watch::channel(());
    let places = Arc::new(Semaphore::new(server.limits.connections));
    while !stop.load(Ordering::Relaxed) {
        let stream = match timeout(LOOK, listener.accept()).await {
            Ok(Ok((stream, _))) => stream,
            // Out of file descriptors or memory: some connection may end meanwhile.
            Ok(Err(_)) => {
                sleep(LOOK).await;
                continue;
            }
            Err(_) => continue,
        };
        match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => {
                tokio::spawn(connection(Arc::clone(&server), stream, stopped.clone(), place));
            }
            Err(_) => {
                server.metrics.refused_connection();
                refuse(stream);
            }
        }
    }
    drop(listener);
    drop(stopped);
    let _ = stopping.send(());
    // Every connection holds a receiver until it ends.
    let _ = timeout(server.limits.timeout, stopping.closed()).await;
}

/// Answers a connection for which there is no place.
fn refuse(stream: TcpStream) {
    const ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\
        Content-Type: application/json\r\nContent-Length: 57\r\n\r\n{\"error\": \"the most connections are open: try again soon\"}\n";
    // A socket that was just opened takes so few bytes at once.
    let _ = stream.into_std().and_then(|mut stream| io::Write::write_all(&mut stream, ANSWER));
}

/// Speaks HTTP over a connection until it ends, or until its answer has left after the server was stopped.
async fn connection(
    server: Arc<Server>,
    stream: TcpStream,
    mut stopped: watch::Receiver<()>,
    _place: OwnedSemaphorePermit,
) {
    server.metrics.connected();
    let _ = stream.set_nodelay(true);
    let has_begun = Arc::new(AtomicBool::new(false));
    let patience = server.limits.timeout;
    let io = TokioIo::new(Patient { stream, patience, stalled: None, has_begun: Arc::clone(&has_begun) });
    let answering = Arc::clone(&server);
    let service = service_fn(move |request| {
        let server = Arc::clone(&answering);
        async move { Ok::<_, Infallible>(respond(&server, request).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(server.limits.timeout).max_buf_size(HEAD);
    let mut connection = pin!(builder.serve_connection(io, service));
    {
        let mut stop = pin!(stopped.changed());
        let mut is_ending = false;
        let _ = poll_fn(|context| {
            if !is_ending && stop.as_mut().poll(context).is_ready() {
                is_ending = true;
                // hyper would wait for the first request of a connection.
                if !has_begun.load(Ordering::Relaxed) {
                    return Poll::Ready(Ok(()));
                }
                connection.as_mut().graceful_shutdown();
            }
            connection.as_mut().poll(context)
        })
        .await;
    }
    server.metrics.disconnected();
}

/// A stream whose other end has to take an answer in time.
struct Patient {
    stream: TcpStream,
    patience: Duration,
    /// Runs from the moment at which the other end takes no more, until the whole answer has left.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Set once anything was read.
    has_begun: Arc<AtomicBool>,
}

impl Patient {
    /// Passes a write on; an error if its answer has been stalled for too long.
    fn poll<T>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let written = write(Pin::new(&mut self.stream), context);
        if written.is_pending() {
            let patience = self.patience;
            let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(patience)));
            ready!(stalled.as_mut().poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        written
    }
}

impl AsyncRead for Patient {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            this.has_begun.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl AsyncWrite for Patient {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll(context, |stream, context| stream.poll_write_vectored(context, parts))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Comes after all bytes of an answer were written.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.stalled = None;
        this.poll(context, AsyncWrite::poll_flush)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll(context, AsyncWrite::poll_shutdown)
    }
}

/// Resource under a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Route {
    Page,
    Script,
    Predict,
    Health,
    Metrics,
}

impl Route {
    const ALL: [(&'static str, Self); 5] = [
        ("/", Self::Page),
        (page::SCRIPT_PATH, Self::Script),
        ("/predict", Self::Predict),
        ("/health", Self::Health),
        ("/metrics", Self::Metrics),
    ];
}

/// Answers a request.
async fn respond(server: &Server, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let started = Instant::now();
    let found = Route::ALL.into_iter().find(|(path, _)| *path == request.uri().path());
    let name = found.map_or("other", |(path, _)| path);
    let is_prediction = found.is_some_and(|(_, route)| route == Route::Predict);
    let answered = match (found, request.method()) {
        (Some((_, Route::Predict)), &Method::POST) => predict(server, request).await,
        (Some((_, route)), &(Method::GET | Method::HEAD)) if !is_prediction => simple(server, route),
        (Some((path, _)), method) => {
            let allowed = if is_prediction { "POST" } else { "GET" };
            Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} {path}: use {allowed}")))
        }
        (None, _) => {
            let paths: Vec<_> =
                Route::ALL.iter().filter(|route| route.1 != Route::Script).map(|route| route.0).collect();
            let reason = format!("nothing is here; there are {}", paths.join(", "));
            Err(Refusal::new(StatusCode::NOT_FOUND, reason))
        }
    };
    let response = answered.unwrap_or_else(|refusal| refused(&refusal, is_prediction));
    let is_predicted = is_prediction && response.status() == StatusCode::OK;
    server.metrics.answered(name, response.status().as_u16(), is_predicted.then(|| started.elapsed()));
    response
}

/// Answers what needs no prediction.
fn simple(server: &Server, route: Route) -> Result<Response<Full<Bytes>>, Refusal> {
    let (kind, text) = match route {
        Route::Page => ("text/html; charset=utf-8", server.page.clone()),
        Route::Script => ("text/javascript; charset=utf-8", page::SCRIPT.into()),
        Route::Metrics => (metrics::CONTENT_TYPE, server.metrics.text()),
        Route::Health if server.is_broken.load(Ordering::Relaxed) => {
            let reason = "the device did not compute the last batch: the next request opens it again";
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, reason));
        }
        Route::Health | Route::Predict => ("application/json", "{\"status\":\"ok\"}\n".into()),
    };
    Ok(response(StatusCode::OK, kind, text.into()))
}

/// Builds a response.
fn response(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Builds the response of a refusal.
fn refused(refusal: &Refusal, is_prediction: bool) -> Response<Full<Bytes>> {
    let text = format!("{}\n", json!({ "error": refusal.reason }));
    let mut response = response(refusal.status, "application/json", text.into());
    match refusal.status {
        StatusCode::METHOD_NOT_ALLOWED => {
            let allowed = HeaderValue::from_static(if is_prediction { "POST" } else { "GET, HEAD" });
            response.headers_mut().insert(header::ALLOW, allowed);
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        _ => {}
    }
    response
}

/// Predicts what the body of a request holds.
async fn predict(server: &Server, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Refusal> {
    let top = top(request.uri().query())?;
    let (head, body) = request.into_parts();
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).map(String::from);
    let limit = server.limits.timeout;
    let too_long = |status, what: &str| Refusal::new(status, format!("{what} took longer than {} s", limit.as_secs()));
    let received = timeout(limit, receive(server, &head.headers, body)).await;
    let (body, held) = received.map_err(|_| too_long(StatusCode::REQUEST_TIMEOUT, "the body"))??;
    let computed = timeout(limit, compute(server, body, kind)).await;
    let (inputs, outputs) = computed.map_err(|_| too_long(StatusCode::SERVICE_UNAVAILABLE, "the prediction"))??;
    drop(held);
    if top.saturating_mul(inputs.names.len()) > MOST_CLASSES {
        let reason = format!("top={top} for {} examples is too much: send them in parts", inputs.names.len());
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, reason));
    }
    let model = &server.model;
    let predictions = predict::predictions(inputs.names, &inputs.places, &outputs, model, top);
    let predictions: Vec<_> = predictions.iter().map(|prediction| predict::json_of(prediction, model.loss)).collect();
    let text = format!("{}\n", json!({ "predictions": predictions, "notices": inputs.notices }));
    Ok(response(StatusCode::OK, "application/json", text.into()))
}

/// Reads `top` of a query.
fn top(query: Option<&str>) -> Result<usize, Refusal> {
    let mut top = TOP;
    for part in query.unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
        match part.strip_prefix("top=").and_then(|text| text.parse().ok()) {
            Some(number) if number > 0 => top = number,
            _ => return Err(Refusal::new(StatusCode::BAD_REQUEST, "the query may be top=K, with K a number from 1")),
        }
    }
    Ok(top)
}

/// Receives a body, with the permits for its memory.
async fn receive(
    server: &Server,
    headers: &HeaderMap,
    mut body: Incoming,
) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), Refusal> {
    let limit = server.limits.body;
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let too_large = || {
        let reason = format!("the body has more than {} MiB: send it in parts", limit >> 20);
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, reason)
    };
    // Whoever asks first is told before the body is on its way.
    if announced.is_some_and(|length| length > limit as u64) {
        if !headers.contains_key(header::EXPECT) {
            discard(body, limit).await;
        }
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    let mut held: Option<OwnedSemaphorePermit> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "the body ended too early"))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            discard(body, limit).await;
            return Err(too_large());
        }
        let needed = (bytes.len() + data.len()).div_ceil(1024);
        let missing = needed - held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        match Arc::clone(&server.bodies).try_acquire_many_owned(missing as u32) {
            Ok(more) => match &mut held {
                Some(held) => held.merge(more),
                None => held = Some(more),
            },
            Err(_) => {
                let reason = "too many bodies are being read: try again soon";
                return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, reason));
            }
        }
        bytes.extend_from_slice(&data);
    }
    Ok((bytes, held))
}

/// Takes what is left of a body that is too large, within bounds: many clients look for an answer only afterwards.
async fn discard(mut body: Incoming, limit: usize) {
    let mut rest = 4 * limit;
    while let Ok(Some(Ok(frame))) = timeout(PAUSE, body.frame()).await {
        let Some(left) = rest.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { return };
        rest = left;
    }
}

/// Reads the examples of a body and computes the model's outputs.
async fn compute(server: &Server, body: Vec<u8>, kind: Option<String>) -> Result<(Inputs, Vec<f32>), Refusal> {
    let (model, fit) = (Arc::clone(&server.model), server.fit);
    let read = tokio::task::spawn_blocking(move || body::read(&model, fit, &body, kind.as_deref())).await;
    let internal = |reason: String| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, reason);
    let mut inputs = read.map_err(|_| internal("the body made its reader stop: a fault of softstep".into()))??;
    let features = std::mem::replace(&mut inputs.features, Vec::<u8>::new().into());
    let (answer, outputs) = oneshot::channel();
    let ended = |_| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the server is ending");
    server.jobs.send(Job { features, answer }).await.map_err(|_| ended(()))?;
    let outputs = outputs.await.map_err(|_| ended(()))?;
    server.is_broken.store(outputs.is_err(), Ordering::Relaxed);
    Ok((inputs, outputs.map_err(internal)?))
}

#[cfg(test)]
mod tests {
    use super::top;

    #[test]
    fn a_query_says_how_many_classes_or_is_refused() {
        assert_eq!((top(None).unwrap(), top(Some("")).unwrap(), top(Some("top=10")).unwrap()), (3, 3, 10));
        for query in ["top=0", "top=-1", "top", "top=x", "Top=3", "top=3&other=1", "top=99999999999999999999999"] {
            assert!(top(Some(query)).is_err(), "{query}");
        }
    }
}
