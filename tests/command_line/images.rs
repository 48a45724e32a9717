//! Folders of images: from drawings to a model and its report, and every mistake in one refused with its path.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use crate::binary::softstep;
use image::codecs::png::PngEncoder;
use image::{DynamicImage, GrayImage, ImageEncoder, ImageFormat as FileFormat, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use softstep::Error;
use softstep::data::images::{ImageOptions, load};
use softstep::data::{Color, Data, Features, ImageFormat, Preprocessing, TestPart};
use softstep::loss::Loss;
use softstep::model::Parameters;
use softstep::model_file::{Metadata, from_safetensors, to_safetensors};

fn encoded(image: &DynamicImage, format: FileFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A circle or a cross somewhere in an image of some size, dark on light or light on dark.
fn drawing(circle: bool, number: u32) -> DynamicImage {
    let (width, height) = (24 + number * 7 % 20, 24 + number * 5 % 20);
    let (x0, y0, radius) = (width as i32 / 2 + (number % 3) as i32 - 1, height as i32 / 2, 7 + (number % 3) as i32);
    let (ink, paper) = if number.is_multiple_of(2) { (20, 230) } else { (240, 30) };
    DynamicImage::ImageRgb8(RgbImage::from_fn(width, height, |x, y| {
        let (x, y) = (x as i32 - x0, y as i32 - y0);
        let inked = if circle {
            (x * x + y * y - radius * radius).abs() <= 2 * radius
        } else {
            (x.abs() <= 1 || y.abs() <= 1) && x.abs().max(y.abs()) <= radius
        };
        Rgb([if inked { ink } else { paper }, if inked { ink / 2 } else { paper }, paper])
    }))
}

/// `count` circles and as many crosses, PNG and JPEG.
fn draw(folder: &Path, count: u32) {
    for class in ["circles", "crosses"] {
        fs::create_dir_all(folder.join(class)).unwrap();
        for number in 0..count {
            let (format, suffix) = match number % 3 {
                0 => (FileFormat::Jpeg, "jpg"),
                1 => (FileFormat::Png, "png"),
                _ => (FileFormat::Png, "PNG"),
            };
            let file = folder.join(class).join(format!("drawing {number}.{suffix}"));
            fs::write(file, encoded(&drawing(class == "circles", number), format)).unwrap();
        }
    }
}

fn options(width: u32, height: u32, color: Color) -> ImageOptions {
    ImageOptions { width, height, color, test: None, strict: false }
}

fn format(width: u32, height: u32, color: Color) -> ImageFormat {
    ImageFormat { width, height, color, classes: vec!["a".into(), "b".into()], test: TestPart::default() }
}

fn bytes(data: &Data) -> [&[u8]; 2] {
    [&data.train, &data.test].map(|part| match &*part.inputs {
        Features::Bytes(bytes) => &bytes[..],
        Features::Floats(_) | Features::Stored(_) => panic!("no bytes in memory"),
    })
}

#[test]
fn a_folder_of_images_trains_goes_on_from_a_checkpoint_and_is_evaluated() {
    let folder = tempfile::tempdir().unwrap();
    draw(&folder.path().join("shapes"), 60);
    let train = ["train", "--data", "shapes", "--image-size", "16", "--color", "grey", "--hidden", "32"];
    let more = ["--epochs", "30", "--batch-size", "16", "--lr", "0.05", "--backend", "cpu", "--json", "--out", "run"];
    let done = softstep(folder.path(), &[&train[..], &more].concat()).last_json();
    assert!(done["test_accuracy"].as_f64().unwrap() >= 0.95, "{done}");
    assert_eq!(done["sizes"], serde_json::json!([256, 32, 2]));

    let eval = ["eval", "--model", "run", "--backend", "cpu", "--data", "shapes"];
    let evaluated = softstep(folder.path(), &[&eval[..], &["--json"]].concat()).last_json();
    assert_eq!((&evaluated["loss"], &evaluated["examples"]), (&done["test_loss"], &24.into()), "the same test part");
    assert_eq!(evaluated["class_names"], serde_json::json!(["circles", "crosses"]));
    let all = softstep(folder.path(), &[&eval[..], &["--all", "--json"]].concat()).last_json();
    assert_eq!(all["examples"], 120);
    let text = softstep(folder.path(), &eval).stdout;
    assert!(text.contains("circles") && text.contains("crosses"), "{text}");

    // As if the run had been killed in its last epoch: it knows size and colour and ends in the same bits.
    fs::remove_file(folder.path().join("run/model.safetensors")).unwrap();
    let last = format!("run/checkpoint-{}.safetensors", done["steps"]);
    fs::remove_file(folder.path().join(last)).unwrap();
    let again = softstep(folder.path(), &["train", "--resume", "run", "--json"]).last_json();
    assert_eq!(again["parameters_sha256"], done["parameters_sha256"]);
    let refused = softstep(folder.path(), &["train", "--resume", "run", "--color", "rgb"]);
    assert!(refused.code == 1 && refused.stderr.contains("--color conflicts with --resume"), "{refused:?}");

    // A folder of other images has no part that the model was trained on, but for its name.
    fs::create_dir(folder.path().join("new")).unwrap();
    fs::rename(folder.path().join("shapes/crosses"), folder.path().join("new/crosses")).unwrap();
    let crosses = softstep(folder.path(), &[&eval[..6], &["new", "--all", "--json"]].concat()).last_json();
    assert_eq!(crosses["examples"], 60, "one class is enough to evaluate");
}

#[test]
fn the_test_part_is_a_folder_beside_or_elsewhere_or_a_share_by_the_seed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    draw(&path("all/train"), 10);
    draw(&path("all/test"), 4);
    let rgb = options(8, 6, Color::Rgb);
    let data = load(&path("all"), &rgb, 3).unwrap();
    assert_eq!((data.train.len(), data.test.len(), data.train.features), (20, 8, 3 * 48));
    let elsewhere = TestPart::Path(path("all/test").display().to_string());
    let apart = load(&path("all/train"), &ImageOptions { test: Some(elsewhere.clone()), ..rgb.clone() }, 3).unwrap();
    assert_eq!(apart.sha256(), data.sha256());
    assert_eq!(apart.preprocessing, data.preprocessing);

    let share = |seed, share| {
        load(&path("all/train"), &ImageOptions { test: Some(TestPart::Share(share)), ..rgb.clone() }, seed).unwrap()
    };
    assert_eq!((share(3, 0.25).train.len(), share(3, 0.25).test.len()), (15, 5));
    assert_eq!(share(3, 0.25).sha256(), share(3, 0.25).sha256());
    assert_ne!(share(3, 0.25).sha256(), share(4, 0.25).sha256());
    let mut rows: Vec<&[u8]> = bytes(&data)[0].chunks(144).collect();
    let shared = share(4, 0.25);
    let mut shared_rows: Vec<&[u8]> = bytes(&shared).into_iter().flat_map(|part| part.chunks(144)).collect();
    rows.sort_unstable();
    shared_rows.sort_unstable();
    assert!(rows == shared_rows, "every image is in one of the parts");

    // Trained and measured by the command; the run knows where its test part is.
    let train = ["train", "--data", "all/train", "--test", "all/test", "--image-size", "8x6", "--epochs", "2"];
    let more = ["--backend", "cpu", "--json", "--out", "run"];
    let done = softstep(folder.path(), &[&train[..], &more].concat()).last_json();
    let eval = ["eval", "--model", "run", "--backend", "cpu", "--json", "--data"];
    for (data, examples, part) in [
        (&["all"][..], 8, "test part"),
        (&["all/test"], 8, "all examples"),
        (&["all/train"], 8, "test part"),
        (&["all/train", "--all"], 20, "all examples"),
        (&["all", "--all"], 28, "all examples"),
    ] {
        let evaluated = softstep(folder.path(), &[&eval[..], data].concat()).last_json();
        assert_eq!((&evaluated["examples"], &evaluated["part"]), (&examples.into(), &part.into()), "{data:?}");
        assert_eq!(evaluated["loss"] == done["test_loss"], examples == 8, "{data:?}");
    }
    fs::rename(path("all/test"), path("all/moved")).unwrap();
    let run = softstep(folder.path(), &[&eval[..], &["all/train"]].concat());
    assert!(
        run.code == 1 && run.stderr.contains("these very examples, and the test part of its run, all/test,"),
        "{run:?}"
    );
    fs::rename(path("all/moved"), path("all/test")).unwrap();
    fs::remove_file(path("run/model.safetensors")).unwrap();
    fs::remove_file(path("run").join(format!("checkpoint-{}.safetensors", done["steps"]))).unwrap();
    let again = softstep(folder.path(), &["train", "--resume", "run", "--json"]).last_json();
    assert_eq!(again["parameters_sha256"], done["parameters_sha256"]);

    let refused = |data: &str, test: TestPart, expected: &str| {
        let error = load(&path(data), &ImageOptions { test: Some(test), ..rgb.clone() }, 3).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    refused("all", elsewhere, "has its own test part");
    refused("all/train", TestPart::Share(0.0), "all/train: `test` 0 of 20 examples");
    fs::create_dir(path("all/test/squares")).unwrap();
    fs::copy(path("all/test/circles/drawing 1.png"), path("all/test/squares/1.png")).unwrap();
    let error = load(&path("all"), &rgb, 3).unwrap_err().to_string();
    assert!(error.ends_with("all/test/squares: it is not one of the classes circles, crosses"), "{error}");
}

/// The notices of data, as one text.
fn notices(data: &Data) -> String {
    data.notices.join("\n")
}

#[test]
fn parts_are_found_by_any_of_their_names_in_any_case_and_in_any_order_with_the_classes() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let rgb = options(8, 6, Color::Rgb);
    let strict = ImageOptions { strict: true, ..rgb.clone() };
    for (number, (train, test)) in [
        ("train", "test"),
        ("Train", "TEST"),
        ("training", "testing"),
        ("train", "val"),
        ("TRAIN", "Valid"),
        ("train", "validation"),
    ]
    .into_iter()
    .enumerate()
    {
        let root = path(&number.to_string());
        draw(&root.join(train), 5);
        draw(&root.join(test), 2);
        let data = load(&root, &strict, 3).unwrap();
        assert_eq!((data.train.len(), data.test.len()), (10, 4), "{train} {test}");
        assert_eq!(data.preprocessing.as_ref().unwrap().class_names().unwrap(), ["circles", "crosses"]);
        let is_validation = test.to_lowercase().starts_with("val");
        assert_eq!(notices(&data).contains("is the test part"), is_validation, "{}", notices(&data));
        // The parts within the classes are the same data.
        let turned = path(&format!("turned {number}"));
        for (part, class) in [(train, "circles"), (train, "crosses"), (test, "circles"), (test, "crosses")] {
            fs::create_dir_all(turned.join(class)).unwrap();
            fs::rename(root.join(part).join(class), turned.join(class).join(part)).unwrap();
        }
        assert_eq!(load(&turned, &strict, 3).unwrap().sha256(), data.sha256());
    }
    // All three: the test part is the test part, and nothing is said to be validated that is not.
    for part in ["train", "val", "test"] {
        draw(
            &path("three/data").join(part),
            if part == "train" {
                6
            } else if part == "val" {
                3
            } else {
                2
            },
        );
    }
    let data = load(&path("three/data"), &rgb, 3).unwrap();
    assert_eq!((data.train.len(), data.test.len()), (12, 4));
    assert!(notices(&data).contains("data/val is not used") && notices(&data).contains("`validation`"), "{data:?}");
    // One level too deep.
    let deep = load(&path("three"), &rgb, 3).unwrap();
    assert_eq!(deep.sha256(), data.sha256());
    assert!(notices(&deep).contains("three: the data are in its only folder"), "{}", notices(&deep));
    fs::create_dir(path("three/data/Valid")).unwrap();
    let error = load(&path("three"), &rgb, 3).unwrap_err().to_string();
    assert!(error.contains("three/data/val: the same part as") && error.contains("Valid"), "{error}");
    // Classes may be called like parts.
    draw(&path("words"), 3);
    fs::rename(path("words/circles"), path("words/train")).unwrap();
    fs::rename(path("words/crosses"), path("words/test")).unwrap();
    let words = load(&path("words"), &rgb, 3).unwrap();
    assert_eq!(words.preprocessing.as_ref().unwrap().class_names().unwrap(), ["test", "train"]);

    // A run with parts in the classes knows where its test part is.
    let train = ["train", "--data", "turned 0", "--image-size", "8x6", "--epochs", "2", "--backend", "cpu", "--json"];
    let done = softstep(folder.path(), &[&train[..], &["--out", "run"]].concat()).last_json();
    let eval = ["eval", "--model", "run", "--backend", "cpu", "--json", "--data", "turned 0"];
    let evaluated = softstep(folder.path(), &eval).last_json();
    assert_eq!((&evaluated["loss"], &evaluated["part"]), (&done["test_loss"], &"test part".into()));
}

#[test]
fn stray_files_and_damaged_pictures_are_skipped_and_counted_and_a_folder_of_runs_is_no_class() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    draw(folder.path(), 6);
    let whole = load(folder.path(), &options(8, 8, Color::Rgb), 1).unwrap();
    assert_eq!(notices(&whole), "");
    let png = encoded(&drawing(true, 1), FileFormat::Png);
    for (file, content) in [
        ("labels.csv", &b"a,b"[..]),
        ("circles/readme.txt", b"hello"),
        ("circles/a cut.png", &png[..png.len() / 2]),
        ("crosses/head.png", &[&b"\xEF\xBB\xBF"[..], &png].concat()),
        ("crosses/phone.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"),
    ] {
        fs::write(path(file), content).unwrap();
    }
    fs::create_dir(path("notes")).unwrap();
    // What a run in this very folder leaves.
    let train = ["train", "--data", ".", "--image-size", "8", "--epochs", "2", "--backend", "cpu", "--json"];
    for _ in 0..2 {
        let run = softstep(folder.path(), &train);
        assert_eq!(run.code, 0, "{run:?}");
        assert_eq!(run.last_json()["sizes"], serde_json::json!([192, 2]));
        for expected in
            ["2 stray files are skipped", "1 HEIC picture is skipped", "convert to JPEG", "2 damaged pictures", "notes"]
        {
            assert!(run.stderr.contains(expected), "{expected}: {run:?}");
        }
    }
    assert!(path("runs").is_dir());
    let data = load(folder.path(), &options(8, 8, Color::Rgb), 1).unwrap();
    assert_eq!(data.sha256(), whole.sha256(), "what is skipped changes nothing");
    let refused = softstep(folder.path(), &[&train[..], &["--strict"]].concat());
    assert!(refused.code == 1 && refused.stderr.contains("labels.csv: it belongs to no class"), "{refused:?}");
    for file in ["labels.csv", "circles/readme.txt", "circles/a cut.png", "crosses/head.png", "crosses/phone.heic"] {
        fs::remove_file(path(file)).unwrap();
    }
    fs::remove_dir(path("notes")).unwrap();
    assert_eq!(softstep(folder.path(), &[&train[..], &["--strict"]].concat()).code, 0, "runs are no stray folder");
    // A class of damaged pictures alone is no class to train.
    fs::create_dir(path("squares")).unwrap();
    fs::write(path("squares/1.png"), &png[..png.len() / 2]).unwrap();
    let error = load(folder.path(), &options(8, 8, Color::Rgb), 1).unwrap_err().to_string();
    assert!(error.contains("no picture of the class \"squares\" can be read"), "{error}");
}

