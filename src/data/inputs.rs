//! What a model is to predict: images, rows of a table, arrays or IDX files, as the model reads them.

use image::ImageFormat as FileFormat;

use super::digit::{self, Frame};
use super::idx::Idx;
use super::npy::Array;
use super::{Color, Elements, Features, ImageFormat, Preprocessing, TestPart, csv, images};
use crate::error::{Error, Result};

/// Examples whose targets nobody knows.
#[derive(Clone, Debug, PartialEq)]
pub struct Inputs {
    /// What each is called: its file, with the line of a table's row or the index of an array's.
    pub names: Vec<String>,
    /// `[examples, features]`, row-major.
    pub features: Features,
    /// What a person should know of how they were read, a line each.
    pub notices: Vec<String>,
}

/// How a picture is brought to the images of the IDX files that a model was trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// As MNIST's digits are: the ink alone, bright on black, of one size, its centre of mass in the middle.
    Digit,
    /// The whole picture, grey, resized.
    Whole,
}

/// How a model reads files.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// Features of an example.
    pub features: usize,
    /// Rows and columns of an example, if it is an image.
    pub image: Option<[usize; 2]>,
    /// How the data were read that it was trained on; `None` for IDX files.
    pub preprocessing: Option<&'a Preprocessing>,
    /// What becomes of pictures, where those were IDX files.
    pub fit: Fit,
}

/// How gzipped files start: IDX files and tables.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// What a file is, by its first bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Image,
    Idx,
    Array,
    Other,
}

impl Kind {
    fn of(bytes: &[u8]) -> Self {
        match bytes {
            [0, 0, 8, ..] => Self::Idx,
            _ if bytes.starts_with(&GZIP) => Self::Idx,
            [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => Self::Array,
            _ => match image::guess_format(bytes) {
                Ok(FileFormat::Png | FileFormat::Jpeg) => Self::Image,
                _ => Self::Other,
            },
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Image => "an image",
            Self::Idx => "an IDX file",
            Self::Array => "a .npy array",
            Self::Other => "no PNG, JPEG, IDX or .npy file",
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
                let csv::Inputs { features, lines, notices } = csv::inputs(file, bytes, format)?;
                let names = lines.iter().map(|line| format!("{file}:{line}")).collect();
                Ok(Inputs { names, features: features.into(), notices })
            }
            (Kind::Image, Some(Preprocessing::Images(format)), _) => Ok(Inputs {
                names: vec![file.into()],
                features: format.decode(file, bytes)?.into(),
                notices: Vec::new(),
            }),
            (Kind::Image, None, _) => {
                Ok(Inputs { names: vec![file.into()], features: self.fitted(file, bytes)?.into(), notices: Vec::new() })
            }
            (Kind::Idx, _, Some(Elements::Bytes)) => {
                let idx = Idx::new(file, bytes)?;
                let (count, features) = (idx.shape()[0], idx.features());
                if features != self.features {
                    let problem = format!("an example has {features} features, not {} as in training", self.features);
                    return Err(Error::format(file, problem));
                }
                Ok(Inputs { names: numbered(file, count), features: idx.read()?.into(), notices: Vec::new() })
            }
            (Kind::Array, _, Some(elements)) => {
                let array = Array::read(file, bytes)?;
                array.check_features(elements, self.features)?;
                let names = numbered(file, array.examples()?);
                Ok(Inputs { names, features: array.into_features(), notices: Vec::new() })
            }
            (kind, preprocessing, _) => {
                let wanted = match preprocessing {
                    None => "images (PNG, JPEG), IDX files and .npy arrays of bytes",
                    Some(Preprocessing::Table(_)) => "tables: CSV files with the columns it was trained on",
                    Some(Preprocessing::Images(_)) => "images (PNG, JPEG), and IDX files and .npy arrays of bytes",
                    Some(Preprocessing::Arrays(_)) => ".npy arrays, and IDX files if it was trained on bytes",
                };
                Err(Error::format(file, format!("it is {}, and the model reads {wanted}", kind.name())))
            }
        }
    }

    /// What arrays must hold; `None` where the model reads none.
    fn elements(&self) -> Option<Elements> {
        match self.preprocessing {
            None | Some(Preprocessing::Images(_)) => Some(Elements::Bytes),
            Some(Preprocessing::Arrays(format)) => Some(format.elements),
            Some(Preprocessing::Table(_)) => None,
        }
    }

    /// A picture as one of the images that the model was trained on.
    fn fitted(&self, file: &str, bytes: &[u8]) -> Result<Vec<u8>> {
        let error = |problem: String| Err(Error::format(file, problem));
        let Some([rows, columns]) = self.image.filter(|[rows, columns]| rows * columns == self.features) else {
            return error("the model was not trained on grey images: it reads IDX files and .npy arrays".into());
        };
        match self.fit {
            Fit::Whole => {
                let [width, height] = [columns as u32, rows as u32];
                let (color, classes, test) = (Color::Grey, Vec::new(), TestPart::default());
                ImageFormat { width, height, color, classes, test }.decode(file, bytes)
            }
            Fit::Digit if rows != columns => error(format!(
                "--fit digit is for square images, and the model's are {columns}x{rows}: say --fit whole"
            )),
            Fit::Digit => {
                let picture = images::decode_ink(file, bytes)?;
                match digit::normalise(&picture, Frame::of_side(rows as u32)) {
                    Some(pixels) => Ok(pixels),
                    None => error("there is no digit to be seen: it is all of one shade".into()),
                }
            }
        }
    }
}

fn numbered(file: &str, count: usize) -> Vec<String> {
    (0..count).map(|index| format!("{file}[{index}]")).collect()
}
