//! NumPy arrays: from pairs of them to a model and its report, and every mistake in one refused with file and index.

use std::fs;
use std::path::Path;

use crate::binary::softstep;
use crate::npz::npz;
use softstep::Model;
use softstep::data::csv::Task;
use softstep::data::npy::{Array, Labelled, Values, examples, load};
use softstep::data::{
    ArrayFormat, ArrayTargets, Data, Elements, Examples, Features, ImageFormat, Preprocessing, Scale, Targets, TestPart,
};
use softstep::loss::Loss;
use softstep::model::Parameters;
use softstep::model_file::{Metadata, from_safetensors, to_safetensors};

/// As `numpy.save` writes it, in version 1.
fn npy(descr: &str, fortran_order: bool, shape: &[usize], elements: &[u8]) -> Vec<u8> {
    let order = if fortran_order { "True" } else { "False" };
    let sizes: String = shape.iter().map(|size| format!("{size}, ")).collect();
    file(1, &format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': ({}), }}", sizes.trim_end()), elements)
}

fn file(version: u8, header: &str, elements: &[u8]) -> Vec<u8> {
    let header = format!("{header:<117}\n");
    let length = (header.len() as u32).to_le_bytes();
    let length = &length[..if version == 1 { 2 } else { 4 }];
    [b"\x93NUMPY", &[version, 0][..], length, header.as_bytes(), elements].concat()
}

fn floats(shape: &[usize], values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    npy("<f4", false, shape, &values.into_iter().flat_map(f32::to_le_bytes).collect::<Vec<_>>())
}

fn integers(values: impl IntoIterator<Item = i64>) -> Vec<u8> {
    let values: Vec<i64> = values.into_iter().collect();
    npy("<i8", false, &[values.len()], &values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())
}

fn read(bytes: &[u8]) -> softstep::Result<Array> {
    Array::read("some.npy", bytes)
}

#[test]
fn what_numpy_saved_is_read() {
    // numpy 2.4.6: np.save(file, np.arange(6, dtype='<f8').reshape(2, 3)), and of
    // np.asfortranarray(np.arange(6, dtype='>i2').reshape(2, 3)).
    let spaces = " ".repeat(58);
    let saved = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }}{spaces}\n");
    let elements: Vec<u8> = (0..6).flat_map(|value| f64::from(value).to_le_bytes()).collect();
    let array = read(&[b"\x93NUMPY\x01\x00v\x00", saved.as_bytes(), &elements].concat()).unwrap();
    assert_eq!((array.shape, array.values), (vec![2, 3], Values::Floats(vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0])));
    let saved = format!("{{'descr': '>i2', 'fortran_order': True, 'shape': (2, 3), }} {spaces}\n");
    let elements = b"\x00\x00\x00\x03\x00\x01\x00\x04\x00\x02\x00\x05";
    let array = read(&[b"\x93NUMPY\x01\x00v\x00", saved.as_bytes(), elements].concat()).unwrap();
    assert_eq!((array.shape, array.values), (vec![2, 3], Values::Integers(vec![0, 1, 2, 3, 4, 5])));
}

#[test]
fn every_type_byte_order_and_version_is_read() {
    let one_and_two = |descr: &str, elements: &[u8]| read(&npy(descr, false, &[2], elements)).unwrap().values;
    let (big, little) = ([1i64, -2].map(i64::to_be_bytes).concat(), [1i64, -2].map(i64::to_le_bytes).concat());
    for (kind, size) in [("i1", 1), ("i2", 2), ("i4", 4), ("i8", 8)] {
        let big: Vec<u8> = big.chunks(8).flat_map(|bytes| &bytes[8 - size..]).copied().collect();
        let little: Vec<u8> = little.chunks(8).flat_map(|bytes| &bytes[..size]).copied().collect();
        assert_eq!(one_and_two(&format!(">{kind}"), &big), Values::Integers(vec![1, -2]), "{kind}");
        assert_eq!(one_and_two(&format!("<{kind}"), &little), Values::Integers(vec![1, -2]), "{kind}");
    }
    assert_eq!(one_and_two("<u2", &[1, 0, 0xff, 0xff]), Values::Integers(vec![1, 0xffff]));
    assert_eq!(one_and_two(">u4", &[0, 0, 0, 1, 0xff, 0, 0, 0]), Values::Integers(vec![1, 0xff00_0000]));
    assert_eq!(one_and_two("<u8", &[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]), Values::Integers(vec![1, 2]));
    assert_eq!(one_and_two("|u1", &[1, 255]), Values::Bytes(vec![1, 255]));
    assert_eq!(one_and_two("|b1", &[1, 0]), Values::Integers(vec![1, 0]));
    assert_eq!(one_and_two(">f4", &[1.5f32, -2.0].map(f32::to_be_bytes).concat()), Values::Floats(vec![1.5, -2.0]));
    assert_eq!(one_and_two(">f8", &[1.5f64, -2.0].map(f64::to_be_bytes).concat()), Values::Floats(vec![1.5, -2.0]));
    assert_eq!(one_and_two("<f2", &[0x00, 0x3e, 0x00, 0xc0]), Values::Floats(vec![1.5, -2.0]));
    assert_eq!(one_and_two(">f2", &[0x00, 0x01, 0x7b, 0xff]), Values::Floats(vec![2f32.powi(-24), 65504.0]));
    assert!(read(&npy("<f2", false, &[1], &[0, 0x7c])).unwrap_err().to_string().ends_with("[0] is inf"));
    assert_eq!(
        one_and_two("<U2", &[97, 0, 0, 0, 98, 0, 0, 0, 233, 0, 0, 0, 0, 0, 0, 0]),
        Values::Texts(vec!["ab".into(), "é".into()])
    );
    assert_eq!(one_and_two("|S2", b"abc\0"), Values::Texts(vec!["ab".into(), "c".into()]));
    assert_eq!(one_and_two("<f8", &[0.1f64, -2.0].map(f64::to_le_bytes).concat()), Values::Floats(vec![0.1, -2.0]));

    for version in 1..=3 {
        for header in [
            "{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }",
            "{\"shape\":(3,),\"fortran_order\":False,\"descr\":\"|u1\"}",
            "{ 'shape' : ( 3 , ) , 'descr' : '|u1' , 'fortran_order' : False }",
        ] {
            assert_eq!(
                read(&file(version, header, b"abc")).unwrap().values,
                Values::Bytes(b"abc".to_vec()),
                "{header}"
            );
        }
    }
}

