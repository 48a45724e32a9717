//! Training with gradients clipped by their norm, on both backends.

use crate::binary::softstep;
use crate::oracle;
use pollster::block_on;
use softstep::backend::{Backend, Step, Training};
use softstep::cpu::CpuBackend;
use softstep::data::{self, Examples};
use softstep::gpu::{AdapterChoice, Gpu, GpuBackend, Readback};
use softstep::model::{Activation, Parameters};
use softstep::optimizer::{AdamW, Optimizer, Sgd};
use softstep::trainer::TrainingConfig;
use softstep::verify::Verified;

const PLAIN: Optimizer = Optimizer::Sgd(Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 });

fn gpu() -> Gpu {
    block_on(Gpu::open(&AdapterChoice::Auto)).expect("the tests need an adapter: see README")
}

fn training(examples: &Examples, batch_size: usize, optimizer: Optimizer, clip_norm: Option<f32>) -> Training<'_> {
    Training { optimizer, clip_norm, ..Training::new(examples, batch_size) }
}

/// Trains on the examples in order; gives the losses and the parameters.
fn train<B: Backend>(mut backend: B, training: &Training<'_>, steps: usize, rate: f32) -> (Vec<f32>, Parameters) {
    let order: Vec<u32> = (0..training.examples.len() as u32).collect();
    let mut losses = Vec::new();
    block_on(async {
        while losses.len() < steps {
            backend.begin_epoch(&order).unwrap();
            let before = losses.len();
            for first in (0..order.len()).step_by(training.batch_size).take(steps - before) {
                let batch = training.batch_size.min(order.len() - first);
                backend.step(Step { first, batch, learning_rate: rate }, &mut losses).await.unwrap();
            }
            backend.flush(&mut losses).await.unwrap();
        }
        (losses, backend.parameters().await.unwrap())
    })
}

/// The same on the CPU and on the GPU, there in every way to multiply matrices.
fn on_every_backend(
    gpu: &Gpu,
    parameters: &Parameters,
    training: &Training<'_>,
    steps: usize,
    rate: f32,
) -> Vec<(String, Vec<f32>, Parameters)> {
    let (losses, after) = train(CpuBackend::new(parameters, training).unwrap(), training, steps, rate);
    let mut results = vec![("the CPU".to_owned(), losses, after)];
    for &matmul in gpu.matmul_choices() {
        let gpu = gpu.clone().with_matmul(matmul).unwrap();
        let backend = block_on(GpuBackend::new(&gpu, parameters, training, Readback::Pipelined)).unwrap();
        let (losses, after) = train(backend, training, steps, rate);
        results.push((format!("the GPU by {matmul:?}"), losses, after));
    }
    results
}

#[test]
fn the_coefficient_is_that_of_pytorch() {
    // What torch.nn.utils.clip_grad_norm_ multiplies gradients of this norm with.
    for (norm, max_norm, expected) in [
        (5.0, 1.0, 0.199_999_960_000_008),
        (5e-6, 2e-6, 1.0 / 3.0),
        (0.5, 0.5, 0.999_998_000_004),
        (1e-7, 5e-7, 0.454_545_454_545_454_5),
        (1e-7, 5e-6, 1.0),
        (0.0, 1e-3, 1.0),
    ] {
        let actual = oracle::clip_coefficient(norm, max_norm);
        assert!((actual - expected).abs() <= 1e-12, "{norm} clipped to {max_norm}: {actual} is not {expected}");
    }
    assert!(oracle::clip_coefficient(f64::NAN, 1.0).is_nan() && oracle::clip_coefficient(f64::INFINITY, 1.0).is_nan());
    assert_eq!(oracle::gradient_norm([&[3.0, 0.0][..], &[-4.0]]), 5.0);
}

