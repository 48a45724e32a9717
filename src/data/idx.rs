//! Strict reader of IDX, the file format of MNIST.
//!
//! An IDX file is 0, 0, the element type (8: unsigned byte), the number of dimensions, each dimension as a big-endian
//! u32, and the elements, row-major. Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten
//! digits".

use std::io::{BufRead, Read};

use flate2::bufread::MultiGzDecoder;

#[cfg(not(target_arch = "wasm32"))]
use super::stored::Element;
use super::{Data, Examples, Features, GZIP, Stored, is_damage};
use crate::error::{Error, Result};

/// Upper limit of the announced elements: 4 GiB.
pub const MAX_BYTES: u64 = 4 << 30;

/// Size of a chunk of elements, and the largest announced size that memory is reserved for before the data is read.
const CHUNK: usize = 64 << 10;
const TRUSTED: usize = 64 << 20;

/// An IDX file of unsigned bytes, gzipped or not, whose header has been read.
///
/// Reading and inflating stop one byte after the announced data.
pub struct Idx<'a> {
    file: String,
    gzipped: bool,
    header: Vec<u8>,
    shape: Vec<usize>,
    bytes: usize,
    elements: Box<dyn Read + 'a>,
    /// The elements, if they stay in the file.
    stored: Option<Stored>,
}

impl<'a> Idx<'a> {
    /// Reads the header. `file` is the name in error messages.
    ///
    /// # Errors
    /// [`Error::Format`] if the input is not an IDX file of unsigned bytes, is empty, or announces more than
    /// [`MAX_BYTES`]; [`Error::Io`] if it cannot be read.
    pub fn new(file: impl Into<String>, mut input: impl BufRead + 'a) -> Result<Self> {
        let file = file.into();
        let gzipped = input.fill_buf().map_err(Error::io("read", &file))?.starts_with(&GZIP);
        let elements: Box<dyn Read + 'a> = if gzipped { Box::new(MultiGzDecoder::new(input)) } else { Box::new(input) };
        let mut idx = Self { file, gzipped, header: Vec::new(), shape: Vec::new(), bytes: 0, elements, stored: None };

        let mut magic = Vec::new();
        idx.take(4, &mut magic)?;
        let &[0, 0, element, dimensions] = magic.as_slice() else {
            return Err(idx.error(format!(
                "neither an IDX file nor a gzipped one: it starts with {magic:02x?}, not [00, 00, 08, dimensions]"
            )));
        };
        if element != 8 {
            return Err(idx.error(format!("its elements are of type {element:#04x}, not 0x08 (unsigned bytes)")));
        }
        let mut sizes = Vec::new();
        idx.take(4 * usize::from(dimensions), &mut sizes)?;
        if sizes.len() < 4 * usize::from(dimensions) {
            return Err(idx.error("truncated: it ends inside its header"));
        }
        idx.shape = sizes.as_chunks().0.iter().map(|&size| u32::from_be_bytes(size) as usize).collect();
        let bytes = idx.shape.iter().try_fold(1u64, |product, &size| product.checked_mul(size as u64));
        idx.header = [magic, sizes].concat();
        idx.bytes = match bytes.filter(|&bytes| bytes <= MAX_BYTES).map(usize::try_from) {
            _ if dimensions == 0 => return Err(idx.error("it announces no dimension")),
            Some(Ok(0)) => return Err(idx.error(format!("its shape {} holds no data", shape_text(&idx.shape)))),
            Some(Ok(bytes)) => bytes,
            _ => {
                let shape = shape_text(&idx.shape);
                return Err(idx.error(format!("it is over the limit of {MAX_BYTES} bytes: its shape is {shape}")));
            }
        };
        Ok(idx)
    }

    /// The announced dimensions, none of them 0.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements of one example: the product of all dimensions after the first.
    pub fn features(&self) -> usize {
        self.bytes / self.shape[0]
    }

    /// Height and width of an example, if it has exactly these two dimensions.
    pub fn image(&self) -> Option<[usize; 2]> {
        self.shape.get(1..).and_then(|shape| shape.try_into().ok())
    }

    /// Returns true if the file is gzipped.
    pub fn is_gzipped(&self) -> bool {
        self.gzipped
    }

    /// The elements as features: in memory, or left in their file.
    ///
    /// # Errors
    /// The errors of [`stream`](Self::stream).
    fn into_features(mut self) -> Result<Features> {
        match self.stored.take() {
            Some(stored) => Ok(Features::Stored(stored)),
            None => self.read().map(Features::Bytes),
        }
    }

    /// Leaves the elements in `file`, which this was read from, for [`into_features`](Self::into_features).
    ///
    /// # Errors
    /// [`Error::Format`] if the file holds less or more than it announces; [`Error::Io`].
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn staying_in(mut self, file: std::fs::File) -> Result<Self> {
        let shape = [self.shape[0], self.features()];
        self.stored = Some(Stored::new(&self.file, file, self.header.len() as u64, shape, Element::Byte)?);
        Ok(self)
    }