#[test]
fn an_array_in_fortran_order_is_the_same_as_in_c_order() {
    let (shape, mut fortran) = ([2, 3, 4], vec![]);
    for k in 0..4 {
        for j in 0..3 {
            (0..2).for_each(|i| fortran.push(12 * i + 4 * j + k));
        }
    }
    let array = read(&npy("|u1", true, &shape, &fortran)).unwrap();
    assert_eq!(array.values, Values::Bytes((0..24).collect()));
    let not_finite: Vec<u8> = (0..24).flat_map(|at| if at == 9 { f32::NAN } else { 0.0 }.to_le_bytes()).collect();
    let place = |order| read(&npy("<f4", order, &shape, &not_finite)).unwrap_err().to_string();
    assert_eq!(place(false), "some.npy: [0, 2, 1] is NaN");
    assert_eq!(place(true), "some.npy: [1, 1, 1] is NaN");
}

#[test]
fn what_is_no_whole_array_of_numbers_is_refused_with_the_reason() {
    let refused = |bytes: &[u8], expected: &str| {
        let text = read(bytes).unwrap_err().to_string();
        assert!(text.starts_with("some.npy: ") && text.contains(expected), "{text} lacks {expected}");
        assert!(!text.contains(char::is_control) && text.len() < 1200, "{text:?}");
    };
    let sound = npy("<f4", false, &[2, 1], &[0; 8]);
    read(&sound).unwrap();
    for length in 0..sound.len() {
        let expected = match length {
            0..8 => "no .npy file",
            8..128 => "truncated: it ends inside its header",
            _ => "truncated: its header announces 8 bytes of data and there are",
        };
        refused(&sound[..length], expected);
    }
    refused(&[&sound[..], &[0]].concat(), "it holds more than its header announces");
    refused(b"\x93NUMPX\x01\0v\0{}", "no .npy file");
    refused(b"PK\x03\x04 an npz file", "no .npy file of version 1 to 3");
    refused(&file(4, "", b""), "no .npy file of version 1 to 3");
    refused(&file(0, "", b""), "no .npy file of version 1 to 3");
    for descr in ["<c8", "<M8[ns]", "f4", "=f4", "<", "", "é", "<U0", "<U99999999999", "<U-1", "<S"] {
        refused(&npy(descr, false, &[1], &[0; 8]), "not numbers or texts: save array.astype('float32')");
    }
    refused(&npy("|O", false, &[1], &[0; 8]), "Python objects: save array.astype(str) if they are texts");
    for header in [
        "{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (1,), }",
        "{'descr': '<f4', 'fortran_order': 0, 'shape': (1,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': 1, }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }",
        "{'descr': '<f4', 'fortran_order': False, }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'shape': (1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'more': 1}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), } and more",
        "{'descr': '<f4' 'fortran_order': False, 'shape': (1,), }",
        "{'descr': '<\\x66\\x34', 'fortran_order': False, 'shape': (1,), }",
        "",
    ] {
        refused(&file(1, header, &[0; 4]), "its header is not that of a plain array");
    }
    refused(&file(1, &"(".repeat(60_000), &[]), "its header is not that of a plain array");
    refused(&[&b"\x93NUMPY\x02\0\xff\xff\xff\xff"[..], &[b' '; 100]].concat(), "a header of 4294967295 bytes");
    refused(&npy("<f4", false, &[3, 0], &[]), "its shape 3x0 holds no data");
    refused(&npy("<f8", false, &[1 << 40, 1 << 40], &[]), "there is no memory");
    refused(&npy("<f8", false, &[1 << 40], &[0; 80]), "announces 8796093022208 bytes of data and there are 80");
    refused(&npy("<f8", false, &[1], &1e300f64.to_le_bytes()), "[0] is 1e300, beyond the range of 32-bit floats");
    refused(&npy("<f8", false, &[1], &f64::INFINITY.to_le_bytes()), "[0] is inf");
    refused(&npy("<u8", false, &[1], &[0xff; 8]), "[0] is 18446744073709551615, beyond 64 bits with a sign");
}

fn labelled(x: &[u8], y: &[u8], task: Option<Task>) -> softstep::Result<Labelled> {
    examples(Array::read("x.npy", x)?, Array::read("y.npy", y)?, None, task)
}

fn texts(kind: &str, length: usize, values: &[&str]) -> Vec<u8> {
    let wide = kind.contains('U');
    let text = |text: &&str| {
        let codes = text.chars().map(u32::from).chain(std::iter::repeat(0)).take(length);
        codes.flat_map(|code| if wide { code.to_le_bytes().to_vec() } else { vec![code as u8] }).collect::<Vec<u8>>()
    };
    npy(&format!("{kind}{length}"), false, &[values.len()], &values.iter().flat_map(text).collect::<Vec<u8>>())
}

