//! `.lock`: the exclusive lock of a run on its folder. The system releases the lock of a dead process.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Result, bail};
use softstep::Error;

use crate::run::files::open_own;

/// Name of the file.
pub const LOCK: &str = ".lock";

/// Locks a folder for this process.
pub fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    let file = open_own(&path, OpenOptions::new().write(true).create(true).truncate(false));
    let file = file.map_err(Error::io("open", &path))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            bail!("{} is in use: another softstep trains there; stop that one first", folder.display())
        }
        // Some file systems have no locks.
        Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => Ok(file),
        Err(TryLockError::Error(error)) => Err(Error::io("lock", path)(error).into()),
        Ok(()) => Ok(file),
    }
}

/// Refuses a folder that is not the locked one any more: it was moved, and another may have its name.
pub fn check_locked(folder: &Path, lock: &File) -> softstep::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let path = folder.join(LOCK);
        let held = lock.metadata().map_err(Error::io("read", &path))?;
        let there = fs::metadata(&path).map_err(Error::io("write", &path))?;
        if (held.dev(), held.ino()) != (there.dev(), there.ino()) {
            let moved = std::io::Error::other("its folder was moved away, and the one by its name is not this run's");
            return Err(Error::io("write", &path)(moved));
        }
    }
    #[cfg(not(unix))]
    let _ = (folder, lock);
    Ok(())
}
