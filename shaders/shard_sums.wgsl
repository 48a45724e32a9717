// Sums over a batch's shards, of gradients or for statistics, in a binary tree: src/shards.rs. That of the last shard, or
// the sum that it was added to, is in `sum`; `kept` is a sum that waits for as large a one.
//
// Provides: add_sum, clear_sum, keep_sum.
@group(0) @binding(3) var<storage, read_write> sum: array<vec4<f32>>; // [inputs + 1, outputs]
@group(0) @binding(4) var<storage, read_write> kept: array<vec4<f32>>; // shaped like sum

// The sum of a shard without rows.
@compute @workgroup_size(64)
fn clear_sum(
    @builtin(global_invocation_id) invocation: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
) {
    for (var at = invocation.x; at < arrayLength(&sum); at += 64u * workgroups.x) {
        sum[at] = vec4<f32>(0.0);
    }
}

@compute @workgroup_size(64)
fn keep_sum(
    @builtin(global_invocation_id) invocation: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
) {
    for (var at = invocation.x; at < arrayLength(&sum); at += 64u * workgroups.x) {
        kept[at] = sum[at];
    }
}

@compute @workgroup_size(64)
fn add_sum(
    @builtin(global_invocation_id) invocation: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
) {
    for (var at = invocation.x; at < arrayLength(&sum); at += 64u * workgroups.x) {
        sum[at] = kept[at] + sum[at];
    }
}
