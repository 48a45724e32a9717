//! `softstep serve`: predictions over HTTP, reasons for what is none, bounds, and an end without loss.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::binary::{good, softstep, succeeds};
use crate::serving::{Serving, answer, request};
use serde_json::{Value, json};
use softstep::data::Features;

/// The predictions for a body that must be good, without the names of the inputs.
#[track_caller]
fn predictions(serving: &Serving, body: &[u8]) -> Vec<Value> {
    let answer = serving.predict(body);
    assert_eq!(answer.status, 200, "{answer:?}");
    nameless(answer.json()["predictions"].as_array().unwrap())
}

fn nameless(lines: &[Value]) -> Vec<Value> {
    let without = |line: &Value| {
        let mut line = line.clone();
        line.as_object_mut().unwrap().remove("input");
        line
    };
    lines.iter().map(without).collect()
}

/// What `softstep predict` makes of a file.
fn predicted(folder: &Path, file: &str) -> Vec<Value> {
    let arguments = ["predict", "--backend=cpu", "--model=run", "--top=99", "--json", file];
    nameless(&succeeds(folder, &arguments).json_lines())
}

/// Compares predictions: classes in their order, numbers within what another size of a batch may change.
#[track_caller]
fn assert_alike(ours: &[Value], theirs: &[Value]) {
    fn alike(a: &Value, b: &Value) -> bool {
        match (a, b) {
            (Value::Number(a), Value::Number(b)) => {
                let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
                (a - b).abs() <= 1e-6 * a.abs().max(1.0)
            }
            (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
            (Value::Object(a), Value::Object(b)) => {
                a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| alike(a, b)))
            }
            _ => a == b,
        }
    }
    assert_eq!(ours.len(), theirs.len());
    for (index, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        assert!(alike(ours, theirs), "example {index}: {ours} here, {theirs} there");
    }
}

fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("serve");
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap();
        root
    })
}

fn train(name: &str, arguments: &[&str]) -> PathBuf {
    let folder = root().join(name);
    let common = ["train", "--backend=cpu", "--quiet", "--epochs=3", "--out=run"];
    good(softstep(&folder, &[&common, arguments].concat()));
    folder
}

/// The folder of a model of the digits, with `inputs.npy` and `inputs.json`: twenty images.
fn digits() -> &'static Path {
    static DIGITS: OnceLock<PathBuf> = OnceLock::new();
    DIGITS.get_or_init(|| {
        let folder = root().join("digits");
        fs::create_dir(&folder).unwrap();
        let test = softstep::data::digits().unwrap().test;
        let Features::Bytes(bytes) = &*test.inputs else { unreachable!() };
        let images: Vec<&[u8]> = bytes.chunks_exact(64).take(20).collect();
        fs::write(folder.join("inputs.npy"), npy("|u1", &[20, 8, 8], &images.concat())).unwrap();
        fs::write(folder.join("inputs.json"), json!(images).to_string()).unwrap();
        train("digits", &["--data=digits", "--hidden=16"])
    })
}

/// A NumPy array of these bytes.
fn npy(dtype: &str, shape: &[usize], bytes: &[u8]) -> Vec<u8> {
    let shape: String = shape.iter().map(|size| format!("{size}, ")).collect();
    let header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({shape}), }}\n");
    let start = [b"\x93NUMPY\x01\0", &(header.len() as u16).to_le_bytes()[..]].concat();
    [&start, header.as_bytes(), bytes].concat()
}

/// The rows of a table of numbers, texts, dates and gaps; a decimal comma, a `#` and a quote among them.
fn table(target: &str) -> (String, Value) {
    let mut text = format!("\"size \"\"cm\"\"\";colour;born;{target};comma\n");
    let mut rows = Vec::new();
    for row in 0..80usize {
        let at = (row * 7919 + 13) % 101;
        let size = (row % 5 != 3).then_some(at as f64 * 0.25);
        let colour = ["#red", "green; light", "a \"b\""][at % 3];
        let born = format!("19{:02}-03-{:02}", 50 + at % 40, 1 + at % 28);
        let comma = 1.125 + at as f64;
        let kind = if target == "price" { (1000 + 25 * at).to_string() } else { ["low", "high"][at / 51].into() };
        text += &format!(
            "{};\"{}\";{born};{kind};{}\n",
            size.map_or("NA".into(), |size| size.to_string().replace('.', ",")),
            colour.replace('"', "\"\""),
            comma.to_string().replace('.', ",")
        );
        rows.push(json!({ "comma": comma, "size \"cm\"": size, "colour": colour, "born": born, "unused": [1, {}] }));
    }
    (text, Value::Array(rows))
}