#[test]
fn clipped_gradients_agree_with_finite_differences_in_f64() {
    let gpu = gpu();
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    for (sizes, batch) in [(vec![1, 2], 1), (vec![33, 11], 33), (vec![9, 17, 10], 31), (vec![6, 33, 15, 10], 34)] {
        let examples = oracle::random_floats(batch, sizes[0], sizes[sizes.len() - 1], seed);
        let order: Vec<u32> = (0..batch as u32).collect();
        let parameters = oracle::random_dense(&sizes, Activation::Tanh, seed);
        let inputs = oracle::inputs(&examples, &order);
        let expected =
            oracle::Model::new(&parameters).finite_differences(|model| model.loss(&inputs, examples.labels().unwrap()));
        let norm = oracle::gradient_norm(expected.iter().map(|gradient| &gradient[..]));
        for share in [0.01, 0.7, 1.5] {
            let max_norm = (share * norm) as f32;
            let mut expected = expected.clone();
            oracle::clip(&mut expected, f64::from(max_norm));
            let clipped = oracle::gradient_norm(expected.iter().map(|gradient| &gradient[..]));
            assert!((clipped / norm - share.min(1.0)).abs() <= 1e-3, "{clipped} of {norm}");
            let training = training(&examples, batch, PLAIN, Some(max_norm));
            // At learning rate 1 the update is the gradient.
            for (backend, _, after) in on_every_backend(&gpu, &parameters, &training, 1, 1.0) {
                for (layer, expected) in expected.iter().enumerate() {
                    let pairs = parameters.layers[layer].values.iter().zip(&after.layers[layer].values);
                    let gradient: Vec<f32> = pairs.map(|(before, after)| before - after).collect();
                    let name = format!("{sizes:?}, layer {layer}, clipped to {share} on {backend}, seed {seed}");
                    oracle::assert_close(&name, &gradient, expected, 1e-5, 1e-6);
                }
            }
        }
    }
}

#[test]
fn steps_on_one_thread_and_on_several_follow_the_oracle() {
    // The last two have enough work to be shared, in blocks that do not come out even.
    for (sizes, batch) in [(vec![5, 3], 3), (vec![63, 17, 11], 33), (vec![784, 10], 129), (vec![200, 611, 35, 10], 131)]
    {
        let examples = oracle::random_floats(batch, sizes[0], sizes[sizes.len() - 1], 3);
        let order: Vec<u32> = (0..batch as u32).collect();
        let parameters = oracle::random_dense(&sizes, Activation::Tanh, 4);
        for optimizer in [
            Sgd { weight_decay: 0.1, ..Sgd::default() }.into(),
            Sgd { momentum: 0.5, nesterov: true, weight_decay: 0.1 }.into(),
            AdamW { epsilon: 1e-3, ..AdamW::default() }.into(),
        ] {
            let mut expected = oracle::Model { clip_norm: Some(0.3), ..oracle::Model::new(&parameters) };
            let inputs = oracle::inputs(&examples, &order);
            for _ in 0..3 {
                expected.train_step(&inputs, examples.labels().unwrap(), &optimizer, 0.1);
            }
            let training = training(&examples, batch, optimizer, Some(0.3));
            let backend = CpuBackend::new(&parameters, &training).unwrap();
            let (_, actual) = train(backend, &training, 3, 0.1);
            oracle::assert_parameters_close(&format!("{sizes:?} {optimizer:?}"), &actual, &expected, 1e-5, 1e-5);
        }
    }
}

#[test]
fn losses_of_clipped_runs_agree_on_all_backends_for_100_steps() {
    let (gpu, digits) = (gpu(), data::digits().unwrap());
    for (optimizer, rate) in [
        (Sgd { momentum: 0.9, nesterov: false, weight_decay: 1e-4 }.into(), 0.15),
        (AdamW { epsilon: 1e-5, ..AdamW::default() }.into(), 0.003),
    ] {
        let parameters = Parameters::new(&[64, 33, 10], 3).unwrap();
        let training = training(&digits.train, 50, optimizer, Some(0.5));
        let results = on_every_backend(&gpu, &parameters, &training, 100, rate);
        let (_, expected, _) = &results[0];
        assert!(expected[99] < 0.5 * expected[0], "{optimizer:?} learns nothing: {expected:?}");
        for (backend, losses, _) in &results[1..] {
            for (step, (actual, expected)) in losses.iter().zip(expected).enumerate() {
                let off = (actual - expected).abs();
                assert!(off <= 1e-3 * expected, "step {step}: {actual} on {backend}, {expected} on the CPU");
            }
        }
    }
}

