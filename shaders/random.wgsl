// Stateless random numbers: a hash of the step's key, a stream, a row of the batch and an element. The bits are those
// of src/random.rs.
//
// Provides: random_word, row_key.
// Needs: step.

// Bijective mix of the bits of a word: Wellons' "lowbias32".
fn mix_bits(word: u32) -> u32 {
    var x = word;
    x ^= x >> 16u;
    x *= 0x7feb352du;
    x ^= x >> 15u;
    x *= 0x846ca68bu;
    return x ^ (x >> 16u);
}

// Key of a row of the batch in a stream.
fn row_key(stream: u32, row: u32) -> u32 {
    return mix_bits(mix_bits(step.key + stream) + step.batch_row + row);
}

fn random_word(key: u32, element: u32) -> u32 {
    return mix_bits(key + element);
}
