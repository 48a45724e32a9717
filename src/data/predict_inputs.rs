//! Inputs for prediction: images, rows of a table, arrays or IDX files, read as the model was trained.

use ::image::{GrayImage, RgbaImage};

use super::handwriting::{self, Digit, Frame};
use super::idx::Idx;
use super::npy::Array;
use super::{Color, Elements, Features, GZIP, ImageFormat, Preprocessing, Shapes, TableFormat, TestPart, csv, images};
use crate::error::{Error, Result};
use crate::loss::{Link, Loss};

/// Examples whose targets nobody knows.
#[derive(Clone, Debug, PartialEq)]
pub struct Inputs {
    /// Name of each example: its file, with the line of a table's row or the index of an array's.
    pub names: Vec<String>,
    /// `[examples, features]`, row-major.
    pub features: Features,
    /// Notices about how the inputs were read, one line each.
    pub notices: Vec<String>,
    /// Faults of the rows of a table that are left out, one line each.
    pub problems: Vec<String>,
    /// Places of digits in their pictures; `None` for other inputs.
    pub places: Vec<Option<Place>>,
}

impl Inputs {
    fn of(names: Vec<String>, features: Features) -> Self {
        let places = vec![None; names.len()];
        Self { names, features, notices: Vec::new(), problems: Vec::new(), places }
    }
}

/// Place of a digit in a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Number in reading order, from 1.
    pub number: usize,
    /// Number of digits in the picture.
    pub of: usize,
    /// Row of the picture, from 1.
    pub row: usize,
    /// Left, top, width and height in pixels.
    pub bounds: [u32; 4],
    /// True if it looks like a training picture; `None` if the model has no shapes of its training pictures.
    pub is_familiar: Option<bool>,
}

/// Conversion of a picture to the images that a model was trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// The form of MNIST's digits: the ink alone, bright on black, of one size, its centre of mass in the middle. A
    /// picture in that form already is taken as it is.
    Digit,
    /// The form of [`Digit`](Self::Digit) for each of several digits, row by row.
    Digits,
    /// The whole picture, grey, resized.
    Whole,
}

/// Problem of a picture without a digit.
pub const NO_DIGIT: &str =
    "there is no digit to be seen: it is all of one shade, or what is there has more holes than an 8";

/// Least probability of a digit where the model does not know what its training pictures look like. Of MNIST's test images
/// a model of them gives 2 % a smaller one.
const LEAST_DIGIT: f32 = 0.8;

/// Sizes of the images of MNIST and of the bundled digits: pictures for such models are digits.
const DIGITS: [[usize; 2]; 2] = [[28, 28], [8, 8]];

/// Data sets of that size without digits.
const NO_DIGITS: [&str; 2] = ["fashion-mnist", "kmnist"];

impl Fit {
    /// The default for a model that was trained on images of this size in the data set `data`.
    pub fn default_for(preprocessing: Option<&Preprocessing>, image: Option<[usize; 2]>, data: &str) -> Self {
        let is_as_large = image.is_some_and(|image| DIGITS.contains(&image));
        match preprocessing.is_none() && is_as_large && !NO_DIGITS.contains(&data) {
            true => Self::Digits,
            false => Self::Whole,
        }
    }
}

/// Returns true if what was found at a place in a picture is probably no digit: if it looks like no training picture, or,
/// where the model does not know what they look like, if no class is probable.
pub fn is_no_digit(place: &Place, outputs: &[f32], loss: Loss) -> bool {
    match place.is_familiar {
        Some(is_familiar) => !is_familiar,
        None => loss.link() == Link::Softmax && outputs.iter().all(|&probability| probability < LEAST_DIGIT),
    }
}

/// Form of the inputs of a model.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// Features of an example.
    pub features: usize,
    /// Rows and columns of an example, if it is an image.
    pub image: Option<[usize; 2]>,
    /// Preprocessing of the training data; `None` for IDX files.
    pub preprocessing: Option<&'a Preprocessing>,
    /// Conversion of pictures.
    pub fit: Fit,
    /// Shapes of the training pictures of each class, if the model has them.
    pub shapes: Option<&'a Shapes>,
    /// Refuses a table with a bad row, instead of reading the others.
    pub strict: bool,
}

