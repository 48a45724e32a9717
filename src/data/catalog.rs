//! The catalog of standard data sets: where they are stored, and how they are downloaded.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcetera::BaseStrategy;

#[cfg(feature = "download")]
use super::download::download;
use super::{Data, digits, idx_dir};
use crate::error::{Error, Result};

/// A standard data set: 60,000 training and 10,000 test images of 28×28 in ten classes, in four IDX files.
#[derive(Clone, Copy, Debug)]
pub struct Set<'a> {
    /// Name of the set, and of its folder.
    pub name: &'a str,
    /// Base URLs, which the names of the files are appended to, in the order in which they are tried.
    pub mirrors: &'a [&'a str],
    /// SHA-256 of the published `.gz` files: training images and labels, test images and labels.
    pub gz_sha256: [&'a str; 4],
    /// SHA-256 of the unpacked files, if known.
    pub sha256: Option<[&'a str; 4]>,
}

const SETS: [Set; 3] = [
    Set {
        name: "mnist",
        mirrors: &[
            "https://storage.googleapis.com/cvdf-datasets/mnist",
            "https://ossci-datasets.s3.amazonaws.com/mnist",
        ],
        gz_sha256: [
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ],
        sha256: Some([
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ]),
    },
    Set {
        name: "fashion-mnist",
        mirrors: &[
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        ],
        gz_sha256: [
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ],
        sha256: None,
    },
    Set {
        name: "kmnist",
        mirrors: &["https://codh.rois.ac.jp/kmnist/dataset/kmnist", "http://codh.rois.ac.jp/kmnist/dataset/kmnist"],
        gz_sha256: [
            "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
            "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
            "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
            "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
        ],
        sha256: None,
    },
];

/// Returns true if `spec` is a name and not a path.
pub(super) fn is_name(spec: &str) -> bool {
    ["auto", "digits"].contains(&spec) || SETS.iter().any(|set| set.name == spec)
}

/// Progress of loading data; the library itself prints nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// A line that the user should read.
    Notice(&'a str),
    /// A file is being downloaded. The count restarts if another mirror takes over.
    Download {
        /// Name of the file.
        file: &'a str,
        /// Bytes received so far.
        received: u64,
        /// Size of the file in bytes, if the server reports it.
        total: Option<u64>,
    },
}

/// Limits of a download; a mirror that exceeds one is abandoned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DownloadLimits {
    /// Time to resolve the mirror's host name, and again to connect.
    pub connect: Duration,
    /// Time without a byte, or at less than `least_speed`.
    pub stall: Duration,
    /// Least speed in bytes per second, measured over intervals of `stall`.
    pub least_speed: u64,
    /// Time for a whole file.
    pub total: Duration,
    /// Upper limit of the size of a file.
    pub bytes: u64,
}

impl Default for DownloadLimits {
    /// 10 and 20 seconds, 8 KiB/s, one hour, and 64 MiB; the largest known file has 26 MB.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(20),
            least_speed: 8 << 10,
            total: Duration::from_secs(3600),
            bytes: 64 << 20,
        }
    }
}

impl DownloadLimits {
    /// Limits for data that has a substitute: at most 2 seconds to connect and 5 without a byte.
    fn impatient(self) -> Self {
        Self {
            connect: self.connect.min(Duration::from_secs(2)),
            stall: self.stall.min(Duration::from_secs(5)),
            ..self
        }
    }
}

