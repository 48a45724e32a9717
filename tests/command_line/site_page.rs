//! The page of the browser tab, used as a person would: with mouse, keys and files, in Chromium, on the built site.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::binary::softstep;
use crate::browser::{Browser, site};
use crate::server::serve;
use crate::skip::skipped_outside_ci;
use serde_json::{Value, json};

/// The page in a browser, and where it is served.
struct Tab {
    browser: Browser,
    base: String,
}

impl Tab {
    fn open() -> Option<Self> {
        // The flag with which a headless Chromium has an adapter, SwiftShader.
        Self::open_with(&["--enable-unsafe-webgpu"])
    }

    fn open_with(flags: &[&str]) -> Option<Self> {
        let (chromium, folder) = site()?;
        let base = serve(move |path| {
            let name = path.split('?').next().unwrap().trim_start_matches('/');
            fs::read(folder.join(if name.is_empty() { "index.html" } else { name })).ok()
        });
        Some(Self { browser: Browser::open_with(&chromium, flags), base })
    }

    /// Shows a page of the site in a window of this size.
    fn show(&mut self, path: &str, width: u32, scheme: &str) {
        let metrics = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.browser.call("Emulation.setDeviceMetricsOverride", metrics);
        let features = json!([
            { "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ]);
        self.browser.call("Emulation.setEmulatedMedia", json!({ "features": features }));
        let url = format!("{}{path}", self.base);
        self.browser.call("Page.navigate", json!({ "url": url }));
        self.wait(&format!("location.href === {url:?} && document.readyState === 'complete'"));
    }

    fn evaluate(&mut self, expression: &str) -> Value {
        self.browser.evaluate(expression)
    }

    fn text(&mut self, selector: &str) -> String {
        // Text of the language that is shown.
        self.evaluate(&format!("document.querySelector({selector:?}).innerText"))
            .as_str()
            .unwrap()
            .replace('\u{a0}', " ")
    }

    /// Waits until an expression is true.
    #[track_caller]
    fn wait(&mut self, expression: &str) {
        let start = Instant::now();
        while self.evaluate(&format!("Boolean({expression})")) != true {
            let said =
                "[...document.querySelectorAll('.found, #message, #status, #progress, #answer')].map(e => e.innerText)";
            if start.elapsed() > Duration::from_secs(120) {
                panic!("this never came: {expression}\n{:#}", self.evaluate(said));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Place of an element in the window, after it was scrolled there: left, top, width, height.
    #[track_caller]
    fn place(&mut self, selector: &str) -> [f64; 4] {
        let place = self.evaluate(&format!(
            "(async () => {{
                const element = document.querySelector({selector:?});
                element.scrollIntoView({{ block: 'center', behavior: 'instant' }});
                await new Promise(done => requestAnimationFrame(() => setTimeout(done, 30)));
                const box = element.getBoundingClientRect();
                return [box.left, box.top, box.width, box.height];
            }})()"
        ));
        let place = [0, 1, 2, 3].map(|at| place[at].as_f64().unwrap());
        assert!(place[2] > 0.0, "{selector} is not shown");
        place
    }

    fn mouse(&mut self, kind: &str, [x, y]: [f64; 2], clicks: u32) {
        let event = json!({ "type": kind, "x": x, "y": y, "button": "left", "buttons": 1, "clickCount": clicks });
        self.browser.call("Input.dispatchMouseEvent", event);
    }

    /// Clicks on the middle of an element.
    #[track_caller]
    fn click(&mut self, selector: &str) {
        let [left, top, width, height] = self.place(selector);
        let at = [left + width / 2.0, top + height / 2.0];
        self.mouse("mousePressed", at, 1);
        self.mouse("mouseReleased", at, 1);
    }

    /// Presses, moves along points, given as shares of an element's box, and lets go.
    #[track_caller]
    fn drag(&mut self, selector: &str, points: &[[f64; 2]]) {
        let [left, top, width, height] = self.place(selector);
        let at = |[x, y]: [f64; 2]| [left + x * width, top + y * height];
        self.mouse("mousePressed", at(points[0]), 1);
        for &point in points {
            self.mouse("mouseMoved", at(point), 0);
        }
        self.mouse("mouseReleased", at(points[points.len() - 1]), 1);
    }

    /// Presses a key where the focus is.
    fn key(&mut self, key: &str) {
        let code = match key {
            " " => 32,
            "PageUp" => 33,
            "PageDown" => 34,
            "End" => 35,
            "Home" => 36,
            "ArrowLeft" => 37,
            "ArrowUp" => 38,
            "ArrowRight" => 39,
            "ArrowDown" => 40,
            "Delete" => 46,
            _ => panic!("{key:?}: which code has it?"),
        };
        for kind in ["keyDown", "keyUp"] {
            let event = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            self.browser.call("Input.dispatchKeyEvent", event);
        }
    }

    /// Focuses an element and presses a key.
    #[track_caller]
    fn key_at(&mut self, selector: &str, key: &str) {
        self.place(selector);
        self.evaluate(&format!("document.querySelector({selector:?}).focus()"));
        self.key(key);
    }

    /// Chooses in a list, or writes into a field.
    fn choose(&mut self, selector: &str, value: &str) {
        self.evaluate(&format!(
            "(() => {{
                const field = document.querySelector({selector:?});
                field.value = {value:?};
                for (const name of ['input', 'change']) field.dispatchEvent(new Event(name, {{ bubbles: true }}));
            }})()"
        ));
    }

