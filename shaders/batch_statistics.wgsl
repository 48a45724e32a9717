// Mean and variance of each channel of a batch. Each part has its own mean and the sum of squares around it, so that
// nothing cancels. In the total, a part of n pixels adds n (mean of the part - mean)^2 to the squares (Chan, Golub and
// LeVeque 1983, "Algorithms for computing the sample variance").
//
// Provides: batch_statistics, batch_statistics_parts.
// Needs: CHANNEL_BLOCKS, PARTS, PIXELS, input_at, inputs, keep_statistics, pixels_of_part, step.
@group(0) @binding(3) var<storage, read_write> parts: array<vec4<f32>>; // [PARTS, 2, channels]: means, squares

@compute @workgroup_size(64)
fn batch_statistics_parts(@builtin(global_invocation_id) invocation: vec3<u32>) {
    let part = invocation.x / CHANNEL_BLOCKS;
    let block = invocation.x % CHANNEL_BLOCKS;
    if part < PARTS {
        let pixels = pixels_of_part(part);
        var sum = vec4<f32>(0.0);
        for (var pixel = pixels.x; pixel < pixels.y; pixel++) {
            sum += inputs[input_at(pixel) + block];
        }
        let mean = sum / f32(max(pixels.y - pixels.x, 1u));
        var squares = vec4<f32>(0.0);
        for (var pixel = pixels.x; pixel < pixels.y; pixel++) {
            let centered = inputs[input_at(pixel) + block] - mean;
            squares += centered * centered;
        }
        parts[2u * part * CHANNEL_BLOCKS + block] = mean;
        parts[(2u * part + 1u) * CHANNEL_BLOCKS + block] = squares;
    }
}

// One invocation per four channels.
@compute @workgroup_size(64)
fn batch_statistics(@builtin(global_invocation_id) invocation: vec3<u32>) {
    let block = invocation.x;
    if block < CHANNEL_BLOCKS {
        let count = f32(step.batch * PIXELS);
        var sum = vec4<f32>(0.0);
        for (var part = 0u; part < PARTS; part++) {
            let pixels = pixels_of_part(part);
            sum += f32(pixels.y - pixels.x) * parts[2u * part * CHANNEL_BLOCKS + block];
        }
        let mean = sum / count;
        var squares = vec4<f32>(0.0);
        for (var part = 0u; part < PARTS; part++) {
            let pixels = pixels_of_part(part);
            let off = parts[2u * part * CHANNEL_BLOCKS + block] - mean;
            squares += parts[(2u * part + 1u) * CHANNEL_BLOCKS + block] + f32(pixels.y - pixels.x) * (off * off);
        }
        keep_statistics(block, mean, squares, count);
    }
}