/// Kind of a file, told by its first bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Image,
    Idx,
    Array,
    Archive,
    /// A picture of a kind that is not read, by its name.
    Unread(&'static str),
    Other,
}

impl Kind {
    fn of(bytes: &[u8]) -> Self {
        match bytes {
            [0, 0, 8, ..] => Self::Idx,
            _ if bytes.starts_with(&GZIP) => Self::Idx,
            [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => Self::Array,
            [b'P', b'K', 3, 4, ..] => Self::Archive,
            _ => match images::picture(bytes) {
                Some(images::Picture::Read(_)) => Self::Image,
                Some(images::Picture::Unread(name)) => Self::Unread(name),
                None => Self::Other,
            },
        }
    }

    fn name(self) -> String {
        match self {
            Self::Image => "an image".into(),
            Self::Idx => "an IDX file".into(),
            Self::Array => "a .npy array".into(),
            Self::Archive => "an archive, as .npz files are: save one of its arrays as .npy".into(),
            Self::Unread(name) => format!("a {name} picture, which is not read: convert it to JPEG or PNG"),
            Self::Other => format!("no {}, IDX or .npy file", images::READ.replace(" or ", ", ")),
        }
    }
}

impl Reading<'_> {
    /// Reads a file; `file` is what errors call it.
    ///
    /// # Errors
    /// [`Error::Format`] where it is damaged, or nothing that this model reads.
    pub fn read(&self, file: &str, bytes: &[u8]) -> Result<Inputs> {
        match (Kind::of(bytes), self.preprocessing, self.elements()) {
            (kind, Some(Preprocessing::Table(format)), _) if kind == Kind::Other || bytes.starts_with(&GZIP) => {
                rows(file, bytes, format, self.strict)
            }
            (Kind::Image, Some(Preprocessing::Images(_) | Preprocessing::Arrays(_)) | None, Some(elements))
                if self.fit != Fit::Whole =>
            {
                if elements != Elements::Bytes {
                    let problem = "`fit` digit makes bytes of pictures, and the model reads arrays of float32: leave it out, \
                                   and give it .npy arrays";
                    return Err(Error::format(file, problem));
                }
                let frame = self.frame(file)?;
                self.digits(file, frame, &images::decode_ink(file, bytes)?)
            }
            (Kind::Image, Some(Preprocessing::Images(format)), _) => {
                Ok(Inputs::of(vec![file.into()], format.decode(file, bytes)?.into()))
            }
            (Kind::Image, None, _) => {
                Ok(Inputs::of(vec![file.into()], self.format_of_whole(file)?.decode(file, bytes)?.into()))
            }
            (Kind::Idx, _, Some(Elements::Bytes)) => {
                let idx = Idx::new(file, bytes)?;
                let (count, features) = (idx.shape()[0], idx.features());
                if features != self.features {
                    let problem = format!("an example has {features} features, not {} as in training", self.features);
                    return Err(Error::format(file, problem));
                }
                Ok(Inputs::of(numbered(file, count), idx.read()?.into()))
            }
            (Kind::Array, _, Some(elements)) => {
                let array = Array::read(file, bytes)?;
                array.check_features(elements, self.features)?;
                let names = numbered(file, array.examples()?);
                let features = match self.preprocessing {
                    Some(Preprocessing::Arrays(format)) => array.into_features_of(format)?,
                    _ => array.into_features()?,
                };
                Ok(Inputs::of(names, features))
            }
            (kind, preprocessing, _) => {
                // A picture by its name that is none by its first bytes is damaged, where the model reads pictures.
                let reads_pictures = matches!(preprocessing, None | Some(Preprocessing::Images(_)));
                if reads_pictures && (matches!(kind, Kind::Unread(_)) || images::is_called_picture(file)) {
                    images::decode_ink(file, bytes)?;
                }
                let wanted = match preprocessing {
                    None => "images, IDX files and .npy arrays of bytes",
                    Some(Preprocessing::Table(_)) => "tables: CSV files with the columns it was trained on",
                    Some(Preprocessing::Images(_)) => "images, and IDX files and .npy arrays of bytes",
                    Some(Preprocessing::Arrays(_)) => ".npy arrays, and IDX files if it was trained on bytes",
                };
                Err(Error::format(file, format!("it is {}, and the model reads {wanted}", kind.name())))
            }
        }
    }