    /// Drops files on an element.
    #[track_caller]
    fn drop(&mut self, selector: &str, files: &[&Path]) {
        let [left, top, width, height] = self.place(selector);
        let files: Vec<&str> = files.iter().map(|file| file.to_str().unwrap()).collect();
        let data = json!({ "items": [], "files": files, "dragOperationsMask": 1 });
        for kind in ["dragEnter", "dragOver", "drop"] {
            let event = json!({ "type": kind, "x": left + width / 2.0, "y": top + height / 2.0, "data": data });
            self.browser.call("Input.dispatchDragEvent", event);
        }
    }

    /// Checks that nothing was said in the console, and nothing was asked of another place.
    #[track_caller]
    fn is_quiet(&mut self) {
        self.evaluate("new Promise(done => setTimeout(done, 50))");
        for event in self.browser.events() {
            // Chromium's own words where there is no adapter.
            if event["params"]["entry"]["text"] == "No available adapters." {
                continue;
            }
            let method = event["method"].as_str().unwrap_or_default();
            assert!(
                !["Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"].contains(&method),
                "{event}"
            );
            if method == "Network.requestWillBeSent" {
                let url = event["params"]["request"]["url"].as_str().unwrap();
                let is_inside = [&self.base, "data:", "blob:"].iter().any(|start| url.starts_with(&**start));
                assert!(is_inside, "the page asked for {url}");
            }
        }
    }

    /// Scrolls through the lesson, so that every figure starts, and waits for each.
    fn start_figures(&mut self) {
        for (figure, sign) in FIGURES {
            self.place(figure);
            self.wait(&format!("document.querySelector('{figure} {sign}')"));
        }
    }
}

/// The figures of the lesson, each with something that is there once softstep has answered.
const FIGURES: [(&str, &str); 8] = [
    ("#figure-houses", ".chart .line"),
    ("#figure-classes", "canvas"),
    ("#figure-samples", ".chart .line"),
    ("#figure-softmax", ".found b"),
    ("#figure-two", ".chart .line"),
    ("#figure-fits", ".chart .line"),
    ("#figure-losses", ".says canvas"),
    ("#figure-step", "[data-key]"),
];

/// The first number behind a text.
fn number_after(text: &str, before: &str) -> f64 {
    let rest = &text[text.find(before).unwrap_or_else(|| panic!("no {before:?} in {text:?}")) + before.len()..];
    let number = rest.trim_start().replace('−', "-").replace(',', "");
    let end = number.find(|c: char| !c.is_ascii_digit() && !"-.".contains(c)).unwrap_or(number.len());
    number[..end].trim_end_matches('.').parse().unwrap_or_else(|error| panic!("{error} after {before:?} in {text:?}"))
}