#[test]
fn a_norm_that_is_never_reached_leaves_the_run_as_it_is() {
    let (gpu, digits) = (gpu(), data::digits().unwrap());
    let parameters = Parameters::new(&[64, 33, 10], 3).unwrap();
    for optimizer in [PLAIN, Sgd { momentum: 0.9, nesterov: true, weight_decay: 1e-3 }.into()] {
        let run = |clip_norm| {
            let training = training(&digits.train, 50, optimizer, clip_norm);
            on_every_backend(&gpu, &parameters, &training, 30, 0.05)
        };
        for ((backend, clipped, _), (_, plain, _)) in run(Some(1e30)).into_iter().zip(run(None)) {
            oracle::assert_close(&backend, &clipped, &oracle::widen(&plain), 1e-5, 0.0);
        }
    }
}

#[test]
fn steps_too_large_for_the_run_are_tamed_and_non_finite_gradients_are_not_hidden() {
    let (gpu, digits) = (gpu(), data::digits().unwrap());
    let parameters = Parameters::new(&[64, 64, 64, 10], 0).unwrap();
    let first = |losses: &[f32]| losses.iter().position(|loss| !loss.is_finite());
    let run = |clip_norm, rate| {
        let training = training(&digits.train, 64, PLAIN, clip_norm);
        on_every_backend(&gpu, &parameters, &training, 40, rate)
    };
    // At this rate the run explodes, unless its steps are no longer than 0.5.
    for (backend, losses, _) in run(None, 50.0) {
        assert!(losses[39] > 10.0 || losses[39].is_nan(), "{backend}: {losses:?}");
    }
    for (backend, losses, _) in run(Some(0.01), 50.0) {
        assert!(losses.iter().all(|&loss| loss <= 10.0), "{backend}: {losses:?}");
    }
    // At this one no clipping helps, and every backend sees it at the same step.
    let diverged: Vec<_> = run(Some(0.01), 1e30).iter().map(|(_, losses, _)| first(losses)).collect();
    assert!(diverged[0].is_some() && diverged.iter().all(|step| *step == diverged[0]), "{diverged:?}");
    // A parameter that is no number makes all of them so, with the first clipped update.
    let mut bad = parameters.clone();
    bad.layers[2].values[7] = f32::NAN;
    let training = training(&digits.train, 64, PLAIN, Some(0.01));
    for (backend, losses, after) in on_every_backend(&gpu, &bad, &training, 1, 0.1) {
        assert!(!losses[0].is_finite(), "{backend}: {losses:?}");
        let biases = after.layers.iter().map(|layer| layer.values[layer.values.len() - 1]);
        assert!(biases.clone().all(f32::is_nan), "{backend}: {:?}", biases.collect::<Vec<_>>());
    }
}

#[test]
fn a_norm_beyond_f32_shows_on_every_backend_and_is_not_a_wrong_device() {
    let gpu = gpu();
    // From weights of 0 the loss and every gradient are finite; their squares are not.
    let examples = Examples::new(vec![1e25f32; 12], vec![0, 1, 2, 1], 3, 3).unwrap();
    let mut parameters = Parameters::new(&[3, 3], 0).unwrap();
    parameters.layers[0].values.fill(0.0);
    for (clip_norm, is_finite) in [(None, true), (Some(1.0), false)] {
        let training = training(&examples, 4, PLAIN, clip_norm);
        for (backend, losses, after) in on_every_backend(&gpu, &parameters, &training, 1, 0.1) {
            assert!((losses[0] - 3f32.ln()).abs() <= 1e-6, "{backend}: {losses:?}");
            let mut values = after.layers[0].values.iter();
            assert!(values.all(|value| value.is_finite() == is_finite), "{backend}, {clip_norm:?}: {after:?}");
        }
        let backend = block_on(GpuBackend::new(&gpu, &parameters, &training, Readback::Pipelined)).unwrap();
        train(Verified::new(backend, training, 1, 0), &training, 1, 0.1);
    }
}

