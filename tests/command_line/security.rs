//! Files and names that somebody else chose: links out of run folders, commands for terminals, pipes, devices, formulas.

#![cfg(unix)]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::binary::{Run, change_checkpoint, command, finished, softstep, with};

const SHORT: [&str; 6] = ["train", "-q", "--data=digits", "--backend=cpu", "--epochs=2", "--hidden=9"];

fn make_fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Runs a command that must not wait for anything for ever.
fn at_once(folder: &Path, arguments: &[&str]) -> Run {
    let mut command = Command::new("timeout");
    command.args(["60", env!("CARGO_BIN_EXE_softstep")]).args(arguments).current_dir(folder).stdin(Stdio::null());
    let run = finished(command.output().unwrap());
    assert_ne!(run.code, 124, "{arguments:?} waits for ever");
    run
}

#[test]
fn no_file_of_a_run_folder_leads_out_of_it() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(softstep(folder.path(), &with(&SHORT, &["--out=good"])).code, 0);
    let victim = folder.path().join("victim");
    let run = folder.path().join("run");
    let checkpoint = "checkpoint-46.safetensors";
    let files =
        [".lock", "config.json", "metrics.jsonl", "results.json", "report.html", "model.safetensors", checkpoint];
    type Make = fn(&Path, &Path);
    let makes: [(&str, Make); 3] = [
        ("link", |victim, path| {
            fs::write(victim, "precious").unwrap();
            symlink(victim, path).unwrap();
        }),
        ("dangling", |victim, path| symlink(victim, path).unwrap()),
        ("pipe", |_, path| make_fifo(path)),
    ];
    for (kind, make) in makes {
        for file in files {
            let copied = Command::new("cp").args(["-r", "good", "run"]).current_dir(folder.path()).status().unwrap();
            assert!(copied.success());
            let good = fs::read(run.join(file)).unwrap();
            fs::remove_file(run.join(file)).unwrap();
            make(&victim, &run.join(file));
            // As if it had been stopped, so that everything is opened to be written.
            for arguments in [
                &["report", "run"][..],
                &["eval", "--data=digits", "--backend=cpu", "--model", "run"],
                &["train", "-q", "--resume", "run"],
            ] {
                at_once(folder.path(), arguments);
                match kind {
                    "link" => assert_eq!(fs::read(&victim).unwrap(), b"precious", "{kind} {file} {arguments:?}"),
                    _ => assert!(!victim.exists(), "{kind} {file} {arguments:?}"),
                }
            }
            let _ = fs::remove_file(&victim);
            drop(good);
            fs::remove_dir_all(&run).unwrap();
        }
    }
    // What leads elsewhere is named.
    symlink("victim", folder.path().join("good/metrics.jsonl.link")).unwrap();
    fs::rename(folder.path().join("good/metrics.jsonl.link"), folder.path().join("good/metrics.jsonl")).unwrap();
    fs::remove_file(folder.path().join("good/results.json")).unwrap();
    let resumed = softstep(folder.path(), &["train", "-q", "--resume", "good"]);
    assert_eq!(resumed.code, 1, "{resumed:?}");
    assert!(resumed.stderr.contains("cannot open good/metrics.jsonl") && resumed.stderr.contains("a symbolic link"));
}

/// What a terminal would obey, turn around or take for a line of softstep's own.
#[track_caller]
fn assert_harmless(run: &Run) {
    for text in [&run.stdout, &run.stderr] {
        let obeyed =
            |&character: &char| character.is_control() && character != '\n' || "\u{202e}\u{2066}".contains(character);
        assert_eq!(text.chars().find(obeyed), None, "{run:?}");
        assert!(!text.lines().any(|line| line.starts_with("error: fake")), "{run:?}");
        assert!(text.chars().count() < 20_000, "{} characters", text.chars().count());
    }
}

