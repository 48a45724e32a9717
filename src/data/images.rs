//! Images: PNG, JPEG, WebP, BMP, GIF and TIFF files, brought to one size, in a folder for each class.
//!
//! A file is decoded, turned as its EXIF orientation says, laid on white where it is transparent, made grey or RGB, 8 bits
//! each, and resized, whatever its proportions, with a triangle filter: a bilinear one that, where the image shrinks, is
//! as wide as what a pixel stands for. Images of more than 2²⁵ pixels are first brought to a longest side of 2048 by plain
//! means. Colour profiles are not looked at.
//!
//! In a browser it is the page that decodes, all kinds but TIFF, by the browser's own decoders: they need not be loaded.

#[cfg(not(target_arch = "wasm32"))]
mod decoder;
#[cfg(target_arch = "wasm32")]
pub mod of_page;

use ::image::imageops::{self, FilterType};
use ::image::{GrayImage, ImageFormat as FileFormat, Luma, Rgb, RgbImage, RgbaImage};

use super::preprocessing::{Color, ImageFormat};
use crate::error::{Error, Result};

pub use folder::{ImageOptions, load};
pub(super) use folder::{examples, has_classes, numbered, own_test};

/// The most bytes that an image file, and the image in it, may have.
const MAX_BYTES: u64 = 256 << 20;
/// Images of more pixels than these are made smaller right after they are decoded, fast and less finely, to a longest side
/// of `SHRUNK_SIDE`: what follows looks at every pixel several times.
const MANY_PIXELS: u64 = 1 << 25;
const SHRUNK_SIDE: u32 = 2048;

impl ImageFormat {
    /// Decodes an image file to `[features]`; `file` is what errors call it. Test part and classes are not looked at.
    ///
    /// # Errors
    /// [`Error::Format`] where it is no image of a kind that is read, is damaged or incomplete, or has more than 256 MiB.
    pub fn decode(&self, file: &str, bytes: &[u8]) -> Result<Vec<u8>> {
        #[cfg(not(target_arch = "wasm32"))]
        let pixels = |format| decoder::decode(bytes, format).map(|image| decoder::pixels_of(self, image));
        #[cfg(target_arch = "wasm32")]
        let pixels = |_| of_page::pixels(bytes, self.features());
        picture_format(file, bytes).and_then(pixels).map_err(|problem| Error::format(file, problem))
    }

    /// The pixels of a picture, `[features]`.
    pub(super) fn pixels_of(&self, picture: &RgbaImage) -> Vec<u8> {
        self.resized(&on_ground(picture, 255))
    }

    /// The pixels of an opaque picture, `[features]`.
    fn resized(&self, picture: &RgbImage) -> Vec<u8> {
        let Self { width, height, .. } = *self;
        match self.color {
            Color::Grey => imageops::resize(&grey(picture), width, height, FilterType::Triangle).into_raw(),
            Color::Rgb => imageops::resize(picture, width, height, FilterType::Triangle).into_raw(),
        }
    }
}

/// A picture in grey, the right way up, on white where it was transparent, and on black where light ink was on a
/// transparent ground; `file` is what errors call it.
pub(super) fn decode_ink(file: &str, bytes: &[u8]) -> Result<GrayImage> {
    #[cfg(not(target_arch = "wasm32"))]
    let ink = |format| decoder::decode(bytes, format).map(decoder::ink_of);
    #[cfg(target_arch = "wasm32")]
    let ink = |_| Err(of_page::PROBLEM.into()); // a page gives no picture alone
    picture_format(file, bytes).and_then(ink).map_err(|problem| Error::format(file, problem))
}

