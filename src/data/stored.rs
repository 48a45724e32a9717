//! Features that stay in their file and are read row by row, for data that memory does not hold.
//!
//! A row is read by position from the open file. The file is not mapped into memory: a map of a file that is cut off
//! ends the process with a signal, and a read with an error. The first row that cannot be read, or a change of the file,
//! is remembered; whatever was computed from the row is discarded by the caller of [`Stored::check`].
//!
//! While reads wait for the disk, the system is asked ahead for the rows of the next batches: a disk answers many requests at
//! once sooner than the same, one after the other. Where memory holds the file, that would only cost time.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use super::Scale;
use super::scaling::TooFar;
use crate::error::{Error, Result};

/// Bytes that are read at a time where rows are read in order.
const WINDOW: usize = 1 << 20;

/// Rows between two looks at the time when the file was last changed.
const WATCH: usize = 64;

/// Reads between two that are timed.
const TIMED: usize = 16;

/// Time in which a row that memory holds is read, by far.
const SOON: Duration = Duration::from_micros(30);

/// Timed reads in a row that must have waited: a single one may have been interrupted.
#[cfg(target_os = "linux")]
const WAITS: usize = 2;

/// Rows that are asked for ahead after that, before reads have to wait again.
#[cfg(target_os = "linux")]
const ROWS_AHEAD: usize = 16_384;

/// Size in bytes above which features stay in their file: 256 MiB, or what `SOFTSTEP_IN_MEMORY_BYTES` says.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn in_memory_bytes() -> u64 {
    let said = std::env::var("SOFTSTEP_IN_MEMORY_BYTES").ok();
    said.and_then(|bytes| bytes.parse().ok()).unwrap_or(256 << 20)
}

/// Type of the elements of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    /// One byte per feature.
    Byte,
    /// A number of this NumPy kind, such as `f4`, in this byte order.
    #[cfg_attr(target_arch = "wasm32", allow(dead_code))]
    Number {
        /// Kind and bytes.
        kind: &'static str,
        /// Byte order.
        big_endian: bool,
    },
}

impl Element {
    #[cfg(not(target_arch = "wasm32"))]
    fn is_float(self) -> bool {
        matches!(self, Self::Number { kind, .. } if kind.starts_with('f'))
    }

    fn bytes(self) -> usize {
        match self {
            Self::Byte => 1,
            Self::Number { kind, .. } => kind[1..].parse().unwrap_or(1),
        }
    }
}

/// Features of examples that stay in their file. Clones share the file.
#[derive(Clone, Debug)]
pub struct Stored {
    source: Arc<Source>,
    /// Rows of the file that these are, ascending; `None` for all.
    rows: Option<Arc<Vec<u32>>>,
    /// Scales of numbers, which are standardised as they are read: one for each feature, one for all, or none.
    scales: Arc<[Scale]>,
    /// Upper limit of the absolute values in the file.
    largest: f64,
}

/// An open file of rows.
#[derive(Debug)]
struct Source {
    name: String,
    #[cfg(unix)]
    file: File,
    #[cfg(not(unix))]
    file: std::sync::Mutex<File>,
    element: Element,
    /// Position of the first row.
    start: u64,
    /// Elements of a row.
    width: usize,
    rows: usize,
    modified: Option<SystemTime>,
    reads: AtomicUsize,
    /// Timed reads that waited for the disk, one after the other.
    waits: AtomicUsize,
    /// Rows that are still asked for ahead.
    #[cfg(target_os = "linux")]
    ahead: AtomicUsize,
    problem: OnceLock<String>,
}

/// Features of one row.
pub(crate) enum Row {
    /// Bytes.
    Bytes(Vec<u8>),
    /// Numbers.
    Floats(Vec<f32>),
}

impl PartialEq for Stored {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.source, &other.source) && self.rows == other.rows && self.scales == other.scales
    }
}

impl Stored {
    /// Takes `rows` rows of `width` elements from `start` on, which must be all that the file holds.
    ///
    /// # Errors
    /// [`Error::Format`] if the file is shorter or longer, or has more rows than can be numbered; [`Error::Io`].
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn new(name: &str, file: File, start: u64, [rows, width]: [usize; 2], element: Element) -> Result<Self> {
        let there = file.metadata().map_err(Error::io("read", name))?;
        let wanted = (rows as u64).checked_mul((width * element.bytes()) as u64);
        let data = there.len().saturating_sub(start);
        match wanted {
            Some(wanted) if data < wanted => {
                let problem = format!("truncated: its header announces {wanted} bytes of data and there are {data}");
                return Err(Error::format(name, problem));
            }
            Some(wanted) if data == wanted && u32::try_from(rows).is_ok() => {}
            Some(wanted) if data > wanted => {
                return Err(Error::format(name, "it holds more than its header announces"));
            }
            _ => return Err(Error::format(name, format!("{rows} rows are more than can be numbered"))),
        }
        let source = Source {
            name: name.into(),
            modified: there.modified().ok(),
            #[cfg(unix)]
            file,
            #[cfg(not(unix))]
            file: std::sync::Mutex::new(file),
            element,
            start,
            width,
            rows,
            reads: AtomicUsize::new(0),
            waits: AtomicUsize::new(0),
            #[cfg(target_os = "linux")]
            ahead: AtomicUsize::new(0),
            problem: OnceLock::new(),
        };
        // Integers have at most 64 bits.
        let largest = if element.is_float() { f64::INFINITY } else { 2f64.powi(64) };
        Ok(Self { source: Arc::new(source), rows: None, scales: Arc::default(), largest })
    }

