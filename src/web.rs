//! The bindings for a page: softstep in a browser tab.
//!
//! Everything runs in a Worker, `src/web/worker.js`, which answers the page's messages by calls of these functions. The
//! guide is `src/web/README.md`.

mod data;
mod lesson;
mod run;

use js_sys::{Error as JsError, Float32Array, JSON, Object, Reflect};
use serde::Serialize;
use serde_json::json;
use wasm_bindgen::prelude::*;

use crate::any_backend::Device;
use crate::error::{Error, Result};
use crate::gpu::self_test::self_test as test_kernels;
use crate::gpu::{AdapterChoice, Gpu};
use crate::words;

pub use data::WebData;
pub use run::WebRun;

/// Result of a binding; an error is thrown as a JavaScript `Error` with one sentence.
type Answer<T> = std::result::Result<T, JsValue>;

/// Makes a JavaScript `Error` of a library error, in the words of the page.
fn thrown(error: &Error) -> JsValue {
    JsError::new(&words::of_page(&error.to_string())).into()
}

/// Throws a sentence.
fn throw<T>(problem: impl AsRef<str>) -> Answer<T> {
    Err(JsError::new(problem.as_ref()).into())
}

/// Converts a result of the library to that of a binding.
fn answer<T>(result: Result<T>) -> Answer<T> {
    result.map_err(|error| thrown(&error))
}

/// Converts a value to a JavaScript object by its JSON; numbers that are not finite become null.
fn object(value: &impl Serialize) -> Answer<JsValue> {
    match serde_json::to_string(value) {
        Ok(text) => JSON::parse(&text),
        Err(error) => throw(error.to_string()),
    }
}

/// Parses a JSON text of the page.
fn parsed(text: &str) -> Answer<serde_json::Value> {
    serde_json::from_str(text).or_else(|error| throw(format!("the page sent no JSON: {error}")))
}

/// Sets a field of a JavaScript object.
fn set(object: &JsValue, name: &str, value: &JsValue) -> Answer<()> {
    Reflect::set(object, &name.into(), value).map(|_| ())
}

/// Makes a `Float32Array` of numbers.
fn floats(values: impl IntoIterator<Item = f64>) -> Float32Array {
    let values: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
    Float32Array::from(&values[..])
}

/// Opens the device that the page names: `gpu` or `cpu`.
async fn device(backend: &str) -> Answer<Device> {
    match backend {
        "cpu" => Ok(Device::Cpu),
        "gpu" => answer(Gpu::open(&AdapterChoice::Auto).await.map(Device::Gpu)),
        other => throw(format!("backend {other:?}: it is gpu or cpu")),
    }
}

/// Describes the GPU of the tab: `{gpu, name, software, why_not}`.
///
/// # Errors
/// Throws if the answer cannot be converted.
#[wasm_bindgen]
pub async fn adapter() -> Answer<JsValue> {
    match Gpu::open(&AdapterChoice::Auto).await {
        Ok(gpu) => {
            let info = gpu.info();
            object(&json!({
                "gpu": true,
                "name": info.name,
                "software": info.device_type == "software",
                "timestamps": gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY),
                "why_not": null,
            }))
        }
        Err(error) => object(&json!({
            "gpu": false,
            "name": crate::cpu::device_info().name,
            "software": true,
            "timestamps": false,
            "why_not": words::of_page(&error.to_string()),
        })),
    }
}

/// Runs every known-answer test on the GPU, as `softstep doctor` does, or the checks of the CPU backend:
/// `[{name, ok, message}]`.
///
/// # Errors
/// Throws the errors of the device.
#[wasm_bindgen]
pub async fn self_test(backend: &str) -> Answer<JsValue> {
    let tests: Vec<_> = match device(backend).await? {
        Device::Gpu(gpu) => {
            let tests = answer(test_kernels(&gpu, gpu.matmul_choices()).await)?;
            let test = |test: &crate::gpu::self_test::KernelTest| {
                let way = test.matmul.map(|matmul| format!(", {matmul:?}").to_lowercase());
                json!({
                    "name": format!("{}{}", test.kernel, way.unwrap_or_default()),
                    "ok": test.passed(),
                    "message": format!("{} numbers, the worst {}", test.numbers, test.worst),
                })
            };
            tests.iter().map(test).collect()
        }
        Device::Cpu => answer(lesson::cpu_tests().await)?,
    };
    object(&tests)
}

/// Prepares the Worker: the page hears of a panic, which would otherwise end without a word.
#[wasm_bindgen(start)]
pub fn start() {
    std::panic::set_hook(Box::new(|panic| {
        let message = Object::new();
        let _ = Reflect::set(&message, &"event".into(), &"panic".into());
        let _ = Reflect::set(&message, &"error".into(), &panic.to_string().into());
        if let Ok(post) = Reflect::get(&js_sys::global(), &"postMessage".into())
            && let Some(post) = post.dyn_ref::<js_sys::Function>()
        {
            let _ = post.call1(&js_sys::global(), &message);
        }
    }));
}