/// The same of a decoded picture.
pub(super) fn ink_of(picture: &RgbaImage) -> GrayImage {
    let (mut sum, mut count) = (0.0, 0.0);
    for pixel in picture.pixels() {
        let [red, green, blue, alpha] = pixel.0;
        sum += f64::from(luma([red, green, blue])) * f64::from(alpha);
        count += f64::from(alpha);
    }
    let pixels = f64::from(picture.width()) * f64::from(picture.height());
    let is_transparent = count < 0.9 * 255.0 * pixels;
    let ground = if is_transparent && sum > 128.0 * count { 0 } else { 255 };
    grey(&on_ground(picture, ground))
}

/// A kind of picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Picture {
    /// A format that is read.
    Read(FileFormat),
    /// The name of a format that is not read.
    Unread(&'static str),
}

/// Bytes at the start of a file that tell its format.
pub(super) const SNIFFED: usize = 32;
/// The kinds of picture that are read, in words.
pub(super) const READ: &str =
    if cfg!(target_arch = "wasm32") { "PNG, JPEG, WebP, BMP or GIF" } else { "PNG, JPEG, WebP, BMP, GIF or TIFF" };

/// Problem of a file that is no picture.
const NO_PICTURE: &str = if cfg!(target_arch = "wasm32") {
    "no PNG, JPEG, WebP, BMP or GIF image: convert it, or leave it out"
} else {
    "no PNG, JPEG, WebP, BMP, GIF or TIFF image: convert it, or leave it out"
};

/// Tells what kind of picture a file is by its first bytes; `None` if it is none.
pub(super) fn picture(bytes: &[u8]) -> Option<Picture> {
    let brand = bytes.get(8..12).filter(|_| bytes.get(4..8) == Some(b"ftyp"));
    match brand {
        Some(b"avif" | b"avis") => return Some(Picture::Unread("AVIF")),
        Some(b"heic" | b"heix" | b"hevc" | b"hevx" | b"heim" | b"heis" | b"mif1" | b"msf1") => {
            return Some(Picture::Unread("HEIC"));
        }
        _ => {}
    }
    #[cfg(target_arch = "wasm32")]
    if of_page::is_decoded(bytes) {
        return Some(Picture::Read(of_page::FORMAT));
    }
    match ::image::guess_format(bytes).ok()? {
        // Two letters begin many a text; the length of the second header is one of few.
        FileFormat::Bmp if !matches!(bytes.get(14..18), Some([12 | 16 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0])) => {
            None
        }
        FileFormat::Tiff if cfg!(target_arch = "wasm32") => Some(Picture::Unread("TIFF")),
        read @ (FileFormat::Png
        | FileFormat::Jpeg
        | FileFormat::WebP
        | FileFormat::Bmp
        | FileFormat::Gif
        | FileFormat::Tiff) => Some(Picture::Read(read)),
        _ => None,
    }
}

/// Returns true if a file is called a picture, whatever is in it.
pub(super) fn is_called_picture(file: &str) -> bool {
    let end = file.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    ["png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff"].contains(&&*end)
}

/// Tells the format of a picture that is to be decoded, or what keeps it from that.
fn picture_format(file: &str, bytes: &[u8]) -> std::result::Result<FileFormat, String> {
    match picture(bytes) {
        Some(Picture::Read(FileFormat::Jpeg)) if !has_jpeg_end(bytes) => {
            Err("a damaged image (it ends too early): replace it, or leave it out".into())
        }
        Some(Picture::Read(format)) => Ok(format),
        Some(Picture::Unread(name)) => {
            Err(format!("a {name} picture, which is not read: convert it to JPEG or PNG, or leave it out"))
        }
        None if bytes.is_empty() => Err("it is empty: replace it, or leave it out".into()),
        None if is_called_picture(file) => {
            Err("a damaged image (it does not begin as one): replace it, or leave it out".into())
        }
        None => Err(NO_PICTURE.into()),
    }
}

fn on_ground(picture: &RgbaImage, ground: u16) -> RgbImage {
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let [red, green, blue, alpha] = picture.get_pixel(x, y).0.map(u16::from);
        Rgb([red, green, blue].map(|value| ((value * alpha + ground * (255 - alpha) + 127) / 255) as u8))
    })
}