#[test]
fn labels_are_classes_however_they_are_saved_and_real_values_where_that_is_said() {
    let x = floats(&[4, 1], [0.0, 1.0, 2.0, 3.0]);
    let classes = Targets::Classes(vec![2, 0, 1, 2]);
    let one_hot = [0u8, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0, 1];
    let wide: Vec<u8> = [2i64, 0, 1, 2].iter().flat_map(|value| value.to_le_bytes()).collect();
    for (y, notice) in [
        (integers([2, 0, 1, 2]), ""),
        (npy("<i8", false, &[4, 1], &wide), ""),
        (npy("|u1", false, &[4, 3], &one_hot), "one-hot rows are 3 classes"),
        (npy("|b1", false, &[4, 3], &one_hot), "one-hot"),
        (floats(&[4, 3], one_hot.map(f32::from)), "one-hot"),
        (floats(&[4], [2.0, 0.0, 1.0, 2.0]), "floats are whole numbers, and classes"),
        (floats(&[4, 1], [2.0, 0.0, 1.0, 2.0]), "floats are whole numbers, and classes"),
        (
            texts("<U", 5, &["round", "am", "étroit", "round"].map(|text| if text == "étroit" { "étr" } else { text })),
            "",
        ),
        (texts("|S", 5, &["z", "a", "b", "z"]), "its texts are 3 classes"),
    ] {
        let made = labelled(&x, &y, None).unwrap();
        if made.classes.first().is_none_or(|first| first == "a") {
            assert_eq!(*made.examples.targets, classes, "{notice}");
        }
        assert_eq!(made.examples.outputs, 3);
        assert!(made.notice.clone().unwrap_or_default().contains(notice), "{made:?}");
    }
    let names = labelled(&x, &texts("<U", 6, &["round", "am", "étroit", "round"]), None).unwrap();
    assert_eq!(
        (names.classes, &*names.examples.targets),
        (vec!["am".into(), "round".into(), "étroit".into()], &Targets::Classes(vec![1, 0, 2, 1]))
    );
    // As real values.
    let regression = |y: &[u8]| labelled(&x, y, Some(Task::Regression)).unwrap().examples;
    for y in [integers([2, 0, 1, 2]), floats(&[4], [2.0, 0.0, 1.0, 2.0])] {
        assert_eq!(*regression(&y).targets, Targets::Values(vec![2.0, 0.0, 1.0, 2.0]));
    }
    assert_eq!(regression(&npy("|u1", false, &[4, 3], &one_hot)).outputs, 3);
    // More whole numbers than there are classes of floats.
    let many = labelled(&floats(&[30], (0..30).map(|at| at as f32)), &floats(&[30], (0..30).map(|at| at as f32)), None);
    let many = many.unwrap();
    assert!(
        matches!(*many.examples.targets, Targets::Values(_)) && many.notice.unwrap().contains("`task` classification")
    );
    let refused = |y: &[u8], task, expected: &str| {
        let text = labelled(&x, y, task).unwrap_err().to_string();
        assert!(text.contains(expected), "{text} lacks {expected}");
    };
    refused(&floats(&[4], [0.5, 1.0, 0.0, 2.0]), Some(Task::Classification), "y.npy: [0] is not a whole number");
    refused(&texts("<U", 2, &["a", "b", "c", "d"]), Some(Task::Regression), "it holds texts, where real values");
    refused(&texts("<U", 2, &["a"; 4]), None, "one class only, \"a\"");
    refused(
        &npy("|u1", false, &[4, 3], &[1; 12]),
        None,
        "one-hot rows of one 1 and else 0; for real values, say `task` reg",
    );
    let text = labelled(&texts("<U", 2, &["a", "b", "c", "d"]), &integers([0, 1, 0, 1]), None).unwrap_err().to_string();
    assert!(text.contains("x.npy: it holds texts, and features are numbers"), "{text}");
}

#[test]
fn arrays_are_found_by_the_names_that_people_give_them_in_folders_and_archives() {
    let folder = tempfile::tempdir().unwrap();
    let (x, y) = ring(60, 0.03);
    let (x, y) = (floats(&[60, 2], x), integers(y));
    let (own_x, own_y) = ring(20, 0.02);
    let (own_x, own_y) = (floats(&[20, 2], own_x), integers(own_y));
    let mut hash = None;
    for (number, [train_x, train_y, test_x, test_y]) in [
        ["x", "y", "x_test", "y_test"],
        ["x_train", "y_train", "x_test", "y_test"],
        ["X_train", "Y_train", "X_test", "Y_test"],
        ["train_images", "train_labels", "test_images", "test_labels"],
        ["images", "labels", "images_test", "labels_test"],
        ["X", "y", "X_val", "y_val"],
        ["trainX", "trainy", "testX", "testy"],
    ]
    .into_iter()
    .enumerate()
    {
        let path = folder.path().join(number.to_string());
        fs::create_dir(&path).unwrap();
        let entries = [(train_x, x.clone()), (train_y, y.clone()), (test_x, own_x.clone()), (test_y, own_y.clone())];
        for (name, content) in &entries {
            fs::write(path.join(format!("{name}.npy")), content).unwrap();
        }
        let data = load(&path, None, None, 0).unwrap();
        assert_eq!((data.train.len(), data.test.len()), (60, 20), "{train_x}");
        assert_eq!(*hash.get_or_insert(data.sha256()), data.sha256());
        for deflated in [false, true] {
            let path = folder.path().join(format!("{number}.npz"));
            fs::write(&path, npz(&entries, deflated)).unwrap();
            assert_eq!(load(&path, None, None, 0).unwrap().sha256(), data.sha256());
        }
    }
    // By the command; the run knows the archive's test part, and names of classes.
    let names: Vec<&str> = (0..60).map(|at| ["in", "out"][at % 2]).collect();
    let entries = [
        ("x_train", x.clone()),
        ("y_train", texts("<U", 3, &names)),
        ("x_val", own_x.clone()),
        ("y_val", texts("<U", 3, &names[..20])),
    ];
    fs::write(folder.path().join("ring.npz"), npz(&entries, true)).unwrap();
    let train = ["train", "--data", "ring.npz", "--epochs", "4", "--backend", "cpu", "--json", "--out", "run"];
    let run = softstep(folder.path(), &train);
    assert!(run.stderr.contains("x_val.npy and y_val.npy are the test part"), "{run:?}");
    let eval = ["eval", "--model", "run", "--data", "ring.npz", "--backend", "cpu", "--json"];
    let evaluated = softstep(folder.path(), &eval).last_json();
    assert_eq!(
        (&evaluated["loss"], &evaluated["class_names"]),
        (&run.last_json()["test_loss"], &serde_json::json!(["in", "out"]))
    );

    let refused = |entries: &[(&str, Vec<u8>)], expected: &str| {
        let path = folder.path().join("bad.npz");
        fs::write(&path, npz(entries, true)).unwrap();
        let text = load(&path, None, None, 0).unwrap_err().to_string();
        assert!(text.contains("bad.npz") && text.contains(expected), "{text} lacks {expected}");
    };
    refused(
        &[("arr_0", x.clone())],
        "it needs arrays x and y, or x_train and y_train, or images and labels; it has arr_0",
    );
    refused(&[("x", x.clone()), ("X_train", x.clone()), ("y", y.clone())], "x.npy and X_train.npy are both features");
    refused(&[("x", x.clone())], "it has x.npy but no y.npy");
    // Damaged anywhere it is an error or what it was.
    let whole = npz(&[("x", floats(&[3, 1], [1.0, 2.0, 3.0])), ("y", integers([0, 1, 0]))], true);
    let path = folder.path().join("small.npz");
    fs::write(&path, &whole).unwrap();
    let share = TestPart::Share(0.4);
    let sound = load(&path, Some(&share), None, 0).unwrap().sha256();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(load(&path, Some(&share), None, 0).is_err(), "{length}");
    }
    for byte in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[byte] ^= 0x11;
        fs::write(&path, damaged).unwrap();
        if let Ok(data) = load(&path, Some(&share), None, 0) {
            assert_eq!(data.sha256(), sound, "{byte}");
        }
    }
}

