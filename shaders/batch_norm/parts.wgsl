// Sums over all pixels of a batch, in PARTS parts. One invocation sums a part for four channels, in order, and another
// kernel adds the parts in order, so the bits are the same every time.
//
// Provides: PARTS, pixels_of_part.
// Needs: PIXELS, step.
override PARTS: u32;

// The range of pixels of a part, end exclusive.
fn pixels_of_part(part: u32) -> vec2<u32> {
    let pixels = step.batch * PIXELS;
    let size = (pixels + PARTS - 1u) / PARTS;
    return min(vec2<u32>(part, part + 1u) * size, vec2<u32>(pixels));
}