    /// Says that no absolute value in the file is larger.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn with_largest(self, largest: f64) -> Self {
        Self { largest, ..self }
    }

    /// Standardises numbers of the file by these scales as they are read.
    pub(super) fn with_scales(self, scales: Arc<[Scale]>) -> Self {
        Self { scales, ..self }
    }

    /// Looks for the first number that is too far from its scale to be an f32; reads the rows only where there may be one.
    pub(super) fn too_far(&self) -> Option<TooFar> {
        let is_near = |scale: &Scale| (self.largest + scale.mean.abs()) / scale.deviation < f64::from(f32::MAX);
        if self.scales.iter().all(is_near) {
            return None;
        }
        let (width, mut found) = (self.source.width, None);
        self.for_each(|row, values| {
            let Row::Floats(values) = values else { return };
            if let (Some(at), None) = (values.iter().position(|value| !value.is_finite()), found) {
                found = Some((row, at));
            }
        });
        let (row, at) = found?;
        let as_it_is = Self { scales: Arc::default(), ..self.clone() };
        let number = match as_it_is.row(row) {
            Row::Floats(values) => values[at],
            Row::Bytes(_) => return None,
        };
        Some(TooFar { at: row * width + at, number, scale: self.scales[at % self.scales.len()] })
    }

    /// The features of a row in these bytes.
    fn decoded(&self, bytes: Vec<u8>) -> Row {
        match (self.source.decoded(bytes), &*self.scales) {
            (Row::Floats(mut values), [one]) => {
                values.iter_mut().for_each(|value| *value = one.apply(f64::from(*value)));
                Row::Floats(values)
            }
            (Row::Floats(mut values), each) => {
                values.iter_mut().zip(each).for_each(|(value, scale)| *value = scale.apply(f64::from(*value)));
                Row::Floats(values)
            }
            (bytes, _) => bytes,
        }
    }

    /// Number of rows.
    pub(super) fn count(&self) -> usize {
        self.rows.as_ref().map_or(self.source.rows, |rows| rows.len())
    }

    /// Number of features of all rows.
    pub(super) fn len(&self) -> usize {
        self.count() * self.source.width
    }

    /// Returns true if features are bytes.
    pub(crate) fn is_bytes(&self) -> bool {
        self.source.element == Element::Byte
    }

    /// Row of the file.
    fn place(&self, row: usize) -> usize {
        self.rows.as_ref().map_or(row, |rows| rows[row] as usize)
    }

    /// Reads a row; one of zeros if it cannot be read, which [`check`](Self::check) then reports.
    pub(crate) fn row(&self, row: usize) -> Row {
        let source = &*self.source;
        let size = source.width * source.element.bytes();
        let mut bytes = vec![0; size];
        source.read(self.place(row), &mut bytes);
        self.decoded(bytes)
    }

    /// Asks the system for rows that are read soon, if reads wait for the disk; does not wait for them.
    #[cfg(target_os = "linux")]
    pub(super) fn ask_for(&self, rows: impl ExactSizeIterator<Item = usize>) {
        use rustix::fs::{Advice, fadvise};
        let source = &*self.source;
        if source.waits.load(Ordering::Relaxed) >= WAITS {
            source.ahead.store(ROWS_AHEAD, Ordering::Relaxed);
        }
        let left = source.ahead.load(Ordering::Relaxed);
        if left == 0 {
            return;
        }
        source.ahead.store(left.saturating_sub(rows.len()), Ordering::Relaxed);
        let size = (source.width * source.element.bytes()) as u64;
        for row in rows {
            let position = source.start + self.place(row) as u64 * size;
            // A refusal only costs the time that reading the row takes.
            let _ = fadvise(&source.file, position, std::num::NonZeroU64::new(size), Advice::WillNeed);
        }
    }

    /// Does nothing: other systems are not asked.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn ask_for(&self, _: impl ExactSizeIterator<Item = usize>) {}

    /// Reads rows in order, in large pieces, and passes each to `visit`.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(usize, Row)) {
        let source = &*self.source;
        let size = source.width * source.element.bytes();
        let rows_at_once = (WINDOW / size).max(1);
        let mut next = 0;
        while next < self.count() {
            let first = self.place(next);
            let within = |row: &usize| self.place(*row) < first + rows_at_once;
            let rows = next..(next..self.count()).take_while(within).last().map_or(next, |last| last) + 1;
            let places = first..self.place(rows.end - 1) + 1;
            let mut window = vec![0; places.len() * size];
            source.read(places.start, &mut window);
            for row in rows.clone() {
                let at = (self.place(row) - places.start) * size;
                visit(row, self.decoded(window[at..at + size].to_vec()));
            }
            next = rows.end;
        }
    }

    /// Takes the chosen rows away and returns them; both parts keep their order.
    pub(super) fn take(&mut self, chosen: &[bool]) -> Self {
        let part = |wanted: bool| {
            let rows = chosen.iter().enumerate().filter(|(_, chosen)| **chosen == wanted);
            Some(Arc::new(rows.map(|(row, _)| self.place(row) as u32).collect::<Vec<u32>>()))
        };
        let (taken, kept) = (part(true), part(false));
        self.rows = kept;
        Self { rows: taken, ..self.clone() }
    }

    /// Checks that every row so far could be read, and that the file was not changed.
    ///
    /// # Errors
    /// [`Error::Format`] naming the file.
    pub(crate) fn check(&self) -> Result<()> {
        self.source.problem.get().map_or(Ok(()), |problem| Err(Error::format(&self.source.name, problem.clone())))
    }
}

