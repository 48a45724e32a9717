//! softstep in a browser tab: its Worker, in Chromium, on the built site.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::binary::{command, finished, good, metrics, results, succeeds};
use crate::browser::{Browser, chromium, site};
use crate::idx::idx;
use crate::server::serve;
use crate::skip::skipped_outside_ci;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A page without anything but what opens Workers.
const PAGE: &str = "<!doctype html><link rel=icon href=data:,><script type=module>
    import { Softstep } from './softstep.js';
    window.Softstep = Softstep;
</script>";

/// Calls that only a test makes: the Worker's device is destroyed as a driver's reset would do it.
const OF_TESTS: &str = "
    if (self.GPUAdapter) {
        const request = GPUAdapter.prototype.requestDevice;
        GPUAdapter.prototype.requestDevice = async function (...args) {
            return (self.device = await request.apply(this, args));
        };
    }
    calls.lose = async () => {
        self.device.destroy();
        await self.device.lost;
    };
";

/// Flag with which a headless Chromium has an adapter: SwiftShader.
const WEBGPU: &[&str] = &["--enable-unsafe-webgpu"];

/// A tab with the scripts of the site.
struct Tab {
    browser: Browser,
}

impl Tab {
    /// Opens a tab with a Worker, `window.worker`; with `flags` of the browser.
    fn open(flags: &[&str]) -> Option<Self> {
        let (chromium, folder) = site()?;
        let base = serve(move |path| match path {
            "/" => Some(PAGE.into()),
            "/worker.js" => Some([fs::read(folder.join("worker.js")).ok()?, OF_TESTS.into()].concat()),
            path => fs::read(folder.join(path.trim_start_matches('/'))).ok(),
        });
        let mut browser = Browser::open_with(&chromium, flags);
        browser.call("Page.navigate", json!({ "url": base }));
        let mut tab = Self { browser };
        tab.run(
            "while (!window.Softstep) await new Promise(done => setTimeout(done, 20));
            window.events = [];
            window.worker = await Softstep.open(event => events.push(event));",
        );
        Some(tab)
    }

    /// What the last expression of some statements gives.
    #[track_caller]
    fn run(&mut self, statements: &str) -> Value {
        self.browser.evaluate(&format!("(async () => {{ {statements} }})()"))
    }

    /// The answer of the Worker to a call, whose arguments are JavaScript.
    #[track_caller]
    fn call(&mut self, call: &str, arguments: &str) -> Value {
        self.run(&format!("return plain(await worker.call({call:?}, {arguments})); {PLAIN}"))
    }

    /// The error that the Worker throws at a call.
    #[track_caller]
    fn fails(&mut self, call: &str, arguments: &str) -> String {
        let answer = self.run(&format!(
            "try {{ await worker.call({call:?}, {arguments}); return null; }} catch (error) {{ return error.message; }}"
        ));
        answer.as_str().unwrap_or_else(|| panic!("{call} did not fail")).to_owned()
    }

    /// Trains on the digits to the end; gives the loss of each step, the evaluations of the epochs and the hash of the
    /// parameters.
    #[track_caller]
    fn trained(&mut self, settings: &Value, backend: &str) -> (Vec<f32>, Vec<Value>, String) {
        self.call("Data.digits", "");
        self.trained_on_its_data(settings, backend)
    }

    /// Trains on the data that the Worker holds, as [`trained`](Self::trained) does on the digits.
    #[track_caller]
    fn trained_on_its_data(&mut self, settings: &Value, backend: &str) -> (Vec<f32>, Vec<Value>, String) {
        self.call("Run.create", &format!("{settings}, {backend:?}"));
        let taken = self.run(&format!(
            "const losses = [], epochs = [];
            for (let done = false; !done;) {{
                const news = await worker.call('run.step', 100);
                if (news.losses.length && news.first_step !== losses.length + 1) throw new Error(`step ${{news.first_step}}`);
                losses.push(...news.losses);
                epochs.push(...news.epochs);
                done = news.done;
            }}
            return plain({{ losses, epochs, sha256: await worker.call('run.parameters_sha256') }}); {PLAIN}"
        ));
        let losses = taken["losses"].as_array().unwrap().iter().map(|loss| loss.as_f64().unwrap() as f32).collect();
        (losses, taken["epochs"].as_array().unwrap().clone(), taken["sha256"].as_str().unwrap().into())
    }
}

/// Makes JSON of what a call answers.
const PLAIN: &str = "function plain(value) {
    if (value instanceof Float32Array) return [...value];
    if (value instanceof Uint8Array) {
        let text = '';
        for (let at = 0; at < value.length; at += 8192) text += String.fromCharCode(...value.subarray(at, at + 8192));
        return btoa(text);
    }
    if (Array.isArray(value)) return value.map(plain);
    if (value && typeof value === 'object') {
        return Object.fromEntries(Object.entries(value).map(([name, value]) => [name, plain(value)]));
    }
    return value ?? null;
}";