#[test]
fn every_format_that_is_read_gives_the_same_pixels() {
    let picture = drawing(true, 1);
    let format = format(24, 24, Color::Rgb);
    let png = format.decode("f", &encoded(&picture, FileFormat::Png)).unwrap();
    for (kind, tolerance) in [
        (FileFormat::WebP, 0),
        (FileFormat::Bmp, 0),
        (FileFormat::Tiff, 0),
        (FileFormat::Gif, 12),
        (FileFormat::Jpeg, 90),
    ] {
        let decoded = format.decode("f", &encoded(&picture, kind)).unwrap();
        let worst = decoded.iter().zip(&png).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(worst <= tolerance, "{kind:?}: {worst}");
    }
    for (bytes, name, expected) in [
        (&b"\0\0\0\x18ftypheic\0\0\0\0"[..], "f", "f: a HEIC picture, which is not read: convert it to JPEG or PNG"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "f", "a AVIF picture"),
        (b"BMW and other cars that are texts", "cars.txt", "no PNG, JPEG, WebP, BMP, GIF or TIFF image"),
        (b"not what it is called, but something", "f.png", "a damaged image (it does not begin as one)"),
        (b"", "f.png", "it is empty"),
    ] {
        let error = format.decode(name, bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn pixels_are_in_rows_and_red_green_blue_of_each_together() {
    let image = RgbImage::from_raw(2, 2, vec![255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9]).unwrap();
    let file = encoded(&DynamicImage::ImageRgb8(image), FileFormat::Png);
    let rgb = format(2, 2, Color::Rgb).decode("f", &file).unwrap();
    assert_eq!(rgb, [255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9]);
    // Lightness as of ITU-R BT.709: 0.2126, 0.7152 and 0.0722 of red, green and blue.
    let grey = format(2, 2, Color::Grey).decode("f", &file).unwrap();
    for (value, expected) in grey.iter().zip([54.2, 182.4, 18.4, 9.0]) {
        assert!((f64::from(*value) - expected).abs() <= 1.0, "{grey:?}");
    }
    // Width comes before height, and the order of the classes is that of their names.
    let wide = GrayImage::from_fn(6, 2, |x, y| Luma([(10 * x + 100 * y) as u8]));
    let file = encoded(&DynamicImage::ImageLuma8(wide), FileFormat::Png);
    let decoded = format(6, 2, Color::Grey).decode("f", &file).unwrap();
    assert_eq!(decoded, [0, 10, 20, 30, 40, 50, 100, 110, 120, 130, 140, 150]);
}

#[test]
fn a_smaller_image_is_made_of_all_pixels_and_a_larger_one_is_smooth() {
    // A checkerboard is grey from afar; a filter that looked at some of its pixels only would see stripes.
    let board = GrayImage::from_fn(64, 48, |x, y| Luma([if (x + y) % 2 == 0 { 255 } else { 0 }]));
    let file = encoded(&DynamicImage::ImageLuma8(board), FileFormat::Png);
    let small = format(7, 5, Color::Grey).decode("f", &file).unwrap();
    assert!(small.len() == 35 && small.iter().all(|&value| (120..=135).contains(&value)), "{small:?}");
    let step = GrayImage::from_raw(2, 1, vec![0, 200]).unwrap();
    let file = encoded(&DynamicImage::ImageLuma8(step), FileFormat::Png);
    let large = format(8, 1, Color::Grey).decode("f", &file).unwrap();
    assert!(large.is_sorted() && large[0] == 0 && large[7] == 200 && (60..=140).contains(&large[3]), "{large:?}");
}

#[test]
fn transparency_sixteen_bits_and_orientation_come_out_as_they_look() {
    let transparent = RgbaImage::from_fn(3, 1, |x, _| Rgba([100, 0, 200, [0, 51, 255][x as usize]]));
    let file = encoded(&DynamicImage::ImageRgba8(transparent), FileFormat::Png);
    let decoded = format(3, 1, Color::Rgb).decode("f", &file).unwrap();
    assert_eq!(decoded, [255, 255, 255, 224, 204, 244, 100, 0, 200], "on white");

    let deep = image::ImageBuffer::<Luma<u16>, _>::from_raw(3, 1, vec![0u16, 0x8080, 0xffff]).unwrap();
    let file = encoded(&DynamicImage::ImageLuma16(deep), FileFormat::Png);
    assert_eq!(format(3, 1, Color::Grey).decode("f", &file).unwrap(), [0, 128, 255]);

    // EXIF orientation 6: what the camera took for the left side is the top.
    let exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0".to_vec();
    let mut png = Vec::new();
    let mut encoder = PngEncoder::new(&mut png);
    encoder.set_exif_metadata(exif.clone()).unwrap();
    encoder.write_image(&[1, 2, 3, 4, 5, 6], 3, 2, image::ExtendedColorType::L8).unwrap();
    assert_eq!(format(2, 3, Color::Grey).decode("f", &png).unwrap(), [4, 1, 5, 2, 6, 3]);
    let halves = GrayImage::from_fn(32, 16, |x, _| Luma([if x < 16 { 10 } else { 240 }]));
    let jpeg = encoded(&DynamicImage::ImageLuma8(halves), FileFormat::Jpeg);
    let segment = [&[0xff, 0xe1][..], &(8u16 + exif.len() as u16).to_be_bytes(), b"Exif\0\0", &exif].concat();
    let turned = [&jpeg[..2], &segment, &jpeg[2..]].concat();
    let format = format(1, 2, Color::Grey);
    let [top, bottom] = format.decode("f", &turned).unwrap()[..] else { panic!("two pixels") };
    assert!(top < 80 && bottom > 170, "{top} {bottom}");
    let [top, bottom] = format.decode("f", &jpeg).unwrap()[..] else { panic!("two pixels") };
    assert!(top.abs_diff(bottom) <= 2, "{top} {bottom}");
}

#[test]
fn classes_are_folders_by_name_and_hidden_files_are_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let small = encoded(&drawing(true, 1), FileFormat::Png);
    for file in ["zebra/1.png", "Ant/1", "bee/2.jpg", "bee/1.jpeg", "bee/.hidden.txt", "bee/Thumbs.db", "bee/.DS_Store"]
    {
        let file = folder.path().join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let hidden = ["hidden", "Thumbs", "DS_"].iter().any(|part| file.display().to_string().contains(part));
        fs::write(&file, if hidden { b"no image" } else { &small[..] }).unwrap();
    }
    for hidden in [".git", "__MACOSX"] {
        fs::create_dir(folder.path().join(hidden)).unwrap();
    }
    fs::write(folder.path().join("desktop.ini"), "").unwrap();
    let options = ImageOptions { test: Some(TestPart::Share(0.25)), ..options(4, 4, Color::Grey) };
    let data = load(folder.path(), &options, 0).unwrap();
    assert_eq!(data.preprocessing.as_ref().unwrap().class_names().unwrap(), ["Ant", "bee", "zebra"]);
    let mut labels = [data.train.labels().unwrap(), data.test.labels().unwrap()].concat();
    labels.sort_unstable();
    assert_eq!(labels, [0, 1, 1, 2], "the content counts, not the suffix");
}

#[test]
fn every_mistake_is_refused_with_its_path_and_the_way_out() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("shapes");
    let refused = |expected: &str| {
        let strict = ImageOptions { strict: true, ..options(4, 4, Color::Rgb) };
        let error = load(&folder, &strict, 0).unwrap_err();
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        let text = format!("{error} {}", cause.unwrap_or_default());
        assert!(text.contains("shapes") && text.contains(expected), "{text} lacks {expected}");
        assert!(!text.contains(char::is_control), "{text}");
    };
    draw(&folder, 4);
    // Something is put in, refused, and taken out again.
    let spoilt = |file: &str, content: &[u8], expected: &str| {
        fs::write(folder.join(file), content).unwrap();
        refused(expected);
        let lenient = load(&folder, &options(4, 4, Color::Rgb), 0).unwrap();
        assert!(notices(&lenient).contains(file), "{}", notices(&lenient));
        fs::remove_file(folder.join(file)).unwrap();
        load(&folder, &options(4, 4, Color::Rgb), 0).unwrap();
    };
    let (png, jpeg) = (encoded(&drawing(true, 1), FileFormat::Png), encoded(&drawing(true, 1), FileFormat::Jpeg));
    spoilt(
        "circles/notes.txt",
        b"hello",
        "shapes/circles/notes.txt: no PNG, JPEG, WebP, BMP, GIF or TIFF image: convert it",
    );
    spoilt("circles/x.gif", b"GIF89a\x01\0\x01\0\0\0\0;", "shapes/circles/x.gif: a damaged image (");
    spoilt("circles/empty.png", b"", "shapes/circles/empty.png: it is empty: replace it");
    spoilt("circles/cut.png", &png[..png.len() / 2], "shapes/circles/cut.png: a damaged image (");
    spoilt("circles/cut.jpg", &jpeg[..jpeg.len() / 2], "shapes/circles/cut.jpg: a damaged image (it ends too early)");
    spoilt("circles/head.jpg", &jpeg[..12], "shapes/circles/head.jpg: a damaged image");
    spoilt("README.md", b"about", "shapes/README.md: it belongs to no class");
    spoilt("stray.png", &png, "shapes/stray.png: it belongs to no class: move it into the folder of its class");
    fs::create_dir(folder.join("empty")).unwrap();
    refused("shapes/empty: this class has no images: add some, or remove the folder");
    fs::write(folder.join("empty/.DS_Store"), "").unwrap();
    refused("shapes/empty: this class has no images");
    fs::remove_dir_all(folder.join("empty")).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::symlink;
        for (from, to, expected) in [
            ("circles/loop", ".", "shapes/circles/loop: a folder in the folder of a class"),
            ("circles/up", "..", "shapes/circles/up: a folder in the folder of a class"),
            ("again", ".", "shapes/again/again: a folder in the folder of a class"),
            ("circles/self.png", "self.png", "cannot read"),
            ("circles/gone.png", "nowhere", "shapes/circles/gone.png No such file"),
            ("circles/endless", "/dev/zero", "shapes/circles/endless: it is neither a file nor a folder"),
        ] {
            symlink(to, folder.join(from)).unwrap();
            refused(expected);
            fs::remove_file(folder.join(from)).unwrap();
        }
        // Links to images and to folders of them are as good as these.
        fs::create_dir(temporary.path().join("far")).unwrap();
        fs::rename(folder.join("crosses"), temporary.path().join("far/x")).unwrap();
        symlink(temporary.path().join("far/x"), folder.join("crosses")).unwrap();
        symlink("drawing 0.jpg", folder.join("circles/copy")).unwrap();
        assert_eq!(load(&folder, &options(4, 4, Color::Rgb), 0).unwrap().train.len(), 7);
        fs::remove_file(folder.join("crosses")).unwrap();
        refused("one class only, \"circles\": there is nothing to tell apart");
    }
    fs::remove_dir_all(folder.join("circles")).unwrap();
    refused("shapes: no folder in it");
    for class in 0..1001 {
        fs::create_dir(folder.join(class.to_string())).unwrap();
        fs::write(folder.join(class.to_string()).join("a.png"), &png).unwrap();
    }
    refused("shapes: it has more than 1000 classes");
}

