//! What the driver compiled, kept in a file. Where the adapter does not support that, there is nothing to test, and the
//! test says so.

use std::fs;
use std::path::{Path, PathBuf};

use softstep::backend::{Backend, Inference, Step, Training};
use softstep::data;
use softstep::gpu::{AdapterChoice, Gpu, GpuBackend, Readback};
use softstep::model::Parameters;

#[test]
fn a_cache_file_may_be_missing_damaged_or_another_adapters_and_results_stay_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let gpu = pollster::block_on(Gpu::open(&AdapterChoice::Auto)).expect("the tests need an adapter: see README");
    if !gpu.device.features().contains(wgpu::Features::PIPELINE_CACHE) {
        eprintln!("skipped: adapter {} has no pipeline cache", gpu.info().name);
        return;
    }
    let expected = train(folder.path());
    let file = only_file(folder.path());
    let whole = fs::read(&file).unwrap();
    assert!(whole.len() > 32, "a hash and what wgpu gave");

    let mut flipped = whole.clone();
    flipped[40] ^= 1;
    let mut lying = whole.clone(); // a sound hash of what wgpu never gave
    lying.truncate(32);
    lying.extend(b"no pipelines at all");
    let hash = <sha2::Sha256 as sha2::Digest>::digest(&lying[32..]);
    lying[..32].copy_from_slice(&hash);
    for damaged in [flipped, lying, whole[..20].to_vec(), Vec::new(), vec![7; 4096]] {
        fs::write(&file, &damaged).unwrap();
        assert_eq!(train(folder.path()), expected);
        assert_eq!(fs::read(&file).unwrap().len(), whole.len(), "the damaged file of {} bytes stayed", damaged.len());
    }
    assert_eq!(train(folder.path()), expected);

    fs::remove_dir_all(folder.path()).unwrap();
    fs::write(folder.path(), "in the way").unwrap();
    assert_eq!(train(folder.path()), expected, "where no file can be");
    fs::remove_file(folder.path()).unwrap();
}

/// The parameters after a step, by their hash.
fn train(cache: &Path) -> String {
    pollster::block_on(async {
        let gpu = Gpu::open(&AdapterChoice::Auto).await.unwrap().with_pipeline_cache(cache);
        let data = data::digits().unwrap();
        let parameters = Parameters::new(&[data.train.features, 10], 0).unwrap();
        let training = Training::new(&data.train, 5);
        let mut backend = GpuBackend::new(&gpu, &parameters, &training, Readback::Pipelined).await.unwrap();
        backend.begin_epoch(&[3, 1, 4, 0, 5]).unwrap();
        let mut losses = Vec::new();
        backend.step(Step { first: 0, batch: 5, learning_rate: 0.1 }, &mut losses).await.unwrap();
        backend.flush(&mut losses).await.unwrap();
        backend.parameters().await.unwrap().sha256()
    })
}

fn only_file(folder: &Path) -> PathBuf {
    let files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}