/// Checks that an error is one sentence of the page: it names neither flags nor settings nor system packages.
#[track_caller]
fn is_of_the_page(error: &str) {
    let lower = error.to_lowercase();
    for foreign in ["`", "--", "_", "mesa", "apt install", "device::", "panicked", "\n"] {
        assert!(!lower.contains(foreign), "{foreign:?} in {error}");
    }
    assert!(error.len() > 20 && error.len() < 400, "{error}");
}

/// The files of MNIST and of every data set in its format.
const IDX_FILES: [&str; 4] =
    ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];

/// The file by which Vulkan programs find the SwiftShader of Chromium.
fn swiftshader() -> Option<PathBuf> {
    let program = fs::canonicalize(chromium()?).ok()?;
    let beside = program.parent()?.join("vk_swiftshader_icd.json");
    [beside, "/usr/lib/chromium/vk_swiftshader_icd.json".into()].into_iter().find(|file| file.is_file())
}

/// softstep in a folder, with this Vulkan driver and no other.
fn command_with_driver(driver: &Path, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = command(folder, arguments);
    command.env("VK_DRIVER_FILES", driver).env("VK_ICD_FILENAMES", driver);
    command
}

#[test]
fn every_known_answer_test_passes_in_a_tab() {
    let Some(mut tab) = Tab::open(WEBGPU) else { return };
    let adapter = tab.call("adapter", "");
    assert_eq!((&adapter["gpu"], &adapter["software"]), (&json!(true), &json!(true)), "{adapter}");
    for (backend, least) in [("cpu", 12), ("gpu", 60)] {
        let tests = tab.call("self_test", &format!("{backend:?}"));
        let tests = tests.as_array().unwrap();
        assert!(tests.len() >= least, "{} tests of the {backend}", tests.len());
        for test in tests {
            assert_eq!(test["ok"], true, "{backend}: {test}");
        }
        // The product for hardware GPUs is among them, which Chrome's compiler once got wrong.
        let is_workgroup = |test: &Value| test["name"].as_str().unwrap().contains("workgroup");
        assert!(backend == "cpu" || tests.iter().any(is_workgroup), "{tests:?}");
    }
}

#[test]
fn a_tab_trains_to_the_bits_of_the_same_adapter_natively() {
    let Some(mut tab) = Tab::open(WEBGPU) else { return };
    let Some(driver) = swiftshader() else {
        return skipped_outside_ci("this needs the SwiftShader of Chromium as a Vulkan driver");
    };
    let folder = tempfile::tempdir().unwrap();
    let networks = [
        ("dense", json!({ "hidden": [] }), vec![]),
        ("hidden", json!({ "hidden": [32] }), vec!["--hidden", "32"]),
        (
            "convolutional",
            json!({ "layers": "conv:8x3,relu,pool:2,dropout:0.25,linear:16,relu" }),
            vec!["--layers", "conv:8x3,relu,pool:2,dropout:0.25,linear:16,relu"],
        ),
    ];
    for (name, mut settings, flags) in networks {
        for (field, value) in [("epochs", json!(2)), ("learning_rate", json!(0.05)), ("seed", json!(7))] {
            settings[field] = value;
        }
        let (losses, epochs, sha256) = tab.trained(&settings, "gpu");
        let common = ["train", "--data", "digits", "--backend", "gpu", "--epochs", "2", "--lr", "0.05", "--seed", "7"];
        let arguments: Vec<&str> = common.into_iter().chain(flags).chain(["--out", name, "--json"]).collect();
        let mut native = command_with_driver(&driver, folder.path(), &arguments);
        let done = good(finished(native.output().unwrap())).last_json();
        let lines = metrics(&folder.path().join(name));
        let native: Vec<f32> = lines
            .iter()
            .filter(|line| line["step"].is_number())
            .map(|line| line["loss"].as_f64().unwrap() as f32)
            .collect();
        assert_eq!(losses, native, "{name}: the losses");
        assert_eq!(done["parameters_sha256"], sha256, "{name}: the parameters");
        let natively: Vec<&Value> = lines.iter().filter(|line| line["test_loss"].is_number()).collect();
        assert_eq!(epochs.len(), natively.len());
        for (tab, native) in epochs.iter().zip(natively) {
            assert_eq!(tab["test"]["loss"], native["test_loss"], "{name}: {tab} and {native}");
        }
    }
}

