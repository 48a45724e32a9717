// C = A . B for hardware GPUs: a workgroup computes 8 x TILE_COLUMNS blocks of C, with one invocation for each block in
// each of GROUPS groups. A group sums a share of the depth, and the first group adds the sums of the others. Four block
// columns of A and four block rows of B at a time pass through workgroup memory. Tiles are numbered by rows; where C has
// more rows of tiles than a grid may have, a row of the grid is several of them.
//
// Provides: main.
// Needs: column_blocks, depth_blocks, load_a, load_b, locate_a, locate_b, multiply_add, row_blocks, step, store.
override TILE_COLUMNS: u32; // 4 or 8
override GROUPS: u32;

const TILE_ROWS: u32 = 8u;
const DEPTH: u32 = 4u;

// Of each group the blocks of A, then those of B; in the end sums. The rows of a block are apart, so that neighbouring
// invocations access neighbouring vectors.
const GROUP_VECTORS: u32 = 256u;
var<workgroup> vectors: array<vec4<f32>, GROUP_VECTORS * GROUPS>;

fn put(at: u32, stride: u32, block: mat4x4<f32>) {
    vectors[at] = block[0];
    vectors[at + stride] = block[1];
    vectors[at + 2u * stride] = block[2];
    vectors[at + 3u * stride] = block[3];
}

fn block_at(at: u32, stride: u32) -> mat4x4<f32> {
    return mat4x4<f32>(vectors[at], vectors[at + stride], vectors[at + 2u * stride], vectors[at + 3u * stride]);
}

@compute @workgroup_size(TILE_ROWS * TILE_COLUMNS * GROUPS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let part = workgroup.z;
    let tile = (step.first_tile + workgroup.y) * workgroups.x + workgroup.x;
    let tile_columns = (column_blocks() + TILE_COLUMNS - 1u) / TILE_COLUMNS;
    let first_row = TILE_ROWS * (tile / tile_columns);
    let first_column = TILE_COLUMNS * (tile % tile_columns);

    let group_size = TILE_ROWS * TILE_COLUMNS;
    let group = index / group_size;
    let i = index % group_size;
    let depth = depth_blocks(part);
    let share = (depth.y - depth.x + GROUPS - 1u) / GROUPS;
    let first_k = depth.x + group * share;
    let end_k = min(first_k + share, depth.y);

    // The first invocations of a group load A, the last load B.
    let a_row = i % TILE_ROWS;
    let a_k = i / TILE_ROWS;
    let a_at = locate_a(min(first_row + a_row, row_blocks() - 1u));
    let a_vectors = group * GROUP_VECTORS;
    let b_column = (group_size - 1u - i) % TILE_COLUMNS;
    let b_k = (group_size - 1u - i) / TILE_COLUMNS;
    let b_at = locate_b(min(first_column + b_column, column_blocks() - 1u));
    let b_vectors = a_vectors + 4u * TILE_ROWS * DEPTH;

    let row = i / TILE_COLUMNS;
    let column = i % TILE_COLUMNS;
    var c: mat4x4<f32>;
    for (var k = 0u; k < share; k += DEPTH) {
        if a_k < DEPTH {
            var block = mat4x4<f32>(); // zeros beyond the last k; explicit, because browsers keep the last iteration's
            if first_k + k + a_k < end_k {
                block = load_a(a_at, first_k + k + a_k);
            }
            put(a_vectors + 4u * TILE_ROWS * a_k + a_row, TILE_ROWS, block);
        }
        if b_k < DEPTH {
            var block = mat4x4<f32>();
            if first_k + k + b_k < end_k {
                block = load_b(b_at, first_k + k + b_k);
            }
            put(b_vectors + 4u * TILE_COLUMNS * b_k + b_column, TILE_COLUMNS, block);
        }
        workgroupBarrier();
        for (var k_of_tile = 0u; k_of_tile < DEPTH; k_of_tile++) {
            let a = block_at(a_vectors + 4u * TILE_ROWS * k_of_tile + row, TILE_ROWS);
            let b = block_at(b_vectors + 4u * TILE_COLUMNS * k_of_tile + column, TILE_COLUMNS);
            c = multiply_add(a, b, c);
        }
        workgroupBarrier();
    }

    if GROUPS > 1u {
        if group > 0u {
            put(4u * (group - 1u) * group_size + i, group_size, c);
        }
        workgroupBarrier();
    }
    if group > 0u || first_row + row >= row_blocks() || first_column + column >= column_blocks() {
        return;
    }
    for (var other = 1u; other < GROUPS; other++) {
        c += block_at(4u * (other - 1u) * group_size + i, group_size);
    }
    store(part, first_row + row, first_column + column, c);
}