fn grey(picture: &RgbImage) -> GrayImage {
    GrayImage::from_fn(picture.width(), picture.height(), |x, y| Luma([luma(picture.get_pixel(x, y).0)]))
}

/// The luma of a colour: that of ITU-R BT.709, as [`DynamicImage::to_luma8`](::image::DynamicImage::to_luma8) computes it.
fn luma(color: [u8; 3]) -> u8 {
    const SHARES: [f32; 3] = [0.212_647_84, 0.715_179_2, 0.072_173_04];
    let sum = color.iter().zip(SHARES).fold(0.0, |sum, (&value, share)| sum + f32::from(value) * (1.0 / 255.0) * share);
    (sum * 255.0).round() as u8
}

/// Returns true if a JPEG goes on to its end-of-image marker. The decoder invents the missing rest of a file that was
/// cut off.
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

mod folder {
    use std::ffi::OsStr;
    use std::io::Read as _;
    use std::path::{Path, PathBuf};

    use super::{MAX_BYTES, NO_PICTURE, Picture, SNIFFED, is_called_picture, picture};
    use crate::data::files::{self as fs, File};
    use crate::data::predict_inputs::Reading;
    use crate::data::preprocessing::{Color, ImageFormat, Preprocessing, TestPart};
    use crate::data::{Data, Examples, Features, Listed, MAX_CLASSES, Origin, Targets, test_part};
    use crate::error::{Error, Result};
    use crate::parallel::*;

    /// Options for loading a folder of images.
    #[derive(Clone, Debug, PartialEq)]
    pub struct ImageOptions {
        /// Pixels of a row that images are brought to.
        pub width: u32,
        /// Rows that they are brought to.
        pub height: u32,
        /// Features of each pixel.
        pub color: Color,
        /// Test part: a share of the images, or another folder with the same classes. The default is the folder's own
        /// test part or, where there is none, a fifth of the images.
        pub test: Option<TestPart>,
        /// Refuse stray files and damaged pictures, which are otherwise skipped with a notice.
        pub strict: bool,
    }

    /// Loads a folder of images: each folder in it is a class, by its name. A folder with the parts `train` and `test`, or
    /// `val`, `valid` or `validation`, in any case, has the classes in each part, or the parts in each class. Folders that
    /// hold one folder and nothing else are gone through. The seed decides which images are for testing, if they are a
    /// share. Hidden files, those that file managers leave behind, and folders of runs are skipped; so are stray files and
    /// damaged pictures, with a notice.
    ///
    /// Images are decoded in parallel; memory beyond the result is bounded by about 1 GiB, and for each thread by a file and 64 MiB.
    ///
    /// # Errors
    /// [`Error::Format`] with the path of what belongs to too many classes, or is the only class, or with
    /// [`ImageOptions::strict`] of what would be skipped; [`Error::Invalid`] for settings that do not fit; [`Error::Io`].
    pub fn load(folder: &Path, options: &ImageOptions, seed: u64) -> Result<Data> {
        let ImageOptions { width, height, color, ref test, strict } = *options;
        let mut skipped = Skipped { strict, paths: Vec::new() };
        let parts = Parts::find(folder, &mut skipped)?;
        let train = list(folder, &parts.train, None, &mut skipped)?;
        let test = match (parts.test, test) {
            (Some(own), Some(asked)) => {
                return Err(Error::Invalid(format!(
                    "`test` {asked}: {} has its own test part, {}; remove `test`",
                    folder.display(),
                    own.name
                )));
            }
            (Some(own), None) => TestPart::Path(own.name),
            (None, Some(asked)) => asked.clone(),
            (None, None) => TestPart::default(),
        };
        let format = ImageFormat { width, height, color, classes: train.classes.clone(), test };
        let name = folder.display().to_string();
        let preprocessing = Preprocessing::Images(format.clone());
        preprocessing.check().map_err(|error| Error::format(&name, error.to_string()))?;
        let mut examples = train.decode(&format, &mut skipped)?;
        if let Some(missing) = examples.examples.missing_classes().first() {
            return Err(error(folder, format!("no picture of the class {:?} can be read", format.classes[*missing])));
        }
        let (own, other) = (|| own_test(folder, &format), |path: &Path| self::examples(path, &format));
        examples.notices = parts.notices.into_iter().chain(skipped.notices()).collect();
        let data = test_part::split(&name, examples, preprocessing, seed, own, other)?;
        if strict {
            // The test part is read by what a model knows, which does not include that files are refused.
            let mut skipped = Skipped { strict, paths: Vec::new() };
            if let Some(test) = Parts::find(folder, &mut skipped)?.test {
                list(folder, &test.folders, Some(&format.classes), &mut skipped)?.decode(&format, &mut skipped)?;
            }
        }
        Ok(data)
    }