    /// Reads all elements, row-major.
    ///
    /// # Errors
    /// The errors of [`stream`](Self::stream).
    pub fn read(self) -> Result<Vec<u8>> {
        let (file, bytes) = (self.file.clone(), self.bytes);
        let no_memory = |_| Error::format(&file, format!("there is no memory for its {bytes} bytes of data"));
        let mut elements = Vec::new();
        elements.try_reserve_exact(bytes.min(TRUSTED)).map_err(no_memory)?;
        self.stream(|chunk| {
            elements.try_reserve(chunk.len()).map_err(no_memory)?;
            elements.extend_from_slice(chunk);
            Ok(())
        })?;
        elements.shrink_to_fit();
        Ok(elements)
    }

    /// Passes the elements to `sink`, chunk by chunk. They may still prove to be damaged until this function has
    /// returned.
    ///
    /// # Errors
    /// [`Error::Format`] if the file is damaged or holds less or more than it announces; [`Error::Io`] if it cannot be
    /// read; any error of `sink`.
    pub fn stream(mut self, mut sink: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut chunk = Vec::with_capacity(CHUNK);
        let mut left = self.bytes;
        while left > 0 {
            chunk.clear();
            self.take(left.min(CHUNK), &mut chunk)?;
            if chunk.is_empty() {
                return Err(self.error(format!(
                    "truncated: its shape {} needs {} bytes of data and there are {}",
                    shape_text(&self.shape),
                    self.bytes,
                    self.bytes - left
                )));
            }
            left -= chunk.len();
            sink(&chunk)?;
        }
        chunk.clear();
        self.take(1, &mut chunk)?;
        if !chunk.is_empty() {
            return Err(self.error(format!("it holds more than the {} its header announces", shape_text(&self.shape))));
        }
        Ok(())
    }

    /// The bytes up to the first element.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// Builds an [`Error::Format`] about this file.
    pub(super) fn error(&self, problem: impl Into<String>) -> Error {
        Error::format(&self.file, problem)
    }

    /// Appends the next `bytes` bytes, or fewer at the end.
    fn take(&mut self, bytes: usize, to: &mut Vec<u8>) -> Result<()> {
        (&mut self.elements).take(bytes as u64).read_to_end(to).map_err(|source| match is_damage(&source) {
            true => self.error(format!("its gzip data is damaged: {source}")),
            false => Error::io("read", &self.file)(source),
        })?;
        Ok(())
    }
}

