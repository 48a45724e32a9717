// Gradients of a batch normalisation's scales and shifts: the sums over all pixels of d_outputs * normalized and of
// d_outputs, in parts for sum_parts.wgsl.
//
// Provides: batch_norm_weight_gradient.
// Needs: CHANNEL_BLOCKS, Layout, PARTS, PIXELS, WIDTH, normalized, pixel_at, pixels_of_part.
override D_OUTPUT_EXAMPLE: u32; // the layout of d_outputs
override D_OUTPUT_FIRST: u32;
override D_OUTPUT_ROW: u32;
override D_OUTPUT_COLUMN: u32;

@group(0) @binding(3) var<storage, read> d_outputs: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> parts: array<vec4<f32>>; // [PARTS, 4, channels]: matrices of 2 rows

@compute @workgroup_size(64)
fn batch_norm_weight_gradient(@builtin(global_invocation_id) invocation: vec3<u32>) {
    let strides = Layout(PIXELS, WIDTH, D_OUTPUT_EXAMPLE, D_OUTPUT_FIRST, D_OUTPUT_ROW, D_OUTPUT_COLUMN);
    let part = invocation.x / CHANNEL_BLOCKS;
    let block = invocation.x % CHANNEL_BLOCKS;
    if part < PARTS {
        let pixels = pixels_of_part(part);
        var d_scale = vec4<f32>(0.0);
        var d_shift = vec4<f32>(0.0);
        for (var pixel = pixels.x; pixel < pixels.y; pixel++) {
            let d_output = d_outputs[pixel_at(strides, pixel) + block];
            d_scale += d_output * normalized(pixel, block);
            d_shift += d_output;
        }
        parts[4u * part * CHANNEL_BLOCKS + block] = d_scale;
        parts[(4u * part + 1u) * CHANNEL_BLOCKS + block] = d_shift;
        parts[(4u * part + 2u) * CHANNEL_BLOCKS + block] = vec4<f32>(0.0);
        parts[(4u * part + 3u) * CHANNEL_BLOCKS + block] = vec4<f32>(0.0);
    }
}
