// C = A . B for any adapter: each invocation computes two blocks of C, one below the other.
//
// Provides: main.
// Needs: column_blocks, depth_blocks, load_a, load_b, locate_a, locate_b, multiply_add, row_blocks, step, store.
@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) invocation: vec3<u32>) {
    let depth = depth_blocks(invocation.z);
    // Beyond the edge the last block is computed again, but not stored: cheaper than an early return.
    let column = min(invocation.x, column_blocks() - 1u);
    let row = 2u * (8u * step.first_tile + invocation.y);
    let upper_at = locate_a(min(row, row_blocks() - 1u));
    let lower_at = locate_a(min(row + 1u, row_blocks() - 1u));
    let b_at = locate_b(column);
    var upper: mat4x4<f32>;
    var lower: mat4x4<f32>;
    for (var k = depth.x; k < depth.y; k++) {
        let b = load_b(b_at, k);
        upper = multiply_add(load_a(upper_at, k), b, upper);
        lower = multiply_add(load_a(lower_at, k), b, lower);
    }
    if invocation.x < column_blocks() {
        if row < row_blocks() {
            store(invocation.z, row, column, upper);
        }
        if row + 1u < row_blocks() {
            store(invocation.z, row + 1u, column, lower);
        }
    }
}