fn pair(x: &[u8], y: &[u8]) -> softstep::Result<Examples> {
    Ok(labelled(x, y, None)?.examples)
}

#[test]
fn bytes_are_shares_of_255_and_other_numbers_are_features_as_they_are() {
    let bytes = pair(&npy("|u1", false, &[2, 1, 2], &[0, 51, 255, 7]), &integers([0, 2])).unwrap();
    assert_eq!((&*bytes.inputs, bytes.features, bytes.outputs), (&Features::Bytes(vec![0, 51, 255, 7]), 2, 3));
    assert!((bytes.input(0).nth(1).unwrap() - 0.2).abs() <= 1e-9);
    let numbers = pair(&npy("|i1", false, &[2], &[255, 7]), &floats(&[2, 2], [1.5, 2.0, -1e6, 0.0])).unwrap();
    assert_eq!((&*numbers.inputs, numbers.features), (&Features::Floats(vec![-1.0, 7.0]), 1));
    assert_eq!((&*numbers.targets, numbers.outputs), (&Targets::Values(vec![1.5, 2.0, -1e6, 0.0]), 2));
    let column = pair(&floats(&[2, 1], [0.5, 1.0]), &npy("|u1", false, &[2, 1], &[1, 0])).unwrap();
    assert_eq!((&*column.targets, column.outputs), (&Targets::Classes(vec![1, 0]), 2));
}

#[test]
fn arrays_that_do_not_make_examples_are_refused_with_file_and_index() {
    let refused = |x: &[u8], y: &[u8], expected: &str| {
        let text = pair(x, y).unwrap_err().to_string();
        assert!(text.contains(expected), "{text} lacks {expected}");
    };
    let x = floats(&[3, 2], [0.0; 6]);
    refused(&x, &integers([0, 1]), "y.npy: its shape is [2], and x.npy has 3 examples");
    refused(&x, &npy("|u1", false, &[], &[0]), "y.npy: its shape is [], and x.npy has 3 examples");
    refused(&npy("|u1", false, &[], &[0]), &integers([0, 1]), "x.npy: it is a single number");
    refused(&floats(&[3], [0.0, f32::NAN, 0.0]), &integers([0, 1, 0]), "x.npy: [1] is NaN");
    refused(&x, &floats(&[3], [0.0, 1.0, f32::INFINITY]), "y.npy: [2] is inf");
    refused(&x, &integers([0, -1, 1]), "y.npy: [1] is -1: classes are numbers from 0");
    refused(
        &x,
        &integers([0, 1, 1000]),
        "y.npy: [2] is 1000: classes are numbers from 0, below 1000: number them from 0, or for real values",
    );
    refused(&x, &integers([2, 2, 2]), "y.npy: one class only, 2: there is nothing to tell apart");
    refused(&x, &npy("|u1", false, &[3, 2], &[0, 1, 1, 1, 1, 0]), "or one-hot rows of one 1 and else 0");
    refused(&x, &floats(&[3, 1, 1], [0.0; 3]), "y.npy: its shape is [3, 1, 1], not [examples] or");
}

/// Points in the plane: class 1 is a ring around class 0.
fn ring(count: usize, spread: f32) -> (Vec<f32>, Vec<i64>) {
    let point = |at: usize| {
        let (angle, radius) = (at as f32 * 2.4, [0.3, 1.0][at % 2] + spread * (at % 7) as f32);
        [radius * angle.cos(), radius * angle.sin()]
    };
    ((0..count).flat_map(point).collect(), (0..count).map(|at| at as i64 % 2).collect())
}

fn write_pair(folder: &Path, [x_name, y_name]: [&str; 2], x: &[u8], y: &[u8]) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join(x_name), x).unwrap();
    fs::write(folder.join(y_name), y).unwrap();
}

const TRAIN: [&str; 2] = ["x.npy", "y.npy"];
const TEST: [&str; 2] = ["x_test.npy", "y_test.npy"];

#[test]
fn arrays_of_numbers_and_classes_train_go_on_from_a_checkpoint_and_are_evaluated() {
    let folder = tempfile::tempdir().unwrap();
    let (x, y) = ring(300, 0.03);
    write_pair(&folder.path().join("ring"), TRAIN, &floats(&[300, 2], x), &integers(y));
    let train =
        ["train", "--data", "ring", "--hidden", "16", "--epochs", "40", "--batch-size", "16", "--backend", "cpu"];
    let done = softstep(folder.path(), &[&train[..], &["--json", "--out", "run"]].concat()).last_json();
    assert!(done["test_accuracy"].as_f64().unwrap() >= 0.98, "{done}");
    assert_eq!(done["sizes"], serde_json::json!([2, 16, 2]));
    let eval = ["eval", "--model", "run", "--backend", "cpu", "--json", "--data"];
    let evaluated = softstep(folder.path(), &[&eval[..], &["ring"]].concat()).last_json();
    assert_eq!((&evaluated["loss"], &evaluated["examples"]), (&done["test_loss"], &60.into()), "the same test part");
    assert_eq!(softstep(folder.path(), &[&eval[..], &["ring", "--all"]].concat()).last_json()["examples"], 300);

    fs::remove_file(folder.path().join("run/model.safetensors")).unwrap();
    fs::remove_file(folder.path().join(format!("run/checkpoint-{}.safetensors", done["steps"]))).unwrap();
    let again = softstep(folder.path(), &["train", "--resume", "run", "--json"]).last_json();
    assert_eq!(again["parameters_sha256"], done["parameters_sha256"]);

    // Other data of the same kind, in part with labels that the model does not know.
    let (x, mut y) = ring(50, 0.02);
    y[7] = 2;
    write_pair(&folder.path().join("other"), TRAIN, &floats(&[50, 2], x.clone()), &integers(y));
    let run = softstep(folder.path(), &[&eval[..], &["other", "--all"]].concat());
    assert!(
        run.code == 1 && run.stderr.contains("other/y.npy: [7] is 2: classes are 0 to 1, as in training"),
        "{run:?}"
    );
    let bytes = x.iter().map(|value| *value as u8).collect::<Vec<_>>();
    write_pair(&folder.path().join("other"), TRAIN, &npy("|u1", false, &[50, 2], &bytes), &integers([0; 50]));
    let run = softstep(folder.path(), &[&eval[..], &["other", "--all"]].concat());
    assert!(
        run.code == 1 && run.stderr.contains("other/x.npy: it holds bytes (uint8), where training was on numb"),
        "{run:?}"
    );
}

