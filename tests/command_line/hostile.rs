//! Hostile files: whatever a parser gets, it gives an error or a sound result, in bounded memory and never a panic.
//!
//! Each parser meets 100,000 random inputs, or fewer where each is slow: noise, and sound files that were damaged in a
//! few places. For more:
//! `SOFTSTEP_TEST_CASES=10000000 cargo test --release --test command_line random_inputs -- --nocapture`. The same checks,
//! guided by coverage, are in `tests/fuzz`.

mod parsers;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::binary;
use crate::npz::npz;
use flate2::{Compress, Compression, Crc, FlushCompress, GzBuilder, Status};
use parsers::PARSERS;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use softstep::checkpoint;
use softstep::data::idx::Idx;
use softstep::loss::Loss;
use softstep::model::Parameters;
use softstep::model_file::{self, Metadata};
use softstep::optimizer::{Optimizer, Sgd, TrainingState};
use softstep::trainer::{Position, TrainingConfig};

fn idx(shape: &[u32], elements: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, shape.len() as u8];
    file.extend(shape.iter().flat_map(|size| size.to_be_bytes()));
    file.extend(elements);
    file
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzBuilder::new().filename("f").write(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn model() -> Vec<u8> {
    model_of(None)
}

/// A model that reads its data in this way.
fn model_of(preprocessing: Option<&str>) -> Vec<u8> {
    let preprocessing = preprocessing.map(|json| serde_json::from_str(json).unwrap());
    let parameters = Parameters::new(&[4, 3, 2], 5).unwrap();
    let metadata = Metadata::new(&parameters, "digits", 5, Loss::CrossEntropy).with_preprocessing(preprocessing);
    model_file::to_safetensors(&parameters, &metadata).unwrap()
}

/// One of each kind that makes 4 features and 2 classes.
const PREPROCESSING: [&str; 4] = [
    r#"{"columns":[{"name":"a","encoding":{"standardised":{"mean":0.5,"deviation":2.0}}},
        {"name":"b","encoding":{"one_hot":["u","v","w"]}}],
        "target":"c","encoding":{"classes":["x","y"]},"test":0.2}"#,
    r#"{"columns":[{"name":"1","encoding":{"standardised":{"mean":0.5,"deviation":2.0}},"form":"decimal_comma","marks_gaps":true},
        {"name":"2","encoding":{"one_hot":["","v"]}}],"target":"3","encoding":{"classes":["x","y"]},"test":0.2,
        "missing":"drop","positions":3}"#,
    r#"{"width":2,"height":2,"color":"grey","classes":["x","y"],"test":"some/folder"}"#,
    r#"{"elements":"numbers","features":4,"targets":{"classes":2},"test":0.2}"#,
];

/// A `.npy` file.
fn npy(descr: &str, order: &str, shape: &str, elements: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
    [b"\x93NUMPY\x01\0", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), elements].concat()
}

/// A checkpoint in the middle of an epoch, with momentum or without.
fn checkpoint(parameters: Parameters, momentum: f32) -> Vec<u8> {
    let sizes = parameters.sizes();
    let sgd = Sgd { momentum, ..Sgd::default() };
    let config = TrainingConfig::default().hidden(sizes[1..sizes.len() - 1].to_vec()).optimizer(sgd);
    let architecture = parameters.architecture.clone();
    let state = TrainingState {
        moments: vec![parameters.clone(); Optimizer::from(sgd).moments()],
        parameters,
        best: None,
        updates: 0,
    };
    let metadata = checkpoint::Metadata {
        format: checkpoint::Metadata::FORMAT,
        version: "0.1.0".into(),
        architecture,
        position: Position { epoch: 2, steps: 5, loss_sum: 0.3, best: None },
        step: 28,
        config,
        chosen: None,
        checkpoint_every: std::num::NonZeroUsize::new(9),
        data: "digits".into(),
        data_sha256: "00".into(),
        train_sha256: None,
        shapes: None,
        preprocessing: None,
        image: None,
        backend: "cpu".into(),
        adapter: "a processor".into(),
        driver: "gemm".into(),
        metrics_bytes: 1000,
    };
    checkpoint::to_safetensors(&metadata, &state).unwrap()
}

