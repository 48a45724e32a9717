//! Data sets: examples with one-byte features and a class each.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

mod digits;
#[cfg(not(target_arch = "wasm32"))]
mod download;
#[cfg(not(target_arch = "wasm32"))]
mod folder;
pub mod idx;
#[cfg(not(target_arch = "wasm32"))]
mod store;

pub use digits::digits;
#[cfg(not(target_arch = "wasm32"))]
pub use store::{DownloadLimits, Progress, Set, Store, cache_folder, load};

/// Labelled examples.
///
/// A feature is a byte; what a model sees is `byte / 255`, in 0..1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examples {
    /// `[examples, features]`, row-major.
    pub inputs: Vec<u8>,
    /// `[examples]`, each in `0..classes`.
    pub labels: Vec<u32>,
    /// Features of an example.
    pub features: usize,
    /// Number of classes, 2 or more.
    pub classes: usize,
}

impl Examples {
    /// Checks that the parts fit together.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no example or feature, fewer than two classes, a length that is not
    /// `examples * features`, or a label out of range.
    pub fn new(inputs: Vec<u8>, labels: Vec<u32>, features: usize, classes: usize) -> Result<Self> {
        let invalid = |problem: String| Err(Error::Invalid(problem));
        if labels.is_empty() || features == 0 {
            return invalid(format!("a data set needs examples and features: it has {} and {features}", labels.len()));
        }
        if classes < 2 {
            return invalid(format!("a classifier needs at least two classes: the data has {classes}"));
        }
        if Some(inputs.len()) != labels.len().checked_mul(features) {
            return invalid(format!("{} bytes are not {} examples of {features} features", inputs.len(), labels.len()));
        }
        if let Some(at) = labels.iter().position(|&label| label as usize >= classes) {
            return invalid(format!(
                "label {} of example {at} is not below {classes}, the number of classes",
                labels[at]
            ));
        }
        Ok(Self { inputs, labels, features, classes })
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no example.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The features of one example, `[features]`.
    pub fn input(&self, example: usize) -> &[u8] {
        &self.inputs[example * self.features..][..self.features]
    }

    /// Splits off a validation part of `round(share * len)` examples: (what is left, validation).
    ///
    /// Which examples go depends on the seed and the length only; both parts keep the order they had. Only the
    /// validation part is copied.
    ///
    /// # Errors
    /// [`Error::Invalid`] if either part would be empty.
    pub fn split(mut self, share: f64, seed: u64) -> Result<(Self, Self)> {
        let validation_len = (share * self.len() as f64).round();
        if !(1.0..self.len() as f64).contains(&validation_len) {
            return Err(Error::Invalid(format!(
                "--validation {share} of {} examples: there must be at least one to validate on and one left to train on",
                self.len()
            )));
        }
        let validation_len = validation_len as usize;
        let Self { features, classes, .. } = self;
        let mut validation = Self {
            inputs: Vec::with_capacity(validation_len * features),
            labels: Vec::with_capacity(validation_len),
            features,
            classes,
        };

        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(SPLIT_STREAM);
        let mut kept = 0;
        for example in 0..self.len() {
            // Selection sampling (Knuth, The Art of Computer Programming 3.4.2, algorithm S): an example is taken
            // with probability missing / remaining.
            let missing = validation_len - validation.len();
            let remaining = self.len() - example;
            let at = example * features;
            if ((u128::from(random.next_u64()) * remaining as u128) >> 64) < missing as u128 {
                validation.inputs.extend_from_slice(&self.inputs[at..][..features]);
                validation.labels.push(self.labels[example]);
            } else {
                self.inputs.copy_within(at..at + features, kept * features);
                self.labels[kept] = self.labels[example];
                kept += 1;
            }
        }
        self.inputs.truncate(kept * features);
        self.labels.truncate(kept);
        Ok((self, validation))
    }
}

/// The generator's stream for splits, so that they share no random numbers with what else a run's seed drives.
const SPLIT_STREAM: u64 = u64::MAX;

/// A data set in its two parts.
#[derive(Clone, Debug)]
pub struct Data {
    /// Its name: `mnist`, `digits`, or the folder it came from.
    pub name: String,
    /// What to train on.
    pub train: Examples,
    /// What accuracy is measured on.
    pub test: Examples,
}

impl Data {
    /// SHA-256 over everything in it but its name, in lower-case hexadecimal.
    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        for Examples { inputs, labels, features, classes } in [&self.train, &self.test] {
            for size in [labels.len(), *features, *classes] {
                hash.update((size as u64).to_le_bytes());
            }
            hash.update(inputs);
            labels.iter().for_each(|label| hash.update(label.to_le_bytes()));
        }
        hexadecimal(&hash.finalize())
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Example i has the features [i, 255 - i].
    fn numbered(len: u8) -> Examples {
        let inputs = (0..len).flat_map(|index| [index, 255 - index]).collect();
        Examples::new(inputs, (0..len).map(|index| u32::from(index % 3)).collect(), 2, 3).unwrap()
    }

    #[test]
    fn a_split_shares_out_every_example_once_and_keeps_order() {
        let all = numbered(100);
        let (train, validation) = all.clone().split(0.25, 3).unwrap();
        assert_eq!((train.len(), validation.len()), (75, 25));
        let mut seen = [0; 100];
        for part in [&train, &validation] {
            assert_eq!((part.features, part.classes, part.inputs.len()), (2, 3, 2 * part.len()));
            assert!(part.inputs.chunks(2).is_sorted_by_key(|input| input[0]));
            for example in 0..part.len() {
                let original = usize::from(part.input(example)[0]);
                assert_eq!((part.input(example), part.labels[example]), (all.input(original), all.labels[original]));
                seen[original] += 1;
            }
        }
        assert_eq!(seen, [1; 100]);
    }

    #[test]
    fn a_split_depends_on_its_seed_alone_and_favours_no_example() {
        assert_eq!(numbered(100).split(0.1, 5).unwrap(), numbered(100).split(0.1, 5).unwrap());
        assert_ne!(numbered(100).split(0.1, 5).unwrap(), numbered(100).split(0.1, 6).unwrap());
        let mut chosen = [0; 20];
        for seed in 0..4000 {
            let (_, validation) = numbered(20).split(0.25, seed).unwrap();
            validation.inputs.iter().step_by(2).for_each(|&index| chosen[usize::from(index)] += 1);
        }
        // Each is chosen 1000 times on average, with a standard deviation of 27.
        assert!(chosen.iter().all(|count| (1000i32 - count).abs() <= 140), "{chosen:?}");
    }

    #[test]
    fn a_split_that_leaves_a_part_empty_is_refused() {
        for share in [0.0, 0.01, 0.96, 1.0, 1.5, -0.5, f64::NAN, f64::INFINITY] {
            let error = numbered(10).split(share, 0).unwrap_err().to_string();
            assert!(error.contains(&format!("--validation {share}")), "{error}");
        }
        assert_eq!(numbered(2).split(0.5, 0).unwrap().1.len(), 1);
    }

    #[test]
    fn examples_whose_parts_do_not_fit_are_refused() {
        let refused = [
            (vec![], vec![], 1, 2),
            (vec![], vec![0], 0, 2),
            (vec![1, 2, 3], vec![0, 1], 2, 2),
            (vec![1, 2], vec![0, 2], 1, 2),
            (vec![1], vec![0], 1, 1),
            (vec![1], vec![0, 1], usize::MAX, 2),
        ];
        for (inputs, labels, features, classes) in refused {
            assert!(Examples::new(inputs, labels, features, classes).is_err());
        }
    }
}
