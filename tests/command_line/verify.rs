//! `train --verify` and the known-answer tests of `softstep doctor`: silent on a device that is right, and loud about
//! every bug that is planted in a shader.

use crate::oracle;
use pollster::block_on;
use softstep::backend::{Backend, Step, Training};
use softstep::cpu::CpuBackend;
use softstep::data::{self, Examples};
use softstep::error::Error;
use softstep::gpu::kernels::Matmul;
use softstep::gpu::self_test::self_test;
use softstep::gpu::{AdapterChoice, Gpu, GpuBackend, Readback};
use softstep::model::{Activation, Architecture, Parameters, Shape, parse_layers};
use softstep::optimizer::{AdamW, Lion, Optimizer, Sgd, TrainingState};
use softstep::verify::{Verification, Verified};

const PLAIN: Optimizer = Optimizer::Sgd(Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 });
const MOMENTUM: Optimizer = Optimizer::Sgd(Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 });
const NESTEROV: Optimizer = Optimizer::Sgd(Sgd { momentum: 0.9, nesterov: true, weight_decay: 1e-3 });
const ADAMW: Optimizer = Optimizer::AdamW(AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 });
const LION: Optimizer = Optimizer::Lion(Lion { beta1: 0.9, beta2: 0.99, weight_decay: 0.1 });

fn gpu() -> Gpu {
    block_on(Gpu::open(&AdapterChoice::Auto)).expect("the tests need an adapter: see README")
}

/// Trains on the examples as they stand; gives losses and state.
fn train<B: Backend>(
    backend: &mut B,
    training: &Training<'_>,
    steps: usize,
    rate: f32,
) -> softstep::Result<(Vec<f32>, TrainingState)> {
    let order: Vec<u32> = (0..training.examples.len() as u32).collect();
    let mut losses = Vec::new();
    block_on(async {
        while losses.len() < steps {
            backend.begin_epoch(&order)?;
            let before = losses.len();
            for first in (0..order.len()).step_by(training.batch_size).take(steps - before) {
                let batch = training.batch_size.min(order.len() - first);
                backend.step(Step { first, batch, learning_rate: rate }, &mut losses).await?;
            }
            backend.flush(&mut losses).await?;
        }
        Ok((losses, backend.state().await?))
    })
}

fn on_gpu(gpu: &Gpu, sizes: &[usize], training: &Training<'_>) -> GpuBackend {
    let parameters = Parameters::new(sizes, 3).unwrap();
    block_on(GpuBackend::new(gpu, &parameters, training, Readback::Pipelined)).unwrap()
}

/// A digits run with every `every`-th step verified.
fn verified(
    gpu: &Gpu,
    sizes: &[usize],
    optimizer: Optimizer,
    every: usize,
    steps: usize,
) -> softstep::Result<Verification> {
    let digits = data::digits().unwrap();
    let training = training(&digits.train, 50, optimizer);
    let mut backend = Verified::new(on_gpu(gpu, sizes, &training), training, every, 0);
    train(&mut backend, &training, steps, 0.1)?;
    Ok(backend.verification().unwrap().clone())
}

fn sane(what: &str, found: &Verification, steps: usize) {
    assert_eq!((found.steps, found.worst.len()), (steps, 3), "{what}: {found:?}");
    for (step, deviation) in &found.worst {
        // Rounding shows; a tolerance that it comes nowhere near would let bugs through.
        let excess = deviation.excess();
        assert!((1e-4..=1.0).contains(&excess), "{what}, step {step}: {excess} of the tolerance, {deviation}");
    }
}

/// Training with cross-entropy and without clipping.
fn training(examples: &Examples, batch_size: usize, optimizer: Optimizer) -> Training<'_> {
    Training { optimizer, ..Training::new(examples, batch_size) }
}

#[test]
fn steps_of_every_model_and_optimizer_verify_on_this_adapter_and_the_cpu() {
    let gpu = gpu();
    for sizes in [&[64, 10][..], &[64, 128, 10], &[64, 33, 17, 10]] {
        for optimizer in [PLAIN, MOMENTUM, NESTEROV, ADAMW, LION] {
            for &matmul in gpu.matmul_choices() {
                let gpu = gpu.clone().with_matmul(matmul).unwrap();
                // 29 steps an epoch, the last one ragged.
                sane(
                    &format!("{sizes:?} {optimizer:?} {matmul:?}"),
                    &verified(&gpu, sizes, optimizer, 7, 58).unwrap(),
                    9,
                );
            }
            let digits = data::digits().unwrap();
            let training = training(&digits.train, 50, optimizer);
            let cpu = CpuBackend::new(&Parameters::new(sizes, 3).unwrap(), &training).unwrap();
            let mut backend = Verified::new(cpu, training, 7, 0);
            train(&mut backend, &training, 58, 0.1).unwrap();
            sane(&format!("{sizes:?} {optimizer:?} CPU"), backend.verification().unwrap(), 9);
        }
    }
}

