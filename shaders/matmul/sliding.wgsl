// C = A . B of a convolution, for devices with slow memory whose subgroups share registers cheaply (software adapters):
// each of 8 lanes computes TILE_COLUMNS block columns of C for RUN pixels side by side. Their windows overlap: from one
// tap of a kernel row to the next, all but one pixel are in registers already. The lanes load the blocks of B of all
// columns together, and broadcast them in turn.
//
// Loads are what costs here, and every term of an address costs once for each lane: so addresses are carried from turn
// to turn, and only added to. Beside the functions of product.wgsl, forward and input_gradient define:
//
//   window_at(pixel), load_window(at)   the start of a pixel's window, and the block there
//   initial(column_block)               what the sums start with
//   weights_offset(k), b_of_weights()   the k-th block of B, as the product of the rows from locate_b and this offset
//   locate_pixel(pixel), store_pixel(at, i, column_block, sums)   the epilogue of the i-th pixel after one
//
// Provides: main.
// Needs: WINDOW_COLUMN, WINDOW_WIDTH, b_of_weights, column_blocks, initial, load_window, locate_b, locate_pixel,
//     multiply_add_row, row_blocks, step, store_pixel, weights, weights_offset, window_at.
override RUN: u32; // 1 to 8, at most WINDOW_WIDTH
override TILE_COLUMNS: u32; // 4, or 8
override KERNEL_ROWS: u32;
override TAPS: u32; // taps of a kernel row
override TAP_BLOCKS: u32; // blocks of a tap
override ROW_STEP: u32; // blocks of the tensor from a kernel row to the next
override TAP_STEP: u32; // blocks of the tensor from a tap to the next

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) tile: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    // The last run of a row may start earlier, to end with the row.
    let runs = (WINDOW_WIDTH + RUN - 1u) / RUN;
    let count = 4u * row_blocks() / WINDOW_WIDTH * runs;
    let run = 8u * (step.first_tile + tile.y) + lane;
    let place = min(run, count - 1u);
    let x = min(place % runs * RUN, WINDOW_WIDTH - RUN);
    let repeated = place % runs * RUN - x;
    let pixel = place / runs * WINDOW_WIDTH + x;
    let start = window_at(pixel);

    let column = TILE_COLUMNS * tile.x;
    let own_column = min(column + lane % TILE_COLUMNS, column_blocks() - 1u);
    let first = initial(own_column);
    var c = array<Run, 8>(
        run_of(subgroupShuffle(first, 0u)),
        run_of(subgroupShuffle(first, 1u)),
        run_of(subgroupShuffle(first, 2u)),
        run_of(subgroupShuffle(first, 3u)),
        run_of(subgroupShuffle(first, 4u)),
        run_of(subgroupShuffle(first, 5u)),
        run_of(subgroupShuffle(first, 6u)),
        run_of(subgroupShuffle(first, 7u)),
    );
    if WINDOW_COLUMN == 1u && TAP_STEP == 4u && TAPS <= 2u {
        c = sums_of_values(start, locate_b(own_column), lane, c);
    } else {
        c = sums_of_blocks(start, locate_b(own_column), lane, c);
    }
    if run < count {
        let at = locate_pixel(pixel);
        for (var i = 0u; i < TILE_COLUMNS && column + i < column_blocks(); i++) {
            store_run(at, repeated, column + i, run_of_column(c, i));
        }
    }
}