/// A safetensors file with this header.
fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// As `parsers::idx_folder` takes them.
fn four_files(files: [&[u8]; 4]) -> Vec<u8> {
    let lengths = files[..3].iter().flat_map(|file| (file.len() as u16).to_le_bytes());
    lengths.chain(files.concat()).collect()
}

/// Sound inputs of a parser.
fn seeds(parser: &str) -> Vec<Vec<u8>> {
    let plain = idx(&[2, 3], &[1, 2, 3, 4, 5, 6]);
    match parser {
        "csv" => {
            let texts = [
                "a,y,b\n1.5,x,u\n2,\"y,\",v\n-3,x,\"v\"\n4e9,x,u\n",
                "y,a\n1,2\n3,4\r\n5,6\n",
                "# c\n;a;y;b\n1;1,5;x;2020-01-02\n2;NA;z;2020-02-29 10:30\n3;1.234,5;x;\n4;-7;;2021-12-31\n",
                "1.5\t$1,234.50\t3%\n2.5\t(7)\t?\n3.5\t€ 8\t4%\n",
                "y|a|a|\nTrue|1/2/2020|u|\nfalse|13/1/2020|-|\ntrue|2 Jan 2020|+|\n",
            ];
            let utf_16 = texts[2].encode_utf16().flat_map(u16::to_le_bytes);
            let mut seeds = vec![utf_16.collect(), gzip(texts[0].as_bytes()), b"a,y\n\xe9,x\n\xe8,z\nu,x\n".to_vec()];
            seeds.extend(texts.map(Vec::from));
            seeds
        }
        "csv_again" => {
            let texts = [
                "a,b,c\n\"1.234,5\",u,31.12.2020\n,w,1/2/99\n-3,NA,2 Jan 2020 10:15 PM\n",
                "1.5\t7\ttrue\n2\t8\tFALSE\n-\t9\ttrue\n",
                "1.5,true\n2,false\n",
                "y;a;b\n1;12/31/2020;2020-12-31T23:59:59.5+01:30\n2;1/2/70;2021-1-1\n",
            ];
            let utf_16 = texts[0].encode_utf16().flat_map(u16::to_be_bytes);
            let mut seeds = vec![[0xfe, 0xff].into_iter().chain(utf_16).collect(), gzip(texts[1].as_bytes())];
            seeds.extend(texts.map(Vec::from));
            seeds
        }
        "idx" => {
            let members = [gzip(&plain[..7]), gzip(&plain[7..])].concat();
            vec![gzip(&plain), plain, members, idx(&[4], b"abcd"), idx(&[1, 2, 3, 1, 2], &[9; 12])]
        }
        "idx_folder" => {
            let (images, labels) = (idx(&[2, 1, 3], &[1, 2, 3, 4, 5, 6]), idx(&[2], &[0, 2]));
            let (test_images, test_labels) = (idx(&[1, 3, 1], &[7, 8, 9]), idx(&[1], &[1]));
            let plain = [&images[..], &labels, &test_images, &test_labels];
            let zipped = plain.map(gzip);
            vec![four_files(plain), four_files(zipped.each_ref().map(Vec::as_slice))]
        }
        "npy" => vec![
            npy("|u1", "False", "(2, 3)", b"abcdef"),
            npy(">i2", "True", "(3,)", &[0, 1, 2, 3, 4, 5]),
            npy("<f8", "False", "(1, 1, 2)", &[1.5f64, -2.0].map(f64::to_le_bytes).concat()),
        ],
        "npy_pair" => {
            let pair = |x: &[u8], y: &[u8]| [&(x.len() as u16).to_le_bytes(), x, y].concat();
            vec![
                pair(&npy("|u1", "True", "(2, 2)", b"abcd"), &npy("<i4", "False", "(2,)", &[0, 0, 0, 0, 1, 0, 0, 0])),
                pair(&npy("<f4", "False", "(2,)", &[0; 8]), &npy("<f4", "True", "(2, 2)", &[0; 16])),
            ]
        }
        "npy_stored" => {
            let numbers = [1.5f32, -2.0, 0.0, 3e38].map(f32::to_le_bytes).concat();
            let others = ["<i2", ">u2", ">i4", "<i8", "|b1", "<f2", "|i1"].map(|descr| {
                let width = descr[2..].parse::<usize>().unwrap();
                npy(descr, "False", "(3, 1, 2)", &[1, 0, 2, 60, 0, 3, 0, 4].repeat(6)[..6 * width])
            });
            let mut seeds = vec![npy("|u1", "False", "(2, 3)", b"abcdef"), npy("<f4", "False", "(4,)", &numbers)];
            seeds.extend(others);
            seeds
        }
        "npz" => {
            let (x, y) = (npy("|u1", "False", "(4, 2)", b"abcdefgh"), npy("|u1", "False", "(4,)", &[0, 1, 0, 1]));
            let (x_test, y_test) = (npy("|u1", "False", "(1, 2)", b"ij"), npy("|u1", "False", "(1,)", &[1]));
            let whole = [("x_train", x), ("y_train", y)];
            let with_test = [whole.clone(), [("x_test", x_test), ("y_test", y_test)]].concat();
            vec![npz(&whole, true), npz(&with_test, false)]
        }
        "picture" => {
            let mut random = ChaCha8Rng::seed_from_u64(7);
            let mut picture = image::GrayImage::from_pixel(14, 11, image::Luma([230]));
            for (x, y) in (2..9).map(|y| (6, y)).chain((3..12).map(|x| (x, 5))) {
                picture.put_pixel(x, y, image::Luma([(random.next_u32() % 60) as u8]));
            }
            let noise = image::RgbImage::from_fn(9, 13, |_, _| {
                image::Rgb(random.next_u32().to_le_bytes()[..3].try_into().unwrap())
            });
            let pictures = [image::DynamicImage::from(picture).into_rgb8(), noise];
            let formats = [image::ImageFormat::Bmp, image::ImageFormat::Png, image::ImageFormat::Gif];
            let written = |(picture, format): (&image::RgbImage, image::ImageFormat)| {
                let mut bytes = std::io::Cursor::new(Vec::new());
                picture.write_to(&mut bytes, format).unwrap();
                bytes.into_inner()
            };
            pictures.iter().flat_map(|picture| formats.map(|format| (picture, format))).map(written).collect()
        }
        "model_file" => [None].into_iter().chain(PREPROCESSING.map(Some)).map(model_of).collect(),
        "checkpoint" => {
            let parameters = |sizes| Parameters::new(sizes, 5).unwrap();
            vec![checkpoint(parameters(&[4, 3, 2]), 0.9), checkpoint(parameters(&[2, 2]), 0.0)]
        }
        _ => unreachable!("{parser}"),
    }
}