/// The folder of a model of a table, with `table.csv` and `rows.json`.
fn table_model(target: &'static str) -> PathBuf {
    let folder = root().join(target);
    if folder.join("run").is_dir() {
        return folder;
    }
    fs::create_dir(&folder).unwrap();
    let (text, rows) = table(target);
    fs::write(folder.join("table.csv"), text).unwrap();
    fs::write(folder.join("rows.json"), rows.to_string()).unwrap();
    train(target, &["--data=table.csv", &format!("--target={target}"), "--hidden=6"])
}

#[test]
fn predictions_are_those_of_predict_for_every_kind_of_model_and_body() {
    let folder = digits();
    let serving = Serving::start(folder, &["run"]);
    let here = predicted(folder, "inputs.npy");
    assert_alike(&here, &predictions(&serving, &fs::read(folder.join("inputs.npy")).unwrap()));
    let rows: Vec<Vec<u8>> = serde_json::from_slice(&fs::read(folder.join("inputs.json")).unwrap()).unwrap();
    assert_alike(&here, &predictions(&serving, json!(rows).to_string().as_bytes()));
    assert_alike(&here[..1], &predictions(&serving, json!(rows[0]).to_string().as_bytes()));
    let square: Vec<&[u8]> = rows[1].chunks(8).collect();
    assert_alike(&here[1..2], &predictions(&serving, json!(square).to_string().as_bytes()));
    let picture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/digits/7.png");
    assert_alike(&predicted(folder, picture), &predictions(&serving, &fs::read(picture).unwrap()));
    let top = serving.ask("POST", "/predict", "", &fs::read(picture).unwrap()).json();
    assert_eq!(top["predictions"][0]["classes"].as_array().unwrap().len(), 3, "{top}");
    assert_eq!(top["predictions"][0]["input"], "body");

    for target in ["kind", "price"] {
        let folder = table_model(target);
        let serving = Serving::start(&folder, &["run"]);
        let here = predicted(&folder, "table.csv");
        assert_eq!(here.len(), 80);
        assert_alike(&here, &predictions(&serving, &fs::read(folder.join("table.csv")).unwrap()));
        assert_alike(&here, &predictions(&serving, &fs::read(folder.join("rows.json")).unwrap()));
    }

    let folder = root().join("arrays");
    fs::create_dir_all(folder.join("data")).unwrap();
    // In units of their own.
    let number = |at: usize| [1e-6, 1.0, 50.0, 1e7][at % 4] * ((at * 7919 % 103) as f32 / 37.0 + 3.0);
    let numbers: Vec<f32> = (0..60 * 4).map(number).collect();
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    fs::write(folder.join("data/x.npy"), npy("<f4", &[60, 4], &bytes)).unwrap();
    let classes: Vec<u8> = (0..60).flat_map(|at: i64| (at % 3).to_le_bytes()).collect();
    fs::write(folder.join("data/y.npy"), npy("<i8", &[60], &classes)).unwrap();
    train("arrays", &["--data=data"]);
    let serving = Serving::start(&folder, &["run"]);
    let here = predicted(&folder, "data/x.npy");
    assert_alike(&here, &predictions(&serving, &fs::read(folder.join("data/x.npy")).unwrap()));
    let rows: Vec<&[f32]> = numbers.chunks(4).collect();
    assert_alike(&here, &predictions(&serving, json!(rows).to_string().as_bytes()));
    let far = serving.ask("POST", "/predict", "", b"[3e38, 1, 1, 1]");
    let problem = far.reason();
    assert!(far.status == 400 && problem.contains("feature 0 of example 0: 3e38 is too far"), "{problem}");
}