/// Builds a data set from four IDX files: training images and labels, test images and labels. Any size will do; the
/// number of classes is the highest label plus 1.
///
/// # Errors
/// [`Error::Format`] naming the file that is damaged or does not fit the others, or `name` if the set cannot be
/// learned; [`Error::Io`].
pub fn data(name: &str, files: [Idx<'_>; 4]) -> Result<Data> {
    let features = check_together(&files)?;
    let image = files[0].image();
    let [train_images, train_labels, test_images, test_labels] = files;
    let parts =
        [(train_images.into_features()?, train_labels.read()?), (test_images.into_features()?, test_labels.read()?)];
    Ok(Data { image, ..assemble(name, parts, features, None)? })
}

/// Checks that the shapes of the four files fit together; returns the number of features.
pub(super) fn check_together(files: &[Idx<'_>; 4]) -> Result<usize> {
    for [images, labels] in [[&files[0], &files[1]], [&files[2], &files[3]]] {
        if images.shape().len() < 2 {
            return Err(images.error(format!("its shape is {}, not [images, …]", shape_text(images.shape()))));
        }
        if labels.shape().len() != 1 {
            return Err(labels.error(format!("its shape is {}, not [labels]", shape_text(labels.shape()))));
        }
        if images.shape()[0] != labels.shape()[0] {
            return Err(labels.error(format!("{} labels for {} images", labels.shape()[0], images.shape()[0])));
        }
    }
    let features = files[0].features();
    if files[2].features() != features {
        let problem = format!("its images have {} features, the training images {features}", files[2].features());
        return Err(files[2].error(problem));
    }
    Ok(features)
}

/// Inputs and labels.
pub(super) type Part = (Features, Vec<u8>);

/// Builds a data set from a training and a test part; the number of classes defaults to the highest label plus 1.
pub(super) fn assemble(name: &str, [train, test]: [Part; 2], features: usize, classes: Option<usize>) -> Result<Data> {
    let highest = train.1.iter().chain(&test.1).copied().max().unwrap_or(0);
    // A single class is refused below, with a better message.
    let classes = classes.unwrap_or(1 + usize::from(highest)).max(2);
    let examples = |(inputs, labels): Part| {
        Examples::new(inputs, labels.into_iter().map(u32::from).collect::<Vec<_>>(), features, classes)
            .map_err(|error| Error::format(name, error.to_string()))
    };
    let (train, test) = (examples(train)?, examples(test)?);
    train.check_learnable(None).map_err(|problem| Error::format(name, problem))?;
    Ok(Data::of_parts(name, train, test))
}

/// Formats a shape, such as `60000x28x28`.
pub(super) fn shape_text(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use flate2::{Compression, GzBuilder};
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<u8>> {
        Idx::new("some-file", bytes)?.read()
    }

    fn problem(bytes: &[u8]) -> String {
        let message = read(bytes).unwrap_err().to_string();
        assert!(message.starts_with("some-file: "), "{message}");
        message
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzBuilder::new().write(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    const SMALL: [u8; 18] = [0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6];

    #[test]
    fn a_sound_file_is_read_gzipped_or_not() {
        let zipped = gzip(&SMALL);
        for bytes in [&SMALL[..], &zipped] {
            let idx = Idx::new("some-file", bytes).unwrap();
            assert_eq!((idx.shape(), idx.features(), idx.header()), (&[2, 3][..], 3, &SMALL[..12]));
            assert_eq!(idx.read().unwrap(), [1, 2, 3, 4, 5, 6]);
        }
    }

    #[test]
    fn gzip_in_several_members_is_one_file() {
        let members = [gzip(&SMALL[..7]), gzip(&SMALL[7..])].concat();
        assert_eq!(read(&members).unwrap(), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn what_is_no_idx_file_of_bytes_is_refused() {
        assert!(problem(b"").contains("starts with []"));
        assert!(problem(b"<html>").contains("[3c, 68, 74, 6d]"));
        assert!(problem(&[0, 0, 0x0d, 1, 0, 0, 0, 1, 0, 0, 0, 0]).contains("type 0x0d"));
        assert!(problem(&[0, 0, 8, 0]).contains("no dimension"));
        assert!(problem(&[0, 0, 8, 2, 0, 0, 0, 5, 0, 0, 0, 0]).contains("5x0 holds no data"));
    }

    #[test]
    fn every_truncation_and_any_trailing_byte_is_refused() {
        let zipped = gzip(&SMALL);
        for whole in [&SMALL[..], &zipped] {
            for length in 0..whole.len() {
                problem(&whole[..length]);
            }
        }
        let longer = [&SMALL[..], &[7]].concat();
        assert!(problem(&longer).contains("more than the 2x3"));
        assert!(problem(&gzip(&longer)).contains("more than the 2x3"));
        assert!(problem(&[&zipped[..], b"junk and more junk"].concat()).contains("gzip data is damaged"));
    }

    #[test]
    fn no_flipped_bit_of_gzip_data_changes_what_is_read() {
        let zipped = gzip(&SMALL);
        for bit in 0..8 * zipped.len() {
            let mut damaged = zipped.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // Damage to some bits goes unnoticed, such as to the time in the gzip header.
            if let Ok(elements) = read(&damaged) {
                assert_eq!(elements, [1, 2, 3, 4, 5, 6], "bit {bit}");
            }
        }
    }

    #[test]
    fn sizes_beyond_the_limit_are_refused_before_reading() {
        let over = [&[0, 0, 8, 3][..], &[0xff; 12]].concat();
        assert!(problem(&over).contains("over the limit"));
        let overflow = [&[0, 0, 8, 255][..], &[0xff; 4 * 255]].concat();
        assert!(problem(&overflow).contains("over the limit"));
        let just_over = [0, 0, 8, 2, 0, 0x40, 0, 1, 0, 0, 4, 0];
        assert!(problem(&just_over).contains("over the limit"));
    }

    #[test]
    fn a_gzip_bomb_is_inflated_no_further_than_announced() {
        struct Counting<'a>(&'a [u8], &'a std::cell::Cell<usize>);
        impl Read for Counting<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let count = self.0.read(buffer)?;
                self.1.set(self.1.get() + count);
                Ok(count)
            }
        }
        // A megabyte of data behind a header for six bytes.
        let bomb = gzip(&[&SMALL[..], &vec![7; 1 << 20]].concat());
        let consumed = std::cell::Cell::new(0);
        let input = io::BufReader::with_capacity(64, Counting(&bomb, &consumed));
        let error = Idx::new("bomb", input).unwrap().read().unwrap_err();
        assert!(error.to_string().contains("more than the 2x3"), "{error}");
        assert!(consumed.get() <= 256, "{} of {} bytes were read", consumed.get(), bomb.len());
    }

    #[test]
    fn a_header_that_announces_gigabytes_which_are_not_there_is_refused() {
        let lying = [0, 0, 8, 1, 0xff, 0xff, 0xff, 0xff, 1];
        assert!(problem(&lying).contains("needs 4294967295 bytes of data and there are 1"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
            let _ = read(&gzip(&bytes));
            let _ = read(&[&[0x1f, 0x8b, 8, 0][..], &bytes].concat());
        }

        #[test]
        fn arbitrary_bytes_behind_a_magic_never_panic(
            dimensions in 0u8..5,
            bytes in proptest::collection::vec(prop_oneof![Just(0u8), Just(1), any::<u8>()], 0..40),
        ) {
            let file = [&[0, 0, 8, dimensions][..], &bytes].concat();
            if let Ok(elements) = read(&file) {
                prop_assert_eq!(elements.len() + 4 + 4 * usize::from(dimensions), file.len());
            }
            let _ = read(&gzip(&file));
        }
    }
}
