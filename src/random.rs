//! Stateless random numbers: a hash of (seed, step, stream, row, element) in u32 arithmetic, with the same bits in WGSL
//! (`shaders/random.wgsl`), on the CPU and in the reference. A resumed run draws the same numbers as an uninterrupted
//! one.

/// A purpose of random numbers: one stream for dropout of each layer, and one for augmentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Augmentation of the inputs.
    Augmentation,
    /// Dropout by layer number `layer`, from 1.
    Dropout {
        /// The layer.
        layer: usize,
    },
}

impl Stream {
    fn number(self) -> u32 {
        match self {
            Self::Augmentation => 0,
            Self::Dropout { layer } => layer as u32,
        }
    }
}

/// Bijective mix of the bits of a word: Wellons' "lowbias32" (<https://nullprogram.com/blog/2018/07/31/>).
pub fn mix(word: u32) -> u32 {
    let mut x = word;
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// Key of one step of a run; steps count from 1 over the whole run.
pub fn step_key(seed: u64, step: u64) -> u32 {
    let words = [seed as u32, (seed >> 32) as u32, step as u32, (step >> 32) as u32];
    words.into_iter().fold(0x9e37_79b9, |key, word| mix(key.wrapping_add(word)))
}

/// Key of one stream of a step, which the device combines with row and element.
pub fn stream_key(step_key: u32, stream: Stream) -> u32 {
    mix(step_key.wrapping_add(stream.number()))
}

/// Random word of an element in a row of the batch: `mix(mix(key + row) + element)`.
pub fn word(stream_key: u32, row: u32, element: u32) -> u32 {
    mix(mix(stream_key.wrapping_add(row)).wrapping_add(element))
}

/// Threshold of dropout: a random word is below it with probability `p`, and its value is dropped.
pub fn dropout_threshold(p: f32) -> u32 {
    (f64::from(p) * 4_294_967_296.0) as u32
}

/// Converts a word's upper 24 bits to a number in -1..1, exact in f32.
pub fn signed_unit(word: u32) -> f32 {
    (word >> 8) as f32 / (1 << 23) as f32 - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropout_drops_the_share_it_should_independently_of_neighbours() {
        let threshold = dropout_threshold(0.25);
        let (mut dropped, mut both) = (0u32, 0u32);
        let (rows, elements) = (200, 500);
        for row in 0..rows {
            let key = stream_key(step_key(7, 3), Stream::Dropout { layer: 4 });
            let is_dropped = |element| word(key, row, element) < threshold;
            for element in 0..elements {
                dropped += u32::from(is_dropped(element));
                both += u32::from(is_dropped(element) && is_dropped(element + 1));
            }
        }
        let count = f64::from(rows * elements);
        assert!((f64::from(dropped) / count - 0.25).abs() < 0.006, "{dropped}");
        assert!((f64::from(both) / count - 0.0625).abs() < 0.004, "{both}");
    }

    #[test]
    fn every_part_of_the_key_changes_the_words() {
        let key = |seed, step, layer| stream_key(step_key(seed, step), Stream::Dropout { layer });
        let words = [key(0, 1, 1), key(1, 1, 1), key(1 << 32, 1, 1), key(0, 2, 1), key(0, 1 << 32, 1), key(0, 1, 2)];
        for (index, word) in words.iter().enumerate() {
            assert!(!words[..index].contains(word));
        }
    }
}
