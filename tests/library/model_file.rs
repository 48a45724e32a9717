//! Model files: what is written is read back bit by bit, and nothing else is read at all.

use std::collections::HashMap;

use proptest::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use softstep::data::{Examples, Shapes};
use softstep::loss::Loss;
use softstep::model::{Activation, Architecture, Parameters};
use softstep::model_file::{Metadata, from_safetensors, to_safetensors};

fn model(sizes: &[usize]) -> (Parameters, Metadata) {
    let mut parameters = Parameters::new(sizes, 5).unwrap();
    for layer in &mut parameters.layers {
        for (index, bias) in layer.values[layer.inputs * layer.outputs..].iter_mut().enumerate() {
            *bias = index as f32 - 0.25;
        }
    }
    let metadata = Metadata::new(&parameters, "digits", 5, Loss::CrossEntropy);
    (parameters, metadata)
}

/// A file made of these tensors, all zero, that claims layer sizes 4, 3, 2.
fn file_of(tensors: &[(&str, Dtype, &[usize])]) -> Vec<u8> {
    let zeros = vec![0; 1024];
    let views = tensors.iter().map(|(name, dtype, shape)| {
        let bytes = shape.iter().product::<usize>() * dtype.bitsize() / 8;
        (*name, TensorView::new(*dtype, shape.to_vec(), &zeros[..bytes]).unwrap())
    });
    let metadata = serde_json::to_string(&model(&[4, 3, 2]).1).unwrap();
    safetensors::serialize(views, Some(HashMap::from([("softstep".to_string(), metadata)]))).unwrap()
}

const GOOD: [(&str, Dtype, &[usize]); 4] = [
    ("0.weight", Dtype::F32, &[3, 4]),
    ("0.bias", Dtype::F32, &[3]),
    ("2.weight", Dtype::F32, &[2, 3]),
    ("2.bias", Dtype::F32, &[2]),
];

fn problem(bytes: &[u8]) -> String {
    from_safetensors("runs/a/model.safetensors", bytes).unwrap_err().to_string()
}

#[test]
fn a_model_comes_back_bit_by_bit() {
    for sizes in [&[1, 2][..], &[7, 3], &[5, 4, 3], &[64, 33, 1, 10]] {
        let (mut parameters, metadata) = model(sizes);
        parameters.layers[0].values[..2].copy_from_slice(&[-0.0, f32::from_bits(1)]);
        let bytes = to_safetensors(&parameters, &metadata).unwrap();
        let (read, read_metadata) = from_safetensors("m", &bytes).unwrap();
        assert_eq!(read.sha256(), parameters.sha256());
        assert_eq!((read.sizes(), read_metadata), (parameters.sizes(), metadata.clone()));
        assert_eq!(to_safetensors(&parameters, &metadata).unwrap(), bytes, "the same model makes the same file");
    }
}