#[test]
fn clipped_steps_verify_on_this_adapter_and_the_cpu() {
    let (gpu, digits) = (gpu(), data::digits().unwrap());
    for (sizes, optimizer) in [(&[64, 10][..], PLAIN), (&[64, 33, 17, 10], NESTEROV), (&[64, 128, 10], ADAMW)] {
        // In most steps, in some, in none.
        for clip_norm in [0.1, 1.0, 1e6].map(Some) {
            let training = Training { clip_norm, ..training(&digits.train, 50, optimizer) };
            let name = format!("{sizes:?} {optimizer:?} clipped to {clip_norm:?}");
            for &matmul in gpu.matmul_choices() {
                let gpu = gpu.clone().with_matmul(matmul).unwrap();
                let mut backend = Verified::new(on_gpu(&gpu, sizes, &training), training, 7, 0);
                train(&mut backend, &training, 58, 0.1).unwrap();
                sane(&format!("{name} {matmul:?}"), backend.verification().unwrap(), 9);
            }
            let cpu = CpuBackend::new(&Parameters::new(sizes, 3).unwrap(), &training).unwrap();
            let mut backend = Verified::new(cpu, training, 7, 0);
            train(&mut backend, &training, 58, 0.1).unwrap();
            sane(&format!("{name} CPU"), backend.verification().unwrap(), 9);
        }
    }
}

/// Bugs of clipping: a kernel, text of a shader, what takes its place.
const CLIPPING_BUGS: [(&str, &str, &str); 5] = [
    ("weight_gradient_stored", "gradient[at] = d_weights;", "gradient[at] = d_weights * select(1.0, 1.01, at == 40u);"),
    ("sum_of_squares", "+ squares.w, index);", "+ select(squares.w, 0.0, index == 5u), index);"),
    ("clip_coefficient", "clip = MAX_NORM / limit;", "clip = 1.001 * MAX_NORM / limit;"),
    ("clip_coefficient", "sums[at] = 0.0;", "sums[at] = 0.001;"),
    ("clipped_", "coefficient[0] * gradient[at]);", "coefficient[0] * gradient[at ^ select(0u, 4u, at == 40u)]);"),
];

#[test]
fn a_bug_in_any_kernel_of_clipping_is_caught_by_the_known_answers_and_by_verification() {
    let digits = data::digits().unwrap();
    let training = Training { clip_norm: Some(0.1), ..training(&digits.train, 50, MOMENTUM) };
    for (kernel, text, other) in CLIPPING_BUGS {
        let gpu = gpu().with_patched_shaders(text, other);
        let tests = block_on(self_test(&gpu, &[Matmul::Plain])).unwrap();
        let failed: Vec<_> = tests.iter().filter(|test| !test.passed()).map(|test| test.kernel).collect();
        assert!(!failed.is_empty(), "{other}: not caught");
        assert!(failed.iter().any(|failed| failed.starts_with(kernel)), "{other}: {failed:?} are blamed");
        let mut backend = Verified::new(on_gpu(&gpu, &[64, 33, 10], &training), training, 1, 0);
        let error = train(&mut backend, &training, 10, 0.1).map(drop);
        let Err(Error::WrongStep { step, deviation, .. }) = error else { panic!("{other}: {error:?}") };
        assert!(step <= 2 && deviation.tensor.starts_with("the clipped gradient"), "{other}, step {step}: {deviation}");
    }
}

#[test]
fn a_clipped_run_that_diverges_is_not_a_wrong_device() {
    let examples: Examples = oracle::random_examples(64, 9, 4, 1);
    for rate in [1e15, 1e20, 1e30] {
        let training = Training { clip_norm: Some(1.0), ..training(&examples, 32, MOMENTUM) };
        let mut backend = Verified::new(on_gpu(&gpu(), &[9, 8, 4], &training), training, 1, 0);
        train(&mut backend, &training, 30, rate).unwrap();
    }
}