#[test]
fn without_webgpu_the_cpu_trains_and_the_reason_is_said() {
    let Some(mut tab) = Tab::open(&["--disable-features=WebGPU"]) else { return };
    let adapter = tab.call("adapter", "");
    assert_eq!(adapter["gpu"], false, "{adapter}");
    is_of_the_page(adapter["why_not"].as_str().unwrap());
    tab.call("Data.digits", "");
    is_of_the_page(&tab.fails("Run.create", "{}, 'gpu'"));
    let (losses, epochs, _) = tab.trained(&json!({ "epochs": 3 }), "cpu");
    assert_eq!(losses.len(), 3 * 23);
    assert!(epochs[2]["test"]["accuracy"].as_f64().unwrap() > 0.85, "{epochs:?}");
}

#[test]
fn a_lost_device_missing_memory_and_divergence_end_in_one_sentence() {
    let Some(mut tab) = Tab::open(WEBGPU) else { return };
    tab.call("Data.digits", "");
    let error = tab.fails("Run.create", "{ hidden: [30000000] }, 'gpu'");
    is_of_the_page(&error);
    assert!(error.contains("30000000") || error.contains("bytes"), "{error}");
    let error = tab.fails("Run.create", "{ learning_rate: 0 }, 'gpu'");
    assert!(error.starts_with("learning rate 0: must be above 0"), "{error}");
    let error = tab.fails("Run.create", "{ learning_rat: 1 }, 'gpu'");
    assert!(error.contains("learning_rat"), "{error}");

    tab.call("Run.create", "{ hidden: [16], learning_rate: 1e30, schedule: 'constant', epochs: 3 }, 'cpu'");
    let error = tab.fails("run.step", "100");
    is_of_the_page(&error);
    assert!(error.contains("diverged"), "{error}");

    // In training by slices, the Worker tells of the loss by itself.
    tab.call("Run.create", "{ epochs: 100000 }, 'gpu'");
    let error = tab.run(
        "await worker.call('run.start');
        while (!events.length) await new Promise(done => setTimeout(done, 20));
        await worker.call('lose');
        for (;;) {
            const failed = events.find(event => event.event === 'failed');
            if (failed) return failed.error;
            await new Promise(done => setTimeout(done, 20));
        }",
    );
    let error = error.as_str().unwrap();
    is_of_the_page(error);
    assert!(error.contains("lost"), "{error}");
    // The tab can go on with another device.
    assert_eq!(tab.trained(&json!({ "epochs": 1 }), "gpu").0.len(), 23);
}

#[test]
fn training_pauses_goes_on_and_ends_as_without_a_pause() {
    let Some(mut tab) = Tab::open(WEBGPU) else { return };
    for backend in ["cpu", "gpu"] {
        let settings = json!({ "epochs": 20, "hidden": [16] });
        let (losses, _, sha256) = tab.trained(&settings, backend);
        tab.call("Run.create", &format!("{settings}, {backend:?}"));
        let paused = tab.run(&format!(
            "events.length = 0;
            const first = await worker.call('run.step', 1);
            await worker.call('run.start');
            while (events.length < 2) await new Promise(done => setTimeout(done, 5));
            const rest = await worker.call('run.pause');
            const seen = events.length;
            await worker.call('run.evaluate', 'test');
            await worker.call('run.predict', new Float32Array(64));
            await new Promise(done => setTimeout(done, 150));
            if (events.length !== seen) throw new Error('it went on');
            await worker.call('run.start');
            while (!events.some(event => event.event !== 'progress' || event.progress.done))
                await new Promise(done => setTimeout(done, 5));
            const news = [first, ...events.slice(0, seen).map(event => event.progress), rest,
                ...events.slice(seen).map(event => event.progress)];
            const losses = news.flatMap(news => [...news.losses]);
            return plain({{ losses, sha256: await worker.call('run.parameters_sha256') }}); {PLAIN}"
        ));
        let seen: Vec<f32> =
            paused["losses"].as_array().unwrap().iter().map(|loss| loss.as_f64().unwrap() as f32).collect();
        assert_eq!(seen, losses, "{backend}");
        assert_eq!(paused["sha256"], sha256, "{backend}");
    }
}

/// Base64 of bytes.
fn decoded(value: &Value) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap()).unwrap()
}

/// JavaScript of a file's bytes.
fn bytes_of(bytes: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(bytes);
    format!("Uint8Array.from(atob({text:?}), character => character.charCodeAt(0))")
}