/// Runs `work` on an input; on a panic the input is kept, and named.
fn try_input(name: &str, parser: fn(&[u8]), input: &[u8]) {
    if let Err(panic) = std::panic::catch_unwind(|| parser(input)) {
        let path = std::env::temp_dir().join(format!("softstep-{name}-panic"));
        fs::write(&path, input).unwrap();
        eprintln!("{name}: the input is in {}", path.display());
        std::panic::resume_unwind(panic);
    }
}

/// Bytes that decide something in one of the formats.
const TOKENS: [&[u8]; 27] = [
    b"\n#",
    b",,",
    b"1,234",
    b"-",
    b"31/12/2020",
    b"\xc3\xa9",
    b"\xff\xfe",
    b"\r",
    &[0xff; 4],
    &[0xff; 8],
    &[0, 0, 8, 2],
    &[0x1f, 0x8b, 8, 0],
    &[0, 0, 0, 0],
    &[0x7f, 0xff, 0xff, 0xff],
    &[0, 0, 0x80, 0x7f],
    b"18446744073709551615",
    b"\"0.bias\":",
    b"\\\"",
    b"[[[[",
    b"{\"",
    b"\"F64\"",
    b",0",
    b"-1",
    b"1e9",
    b"True",
    b"(1,)",
    b"<f8",
];

/// Damages a sound file in one to four places.
fn damage(random: &mut ChaCha8Rng, file: &mut Vec<u8>) {
    for _ in 0..=random.next_u32() % 4 {
        let mut below = |limit: usize| random.next_u64() as usize % limit.max(1);
        let (at, other) = (below(file.len() + 1), below(file.len() + 1));
        let (first, last) = (at.min(other), at.max(other).min(at.min(other) + 32));
        let token = TOKENS[below(TOKENS.len())];
        let (bit, byte, action) = (below(8), below(256) as u8, below(8));
        match action {
            0 => file.truncate(at),
            1 | 2 if at < file.len() => file[at] ^= 1 << bit,
            3 if at < file.len() => file[at] = byte,
            4 => file.splice(at..at, token.iter().copied()).for_each(drop),
            5 => file.splice(at..(at + token.len()).min(file.len()), token.iter().copied()).for_each(drop),
            6 => drop(file.drain(first..last)),
            _ => {
                let part = file[first..last].to_vec();
                file.splice(at..at, part).for_each(drop);
            }
        }
    }
}

