// C = A . B for hardware GPUs: 16 x 16 invocations compute 16 x 16 blocks of C, one block each. Four block columns of A
// and four block rows of B at a time are shared in workgroup memory.
//
// Provides: main.
// Needs: column_blocks, depth_blocks, load_a, load_b, locate_a, locate_b, multiply_add, row_blocks, step, store.
var<workgroup> a_shared: array<array<mat4x4<f32>, 16>, 4>; // [k][row]
var<workgroup> b_shared: array<array<mat4x4<f32>, 16>, 4>; // [k][column]

@compute @workgroup_size(16, 16)
fn main(
    @builtin(workgroup_id) tile: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let depth = depth_blocks(tile.z);
    let row = 16u * (step.first_tile + tile.y) + local.y;
    let column = 16u * tile.x + local.x;
    // Invocations 0..63 load A, 64..127 load B: one block each.
    let shared_k = (index / 16u) % 4u;
    let shared_at = index % 16u;
    let a_at = locate_a(min(16u * (step.first_tile + tile.y) + shared_at, row_blocks() - 1u));
    let b_at = locate_b(min(16u * tile.x + shared_at, column_blocks() - 1u));
    var c: mat4x4<f32>;
    for (var k = depth.x; k < depth.y; k += 4u) {
        if index < 128u {
            var block = mat4x4<f32>(); // zeros beyond the last k; explicit, because browsers keep the last iteration's
            if k + shared_k < depth.y {
                if index < 64u {
                    block = load_a(a_at, k + shared_k);
                } else {
                    block = load_b(b_at, k + shared_k);
                }
            }
            if index < 64u {
                a_shared[shared_k][shared_at] = block;
            } else {
                b_shared[shared_k][shared_at] = block;
            }
        }
        workgroupBarrier();
        for (var i = 0u; i < 4u; i++) {
            c = multiply_add(a_shared[i][local.y], b_shared[i][local.x], c);
        }
        workgroupBarrier();
    }
    if row < row_blocks() && column < column_blocks() {
        store(tile.z, row, column, c);
    }
}