impl Source {
    fn read(&self, row: usize, bytes: &mut [u8]) {
        let reads = self.reads.fetch_add(1, Ordering::Relaxed);
        if reads.is_multiple_of(WATCH) {
            self.watch();
        }
        let size = (self.width * self.element.bytes()) as u64;
        let start = reads.is_multiple_of(TIMED).then(Instant::now);
        let read = self.read_at(self.start + row as u64 * size, bytes);
        if let Some(start) = start {
            let has_waited = start.elapsed() > SOON;
            self.waits.store(if has_waited { self.waits.load(Ordering::Relaxed) + 1 } else { 0 }, Ordering::Relaxed);
        }
        if let Err(error) = read {
            bytes.fill(0);
            self.problem.get_or_init(|| match error.kind() {
                io::ErrorKind::UnexpectedEof => format!("it was cut off while it was read: row {row} is gone"),
                _ => format!("row {row} cannot be read: {error}"),
            });
        }
    }

    /// Remembers that the file was changed.
    fn watch(&self) {
        #[cfg(unix)]
        let there = self.file.metadata();
        #[cfg(not(unix))]
        let there = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner).metadata();
        let modified = there.and_then(|there| there.modified()).ok();
        if self.modified.is_some() && modified.is_some() && modified != self.modified {
            self.problem
                .get_or_init(|| "it was changed while it was read: training needs the same data to its end".into());
        }
    }

    #[cfg(unix)]
    fn read_at(&self, position: u64, bytes: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, bytes, position)
    }

    #[cfg(not(unix))]
    fn read_at(&self, position: u64, bytes: &mut [u8]) -> io::Result<()> {
        use std::io::{Read, Seek};
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.seek(io::SeekFrom::Start(position))?;
        file.read_exact(bytes)
    }

    fn decoded(&self, bytes: Vec<u8>) -> Row {
        match self.element {
            Element::Byte => Row::Bytes(bytes),
            Element::Number { kind, big_endian } => Row::Floats(super::npy::decoded(kind, big_endian, &bytes)),
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{IoSliceMut, Write};

    use rustix::fs::{Advice, fadvise};
    use rustix::io::{ReadWriteFlags, preadv2};

    use super::*;

    const WIDTH: usize = 4096;

    impl Stored {
        /// Returns true if memory holds a row; `None` where the file system does not say. It may read the row after that.
        fn holds(&self, row: usize) -> Option<bool> {
            let (mut bytes, source) = ([0; WIDTH], &self.source);
            let position = source.start + (row * WIDTH) as u64;
            match preadv2(&source.file, &mut [IoSliceMut::new(&mut bytes)], position, ReadWriteFlags::NOWAIT) {
                Ok(_) => Some(true),
                Err(rustix::io::Errno::AGAIN) => Some(false),
                Err(_) => None,
            }
        }
    }

    #[test]
    fn rows_are_asked_for_only_while_reads_wait_for_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows");
        let mut file = File::create(&path).unwrap();
        file.write_all(&vec![7; 1000 * WIDTH]).unwrap();
        file.sync_all().unwrap();
        let file = File::open(&path).unwrap();
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        let stored = Stored::new("rows", file, 0, [1000, WIDTH], Element::Byte).unwrap();
        // Rows that are asked for, or looked at, are far from each other: the system may read some around them.
        if stored.holds(0) != Some(false) {
            return; // a file system that is in memory, or does not say
        }

        stored.ask_for([100].into_iter());
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(stored.holds(100), Some(false), "no read has waited");

        stored.source.waits.store(WAITS, Ordering::Relaxed);
        let comes_soon = |row: &usize| {
            stored.ask_for([*row].into_iter());
            std::thread::sleep(Duration::from_millis(*row as u64));
            stored.holds(*row) == Some(true)
        };
        assert!([200, 300, 400, 500, 600, 700].iter().any(comes_soon), "rows that are asked for do not come");
        assert_eq!(stored.holds(900), Some(false), "nobody asked for it");

        // Rows that memory holds end the asking.
        (0..2 * TIMED).for_each(|_| drop(stored.row(100)));
        assert_eq!(stored.source.waits.load(Ordering::Relaxed), 0);
    }
}
