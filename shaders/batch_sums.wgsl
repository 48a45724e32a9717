// Sums over the pixels of a shard: each channel's distances from a center, and their squares, in parts for sum_parts.wgsl.
//
// Provides: batch_sums.
// Needs: CHANNEL_BLOCKS, PARTS, input_at, inputs, pixels_of_part.
@group(0) @binding(2) var<storage, read> centers: array<vec4<f32>>; // [2, channels], of which the first row counts
@group(0) @binding(3) var<storage, read_write> parts: array<vec4<f32>>; // [PARTS, 4, channels]: matrices of 2 rows

@compute @workgroup_size(64)
fn batch_sums(@builtin(global_invocation_id) invocation: vec3<u32>) {
    let part = invocation.x / CHANNEL_BLOCKS;
    let block = invocation.x % CHANNEL_BLOCKS;
    if part < PARTS {
        let pixels = pixels_of_part(part);
        var sum = vec4<f32>(0.0);
        var squares = vec4<f32>(0.0);
        for (var pixel = pixels.x; pixel < pixels.y; pixel++) {
            let distance = inputs[input_at(pixel) + block] - centers[block];
            sum += distance;
            squares += distance * distance;
        }
        parts[4u * part * CHANNEL_BLOCKS + block] = sum;
        parts[(4u * part + 1u) * CHANNEL_BLOCKS + block] = squares;
        parts[(4u * part + 2u) * CHANNEL_BLOCKS + block] = vec4<f32>(0.0);
        parts[(4u * part + 3u) * CHANNEL_BLOCKS + block] = vec4<f32>(0.0);
    }
}