/// Noise, bare or behind what its parser expects first.
fn noise(random: &mut ChaCha8Rng, name: &str) -> Vec<u8> {
    let mut bytes = vec![0; random.next_u32() as usize % 200];
    random.fill_bytes(&mut bytes);
    let small =
        |bytes: &mut Vec<u8>| bytes.iter_mut().for_each(|byte| *byte = [0, 0, 0, 1, 2, *byte][*byte as usize % 6]);
    match (random.next_u32() % 4, name) {
        (1, "idx") => {
            small(&mut bytes);
            [&[0, 0, 8, random.next_u32() as u8 % 4][..], &bytes].concat()
        }
        (2, "idx") => [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0][..], &bytes].concat(),
        (3, "idx") => gzip(&bytes),
        (1, "idx_folder") => {
            small(&mut bytes);
            bytes
        }
        (1, "npy") => npy("<f4", "False", &String::from_utf8_lossy(&bytes), &[]),
        (1, "npy_stored") => npy("<f4", "False", &String::from_utf8_lossy(&bytes), &[]),
        (2, "npy") => [&b"\x93NUMPY\x02\0"[..], &bytes].concat(),
        (1, "model_file" | "checkpoint") => safetensors(&String::from_utf8_lossy(&bytes), &[]),
        (2, "model_file" | "checkpoint") => {
            let json: String =
                bytes.iter().map(|&byte| char::from(b"{}[]\",:0123456789a_\\"[byte as usize % 20])).collect();
            safetensors(&json, &bytes)
        }
        _ => bytes,
    }
}

/// `count` random inputs to a parser.
fn random_inputs(name: &'static str) {
    let (_, parser) = *PARSERS.iter().find(|(parser, _)| *parser == name).unwrap();
    // Inputs that lie in a file or are drawn as pictures take their time.
    let usual = match name {
        "picture" => 500,
        "npy_stored" | "npz" => 10_000,
        _ => 100_000,
    };
    let count = std::env::var("SOFTSTEP_TEST_CASES").map_or(usual, |count| count.parse().unwrap());
    let seeds = seeds(name);
    let mut random = ChaCha8Rng::seed_from_u64(count);
    let started = Instant::now();
    for case in 0..count {
        let input = if case % 8 == 0 {
            noise(&mut random, name)
        } else {
            let mut file = seeds[random.next_u32() as usize % seeds.len()].clone();
            damage(&mut random, &mut file);
            file
        };
        try_input(name, parser, &input);
    }
    println!("{name}: {count} random inputs in {:.1} s", started.elapsed().as_secs_f64());
}

#[test]
fn random_inputs_never_break_the_csv_parser() {
    random_inputs("csv");
}

#[test]
fn random_inputs_never_break_a_table_that_is_read_again() {
    random_inputs("csv_again");
}

#[test]
fn random_inputs_never_break_the_idx_parser() {
    random_inputs("idx");
}

#[test]
fn random_inputs_never_break_the_idx_folder() {
    random_inputs("idx_folder");
}

#[test]
fn random_inputs_never_break_the_npy_parser() {
    random_inputs("npy");
}

#[test]
fn random_inputs_never_break_an_npy_pair() {
    random_inputs("npy_pair");
}

#[test]
fn random_inputs_never_break_an_npy_file_that_is_read_by_rows() {
    random_inputs("npy_stored");
}

#[test]
fn random_inputs_never_break_an_npz_archive() {
    random_inputs("npz");
}

#[test]
fn random_inputs_never_break_a_picture() {
    random_inputs("picture");
}

#[test]
fn random_inputs_never_break_the_model_file() {
    random_inputs("model_file");
}

#[test]
fn random_inputs_never_break_the_checkpoint() {
    random_inputs("checkpoint");
}