#[test]
fn every_figure_of_the_lesson_answers_to_mouse_and_keys() {
    let Some(mut tab) = Tab::open() else { return };
    tab.show("/?lang=en", 1200, "light");
    tab.start_figures();

    // Three scores: the numbers of the lesson first.
    let bars = "[...document.querySelectorAll('#figure-softmax .p b')].map(bar => bar.textContent).join(' ')";
    let pushes = "[...document.querySelectorAll('#figure-softmax .push b')].map(bar => bar.textContent).join(' ')";
    tab.wait(&format!("{bars} === '0.88 0.12 0.00'"));
    assert_eq!(tab.evaluate(pushes), "−0.12 0.12 0.00");
    assert!(tab.text("#figure-softmax .found").contains("−ln 0.8789 = 0.13"));
    tab.click("#figure-softmax .score:nth-child(4) input[type=radio]");
    tab.wait(&format!("{pushes} === '0.88 0.12 −1.00'"));
    assert!(tab.text("#figure-softmax .found").contains("= 6.13"));
    tab.click("#figure-softmax [data-set=shift]");
    tab.wait("document.querySelector('#figure-softmax .found').innerText.includes('no probability changed')");
    assert_eq!(tab.evaluate(bars), "0.88 0.12 0.00");
    for score in [0, 1, 2] {
        let slider = format!("[data-score='{score}']");
        tab.click("#figure-softmax [data-do=reset]");
        tab.wait(&format!("{bars} === '0.88 0.12 0.00'"));
        tab.key_at(&slider, if score == 0 { "Home" } else { "End" });
        tab.wait(&format!("{bars} !== '0.88 0.12 0.00'"));
        tab.click("#figure-softmax [data-do=reset]");
        tab.wait(&format!("{bars} === '0.88 0.12 0.00'"));
        tab.drag(&slider, &[[0.5, 0.5], [0.7, 0.5], [0.95, 0.5]]);
        tab.wait(&format!("{bars} !== '0.88 0.12 0.00'"));
    }

    // Two outputs and one, moved by each slider.
    let pair = "[...document.querySelectorAll('#figure-two .pair b')].map(bar => bar.textContent)";
    for slider in ["z0", "z1", "difference"] {
        let before = tab.evaluate(pair);
        tab.key_at(&format!("#figure-two [data-set={slider}]"), "End");
        tab.wait(&format!("{pair}[0] !== '{}'", before[0].as_str().unwrap()));
        tab.wait(&format!("{pair}[0] === {pair}[1]"));
    }

    // House prices.
    let houses = "document.querySelector('#figure-houses .found').innerText";
    tab.click("#figure-houses [data-do=train]");
    tab.wait(&format!("{houses}.startsWith('After 400') || {houses}.match(/After [4-9]\\d\\d/)"));
    tab.wait("document.querySelector('#figure-houses [data-do=train]').innerText === 'Train'");
    let text = tab.text("#figure-houses .found");
    let slope = number_after(&text, "+ ");
    assert!((slope - 2.5).abs() < 1.0, "{text}");
    let sides = "[...document.querySelectorAll('#figure-houses .square')].map(square => [square.width.baseVal.value, square.height.baseVal.value])";
    for side in tab.evaluate(sides).as_array().unwrap() {
        assert!((side[0].as_f64().unwrap() - side[1].as_f64().unwrap()).abs() < 0.2, "no square: {side}");
    }
    // The line follows a house that is dragged, and one that is moved by keys.
    let house = "#figure-houses .handle:nth-child(1)";
    let value = format!("document.querySelector('{house}').getAttribute('aria-valuetext')");
    let before = tab.evaluate(&value);
    let found = tab.text("#figure-houses .found");
    tab.drag(house, &[[0.5, 0.5], [0.5, -3.0], [0.5, -6.0]]);
    assert_ne!(tab.evaluate(&value), before);
    tab.wait(&format!("{houses} !== {:?}", found));
    let before = tab.evaluate(&value);
    tab.key_at(house, "ArrowUp");
    assert_ne!(tab.evaluate(&value), before);
    tab.click("#figure-houses [data-do=reset]");
    tab.wait(&format!("{houses}.startsWith('After 0 ')"));
    tab.click("#figure-houses [data-do=step]");
    tab.wait(&format!("{houses}.startsWith('After 1 ')"));
    tab.key_at("#figure-houses [data-set=rate]", "End");
    tab.wait(&format!("{houses}.startsWith('After 0 ')"));
    let before = tab.evaluate(&value);
    tab.click("#figure-houses [data-do=other]");
    tab.wait(&format!("{value} !== {before}"));

    // Pictures and labels.
    let labels = "document.querySelector('.onehots').innerText";
    let before = tab.evaluate(labels);
    tab.click("#figure-classes [data-do=other]");
    tab.wait(&format!("{labels} !== {before}"));
    let samples = "document.querySelector('#figure-samples .found').innerText";
    tab.key_at("#figure-samples [data-set=count]", "End");
    tab.wait(&format!("{samples}.startsWith('2000 tumours')"));
    let before = tab.evaluate(samples);
    tab.click("#figure-samples [data-do=other]");
    tab.wait(&format!("{samples} !== {before}"));

    // The line and the sigmoid.
    let fits = "document.querySelector('#figure-fits .found').innerText";
    tab.click("#figure-fits [data-do=train]");
    tab.wait(&format!("{fits}.includes('After 600 steps')"));
    let text = tab.text("#figure-fits .found");
    let line = number_after(&text, "the line's is at ");
    assert!((number_after(&text, "the sigmoid's at ") - 3.0).abs() < 0.7, "{text}");
    tab.click("#figure-fits [data-do=large]");
    tab.wait(&format!("{fits} !== {text:?} && {fits}.includes('After 600 steps')"));
    let far = tab.text("#figure-fits .found");
    assert!(number_after(&far, "the line's is at ") > line, "large tumours pull the line: {text} {far}");
    let count = "document.querySelectorAll('#figure-fits .handle').length";
    let before = tab.evaluate(count).as_u64().unwrap();
    let tumour = "#figure-fits .handle:nth-child(1)";
    let words = "document.querySelector('#figure-fits .handle[tabindex=\"0\"]').getAttribute('aria-valuetext')";
    tab.key_at(tumour, "ArrowUp");
    assert!(tab.evaluate(words).as_str().unwrap().ends_with("malignant"));
    tab.key("ArrowRight");
    tab.key("PageDown");
    tab.key("Delete");
    assert_eq!(tab.evaluate(count), before - 1);
    for (control, steps) in [("reset", 0), ("step", 1), ("other", 600)] {
        tab.click(&format!("#figure-fits [data-do={control}]"));
        tab.wait(&format!("{fits}.includes('After {steps} step')"));
    }
    // A reset has the last word, also while the models still follow what came before.
    tab.evaluate(
        "for (const control of ['large', 'large', 'reset']) document.querySelector(`#figure-fits [data-do=${control}]`).click()",
    );
    tab.wait(&format!("{fits}.includes('After 0 steps')"));
    tab.evaluate("new Promise(done => setTimeout(done, 500))");
    assert!(tab.text("#figure-fits .found").contains("After 0 steps"));

    // Three losses side by side.
    tab.click("#figure-losses [data-do=train]");
    tab.wait("document.querySelector('#figure-losses .found').innerText.includes('percentage points')");
    let text = tab.text("#figure-losses .found");
    let [number, one_hot, cross_entropy] =
        ["right: ", "class numbers, ", "one-hot labels, "].map(|before| number_after(&text, before));
    assert!(number < 60.0 && one_hot > 85.0 && cross_entropy > 93.0, "{text}");
    let says = "document.querySelector('.says').innerText";
    let before = tab.evaluate(says);
    tab.click("#figure-losses [data-do=other]");
    tab.wait(&format!("{says} !== {before}"));
    tab.click("#figure-losses [data-set=hidden]");
    tab.wait(&format!("document.querySelector('#figure-losses .found').innerText !== {text:?}"));
    tab.click("#figure-losses [data-do=reset]");

    // One step, number by number, to the end and back.
    let sum = "document.querySelector('#figure-step .sum').innerText";
    assert_eq!(tab.text("#figure-step .phase .now"), "1. forward");
    let mut phases = Vec::new();
    while tab.evaluate("!document.querySelector('#figure-step [data-do=next]').disabled") == true {
        let before = tab.evaluate(sum);
        tab.click("#figure-step [data-do=next]");
        assert_ne!(tab.evaluate(sum), before);
        phases.push(tab.text("#figure-step .phase .now"));
        assert!(phases.len() < 60);
    }
    phases.dedup();
    assert_eq!(phases, ["1. forward", "2. loss", "3. backward", "4. update"]);
    let text = tab.text("#figure-step .found");
    let [after, before] = ["the loss is ", "instead of "].map(|words| number_after(&text, words));
    assert!(after < before, "{text}");
    tab.click("#figure-step [data-do=back]");
    tab.click("#figure-step [data-do=again]");
    tab.wait("document.querySelector('#figure-step .found').innerText.startsWith('Number 1 ')");
    tab.click("#figure-step [data-do=play]");
    tab.wait("document.querySelector('#figure-step .found').innerText.startsWith('Number 2 ')");
    tab.click("#figure-step [data-do=play]");
    tab.click("#figure-step [data-set=hidden]");
    tab.wait("document.querySelectorAll('#figure-step .matrices > div').length > 10");
    tab.click("#figure-step [data-key='l:0'] button");
    assert_eq!(tab.text("#figure-step .phase .now"), "2. loss");
    tab.key_at("#figure-step [data-set=rate]", "End");
    tab.click("#figure-step [data-do=reset]");
    tab.wait("document.querySelector('#figure-step .found').innerText.startsWith('Number 1 ')");
    tab.is_quiet();
}