/// Loads the data set that `spec` names: `auto`, `mnist`, `fashion-mnist`, `kmnist`, `digits`, or a folder of four
/// IDX files.
///
/// A standard set is looked for in the folders of [`Store::new`] and downloaded if none of them has it. `auto` is
/// MNIST, or the bundled digits if MNIST is not available. The name of a set takes precedence over a folder of that
/// name; `./mnist` is the folder.
///
/// # Errors
/// [`Error::Invalid`] for any other name; [`Error::Format`] naming a damaged file; [`Error::Io`]; [`Error::Download`].
pub fn load(spec: &str, data_dir: Option<&Path>, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Data> {
    Store::new(data_dir).load(spec, progress)
}

/// Folders and download settings of the standard sets.
#[derive(Clone, Debug)]
pub struct Store {
    /// Folders to search, in this order, each for a folder of the set's name. Downloads go to the first one.
    pub folders: Vec<PathBuf>,
    /// Base URL to download from instead of the known mirrors; `<set>/<file>` is appended.
    pub mirror: Option<String>,
    /// Limits of a download.
    pub limits: DownloadLimits,
}

/// The folder of softstep in the platform's cache folder.
pub fn cache_folder() -> Option<PathBuf> {
    etcetera::base_strategy::choose_native_strategy().ok().map(|base| base.cache_dir().join("softstep"))
}

impl Store {
    /// A store with the folders `data_dir`, `$SOFTSTEP_DATA_DIR` and the platform's cache folder, and the mirror
    /// `$SOFTSTEP_MIRROR`, as far as each is given.
    pub fn new(data_dir: Option<&Path>) -> Self {
        let variable = |name| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
        let folders = [data_dir.map(PathBuf::from), variable("SOFTSTEP_DATA_DIR").map(PathBuf::from), cache_folder()];
        Self {
            folders: folders.into_iter().flatten().collect(),
            mirror: variable("SOFTSTEP_MIRROR").map(|url| url.to_string_lossy().into_owned()),
            limits: DownloadLimits::default(),
        }
    }

    /// Loads a data set as [`load`] does, from the folders of the store.
    ///
    /// # Errors
    /// The errors of [`load`].
    pub fn load(&self, spec: &str, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Data> {
        match spec {
            "auto" => self.load_auto(progress),
            "digits" => digits(),
            _ => match SETS.iter().find(|set| set.name == spec) {
                Some(set) => self.load_set(set, progress),
                None => load_folder(spec),
            },
        }
    }

    /// Loads a standard set and downloads its missing files.
    ///
    /// # Errors
    /// The errors of [`load`].
    pub fn load_set(&self, set: &Set, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Data> {
        let paths = match self.find(set) {
            Some(paths) => paths,
            None => self.fetch(set, progress).map_err(|error| match error {
                Error::Download { what, problem } => Error::Download {
                    what: format!("{} ({what})", set.name),
                    problem: match self.folders.first() {
                        Some(folder) => format!(
                            "{problem}. Put its four .gz files into {}, or name another mirror in SOFTSTEP_MIRROR",
                            folder.join(set.name).display()
                        ),
                        None => problem,
                    },
                },
                other => other,
            })?,
        };
        idx_dir::read(set.name, &paths, Some(set))
    }

    fn load_auto(&self, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Data> {
        let mnist = &SETS[0];
        let paths = match self.find(mnist) {
            Some(paths) => Ok(paths),
            None => Self { limits: self.limits.impatient(), ..self.clone() }.fetch(mnist, progress),
        };
        match paths {
            Ok(paths) => idx_dir::read(mnist.name, &paths, Some(mnist)),
            Err(error) => {
                log::info!("{error}");
                let remedy = match (&error, self.folders.first()) {
                    (Error::Download { .. }, Some(folder)) => {
                        format!("put its four .gz files into {}", folder.join(mnist.name).display())
                    }
                    _ => "name a folder that can be written to with `data_dir`".into(),
                };
                progress(Progress::Notice(&format!(
                    "MNIST is not on this machine and could not be downloaded ({}): using the bundled digits (1,797 \
                     real images of 8x8) instead. To use MNIST, {remedy}",
                    cause(&error)
                )));
                digits()
            }
        }
    }

    fn find(&self, set: &Set) -> Option<[PathBuf; 4]> {
        self.folders.iter().find_map(|folder| idx_dir::find(&folder.join(set.name)).ok())
    }

    /// Downloads the files of a set that are missing from the first folder.
    fn fetch(&self, set: &Set, progress: &mut dyn FnMut(Progress<'_>)) -> Result<[PathBuf; 4]> {
        let Some(folder) = self.folders.first().map(|folder| folder.join(set.name)) else {
            return Err(Error::Invalid(format!(
                "there is no folder to keep {} in: name one with `data_dir`",
                set.name
            )));
        };
        let mut mirrors: Vec<String> = match &self.mirror {
            Some(base) => vec![format!("{}/{}", base.trim_end_matches('/'), set.name)],
            None => set.mirrors.iter().map(|&url| url.into()).collect(),
        };
        for (file, sha256) in idx_dir::FILES.into_iter().zip(set.gz_sha256) {
            if idx_dir::find_file(&folder, file).is_none() {
                download(&mut mirrors, &format!("{file}.gz"), sha256, &folder, self.limits, progress)?;
            }
        }
        idx_dir::find(&folder)
    }
}

/// Refuses to download, in a build that cannot.
#[cfg(not(feature = "download"))]
fn download(
    _: &mut [String],
    file: &str,
    _: &str,
    _: &Path,
    _: DownloadLimits,
    _: &mut dyn FnMut(Progress<'_>),
) -> Result<()> {
    let problem = "softstep was built without its feature \"download\"".into();
    Err(Error::Download { what: file.into(), problem })
}

/// Summarises the cause of a failed download; if several mirrors failed, that of the first one.
fn cause(error: &Error) -> String {
    match error {
        Error::Download { problem, .. } => problem.split("; ").next().unwrap_or(problem).into(),
        Error::Io { source, .. } => format!("{error}: {source}"),
        other => other.to_string(),
    }
}

fn load_folder(spec: &str) -> Result<Data> {
    let folder = Path::new(spec);
    if folder.is_dir() && idx_dir::FILES.iter().all(|file| idx_dir::find_file(folder, file).is_none()) {
        let problem = format!(
            "this folder holds no data: neither a folder of images for each class, nor x.npy and y.npy, nor {} and the \
             other IDX files",
            idx_dir::FILES[0]
        );
        return Err(Error::format(spec, problem));
    }
    if folder.is_dir() {
        return idx_dir::read(spec, &idx_dir::find(folder)?, None);
    }
    let problem = if folder.exists() { "is a file, but not a table" } else { "is neither a known set nor a folder" };
    let names: Vec<_> = SETS.iter().map(|set| set.name).collect();
    Err(Error::Invalid(format!(
        "`data` {spec} {problem}: give auto, {}, digits, a table (file.csv), or a folder: of images by class, of x.npy and \
         y.npy, or of four IDX files",
        names.join(", ")
    )))
}