#[test]
fn bad_bodies_get_a_status_and_a_reason_by_name() {
    let serving = Serving::start(digits(), &["run", "--max-body=1"]);
    let image = vec![0u8; 64];
    let mut bomb = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\x01\0\0\0\x01\0\0\x08\0\0\0\0".to_vec();
    bomb.extend(crc32(&bomb[12..]).to_be_bytes());
    bomb.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e\0\0\0\0IEND\xae\x42\x60\x82");
    let form = "Content-Type: multipart/form-data; boundary=x\r\n";
    let too_many = npy("|u1", &[10_001, 64], &vec![0; 640_064]);
    let cases: Vec<(&str, &str, Vec<u8>, u16, &str)> = vec![
        ("/predict", "", vec![], 400, "the body is empty"),
        ("/predict", "", b"hello".to_vec(), 400, "the model reads images"),
        ("/predict", "", b"[1, 2, 3]".to_vec(), 400, "3 numbers, and an example of this model has 64"),
        ("/predict", "", b"[[0, 300]]".to_vec(), 400, "300 is no byte"),
        ("/predict", "", b"{\"a\": 1}".to_vec(), 400, "expected an array of numbers"),
        ("/predict", "", b"[0, 1".to_vec(), 400, "not read as JSON: EOF"),
        ("/predict", "", npy("|u1", &[1, 63], &image[1..]), 400, "63"),
        ("/predict", "", npy("|u1", &[1 << 40, 64], &image), 400, "body"),
        ("/predict", "", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec(), 400, "damaged"),
        ("/predict", "", bomb, 400, "more than"),
        ("/predict", "", vec![0x1f, 0x8b, 8, 0], 415, "compressed"),
        ("/predict", form, b"--x\r\n".to_vec(), 415, "curl --data-binary @FILE"),
        ("/predict", "", too_many, 413, "10001 examples, and 10000 are the most"),
        ("/predict", "", vec![0; (1 << 20) + 1], 413, "more than 1 MiB"),
        ("/predict?top=0", "", image.clone(), 400, "top=K"),
        ("/predict?fit=digit", "", image.clone(), 400, "top=K"),
        ("/elsewhere", "", image.clone(), 404, "there are /, /predict, /health, /metrics"),
        ("/health", "", image.clone(), 405, "POST /health: use GET"),
    ];
    for (path, headers, body, status, reason) in &cases {
        let answer = serving.ask("POST", path, headers, body);
        assert_eq!(answer.status, *status, "{path} {reason}: {answer:?}");
        assert!(answer.reason().contains(reason), "{reason}: {answer:?}");
    }
    let chunked = [b"100001\r\n", &vec![b'0'; 0x0010_0001][..], b"\r\n0\r\n\r\n"].concat();
    let mut stream = serving.connect();
    stream
        .write_all(b"POST /predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\nHost: here\r\nConnection: close\r\n\r\n")
        .unwrap();
    stream.write_all(&chunked).unwrap();
    assert_eq!(answer(&mut stream).status, 413);
    let get = serving.ask("GET", "/predict", "", b"");
    assert!(get.status == 405 && get.head.contains("\r\nallow: post"), "{get:?}");

    let serving = Serving::start(&table_model("kind"), &["run"]);
    let whole = r#"{"size \"cm\"": 1, "colour": "x", "born": "1960-01-02", "comma": 1}"#;
    for (body, reason) in [
        ("size;colour\n1;2\n".to_string(), "no such column"),
        ("a table".into(), "body"),
        (whole.replace("\"born\": \"1960-01-02\",", ""), "row 1 lacks \"born\""),
        (whole.replace("1960-01-02", "soon"), "soon"),
        (whole.replace("\"x\"", "[]"), "row 1, \"colour\": a value is a number"),
        ("[[1, 2]]".into(), "expected an object with a value for each column"),
        ("\"size \"\"cm\"\"\";colour;born;comma\n1;x;1960-01-02;1\nbad;x;1960-01-02;1\n".into(), "line 3"),
        ("\n".repeat(30_000), "30000 examples, and 10000"),
    ] {
        let answer = serving.predict(body.as_bytes());
        assert!((400..500).contains(&answer.status) && answer.reason().contains(reason), "{reason}: {answer:?}");
    }
    assert_eq!(serving.predict(whole.as_bytes()).status, 200);
}