#[test]
fn without_webgpu_the_cpu_computes_and_the_page_says_so() {
    let Some(mut tab) = Tab::open_with(&[]) else { return };
    tab.show("/?lang=en", 390, "light");
    tab.wait("document.querySelector('#status').innerText.includes('on the CPU: this browser gives it no GPU')");
    let text = tab.text("#no-gpu");
    assert!(text.starts_with("No GPU here, so the CPU computes (") && !text.contains("apt install"), "{text}");
    for backend in ["gpu", "both"] {
        assert_eq!(tab.evaluate(&format!("document.querySelector('input[value={backend}]').disabled")), true);
    }
    tab.click("#train");
    tab.wait("document.querySelector('#progress').innerText.startsWith('Finished')");
    tab.is_quiet();
}

#[test]
fn gpu_and_cpu_race_and_kernels_are_timed() {
    let Some(mut tab) = Tab::open() else { return };
    tab.show("/?lang=en", 1200, "dark");
    tab.wait("!document.querySelector('input[value=both]').disabled");
    tab.choose("[name=epochs]", "3");
    tab.click("input[value=both]");
    tab.click("#train");
    tab.wait("document.querySelector('#progress').innerText.includes('was faster')");
    assert_eq!(tab.evaluate("document.querySelector('#rival-bar').value"), 1);
    assert_eq!(tab.text(".run .legend"), "GPU\nCPU");
    tab.click("#profile");
    tab.wait("document.querySelector('#kernels table')");
    assert!(tab.text("#kernels").contains("cross_entropy"), "{}", tab.text("#kernels"));
    tab.click("input[value=cpu]");
    tab.click("#train");
    tab.wait("document.querySelector('#progress').innerText.startsWith('Finished after 69 steps.')");
    tab.wait("document.querySelector('#rival-bar').hidden");
    tab.is_quiet();
}