fn sums_of_blocks(start: u32, b_rows: vec4<u32>, lane: u32, first: array<Run, 8>) -> array<Run, 8> {
    // With four columns, a lane loads the upper or the lower rows of a block.
    let b_at = select(b_rows, b_rows.zwxy, vec4<bool>(TILE_COLUMNS == 4u && lane >= 4u));
    let b_step = weights_offset(TAP_BLOCKS) - weights_offset(0u);
    var c = first;
    for (var row = 0u; row < KERNEL_ROWS; row++) {
        for (var block = 0u; block < TAP_BLOCKS; block++) {
            var b_now = b_at + weights_offset(row * TAPS * TAP_BLOCKS + block);
            var a_at = start + row * ROW_STEP + block;
            var a = Run();
            if TAP_STEP == WINDOW_COLUMN {
                a = load_run(a_at - WINDOW_COLUMN);
                a_at += (RUN - 1u) * WINDOW_COLUMN;
            }
            for (var tap = 0u; tap < TAPS; tap++) {
                if TAP_STEP == WINDOW_COLUMN {
                    a = Run(a._1, a._2, a._3, a._4, a._5, a._6, a._7, load_window(a_at));
                } else {
                    a = load_run(a_at);
                }
                var b = mat4x4<f32>(weights[b_now.x], weights[b_now.y], vec4<f32>(), vec4<f32>());
                if TILE_COLUMNS == 8u {
                    b[2] = weights[b_now.z];
                    b[3] = weights[b_now.w];
                }
                c[0] = add_products(a, b_of_lane(b, 0u), c[0]);
                if column_blocks() > 1u { c[1] = add_products(a, b_of_lane(b, 1u), c[1]); }
                if column_blocks() > 2u { c[2] = add_products(a, b_of_lane(b, 2u), c[2]); }
                if column_blocks() > 3u { c[3] = add_products(a, b_of_lane(b, 3u), c[3]); }
                if TILE_COLUMNS == 8u {
                    c[4] = add_products(a, b_of_lane(b, 4u), c[4]);
                    if column_blocks() > 5u { c[5] = add_products(a, b_of_lane(b, 5u), c[5]); }
                    if column_blocks() > 6u { c[6] = add_products(a, b_of_lane(b, 6u), c[6]); }
                    if column_blocks() > 7u { c[7] = add_products(a, b_of_lane(b, 7u), c[7]); }
                }
                a_at += TAP_STEP;
                b_now += b_step;
            }
        }
    }
    return c;
}

// The same for images of one channel, whose blocks overlap. Values move from tap to tap one by one, so that no tap is
// filled up with zeros; a row of B belongs to each tap.
fn sums_of_values(start: u32, b_rows: vec4<u32>, lane: u32, first: array<Run, 8>) -> array<Run, 8> {
    var c = first;
    for (var row = 0u; row < KERNEL_ROWS; row++) {
        let values = load_values(start + row * ROW_STEP);
        let b_at = b_rows + weights_offset(row * TAPS);
        c = add_taps(values, b_at, 0u, lane, c);
        if KERNEL_ROWS > 4u {
            let later = Values(values._1, values._2, values._3, vec4<f32>(0.0));
            c = add_taps(later, b_at + weights_offset(1u), 4u, lane, c);
        }
    }
    return c;
}

// Values of a row of pixels: at first those of the run, as in Run, then more.
struct Values {
    _0: vec4<f32>,
    _1: vec4<f32>,
    _2: vec4<f32>,
    _3: vec4<f32>,
}

fn load_values(at: u32) -> Values {
    var values = Values(load_window(at), vec4<f32>(0.0), vec4<f32>(0.0), vec4<f32>(0.0));
    if RUN + KERNEL_ROWS > 5u { values._1 = load_window(at + 4u); }
    if RUN + KERNEL_ROWS > 9u { values._2 = load_window(at + 8u); }
    if RUN + KERNEL_ROWS > 13u { values._3 = load_window(at + 12u); }
    for (var i = RUN; i < 8u; i++) {
        values = Values(
            vec4<f32>(0.0, values._0.xyz),
            vec4<f32>(values._0.w, values._1.xyz),
            vec4<f32>(values._1.w, values._2.xyz),
            vec4<f32>(values._2.w, values._3.xyz),
        );
    }
    return values;
}

fn next(a: Values) -> Values {
    return Values(
        vec4<f32>(a._0.yzw, a._1.x),
        vec4<f32>(a._1.yzw, a._2.x),
        vec4<f32>(a._2.yzw, a._3.x),
        vec4<f32>(a._3.yzw, 0.0),
    );
}