    /// Reads a picture of pixels, row by row, each of red, green, blue and alpha.
    ///
    /// # Errors
    /// [`Error::Format`] where the pixels are not those of such a picture, or the model reads none.
    pub fn read_pixels(&self, pixels: Vec<u8>, width: u32, height: u32) -> Result<Inputs> {
        const FILE: &str = "the picture";
        let picture = RgbaImage::from_raw(width, height, pixels).filter(|picture| !picture.is_empty());
        let picture = picture.ok_or_else(|| Error::format(FILE, format!("it has no {width}x{height} pixels")))?;
        let pixels = match (self.preprocessing, self.elements()) {
            (_, Some(Elements::Bytes)) if self.fit != Fit::Whole => {
                return self.digits(FILE, self.frame(FILE)?, &images::ink_of(&picture));
            }
            (Some(Preprocessing::Images(format)), _) => format.pixels_of(&picture),
            (None, _) => self.format_of_whole(FILE)?.pixels_of(&picture),
            _ => return Err(Error::format(FILE, "the model reads no pictures")),
        };
        Ok(Inputs::of(vec![FILE.into()], pixels.into()))
    }

    /// Returns the type of elements that arrays must have; `None` if the model reads no arrays.
    fn elements(&self) -> Option<Elements> {
        match self.preprocessing {
            None | Some(Preprocessing::Images(_)) => Some(Elements::Bytes),
            Some(Preprocessing::Arrays(format)) => Some(format.elements),
            Some(Preprocessing::Table(_)) => None,
        }
    }

    /// Rows and columns of the grey images that the model was trained on.
    fn grey(&self, file: &str) -> Result<[usize; 2]> {
        let problem = "the model was not trained on grey images: it reads IDX files and .npy arrays";
        let grey = self.image.filter(|[rows, columns]| rows * columns == self.features);
        grey.ok_or_else(|| Error::format(file, problem))
    }

    /// The transformation of a whole picture into one of the images that the model was trained on.
    fn format_of_whole(&self, file: &str) -> Result<ImageFormat> {
        let [rows, columns] = self.grey(file)?;
        let [width, height] = [columns as u32, rows as u32];
        let (color, classes, test) = (Color::Grey, Vec::new(), TestPart::default());
        Ok(ImageFormat { width, height, color, classes, test })
    }

    /// The frame of the digits that the model was trained on.
    fn frame(&self, file: &str) -> Result<Frame> {
        let error = |problem: String| Err(Error::format(file, problem));
        // A model of arrays does not say how many columns their images had; square ones are told by their size.
        let side = self.features.isqrt();
        let is_square_array =
            matches!(self.preprocessing, Some(Preprocessing::Arrays(_))) && side * side == self.features;
        let rows = match self.image {
            Some([rows, columns]) if rows != columns => {
                return error(format!(
                    "`fit` digit is for square images, and the model's are {columns}x{rows}: say `fit` whole"
                ));
            }
            Some([rows, columns]) if rows * columns < self.features => {
                return error("`fit` digit is for grey images, and the model's have colours: say `fit` whole".into());
            }
            None if is_square_array => side,
            _ => self.grey(file)?[0],
        };
        Ok(Frame::of_side(rows as u32))
    }

