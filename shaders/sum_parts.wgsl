// Adds the partial sums of a layer's weight gradient, in order, and updates the weights with a part of optimizer/; with
// store_gradient.wgsl it stores the gradient, for clipping or for another kernel.
//
// Provides: sum_parts.
// Needs: update.
override PARTS: u32;
// The weights have groups of GROUP rows with padding up to GROUP_STRIDE, which must stay 0; the bias is row BIAS.
override GROUP: u32;
override GROUP_STRIDE: u32;
override BIAS: u32;
override OUTPUT_BLOCKS: u32; // blocks of 4 in a row of the weights

@group(0) @binding(3) var<storage, read> parts: array<vec4<f32>>; // [PARTS, inputs + 1, outputs]

@compute @workgroup_size(64)
fn sum_parts(
    @builtin(global_invocation_id) invocation: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
) {
    let blocks = arrayLength(&parts) / PARTS;
    for (var at = invocation.x; at < blocks; at += 64u * workgroups.x) {
        var sum = vec4<f32>(0.0);
        for (var part = 0u; part < PARTS; part++) {
            sum += parts[part * blocks + at];
        }
        let row = at / OUTPUT_BLOCKS;
        let is_weight = (row < BIAS && row % GROUP_STRIDE < GROUP) || row == BIAS;
        update(at, select(vec4<f32>(0.0), sum, is_weight));
    }
}