#[test]
fn the_activation_of_a_model_comes_back() {
    for (activation, name) in Activation::ALL.into_iter().zip(["relu", "sigmoid", "tanh", "gelu", "leaky_relu"]) {
        let parameters = Parameters::with_activation(&[4, 3, 2], activation, 1).unwrap();
        let metadata = Metadata::new(&parameters, "digits", 1, Loss::default());
        assert!(serde_json::to_string(&metadata).unwrap().contains(&format!(r#""{name}""#)));
        assert_eq!(from_safetensors("m", &to_safetensors(&parameters, &metadata).unwrap()).unwrap().0, parameters);
        let activation = Activation::ALL[usize::from(activation == Activation::Relu)];
        let architecture = Architecture::dense(&[4, 3, 2], activation).unwrap();
        let other = Metadata { architecture, ..metadata };
        assert!(to_safetensors(&parameters, &other).unwrap_err().to_string().contains(activation.name()));
    }
}

#[test]
fn tensors_have_the_names_and_layout_of_torch_sequential() {
    let (parameters, metadata) = model(&[4, 3, 2]);
    let bytes = to_safetensors(&parameters, &metadata).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut names = tensors.names();
    names.sort_unstable();
    assert_eq!(names, ["0.bias", "0.weight", "2.bias", "2.weight"]);
    let values = |name: &str| -> Vec<f32> {
        tensors.tensor(name).unwrap().data().chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    for (index, layer) in parameters.layers.iter().enumerate() {
        let (weight, bias) = (format!("{}.weight", 2 * index), format!("{}.bias", 2 * index));
        assert_eq!(tensors.tensor(&weight).unwrap().shape(), [layer.outputs, layer.inputs]);
        let (weight, bias) = (values(&weight), values(&bias));
        for output in 0..layer.outputs {
            for input in 0..layer.inputs {
                assert_eq!(weight[output * layer.inputs + input], layer.values[input * layer.outputs + output]);
            }
            assert_eq!(bias[output], layer.values[layer.inputs * layer.outputs + output]);
        }
    }
}

#[test]
fn each_wrong_tensor_is_named() {
    assert!(from_safetensors("m", &file_of(&GOOD)).is_ok());
    let with = |index: usize, tensor| {
        let mut tensors = GOOD;
        tensors[index] = tensor;
        problem(&file_of(&tensors))
    };
    for (message, expected) in [
        (problem(&file_of(&GOOD[..3])), "2.bias is missing"),
        (
            problem(&file_of(&[&GOOD[..], &[("4.bias", Dtype::F32, &[2])]].concat())),
            "tensor 4.bias does not belong to the model",
        ),
        (with(0, ("0.weight", Dtype::F32, &[4, 3])), "0.weight is F32 [4, 3]: its model wants F32 [3, 4]"),
        (with(2, ("2.weight", Dtype::F32, &[2, 5])), "2.weight is F32 [2, 5]: its model wants F32 [2, 3]"),
        (with(1, ("0.bias", Dtype::F16, &[3])), "0.bias is F16 [3]"),
        (with(3, ("2.bias", Dtype::F32, &[2, 1])), "2.bias is F32 [2, 1]"),
    ] {
        assert!(message.starts_with("runs/a/model.safetensors: ") && message.contains(expected), "{message}");
    }
}

#[test]
fn values_that_are_not_finite_are_neither_written_nor_read() {
    for bad in [f32::NAN, f32::INFINITY] {
        let (mut parameters, metadata) = model(&[4, 3, 2]);
        let mut bytes = to_safetensors(&parameters, &metadata).unwrap();
        let last = bytes.len() - 4; // 2.weight comes last
        bytes[last..].copy_from_slice(&bad.to_le_bytes());
        assert!(problem(&bytes).contains(&format!("tensor 2.weight has the value {bad} at 5")), "{}", problem(&bytes));
        parameters.layers[1].values[0] = bad;
        assert!(to_safetensors(&parameters, &metadata).unwrap_err().to_string().contains("tensor 2.weight"));
    }
}

#[test]
fn files_of_other_programs_and_versions_are_refused() {
    let (parameters, metadata) = model(&[4, 3]);
    let with = |change: fn(&mut serde_json::Value)| {
        let bytes = to_safetensors(&parameters, &metadata).unwrap();
        let mut value = serde_json::to_value(&metadata).unwrap();
        change(&mut value);
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let entry = HashMap::from([("softstep".to_string(), value.to_string())]);
        problem(&safetensors::serialize(tensors.tensors(), Some(entry)).unwrap())
    };
    assert!(with(|value| value["format"] = 2.into()).contains("format version is 2"));
    assert!(with(|value| value["normalization"] = "none".into()).contains("none"));
    assert!(with(|value| value["architecture"]["layers"][0] = "swish".into()).contains("swish"));
    assert!(with(|value| value["architecture"]["layers"][0] = "linear:0".into()).contains("layer 1, linear:0"));
    assert!(with(|value| value["architecture"]["layers"] = serde_json::json!([])).contains("at least one layer"));
    assert!(with(|value| value["architecture"]["input"] = serde_json::json!([2, 2])).contains("not a shape"));
    assert!(with(|value| value["architecture"]["input"] = serde_json::json!([5])).contains("0.weight is F32 [3, 4]"));
    // Version 0.1.0 knew stacks of linear layers alone, by their sizes.
    let old = |sizes: serde_json::Value, activation: &'static str| {
        let bytes = to_safetensors(&parameters, &metadata).unwrap();
        let mut value = serde_json::to_value(&metadata).unwrap();
        value.as_object_mut().unwrap().remove("architecture");
        value["sizes"] = sizes;
        value["activation"] = activation.into();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let entry = HashMap::from([("softstep".to_string(), value.to_string())]);
        safetensors::serialize(tensors.tensors(), Some(entry)).unwrap()
    };
    let json = |sizes: &[usize]| serde_json::to_value(sizes).unwrap();
    assert_eq!(from_safetensors("m", &old(json(&[4, 3]), "relu")).unwrap(), (parameters.clone(), metadata.clone()));
    assert!(problem(&old(json(&[4, 3]), "swish")).contains("swish"));
    assert!(problem(&old(json(&[4]), "relu")).contains("[4]"));
    assert!(problem(&old(json(&[4, 0]), "relu")).contains("[4, 0]"));
    assert!(problem(&old(json(&[4, usize::MAX]), "relu")).contains("more than"));
    assert!(problem(&old(json(&[4, 3, 2]), "relu")).contains("2.weight is missing"));
    assert!(with(|value| *value = 7.into()).contains("damaged"));
    let foreign = safetensors::serialize(Vec::<(String, TensorView<'_>)>::new(), None).unwrap();
    assert!(problem(&foreign).contains("no softstep model"));
    assert!(problem(b"").contains("not a whole safetensors file"));
}

proptest! {
    #[test]
    fn damaged_files_give_an_error_and_never_a_panic(
        cut in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let (parameters, metadata) = model(&[4, 3, 2]);
        let bytes = to_safetensors(&parameters, &metadata).unwrap();
        prop_assert!(from_safetensors("m", &bytes[..cut.index(bytes.len())]).is_err());
        let mut changed = bytes.clone();
        changed[at.index(bytes.len())] = byte;
        if let Ok((read, _)) = from_safetensors("m", &changed) {
            prop_assert_eq!(read.sizes(), parameters.sizes());
            prop_assert!(read.layers.iter().flat_map(|layer| &layer.values).all(|value| value.is_finite()));
        }
    }

    #[test]
    fn random_bytes_give_an_error_and_never_a_panic(
        body in prop::collection::vec(any::<u8>(), 0..300),
        header_length in 0u64..400,
    ) {
        prop_assert!(from_safetensors("m", &body).is_err());
        let framed = [&header_length.to_le_bytes()[..], &body].concat();
        prop_assert!(from_safetensors("m", &framed).is_err());
    }
}

#[test]
fn shapes_of_training_pictures_come_back_and_unsound_ones_are_refused() {
    let (parameters, metadata) = model(&[64, 3, 2]);
    let pixels: Vec<u8> = (0..120 * 64).map(|at| (at * at % 251) as u8).collect();
    let labels: Vec<u32> = (0..120).map(|at| at % 2).collect();
    let shapes = Shapes::of(&Examples::new(pixels, labels, 64, 2).unwrap()).unwrap();
    let file_with =
        |shapes: &Shapes| to_safetensors(&parameters, &metadata.clone().with_shapes(Some(shapes.clone()))).unwrap();
    assert_eq!(from_safetensors("m", &file_with(&shapes)).unwrap().1.shapes.as_ref(), Some(&shapes));
    let mut changed = serde_json::to_value(&shapes).unwrap();
    changed["classes"] = serde_json::json!([]);
    let problem = problem(&file_with(&serde_json::from_value(changed).unwrap()));
    assert!(problem.contains("shapes"), "{problem}");
}