#[test]
fn models_go_from_the_tab_to_the_command_and_back() {
    let Some(mut tab) = Tab::open(WEBGPU) else { return };
    let folder = tempfile::tempdir().unwrap();
    tab.trained(&json!({ "epochs": 3, "hidden": [16] }), "gpu");
    let judged = tab.call("run.evaluate", "'test'");
    fs::write(folder.path().join("model.safetensors"), decoded(&tab.call("run.save", ""))).unwrap();
    let evaluated = ["eval", "--model", "model.safetensors", "--data", "digits", "--backend", "cpu", "--json"];
    let native = succeeds(folder.path(), &evaluated).last_json();
    assert_eq!(native["accuracy"], judged["accuracy"], "{native} and {judged}");
    let counts: u64 = judged["confusion"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|row| row.as_array().unwrap())
        .map(|count| count.as_u64().unwrap())
        .sum();
    assert_eq!(counts, 359);

    let arguments =
        ["train", "--data", "digits", "--backend", "cpu", "--epochs", "2", "--hidden", "8", "--out", "native"];
    succeeds(folder.path(), &arguments);
    let known = results(&folder.path().join("native"));
    let bytes = bytes_of(&fs::read(folder.path().join("native/model.safetensors")).unwrap());
    tab.call("Data.digits", "");
    tab.call("Run.from_model", &format!("'model.safetensors', {bytes}, true, null, 'cpu'"));
    let judged = tab.call("run.evaluate", "'test'");
    assert_eq!(judged["accuracy"], known["test"]["accuracy"], "{judged} and {known}");
    for backend in ["cpu", "gpu"] {
        let settings = "{ epochs: 3, learning_rate: 0.02 }";
        tab.call("Run.from_model", &format!("'model.safetensors', {bytes}, true, {settings}, {backend:?}"));
        tab.call("run.step", "1000");
        let further = tab.call("run.evaluate", "'test'");
        assert!(further["loss"].as_f64() < judged["loss"].as_f64(), "{backend}: {further} and {judged}");
    }
    // Another model is not for this data.
    let error = tab.fails("Run.from_model", &format!("'model.safetensors', {bytes}, true, {{ hidden: [9] }}, 'cpu'"));
    is_of_the_page(&error.replace(['_'], " "));
    is_of_the_page(&tab.fails("Run.from_model", "'notes.txt', new Uint8Array([1, 2, 3]), false, null, 'cpu'"));
}

/// JavaScript of the arguments of `Data.from_files`.
fn files(folder: &TempDir, paths: &[&str], options: &Value) -> String {
    let bytes = paths.iter().map(|path| bytes_of(&fs::read(folder.path().join(path)).unwrap()));
    format!("{}, [{}], {options}", json!(paths), bytes.collect::<Vec<_>>().join(", "))
}

#[test]
fn files_are_read_as_the_command_reads_them_and_bad_ones_are_refused_in_a_sentence() {
    let Some(mut tab) = Tab::open(WEBGPU) else { return };
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, bytes: &[u8]| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    let table: String =
        (0..60).map(|row| format!("{},{},{}\n", row % 7, row * 3 % 11, ["no", "yes"][row % 7 / 4])).collect();
    write("plants.csv", format!("width,height,ripe\n{table}").as_bytes());
    let idx = |count: u32, rows: Option<u32>| {
        let mut bytes = vec![0, 0, 8, if rows.is_some() { 3 } else { 1 }];
        bytes.extend(count.to_be_bytes());
        rows.into_iter().for_each(|rows| bytes.extend([rows.to_be_bytes(), rows.to_be_bytes()].concat()));
        let each = rows.map_or(1, |rows| rows * rows);
        bytes.extend((0..count * each).map(|at| if rows.is_some() { (at * 37 % 256) as u8 } else { (at % 3) as u8 }));
        bytes
    };
    for (name, bytes) in IDX_FILES.iter().zip([idx(12, Some(4)), idx(12, None), idx(6, Some(4)), idx(6, None)]) {
        write(name, &bytes);
    }
    for class in ["cat", "dog"] {
        for number in 0..5u8 {
            let shade = if class == "cat" { 20 * number } else { 255 - 20 * number };
            let mut png = Vec::new();
            let mut encoder = png::Encoder::new(&mut png, 3, 3);
            encoder.set_color(png::ColorType::Grayscale);
            encoder.write_header().unwrap().write_image_data(&[shade; 9]).unwrap();
            write(&format!("pets/{class}/{number}.png"), &png);
        }
    }
    let npy = |descr: &str, shape: &str, values: &[u8]| {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
        let length = (header.len() as u16).to_le_bytes();
        [b"\x93NUMPY\x01\x00".as_slice(), &length, header.as_bytes(), values].concat()
    };
    write("x.npy", &npy("|u1", "(10, 3)", &(0..30).collect::<Vec<u8>>()));
    write("y.npy", &npy("|u1", "(10,)", &[0, 1, 0, 1, 0, 1, 0, 1, 0, 1]));

    let described = tab.call("Data.from_files", &files(&folder, &["plants.csv"], &json!({ "target": "ripe" })));
    assert_eq!(described["rows"], json!({ "train": 48, "test": 12 }), "{described}");
    assert_eq!(described["class_names"], json!(["no", "yes"]));
    // The same rows and the same standardisation as natively.
    let arguments =
        ["train", "--data", "plants.csv", "--target", "ripe", "--epochs", "20", "--backend", "cpu", "--out", "table"];
    succeeds(folder.path(), &arguments);
    let bytes = bytes_of(&fs::read(folder.path().join("table/model.safetensors")).unwrap());
    tab.call("Run.from_model", &format!("'m', {bytes}, true, null, 'cpu'"));
    let judged = tab.call("run.evaluate", "'test'");
    assert_eq!(judged["accuracy"], results(&folder.path().join("table"))["test"]["accuracy"], "{judged}");
    let said = tab.call("run.predict_fields", "['height', 'width'], ['3', '6']");
    assert_eq!(said["predicted"], 1, "{said}");

    let described = tab.call("Data.from_files", &files(&folder, &IDX_FILES, &json!({})));
    assert_eq!((&described["shape"], &described["classes"]), (&json!([4, 4, 1]), &json!(3)), "{described}");
    let pets: Vec<String> = ["cat", "dog"]
        .iter()
        .flat_map(|class| (0..5).map(move |number| format!("pets/{class}/{number}.png")))
        .collect();
    let pets: Vec<&str> = pets.iter().map(String::as_str).collect();
    let described = tab.call("Data.from_files", &files(&folder, &pets, &json!({ "image_size": 4, "color": "grey" })));
    assert_eq!((&described["shape"], &described["class_names"]), (&json!([4, 4, 1]), &json!(["cat", "dog"])));
    let described = tab.call("Data.from_files", &files(&folder, &["x.npy", "y.npy"], &json!({})));
    assert_eq!((&described["features"], &described["classes"]), (&json!(3), &json!(2)), "{described}");

    write("damaged.csv", b"a,b\n1,2\n3,4,5,6\n");
    write("pets/cat/notes.txt", b"no picture");
    for (paths, options) in [
        (&["plants.csv"][..], json!({})),
        (&["plants.csv"], json!({ "target": "colour" })),
        (&["damaged.csv"], json!({ "target": "b" })),
        (&IDX_FILES[..3], json!({})),
        (&["x.npy"], json!({})),
        (&["pets/cat/notes.txt"], json!({})),
        (&pets[..3], json!({})),
        (&["plants.csv"], json!({ "target": "ripe", "test": 7 })),
    ] {
        is_of_the_page(&tab.fails("Data.from_files", &files(&folder, paths, &options)).replace(['_', '`'], " "));
    }
}