#[test]
fn both_backends_refuse_a_norm_that_is_none() {
    let digits = data::digits().unwrap();
    let parameters = Parameters::new(&[64, 10], 0).unwrap();
    let gpu = gpu();
    for norm in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let training = training(&digits.train, 64, PLAIN, Some(norm));
        let on_cpu = CpuBackend::new(&parameters, &training).map(drop).unwrap_err().to_string();
        let on_gpu = block_on(GpuBackend::new(&gpu, &parameters, &training, Readback::Pipelined));
        assert_eq!(on_gpu.map(drop).unwrap_err().to_string(), on_cpu);
        assert!(on_cpu.starts_with(&format!("`clip_norm` {norm}: must be")), "{on_cpu}");
    }
}

#[test]
fn settings_written_before_there_was_clipping_load_without_it() {
    let config = TrainingConfig::default().clip_norm(Some(0.1));
    let text = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<TrainingConfig>(&text).unwrap(), config);
    let mut fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    fields.remove("clip_norm").unwrap();
    let old: TrainingConfig = serde_json::from_value(fields.into()).unwrap();
    assert_eq!(old, TrainingConfig::default());
}

#[test]
fn a_clipped_run_is_another_run_that_goes_on_to_the_same_bits_and_says_its_norm() {
    let folder = tempfile::tempdir().unwrap();
    for backend in ["--backend=cpu", "--backend=gpu"] {
        let train = ["train", "-q", "--data=digits", "--hidden=9", "--epochs=4", "--json", backend];
        let run = |more: &[&str]| softstep(folder.path(), &[&train[..], more].concat());
        let sha256 = |more: &[&str]| run(more).last_json()["parameters_sha256"].clone();
        let clipped = sha256(&["--clip-norm=0.5", "--out=whole"]);
        assert_eq!(clipped, sha256(&["--clip-norm=0.5", "--out=again"]));
        assert_ne!(clipped, sha256(&["--out=unclipped"]));
        let config = std::fs::read_to_string(folder.path().join("whole/config.json")).unwrap();
        assert!(config.contains("\"clip_norm\": 0.5"), "{config}");

        // Its last checkpoint but one, as a run that was killed leaves it.
        let whole = folder.path().join("whole");
        let mut checkpoints: Vec<_> = std::fs::read_dir(&whole)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("checkpoint-"))
            .collect();
        checkpoints.sort();
        assert_eq!(checkpoints.len(), 2);
        std::fs::remove_file(&checkpoints[1]).unwrap();
        std::fs::remove_file(whole.join("model.safetensors")).unwrap();
        let refused = softstep(folder.path(), &["train", "--resume=whole", "--clip-norm=0.25"]);
        assert!(
            refused.code == 1 && refused.stderr.contains("--clip-norm 0.25 conflicts with the run in whole"),
            "{refused:?}"
        );
        let resumed = softstep(folder.path(), &["train", "-q", "--json", "--resume=whole", "--clip-norm=0.5"]);
        assert_eq!(resumed.last_json()["parameters_sha256"], clipped);
        for name in ["whole", "again", "unclipped"] {
            std::fs::remove_dir_all(folder.path().join(name)).unwrap();
        }
    }
}

#[test]
fn only_a_clipped_run_has_the_kernels_of_clipping() {
    let folder = tempfile::tempdir().unwrap();
    let train = ["train", "--data=digits", "--backend=gpu", "--hidden=9", "--epochs=1", "--json", "--profile"];
    let kernels = |more: &[&str]| -> Vec<String> {
        let lines = softstep(folder.path(), &[&train[..], more].concat()).json_lines();
        let profile = lines.into_iter().find(|line| line["event"] == "profile").unwrap();
        let names = profile["kernels"].as_array().unwrap().iter().map(|kernel| kernel["name"].as_str().unwrap().into());
        names.collect()
    };
    let of_clipping = |name: &&String| ["stored", "clip", "squares"].iter().any(|part| name.contains(part));
    let plain = kernels(&[]);
    assert_eq!(plain.iter().find(of_clipping), None);
    let clipped = kernels(&["--clip-norm=1"]);
    let expected = [
        "weight_gradient_stored",
        "sum_of_squares",
        "weight_gradient_stored_from_examples",
        "sum_of_squares",
        "clip_coefficient",
        "clipped_sgd",
        "clipped_sgd",
    ];
    assert_eq!(clipped.iter().filter(of_clipping).collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
    assert_eq!(clipped.len(), plain.len() + 5);
}
