// Mean and variance of each channel of a batch, from sums over all of its shards: first the means, from the distances to the
// running means; then the variances, from the distances to the means, so that nothing cancels.
//
// Provides: batch_mean, batch_variance.
// Needs: CHANNEL_BLOCKS, PIXELS, batch_size, is_negative, keep_statistics, running, statistics.
@group(0) @binding(3) var<storage, read> sums: array<vec4<f32>>; // [2, channels]: of distances, and of their squares

// One invocation per four channels.
@compute @workgroup_size(64)
fn batch_mean(@builtin(global_invocation_id) invocation: vec3<u32>) {
    let block = invocation.x;
    if block < CHANNEL_BLOCKS {
        statistics[block] = running[block] + sums[block] / f32(batch_size() * PIXELS);
    }
}

// The means were rounded: what is left of the distances corrects them, and the squares around them.
@compute @workgroup_size(64)
fn batch_variance(@builtin(global_invocation_id) invocation: vec3<u32>) {
    let block = invocation.x;
    if block < CHANNEL_BLOCKS {
        let count = f32(batch_size() * PIXELS);
        let off = sums[block] / count;
        let mean = statistics[block] + off;
        let rest = sums[CHANNEL_BLOCKS + block] - off * sums[block];
        let squares = select(rest, vec4<f32>(0.0), is_negative(rest));
        keep_statistics(block, mean, squares, count);
    }
}
