//! Memory of a process that trains and evaluates. The tests have a program of their own: others would change what they
//! measure.

use std::sync::{Mutex, PoisonError};

use pollster::block_on;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use softstep::backend::{Backend, Inference, Step, Training};
use softstep::cpu::CpuModel;
use softstep::data::Examples;
use softstep::gpu::{AdapterChoice, Gpu, GpuBackend, Readback};
use softstep::loss::Loss;
use softstep::model::Parameters;
use softstep::optimizer::TrainingState;
use softstep::trainer::epoch_order;

/// Held by the test that runs: the others would add to what it measures.
static ALONE: Mutex<()> = Mutex::new(());

const FEATURES: usize = 784;
const BATCH_SIZE: usize = 1000;
/// No more than this much is asked of an adapter that allows more.
const LIMIT: u64 = 128 << 20;
/// What training may add to the memory of the process: the rows of some submissions, and the kernels.
const GROWTH: u64 = 128 << 20;

/// One epoch in this order, from a state on; the losses of its steps and the state after them.
fn train(gpu: &Gpu, examples: &Examples, order: &[u32], from: Option<&TrainingState>) -> (Vec<f32>, TrainingState) {
    let training = Training::new(examples, BATCH_SIZE);
    let parameters = Parameters::new(&[FEATURES, 10], 0).unwrap();
    block_on(async {
        let mut backend = GpuBackend::new(gpu, &parameters, &training, Readback::Pipelined).await.unwrap();
        if let Some(state) = from {
            backend.restore(state).unwrap();
        }
        backend.begin_epoch(order).unwrap();
        let mut losses = Vec::new();
        for first in (0..order.len()).step_by(BATCH_SIZE) {
            let batch = BATCH_SIZE.min(order.len() - first);
            backend.step(Step { first, batch, learning_rate: 0.01 }, &mut losses).await.unwrap();
        }
        backend.flush(&mut losses).await.unwrap();
        (losses, backend.state().await.unwrap())
    })
}

/// Bytes of memory that the process has, where the system tells.
fn resident_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kilobytes| 1024 * kilobytes)
}

/// A data set that no buffer of the adapter can hold.
#[test]
fn a_data_set_of_three_times_the_limit_trains_with_the_bits_of_its_parts_one_after_the_other() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let gpu = block_on(Gpu::open(&AdapterChoice::Auto)).expect("the tests need an adapter: see README");
    let limit = LIMIT.min(gpu.limits().max_storage_buffer_binding_size);
    let gpu = gpu.with_resident_bytes(limit);
    let count = (3 * limit) as usize / FEATURES + 1;
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut inputs = vec![0; count * FEATURES];
    random.fill_bytes(&mut inputs);
    let labels: Vec<u32> = (0..count).map(|_| random.next_u32() % 10).collect();
    let examples = Examples::new(inputs, labels, FEATURES, 10).unwrap();
    let order = epoch_order(0, 1, count);

    let memory = resident_memory();
    let (losses, state) = train(&gpu, &examples, &order, None);
    if let (Some(before), Some(after)) = (memory, resident_memory()) {
        let growth = after.saturating_sub(before);
        assert!(growth <= GROWTH, "training on {} bytes took {growth} bytes of memory", 3 * limit);
    }

    // What fits, in whole batches.
    let part = count / 4 / BATCH_SIZE * BATCH_SIZE;
    let (mut expected, mut at) = (Vec::new(), None);
    for order in order.chunks(part) {
        let in_turn: Vec<u32> = (0..order.len() as u32).collect();
        let (losses, state) = train(&gpu, &examples.select(order), &in_turn, at.as_ref());
        expected.extend(losses);
        at = Some(state);
    }
    assert_eq!(losses.len(), count.div_ceil(BATCH_SIZE));
    assert!(losses.iter().all(|loss| loss.is_finite()));
    assert!(losses == expected, "other losses than of the parts");
    assert!(Some(state) == at, "another state than after the parts");
}

#[test]
fn evaluation_of_a_few_examples_of_many_features_takes_no_more_memory_than_they_are_worth() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // A thousand rows of these would be 24 GB.
    let (features, count) = (6_000_000, 3);
    let labels: Vec<u32> = (0..count as u32).map(|label| label % 2).collect();
    let examples = Examples::new(vec![1u8; count * features], labels, features, 2).unwrap();
    let mut backend = CpuModel::new(&Parameters::new(&[features, 2], 0).unwrap(), Loss::default()).unwrap();
    let set = backend.upload(&examples).unwrap();
    assert!(block_on(backend.evaluate(&set)).unwrap().loss.is_finite());
    #[cfg(target_os = "linux")]
    {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).unwrap();
        let kilobytes: u64 = size.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(kilobytes <= 8 << 20, "{kilobytes} kB of address space");
    }
}