/// A stroke around an ellipse in the middle of the paper.
fn zero() -> Vec<[f64; 2]> {
    (0..=24)
        .map(|at| f64::from(at) / 24.0 * std::f64::consts::TAU)
        .map(|turn| [0.5 + 0.2 * turn.sin(), 0.5 - 0.33 * turn.cos()])
        .collect()
}

#[test]
fn the_workbench_trains_pauses_draws_saves_and_goes_on() {
    let Some(mut tab) = Tab::open() else { return };
    let folder = tempfile::tempdir().unwrap();
    let downloads = json!({ "behavior": "allow", "downloadPath": folder.path() });
    tab.browser.call("Page.setDownloadBehavior", downloads);
    tab.show("/?lang=en", 1200, "light");
    tab.wait("document.querySelector('.data-name').innerText.includes('1,438 examples to learn, 359 to test')");
    let progress = "document.querySelector('#progress').innerText";

    // One step, train, pause, go on, to the end.
    tab.click("#one-step-button");
    tab.wait(&format!("{progress}.startsWith('Paused: step 1 of ')"));
    tab.choose("[name=epochs]", "20000");
    tab.click("#train");
    tab.wait(&format!("{progress}.startsWith('Training')"));
    assert_eq!(tab.text("#train"), "Pause");
    // The page answers while it trains: no task of its own thread takes long.
    let longest = tab.evaluate(
        "new Promise(done => {
            let [last, longest, left] = [performance.now(), 0, 40];
            const tick = setInterval(() => {
                const now = performance.now();
                longest = Math.max(longest, now - last - 20);
                last = now;
                if (!(left -= 1)) { clearInterval(tick); done(longest); }
            }, 20);
        })",
    );
    println!("longest task while training: {longest} ms");
    tab.click("#train");
    tab.wait(&format!("{progress}.startsWith('Paused')"));
    assert_eq!(tab.text("#train"), "Go on");
    let paused = number_after(&tab.text("#progress"), "step ");
    assert!(paused > 1.0);
    tab.evaluate("new Promise(done => setTimeout(done, 300))");
    assert_eq!(number_after(&tab.text("#progress"), "step "), paused);
    tab.click("#train");
    tab.wait(&format!("Number({progress}.replace(/,/g, '').match(/step (\\d+)/)?.[1]) > {paused}"));
    tab.click("#stop");
    tab.wait(&format!("{progress} === 'Ready to train.'"));
    tab.choose("[name=epochs]", "20");
    tab.click("#train");
    tab.wait(&format!("{progress}.startsWith('Finished after 460 steps')"));
    tab.wait("document.querySelector('#mistakes').innerText.includes('right')");
    let accuracy = number_after(&tab.text("#tiles"), "test accuracy, last epoch");
    assert!(accuracy > 94.0, "{accuracy}");
    assert_eq!(tab.evaluate("document.querySelectorAll('#weights canvas').length"), 10);
    assert_eq!(tab.evaluate("[...document.querySelectorAll('.confusion td')].reduce((sum, cell) => sum + (Number(cell.innerText) || 0), 0)"), 359);

    // Pictures have the proportions of what they show.
    for pictures in ["#mistakes canvas", "#weights canvas", ".seen canvas"] {
        let [_, _, width, height] = tab.place(pictures);
        assert!((width - height).abs() <= 2.0, "{pictures}: {width}x{height}");
    }

    // A digit is drawn by mouse and recognised at every stroke, and cleared.
    tab.drag("#pad", &zero());
    tab.wait("document.querySelector('#answer b')");
    tab.wait("document.querySelector('#answer b').innerText === '0'");
    let inked = "(canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some((value, at) => at % 4 === 3 && value > 0 && canvas.id === 'spoke') )(document.querySelector('#spoke'))";
    tab.wait(inked);
    tab.click("#undo");
    tab.wait("document.querySelector('#answer').innerText.startsWith('Draw with')");
    tab.drag("#pad", &zero());
    tab.click("#clear");
    tab.wait("document.querySelector('#answer').innerText.startsWith('Draw with')");
    // By keys.
    tab.key_at("#pad", " ");
    for key in ["ArrowUp"; 8] {
        tab.key(key);
    }
    tab.wait("document.querySelector('#answer').innerText.length > 0 && !document.querySelector('#answer').innerText.startsWith('Draw with')");
    tab.click("#clear");
    tab.click("#example");
    tab.wait("document.querySelector('#answer').innerText.includes('The test set says')");

    // The model is saved, and the native program takes it to the same accuracy.
    tab.click("#save");
    let saved = folder.path().join("model.safetensors");
    let start = Instant::now();
    while !saved.is_file() && start.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let eval =
        softstep(folder.path(), &["eval", "--model", "model.safetensors", "--data", "digits", "--backend", "cpu"]);
    assert!(eval.code == 0 && eval.stdout.contains(&format!("{accuracy:.1}")), "{accuracy} {eval:?}");
    // A model made natively goes on here.
    let train = ["train", "-q", "--backend", "cpu", "--data", "digits", "--epochs", "2", "--out", "native"];
    assert_eq!(softstep(folder.path(), &train).code, 0);
    tab.drop("#drop-data", &[&folder.path().join("native/model.safetensors")]);
    tab.wait(&format!("{progress}.startsWith('model.safetensors is open')"));
    tab.click("#one-step-button");
    tab.wait(&format!("{progress}.startsWith('Paused: step 1 of ')"));
    let loss = number_after(&tab.text("#tiles"), "loss of the last step");
    assert!(loss < 1.0, "a trained model begins with a small loss, not {loss}");

    // Other models and settings.
    for (field, value) in
        [("model", "hidden"), ("optimizer", "adamw"), ("loss", "mse"), ("batch_size", "32"), ("epochs", "2")]
    {
        tab.choose(&format!("[name={field}]"), value);
    }
    tab.click("#train");
    tab.wait(&format!("{progress}.startsWith('Finished')"));
    tab.wait("document.querySelector('#weights figcaption').innerText === 'unit 1'");
    assert_eq!(tab.evaluate("document.querySelector('#message').hidden"), true);
    for (field, value) in [("model", "cnn"), ("loss", ""), ("epochs", "1"), ("optimizer", "sgd")] {
        tab.choose(&format!("[name={field}]"), value);
    }
    tab.click("#train");
    tab.wait(&format!("{progress}.startsWith('Finished')"));
    tab.wait("document.querySelector('#weights figcaption').innerText === 'filter 1'");
    // A setting that does not fit is said in one sentence.
    tab.choose("[name=learning_rate]", "1e30");
    tab.click("#train");
    tab.wait("!document.querySelector('#message').hidden && document.querySelector('#message').innerText.length > 10");
    assert!(!tab.text("#message").contains("--"), "flags mean nothing on a page: {}", tab.text("#message"));
    tab.wait(&format!("{progress}.startsWith('Stopped: step ')"));
    assert!(longest.as_f64().unwrap() < 500.0, "the page did not answer for {longest} ms");
    tab.is_quiet();
}