#[test]
#[ignore = "takes minutes: cargo test --test command_line site:: -- --ignored"]
fn mnist_is_learned_in_a_tab() {
    let data = std::env::var_os("SOFTSTEP_DATA_DIR").map(|data| Path::new(&data).join("mnist"));
    let Some(data) = data.filter(|data| data.is_dir()) else {
        return skipped_outside_ci("MNIST not found, set SOFTSTEP_DATA_DIR");
    };
    let Some(mut tab) = Tab::open(WEBGPU) else { return };
    let names = IDX_FILES.map(|name| format!("{name}.gz"));
    let bytes = names.each_ref().map(|name| bytes_of(&fs::read(data.join(name)).unwrap()));
    tab.call("Data.from_files", &format!("{}, [{}], {{}}", json!(names), bytes.join(", ")));
    for backend in ["cpu", "gpu"] {
        for (settings, least) in [(json!({}), 0.923), (json!({ "hidden": [128] }), 0.978)] {
            let started = std::time::Instant::now();
            let (losses, ..) = tab.trained_on_its_data(&settings, backend);
            let accuracy = tab.call("run.evaluate", "'test'")["accuracy"].as_f64().unwrap();
            println!("{backend} {settings}: {accuracy} after {} steps, {:?}", losses.len(), started.elapsed());
            assert!(accuracy >= least, "{backend} {settings}: {accuracy}");
        }
    }
}