#[test]
fn an_image_cut_off_or_damaged_anywhere_is_an_error_or_an_image() {
    let small = DynamicImage::ImageRgb8(RgbImage::from_fn(9, 7, |x, y| Rgb([20 * x as u8, 30 * y as u8, 77])));
    let mut file = Vec::new();
    let mut encoder = png_of(&mut file);
    encoder.set_exif_metadata(vec![b'I'; 40]).unwrap();
    encoder.write_image(small.as_bytes(), 9, 7, image::ExtendedColorType::Rgb8).unwrap();
    let format = format(4, 3, Color::Rgb);
    let kinds =
        [FileFormat::Png, FileFormat::Jpeg, FileFormat::WebP, FileFormat::Bmp, FileFormat::Gif, FileFormat::Tiff];
    for whole in [file].into_iter().chain(kinds.map(|kind| encoded(&small, kind))) {
        let check = |bytes: &[u8]| match format.decode("some/file", bytes) {
            Ok(features) => assert_eq!(features.len(), format.features()),
            Err(error) => {
                let text = error.to_string();
                assert!(matches!(error, Error::Format { .. }) && text.starts_with("some/file: "), "{text}");
                assert!(!text.contains(char::is_control) && text.len() < 1000, "{text:?}");
            }
        };
        let sound = format.decode("some/file", &whole).unwrap();
        for length in 0..whole.len() {
            check(&whole[..length]);
            // A PNG may lack its last chunk, which says nothing else than that it ends; a JPEG must be whole.
            if let Ok(cut) = format.decode("some/file", &whole[..length]) {
                assert!(cut == sound && whole.len() - length <= 4, "{length} of {}", whole.len());
            }
        }
        for bit in 0..8 * whole.len() {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            check(&damaged);
        }
        assert_eq!(format.decode("some/file", &[&whole[..], b"and more"].concat()).unwrap(), sound);
    }
}

