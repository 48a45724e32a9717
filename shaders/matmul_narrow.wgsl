// C = A . B with at most 16 columns, where a subgroup shares its registers cheaply: 8 lanes compute 16 block rows of
// C, each lane all the columns of two rows. Lane i loads the blocks of A in its rows, and the blocks of B at k + i,
// which go round by broadcast.
@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) tile: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let row = 2u * (8u * tile.y + lane);
    let upper_at = locate_a(min(row, row_blocks() - 1u));
    let lower_at = locate_a(min(row + 1u, row_blocks() - 1u));
    var upper: Row;
    var lower: Row;
    for (var k = 0u; k < depth_blocks(); k += 8u) {
        let b = load_b_row(min(k + lane, depth_blocks() - 1u));
        if k + 0u < depth_blocks() {
            let b0 = row_of_lane_0(b);
            upper = multiply_add_blocks(load_a(upper_at, k + 0u), b0, upper);
            lower = multiply_add_blocks(load_a(lower_at, k + 0u), b0, lower);
        }
        if k + 1u < depth_blocks() {
            let b1 = row_of_lane_1(b);
            upper = multiply_add_blocks(load_a(upper_at, k + 1u), b1, upper);
            lower = multiply_add_blocks(load_a(lower_at, k + 1u), b1, lower);
        }
        if k + 2u < depth_blocks() {
            let b2 = row_of_lane_2(b);
            upper = multiply_add_blocks(load_a(upper_at, k + 2u), b2, upper);
            lower = multiply_add_blocks(load_a(lower_at, k + 2u), b2, lower);
        }
        if k + 3u < depth_blocks() {
            let b3 = row_of_lane_3(b);
            upper = multiply_add_blocks(load_a(upper_at, k + 3u), b3, upper);
            lower = multiply_add_blocks(load_a(lower_at, k + 3u), b3, lower);
        }
        if k + 4u < depth_blocks() {
            let b4 = row_of_lane_4(b);
            upper = multiply_add_blocks(load_a(upper_at, k + 4u), b4, upper);
            lower = multiply_add_blocks(load_a(lower_at, k + 4u), b4, lower);
        }
        if k + 5u < depth_blocks() {
            let b5 = row_of_lane_5(b);
            upper = multiply_add_blocks(load_a(upper_at, k + 5u), b5, upper);
            lower = multiply_add_blocks(load_a(lower_at, k + 5u), b5, lower);
        }
        if k + 6u < depth_blocks() {
            let b6 = row_of_lane_6(b);
            upper = multiply_add_blocks(load_a(upper_at, k + 6u), b6, upper);
            lower = multiply_add_blocks(load_a(lower_at, k + 6u), b6, lower);
        }
        if k + 7u < depth_blocks() {
            let b7 = row_of_lane_7(b);
            upper = multiply_add_blocks(load_a(upper_at, k + 7u), b7, upper);
            lower = multiply_add_blocks(load_a(lower_at, k + 7u), b7, lower);
        }
    }
    if row < row_blocks() {
        store_row_of_blocks(row, upper);
        finish(row);
    }
    if row + 1u < row_blocks() {
        store_row_of_blocks(row + 1u, lower);
        finish(row + 1u);
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

fn multiply_add_blocks(a: mat4x4<f32>, b: Row, c: Row) -> Row {
    var sums: Row;
    sums._0 = multiply_add(a, b._0, c._0);
    if column_blocks() > 1u { sums._1 = multiply_add(a, b._1, c._1); }
    if column_blocks() > 2u { sums._2 = multiply_add(a, b._2, c._2); }
    if column_blocks() > 3u { sums._3 = multiply_add(a, b._3, c._3); }
    return sums;
}

fn store_row_of_blocks(row: u32, sums: Row) {
    store(row, 0u, sums._0);
    if column_blocks() > 1u { store(row, 1u, sums._1); }
    if column_blocks() > 2u { store(row, 2u, sums._2); }
    if column_blocks() > 3u { store(row, 3u, sums._3); }
}

fn row_of_lane_0(b: Row) -> Row {
    var row: Row;
    row._0 = block_of_lane_0(b._0);
    if column_blocks() > 1u { row._1 = block_of_lane_0(b._1); }
    if column_blocks() > 2u { row._2 = block_of_lane_0(b._2); }
    if column_blocks() > 3u { row._3 = block_of_lane_0(b._3); }
    return row;
}

fn row_of_lane_1(b: Row) -> Row {
    var row: Row;
    row._0 = block_of_lane_1(b._0);
    if column_blocks() > 1u { row._1 = block_of_lane_1(b._1); }
    if column_blocks() > 2u { row._2 = block_of_lane_1(b._2); }
    if column_blocks() > 3u { row._3 = block_of_lane_1(b._3); }
    return row;
}

fn row_of_lane_2(b: Row) -> Row {
    var row: Row;
    row._0 = block_of_lane_2(b._0);
    if column_blocks() > 1u { row._1 = block_of_lane_2(b._1); }
    if column_blocks() > 2u { row._2 = block_of_lane_2(b._2); }
    if column_blocks() > 3u { row._3 = block_of_lane_2(b._3); }
    return row;
}

fn row_of_lane_3(b: Row) -> Row {
    var row: Row;
    row._0 = block_of_lane_3(b._0);
    if column_blocks() > 1u { row._1 = block_of_lane_3(b._1); }
    if column_blocks() > 2u { row._2 = block_of_lane_3(b._2); }
    if column_blocks() > 3u { row._3 = block_of_lane_3(b._3); }
    return row;
}

fn row_of_lane_4(b: Row) -> Row {
    var row: Row;
    row._0 = block_of_lane_4(b._0);
    if column_blocks() > 1u { row._1 = block_of_lane_4(b._1); }
    if column_blocks() > 2u { row._2 = block_of_lane_4(b._2); }
    if column_blocks() > 3u { row._3 = block_of_lane_4(b._3); }
    return row;
}

fn row_of_lane_5(b: Row) -> Row {
    var row: Row;
    row._0 = block_of_lane_5(b._0);
    if column_blocks() > 1u { row._1 = block_of_lane_5(b._1); }
    if column_blocks() > 2u { row._2 = block_of_lane_5(b._2); }
    if column_blocks() > 3u { row._3 = block_of_lane_5(b._3); }
    return row;
}

fn row_of_lane_6(b: Row) -> Row {
    var row: Row;
    row._0 = block_of_lane_6(b._0);
    if column_blocks() > 1u { row._1 = block_of_lane_6(b._1); }
    if column_blocks() > 2u { row._2 = block_of_lane_6(b._2); }
    if column_blocks() > 3u { row._3 = block_of_lane_6(b._3); }
    return row;
}

fn row_of_lane_7(b: Row) -> Row {
    var row: Row;
    row._0 = block_of_lane_7(b._0);
    if column_blocks() > 1u { row._1 = block_of_lane_7(b._1); }
    if column_blocks() > 2u { row._2 = block_of_lane_7(b._2); }
    if column_blocks() > 3u { row._3 = block_of_lane_7(b._3); }
    return row;
}