/// The checksum of a chunk of a PNG file.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
        }
    }
    !crc
}

#[test]
fn requests_that_come_together_are_computed_together_and_counted() {
    let folder = digits();
    let serving = Serving::start(folder, &["run"]);
    let here = predicted(folder, "inputs.npy");
    let rows: Vec<Vec<u8>> = serde_json::from_slice(&fs::read(folder.join("inputs.json")).unwrap()).unwrap();
    let (threads, each) = (24, 30);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (serving, rows, here) = (&serving, &rows, &here);
            scope.spawn(move || {
                // One connection for all of a thread's requests.
                let mut stream = BufReader::new(serving.connect());
                for at in 0..each {
                    let example = (thread + at) % rows.len();
                    let body = json!(rows[example]).to_string();
                    let sent = request("POST", "/predict?top=99", "", body.as_bytes());
                    stream.get_mut().write_all(&sent).unwrap();
                    let (mut line, mut length) = (String::new(), 0);
                    while line != "\r\n" {
                        line.clear();
                        stream.read_line(&mut line).unwrap();
                        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                            length = value.trim().parse().unwrap();
                        }
                    }
                    let mut answer = vec![0; length];
                    stream.read_exact(&mut answer).unwrap();
                    let answer: Value = serde_json::from_slice(&answer).unwrap();
                    let got = nameless(answer["predictions"].as_array().unwrap());
                    assert_alike(&here[example..=example], &got);
                }
            });
        }
    });
    let requests = (threads * each) as f64;
    assert_eq!(serving.metric("softstep_requests_total{path=\"/predict\",status=\"200\"}"), requests);
    assert_eq!(serving.metric("softstep_batch_examples_sum"), requests);
    let batches = serving.metric("softstep_batch_examples_count");
    assert!(batches < requests, "{batches} batches");
    assert_eq!(serving.metric("softstep_predict_seconds_count"), requests);
    assert_eq!(serving.ask("GET", "/health", "", b"").json(), json!({ "status": "ok" }));
}

