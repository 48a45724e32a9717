// Forward pass of element-wise nodes, dropout and activations that are not fused to another node: outputs =
// activate(pass_on(inputs)).
//
// Provides: element_wise.
// Needs: CHANNEL_BLOCKS, Layout, PIXELS, WIDTH, activate, batch_blocks, only_channels, passed_on, pixel_at.
override OUTPUT_EXAMPLE: u32; // the layout of the outputs
override OUTPUT_FIRST: u32;
override OUTPUT_ROW: u32;
override OUTPUT_COLUMN: u32;

@group(0) @binding(4) var<storage, read_write> outputs: array<vec4<f32>>;

@compute @workgroup_size(64)
fn element_wise(
    @builtin(global_invocation_id) invocation: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
) {
    let strides = Layout(PIXELS, WIDTH, OUTPUT_EXAMPLE, OUTPUT_FIRST, OUTPUT_ROW, OUTPUT_COLUMN);
    let count = 4u * batch_blocks() * PIXELS * CHANNEL_BLOCKS;
    for (var index = invocation.x; index < count; index += 64u * workgroups.x) {
        let pixel = index / CHANNEL_BLOCKS;
        let block = index % CHANNEL_BLOCKS;
        let at = pixel_at(strides, pixel) + block;
        outputs[at] = only_channels(block, activate(passed_on(pixel, block), at));
    }
}