#[test]
fn steps_on_float_features_verify_on_this_adapter_and_the_cpu() {
    let examples = oracle::random_floats(130, 21, 5, 4);
    let training = training(&examples, 50, NESTEROV);
    let sizes = [21, 17, 5];
    let gpu = gpu();
    for &matmul in gpu.matmul_choices() {
        let gpu = gpu.clone().with_matmul(matmul).unwrap();
        let mut backend = Verified::new(on_gpu(&gpu, &sizes, &training), training, 1, 0);
        train(&mut backend, &training, 9, 0.1).unwrap();
        sane(&format!("floats {matmul:?}"), backend.verification().unwrap(), 9);
    }
    let cpu = CpuBackend::new(&Parameters::new(&sizes, 3).unwrap(), &training).unwrap();
    let mut backend = Verified::new(cpu, training, 1, 0);
    train(&mut backend, &training, 9, 0.1).unwrap();
    sane("floats, CPU", backend.verification().unwrap(), 9);
}

#[test]
fn steps_with_every_activation_verify_on_this_adapter_and_the_cpu() {
    let (gpu, digits) = (gpu(), data::digits().unwrap());
    let training = training(&digits.train, 50, MOMENTUM);
    for activation in Activation::ALL {
        for sizes in [&[64, 128, 10][..], &[64, 33, 17, 10]] {
            let parameters = Parameters::with_activation(sizes, activation, 3).unwrap();
            let mut cpu = Verified::new(CpuBackend::new(&parameters, &training).unwrap(), training, 7, 0);
            train(&mut cpu, &training, 58, 0.1).unwrap();
            sane(&format!("{activation} {sizes:?} CPU"), cpu.verification().unwrap(), 9);
            let backend = block_on(GpuBackend::new(&gpu, &parameters, &training, Readback::Pipelined)).unwrap();
            let mut backend = Verified::new(backend, training, 7, 0);
            train(&mut backend, &training, 58, 0.1).unwrap();
            sane(&format!("{activation} {sizes:?}"), backend.verification().unwrap(), 9);
        }
    }
}

#[test]
fn a_wrong_derivative_of_any_activation_is_caught_by_verification() {
    let digits = data::digits().unwrap();
    let training = training(&digits.train, 50, MOMENTUM);
    for (activation, text, other) in [
        (Activation::Relu, "select(vec4<f32>(0.0), d_output, output > vec4<f32>(0.0))", "d_output"),
        (Activation::Sigmoid, "(output * (1.0 - output))", "(output * (1.01 - output))"),
        (Activation::Tanh, "((1.0 - output) * (1.0 + output))", "((1.0 - output) * (1.01 + output))"),
        (Activation::Gelu, "(1.0 + 3.0 * square)", "(1.0 + 2.8 * square)"),
        (Activation::LeakyRelu, "select(LEAK * d_output", "select(0.02 * d_output"),
    ] {
        let gpu = gpu().with_patched_shaders(text, other);
        let parameters = Parameters::with_activation(&[64, 33, 10], activation, 3).unwrap();
        let backend = block_on(GpuBackend::new(&gpu, &parameters, &training, Readback::Pipelined)).unwrap();
        let error = train(&mut Verified::new(backend, training, 100, 0), &training, 10, 0.1);
        assert!(matches!(error, Err(Error::WrongStep { step: 1, .. })), "{activation}: {error:?}");
    }
}

#[test]
fn a_run_to_the_end_verifies_when_gradients_have_all_but_vanished() {
    let found = verified(&gpu(), &[64, 128, 10], MOMENTUM, 30, 1500).unwrap();
    assert_eq!(found.steps, 50);
}

#[test]
fn verification_changes_no_bit_of_the_run() {
    let digits = data::digits().unwrap();
    let gpu = gpu();
    let training = training(&digits.train, 64, NESTEROV);
    let sizes = [64, 31, 10];
    let plain = train(&mut on_gpu(&gpu, &sizes, &training), &training, 60, 0.1).unwrap();
    let mut backend = Verified::new(on_gpu(&gpu, &sizes, &training), training, 3, 0);
    assert_eq!(train(&mut backend, &training, 60, 0.1).unwrap(), plain);
    assert_eq!(backend.verification().unwrap().steps, 20);
}