/// Steps a second in the tab and natively on the same SwiftShader, in turns, with few evaluations between them.
#[test]
#[ignore = "takes minutes: cargo test --release --test command_line site::steps -- --ignored --nocapture"]
fn steps_in_a_tab_are_nearly_as_fast_as_native_ones() {
    let Some(driver) = swiftshader() else {
        return skipped_outside_ci("this needs the SwiftShader of a Chromium");
    };
    let Some(mut tab) = Tab::open(WEBGPU) else { return };
    let folder = tempfile::tempdir().unwrap();
    let noise = |at: usize| ((at as u32).wrapping_mul(2_654_435_761) >> 24) as u8;
    let images = |count: usize| idx(&[count, 8, 8], &(0..64 * count).map(noise).collect::<Vec<_>>());
    let labels = |count: usize| idx(&[count], &(0..count).map(|at| noise(at) % 10).collect::<Vec<_>>());
    let files = [images(60_000), labels(60_000), images(64), labels(64)];
    fs::create_dir(folder.path().join("noise")).unwrap();
    for (name, bytes) in IDX_FILES.iter().zip(&files) {
        fs::write(folder.path().join("noise").join(name), bytes).unwrap();
    }
    let bytes = files.each_ref().map(|bytes| bytes_of(bytes));
    tab.call("Data.from_files", &format!("{}, [{}], {{}}", json!(IDX_FILES), bytes.join(", ")));
    for (network, epochs) in [("", "8"), ("linear:128,relu", "3"), ("conv:16x3,relu,pool:2,linear:64,relu", "1")] {
        let mut ratios = Vec::new();
        for round in 0..5 {
            let out = format!("{epochs}-{round}");
            let fixed = "--backend gpu --batch-size 64 --optimizer sgd --lr 0.001 --json --data noise";
            let mut arguments = ["train", "--epochs", epochs, "--out", &out].to_vec();
            arguments.extend(fixed.split(' '));
            if !network.is_empty() {
                arguments.extend(["--layers", network]);
            }
            let mut native = command_with_driver(&driver, folder.path(), &arguments);
            good(finished(native.output().unwrap()));
            let native = results(&folder.path().join(out))["timings"]["steps_per_second"].as_f64().unwrap();
            let settings = json!({
                "layers": network, "epochs": 1000, "batch_size": 64, "optimizer": "sgd", "learning_rate": 0.001,
            });
            tab.call("Run.create", &format!("{settings}, 'gpu'"));
            let in_tab = tab.run(
                "const before = (await worker.call('run.step', 50)).step, started = performance.now();
                await worker.call('run.start');
                await new Promise(done => setTimeout(done, 4000));
                return 1000 * ((await worker.call('run.pause')).step - before) / (performance.now() - started);",
            );
            let in_tab = in_tab.as_f64().unwrap();
            println!("64,{network},10: {in_tab:.0} steps/s in the tab, {native:.0} natively: {:.2}", in_tab / native);
            ratios.push(in_tab / native);
        }
        ratios.sort_by(f64::total_cmp);
        println!("64,{network},10: median {:.2}", ratios[2]);
        assert!(ratios[2] >= 0.7, "64,{network},10: {ratios:?}");
    }
}

/// A browser decodes pictures, and what a model sees of them is what it sees natively.
#[test]
fn pictures_have_the_features_that_they_have_natively() {
    use softstep::data::images::{ImageOptions, load};
    use softstep::data::{Color, Features, TestPart};
    let Some(mut tab) = Tab::open(WEBGPU) else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    let noise = |at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8;
    for class in ["cat", "dog"] {
        fs::create_dir_all(folder.path().join("pets").join(class)).unwrap();
        for (number, kind) in ["grey.png", "rgb.png", "rgba.png", "rgb.bmp", "rgb.webp", "rgb.gif"].iter().enumerate() {
            let (width, height) = (9 + 4 * number as u32, 20 - number as u32);
            let pixel = |x: u32, y: u32| {
                let at = 4 * (y * width + x) + class.len() as u32 * number as u32;
                let color = [noise(at), noise(at + 1), noise(at + 2), noise(at + 3)];
                image::Rgba(if kind.ends_with("gif") { color.map(|value| value & 0xc0) } else { color })
            };
            let picture = image::DynamicImage::ImageRgba8(image::RgbaImage::from_fn(width, height, pixel));
            let picture = match kind.split('.').next() {
                Some("grey") => picture.into_luma8().into(),
                Some("rgba") => picture,
                _ => picture.into_rgb8().into(),
            };
            let path = format!("pets/{class}/{number}.{}", kind.split('.').nth(1).unwrap());
            picture.save(folder.path().join(&path)).unwrap();
            paths.push(path);
        }
    }
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    for (color, name) in [(Color::Rgb, "rgb"), (Color::Grey, "grey")] {
        let size = json!({ "image_size": [7, 5], "color": name, "test": 0.25 });
        tab.call("Data.from_files", &files(&folder, &paths, &size));
        let test = Some(TestPart::Share(0.25));
        let options = ImageOptions { width: 7, height: 5, color, test, strict: true };
        let native = load(&folder.path().join("pets"), &options, 0).unwrap();
        for (part, examples) in [("train", &native.train), ("test", &native.test)] {
            let Features::Bytes(bytes) = &*examples.inputs else { panic!("pixels are bytes") };
            let expected: Vec<f64> =
                bytes.iter().map(|&byte| (f64::from(byte) / 255.0) as f32).map(f64::from).collect();
            let seen = tab.call("data.features", &format!("{part:?}"));
            let seen: Vec<f64> = seen.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
            assert_eq!(seen, expected, "{name}, {part}");
        }
    }

    // What is damaged, or of a kind that browsers do not read, is left out with a word, as natively.
    let whole = fs::read(folder.path().join("pets/cat/1.png")).unwrap();
    fs::write(folder.path().join("pets/cat/cut.png"), &whole[..whole.len() / 2]).unwrap();
    fs::write(folder.path().join("pets/dog/scan.tiff"), b"II*\0\x08\0\0\0\0\0\0\0").unwrap();
    let more = [&paths[..], &["pets/cat/cut.png", "pets/dog/scan.tiff"]].concat();
    let described = tab.call("Data.from_files", &files(&folder, &more, &json!({})));
    let notices = described["notices"].to_string();
    assert!(notices.contains("cut.png") && notices.contains("scan.tiff") && notices.contains("TIFF"), "{notices}");
    let error = tab.fails("Data.from_files", &files(&folder, &more, &json!({ "strict": true })));
    is_of_the_page(&error.replace('_', " "));
}