#[test]
fn arrays_of_bytes_train_with_a_test_part_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    // Images of 5x4: class c has a bright column c.
    let images = |count: usize| {
        let pixel = |at: usize| {
            let (image, column) = (at / 20, at % 20 % 4);
            if column == image % 4 { 200 + (at % 50) as u8 } else { (at * 7 % 90) as u8 }
        };
        let y: Vec<u8> = (0..count).map(|image| (image % 4) as u8).collect();
        (
            npy("|u1", false, &[count, 5, 4], &(0..20 * count).map(pixel).collect::<Vec<_>>()),
            npy("|u1", false, &[count], &y),
        )
    };
    let (x, y) = images(120);
    write_pair(&folder.path().join("bars"), TRAIN, &x, &y);
    let (x, y) = images(30);
    write_pair(&folder.path().join("bars"), TEST, &x, &y);
    let train = ["train", "--data", "bars", "--epochs", "10", "--batch-size", "16", "--backend", "cpu", "--json"];
    let done = softstep(folder.path(), &[&train[..], &["--out", "run"]].concat()).last_json();
    assert_eq!((&done["test_accuracy"], &done["sizes"]), (&1.0.into(), &serde_json::json!([20, 4])), "{done}");
    let eval = ["eval", "--model", "run", "--data", "bars", "--backend", "cpu", "--json"];
    let evaluated = softstep(folder.path(), &eval).last_json();
    assert_eq!((&evaluated["loss"], &evaluated["examples"]), (&done["test_loss"], &30.into()));
    assert_eq!(evaluated["part"], "test part");
    let all = softstep(folder.path(), &[&eval[..], &["--all"]].concat()).last_json();
    assert_eq!((&all["examples"], &all["part"]), (&150.into(), &"all examples".into()));

    let data = load(&folder.path().join("bars"), None, None, 0).unwrap();
    assert_eq!((data.train.len(), data.test.len()), (120, 30));
    let refused = |test: TestPart, expected: &str| {
        let error = load(&folder.path().join("bars"), Some(&test), None, 0).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    refused(TestPart::Share(0.3), "`test` 0.3: ");
    refused(TestPart::Path("other".into()), "`test` other: arrays to test with are x_test.npy and y_test.npy");
    fs::write(folder.path().join("bars/x_test.npy"), floats(&[30, 20], [0.0; 600])).unwrap();
    let error = load(&folder.path().join("bars"), None, None, 0).unwrap_err().to_string();
    assert!(error.contains("bars/x_test.npy: it holds numbers other than bytes"), "{error}");
    fs::write(folder.path().join("bars/x_test.npy"), npy("|u1", false, &[30, 2], &[0; 60])).unwrap();
    let error = load(&folder.path().join("bars"), None, None, 0).unwrap_err().to_string();
    assert!(error.contains("bars/x_test.npy: an example has 2 features, not 20 as in training"), "{error}");
    fs::remove_file(folder.path().join("bars/x_test.npy")).unwrap();
    let error = load(&folder.path().join("bars"), None, None, 0).unwrap_err().to_string();
    assert!(error.contains("bars: it has y_test.npy but no x_test.npy"), "{error}");
    fs::remove_file(folder.path().join("bars/y_test.npy")).unwrap();
    let share = load(&folder.path().join("bars"), Some(&TestPart::Share(0.25)), None, 0).unwrap();
    assert_eq!((share.train.len(), share.test.len()), (90, 30));
    fs::remove_file(folder.path().join("bars/y.npy")).unwrap();
    let error = load(&folder.path().join("bars"), None, None, 0).unwrap_err().to_string();
    assert!(error.contains("bars: it has x.npy but no y.npy"), "{error}");
}