#[test]
fn a_run_that_diverges_is_not_a_wrong_device() {
    let examples: Examples = oracle::random_examples(64, 9, 4, 1);
    let training = training(&examples, 32, MOMENTUM);
    let mut backend = Verified::new(on_gpu(&gpu(), &[9, 8, 4], &training), training, 1, 0);
    let (losses, _) = train(&mut backend, &training, 30, 1e30).unwrap();
    assert!(losses.iter().any(|loss| !loss.is_finite()), "{losses:?}");
}

/// Bugs, each in one element of one kernel: a name, text of a shader, what takes its place, and the model that shows it.
const BUGS: [(&str, &str, &str, &[usize]); 7] = [
    (
        "forward",
        "    outputs[at] = output;",
        "    let is_wrong = at == 9u * OUTPUT_BLOCKS + 1u;
         outputs[at] = output + select(vec4<f32>(0.0), vec4<f32>(0.0, 0.01, 0.0, 0.0), is_wrong);",
        &[64, 33, 10],
    ),
    ("cross_entropy, loss", "+ (largest - logit);", "+ (largest - logit) + select(0.0, 0.01, row == 3u);", &[64, 10]),
    (
        "cross_entropy, gradient",
        "/ f32(batch_size());",
        "/ f32(batch_size()) * select(1.0, 1.01, row == 4u && block == 1u);",
        &[64, 10],
    ),
    (
        "input_gradient",
        "= select(vec4<f32>(0.0), d_input, is_input);",
        "= select(vec4<f32>(0.0), d_input, is_input)
            * select(1.0, 1.01, start.x + block == 5u * D_INPUT_EXAMPLE + 2u);",
        &[64, 33, 10],
    ),
    (
        "weight_gradient",
        "update(at, sums[0]);",
        "update(at, sums[0] + vec4<f32>(0.0, 0.0, select(0.0, 0.001, row_block == 3u && column_block == 1u), 0.0));",
        &[64, 10],
    ),
    (
        "sgd",
        "weights[at] = weight - step.learning_rate * direction;",
        "weights[at] = weight - step.learning_rate * direction * select(1.0, 1.01, at == 32u);",
        &[64, 10],
    ),
    (
        "sgd, velocity",
        "velocity[at] = direction;",
        "velocity[at] = direction + select(0.0, 0.001, at == 33u);",
        &[64, 10],
    ),
];

#[test]
fn the_known_answers_come_out_on_this_adapter_for_every_kernel() {
    let gpu = gpu();
    let tests = block_on(self_test(&gpu, gpu.matmul_choices())).unwrap();
    for test in &tests {
        assert!(test.passed() && test.worst.excess() <= 0.5, "{} {:?}: {}", test.kernel, test.matmul, test.worst);
    }
    // Every program of the library that this adapter can run.
    let tested: std::collections::BTreeSet<_> = tests.iter().map(|test| test.kernel).collect();
    for program in softstep::gpu::kernels::programs() {
        let needs_subgroups = program.name.starts_with("forward_with_");
        assert!(
            tested.contains(program.name) || (needs_subgroups && gpu.matmul_choices().len() < 3),
            "{} has no known-answer test",
            program.name
        );
    }
}

#[test]
fn a_bug_in_one_element_of_any_kernel_is_caught_by_the_known_answers() {
    for (name, text, other, _) in BUGS {
        let gpu = gpu().with_patched_shaders(text, other);
        let tests = block_on(self_test(&gpu, &[Matmul::Plain])).unwrap();
        let kernel = name.split(',').next().unwrap();
        let failed: Vec<_> = tests.iter().filter(|test| !test.passed()).collect();
        assert!(!failed.is_empty(), "{name}: not caught");
        let suspects = if kernel == "sgd" { "weight_gradient" } else { kernel };
        for test in failed {
            assert!(
                test.kernel.starts_with(suspects)
                    || (suspects == "weight_gradient" && test.kernel.starts_with("sum_parts"))
                    || (kernel == "sgd" && test.kernel == "clipped_sgd")
                    || (kernel == "cross_entropy" && test.kernel.contains("with_cross_entropy"))
                    || (kernel == "cross_entropy" && test.kernel == "evaluate_cross_entropy"),
                "{name}: {} is blamed: {}",
                test.kernel,
                test.worst
            );
        }
    }
}

