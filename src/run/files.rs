//! Reading and writing of files: whole or not at all, and never through a link.
//!
//! A run folder may come from somebody else: [`open_own`] opens each of its files, and follows no link out of it.

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, ErrorKind, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use softstep::{Error, checkpoint, model_file};

/// Upper limit of the size of a JSON file: 64 MiB.
pub const MAX_BYTES: u64 = 64 << 20;

/// Prefix of the names of temporary files.
pub const TEMPORARY: &str = ".softstep-";

/// Opens a file of a run folder; refuses anything but a regular file, links among it.
pub fn open_own(path: &Path, options: &mut OpenOptions) -> std::io::Result<File> {
    let check = |there: fs::Metadata| {
        let kind = there.file_type();
        let what = match kind {
            _ if kind.is_file() => return Ok(()),
            _ if kind.is_symlink() => "a symbolic link",
            _ if kind.is_dir() => "a folder",
            _ => "a pipe or a device",
        };
        Err(std::io::Error::other(format!("it is not a file of the run but {what}: move it away")))
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        there => check(there?)?,
    }
    // In case it becomes a link or a pipe meanwhile.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(options, libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = options.open(path)?;
    check(file.metadata()?)?;
    Ok(file)
}

/// Opens a file of a run folder for reading.
pub fn open(path: &Path) -> Result<File> {
    Ok(open_own(path, OpenOptions::new().read(true)).map_err(Error::io("read", path))?)
}

/// Permissions of a file that is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Permissions of the umask.
    Usual,
    /// Permissions for the owner alone.
    Private,
}

/// Writes a file atomically and durably: at any moment, and after any fault, the path holds the old file or the new one.
pub fn write_whole(path: &Path, bytes: &[u8]) -> softstep::Result<()> {
    write_whole_for(Access::Usual, path, bytes)
}

/// Writes a file as [`write_whole`] does, with these permissions.
pub fn write_whole_for(access: Access, path: &Path, bytes: &[u8]) -> softstep::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || {
        let mut file = temporary_file(folder, access)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        // Makes the new name durable, too.
        #[cfg(unix)]
        File::open(folder)?.sync_all()?;
        Ok(())
    };
    write().map_err(Error::io("write", path))
}

/// Writes a file that the option `flag` names. An existing file is replaced only if `mark` is near its start; a pipe or a
/// device is written to.
pub fn write_named(flag: &str, path: &Path, mark: &str, bytes: &[u8]) -> Result<()> {
    let place = match fs::metadata(path) {
        Ok(there) if there.is_dir() => bail!("{flag} {} is a folder: {flag} needs the name of a file", path.display()),
        Ok(there) if !there.is_file() => {
            let written = OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(bytes));
            return Ok(written.map_err(Error::io("write", path))?);
        }
        Ok(_) => {
            let mut start = Vec::new();
            let read = File::open(path).and_then(|file| file.take(1024).read_to_end(&mut start));
            read.map_err(Error::io("read", path))?;
            if !start.is_empty() && !String::from_utf8_lossy(&start).contains(mark) {
                bail!(
                    "{flag} {}: the file exists and was not written by this command: choose another name",
                    path.display()
                );
            }
            // A link stays, and its target is replaced.
            path.canonicalize().map_err(Error::io("read", path))?
        }
        Err(_) => path.to_owned(),
    };
    Ok(write_whole(&place, bytes)?)
}

/// Creates a temporary file with these permissions.
fn temporary_file(folder: &Path, access: Access) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    #[cfg(unix)]
    if access == Access::Usual {
        builder.permissions(permissions);
    }
    #[cfg(not(unix))]
    let _ = access;
    builder.prefix(TEMPORARY);
    builder.tempfile_in(folder)
}

/// Reads a JSON file of a run folder.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let file = open(path)?;
    let length = file.metadata().map_err(Error::io("read", path))?.len();
    if length > MAX_BYTES {
        bail!("{} has {length} bytes: the limit is {MAX_BYTES}", path.display());
    }
    serde_json::from_reader(BufReader::new(file)).with_context(|| format!("{} is damaged", path.display()))
}

/// Reads a model file or a checkpoint; refuses one that is larger than its kind may be.
pub fn read_safetensors(path: &Path, mut file: File) -> Result<Vec<u8>> {
    let length = file.metadata().map_err(Error::io("read", path))?.len();
    let mut bytes = Vec::new();
    Read::by_ref(&mut file).take(4096).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    let limit = if checkpoint::is_checkpoint(&bytes) { checkpoint::MAX_BYTES } else { model_file::MAX_BYTES };
    if length > limit {
        bail!("{} has {length} bytes: the limit is {limit}", path.display());
    }
    file.take(limit - bytes.len() as u64).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    Ok(bytes)
}

/// Deserializes a number; null, which stands for a number that is not finite, becomes NaN.
pub fn null_is_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// Formats bytes in hexadecimal.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
