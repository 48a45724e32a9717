// The layout of a tensor's pixels, in blocks of 4 channels. Pixels are numbered over the batch, row by row; a tensor of
// features has one pixel per example. Around and between the pixels a tensor may have zeros, which no kernel writes:
// the padding that a convolution reads.
//
// Provides: Layout, pixel_at, pixels_at.
struct Layout {
    pixels: u32,  // pixels of an example
    width: u32,   // pixels of a row
    example: u32, // blocks from an example to the next
    first: u32,   // block where the first pixel starts
    row: u32,     // blocks from a row of pixels to the next
    column: u32,  // blocks from a pixel to the next
}

fn pixel_at(strides: Layout, pixel: u32) -> u32 {
    let place = pixel % strides.pixels;
    return strides.first + pixel / strides.pixels * strides.example + place / strides.width * strides.row
        + place % strides.width * strides.column;
}

fn pixels_at(strides: Layout, pixels: vec4<u32>) -> vec4<u32> {
    let places = pixels % strides.pixels;
    return strides.first + pixels / strides.pixels * strides.example + places / strides.width * strides.row
        + places % strides.width * strides.column;
}
