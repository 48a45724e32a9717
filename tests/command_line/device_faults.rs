//! Faults of devices: each ends in an error of its own kind, and never in a panic.

use std::time::{Duration, Instant};

use crate::binary;
use crate::oracle;
use pollster::block_on;
use softstep::Error;
use softstep::backend::{Backend, Inference, Step, Training};
use softstep::data::{self, Examples};
use softstep::gpu::{AdapterChoice, Gpu, GpuBackend, Readback};
use softstep::model::{Activation, Architecture, Parameters};
use softstep::optimizer::Sgd;
use softstep::plan::Plan;

fn gpu() -> Gpu {
    block_on(Gpu::open(&AdapterChoice::Auto)).expect("the tests need an adapter: see README")
}

fn backend(gpu: &Gpu, sizes: &[usize], examples: &Examples, batch_size: usize) -> softstep::Result<GpuBackend> {
    clipped_backend(gpu, sizes, examples, batch_size, None)
}

fn clipped_backend(
    gpu: &Gpu,
    sizes: &[usize],
    examples: &Examples,
    batch_size: usize,
    clip_norm: Option<f32>,
) -> softstep::Result<GpuBackend> {
    let training = Training {
        optimizer: Sgd { momentum: 0.9, ..Sgd::default() }.into(),
        clip_norm,
        ..Training::new(examples, batch_size)
    };
    block_on(GpuBackend::new(gpu, &Parameters::new(sizes, 1)?, &training, Readback::Pipelined))
}

/// `steps` steps on batches of 8, as far as they go.
fn train(backend: &mut GpuBackend, steps: usize, losses: &mut Vec<f32>) -> softstep::Result<()> {
    (0..steps)
        .try_for_each(|index| block_on(backend.step(Step { first: 8 * index, batch: 8, learning_rate: 0.1 }, losses)))
}