#[test]
fn every_truncation_and_every_flipped_bit_is_an_error_or_a_sound_result() {
    for (name, parser) in PARSERS {
        for seed in seeds(name) {
            // To find the digit of a picture takes a millisecond or two: some of its bits must do.
            let stride = if name == "picture" { 53 } else { 1 };
            for length in (0..=seed.len()).step_by(stride) {
                try_input(name, parser, &seed[..length]);
            }
            for bit in (0..8 * seed.len()).step_by(stride) {
                let mut damaged = seed.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                try_input(name, parser, &damaged);
            }
        }
    }
}

#[test]
fn the_corpus_of_the_fuzz_targets_is_replayed() {
    for (name, parser) in PARSERS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/command_line/hostile/corpus").join(name);
        let inputs: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(inputs.len() >= 5, "{} has {} inputs", folder.display(), inputs.len());
        for input in inputs {
            try_input(name, parser, &fs::read(input).unwrap());
        }
    }
}

fn refusal(bytes: &[u8]) -> String {
    model_file::from_safetensors("m", bytes).unwrap_err().to_string()
}

#[test]
fn a_model_file_whose_header_lies_is_refused_with_the_reason() {
    let model = model();
    let length = u64::from_le_bytes(*model.first_chunk().unwrap());
    let header = String::from_utf8(model[8..][..length as usize].to_vec()).unwrap();
    let data = &model[8 + length as usize..];
    let changed = |from: &str, to: &str| {
        assert!(header.contains(from), "{from} in {header}");
        refusal(&safetensors(&header.replacen(from, to, 1), data))
    };
    let bias = r#""0.bias":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}"#;
    // The sum of these sizes, and of the header, is beyond 64 bits.
    let eighth = u64::MAX / 8;
    let tensors = (0..8u64).map(|index| {
        let (start, end) = (index * eighth, (index + 1) * eighth);
        format!(r#""{index}":{{"dtype":"U8","shape":[{eighth}],"data_offsets":[{start},{end}]}}"#)
    });
    let endless = format!("{{{}}}", tensors.collect::<Vec<_>>().join(","));
    let last = r#"\"linear:2\"]"#;
    let layers = |more: &str| format!(r#"{more}\"linear:2\"]"#);
    let absurd_layers = layers(&r#"\"relu\","#.repeat(100_000));
    for (message, expected) in [
        (refusal(&[&u64::MAX.to_le_bytes()[..], &model[8..]].concat()), "a header of 18446744073709551615 bytes"),
        (refusal(&[&(1u64 << 60).to_le_bytes()[..], &model[8..]].concat()), "the limit is 16777216"),
        (refusal(&[&100_000u64.to_le_bytes()[..], &model[8..]].concat()), "ends inside its header"),
        (refusal(&safetensors(&"[".repeat(1 << 20), &[])), "invalid header"),
        (refusal(&safetensors(&format!(r#"{{"a":{}"#, r#"{"a":"#.repeat(100_000)), &[])), "invalid header"),
        (refusal(&safetensors(&endless, &[])), "beyond the file"),
        (changed(bias, &format!("{bias},{bias}")), "0.bias is there twice"),
        (changed(r#""softstep":"#, r#""softstep":"","softstep":"#), "softstep is there twice"),
        (changed(r#""__metadata__":"#, r#""__metadata__":{},"__metadata__":"#), "__metadata__ is there twice"),
        (changed(r#""shape":[3]"#, r#""shape":[3],"shape":[3]"#), "duplicate field `shape`"),
        (changed("[0,12]", "[0,16]"), "invalid shape, data type, or offset"),
        (changed("[0,12]", "[12,0]"), "offset"),
        (changed("[60,68]", "[56,68]"), "offset"),
        (changed("[60,68]", "[60,4000]"), "the data of tensor 2.bias would end at 4000"),
        (changed("[3,4]", "[9223372036854775808,4]"), "overflow"),
        (changed("[3,4]", "[3,-4]"), "tensor 0.weight: invalid value"),
        (changed("linear:3", "linear:200000000"), "0.weight is F32 [3, 4]"),
        (changed("linear:3", "linear:18446744073709551615"), "must be a whole number of at most 268435456"),
        (changed("linear:3", "linear:99999999999999999999"), "must be a whole number of at most 268435456"),
        (changed(r#"\"input\":[4]"#, r#"\"input\":[65536,65536,65536]"#), "more than 268435456 values"),
        (changed(last, &absurd_layers), "a model has at most 1999 layers"),
        (changed(last, &layers(r#"\"linear:2\",\"relu\","#)), "4.weight is missing"),
    ] {
        assert!(message.starts_with("m: ") && message.contains(expected), "{expected}: {message}");
        assert!(message.len() <= 4100 && !message.contains(char::is_control), "{message:?}");
    }
    assert!(model_file::from_safetensors("m", &safetensors(&header, data)).is_ok());
}

#[test]
fn what_a_hostile_file_says_can_be_printed() {
    let name = format!("\\u001b[2J{}", "a".repeat(100_000));
    let message =
        refusal(&safetensors(&format!(r#"{{"{name}":{{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}}}"#), &[0; 8]));
    assert!(message.contains("\u{fffd}[2Ja") && message.ends_with('…') && message.len() < 2000, "{message:?}");
}

#[test]
fn the_most_layers_that_a_model_may_have_can_be_written_and_read() {
    let parameters = Parameters::new(&[1; 1001], 0).unwrap();
    let bytes =
        model_file::to_safetensors(&parameters, &Metadata::new(&parameters, &"d".repeat(4096), 0, Loss::CrossEntropy))
            .unwrap();
    assert_eq!(model_file::from_safetensors("m", &bytes).unwrap().0, parameters);
    let bytes = checkpoint(parameters.clone(), 0.9);
    assert_eq!(checkpoint::from_safetensors("c", &bytes).unwrap().1.parameters, parameters);
    assert!(Parameters::new(&[1; 1002], 0).is_err());
}

#[test]
fn a_million_empty_gzip_members_are_passed_over() {
    let file = [gzip(b"").repeat(1_000_000), gzip(&idx(&[1], &[7]))].concat();
    assert_eq!(Idx::new("f", &file[..]).unwrap().read().unwrap(), [7]);
}

/// `start` and then zeros up to `total` bytes, gzipped: a megabyte is compressed once and repeated.
fn bomb(start: &[u8], total: u64) -> Vec<u8> {
    const MEGABYTE: usize = 1 << 20;
    let mut compress = Compress::new(Compression::best(), false);
    let mut deflate = |bytes: &[u8], flush| {
        let mut out = Vec::with_capacity(MEGABYTE / 8 + 1024);
        let status = compress.compress_vec(bytes, &mut out, flush).unwrap();
        assert!(out.len() < out.capacity() && matches!(status, Status::Ok | Status::StreamEnd));
        out
    };
    // A full flush ends on a byte and looks back at nothing before it, so what follows one can be repeated.
    let mut first = start.to_vec();
    first.resize(MEGABYTE, 0);
    let zeros = vec![0; MEGABYTE];
    let [head, block] = [&first, &zeros].map(|bytes| deflate(bytes, FlushCompress::Full));
    let end = deflate(&[], FlushCompress::Finish);
    let repeats = total / MEGABYTE as u64 - 1;

    let (mut crc, mut block_crc) = (Crc::new(), Crc::new());
    crc.update(&first);
    block_crc.update(&zeros);
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    file.extend(head);
    for _ in 0..repeats {
        file.extend(&block);
        crc.combine(&block_crc);
    }
    file.extend(end);
    file.extend(crc.sum().to_le_bytes());
    file.extend((((repeats + 1) * MEGABYTE as u64) as u32).to_le_bytes());
    file
}

/// A folder of four IDX files that are sound but for the training images.
fn data_folder(folder: &Path, images: &[u8]) -> PathBuf {
    let path = folder.join("data");
    let _ = fs::remove_dir_all(&path);
    fs::create_dir(&path).unwrap();
    fs::write(path.join("train-images-idx3-ubyte.gz"), images).unwrap();
    fs::write(path.join("train-labels-idx1-ubyte"), idx(&[6], &[0, 1, 2, 0, 1, 2])).unwrap();
    fs::write(path.join("t10k-images-idx3-ubyte"), idx(&[3, 2, 2], &[7; 12])).unwrap();
    fs::write(path.join("t10k-labels-idx1-ubyte"), idx(&[3], &[0, 1, 2])).unwrap();
    path
}

/// Runs the binary with no more than this address space.
#[cfg(target_os = "linux")]
fn within(mebibytes: usize, folder: &Path, arguments: &[&str]) -> binary::Run {
    let limited = format!("ulimit -v {} && exec \"$0\" \"$@\"", mebibytes << 10);
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &limited, env!("CARGO_BIN_EXE_softstep")]).args(arguments).current_dir(folder);
    binary::finished(command.env("RAYON_NUM_THREADS", "2").output().unwrap())
}

/// The address space in MiB that the runs below may take; a small bomb was refused in 24.
#[cfg(target_os = "linux")]
const SPACE: usize = 256;

#[test]
#[cfg(target_os = "linux")]
fn a_bomb_of_ten_gigabytes_is_refused_at_once_in_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let train = ["train", "--backend", "cpu", "--data", "data", "--epochs", "1", "--hidden", "8", "--out", "run"];
    // The bombs are sound gzip: one that holds what it announces is read.
    let honest = bomb(&idx(&[(2 << 20) - 8], &[]), 2 << 20);
    assert_eq!(Idx::new("f", &honest[..]).unwrap().read().unwrap(), vec![0; (2 << 20) - 8]);

    for (header, expected) in [
        (idx(&[6, 2, 2], &[]), "it holds more than the 6x2x2 its header announces"),
        (idx(&[6, 1 << 15, 1 << 16], &[]), "over the limit of 4294967296 bytes: its shape is 6x32768x65536"),
        (vec![], "its elements are of type 0x00, not 0x08"),
    ] {
        let bomb = bomb(&header, 10 << 30);
        assert!(bomb.len() < 12 << 20, "{}", bomb.len());
        data_folder(folder.path(), &bomb);
        let started = Instant::now();
        let run = within(SPACE, folder.path(), &train);
        let seconds = started.elapsed().as_secs_f64();
        assert!(run.code == 1 && run.stderr.contains(expected), "{run:?}");
        assert!(run.stderr.contains("data/train-images-idx3-ubyte.gz: "), "{run:?}");
        assert!(seconds <= 5.0, "{seconds} s");
    }
    // It is the limit that speaks here: the same header with its data behind it does not fit.
    data_folder(folder.path(), &bomb(&idx(&[6, 1 << 13, 1 << 13], &[]), 1 << 29));
    let sizes = [("t10k-images-idx3-ubyte", idx(&[3, 1 << 13, 1 << 13], &[]))];
    sizes.iter().for_each(|(name, bytes)| fs::write(folder.path().join("data").join(name), bytes).unwrap());
    let run = within(SPACE, folder.path(), &train);
    assert!(run.code == 1 && run.stderr.contains("there is no memory for its 402653184 bytes of data"), "{run:?}");
    assert!(!folder.path().join("run").exists());
}

#[test]
#[cfg(target_os = "linux")]
fn an_image_that_would_unpack_to_gigabytes_is_refused_in_little_memory() {
    let encoded = |format| {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image::GrayImage::new(40, 30).write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    };
    let (mut png, mut jpeg) = (encoded(image::ImageFormat::Png), encoded(image::ImageFormat::Jpeg));
    let folder = tempfile::tempdir().unwrap();
    for class in ["a", "b"] {
        fs::create_dir_all(folder.path().join("data").join(class)).unwrap();
        for file in ["1.png", "2.png"] {
            fs::write(folder.path().join("data").join(class).join(file), &png).unwrap();
        }
    }
    let train = ["train", "--backend", "cpu", "--data", "data", "--test", "0.25", "--epochs", "1", "--out", "run"];
    assert_eq!(within(SPACE, folder.path(), &train).code, 0);
    fs::remove_dir_all(folder.path().join("run")).unwrap();

    // Width and height in PNG's first chunk, behind which is its CRC, and in JPEG's frame header.
    png[16..24].copy_from_slice(&[100_000u32, 200_000].map(u32::to_be_bytes).concat());
    let mut crc = Crc::new();
    crc.update(&png[12..29]);
    png[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[65_500u16, 65_500].map(u16::to_be_bytes).concat());
    // Skipped with a notice, and refused where nothing may be left out.
    let train = [&train[..], &["--strict"]].concat();
    for bomb in [png, jpeg] {
        fs::write(folder.path().join("data/a/bomb"), bomb).unwrap();
        let run = within(SPACE, folder.path(), &train);
        let expected = "data/a/bomb: decoded it would take more than 268435456 bytes";
        assert!(run.code == 1 && run.stderr.contains(expected), "{run:?}");
    }
    // What begins as a picture and goes on for a terabyte.
    fs::File::options().write(true).open(folder.path().join("data/a/bomb")).unwrap().set_len(1 << 40).unwrap();
    let run = within(SPACE, folder.path(), &train);
    assert!(run.code == 1 && run.stderr.contains("data/a/bomb: it has 1099511627776 bytes"), "{run:?}");
    assert!(!folder.path().join("run").exists());
}

#[test]
#[cfg(target_os = "linux")]
fn a_model_that_is_endless_huge_or_no_file_is_refused_in_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    fs::File::create(folder.path().join("huge")).unwrap().set_len(1 << 40).unwrap();
    fs::write(folder.path().join("lie"), safetensors(&"[".repeat(1 << 20), &[])).unwrap();
    for (model, expected) in [
        ("/dev/zero", "/dev/zero is not a file"),
        ("huge", "huge has 1099511627776 bytes: the limit is 4294967296"),
        ("lie", "lie: not a whole safetensors file: invalid header"),
    ] {
        let run = within(SPACE, folder.path(), &["eval", "--backend", "cpu", "--data", "digits", "--model", model]);
        assert!(run.code == 1 && run.stderr.contains(expected), "{run:?}");
    }
}

#[test]
fn absurd_settings_are_refused_with_the_flag_or_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let many = vec!["1"; 20_000].join(",");
    let (max, over) = (usize::MAX.to_string(), "18446744073709551616");
    let refused = [
        ("--hidden", vec!["0", "-1", "1e3", "", ",", "8,,8", "8,0", &max, "9223372036854775807", over, &many, "nan"]),
        ("--epochs", vec!["0", "-1", over, "1e9", ""]),
        ("--batch-size", vec!["0", "-1", over, "inf"]),
        ("--lr", vec!["0", "-0", "-1", "nan", "-nan", "inf", "-inf", "1e39", "1e-50", "0x1", ""]),
        ("--momentum", vec!["1", "-1e-30", "nan", "inf", "0.99999999999"]),
        ("--weight-decay", vec!["-1", "nan", "inf", "1e39"]),
        ("--validation", vec!["1", "-1", "nan", "inf", "1e-320", "0.9999999999"]),
        ("--seed", vec!["-1", over, "1.5"]),
    ];
    for (flag, values) in refused {
        for value in values {
            let argument = format!("{flag}={value}");
            let run = binary::softstep(folder.path(), &["train", "--data=digits", "--backend=cpu", &argument]);
            assert!([1, 2].contains(&run.code) && run.stdout.is_empty(), "{argument}: {run:?}");
            let first = run.stderr.lines().next().unwrap();
            assert!(first.starts_with("error: ") && first.contains(flag), "{argument}: {}", run.stderr);
            assert!(!run.stderr.contains("panicked"), "{argument}: {}", run.stderr);
        }
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "a refused run leaves nothing behind");
    for harmless in [
        &["--batch-size", &max][..],
        &["--batch-size", "9223372036854775808", "--validation", "0.5"],
        &["--seed", &max],
        &["--lr", "1e-45", "--schedule", "step"],
        &["--momentum", "0.9999999", "--lr", "1e-30"],
    ] {
        let train = ["train", "--data=digits", "--backend=cpu", "--epochs=1", "-q"];
        let run = binary::softstep(folder.path(), &[&train, harmless].concat());
        assert!(run.code == 0, "{harmless:?}: {run:?}");
    }
}

#[test]
fn epochs_without_end_begin_like_any_others() {
    let folder = tempfile::tempdir().unwrap();
    let epochs = format!("--epochs={}", usize::MAX);
    let train = ["train", "--data=digits", "--backend=cpu", "--batch-size=7", "--json", "--out=run", &epochs];
    let mut child = binary::command(folder.path(), &train)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let events: Vec<_> = lines.by_ref().take(3).map(|line| line.unwrap()).collect();
    child.kill().unwrap();
    let run = binary::finished(child.wait_with_output().unwrap());
    assert_eq!((events.len(), run.stderr.as_str()), (3, ""));
    assert!(events[2].contains("\"epoch\":2,"), "{events:?}");
}
