//! Images: PNG and JPEG files, brought to one size, in a folder for each class.
//!
//! A file is decoded, turned as its EXIF orientation says, laid on white where it is transparent, made grey or RGB, 8 bits
//! each, and resized, whatever its proportions, with a triangle filter: a bilinear one that, where the image shrinks, is
//! as wide as what a pixel stands for. Images of more than 2²⁵ pixels are first brought to a longest side of 2048 by plain
//! means. Colour profiles are not looked at.

use std::io::Cursor;
use std::sync::{Mutex, PoisonError};

use ::image::error::{ImageError, LimitErrorKind};
use ::image::imageops::{self, FilterType};
use ::image::{DynamicImage, GrayImage, ImageDecoder, ImageReader, Limits, Rgb, RgbImage};

use super::preprocessing::{Color, ImageFormat};
use crate::error::{Error, Result};

#[cfg(not(target_arch = "wasm32"))]
pub use folder::{ImageOptions, load};
#[cfg(not(target_arch = "wasm32"))]
pub(super) use folder::{examples, has_classes, own_test};

/// The most bytes that an image file, and the image in it, may have.
const MAX_BYTES: u64 = 256 << 20;
/// Images of more pixels than these are made smaller right after they are decoded, fast and less finely, to a longest side
/// of `SHRUNK_SIDE`: what follows looks at every pixel several times.
const MANY_PIXELS: u64 = 1 << 25;
const SHRUNK_SIDE: u32 = 2048;
/// Images of more bytes than these are decoded one at a time, so that many threads need no more memory than some.
const LARGE: u64 = 32 << 20;
static ONE_LARGE: Mutex<()> = Mutex::new(());

impl ImageFormat {
    /// Decodes an image file to `[features]`; `file` is what errors call it. Test part and classes are not looked at.
    ///
    /// # Errors
    /// [`Error::Format`] where it is no PNG or JPEG image, is damaged or incomplete, or has more than 256 MiB.
    pub fn decode(&self, file: &str, bytes: &[u8]) -> Result<Vec<u8>> {
        let image = decode(file, bytes)?;
        let Self { width, height, .. } = *self;
        Ok(match self.color {
            Color::Grey => imageops::resize(&image.into_luma8(), width, height, FilterType::Triangle).into_raw(),
            Color::Rgb => imageops::resize(&image.into_rgb8(), width, height, FilterType::Triangle).into_raw(),
        })
    }
}

/// An opaque image, the right way up, on white where it was transparent; `file` is what errors call it.
fn decode(file: &str, bytes: &[u8]) -> Result<DynamicImage> {
    let image = decode_image(bytes).map_err(|problem| Error::format(file, problem))?;
    Ok(if image.color().has_alpha() { on_ground(image, 255) } else { image })
}

/// The same in grey, and on black where light ink was on a transparent ground.
pub(super) fn decode_ink(file: &str, bytes: &[u8]) -> Result<GrayImage> {
    let image = decode_image(bytes).map_err(|problem| Error::format(file, problem))?;
    if !image.color().has_alpha() {
        return Ok(image.into_luma8());
    }
    let pixels = image.to_luma_alpha8();
    let ink = || pixels.pixels().map(|pixel| pixel.0.map(f64::from));
    let (sum, count) =
        (ink().map(|[luma, alpha]| luma * alpha).sum::<f64>(), ink().map(|[_, alpha]| alpha).sum::<f64>());
    let is_transparent = count < 0.9 * 255.0 * pixels.len() as f64 / 2.0;
    let ground = if is_transparent && sum > 128.0 * count { 0 } else { 255 };
    Ok(on_ground(image, ground).into_luma8())
}

fn decode_image(bytes: &[u8]) -> std::result::Result<DynamicImage, String> {
    let no_image = || "no PNG or JPEG image: convert it, or leave it out".to_string();
    let unreadable = |error: ImageError| match error {
        ImageError::Limits(limit) if limit.kind() == LimitErrorKind::InsufficientMemory => {
            format!("decoded it would take more than {MAX_BYTES} bytes: make it smaller, or leave it out")
        }
        error => format!("a damaged image ({error}): replace it, or leave it out"),
    };
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|_| no_image())?;
    match reader.format() {
        Some(::image::ImageFormat::Png) => {}
        Some(::image::ImageFormat::Jpeg) if has_jpeg_end(bytes) => {}
        Some(::image::ImageFormat::Jpeg) => {
            return Err("a damaged image (it ends too early): replace it, or leave it out".into());
        }
        _ => return Err(no_image()),
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder().map_err(unreadable)?;
    limits.reserve(decoder.total_bytes()).map_err(unreadable)?;
    let _one = (decoder.total_bytes() > LARGE).then(|| ONE_LARGE.lock().unwrap_or_else(PoisonError::into_inner));
    let orientation = decoder.orientation().map_err(unreadable)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(unreadable)?;
    if u64::from(image.width()) * u64::from(image.height()) > MANY_PIXELS {
        image = image.thumbnail(SHRUNK_SIDE, SHRUNK_SIDE);
    }
    image.apply_orientation(orientation);
    Ok(image)
}

