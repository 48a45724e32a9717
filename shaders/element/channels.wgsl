// The edge of a pixel's channels.
//
// Provides: CHANNELS, only_channels.
override CHANNELS: u32;
override ONES: bool; // appends the constant 1 of the next layer's bias to the outputs

// Zeros after the channels, which neither activations nor gradients may change, with the constant 1 first if ONES is
// set.
fn only_channels(block: u32, values: vec4<f32>) -> vec4<f32> {
    let numbers = 4u * block + vec4<u32>(0u, 1u, 2u, 3u);
    let one = vec4<bool>(ONES) & (numbers == vec4<u32>(CHANNELS));
    return select(select(vec4<f32>(0.0), vec4<f32>(1.0), one), values, numbers < vec4<u32>(CHANNELS));
}
