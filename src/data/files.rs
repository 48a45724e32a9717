//! The files and folders that data is read from: those of the system, or in a browser those that the page was given.

#[cfg(not(target_arch = "wasm32"))]
pub use std::fs::{File, metadata, read, read_dir};

#[cfg(target_arch = "wasm32")]
pub use given::{File, Given, metadata, read, read_dir};

use std::path::Path;

/// Returns true if there is a folder of this path.
pub fn is_dir(path: &Path) -> bool {
    metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

/// Returns true if there is a file of this path.
pub fn is_file(path: &Path) -> bool {
    metadata(path).is_ok_and(|metadata| metadata.is_file())
}

/// Returns true if there is a file or folder of this path.
pub fn exists(path: &Path) -> bool {
    metadata(path).is_ok()
}

/// Files in memory, by the names of the functions of `std::fs` that reading data needs.
#[cfg(target_arch = "wasm32")]
mod given {
    use std::collections::{BTreeMap, BTreeSet};
    use std::ffi::OsString;
    use std::io::{self, Cursor};
    use std::path::{Path, PathBuf};
    use std::sync::{Arc, PoisonError, RwLock};

    /// The files that can be read, by their paths.
    static FILES: RwLock<BTreeMap<PathBuf, Arc<[u8]>>> = RwLock::new(BTreeMap::new());

    /// Files that can be read until this is dropped.
    pub struct Given(());

    impl Given {
        /// Gives files, in place of any others.
        pub fn new(files: impl IntoIterator<Item = (PathBuf, Vec<u8>)>) -> Self {
            let mut given = FILES.write().unwrap_or_else(PoisonError::into_inner);
            given.clear();
            given.extend(files.into_iter().map(|(path, bytes)| (path, bytes.into())));
            Self(())
        }
    }

    impl Drop for Given {
        fn drop(&mut self) {
            FILES.write().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    fn look<T>(find: impl FnOnce(&BTreeMap<PathBuf, Arc<[u8]>>) -> Option<T>) -> io::Result<T> {
        let files = FILES.read().unwrap_or_else(PoisonError::into_inner);
        find(&files).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is no such file"))
    }

    /// An open file.
    pub struct File;

    impl File {
        /// Opens a file.
        pub fn open(path: impl AsRef<Path>) -> io::Result<Cursor<Arc<[u8]>>> {
            look(|files| files.get(path.as_ref()).cloned()).map(Cursor::new)
        }
    }

    /// Reads a whole file.
    pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        look(|files| files.get(path.as_ref()).map(|bytes| bytes.to_vec()))
    }

    /// What is known of a file or folder.
    pub struct Metadata {
        /// Bytes of a file; `None` for a folder.
        bytes: Option<u64>,
    }

    impl Metadata {
        pub fn is_dir(&self) -> bool {
            self.bytes.is_none()
        }

        pub fn is_file(&self) -> bool {
            self.bytes.is_some()
        }

        pub fn len(&self) -> u64 {
            self.bytes.unwrap_or(0)
        }
    }

    /// Describes a file, or a folder that holds one.
    pub fn metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
        let path = path.as_ref();
        look(|files| match files.get(path) {
            Some(bytes) => Some(Metadata { bytes: Some(bytes.len() as u64) }),
            None => files.keys().any(|file| file.starts_with(path)).then_some(Metadata { bytes: None }),
        })
    }

    /// An entry of a folder.
    pub struct DirEntry(PathBuf);

    impl DirEntry {
        pub fn path(&self) -> PathBuf {
            self.0.clone()
        }

        pub fn file_name(&self) -> OsString {
            self.0.file_name().unwrap_or_default().to_owned()
        }
    }

    /// Lists a folder.
    pub fn read_dir(path: impl AsRef<Path>) -> io::Result<std::vec::IntoIter<io::Result<DirEntry>>> {
        let path = path.as_ref();
        let inner = look(|files| {
            let inner = files.keys().filter_map(|file| file.strip_prefix(path).ok()?.components().next());
            let mut entries: BTreeSet<PathBuf> = BTreeSet::new();
            entries.extend(inner.map(|name| path.join(name)));
            (!entries.is_empty()).then_some(entries)
        })?;
        Ok(inner.into_iter().map(|path| Ok(DirEntry(path))).collect::<Vec<_>>().into_iter())
    }
}