// Adds up to four taps. With four columns, lanes load the rows of B of two taps at once.
fn add_taps(values: Values, b_at: vec4<u32>, first_tap: u32, lane: u32, c: array<Run, 8>) -> array<Run, 8> {
    let is_odd = TILE_COLUMNS == 4u && lane >= 4u;
    let odd_lane = select(0u, 4u, TILE_COLUMNS == 4u);
    var a = values;
    var b = weights[select(b_at.x, b_at.y, is_odd)];
    var sums = add_values(a, b, 0u, c);
    if KERNEL_ROWS > first_tap + 1u {
        if TILE_COLUMNS == 8u { b = weights[b_at.y]; }
        a = next(a);
        sums = add_values(a, b, odd_lane, sums);
    }
    if KERNEL_ROWS > first_tap + 2u {
        b = weights[select(b_at.z, b_at.w, is_odd)];
        a = next(a);
        sums = add_values(a, b, 0u, sums);
    }
    if KERNEL_ROWS > first_tap + 3u {
        if TILE_COLUMNS == 8u { b = weights[b_at.w]; }
        a = next(a);
        sums = add_values(a, b, odd_lane, sums);
    }
    return sums;
}

// Adds a tap, of whose row of B the lanes from this one on have the columns.
fn add_values(a: Values, b: vec4<f32>, lane: u32, c: array<Run, 8>) -> array<Run, 8> {
    var sums = c;
    sums[0] = add_scaled(a, subgroupShuffle(b, lane), c[0]);
    if column_blocks() > 1u { sums[1] = add_scaled(a, subgroupShuffle(b, lane + 1u), c[1]); }
    if column_blocks() > 2u { sums[2] = add_scaled(a, subgroupShuffle(b, lane + 2u), c[2]); }
    if column_blocks() > 3u { sums[3] = add_scaled(a, subgroupShuffle(b, lane + 3u), c[3]); }
    if TILE_COLUMNS == 8u {
        sums[4] = add_scaled(a, subgroupShuffle(b, 4u), c[4]);
        if column_blocks() > 5u { sums[5] = add_scaled(a, subgroupShuffle(b, 5u), c[5]); }
        if column_blocks() > 6u { sums[6] = add_scaled(a, subgroupShuffle(b, 6u), c[6]); }
        if column_blocks() > 7u { sums[7] = add_scaled(a, subgroupShuffle(b, 7u), c[7]); }
    }
    return sums;
}

fn add_scaled(a: Values, b: vec4<f32>, c: Run) -> Run {
    var sums = c;
    if RUN > 7u { sums._0 = fma(a._0.xxxx, b, c._0); }
    if RUN > 6u { sums._1 = fma(a._0.yyyy, b, c._1); }
    if RUN > 5u { sums._2 = fma(a._0.zzzz, b, c._2); }
    if RUN > 4u { sums._3 = fma(a._0.wwww, b, c._3); }
    if RUN > 3u { sums._4 = fma(a._1.xxxx, b, c._4); }
    if RUN > 2u { sums._5 = fma(a._1.yyyy, b, c._5); }
    if RUN > 1u { sums._6 = fma(a._1.zzzz, b, c._6); }
    sums._7 = fma(a._1.wwww, b, c._7);
    return sums;
}

// Blocks of a run of pixels, of which the last RUN are used.
struct Run {
    _0: vec4<f32>,
    _1: vec4<f32>,
    _2: vec4<f32>,
    _3: vec4<f32>,
    _4: vec4<f32>,
    _5: vec4<f32>,
    _6: vec4<f32>,
    _7: vec4<f32>,
}

fn run_of(values: vec4<f32>) -> Run {
    return Run(values, values, values, values, values, values, values, values);
}