#[test]
fn a_bug_in_one_way_to_multiply_matrices_is_caught_there() {
    let gpu = gpu().with_patched_shaders(
        "lower = multiply_add(load_a(lower_at, k), b, lower);",
        "lower = multiply_add(load_a(lower_at, min(k, 15u)), b, lower);",
    );
    let mut wrong = Vec::new();
    for test in block_on(self_test(&gpu, gpu.matmul_choices())).unwrap() {
        if test.matmul == Some(Matmul::Plain) && !test.passed() {
            wrong.push(test.kernel);
        }
        let others = [Matmul::Workgroup, Matmul::Subgroup, Matmul::Narrow];
        let is_of_another = test.matmul.is_some_and(|matmul| others.contains(&matmul));
        assert!(!is_of_another || test.passed(), "{} {:?}: {}", test.kernel, test.matmul, test.worst);
    }
    // The products that are deep enough.
    for kernel in ["forward_relu", "forward_relu_from_examples", "weight_gradient_sgd"] {
        assert!(wrong.contains(&kernel), "{kernel} is not among {wrong:?}");
    }
}

/// Bugs of convolutions on software adapters: the kernel that shows it, text of a shader, and what takes its place.
const SLIDING_BUGS: [(&str, &str, &str); 5] = [
    ("forward_from_patches", "a_at += TAP_STEP;", "a_at += TAP_STEP + 1u;"),
    ("forward_from_patches", "sums._7 = fma(a._1.wwww, b, c._7);", "sums._7 = fma(a._1.zwww, b, c._7);"),
    ("input_gradient", "sums._7 = multiply_add_row(a._7, b, c._7);", "sums._7 = multiply_add_row(a._6, b, c._7);"),
    ("weight_gradient_stored_from_patches", "bias += b[0] + b[1]", "bias += b[1] + b[1]"),
    ("weight_gradient_stored_from_patches", "a_of_lanes(a, from_lane + TAP_LANES)", "a_of_lanes(a, from_lane)"),
];

#[test]
fn a_bug_in_a_convolution_on_software_adapters_is_caught_there() {
    if !gpu().matmul_choices().contains(&Matmul::Subgroup) {
        return;
    }
    for (kernel, text, other) in SLIDING_BUGS {
        let gpu = gpu().with_patched_shaders(text, other);
        let failed: Vec<_> = block_on(self_test(&gpu, &[Matmul::Subgroup])).unwrap();
        let failed: Vec<_> = failed.iter().filter(|test| !test.passed()).map(|test| test.kernel).collect();
        assert!(failed.contains(&kernel), "{other}: {failed:?} are blamed");
    }
}

#[test]
fn a_bug_in_one_element_of_any_kernel_is_caught_by_verification_at_its_first_step() {
    for (name, text, other, sizes) in BUGS {
        let gpu = gpu().with_patched_shaders(text, other);
        let Err(Error::WrongStep { step, deviation, .. }) = verified(&gpu, sizes, MOMENTUM, 100, 10) else {
            panic!("{name}: not caught");
        };
        assert_eq!(step, 1, "{name}");
        assert!(deviation.excess() > 1.0, "{name}: {deviation}");
        match name {
            "cross_entropy, loss" => assert_eq!(deviation.tensor, "loss"),
            // Elements of a 65 × 10 matrix in rows of 3 blocks.
            "sgd" => assert_eq!((&*deviation.tensor, deviation.at[0]), ("the parameters of layer 1 of 1", 10)),
            "sgd, velocity" => assert_eq!((&*deviation.tensor, deviation.at[0]), ("the gradient of layer 1 of 1", 11)),
            "weight_gradient" => assert_eq!(deviation.at, [12, 6], "{deviation}"),
            // A hidden layer that is wrong shows in the loss, where that is bounded more tightly than its gradients.
            _ if name.starts_with("forward") && deviation.tensor == "loss" => {}
            _ => assert!(deviation.tensor.starts_with("the gradient"), "{name}: {deviation}"),
        }
    }
}

