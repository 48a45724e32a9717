//! File cache of compiled pipelines: if the driver supports it, later starts compile nothing.
//!
//! There is one file for each kind of adapter, `[SHA-256 of the rest][data from wgpu]`. A file with another hash is not
//! used, and wgpu and the driver check that the rest is theirs. The file may be deleted at any time.

use std::io::Write;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

const HASH_BYTES: usize = 32;

/// A pipeline cache with its file, which is written when the last clone of the device is dropped.
pub(super) struct PipelineCache {
    pub cache: wgpu::PipelineCache,
    path: PathBuf,
    loaded: Option<Vec<u8>>,
}

impl PipelineCache {
    /// Loads the file if it is there.
    pub fn open(device: &wgpu::Device, path: PathBuf) -> Self {
        let loaded = read(&path);
        // SAFETY: the data come from `get_data`, as far as a hash can tell, and from an adapter with the same key.
        #[allow(unsafe_code)]
        let cache = unsafe {
            device.create_pipeline_cache(&wgpu::PipelineCacheDescriptor {
                label: Some("softstep"),
                data: loaded.as_deref(),
                fallback: true,
            })
        };
        Self { cache, path, loaded }
    }
}

impl Drop for PipelineCache {
    fn drop(&mut self) {
        if let Some(data) = self.cache.get_data()
            && self.loaded.as_ref() != Some(&data)
            && let Err(error) = write(&self.path, &data)
        {
            log::info!("cannot keep compiled kernels in {}: {error}", self.path.display());
        }
    }
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = std::fs::read(path).ok()?;
    let hash: Vec<u8> = bytes.drain(..HASH_BYTES.min(bytes.len())).collect();
    if hash != Sha256::digest(&bytes)[..] {
        log::info!("{} is damaged: kernels are compiled anew", path.display());
        return None;
    }
    Some(bytes)
}

/// Writes the file atomically, through a temporary file.
fn write(path: &Path, data: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&Sha256::digest(data))?;
    file.write_all(data)?;
    file.persist(path)?;
    Ok(())
}