#[test]
fn files_of_every_kind_are_dropped_and_bad_ones_are_refused_in_a_sentence() {
    let Some(mut tab) = Tab::open() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    tab.show("/?lang=en", 1200, "light");
    tab.wait("document.querySelector('.data-name').innerText.includes('bundled digits')");
    let name = "document.querySelector('.data-name').innerText";
    let problem = "!document.querySelector('#message').hidden && document.querySelector('#message').innerText";

    // A table; its target is chosen.
    let rows: String =
        (0..200).map(|row| format!("{},{},{}\n", row % 17, row % 5, ["a", "b"][usize::from(row % 17 > 8)])).collect();
    fs::write(path("kinds.csv"), format!("size,count,kind\n{rows}")).unwrap();
    tab.drop("#drop-data", &[&path("kinds.csv")]);
    tab.wait(&format!("{name}.startsWith('kinds.csv') && {name}.includes('2 classes')"));
    assert_eq!(tab.evaluate("document.querySelector('#draw').hidden"), true);
    tab.choose("[name=epochs]", "3");
    tab.click("#train");
    tab.wait("document.querySelector('#progress').innerText.startsWith('Finished')");
    tab.wait("document.querySelector('.confusion')");
    tab.choose("#target", "size");
    tab.wait(&format!("!{name}.includes('2 classes')"));

    // A folder of pictures, one folder for each class.
    for class in ["dark", "light"] {
        fs::create_dir_all(path(&format!("pictures/{class}"))).unwrap();
        for index in 0..12u8 {
            let grey = if class == "dark" { 10 + index } else { 200 + index };
            let picture = image::GrayImage::from_fn(12, 12, |x, _| image::Luma([grey + (x % 2) as u8]));
            picture.save(path(&format!("pictures/{class}/{index}.png"))).unwrap();
        }
    }
    tab.drop("#drop-data", &[&path("pictures")]);
    tab.wait(&format!("{name}.includes('pictures of 32 × 32 pixels, 2 classes')"));
    tab.click("#train");
    tab.wait("document.querySelector('#progress').innerText.startsWith('Finished')");
    assert_eq!(tab.evaluate("document.querySelector('#weights figcaption').innerText"), "dark");

    // Bad ones, which leave the data that was there.
    fs::write(path("broken.csv"), "a,b\n1,2\n3\n\"").unwrap();
    fs::write(path("noise.npz"), [7u8; 100]).unwrap();
    fs::write(path("train-images-idx3-ubyte"), [0u8; 20]).unwrap();
    fs::write(path("bad.safetensors"), "no model").unwrap();
    fs::write(path("empty.csv"), "").unwrap();
    for file in ["broken.csv", "noise.npz", "train-images-idx3-ubyte", "bad.safetensors", "empty.csv"] {
        tab.click("#use-digits");
        tab.wait(&format!("{name}.startsWith('bundled digits') && document.querySelector('#message').hidden"));
        tab.drop("#drop-data", &[&path(file)]);
        tab.wait(problem);
        let text = tab.text("#message");
        assert!(text.lines().count() == 1 && !text.contains("--") && !text.contains("undefined"), "{file}: {text}");
        assert!(tab.text(".data-name").starts_with("bundled digits"), "{file}");
    }
    // A photo, and what is none.
    tab.click("#use-digits");
    tab.click("#train");
    tab.wait("document.querySelector('#progress').innerText.startsWith('Finished')");
    tab.drop("#pad-drop", &[Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/digits/0.png").as_path()]);
    tab.wait("document.querySelector('#answer b') || document.querySelector('#answer').innerText.startsWith('There is no digit')");
    tab.drop("#pad-drop", &[&path("broken.csv")]);
    tab.wait(problem);
    assert!(tab.text("#message").starts_with("broken.csv is no picture"), "{}", tab.text("#message"));
    tab.is_quiet();
}

#[test]
fn the_page_of_a_model_takes_pictures_and_the_fields_of_a_table() {
    let Some(mut tab) = Tab::open() else { return };
    let folder = tempfile::tempdir().unwrap();
    let train = |data: &[&str], out: &str| {
        let train = [&["train", "-q", "--backend", "cpu", "--out", out], data].concat();
        assert_eq!(softstep(folder.path(), &train).code, 0);
        folder.path().join(out).join("model.safetensors")
    };
    let digits = train(&["--data", "digits"], "digits");
    let rows: String = (0..300)
        .map(|row| format!("{},{},{}.5\n", 30 + row * 7 % 170, ["flat", "house"][row % 2], 1500 * (30 + row * 7 % 170)))
        .collect();
    fs::write(folder.path().join("houses.csv"), format!("area,kind,price\n{rows}")).unwrap();
    let houses = train(&["--data", "houses.csv", "--target", "price"], "houses");
    for (width, scheme, lang) in [(1200, "light", "en"), (320, "dark", "zh")] {
        tab.show(&format!("/predict.html?lang={lang}"), width, scheme);
        tab.wait("!document.querySelector('#no-model').hidden");
        tab.drop("main", &[&digits]);
        tab.wait("!document.querySelector('#draw').hidden");
        tab.drag("#pad", &zero());
        tab.wait("document.querySelector('#answer b')?.innerText === '0'");
        tab.click("#undo");
        tab.wait("!document.querySelector('#answer b')");
        tab.drop("main", &[&houses]);
        tab.wait("!document.querySelector('#table').hidden && document.querySelector('#result b')");
        assert_eq!(tab.text("#target"), "price");
        let labels = "[...document.querySelectorAll('#fields label')].map(label => label.innerText).join()";
        assert_eq!(tab.evaluate(labels), "area,kind");
        let value = "document.querySelector('#result b').innerText";
        for (field, text, near) in [("#field-0", "100", 150_000.0), ("#field-0", "60", 90_000.0)] {
            let before = tab.evaluate(value);
            tab.choose(field, text);
            tab.wait(&format!("{value} !== {before}"));
            let price = number_after(&tab.text("#result"), "");
            assert!((price - near).abs() < 15_000.0, "{price} is not near {near}");
        }
        assert_eq!(tab.evaluate("document.documentElement.scrollWidth"), width);
        tab.is_quiet();
    }
}

/// The accessibility checker, fetched by npm into target/axe; `None` where that fails.
fn axe() -> Option<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/axe");
    let script = folder.join("node_modules/axe-core/axe.min.js");
    if !script.is_file() {
        fs::create_dir_all(&folder).ok()?;
        let install = ["install", "--no-save", "--no-audit", "--no-fund", "axe-core@4.14.1"];
        Command::new("npm").args(install).arg("--prefix").arg(&folder).output().ok()?;
    }
    fs::read_to_string(script).ok()
}

#[test]
fn the_page_fits_every_width_by_day_and_night_in_both_languages() {
    let Some(mut tab) = Tab::open() else { return };
    let axe = axe();
    if axe.is_none() {
        skipped_outside_ci("contrast and names of controls need axe-core, which npm fetches");
    }
    for (width, scheme, lang, title) in [
        (320, "light", "en", "Why classification has its own loss"),
        (320, "dark", "zh", "分类为什么要用自己的损失函数"),
        (390, "light", "zh", "分类为什么要用自己的损失函数"),
        (768, "dark", "en", "Why classification has its own loss"),
        (1200, "light", "en", "Why classification has its own loss"),
        (1600, "dark", "zh", "分类为什么要用自己的损失函数"),
    ] {
        tab.show(&format!("/?lang={lang}"), width, scheme);
        assert_eq!(tab.text("h1"), title);
        tab.start_figures();
        let at = format!("{width} pixels, {scheme}, {lang}");
        let reach = "document.documentElement.scrollWidth";
        // The widest elements tell what reaches beyond the screen.
        let wide = "[...document.querySelectorAll('body *')]
            .filter(element => element.getBoundingClientRect().right > screen.width + 1)
            .slice(0, 6).map(element => element.outerHTML.slice(0, 150))";
        assert_eq!(tab.evaluate(reach), width, "before training, {at}: {:#}", tab.evaluate(wide));
        tab.click("#train");
        tab.wait("document.querySelector('.confusion')");
        tab.click("#stop");
        tab.click("#train");
        tab.wait("document.querySelector('.confusion') && document.querySelector('#mistakes canvas')");
        assert_eq!(tab.evaluate(reach), width, "after training, {at}");
        // No text of the other language is shown, but the switch.
        let other = if lang == "zh" { "en" } else { "zh" };
        let shown = format!(
            "[...document.querySelectorAll('[lang|={other}]:not(.keep)')].filter(element => element.getClientRects().length).length"
        );
        assert_eq!(tab.evaluate(&shown), 0, "{at}");
        if let Some(axe) = &axe {
            tab.evaluate(&format!("{axe};0"));
            let broken = tab.evaluate(
                "axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'] }).then(result =>
                    result.violations.map(({ id, nodes }) => `${id}: ${nodes.map(node => node.html).join(' ')}`))",
            );
            assert_eq!(broken, json!([]), "{at}");
        }
        tab.is_quiet();
    }
    // The switch changes the language in place, and back.
    tab.click("[data-language=en]");
    assert_eq!(tab.text("h1"), "Why classification has its own loss");
    assert_eq!(tab.evaluate("document.documentElement.lang"), "en");
    tab.wait("document.querySelector('#figure-softmax .found').innerText.startsWith('Scores of')");
    tab.click("[data-language=zh]");
    tab.wait("document.querySelector('#figure-softmax .found').innerText.startsWith('分数')");
    tab.is_quiet();
}