#[test]
fn a_device_lost_mid_run_is_noticed_by_everything_that_uses_it() {
    let digits = data::digits().unwrap();
    let order: Vec<u32> = (0..1438).collect();
    let start = |sizes| {
        let gpu = gpu();
        let mut backend = backend(&gpu, sizes, &digits.train, 8).unwrap();
        let set = backend.upload(&digits.test).unwrap();
        backend.begin_epoch(&order).unwrap();
        train(&mut backend, 20, &mut Vec::new()).unwrap();
        gpu.device.destroy();
        (backend, set)
    };
    type Use = fn(&mut GpuBackend, &softstep::gpu::Set, &Examples) -> softstep::Result<()>;
    let uses: [(&str, Use); 7] = [
        // It shows at a submission, once none is under way any more.
        ("forty steps", |backend, _, _| train(backend, 40, &mut Vec::new())),
        ("finish", |backend, _, _| block_on(backend.flush(&mut Vec::new()))),
        ("evaluate", |backend, set, _| block_on(backend.evaluate(set)).map(drop)),
        ("probabilities", |backend, set, _| block_on(backend.probabilities(set)).map(drop)),
        ("parameters", |backend, _, _| block_on(backend.parameters()).map(drop)),
        ("state", |backend, _, _| block_on(backend.state()).map(drop)),
        ("upload", |backend, _, examples| backend.upload(examples).map(drop)),
    ];
    for (name, work) in uses {
        let (mut backend, set) = start(&[64, 9, 10]);
        for _ in 0..2 {
            match work(&mut backend, &set, &digits.test) {
                Err(error @ Error::DeviceLost { .. }) => {
                    let message = error.to_string();
                    assert!(message.contains("was lost") && message.contains("`Device::cpu()`"), "{name}: {message}");
                }
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_kernel_that_does_not_compile_is_named_with_the_compilers_reason() {
    let digits = data::digits().unwrap();
    let gpu = gpu().with_patched_shaders("fn update(at: u32,", "fn update(at: nonsense,");
    let Err(error @ Error::Gpu { .. }) = backend(&gpu, &[64, 10], &digits.train, 8) else { panic!("it compiled") };
    let message = error.to_string();
    assert!(message.contains("kernel weight_gradient_sgd_from_examples") && message.contains("nonsense"), "{message}");
    assert!(!message.contains('\n'), "{message}");
}

#[test]
fn a_hang_is_an_error_after_the_time_out_and_not_before() {
    let digits = data::digits().unwrap();
    // Every invocation counts for a while first. (Mesa's software adapter ends a loop after 65,535 rounds.)
    let slow = "var spins = at;
        for (var i = 0u; i < 100000000u; i++) {
            spins = (spins * 1664525u + i) ^ (spins >> 7u);
            spins = (spins * 1664525u + i) ^ (spins >> 5u);
            spins = (spins * 1664525u + i) ^ (spins >> 3u);
        }
        let weight = weights[at] + f32(spins) * 1e-30;";
    let timeout = Duration::from_millis(50);
    let gpu = gpu().with_patched_shaders("let weight = weights[at];", slow).with_timeout(timeout);
    let mut backend = backend(&gpu, &[64, 16384, 10], &digits.train, 8).unwrap();
    backend.begin_epoch(&[0, 1, 2]).unwrap();
    block_on(backend.step(Step { first: 0, batch: 3, learning_rate: 0.1 }, &mut Vec::new())).unwrap();
    let started = Instant::now();
    let result = block_on(backend.flush(&mut Vec::new()));
    let waited = started.elapsed();
    let Err(error @ Error::DeviceHung { .. }) = result else { panic!("{result:?}") };
    assert!(error.to_string().contains("nothing came back for 0.05 s"), "{error}");
    assert!(waited >= timeout && waited < 10 * timeout, "{waited:?}");
    // From here on it is given up at once.
    assert!(matches!(block_on(backend.parameters()), Err(Error::DeviceHung { .. })));
    drop((backend, gpu));
    assert!(started.elapsed() < 10 * timeout, "dropping it waited for the device");
}

#[test]
fn memory_that_is_not_there_is_refused_by_name() {
    let gpu = gpu();
    let most = gpu.limits().max_storage_buffer_binding_size;
    let mut held = Vec::new();
    // 4 TB: more than any adapter has, and more than Mesa's software adapter would refuse by itself.
    for _ in 0..(4u64 << 40) / most {
        match gpu.buffer("the great unknown", most, wgpu::BufferUsages::STORAGE) {
            Ok(buffer) => held.push(buffer),
            Err(error @ Error::DeviceMemory { .. }) => {
                let message = error.to_string();
                assert!(message.contains("the great unknown") && message.contains(&most.to_string()), "{message}");
                return;
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("{} buffers of {most} bytes were granted", held.len());
}

#[test]
fn what_exceeds_a_limit_is_refused_with_the_number_and_the_setting_to_change() {
    let gpu = gpu();
    let limits = gpu.limits();
    let most = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size) as usize;
    let few = oracle::random_examples(8, 3, 2, 0);
    let refused = |sizes: &[usize], batch_size: usize, parts: [&str; 3]| {
        let Err(Error::Invalid(message)) = backend(&gpu, sizes, &few, batch_size) else {
            panic!("accepted: {parts:?}")
        };
        assert!(parts.iter().all(|part| message.contains(part)), "{parts:?}: {message}");
        assert!(message.chars().any(|character| character.is_ascii_digit()), "{message}");
    };
    refused(&[3, 2], most / 16 + 4, ["the logits", "smaller `batch_size`", &most.to_string()]);
    refused(&[3, 4, 2], most / 20, ["activations", "smaller `batch_size`", "`hidden`"]);
    refused(&[3, most / 16 + 4, 2], 8, ["weights", "use smaller `hidden`", &most.to_string()]);
    refused(&[3, 2], usize::MAX, ["`batch_size`", "smaller", "18446744073709551615"]);
    // Fits the buffers, but not the grid.
    let workgroups = limits.max_compute_workgroups_per_dimension as usize;
    let batch = 64 * (workgroups + 1);
    if 32 * batch <= most {
        refused(&[3, 2], batch, ["workgroups", "`batch_size`", &workgroups.to_string()]);
    }
}

#[test]
fn work_is_split_into_short_submissions_without_changing_a_bit() {
    let digits = data::digits().unwrap();
    let order: Vec<u32> = (0..1438).collect();
    let run = |gpu: Gpu, clip_norm| {
        let mut backend = clipped_backend(&gpu, &[64, 33, 17, 10], &digits.train, 8, clip_norm).unwrap();
        let set = backend.upload(&digits.test).unwrap();
        backend.begin_epoch(&order).unwrap();
        let mut losses = Vec::new();
        train(&mut backend, 30, &mut losses).unwrap();
        block_on(backend.flush(&mut losses)).unwrap();
        let evaluation = block_on(backend.evaluate(&set)).unwrap();
        (losses, block_on(backend.state()).unwrap(), evaluation)
    };
    let whole = run(gpu(), None);
    let clipped = run(gpu(), Some(0.3));
    assert_eq!(whole.0.len(), 30);
    assert_ne!(clipped, whole);
    // Three steps, one step, one kernel at a time in two parts, and in as many as there are; then evaluation goes by 4
    // rows.
    let architecture = Architecture::dense(&[64, 33, 17, 10], Activation::Relu).unwrap();
    let step = Plan::new(&architecture).step_operations(8);
    for operations in [3 * step, step, step / 2 + 1, 1] {
        let split = || gpu().with_submission_operations(operations);
        assert_eq!(run(split(), None), whole, "{operations} operations");
        assert_eq!(run(split(), Some(0.3)), clipped, "{operations} operations, clipped");
    }
}

#[test]
fn the_command_refuses_what_the_adapter_does_not_allow_and_leaves_no_run_folder() {
    let folder = tempfile::tempdir().unwrap();
    let train = ["train", "--data", "digits", "--backend", "gpu", "--epochs", "1", "--hidden"];
    let gpu = gpu();
    let most = gpu.limits().max_storage_buffer_binding_size.min(gpu.limits().max_buffer_size);
    // Weights of [65, hidden], and activations of [1438, hidden], too large for a buffer.
    let (wide, high) = ((most / (4 * 65) + 4).to_string(), (most / (4 * 1438) + 4).to_string());
    for (settings, flag) in [
        (&[wide.as_str()][..], "use smaller --hidden"),
        (&[&high, "--batch-size", "1438"], "use a smaller --batch-size"),
    ] {
        let run = binary::softstep(folder.path(), &[&train[..], settings].concat());
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{run:?}");
        assert!(run.stderr.contains("error: ") && run.stderr.contains(flag), "{run:?}");
        assert!(!run.stderr.contains("panicked") && run.stderr.contains(" bytes"), "{run:?}");
        assert!(!folder.path().join("runs").exists(), "{run:?}");
    }
}

#[test]
fn the_same_command_gives_the_same_bits_in_another_process_on_the_same_adapter() {
    let folder = tempfile::tempdir().unwrap();
    let train = |seed| {
        let train = ["train", "--data", "digits", "--backend", "gpu", "--hidden", "33", "--epochs", "2", "--json"];
        let done = binary::softstep(folder.path(), &[&train[..], &["--seed", seed]].concat()).last_json();
        let metrics = folder.path().join(done["out"].as_str().unwrap()).join("metrics.jsonl");
        (done["parameters_sha256"].clone(), std::fs::read(metrics).unwrap())
    };
    let first = train("3");
    assert_eq!(first, train("3"));
    assert_ne!(first.0, train("4").0);
}
