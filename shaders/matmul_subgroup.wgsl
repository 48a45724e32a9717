// C = A . B where memory is slow and a subgroup shares its registers cheaply (software adapters): 8 lanes compute
// 8 x 8 blocks of C. Lane i loads block row i of A and block column i of B, and owns column i of C; the blocks of
// A go round by broadcast, which needs constant lane numbers.
@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) tile: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let row = 8u * tile.y;
    let column = 8u * tile.x + lane;
    let a_at = locate_a(min(row + lane, row_blocks() - 1u));
    let b_at = locate_b(min(column, column_blocks() - 1u));
    var c: array<mat4x4<f32>, 8>;
    for (var k = 0u; k < depth_blocks(); k++) {
        let a = load_a(a_at, k);
        let b = load_b(b_at, k);
        c[0] = multiply_add(block_of_lane_0(a), b, c[0]);
        c[1] = multiply_add(block_of_lane_1(a), b, c[1]);
        c[2] = multiply_add(block_of_lane_2(a), b, c[2]);
        c[3] = multiply_add(block_of_lane_3(a), b, c[3]);
        c[4] = multiply_add(block_of_lane_4(a), b, c[4]);
        c[5] = multiply_add(block_of_lane_5(a), b, c[5]);
        c[6] = multiply_add(block_of_lane_6(a), b, c[6]);
        c[7] = multiply_add(block_of_lane_7(a), b, c[7]);
    }
    if column < column_blocks() {
        store_inside(row + 0u, column, c[0]);
        store_inside(row + 1u, column, c[1]);
        store_inside(row + 2u, column, c[2]);
        store_inside(row + 3u, column, c[3]);
        store_inside(row + 4u, column, c[4]);
        store_inside(row + 5u, column, c[5]);
        store_inside(row + 6u, column, c[6]);
        store_inside(row + 7u, column, c[7]);
    }
}

fn store_inside(row: u32, column: u32, sums: mat4x4<f32>) {
    if row < row_blocks() {
        store(row, column, sums);
    }
}