fn png_of(file: &mut Vec<u8>) -> PngEncoder<&mut Vec<u8>> {
    PngEncoder::new(file)
}

#[test]
fn a_model_file_says_how_to_read_images_and_lies_are_refused() {
    let parameters = Parameters::new(&[12, 2], 0).unwrap();
    let model = |format: &ImageFormat, loss| {
        let metadata = Metadata::new(&parameters, "shapes", 3, loss)
            .with_preprocessing(Some(Preprocessing::Images(format.clone())));
        assert_eq!(metadata.normalization, "byte/255");
        let bytes = to_safetensors(&parameters, &metadata).unwrap();
        from_safetensors("some.safetensors", &bytes).map(|(_, read)| assert_eq!(read, metadata))
    };
    let sound = format(2, 2, Color::Rgb);
    model(&sound, Loss::CrossEntropy).unwrap();
    model(&ImageFormat { test: TestPart::Path("shapes/test".into()), ..sound.clone() }, Loss::CrossEntropy).unwrap();
    let name = |name: &str| name.to_string();
    for (format, loss, expected) in [
        (format(12, 1, Color::Rgb), Loss::CrossEntropy, "[36, 2] features and outputs"),
        (format(2, 2, Color::Grey), Loss::CrossEntropy, "[4, 2] features and outputs"),
        (sound.clone(), Loss::BinaryCrossEntropy, "[12, 1] features and outputs"),
        (format(0, 2, Color::Rgb), Loss::CrossEntropy, "images of 0x2 pixels"),
        (format(u32::MAX, u32::MAX, Color::Rgb), Loss::CrossEntropy, "a side must be 1 to 4096"),
        (ImageFormat { classes: vec![name("a"); 2], ..sound.clone() }, Loss::CrossEntropy, "the same name"),
        (ImageFormat { classes: vec![name("a")], ..sound.clone() }, Loss::CrossEntropy, "[12, 1] features and outputs"),
        (
            ImageFormat { classes: (0..1001).map(|class| class.to_string()).collect(), ..sound.clone() },
            Loss::CrossEntropy,
            "1001 classes, and 1000 are the limit",
        ),
        (
            ImageFormat { classes: vec!["a".repeat(5 << 20), name("b")], ..sound.clone() },
            Loss::CrossEntropy,
            "a model file holds 4194304",
        ),
        (ImageFormat { test: TestPart::Share(1.0), ..sound.clone() }, Loss::CrossEntropy, "test share of 1 is not"),
    ] {
        let error = model(&format, loss).unwrap_err().to_string();
        assert!(error.starts_with("some.safetensors: ") && error.contains(expected), "{error} lacks {expected}");
    }
}