/// Data for a model are read by what it knows: its columns, categories and sizes.
#[test]
fn data_for_a_model_are_read_as_the_model_reads_them() {
    let Some(mut tab) = Tab::open(&[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let rows =
        |from: u32| -> String { (from..from + 40).map(|row| format!("{},{}\n", row % 9, row % 9 / 5)).collect() };
    fs::write(folder.path().join("plants.csv"), format!("width,ripe\n{}", rows(0))).unwrap();
    tab.call(
        "Data.from_files",
        &files(&folder, &["plants.csv"], &json!({ "target": "ripe", "task": "classification" })),
    );
    tab.call("Run.create", "{ epochs: 1 }, 'cpu'");
    let model = "new Uint8Array(await worker.call('run.save'))";
    let own = format!("{model}, ['plants.csv'], [{}]", bytes_of(&fs::read(folder.path().join("plants.csv")).unwrap()));
    let again = tab.call("Data.for_model", &own);
    assert_eq!((&again["features"], &again["targets"]), (&json!(1), &json!("classes")), "{again}");
    tab.call("Run.create", "{ epochs: 1 }, 'cpu'");
    let other = format!("{model}, ['others.csv'], [{}]", bytes_of(b"height,ripe\n1,0\n2,1\n"));
    let error = tab.fails("Data.for_model", &other);
    assert!(error.contains("width"), "{error}");
    is_of_the_page(&error);
}

/// The time of a step is told kernel by kernel where a device has timestamps, and the CPU has none.
#[test]
fn kernels_are_timed_where_there_are_timestamps() {
    let Some(mut tab) = Tab::open(WEBGPU) else { return };
    let has_timestamps = tab.call("adapter", "")["timestamps"] == true;
    tab.call("Data.digits", "");
    for (backend, is_timed) in [("gpu", has_timestamps), ("cpu", false)] {
        tab.call("Run.create", &format!("{{ epochs: 2, hidden: [8] }}, {backend:?}"));
        let before = tab.call("run.parameters_sha256", "");
        let times = tab.call("run.profile", "5");
        assert_eq!(times.is_array(), is_timed, "{backend}: {times}");
        for time in times.as_array().into_iter().flatten() {
            assert!(time["dispatches"].as_u64() >= Some(5) && time["seconds"].as_f64() >= Some(0.0), "{time}");
        }
        assert_eq!(tab.call("run.parameters_sha256", ""), before, "the model is left alone");
    }
}

#[test]
fn a_drawn_digit_is_recognised_and_blank_paper_is_none() {
    let Some(mut tab) = Tab::open(WEBGPU) else { return };
    tab.trained(&json!({ "epochs": 40, "hidden": [32] }), "cpu");
    // Test digits as pictures of 120×120, in dark ink on white paper.
    let drawn = tab.run(
        "const answers = [];
        for (let index = 0; index < 20; index += 1) {
            const { features, label } = await worker.call('data.example', 'test', index);
            const side = 120, pixels = new Uint8Array(4 * side * side).fill(255);
            const within = at => Math.max(0, Math.min(7, at));
            const at = (x, y) => features[8 * within(y) + within(x)];
            for (let y = 0; y < 96; y += 1) for (let x = 0; x < 96; x += 1) {
                const [fx, fy] = [x / 12 - 0.5, y / 12 - 0.5];
                const [left, top] = [Math.floor(fx), Math.floor(fy)];
                const [u, v] = [fx - left, fy - top];
                const ink = (at(left, top) * (1 - u) + at(left + 1, top) * u) * (1 - v)
                    + (at(left, top + 1) * (1 - u) + at(left + 1, top + 1) * u) * v;
                pixels.fill(255 * (1 - ink), 4 * (side * (y + 12) + x + 12), 4 * (side * (y + 12) + x + 12) + 3);
            }
            const answer = await worker.call('run.predict_picture', pixels, side, side);
            const spoken = answer.attribution.reduce((sum, value) => sum + value, 0);
            answers.push([label, answer.predicted, answer.seen.length, answer.attribution.length, spoken]);
        }
        return answers;",
    );
    let answers = drawn.as_array().unwrap();
    let right = answers.iter().filter(|answer| answer[0] == answer[1]).count();
    assert!(right >= 15, "{right} of 20: {drawn}");
    for answer in answers {
        assert_eq!((&answer[2], &answer[3]), (&json!(64), &json!(64)), "{answer}");
        assert!(answer[4].as_f64().unwrap() > 0.0, "the pixels speak for the class: {answer}");
    }
    let blank = tab.call("run.predict_picture", "new Uint8Array(40000).fill(255), 100, 100");
    assert_eq!(blank["digit"], false, "{blank}");
}

#[test]
fn the_numbers_of_the_lesson_are_those_of_the_formulas() {
    let Some(mut tab) = Tab::open(&[]) else { return };
    let softmax = tab.call("softmax_of", "new Float32Array([3, 1, -3]), 0");
    let shown: Vec<String> =
        softmax["probabilities"].as_array().unwrap().iter().map(|p| format!("{:.2}", p.as_f64().unwrap())).collect();
    assert_eq!(shown, ["0.88", "0.12", "0.00"]);
    assert!((softmax["loss"].as_f64().unwrap() - 0.1291).abs() < 1e-4, "{softmax}");
    // Two outputs with softmax are one with sigmoid.
    let two = tab.call("softmax_of", "new Float32Array([0.5, 1.75]), 1");
    let one = tab.call("sigmoid_of", "1.25, 1");
    assert!((two["probabilities"][1].as_f64().unwrap() - one["probability"].as_f64().unwrap()).abs() < 1e-7);
    assert!((two["loss"].as_f64().unwrap() - one["loss"].as_f64().unwrap()).abs() < 1e-7);
    let step = tab.call(
        "step_by_hand",
        "{ inputs: [1, 2], hidden: [2], outputs: 3, label: 1, learning_rate: 0.1, activation: 'tanh' }",
    );
    assert!(step["after"]["loss"].as_f64() < step["loss"].as_f64(), "{step}");
    assert_eq!(step["layers"][1]["d_weights"].as_array().unwrap().len(), 9);
    is_of_the_page(&tab.fails("softmax_of", "new Float32Array([1, 2]), 2"));
}

/// The page of a model, opened from disk, predicts as the command does.
#[test]
fn a_page_of_a_model_predicts_from_disk_without_a_network() {
    let Some((chromium, site)) = site() else { return };
    let folder = tempfile::tempdir().unwrap();
    let table: String = (0..60)
        .map(|row| format!("{},{},{}\n", row % 7, ["red", "green"][row / 7 % 2], ["no", "yes"][row % 7 / 4]))
        .collect();
    fs::write(folder.path().join("plants.csv"), format!("width,colour,ripe\n{table}")).unwrap();
    let common = ["--backend", "cpu", "--epochs", "60"];
    let arguments = [&["train", "--data", "plants.csv", "--target", "ripe", "--out", "table"][..], &common].concat();
    succeeds(folder.path(), &arguments);
    let page = ["export", "table", "--page", "table.html", "--json"];
    let mut without = command(folder.path(), &page);
    let refused = finished(without.env_remove("SOFTSTEP_PAGE").output().unwrap());
    if !cfg!(feature = "page") {
        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(refused.stderr.contains("src/web/build"), "{refused:?}");
    }
    let mut with = command(folder.path(), &page);
    let done = good(finished(with.env("SOFTSTEP_PAGE", site.join("predict.html")).output().unwrap())).last_json();
    assert_eq!(done["page"]["path"], "table.html", "{done}");
    // A page may be replaced by a newer one, another file not.
    good(finished(with.output().unwrap()));
    fs::write(folder.path().join("mine.html"), "<p>mine</p>").unwrap();
    let mut over = command(folder.path(), &["export", "table", "--page", "mine.html"]);
    assert_eq!(finished(over.env("SOFTSTEP_PAGE", site.join("predict.html")).output().unwrap()).code, 1);

    let mut browser = Browser::open_with(&chromium, &[]);
    browser.show(&format!("file://{}", folder.path().join("table.html").display()), 800, "light");
    let shown = browser.evaluate(
        "(async () => {
            for (let at = 0; at < 600; at += 1) {
                if (document.querySelectorAll('#fields select, #fields input').length === 2) break;
                await new Promise(done => setTimeout(done, 50));
            }
            const width = document.querySelector('#fields input');
            const said = [];
            for (const value of ['0', '6']) {
                width.value = value;
                width.dispatchEvent(new Event('input', { bubbles: true }));
                await new Promise(done => setTimeout(done, 500));
                said.push(document.querySelector('#result').innerText);
            }
            return said;
        })()",
    );
    assert!(shown[0].as_str().unwrap().contains("no") && shown[1].as_str().unwrap().contains("yes"), "{shown}");
}