#[test]
fn real_values_of_two_outputs_are_learned_and_told_in_their_own_units() {
    let folder = tempfile::tempdir().unwrap();
    let x: Vec<f32> = (0..600).map(|at| ((at * 37 % 101) as f32 - 50.0) / 30.0).collect();
    let y: Vec<f32> = x.chunks(3).flat_map(|x| [2e-4 * x[0] - 1e-4 * x[1] + 5.0, 1e6 * x[2] - 3e6]).collect();
    write_pair(&folder.path().join("law"), TRAIN, &floats(&[200, 3], x.clone()), &floats(&[200, 2], y.clone()));
    let train = ["train", "--data", "law", "--epochs", "60", "--batch-size", "16", "--lr", "0.02", "--backend", "cpu"];
    let done = softstep(folder.path(), &[&train[..], &["--json", "--out", "run"]].concat()).last_json();
    assert!(done["test_r_squared"].as_f64().unwrap() >= 0.999 && done["test_rmse"].as_f64().unwrap() <= 0.05, "{done}");
    let eval = ["eval", "--model", "run", "--data", "law", "--backend", "cpu"];
    let evaluated = softstep(folder.path(), &[&eval[..], &["--json"]].concat()).last_json();
    assert_eq!((&evaluated["rmse"], &evaluated["loss"]), (&done["test_rmse"], &done["test_loss"]));
    let of_target = |index: usize| {
        let target = &evaluated["targets"][index];
        assert!(target["r_squared"].as_f64().unwrap() >= 0.999, "{evaluated}");
        target["rmse"].as_f64().unwrap()
    };
    // Their deviations are 2e-4 and 1e6, about.
    assert!((1e-9..1e-5).contains(&of_target(0)) && (1.0..5e4).contains(&of_target(1)), "{evaluated}");
    let told = softstep(folder.path(), &eval).stdout;
    assert!(told.contains("in deviations of the targets") && !told.contains("in the units of"), "{told}");
    assert!(told.contains("value 1") && told.contains("value 2"), "{told}");
    let page = fs::read_to_string(folder.path().join("run/report.html")).unwrap();
    assert!(page.contains("root mean squared error of value 2"), "{page}");
    let predict = ["predict", "--model", "run", "--backend", "cpu", "--json", "law/x.npy"];
    let predicted = softstep(folder.path(), &predict).json_lines();
    for (line, actual) in predicted.iter().zip(y.chunks(2)) {
        let value = |index: usize| line["values"][index].as_f64().unwrap();
        assert!((value(0) - f64::from(actual[0])).abs() <= 3e-5, "{line} {actual:?}");
        assert!((value(1) - f64::from(actual[1])).abs() <= 2e5, "{line} {actual:?}");
    }
}

/// Rows in units of their own, all of them exact in 32 bits: far from 0, tiny, huge and constant.
fn wild(rows: usize) -> Vec<f32> {
    let row = |row: usize| {
        let number = |factor: usize| (row * factor % 101) as f32;
        [5000.0 + number(37), number(53) / 1048576.0, 65536.0 * number(71), 7.0]
    };
    (0..rows).flat_map(row).collect()
}

/// Targets of the rows of `wild`: a value in a unit of its own, and a class.
fn law(x: &[f32]) -> (f32, i64) {
    let number = x[0] - 5000.0 + 1048576.0 * x[1] - x[2] / 65536.0;
    (1e4 + number * 0.5, i64::from(number > 30.0) + i64::from(number > 80.0))
}

#[test]
fn numbers_in_any_units_give_what_they_give_as_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let x = wild(124);
    let (values, classes): (Vec<f32>, Vec<i64>) = x.chunks(4).map(law).unzip();
    write_pair(&folder.path().join("values"), TRAIN, &floats(&[124, 4], x.clone()), &floats(&[124], values.clone()));
    write_pair(&folder.path().join("classes"), TRAIN, &floats(&[124, 4], x.clone()), &integers(classes.clone()));
    let wide: Vec<u8> = x.iter().step_by(4).flat_map(|value| (*value as i16).to_le_bytes()).collect();
    write_pair(&folder.path().join("whole"), TRAIN, &npy("<i2", false, &[124, 1], &wide), &integers(classes.clone()));
    let table = |columns: usize, targets: Vec<String>| {
        let rows = x.chunks(4).zip(targets);
        let row = |(row, target): (&[f32], String)| {
            row[..columns].iter().map(|value| format!("{value},")).collect::<String>() + &target + "\n"
        };
        ["a,", "b,", "c,", "d,"][..columns].concat() + "y\n" + &rows.map(row).collect::<String>()
    };
    let of_classes: Vec<String> = classes.iter().map(i64::to_string).collect();
    fs::write(folder.path().join("values.csv"), table(4, values.iter().map(f32::to_string).collect())).unwrap();
    fs::write(folder.path().join("classes.csv"), table(4, of_classes.clone())).unwrap();
    fs::write(folder.path().join("whole.csv"), table(1, of_classes)).unwrap();
    for data in ["values", "classes", "whole"] {
        for more in [&[][..], &["--validation", "0.2", "--patience", "3"]] {
            let train = |arguments: &[&str]| {
                let common = ["train", "--hidden", "16", "--epochs", "6", "--backend", "cpu", "--json", "--out"];
                softstep(folder.path(), &[&common[..], arguments, more].concat()).last_json()
            };
            let out = format!("{data}-{}", more.len());
            let of_arrays = train(&[&out, "--data", data]);
            let of_table = train(&[&(out + "-table"), "--data", &format!("{data}.csv"), "--target", "y"]);
            for field in [
                "learning_rate",
                "train_loss",
                "validation_loss",
                "test_loss",
                "test_accuracy",
                "test_r_squared",
                "test_rmse",
            ] {
                let [a, b] = [&of_arrays, &of_table].map(|done| done[field].as_f64());
                let near = a.zip(b).is_none_or(|(a, b)| (a - b).abs() <= 1e-4 * b.abs());
                assert!(near && a.is_some() == b.is_some(), "{data} {field}: {of_arrays} {of_table}");
            }
        }
    }
    let header =
        softstep(folder.path(), &["train", "--data", "values", "--backend", "cpu", "--epochs", "1", "--out", "h"]);
    assert!(header.stdout.contains("4 features (standardised)"), "{header:?}");
}

/// Mean and deviation of each feature.
fn moments(examples: &Examples) -> Vec<[f64; 2]> {
    let column = |feature: usize| (0..examples.len()).map(move |example| examples.input(example).nth(feature).unwrap());
    let moments = |feature: usize| {
        let mean = column(feature).sum::<f64>() / examples.len() as f64;
        let variance = column(feature).map(|value| (value - mean).powi(2)).sum::<f64>() / examples.len() as f64;
        [mean, variance.sqrt()]
    };
    (0..examples.features).map(moments).collect()
}

fn scales(data: &Data) -> (Vec<Scale>, Vec<Scale>) {
    let Some(Preprocessing::Arrays(format)) = &data.preprocessing else { panic!("{:?}", data.preprocessing) };
    (format.scales.clone(), format.target_scales.clone())
}