#[test]
fn names_never_command_a_terminal() {
    let hostile = "a\u{1b}]0;title\u{7}\u{1b}[2J\u{9b}31m\u{202e}b\nerror: fake";
    let folder = tempfile::tempdir().unwrap();
    let name = |end: &str| format!("{hostile}{end}");
    let table = name(".csv");
    let rows: String = (0..60).map(|row| format!("{row},{}\n", ["u", "v"][row / 30])).collect();
    fs::write(folder.path().join(&table), format!("x,kind\n{rows}")).unwrap();
    fs::create_dir(folder.path().join(name("-folder"))).unwrap();
    let (data, out) = (format!("--data={table}"), format!("--out={hostile}"));
    let train = ["train", &data, "--target=kind", "--backend=cpu", "--epochs=2", &out];
    let trained = softstep(folder.path(), &train);
    assert_eq!(trained.code, 0, "{trained:?}");
    assert_harmless(&trained);
    let missing = name("-missing");
    let commands: [&[&str]; 17] = [
        &train,
        &["train", "--resume", hostile],
        &["train", "--resume", &missing],
        &["train", "--resume", &name("-folder")],
        &["train", "--init", &missing],
        &["train", "--data", &missing],
        &["train", "--data", &name("-folder"), "--backend=cpu"],
        &["train", &data, "--target", &missing],
        &["train", hostile],
        &["train", "--adapter", hostile],
        &["report", hostile],
        &["report", hostile, "--csv", &name(".out.csv"), "--out", &name(".html")],
        &["report", &missing],
        &["eval", &data, "--backend=cpu", "--model", hostile],
        &["eval", &data, "--backend=cpu", "--model", hostile, "--json"],
        &["predict", "--backend=cpu", "--model", hostile, &table, &missing],
        &["predict", "--backend=cpu", "--model", hostile, "--json", &table],
    ];
    for arguments in commands {
        assert_harmless(&softstep(folder.path(), arguments));
    }
    // In JSON nothing is lost: a program reads the name as it is.
    let eval =
        softstep(folder.path(), &["eval", "--all", &data, "--backend=cpu", "--model", hostile, "--json"]).last_json();
    assert_eq!(eval["data"], table);
    let mut logged = command(folder.path(), &["report", hostile]);
    assert_harmless(&finished(logged.env("RUST_LOG", "trace").output().unwrap()));
}

#[test]
fn strings_of_a_checkpoint_are_short_and_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let long = "\u{1b}[31mx".repeat(20_000);
    for field in 0..5 {
        assert_eq!(softstep(folder.path(), &with(&SHORT, &["--out=run"])).code, 0);
        let run = folder.path().join("run");
        change_checkpoint(&run, |metadata| {
            (metadata.position.epoch, metadata.position.steps) = (2, 23);
            match field {
                0 => (metadata.backend, metadata.adapter) = ("gpu".into(), long.clone()),
                1 => metadata.driver = long.clone(),
                2 => metadata.version = long.clone(),
                3 => metadata.data_sha256 = long.clone(),
                _ => metadata.data = long.clone(),
            }
        });
        let resumed = softstep(folder.path(), &["train", "--resume", "run"]);
        assert_harmless(&resumed);
        assert!(resumed.stderr.len() < 3000, "{} bytes", resumed.stderr.len());
        match field {
            0 => {
                assert!(resumed.stderr.contains("--backend or --adapter continues it on another device"), "{resumed:?}")
            }
            3 => assert!(resumed.stderr.contains("Name the data of that run, or start a new run"), "{resumed:?}"),
            4 => assert!(resumed.stderr.contains("--data beside --resume"), "{resumed:?}"),
            _ => assert_eq!(resumed.code, 0, "{resumed:?}"),
        }
        fs::remove_dir_all(run).unwrap();
    }
}

#[test]
fn only_the_terminal_prints() {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // The builder of the site is a program of its own.
                if !path.ends_with("web/site") {
                    folders.push(path);
                }
                continue;
            }
            let Ok(text) = fs::read_to_string(&path) else { continue };
            let text = text.split("#[cfg(test)]").next().unwrap_or_default();
            let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
            if path.extension() != Some(OsStr::new("rs")) || path.file_name() == Some(OsStr::new("terminal.rs")) {
                continue;
            }
            for word in ["print!(", "println!(", "dbg!(", "stdout()", "stderr()"] {
                assert!(!code.contains(word), "{} has {word}", path.display());
            }
        }
    }
}

