// Gradient of the inputs of an element-wise node, passed back through the activation that they come from: d_inputs =
// activate_backward(pass_on(d_outputs)).
//
// Provides: element_wise_backward.
// Needs: CHANNEL_BLOCKS, PIXELS, batch_blocks, d_input_at, d_inputs, only_channels, passed_back, passed_on.
@compute @workgroup_size(64)
fn element_wise_backward(
    @builtin(global_invocation_id) invocation: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
) {
    let count = 4u * batch_blocks() * PIXELS * CHANNEL_BLOCKS;
    for (var index = invocation.x; index < count; index += 64u * workgroups.x) {
        let pixel = index / CHANNEL_BLOCKS;
        let block = index % CHANNEL_BLOCKS;
        let d_input = passed_back(passed_on(pixel, block), pixel, block);
        d_inputs[d_input_at(pixel) + block] = only_channels(block, d_input);
    }
}