#[test]
fn means_and_deviations_are_those_of_the_examples_that_are_trained_on() {
    let folder = tempfile::tempdir().unwrap();
    let wild_pair = |name: &str, rows: usize| {
        let x = wild(rows);
        let y: Vec<f32> = x.chunks(4).map(|x| law(x).0 * law(x).0).collect();
        write_pair(&folder.path().join(name), TRAIN, &floats(&[rows, 4], x), &floats(&[rows], y));
        folder.path().join(name)
    };
    let path = wild_pair("data", 90);
    let standardised = |examples: &Examples| {
        let of_features = moments(examples);
        let Targets::Values(values) = &*examples.targets else { panic!("classes") };
        let of_targets = moments(&Examples::new(values.clone(), values.clone(), 1, 1).unwrap());
        assert_eq!(of_features[3], [0.0, 0.0], "a constant");
        let all = of_features[..3].iter().chain(&of_targets);
        all.fold(0f64, |most, [mean, deviation]| most.max(mean.abs()).max((deviation - 1.0).abs()))
    };
    for test in [None, Some(TestPart::Fold { fold: 2, folds: 3 })] {
        let mut data = load(&path, test.as_ref(), None, 5).unwrap();
        assert!(standardised(&data.train) <= 1e-5 && standardised(&data.test) >= 1e-3, "{:?}", moments(&data.test));
        let before = scales(&data);
        data.refit(0.25, 7).unwrap();
        let (train, validation) = data.train.clone().split(0.25, 7).unwrap();
        assert!(standardised(&train) <= 1e-5 && standardised(&validation) >= 1e-3);
        assert!(scales(&data) != before);
        let after = scales(&data);
        data.refit(0.5, 1).unwrap();
        assert_eq!(scales(&data), after, "what was loaded is released");
        // As a model with these scales reads them.
        let again =
            softstep::data::load_again(path.to_str().unwrap(), data.preprocessing.as_ref().unwrap(), 5).unwrap();
        assert_eq!(again.sha256(), data.sha256());
    }
    // A test part of its own changes no scale, and is refused where it is too far.
    let alone = load(&path, Some(&TestPart::Share(0.01)), None, 5).unwrap();
    let own = |x: &[u8], y: &[u8]| {
        write_pair(&path, TEST, x, y);
        load(&path, None, None, 5)
    };
    let far = own(&floats(&[2, 4], [9e9; 8]), &floats(&[2], [9e9; 2])).unwrap();
    assert!(scales(&far).0.iter().zip(scales(&alone).0).all(|(a, b)| (a.mean - b.mean).abs() <= 0.5 * b.deviation));
    assert_eq!((far.train.len(), far.test.len()), (90, 2));
    let x = floats(&[2, 4], [1.0, 1.0, 1.0, 7.0, 1.0, 3e38, 1.0, 7.0]);
    let problem = own(&x, &floats(&[2], [1.0; 2])).unwrap_err().to_string();
    assert!(problem.contains("data/x_test.npy: [1, 1]: 3e38 is too far from the training rows, of mean "), "{problem}");
    // Targets have a deviation of a thousandth here.
    let y = (0..90).map(|at| (at % 7) as f32 / 3000.0 + 0.1);
    write_pair(&path, TRAIN, &floats(&[90, 4], wild(90)), &floats(&[90], y));
    let problem = own(&floats(&[2, 4], [1.0; 8]), &floats(&[2, 1], [0.5, -3e38])).unwrap_err().to_string();
    assert!(problem.contains("data/y_test.npy: [1, 0]: -3e38 is too far from the training rows"), "{problem}");
}

#[test]
fn whoever_gives_a_model_numbers_gives_them_in_their_own_units() {
    let folder = tempfile::tempdir().unwrap();
    let x = wild(90);
    let y: Vec<f32> = x.chunks(4).map(|x| law(x).0).collect();
    write_pair(&folder.path().join("data"), TRAIN, &floats(&[90, 4], x.clone()), &floats(&[90], y));
    let train = ["train", "--data", "data", "--hidden", "8", "--epochs", "150", "--backend", "cpu", "--json", "--out"];
    let done = softstep(folder.path(), &[&train[..], &["run"]].concat()).last_json();
    assert!(done["test_r_squared"].as_f64().unwrap() >= 0.75, "{done}");
    let predict = |model: &str, file: &str| -> Vec<f64> {
        let run = softstep(folder.path(), &["predict", "--model", model, "--backend", "cpu", "--json", file]);
        assert_eq!(run.code, 0, "{run:?}");
        run.json_lines().iter().map(|line| line["values"][0].as_f64().unwrap()).collect()
    };
    let by_command = predict("run", "data/x.npy");
    assert!(by_command.iter().all(|value| (9800.0..10200.0).contains(value)), "{by_command:?}");

    // By the library.
    let path = folder.path().join("run/model.safetensors");
    let model = Model::load(&path).unwrap();
    let by_library = model.predict(model.standardise(x.clone()).unwrap()).unwrap();
    assert_eq!(by_library.iter().map(|prediction| prediction.outputs[0]).collect::<Vec<_>>(), by_command);
    let problem = model.standardise(vec![5000.0, 3e38, 0.0, 7.0]).unwrap_err().to_string();
    assert!(problem.contains("feature 1 of example 0: 3e38 is too far from the training rows"), "{problem}");
    let far = folder.path().join("far.npy");
    fs::write(&far, floats(&[1, 4], [5000.0, 3e38, 0.0, 7.0])).unwrap();
    let run = softstep(folder.path(), &["predict", "--model", "run", "--backend", "cpu", "far.npy"]);
    assert!(run.code == 1 && run.stderr.contains("far.npy: [0, 1]: 3e38 is too far"), "{run:?}");

    // A model without scales, of an older softstep or a program, gets numbers as they are.
    let (parameters, metadata) = from_safetensors("m", &fs::read(&path).unwrap()).unwrap();
    let Some(Preprocessing::Arrays(format)) = metadata.preprocessing.clone() else { panic!("{metadata:?}") };
    let scale = format.target_scales[0];
    let older = ArrayFormat { scales: Vec::new(), target_scales: Vec::new(), ..format };
    let metadata = metadata.with_preprocessing(Some(Preprocessing::Arrays(older)));
    fs::write(folder.path().join("older.safetensors"), to_safetensors(&parameters, &metadata).unwrap()).unwrap();
    let Features::Floats(standardised) = model.standardise(x.clone()).unwrap() else { panic!("no numbers") };
    fs::write(folder.path().join("standardised.npy"), floats(&[90, 4], standardised)).unwrap();
    let raw = predict("older.safetensors", "standardised.npy");
    assert_eq!(raw.iter().map(|&value| scale.undo(value as f32)).collect::<Vec<_>>(), by_command);

    // Weights from elsewhere were trained on numbers as they are.
    let import = ["import", "run/model.safetensors", "--data", "data", "--hidden", "8", "--out", "in.safetensors"];
    let run = softstep(folder.path(), &import);
    assert_eq!(run.code, 0, "{run:?}");
    let (_, imported) = from_safetensors("m", &fs::read(folder.path().join("in.safetensors")).unwrap()).unwrap();
    assert_eq!((&*imported.normalization, imported.preprocessing), ("none", metadata.preprocessing.clone()));

    // Data of programs are theirs.
    let part = Examples::new(x.clone(), x.iter().step_by(4).copied().collect::<Vec<f32>>(), 4, 1).unwrap();
    let data = Data::new("made", part.clone(), part).unwrap();
    assert_eq!((scales(&data), &*data.train.inputs), ((Vec::new(), Vec::new()), &Features::Floats(x)));
}

