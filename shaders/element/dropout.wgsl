// Dropout of values, and likewise of their gradient: a value becomes 0 with probability p, and is multiplied by 1 / (1
// - p) otherwise.
//
// Provides: pass_on.
// Needs: CHANNELS, PIXELS, random_word, row_key.
override STREAM: u32; // stream of random numbers: the number of the layer
override THRESHOLD: u32; // random words below it drop a value
override SCALE: f32; // 1 / (1 - p)

fn pass_on(values: vec4<f32>, pixel: u32, block: u32) -> vec4<f32> {
    let key = row_key(STREAM, pixel / PIXELS);
    let element = pixel % PIXELS * CHANNELS + 4u * block;
    let words = vec4<u32>(
        random_word(key, element),
        random_word(key, element + 1u),
        random_word(key, element + 2u),
        random_word(key, element + 3u),
    );
    return select(vec4<f32>(0.0), SCALE * values, words >= vec4<u32>(THRESHOLD));
}