    /// Every image of a folder, but for its own test part, as a model with this format reads them.
    pub(in crate::data) fn examples(folder: &Path, format: &ImageFormat) -> Result<Listed> {
        let mut skipped = Skipped::default();
        let parts = Parts::find(folder, &mut skipped)?;
        let examples = list(folder, &parts.train, Some(&format.classes), &mut skipped)?.decode(format, &mut skipped)?;
        Ok(Listed { notices: parts.notices.into_iter().chain(skipped.notices()).collect(), ..examples })
    }

    /// The images of its own test part, if it has one.
    pub(in crate::data) fn own_test(folder: &Path, format: &ImageFormat) -> Result<Option<Listed>> {
        let Some(test) = Parts::find(folder, &mut Skipped::default())?.test else { return Ok(None) };
        let mut skipped = Skipped::default();
        let examples =
            list(folder, &test.folders, Some(&format.classes), &mut skipped)?.decode(format, &mut skipped)?;
        Ok(Some(Listed { notices: skipped.notices(), ..examples }))
    }

    /// Reads the images of a folder with `reading`: of its own test part, if it has one. The classes are named by their
    /// numbers.
    pub(in crate::data) fn numbered(folder: &Path, reading: &Reading<'_>, outputs: usize) -> Result<Listed> {
        let mut skipped = Skipped::default();
        let parts = Parts::find(folder, &mut skipped)?;
        let folders = parts.test.map_or(parts.train, |test| test.folders);
        let classes: Vec<String> = (0..outputs).map(|class| class.to_string()).collect();
        let decode = |file: &str, bytes: &[u8]| match reading.read(file, bytes)?.features {
            Features::Bytes(pixels) if pixels.len() == reading.features => Ok(pixels.to_vec()),
            _ => Err(Error::format(file, "it does not become one image of bytes: take it out of the folder")),
        };
        let listing = list(folder, &folders, Some(&classes), &mut skipped)?;
        let examples = listing.decode_with(&decode, reading.features, &mut skipped)?;
        Ok(Listed { notices: parts.notices.into_iter().chain(skipped.notices()).collect(), ..examples })
    }

    /// Returns true if the folder has subfolders, one for each class.
    pub(in crate::data) fn has_classes(folder: &Path) -> bool {
        entries(folder).is_ok_and(|entries| entries.iter().any(|entry| fs::is_dir(entry)))
    }

    /// Files and folders that are left out.
    #[derive(Default)]
    struct Skipped {
        /// Refuse them instead.
        strict: bool,
        paths: Vec<(PathBuf, Reason)>,
    }