fn on_ground(image: DynamicImage, ground: u16) -> DynamicImage {
    let image = image.into_rgba8();
    DynamicImage::ImageRgb8(RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let [red, green, blue, alpha] = image.get_pixel(x, y).0.map(u16::from);
        Rgb([red, green, blue].map(|value| ((value * alpha + ground * (255 - alpha) + 127) / 255) as u8))
    }))
}

/// Whether a JPEG goes on to its end-of-image marker. The decoder makes up what is missing of one that was cut off.
fn has_jpeg_end(bytes: &[u8]) -> bool {
    let mut rest = bytes.get(2..).unwrap_or_default();
    loop {
        // A 0 follows an 0xff that is data, an 0xff one that fills, and 0xd0 to 0xd7 mark restarts within the data.
        let is_marker = |pair: &[u8]| pair[0] == 0xff && !matches!(pair[1], 0 | 1 | 0xd0..=0xd7 | 0xff);
        let Some(at) = rest.windows(2).position(is_marker) else { return false };
        let segment = &rest[at + 1..];
        match segment {
            [0xd9, ..] => return true,
            [_, high, low, ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                rest = segment.get(1 + length..).unwrap_or_default();
            }
            _ => return false,
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod folder {
    use std::ffi::OsStr;
    use std::fs;
    use std::path::{Path, PathBuf};

    use rayon::prelude::*;

    use super::MAX_BYTES;
    use crate::data::preprocessing::{Color, ImageFormat, Preprocessing, TestPart};
    use crate::data::{Data, Examples, Features, MAX_CLASSES, Targets, kind};
    use crate::error::{Error, Result};

    /// What is to be made of a folder of images.
    #[derive(Clone, Debug, PartialEq)]
    pub struct ImageOptions {
        /// Pixels of a row that images are brought to.
        pub width: u32,
        /// Rows that they are brought to.
        pub height: u32,
        /// What is kept of each pixel.
        pub color: Color,
        /// What to test with: a share of the images, or another folder with the same classes. Otherwise that is the folder
        /// `test` beside a folder `train`, or where there are none, a fifth.
        pub test: Option<TestPart>,
    }

    /// Loads a folder of images: each folder in it is a class, by its name; or it has the two folders `train` and `test`,
    /// and those have the classes. The seed decides which images are for testing, if they are a share. Hidden files, and
    /// those that file managers leave behind, are skipped.
    ///
    /// Images are decoded in parallel; memory beyond the result is bounded by about 1 GiB, and for each thread by a file and 64 MiB.
    ///
    /// # Errors
    /// [`Error::Format`] with the path of what is no image, belongs to no class or to too many, or is the only class;
    /// [`Error::Invalid`] for settings that do not fit; [`Error::Io`].
    pub fn load(folder: &Path, options: &ImageOptions, seed: u64) -> Result<Data> {
        let ImageOptions { width, height, color, ref test } = *options;
        let parts = Parts::find(folder)?;
        let train = list(&parts.train, None)?;
        let test = match (parts.test, test) {
            (Some(own), Some(asked)) => {
                return Err(Error::Invalid(format!(
                    "--test {asked}: {} has its own test part, {}; leave --test away",
                    folder.display(),
                    own.display()
                )));
            }
            (Some(own), None) => TestPart::Path(own.display().to_string()),
            (None, Some(asked)) => asked.clone(),
            (None, None) => TestPart::default(),
        };
        let format = ImageFormat { width, height, color, classes: train.classes.clone(), test };
        let name = folder.display().to_string();
        let preprocessing = Preprocessing::Images(format.clone());
        preprocessing.check().map_err(|error| Error::format(&name, error.to_string()))?;
        kind::data(&name, train.decode(&format)?, preprocessing, seed)
    }

    /// Every image of a folder, but for its own test part, as a model with this format reads them.
    pub(in crate::data) fn examples(folder: &Path, format: &ImageFormat) -> Result<Examples> {
        list(&Parts::find(folder)?.train, Some(&format.classes))?.decode(format)
    }

    /// The images of its own test part, if it has one.
    pub(in crate::data) fn own_test(folder: &Path, format: &ImageFormat) -> Result<Option<Examples>> {
        let test = Parts::find(folder)?.test;
        test.map(|test| list(&test, Some(&format.classes))?.decode(format)).transpose()
    }

    /// Whether there is a folder in this one, as there is for each class.
    pub(in crate::data) fn has_classes(folder: &Path) -> bool {
        entries(folder).is_ok_and(|entries| entries.iter().any(|entry| entry.is_dir()))
    }

    /// Where the folders of the classes are.
    struct Parts {
        train: PathBuf,
        /// Of the test part, if it has its own.
        test: Option<PathBuf>,
    }

    impl Parts {
        fn find(folder: &Path) -> Result<Self> {
            let (train, test) = (folder.join("train"), folder.join("test"));
            if !train.is_dir() || !test.is_dir() {
                return Ok(Self { train: folder.into(), test: None });
            }
            match entries(folder)?.into_iter().find(|entry| *entry != train && *entry != test) {
                Some(other) => Err(error(
                    &other,
                    format!(
                        "it lies beside the folders train and test: move it away, or say --data {} --test {}",
                        train.display(),
                        test.display()
                    ),
                )),
                None => Ok(Self { train, test: Some(test) }),
            }
        }
    }

    /// The image files of a folder by class, not yet opened.
    struct Listing {
        classes: Vec<String>,
        files: Vec<(PathBuf, u32)>,
    }

    /// Lists a folder of classes: the `known` ones, or else at least two.
    fn list(folder: &Path, known: Option<&[String]>) -> Result<Listing> {
        let mut classes: Vec<String> = known.unwrap_or_default().to_vec();
        let mut files = Vec::new();
        for path in entries(folder)? {
            if !path.is_dir() {
                let folder = folder.display();
                return Err(error(
                    &path,
                    format!("it belongs to no class: move it into one of the folders in {folder}, or out of there"),
                ));
            }
            let name = path.file_name().and_then(OsStr::to_str);
            let name = name.ok_or_else(|| error(&path, "its name is not UTF-8: rename it".into()))?;
            let class = match (classes.iter().position(|class| class == name), known) {
                (Some(class), _) => class,
                (None, Some(known)) => {
                    return Err(error(&path, format!("it is none of the classes {}", known.join(", "))));
                }
                (None, None) if classes.len() == MAX_CLASSES => {
                    return Err(error(
                        folder,
                        format!("it has more than {MAX_CLASSES} classes, and that is the limit"),
                    ));
                }
                (None, None) => {
                    classes.push(name.into());
                    classes.len() - 1
                }
            };
            let before = files.len();
            for file in entries(&path)? {
                let kind = fs::metadata(&file).map_err(Error::io("read", &file))?;
                if kind.is_dir() {
                    return Err(error(
                        &file,
                        format!(
                            "a folder in the folder of a class: the classes are the folders in {}; if those are parts, say \
                             --data {} and name the other with --test",
                            folder.display(),
                            path.display()
                        ),
                    ));
                }
                if !kind.is_file() {
                    return Err(error(&file, "it is neither a file nor a folder: take it out of the folder".into()));
                }
                files.push((file, class as u32));
            }
            if files.len() == before {
                return Err(error(&path, "this class has no images: add some, or remove the folder".into()));
            }
        }
        match (classes.as_slice(), files.as_slice()) {
            ([], _) | (_, []) => Err(error(folder, "no folder in it: it needs one with images for each class".into())),
            ([only], _) => Err(error(folder, format!("one class only, {only:?}: there is nothing to tell apart"))),
            _ => Ok(Listing { classes, files }),
        }
    }

    impl Listing {
        fn decode(&self, format: &ImageFormat) -> Result<Examples> {
            let features = format.features();
            let mut inputs = Vec::new();
            let room = self.files.len().checked_mul(features).map(|bytes| (bytes, inputs.try_reserve_exact(bytes)));
            match room {
                Some((bytes, Ok(()))) => inputs.resize(bytes, 0u8),
                _ => {
                    return Err(Error::Invalid(format!(
                        "there is no memory for {} images of {}x{} pixels: choose a smaller --image-size",
                        self.files.len(),
                        format.width,
                        format.height
                    )));
                }
            }
            let rows = inputs.par_chunks_mut(features).zip(&self.files);
            let failed = rows.map(|(row, (path, _))| -> Result<()> {
                row.copy_from_slice(&format.decode(&path.display().to_string(), &read(path)?)?);
                Ok(())
            });
            if let Some(error) = failed.find_map_first(Result::err) {
                return Err(error);
            }
            let labels: Vec<u32> = self.files.iter().map(|&(_, class)| class).collect();
            Examples::new(Features::Bytes(inputs), Targets::Classes(labels), features, format.classes.len())
        }
    }

    fn read(path: &Path) -> Result<Vec<u8>> {
        let length = fs::metadata(path).map_err(Error::io("read", path))?.len();
        if length > MAX_BYTES {
            return Err(error(path, format!("it has {length} bytes: the limit of an image is {MAX_BYTES}")));
        }
        fs::read(path).map_err(Error::io("read", path))
    }

    /// What is in a folder, sorted by name, but for hidden files and what file managers leave behind.
    fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder).map_err(Error::io("read folder", folder))? {
            let entry = entry.map_err(Error::io("read folder", folder))?;
            let name = entry.file_name().to_string_lossy().to_lowercase();
            if !name.starts_with('.') && !["thumbs.db", "desktop.ini", "__macosx"].contains(&&*name) {
                paths.push(entry.path());
            }
        }
        paths.sort();
        Ok(paths)
    }

    fn error(path: &Path, problem: String) -> Error {
        Error::format(path.display().to_string(), problem)
    }
}