    /// The digits in a picture, or the one, as images that the model was trained on.
    fn digits(&self, file: &str, frame: Frame, picture: &GrayImage) -> Result<Inputs> {
        if let Some(pixels) = handwriting::as_it_is(picture, frame) {
            return Ok(Inputs::of(vec![file.into()], pixels.into()));
        }
        let digits = match self.fit {
            Fit::Digits => handwriting::digits(picture, frame),
            Fit::Digit | Fit::Whole => handwriting::digit(picture, frame).into_iter().collect(),
        };
        if digits.is_empty() {
            return Err(Error::format(file, NO_DIGIT));
        }
        let count = digits.len();
        let mut inputs = Inputs::of(vec![file.into(); count], Features::Bytes(Vec::new()));
        let wide = |(at, digit): (usize, &Digit)| digit.is_wide.then(|| (at + 1).to_string());
        let wide: Vec<String> = digits.iter().enumerate().filter_map(wide).collect();
        if !wide.is_empty() {
            inputs.notices.push(match count {
                1 => format!("{file}: what is there is wide: digits that touch are read as one"),
                _ => format!(
                    "{file}: digits that touch are read as one: see the wide ones, {} in reading order",
                    wide.join(", ")
                ),
            });
        }
        let place = |(at, digit): (usize, &Digit)| Place {
            number: at + 1,
            of: count,
            row: digit.row + 1,
            bounds: digit.bounds,
            is_familiar: self.shapes.map(|shapes| shapes.is_familiar(&digit.pixels)),
        };
        inputs.places = digits.iter().enumerate().map(|digit| Some(place(digit))).collect();
        inputs.features = digits.into_iter().flat_map(|digit| digit.pixels).collect::<Vec<u8>>().into();
        Ok(inputs)
    }
}

/// The most rows of a table that may be bad; of more, the table is refused.
const MAX_BAD_ROWS: usize = 100;

/// Reads the rows of a table. Where one is bad, the others are read, and what is wrong with it is kept; if `strict`, it is
/// an error.
fn rows(file: &str, bytes: &[u8], format: &TableFormat, strict: bool) -> Result<Inputs> {
    let whole = match csv::inputs(file, bytes, format) {
        Ok(whole) => vec![whole],
        // Other encodings are not taken apart; and what is wrong with no line is wrong with all.
        Err(error) if strict || std::str::from_utf8(bytes).is_err() || !error.to_string().contains(": line ") => {
            return Err(error);
        }
        Err(error) => {
            // Every part begins with the lines up to the header.
            let head = std::str::from_utf8(bytes).map_or(0, csv::lines_before_header);
            let lines: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
            let (mut good, mut problems) = (Vec::new(), Vec::new());
            // A row alone does not tell whether it is too long or begins with a name.
            let has_row_names = csv::has_row_names(file, bytes, format);
            // The halves that are still to be read, the first last.
            let mut parts = vec![(head + 1, lines.len().max(head + 1))];
            while let Some((from, to)) = parts.pop() {
                // Lines outside are empty, so that the others keep their numbers.
                let line = |(at, line): (usize, &&[u8])| {
                    if at <= head || (from..to).contains(&at) { line.to_vec() } else { b"\n".to_vec() }
                };
                let part: Vec<u8> = lines[..to].iter().enumerate().flat_map(line).collect();
                if from == to || lines[from..to].iter().all(|line| line.trim_ascii().is_empty()) {
                    continue;
                }
                match csv::inputs_of_part(file, &part[..], format, has_row_names) {
                    Ok(read) => good.push(read),
                    Err(problem) if to - from == 1 => problems.push(problem.to_string()),
                    Err(_) => {
                        let middle = from.midpoint(to);
                        parts.extend([(middle, to), (from, middle)]);
                    }
                }
                if problems.len() > MAX_BAD_ROWS {
                    return Err(error);
                }
            }
            return Ok(joined(file, good, problems));
        }
    };
    Ok(joined(file, whole, Vec::new()))
}

fn joined(file: &str, parts: Vec<csv::Inputs>, problems: Vec<String>) -> Inputs {
    let (mut names, mut features, mut notices) = (Vec::new(), Vec::new(), Vec::<String>::new());
    for part in parts {
        names.extend(part.lines.iter().map(|line| format!("{file}:{line}")));
        features.extend(part.features);
        for notice in part.notices {
            if !notices.contains(&notice) {
                notices.push(notice);
            }
        }
    }
    Inputs { notices, problems, ..Inputs::of(names, Features::Floats(features)) }
}

fn numbered(file: &str, count: usize) -> Vec<String> {
    (0..count).map(|index| format!("{file}[{index}]")).collect()
}
