//! The bundled digits: real data that is always available, so that training works without a download.
//!
//! Source, credit and changes: `src/data/digits/README.md`.

use super::idx::Idx;
use super::{Data, Examples};
use crate::error::Result;

const IMAGES: &[u8] = include_bytes!("digits/images-idx3-ubyte.gz");
const LABELS: &[u8] = include_bytes!("digits/labels-idx1-ubyte.gz");

/// Loads the UCI optical digits (E. Alpaydin, C. Kaynak 1998; CC BY 4.0): 1,797 images of 8×8 in ten classes.
///
/// Every fifth image is a test image (359); the others are for training (1,438).
///
/// # Errors
/// [`Error::Format`](crate::Error::Format) if the bundled files were damaged when softstep was built.
pub fn digits() -> Result<Data> {
    let images = Idx::new("bundled digits, images", IMAGES)?;
    let (features, image) = (images.features(), images.image());
    let images = images.read()?;
    let labels = Idx::new("bundled digits, labels", LABELS)?.read()?;

    let part = |test: bool| {
        let of_part = |index: &usize| (index % 5 == 4) == test;
        let inputs = images.chunks_exact(features).enumerate().filter(|(index, _)| of_part(index));
        let labels = labels.iter().enumerate().filter(|(index, _)| of_part(index));
        Examples::new(
            inputs.flat_map(|(_, image)| image).copied().collect::<Vec<u8>>(),
            labels.map(|(_, &label)| label.into()).collect::<Vec<u32>>(),
            features,
            10,
        )
    };
    Ok(Data { image, ..Data::of_parts("digits", part(false)?, part(true)?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fifth_digit_is_a_test_image() {
        let data = digits().unwrap();
        assert_eq!((data.train.len(), data.test.len()), (1438, 359));
        assert_eq!((data.train.features, data.train.outputs), (64, 10));
        // The source's first row of pixels is 0 0 5 13 9 1 0 0, and its labels start 0 1 2 … 9.
        let first = data.train.input(0).map(|value| (255.0 * value).round());
        assert!(first.take(8).eq([0.0, 0.0, 80.0, 207.0, 143.0, 16.0, 0.0, 0.0]));
        assert_eq!(data.train.labels().unwrap()[..8], [0, 1, 2, 3, 5, 6, 7, 8]);
        assert_eq!(data.test.labels().unwrap()[..2], [4, 9]);
    }

    #[test]
    fn every_class_occurs_in_both_parts() {
        let data = digits().unwrap();
        for part in [&data.train, &data.test] {
            assert!((0..10).all(|class| part.labels().unwrap().contains(&class)));
            let inputs = || (0..part.len()).flat_map(|example| part.input(example));
            assert_eq!((inputs().fold(1.0, f64::min), inputs().fold(0.0, f64::max)), (0.0, 1.0));
        }
    }
}