#[test]
fn slow_requests_are_given_up_and_connections_are_bounded() {
    let serving = Serving::start(digits(), &["run", "--timeout=1", "--max-connections=3"]);
    let begin = |bytes: &[u8]| {
        let mut stream = serving.connect();
        stream.write_all(bytes).unwrap();
        stream
    };
    let started = Instant::now();
    let mut body = begin(b"POST /predict HTTP/1.1\r\nHost: here\r\nContent-Length: 64\r\n\r\n[1,");
    let late = answer(&mut body);
    assert!(late.status == 408 && late.reason() == "the body took longer than 1 s", "{late:?}");
    // A head that is never whole, and a connection on which nothing is asked.
    for sent in [&b"POST /predict HTTP/1.1\r\nHost: he"[..], b""] {
        let mut bytes = Vec::new();
        let _ = begin(sent).read_to_end(&mut bytes);
        assert!(!bytes.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&bytes));
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let idle = [begin(b""), begin(b""), begin(b"")];
    std::thread::sleep(Duration::from_millis(200));
    let mut refused = serving.connect();
    let refused = answer(&mut refused);
    assert!(
        refused.status == 503 && refused.reason() == "the most connections are open: try again soon",
        "{refused:?}"
    );
    drop(idle);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(serving.ask("GET", "/health", "", b"").status, 200);
    assert_eq!(serving.metric("softstep_refused_connections_total"), 1.0);

    // Whoever takes no answer is given up, too: the pages of many requests fill every buffer on the way.
    let mut greedy = serving.connect();
    let pages = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n".repeat(5_000);
    let _ = greedy.set_write_timeout(Some(Duration::from_secs(1)));
    let _ = greedy.write_all(&pages);
    let started = Instant::now();
    while serving.metric("softstep_connections") > 1.0 {
        assert!(started.elapsed() < Duration::from_secs(20), "the connection stays");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_signal_ends_the_server_after_what_has_begun() {
    let rows = fs::read(digits().join("inputs.json")).unwrap();
    for name in ["-TERM", "-INT"] {
        let serving = Serving::start(digits(), &["run"]);
        let whole = request("POST", "/predict", "", &rows);
        let (first, rest) = whole.split_at(whole.len() - 10);
        let mut begun = serving.connect();
        begun.write_all(first).unwrap();
        let idle = serving.connect();
        std::thread::sleep(Duration::from_millis(300));
        serving.signal(name);
        std::thread::sleep(Duration::from_millis(300));
        assert!(TcpStream::connect(&serving.address).is_err(), "it listens still");
        begun.write_all(rest).unwrap();
        let answer = answer(&mut begun);
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.head.contains("\r\nconnection: close"), "{answer:?}");
        let run = serving.end();
        assert_eq!((run.code, &*run.stderr), (0, ""), "{run:?}");
        drop(idle);
    }
}

/// The commands of a table of the README that begin like this, without the name of the program.
fn of_readme(start: &str) -> Vec<String> {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let cells =
        readme.lines().filter_map(|line| line.strip_prefix("| `softstep ")?.split('`').next().map(String::from));
    let found: Vec<String> = cells.filter(|cell| cell.starts_with(start)).collect();
    assert!(!found.is_empty(), "the README has no `softstep {start}`");
    found.iter().map(|command| command.replace("runs/…", "run")).collect()
}

#[test]
fn the_commands_of_the_readme_lead_from_a_run_to_other_programs() {
    let folder = digits();
    for command in of_readme("export") {
        let arguments: Vec<&str> = command.split(' ').collect();
        let said = succeeds(folder, &arguments).stdout;
        let file = arguments.iter().find(|argument| argument.contains(".onnx")).unwrap();
        assert!(said.contains(file) && fs::metadata(folder.join(file)).unwrap().len() > 4000, "{said}");
    }
    // What it exports comes back, and what it serves is what the model predicts.
    succeeds(folder, &["export", "run", "--torch", "way.py"]);
    let import = ["import", "way.safetensors", "--data", "digits", "--hidden", "16", "--out", "way-back.safetensors"];
    succeeds(folder, &import);
    let own = fs::read(folder.join("run/model.safetensors")).unwrap();
    let back = fs::read(folder.join("way-back.safetensors")).unwrap();
    let digest = |bytes: &[u8]| softstep::model_file::from_safetensors("m", bytes).unwrap().0.sha256();
    assert_eq!(digest(&own), digest(&back));
    for command in of_readme("serve") {
        let arguments: Vec<&str> = command.split(' ').skip(1).collect();
        let serving = Serving::start(folder, &arguments);
        let inputs = fs::read(folder.join("inputs.npy")).unwrap();
        assert_alike(&predicted(folder, "inputs.npy"), &predictions(&serving, &inputs));
    }
}

#[test]
fn what_cannot_be_served_is_an_error_before_anybody_asks() {
    let folder = digits();
    let serving = Serving::start(folder, &["run"]);
    let listen = format!("--listen={}", serving.address);
    for (arguments, message) in [
        (vec!["run", &listen], "choose another address with --listen"),
        (vec!["run", "--listen=here"], "--listen here: an address is HOST:PORT"),
        (vec!["run", "--max-body=99999"], "--max-body 99999: the most is 1024"),
        (vec!["nothing"], "nothing"),
        (vec!["run", "--fit=whole", "--one"], "--one chooses among several digits"),
    ] {
        let run = softstep(folder, &[&["serve", "--backend=cpu"], &arguments[..]].concat());
        assert!(run.code == 1 && run.stderr.starts_with("error: ") && run.stderr.contains(message), "{run:?}");
    }
}

/// Bytes that no client should send, from a number.
fn hostile(number: u64, good: &[Vec<u8>]) -> (Vec<u8>, bool) {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below.max(1)
    };
    let mut noise = |most: usize| -> Vec<u8> { (0..random(most)).map(|_| random(256) as u8).collect() };
    let post = |body: &[u8]| request("POST", "/predict", "Connection: close\r\n", body);
    match number % 20 {
        0 => (noise(400), false),
        1 => ([b"GET / HTTP/1.1\r\n".to_vec(), noise(300), b"\r\n\r\n".to_vec()].concat(), false),
        2 => (b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nshort".to_vec(), false),
        3 => {
            let head = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            ([head, noise(200)].concat(), false)
        }
        4 => (
            b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 50\r\n\r\nhello".to_vec(),
            false,
        ),
        5 => {
            let both = b"POST /predict HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
            ([&both[..], b"GET /metrics HTTP/1.1\r\n\r\n"].concat(), false)
        }
        6 => (format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(100_000)).into_bytes(), false),
        7 => (format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(500)).into_bytes(), false),
        8 => (format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "%00../".repeat(5000)).into_bytes(), false),
        9 => (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(), false),
        10 => ([b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(), noise(200)].concat(), false),
        11 => (b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n".to_vec(), false),
        12 => (post("[".repeat(50_000).as_bytes()), true),
        13 => (post(&[b"{\"a\":".repeat(2000), noise(50)].concat()), true),
        14 => (post(&[vec![0x1f, 0x8b, 8], noise(100)].concat()), true),
        15 => (post(&noise(2000)), true),
        16 => (Vec::new(), false),
        // Good bodies, cut or changed.
        _ => {
            let mut body = good[random(good.len())].clone();
            for _ in 0..=random(4) {
                let at = random(body.len());
                body[at] = random(256) as u8;
            }
            if random(3) == 0 {
                body.truncate(random(body.len()));
            }
            (post(&body), true)
        }
    }
}