fn load_run(at: u32) -> Run {
    var run: Run;
    let first = at - (8u - RUN) * WINDOW_COLUMN;
    if RUN > 7u { run._0 = load_window(first); }
    if RUN > 6u { run._1 = load_window(first + WINDOW_COLUMN); }
    if RUN > 5u { run._2 = load_window(first + 2u * WINDOW_COLUMN); }
    if RUN > 4u { run._3 = load_window(first + 3u * WINDOW_COLUMN); }
    if RUN > 3u { run._4 = load_window(first + 4u * WINDOW_COLUMN); }
    if RUN > 2u { run._5 = load_window(first + 5u * WINDOW_COLUMN); }
    if RUN > 1u { run._6 = load_window(first + 6u * WINDOW_COLUMN); }
    run._7 = load_window(first + 7u * WINDOW_COLUMN);
    return run;
}

// The block of B of a column: its rows are a lane's, or with four columns those of two lanes.
fn b_of_lane(b: mat4x4<f32>, lane: u32) -> mat4x4<f32> {
    if TILE_COLUMNS == 8u {
        return b_of_weights(mat4x4<f32>(
            subgroupShuffle(b[0], lane),
            subgroupShuffle(b[1], lane),
            subgroupShuffle(b[2], lane),
            subgroupShuffle(b[3], lane),
        ));
    }
    return b_of_weights(mat4x4<f32>(
        subgroupShuffle(b[0], lane),
        subgroupShuffle(b[1], lane),
        subgroupShuffle(b[0], lane + 4u),
        subgroupShuffle(b[1], lane + 4u),
    ));
}

fn add_products(a: Run, b: mat4x4<f32>, c: Run) -> Run {
    var sums = c;
    if RUN > 7u { sums._0 = multiply_add_row(a._0, b, c._0); }
    if RUN > 6u { sums._1 = multiply_add_row(a._1, b, c._1); }
    if RUN > 5u { sums._2 = multiply_add_row(a._2, b, c._2); }
    if RUN > 4u { sums._3 = multiply_add_row(a._3, b, c._3); }
    if RUN > 3u { sums._4 = multiply_add_row(a._4, b, c._4); }
    if RUN > 2u { sums._5 = multiply_add_row(a._5, b, c._5); }
    if RUN > 1u { sums._6 = multiply_add_row(a._6, b, c._6); }
    sums._7 = multiply_add_row(a._7, b, c._7);
    return sums;
}

// Returns c[i]. An array indexed by a variable would leave the registers.
fn run_of_column(c: array<Run, 8>, i: u32) -> Run {
    if TILE_COLUMNS == 8u {
        switch i {
            case 4u: { return c[4]; }
            case 5u: { return c[5]; }
            case 6u: { return c[6]; }
            case 7u: { return c[7]; }
            default: {}
        }
    }
    switch i {
        case 0u: { return c[0]; }
        case 1u: { return c[1]; }
        case 2u: { return c[2]; }
        default: { return c[3]; }
    }
}

// Stores a run but for its first pixels, which belong to the run before too.
fn store_run(at: vec2<u32>, repeated: u32, column_block: u32, run: Run) {
    if RUN > 7u { store_new(at, repeated, 0u, column_block, run._0); }
    if RUN > 6u { store_new(at, repeated, 1u, column_block, run._1); }
    if RUN > 5u { store_new(at, repeated, 2u, column_block, run._2); }
    if RUN > 4u { store_new(at, repeated, 3u, column_block, run._3); }
    if RUN > 3u { store_new(at, repeated, 4u, column_block, run._4); }
    if RUN > 2u { store_new(at, repeated, 5u, column_block, run._5); }
    if RUN > 1u { store_new(at, repeated, 6u, column_block, run._6); }
    store_new(at, repeated, 7u, column_block, run._7);
}

fn store_new(at: vec2<u32>, repeated: u32, block: u32, column_block: u32, sums: vec4<f32>) {
    let i = block + RUN - 8u;
    if WINDOW_WIDTH % RUN == 0u || i >= repeated {
        store_pixel(at, i, column_block, sums);
    }
}