    /// Why something is left out.
    enum Reason {
        /// A file that is no picture, or lies where no picture belongs.
        Stray(&'static str),
        /// A folder that is no class.
        Folder(&'static str),
        /// A picture of a kind that is not read, by its name.
        Unread(&'static str),
        /// A picture that cannot be decoded, and the problem.
        Damaged(String),
    }

    impl Skipped {
        fn skip(&mut self, path: PathBuf, reason: Reason) -> Result<()> {
            if self.strict {
                return Err(match reason {
                    Reason::Stray(problem) | Reason::Folder(problem) => error(&path, problem.into()),
                    Reason::Unread(name) => {
                        error(&path, format!("a {name} picture, which is not read: convert it to JPEG or PNG"))
                    }
                    Reason::Damaged(problem) => error(&path, problem),
                });
            }
            self.paths.push((path, reason));
            Ok(())
        }

        /// A line for each reason, with the number of files and the first of them.
        fn notices(&self) -> Vec<String> {
            let mut groups: Vec<(String, String, Vec<&Path>)> = Vec::new();
            for (path, reason) in &self.paths {
                let (what, why) = match reason {
                    Reason::Stray(_) => ("stray file".to_string(), String::new()),
                    Reason::Folder(_) => ("folder without pictures".into(), String::new()),
                    Reason::Unread(name) => {
                        (format!("{name} picture"), ": convert to JPEG or PNG what is to be read".into())
                    }
                    Reason::Damaged(problem) => {
                        let problem = problem.split(": replace it").next().unwrap_or(problem);
                        ("damaged picture".into(), format!(", {problem}"))
                    }
                };
                match groups.iter_mut().find(|(group, ..)| *group == what) {
                    Some((_, _, paths)) => paths.push(path),
                    None => groups.push((what, why, vec![path])),
                }
            }
            let line = |(what, why, paths): (String, String, Vec<&Path>)| match &paths[..] {
                [only] => format!("1 {what} is skipped: {}{why}; `strict` refuses it", only.display()),
                _ => {
                    let (count, first) = (paths.len(), paths[0].display());
                    let what = what.replace("folder ", "folders ");
                    let plural = if what.starts_with("folders") { "" } else { "s" };
                    format!("{count} {what}{plural} are skipped, the first {first}{why}; `strict` refuses them")
                }
            };
            groups.into_iter().map(line).collect()
        }
    }

    /// Folders of the classes, by part.
    struct Parts {
        train: Vec<(String, PathBuf)>,
        test: Option<OwnTest>,
        notices: Vec<String>,
    }

    /// The test part that a folder brings itself.
    struct OwnTest {
        /// Path of the part, with `*` for the class where the parts are in the classes.
        name: String,
        folders: Vec<(String, PathBuf)>,
    }

    /// A part of a data set, by the name of its folder.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum PartName {
        Train,
        Test,
        Validation,
    }

    impl PartName {
        fn of(folder: &Path) -> Option<Self> {
            match folder.file_name()?.to_str()?.to_ascii_lowercase().as_str() {
                "train" | "training" => Some(Self::Train),
                "test" | "testing" => Some(Self::Test),
                "val" | "valid" | "validation" => Some(Self::Validation),
                _ => None,
            }
        }

        /// Returns the one folder that is this part.
        fn find(self, folders: &[PathBuf]) -> Result<Option<&PathBuf>> {
            let mut found = folders.iter().filter(|folder| Self::of(folder) == Some(self));
            match (found.next(), found.next()) {
                (Some(first), Some(second)) => {
                    Err(error(second, format!("the same part as {}: move one of them away", first.display())))
                }
                (found, _) => Ok(found),
            }
        }
    }

    impl Parts {
        fn find(folder: &Path, skipped: &mut Skipped) -> Result<Self> {
            let mut notices = Vec::new();
            let mut folder = folder.to_path_buf();
            let mut folders = folders(&folder)?;
            // A link may lead back here.
            for _ in 0..8 {
                let [only] = &folders[..] else { break };
                let inner = self::folders(only)?;
                if inner.is_empty() || !files(only)?.iter().all(|file| is_stray(file)) {
                    break;
                }
                notices.push(format!("{}: the data are in its only folder, {}", folder.display(), only.display()));
                (folder, folders) = (only.clone(), inner);
            }
            let stray = "it belongs to no class: move it into the folder of its class, or out of there";
            for file in files(&folder)? {
                skipped.skip(file, Reason::Stray(stray))?;
            }
            let [train, test, validation] =
                [PartName::Train, PartName::Test, PartName::Validation].map(|part| part.find(&folders));
            let (train, test, validation) = (train?, test?, validation?);
            let with_classes = train.map(|train| Ok::<_, Error>(!self::folders(train)?.is_empty())).transpose()?;
            if let (Some(train), Some(true), Some(tested)) = (train, with_classes, test.or(validation)) {
                for other in folders.iter().filter(|folder| PartName::of(folder).is_none()) {
                    let problem = "it is beside the parts of the data (train, test, validation) but is not one of them: move it elsewhere";
                    skipped.skip(other.clone(), Reason::Folder(problem))?;
                }
                notices.extend(part_notice(tested, test.and(validation)));
                for file in [train, tested].into_iter().map(|part| files(part)).collect::<Result<Vec<_>>>()?.concat() {
                    skipped.skip(file, Reason::Stray(stray))?;
                }
                let test = OwnTest { name: tested.display().to_string(), folders: named(self::folders(tested)?)? };
                return Ok(Self { train: named(self::folders(train)?)?, test: Some(test), notices });
            }
            // The parts within the classes.
            let inner = folders.iter().map(|class| self::folders(class)).collect::<Result<Vec<_>>>()?;
            let all_parts = inner.iter().all(|parts| {
                let part = |wanted| parts.iter().any(|part| PartName::of(part) == Some(wanted));
                parts.iter().all(|part| PartName::of(part).is_some())
                    && part(PartName::Train)
                    && (part(PartName::Test) || part(PartName::Validation))
            });
            if all_parts && !inner.is_empty() {
                for class in &folders {
                    for file in files(class)? {
                        skipped.skip(file, Reason::Stray("it belongs to no part: move it into train, or away"))?;
                    }
                }
                let has_test = inner.iter().flatten().any(|part| PartName::of(part) == Some(PartName::Test));
                let wanted = if has_test { PartName::Test } else { PartName::Validation };
                let (mut train, mut test) = (Vec::new(), Vec::new());
                let mut name = None;
                for ((class, _), parts) in named(folders)?.into_iter().zip(&inner) {
                    train.extend(PartName::Train.find(parts)?.map(|path| (class.clone(), path.clone())));
                    let tested = wanted.find(parts)?;
                    test.extend(tested.map(|path| (class.clone(), path.clone())));
                    if let (Some(tested), None) = (tested, &name) {
                        let left_out = if has_test { PartName::Validation.find(parts)? } else { None };
                        let any = |part: &Path| folder.join("*").join(part.file_name().unwrap_or_default());
                        notices.extend(part_notice(&any(tested), left_out.map(|part| any(part)).as_ref()));
                        name = Some(any(tested).display().to_string());
                    }
                }
                return Ok(Self { train, test: name.map(|name| OwnTest { name, folders: test }), notices });
            }
            Ok(Self { train: named(folders)?, test: None, notices })
        }
    }

    /// Formats a notice about a validation part: it is the test part where there is no other, and else left out.
    fn part_notice(tested: &Path, left_out: Option<&PathBuf>) -> Option<String> {
        match left_out {
            Some(validation) => Some(format!(
                "{} is not used: to validate, hold out a share of the training part with `validation` 0.1",
                validation.display()
            )),
            None if PartName::of(tested) == Some(PartName::Validation) => {
                Some(format!("{} is the test part: it is measured after every epoch", tested.display()))
            }
            None => None,
        }
    }

    /// The image files of a folder by class, not yet opened.
    struct Listing {
        classes: Vec<String>,
        files: Vec<(PathBuf, u32)>,
    }

    /// Lists the folders of the classes of a `folder`: the `known` ones, or else at least two.
    fn list(
        folder: &Path,
        folders: &[(String, PathBuf)],
        known: Option<&[String]>,
        skipped: &mut Skipped,
    ) -> Result<Listing> {
        let mut classes: Vec<String> = known.unwrap_or_default().to_vec();
        let mut files = Vec::new();
        for (name, path) in folders {
            if let Some(inner) = self::folders(path)?.first() {
                return Err(error(
                    inner,
                    format!(
                        "a folder in the folder of a class: the classes are the folders in {}; move its pictures there, or \
                         move it away",
                        folder.display()
                    ),
                ));
            }
            let listed = self::files(path)?;
            let kinds = listed.par_iter().map(|file| sniff(file)).collect::<Result<Vec<_>>>()?;
            let class = classes.iter().position(|class| class == name).unwrap_or(classes.len());
            let before = files.len();
            for (file, kind) in listed.into_iter().zip(kinds) {
                match kind {
                    Ok(()) => files.push((file, class as u32)),
                    Err(reason) => skipped.skip(file, reason)?,
                }
            }
            if files.len() == before {
                let problem = "this class has no images: add some, or remove the folder";
                skipped.skip(path.clone(), Reason::Folder(problem))?;
                continue;
            }
            match known {
                _ if class < classes.len() => {}
                Some(known) => {
                    return Err(error(path, format!("it is not one of the classes {}", known.join(", "))));
                }
                None if class == MAX_CLASSES => {
                    return Err(error(
                        folder,
                        format!("it has more than {MAX_CLASSES} classes, and that is the limit"),
                    ));
                }
                None => classes.push(name.clone()),
            }
        }
        match (classes.as_slice(), files.as_slice()) {
            ([], _) | (_, []) => {
                Err(error(folder, "no folder in it with pictures: it needs one with images for each class".into()))
            }
            ([only], _) if known.is_none() => {
                Err(error(folder, format!("one class only, {only:?}: there is nothing to tell apart")))
            }
            _ => Ok(Listing { classes, files }),
        }
    }

    /// Makes an example of a file's bytes; the first argument is the file's name in errors.
    type Decode<'a> = dyn Fn(&str, &[u8]) -> Result<Vec<u8>> + Sync + 'a;

    impl Listing {
        fn decode(&self, format: &ImageFormat, skipped: &mut Skipped) -> Result<Listed> {
            self.decode_with(&|file, bytes| format.decode(file, bytes), format.features(), skipped)
        }

        /// Decodes the files; the caller adds the notices.
        fn decode_with(&self, decode: &Decode<'_>, features: usize, skipped: &mut Skipped) -> Result<Listed> {
            let mut inputs = Vec::new();
            let room = self.files.len().checked_mul(features).map(|bytes| (bytes, inputs.try_reserve_exact(bytes)));
            match room {
                Some((bytes, Ok(()))) => inputs.resize(bytes, 0u8),
                _ => {
                    return Err(Error::Invalid(format!(
                        "there is no memory for {} images of {features} bytes: choose a smaller `image_size`",
                        self.files.len(),
                    )));
                }
            }
            let rows = inputs.par_chunks_mut(features).zip(&self.files);
            let decoded = rows.map(|(row, (path, _))| {
                let decoded = read(path).and_then(|bytes| decode(&path.display().to_string(), &bytes));
                match decoded {
                    Ok(pixels) => row.copy_from_slice(&pixels),
                    Err(Error::Format { problem, .. }) => return Ok(Some(problem)),
                    Err(error) => return Err(error),
                }
                Ok(None)
            });
            let damaged = decoded.collect::<Result<Vec<Option<String>>>>()?;
            let mut labels = Vec::with_capacity(self.files.len());
            let mut origins = Vec::with_capacity(self.files.len());
            for (at, ((path, class), problem)) in self.files.iter().zip(damaged).enumerate() {
                match problem {
                    Some(problem) => skipped.skip(path.clone(), Reason::Damaged(problem))?,
                    None => {
                        inputs.copy_within(at * features..(at + 1) * features, labels.len() * features);
                        labels.push(*class);
                        origins.push(Origin::File(path.clone()));
                    }
                }
            }
            inputs.truncate(labels.len() * features);
            if let ([], Some((path, _))) = (&labels[..], self.files.first()) {
                return Err(error(path, "damaged, as every picture here is: replace them".into()));
            }
            let classes = self.classes.len();
            let examples = Examples::new(Features::Bytes(inputs), Targets::Classes(labels), features, classes)?;
            Ok(Listed { examples, origins, notices: Vec::new() })
        }
    }

    /// Tells a picture by its first bytes from what is none, and why.
    fn sniff(path: &Path) -> Result<std::result::Result<(), Reason>> {
        let kind = fs::metadata(path).map_err(Error::io("read", path))?;
        if !kind.is_file() {
            return Ok(Err(Reason::Stray("it is neither a file nor a folder: take it out of the folder")));
        }
        let mut start = Vec::with_capacity(SNIFFED);
        let file = File::open(path).map_err(Error::io("read", path))?;
        file.take(SNIFFED as u64).read_to_end(&mut start).map_err(Error::io("read", path))?;
        Ok(match picture(&start) {
            Some(Picture::Read(_)) => Ok(()),
            Some(Picture::Unread(name)) => Err(Reason::Unread(name)),
            None if is_called_picture(&path.to_string_lossy()) => {
                let problem =
                    if start.is_empty() { "it is empty" } else { "a damaged image (it does not begin as one)" };
                Err(Reason::Damaged(format!("{problem}: replace it, or leave it out")))
            }
            None => Err(Reason::Stray(NO_PICTURE)),
        })
    }

    fn read(path: &Path) -> Result<Vec<u8>> {
        let length = fs::metadata(path).map_err(Error::io("read", path))?.len();
        if length > MAX_BYTES {
            return Err(error(path, format!("it has {length} bytes: the limit of an image is {MAX_BYTES}")));
        }
        fs::read(path).map_err(Error::io("read", path))
    }

    /// The folders in a folder, but for those of runs.
    fn folders(folder: &Path) -> Result<Vec<PathBuf>> {
        Ok(entries(folder)?.into_iter().filter(|entry| fs::is_dir(entry) && !is_of_runs(entry)).collect())
    }

    /// Returns the files of a folder.
    fn files(folder: &Path) -> Result<Vec<PathBuf>> {
        Ok(entries(folder)?.into_iter().filter(|entry| !fs::is_dir(entry)).collect())
    }

    /// Folders with their names.
    fn named(folders: Vec<PathBuf>) -> Result<Vec<(String, PathBuf)>> {
        let name = |path: PathBuf| match path.file_name().and_then(OsStr::to_str) {
            Some(name) => Ok((name.to_string(), path)),
            None => Err(error(&path, "its name is not UTF-8: rename it".into())),
        };
        folders.into_iter().map(name).collect()
    }

    fn is_stray(file: &Path) -> bool {
        !sniff(file).is_ok_and(|kind| kind.is_ok())
    }

    /// Returns true if a folder is that of a run, or holds runs and nothing else.
    fn is_of_runs(folder: &Path) -> bool {
        let is_run = |folder: &Path| {
            ["metrics.jsonl", "model.safetensors"].iter().any(|file| fs::is_file(&folder.join(file)))
                && fs::is_file(&folder.join("config.json"))
        };
        let holds_runs = |entries: Vec<PathBuf>| !entries.is_empty() && entries.iter().all(|entry| is_run(entry));
        is_run(folder) || entries(folder).is_ok_and(holds_runs)
    }

    /// Returns the entries of a folder, sorted by name, without hidden files and those that file managers leave behind.
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