#[test]
fn predict_reads_pipes_whatever_they_are_called() {
    let folder = tempfile::tempdir().unwrap();
    let rows: String = (0..60).map(|row| format!("{row},{}\n", ["u", "v"][row / 30])).collect();
    fs::write(folder.path().join("t.csv"), format!("x,kind\n{rows}")).unwrap();
    let train = ["train", "-q", "--data=t.csv", "--target=kind", "--backend=cpu", "--epochs=2", "--out=run"];
    assert_eq!(softstep(folder.path(), &train).code, 0);
    let predict = ["predict", "--backend=cpu", "--model=run", "--json", "t.csv"];
    let expected = softstep(folder.path(), &predict).json_lines();
    assert_eq!(expected.len(), 60);
    make_fifo(&folder.path().join("fifo"));
    for input in ["<(cat t.csv)", "/dev/stdin < <(cat t.csv)", "- < t.csv", "/dev/stdin < t.csv", "fifo"] {
        let mut command = Command::new("bash");
        let script = format!("{} predict --backend=cpu --model=run --json {input}", env!("CARGO_BIN_EXE_softstep"));
        command.args(["-c", &script]).current_dir(folder.path()).stdin(Stdio::null());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        if input == "fifo" {
            let table = fs::read(folder.path().join("t.csv")).unwrap();
            fs::OpenOptions::new().write(true).open(folder.path().join("fifo")).unwrap().write_all(&table).unwrap();
        }
        let run = finished(child.wait_with_output().unwrap());
        assert_eq!(run.code, 0, "{input}: {run:?}");
        let classes =
            |lines: &[serde_json::Value]| lines.iter().map(|line| line["classes"].clone()).collect::<Vec<_>>();
        assert_eq!(classes(&run.json_lines()), classes(&expected), "{input}");
    }
    let run = at_once(folder.path(), &with(&predict[..4], &["/dev/zero", "t.csv"]));
    assert!(run.code == 1 && run.stderr.contains("/dev/zero is a device") && run.json_lines().len() == 60, "{run:?}");
}

#[test]
fn a_table_that_is_a_device_a_pipe_or_huge_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    symlink("/dev/zero", folder.path().join("zero.csv")).unwrap();
    make_fifo(&folder.path().join("fifo.csv"));
    File::create(folder.path().join("huge.csv")).unwrap().set_len(1 << 40).unwrap();
    for (table, problem) in [
        ("zero.csv", "zero.csv: it is a pipe or a device: save the table as a file"),
        ("fifo.csv", "fifo.csv: it is a pipe or a device"),
        ("huge.csv", "huge.csv: it has 1099511627776 bytes: the limit of a table is 4294967296"),
    ] {
        let run = at_once(folder.path(), &["train", "--data", table, "--target=y", "--backend=cpu"]);
        assert!(run.code == 1 && run.stderr.contains(problem), "{run:?}");
    }
}

#[test]
fn a_run_named_like_a_formula_is_text_in_a_spreadsheet() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["=1+1", "+x", "-x", "@sum"] {
        let out = format!("--out={name}");
        assert_eq!(softstep(folder.path(), &with(&SHORT, &[&out])).code, 0);
        let run = format!("./{name}");
        assert_eq!(softstep(folder.path(), &["report", &run, "--csv", "out.csv"]).code, 0);
        let csv = fs::read_to_string(folder.path().join("out.csv")).unwrap();
        assert!(csv.lines().skip(1).all(|line| line.starts_with(&format!("'{name},"))), "{csv}");
        fs::remove_file(folder.path().join("out.csv")).unwrap();
    }
}

/// A grey PNG of one shade with a dark square, written row by row.
fn write_large_picture(path: &Path, side: u32) {
    let mut encoder = png::Encoder::new(File::create(path).unwrap(), side, side);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fastest);
    let mut writer = encoder.write_header().unwrap();
    let mut stream = writer.stream_writer().unwrap();
    for y in 0..side {
        let ink = |x: u32| (side * 2 / 5..side / 2).contains(&x) && (side / 4..side * 3 / 4).contains(&y);
        let row: Vec<u8> = (0..side).map(|x| if ink(x) { 20 } else { 230 }).collect();
        stream.write_all(&row).unwrap();
    }
    stream.finish().unwrap();
}

#[test]
fn a_picture_of_16000_by_16000_is_predicted_like_a_small_one_and_soon() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(softstep(folder.path(), &with(&SHORT, &["--out=run"])).code, 0);
    write_large_picture(&folder.path().join("small.png"), 400);
    write_large_picture(&folder.path().join("large.png"), 16_000);
    let predict = |file: &str, fit: &str| {
        let arguments = ["predict", "--backend=cpu", "--model=run", "--json", "--fit", fit, file];
        softstep(folder.path(), &arguments).json_lines()[0]["classes"][0].clone()
    };
    for fit in ["digit", "whole"] {
        let started = Instant::now();
        let large = predict("large.png", fit);
        println!("--fit {fit}: {:.1} s", started.elapsed().as_secs_f64());
        assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
        let small = predict("small.png", fit);
        assert_eq!(large["class"], small["class"]);
        let probability = |class: &serde_json::Value| class["probability"].as_f64().unwrap();
        assert!((probability(&large) - probability(&small)).abs() < 0.02, "{large} {small}");
    }
}
