// C = A . B for devices with slow memory whose subgroups share registers cheaply (software adapters): 8 lanes compute 8
// x 8 blocks of C. Lane i loads block row i of A and block column i of B, and computes column i of C; the blocks of A
// are broadcast in turn.
//
// Provides: main.
// Needs: block_of_lane, column_blocks, depth_blocks, load_a, load_b, locate_a, locate_b, multiply_add, row_blocks,
//     step, store.
@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) tile: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let depth = depth_blocks(tile.z);
    let row = 8u * (step.first_tile + tile.y);
    let column = 8u * tile.x + lane;
    let a_at = locate_a(min(row + lane, row_blocks() - 1u));
    let b_at = locate_b(min(column, column_blocks() - 1u));
    var c: array<mat4x4<f32>, 8>;
    for (var k = depth.x; k < depth.y; k++) {
        let a = load_a(a_at, k);
        let b = load_b(b_at, k);
        c[0] = multiply_add(block_of_lane(a, 0u), b, c[0]);
        c[1] = multiply_add(block_of_lane(a, 1u), b, c[1]);
        c[2] = multiply_add(block_of_lane(a, 2u), b, c[2]);
        c[3] = multiply_add(block_of_lane(a, 3u), b, c[3]);
        c[4] = multiply_add(block_of_lane(a, 4u), b, c[4]);
        c[5] = multiply_add(block_of_lane(a, 5u), b, c[5]);
        c[6] = multiply_add(block_of_lane(a, 6u), b, c[6]);
        c[7] = multiply_add(block_of_lane(a, 7u), b, c[7]);
    }
    if column < column_blocks() {
        for (var i = 0u; i < 8u && row + i < row_blocks(); i++) {
            store(tile.z, row + i, column, block_of(c, i));
        }
    }
}

// Returns c[i]. An array indexed by a variable would leave the registers; and with the loop above, store() is compiled
// once instead of eight times.
fn block_of(c: array<mat4x4<f32>, 8>, i: u32) -> mat4x4<f32> {
    switch i {
        case 0u: { return c[0]; }
        case 1u: { return c[1]; }
        case 2u: { return c[2]; }
        case 3u: { return c[3]; }
        case 4u: { return c[4]; }
        case 5u: { return c[5]; }
        case 6u: { return c[6]; }
        default: { return c[7]; }
    }
}