#[test]
fn ten_thousand_hostile_requests_end_nothing_and_take_little_memory() {
    let table = table_model("kind");
    let picture = |name: &str| fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/digits").join(name)).unwrap();
    let of_digits = ["inputs.npy", "inputs.json"].map(|name| fs::read(digits().join(name)).unwrap());
    let of_tables = ["table.csv", "rows.json"].map(|name| fs::read(table.join(name)).unwrap());
    let small = image::load_from_memory(&picture("7.png")).unwrap().thumbnail(40, 40).into_rgb8();
    let mut pictures = Vec::new();
    for format in [image::ImageFormat::Png, image::ImageFormat::Bmp, image::ImageFormat::Gif, image::ImageFormat::Tiff]
    {
        let mut bytes = std::io::Cursor::new(Vec::new());
        small.write_to(&mut bytes, format).unwrap();
        pictures.push(bytes.into_inner());
    }
    let servers = [
        (Serving::start(digits(), &["run", "--timeout=10"]), [&of_digits[..], &pictures].concat()),
        (Serving::start(&table, &["run", "--timeout=10"]), [&of_tables[..], &of_digits[..1]].concat()),
    ];
    let before: Vec<_> = servers.iter().map(|(serving, good)| predictions(serving, &good[0])).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= 10_000 {
                        break;
                    }
                    let (serving, good) = &servers[number / 20 % 2];
                    let (sent, is_whole) = hostile(number as u64, good);
                    let mut stream = serving.connect();
                    let _ = stream.write_all(&sent);
                    if !is_whole {
                        let _ = stream.shutdown(Shutdown::Write);
                    }
                    let mut got = Vec::new();
                    let is_read = stream.read_to_end(&mut got).is_ok();
                    let text = String::from_utf8_lossy(&got);
                    let status = text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..1));
                    assert!(!is_whole || !is_read || matches!(status, Some("2" | "4")), "{number}: {text:?}");
                    assert!(!matches!(status, Some("5")), "{number}: {text:?}");
                }
            });
        }
    });
    for ((serving, good), before) in servers.iter().zip(before) {
        assert_eq!(serving.ask("GET", "/health", "", b"").status, 200);
        assert_alike(&before, &predictions(serving, &good[0]));
        #[cfg(target_os = "linux")]
        {
            let status = format!("/proc/{}/status", serving.child.as_ref().unwrap().id());
            let status = fs::read_to_string(status).unwrap();
            let peak =
                status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB")?.trim().parse().ok());
            assert!(peak.is_some_and(|peak: u64| peak < 500_000), "{status}");
        }
    }
    for (serving, _) in servers {
        serving.signal("-TERM");
        let run = serving.end();
        assert_eq!((run.code, &*run.stderr), (0, ""), "{run:?}");
    }
}