#[test]
fn a_breach_names_step_adapter_element_and_both_values() {
    let (_, text, other, sizes) = BUGS[4];
    // The bug sleeps until the learning rate says wake up.
    let other = other.replace("row_block == 3u", "row_block == 3u && step.learning_rate < 0.05");
    let digits = data::digits().unwrap();
    let training = training(&digits.train, 50, PLAIN);
    let gpu = gpu().with_patched_shaders(text, &other);
    let mut backend = Verified::new(on_gpu(&gpu, sizes, &training), training, 4, 20);
    train(&mut backend, &training, 8, 0.1).unwrap();
    let message = train(&mut backend, &training, 8, 0.01).unwrap_err().to_string();
    for part in ["step 29 is wrong", &gpu.info().name, "gradient of layer 1", "[12, 6]", "is not", "doctor"] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

/// Bugs of the kernels of layers that are not linear: how the name of a kernel starts that shows it, text of a shader, and
/// what takes its place.
const LAYER_BUGS: [(&str, &str, &str); 9] = [
    ("gather_images", "value_in_row(source, y, first + 2u, end)", "value_in_row(source, y, first + 1u, end)"),
    ("forward_", "return tensor[at];", "return 1.01 * tensor[at];"),
    ("input_gradient", "let tap = KERNEL * KERNEL - 1u - k / OUTPUT_BLOCKS;", "let tap = k / OUTPUT_BLOCKS;"),
    (
        "sum_parts",
        "part < PARTS; part++) {\n            sum += parts[",
        "part + 1u < PARTS; part++) {\n            sum += parts[",
    ),
    ("max_pool", "(window_at(place) + block).values;", "(window_at(place) + block).values + 0.01;"),
    ("max_pool_backward", "d_outputs[output_at(place) + block]", "1.5 * d_outputs[output_at(place) + block]"),
    ("batch_statistics", "CHANNEL_BLOCKS + block] = mean;", "CHANNEL_BLOCKS + block] = mean + 0.01;"),
    ("batch_norm_input_gradient", "- d_weights[CHANNEL_BLOCKS + block] / pixels - along;", "- along;"),
    ("dropout", "activate(passed_on(pixel, block), at));", "activate(1.01 * passed_on(pixel, block), at));"),
];

#[test]
fn a_bug_in_any_kernel_of_a_layer_is_caught_by_the_known_answers_and_by_verification() {
    let shape = Shape::Image { height: 6, width: 6, channels: 1 };
    let layers = "conv:6x3,batchnorm,relu,pool:2,conv:5x3,gelu,dropout:0.25,linear:10";
    let architecture = Architecture::new(shape, parse_layers(layers).unwrap()).unwrap();
    let parameters = oracle::random_model(&architecture, 3);
    let examples: Examples = oracle::random_examples(60, 36, 10, 1);
    let training = training(&examples, 30, MOMENTUM);
    for (kernel, text, other) in LAYER_BUGS {
        let gpu = gpu().with_patched_shaders(text, other);
        let backend = block_on(GpuBackend::new(&gpu, &parameters, &training, Readback::Pipelined)).unwrap();
        let error = train(&mut Verified::new(backend, training, 1, 0), &training, 2, 0.1).map(drop);
        assert!(matches!(error, Err(Error::WrongStep { step: 1, .. })), "{other}: {error:?}");
        let tests = block_on(self_test(&gpu, &[Matmul::Plain])).unwrap();
        let failed: Vec<_> = tests.iter().filter(|test| !test.passed()).map(|test| test.kernel).collect();
        assert!(failed.iter().any(|failed| failed.starts_with(kernel)), "{other}: {failed:?} are blamed");
    }
}

#[test]
fn a_bug_in_what_shards_share_of_a_batch_is_caught_by_verification() {
    let shape = Shape::Image { height: 6, width: 6, channels: 1 };
    let architecture = Architecture::new(shape, parse_layers("conv:6x3,batchnorm,relu,linear:10").unwrap()).unwrap();
    let parameters = oracle::random_model(&architecture, 3);
    let examples: Examples = oracle::random_examples(60, 36, 10, 1);
    let training = Training { shards: 4, ..training(&examples, 30, MOMENTUM) };
    for (text, other) in [
        ("squares += distance * distance;", "squares += 1.1 * distance * distance;"),
        ("sums[CHANNEL_BLOCKS + block] - off", "2.0 * sums[CHANNEL_BLOCKS + block] - off"),
        ("let pixels = f32(batch_size() * PIXELS);", "let pixels = f32(step.batch * PIXELS);"),
    ] {
        let gpu = gpu().with_patched_shaders(text, other);
        let backend = block_on(GpuBackend::new(&gpu, &parameters, &training, Readback::Pipelined)).unwrap();
        let error = train(&mut Verified::new(backend, training, 1, 0), &training, 2, 0.1).map(drop);
        assert!(matches!(error, Err(Error::WrongStep { step: 1, .. })), "{other}: {error:?}");
    }
}
