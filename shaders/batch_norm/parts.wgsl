// Sums over all pixels of a batch, in PARTS parts: each is one invocation's for four channels, in order, and another
// kernel joins them in order, so that the bits are the same each time.
override PARTS: u32;

// The pixels of a part, from the first to before the last.
fn pixels_of_part(part: u32) -> vec2<u32> {
    let pixels = step.batch * PIXELS;
    let size = (pixels + PARTS - 1u) / PARTS;
    return min(vec2<u32>(part, part + 1u) * size, vec2<u32>(pixels));
}