#[test]
fn the_command_refuses_what_does_not_go_with_images() {
    let folder = tempfile::tempdir().unwrap();
    draw(&folder.path().join("shapes"), 4);
    draw(&folder.path().join("squares"), 4);
    fs::create_dir(folder.path().join("nothing")).unwrap();
    fs::rename(folder.path().join("squares/circles"), folder.path().join("squares/squares")).unwrap();
    let refused = |arguments: &[&str], code: i32, expected: &str| {
        let run = softstep(folder.path(), arguments);
        assert!(run.code == code && run.stderr.contains(expected), "{arguments:?}: {run:?} lacks {expected}");
    };
    let train = |more: &[&'static str]| [&["train", "--backend", "cpu", "--data"], more].concat();
    refused(
        &train(&["shapes", "--target", "b"]),
        1,
        "--target is for a table (file.csv), and --data shapes is a folder of",
    );
    refused(&train(&["digits", "--color", "grey"]), 1, "--color is for a folder of images, and --data digits is");
    refused(&train(&["nothing"]), 1, "nothing: this folder holds no data");
    for size in ["0", "4097", "8x", "x8", "8x8x8", "-1", "8X9", "a"] {
        let argument = format!("--image-size={size}");
        refused(&["train", "--data", "shapes", &argument], 2, "--image-size");
    }
    softstep(folder.path(), &train(&["shapes", "--epochs", "1", "--out", "run"]));
    refused(
        &["eval", "--model", "run", "--data", "squares"],
        1,
        "squares/squares: it is not one of the classes circles, cro",
    );
    refused(&["eval", "--model", "run", "--data", "digits"], 1, "the model was trained on a folder of images");
    softstep(folder.path(), &train(&["digits", "--epochs", "1", "--out", "digits"]));
    refused(
        &["eval", "--model", "digits", "--data", "shapes"],
        1,
        "shapes/circles: it is not one of the classes 0, 1, 2",
    );
}
