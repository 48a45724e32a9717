// Element-wise nodes: dropout, and activations that are not fused to another node. Forward: outputs =
// activate(pass_on(inputs)). Backward: d_inputs = activate_backward(pass_on(d_outputs)) with the activation of the node
// before; `activations` are its outputs, or for gelu its z.
override CHANNELS: u32;
override CHANNEL_BLOCKS: u32;
override PIXELS: u32; // pixels of an example
override WIDTH: u32;
override ONES: bool; // appends the constant 1 of the next layer's bias to the outputs
override FROM_EXAMPLE: u32; // the layout of the tensor that is read
override FROM_FIRST: u32;
override FROM_ROW: u32;
override FROM_COLUMN: u32;
override TO_EXAMPLE: u32; // the layout of the tensor that is written
override TO_FIRST: u32;
override TO_ROW: u32;
override TO_COLUMN: u32;
override ACTIVATION_EXAMPLE: u32; // the layout of the activations
override ACTIVATION_FIRST: u32;
override ACTIVATION_ROW: u32;
override ACTIVATION_COLUMN: u32;

@group(0) @binding(1) var<storage, read> read_from: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> write_to: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> activations: array<vec4<f32>>;

fn from_at(pixel: u32) -> u32 {
    return pixel_at(Layout(PIXELS, WIDTH, FROM_EXAMPLE, FROM_FIRST, FROM_ROW, FROM_COLUMN), pixel);
}

fn to_at(pixel: u32) -> u32 {
    return pixel_at(Layout(PIXELS, WIDTH, TO_EXAMPLE, TO_FIRST, TO_ROW, TO_COLUMN), pixel);
}

// Zeros after the channels, which neither activations nor gradients may change, with the constant 1 first if ONES is
// set.
fn only_channels(block: u32, values: vec4<f32>) -> vec4<f32> {
    let numbers = 4u * block + vec4<u32>(0u, 1u, 2u, 3u);
    let one = vec4<bool>(ONES) & (numbers == vec4<u32>(CHANNELS));
    return select(select(vec4<f32>(0.0), vec4<f32>(1.0), one), values, numbers < vec4<u32>(CHANNELS));
}

@compute @workgroup_size(64)
fn element_wise(
    @builtin(global_invocation_id) invocation: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
) {
    let count = 4u * batch_blocks() * PIXELS * CHANNEL_BLOCKS;
    for (var index = invocation.x; index < count; index += 64u * workgroups.x) {
        let pixel = index / CHANNEL_BLOCKS;
        let block = index % CHANNEL_BLOCKS;
        let at = to_at(pixel) + block;
        let passed = pass_on(read_from[from_at(pixel) + block], pixel, block);
        write_to[at] = only_channels(block, activate(passed, at));
    }
}

@compute @workgroup_size(64)
fn element_wise_backward(
    @builtin(global_invocation_id) invocation: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
) {
    let strides = Layout(PIXELS, WIDTH, ACTIVATION_EXAMPLE, ACTIVATION_FIRST, ACTIVATION_ROW, ACTIVATION_COLUMN);
    let count = 4u * batch_blocks() * PIXELS * CHANNEL_BLOCKS;
    for (var index = invocation.x; index < count; index += 64u * workgroups.x) {
        let pixel = index / CHANNEL_BLOCKS;
        let block = index % CHANNEL_BLOCKS;
        let passed = pass_on(read_from[from_at(pixel) + block], pixel, block);
        let d_input = activate_backward(passed, activations[pixel_at(strides, pixel) + block]);
        write_to[to_at(pixel) + block] = only_channels(block, d_input);
    }
}