#[test]
fn a_model_file_says_what_arrays_hold_and_older_ones_are_read() {
    let parameters = Parameters::new(&[4, 3], 0).unwrap();
    let model = |preprocessing: Preprocessing| {
        let metadata =
            Metadata::new(&parameters, "arrays", 3, Loss::CrossEntropy).with_preprocessing(Some(preprocessing));
        let bytes = to_safetensors(&parameters, &metadata).unwrap();
        from_safetensors("m", &bytes).map(|(_, read)| assert_eq!(read, metadata)).map(|()| metadata.normalization)
    };
    let format = |elements, features, targets| {
        Preprocessing::Arrays(ArrayFormat {
            elements,
            features,
            targets,
            classes: Vec::new(),
            scales: Vec::new(),
            target_scales: Vec::new(),
            test: TestPart::default(),
        })
    };
    let scaled = |format: Preprocessing, features: usize, targets: usize| {
        let Preprocessing::Arrays(format) = format else { unreachable!() };
        let scales = |count| vec![Scale { mean: -1.5, deviation: 1e-20 }; count];
        Preprocessing::Arrays(ArrayFormat { scales: scales(features), target_scales: scales(targets), ..format })
    };
    let numbers = || format(Elements::Numbers, 4, ArrayTargets::Classes(3));
    assert_eq!(model(format(Elements::Bytes, 4, ArrayTargets::Classes(3))).unwrap(), "byte/255");
    assert_eq!(model(numbers()).unwrap(), "none");
    assert_eq!([1, 4].map(|count| model(scaled(numbers(), count, 0)).unwrap()), ["scales"; 2]);
    // As softstep wrote it when numbers were used as they are.
    let older = r#"{"elements":"numbers","features":4,"targets":{"classes":3},"test":0.2}"#;
    assert_eq!(serde_json::from_str::<Preprocessing>(older).unwrap(), numbers());
    assert_eq!(serde_json::to_string(&numbers()).unwrap(), older);
    for (other, expected) in [
        (scaled(numbers(), 3, 0), "3 scales of features and 0 of targets do not fit"),
        (scaled(numbers(), 4, 3), "4 scales of features and 3 of targets do not fit"),
        (scaled(format(Elements::Bytes, 4, ArrayTargets::Classes(3)), 4, 0), "do not fit its arrays"),
        (scaled(format(Elements::Numbers, 4, ArrayTargets::Values(3)), 4, 2), "do not fit its arrays"),
        (format(Elements::Numbers, 5, ArrayTargets::Classes(3)), "[5, 3] features and outputs"),
        (format(Elements::Numbers, usize::MAX, ArrayTargets::Classes(usize::MAX)), "features and outputs"),
        (format(Elements::Numbers, 4, ArrayTargets::Values(3)), "its loss is not for its preprocessing"),
    ] {
        let error = model(other).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    // Each kind is an object of its own fields, a table's as ever; one that is none of them is refused.
    let table = r#"{"columns":[{"name":"a","encoding":{"standardised":{"mean":1.0,"deviation":2.5}}}],
        "target":"b","encoding":{"classes":["x","y"]},"test":0.2}"#;
    assert!(
        matches!(serde_json::from_str(table).unwrap(), Preprocessing::Table(table) if table.test == TestPart::Share(0.2))
    );
    let images = r#"{"width":2,"height":3,"color":"grey","classes":["x","y"],"test":"some/folder"}"#;
    let read: Preprocessing = serde_json::from_str(images).unwrap();
    assert!(
        matches!(&read, Preprocessing::Images(ImageFormat { test: TestPart::Path(path), .. }) if path == "some/folder")
    );
    assert_eq!(serde_json::to_string(&read).unwrap(), images);
    for wrong in ["{}", &images.replace("3", "-3"), &images.replace("grey", "red"), &images.replace("2,", "2,\"a\":1,")]
    {
        assert!(serde_json::from_str::<Preprocessing>(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn arrays_whose_training_part_has_nothing_to_learn_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let bars = folder.path().join("bars");
    let x = || floats(&[20, 2], (0..40).map(|value| value as f32));
    write_pair(&bars, TRAIN, &x(), &integers((0..20).map(|at| i64::from(at == 7))));
    let error = (0..60).find_map(|seed| load(&bars, None, None, seed).err()).expect("a seed").to_string();
    assert!(
        error.ends_with("bars: one class only, 0, in its training part: there is nothing to tell apart"),
        "{error}"
    );
    write_pair(&bars, TRAIN, &x(), &floats(&[20, 2], [3.0, -1.0].repeat(20)));
    let error = load(&bars, None, None, 0).unwrap_err().to_string();
    assert!(
        error.ends_with("bars: the same target everywhere in its training part: there is nothing to learn"),
        "{error}"
    );
    let one_differs = (0..40).map(|at| if at % 2 == 0 { at as f32 } else { 3.0 });
    write_pair(&bars, TRAIN, &x(), &floats(&[20, 2], one_differs));
    assert!(load(&bars, None, None, 0).is_ok());
}
