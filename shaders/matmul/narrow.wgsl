// C = A . B with at most 16 columns, for devices whose subgroups share registers cheaply: 8 lanes compute 8 block rows
// of C, each lane all columns of its row. Lane i loads the block of A in its row, and the blocks of B at k + i, which
// are broadcast in turn.
//
// Provides: main.
// Needs: block_of_lane, column_blocks, depth_blocks, finish, load_a, load_b, locate_a, locate_b, multiply_add,
//     row_blocks, step, store.
@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) tile: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let depth = depth_blocks(tile.z);
    let row = 8u * (step.first_tile + tile.y) + lane;
    let a_at = locate_a(min(row, row_blocks() - 1u));
    var c: Row;
    for (var k = depth.x; k < depth.y; k += 8u) {
        let b = load_b_row(min(k + lane, depth.y - 1u));
        for (var i = 0u; i < min(8u, depth.y - k); i++) {
            let a = load_a(a_at, k + i);
            c._0 = multiply_add(a, block_of_lane(b._0, i), c._0);
            if column_blocks() > 1u { c._1 = multiply_add(a, block_of_lane(b._1, i), c._1); }
            if column_blocks() > 2u { c._2 = multiply_add(a, block_of_lane(b._2, i), c._2); }
            if column_blocks() > 3u { c._3 = multiply_add(a, block_of_lane(b._3, i), c._3); }
        }
    }
    if row < row_blocks() {
        store(tile.z, row, 0u, c._0);
        if column_blocks() > 1u { store(tile.z, row, 1u, c._1); }
        if column_blocks() > 2u { store(tile.z, row, 2u, c._2); }
        if column_blocks() > 3u { store(tile.z, row, 3u, c._3); }
        finish(row);
    }
}

// A row of up to four blocks.
struct Row {
    _0: mat4x4<f32>,
    _1: mat4x4<f32>,
    _2: mat4x4<f32>,
    _3: mat4x4<f32>,
}

fn load_b_row(k: u32) -> Row {
    var b: Row;
    b._0 = load_b(locate_b(0u), k);
    if column_blocks() > 1u { b._1 = load_b(locate_b(1u), k); }
    if column_blocks() > 2u { b._2 = load_b(locate_b(2u), k); }
    if column_blocks() > 3u { b._3 = load_b(locate_b(3u), k); }
    return b;
}
