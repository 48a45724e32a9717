// C = A^T . B of a convolution, the gradient of its weights, for devices with slow memory whose subgroups share
// registers cheaply (software adapters). A strip is what the taps of a kernel row have of one block of channels: from
// one tap to the next its pixels move by one, so that 8 lanes load the pixels of all taps at once, and broadcast them.
// Each lane computes one block column of C, of STRIPS strips and LANE_TAPS taps; where four lanes hold all columns, the
// other four take further taps. Turn by turn four pixels are added, along the rows of pixels.
//
// Provides: main.
// Needs: D_OUTPUT_COLUMN, WINDOW_COLUMN, WINDOW_WIDTH, column_blocks, d_output_at, d_outputs, depth_rows,
//     load_window, multiply_add, row_blocks, step, store, window_at.
override KERNEL_ROWS: u32;
override TAPS: u32; // taps of a kernel row
override TAP_BLOCKS: u32; // blocks of a tap
override ROW_STEP: u32; // blocks of the tensor from a kernel row to the next
override TAP_STEP: u32; // blocks of the tensor from a tap to the next
override STRIPS: u32; // 1 to 5
override LANE_TAPS: u32; // 1 to 5
override LANE_COLUMNS: u32; // 8, or 4
// The lane that loads the pixel of a tap: PIXEL_LANES lanes from a pixel to the next, TAP_LANES from a tap to the next.
override PIXEL_LANES: u32;
override TAP_LANES: u32;

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) tile: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let tile_taps = 8u / LANE_COLUMNS * LANE_TAPS;
    let tiles = (TAPS + tile_taps - 1u) / tile_taps;
    let tile_row = step.first_tile + tile.y;
    let first_tap = tile_row % tiles * tile_taps;
    let lane_tap = lane / LANE_COLUMNS * LANE_TAPS;
    let strip = tile_row / tiles * STRIPS;
    let column = tile.x * LANE_COLUMNS + lane % LANE_COLUMNS;
    let own_column = min(column, column_blocks() - 1u);

    // Where a lane loads, from the start of the first pixel's window on.
    var lane_at = lane * min(WINDOW_COLUMN, TAP_STEP);
    if PIXEL_LANES * TAP_STEP != TAP_LANES * WINDOW_COLUMN {
        lane_at = lane % 4u * WINDOW_COLUMN + lane / 4u * TAP_STEP;
    }
    let strips = min(strip + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(KERNEL_ROWS * TAP_BLOCKS - 1u));
    let fifth = min(strip + 4u, KERNEL_ROWS * TAP_BLOCKS - 1u);
    let from_window = first_tap * TAP_STEP + lane_at;
    let strips_at = strips / TAP_BLOCKS * ROW_STEP + strips % TAP_BLOCKS + from_window;
    let fifth_at = fifth / TAP_BLOCKS * ROW_STEP + fifth % TAP_BLOCKS + from_window;

    let from_lane = lane_tap * TAP_LANES;
    var c: array<Taps, 5>;
    var bias = vec4<f32>(0.0);
    let rows = depth_rows(tile.z);
    for (var row = rows.x; row < rows.y; row++) {
        let window = window_at(row * WINDOW_WIDTH);
        var a_at = strips_at + window;
        var fifth_a_at = fifth_at + window;
        var b_at = own_column + d_output_at(row * WINDOW_WIDTH);
        for (var x = 0u; x < WINDOW_WIDTH; x += 4u) {
            let b = mat4x4<f32>(
                d_outputs[b_at],
                d_output_before(x + 1u, b_at + D_OUTPUT_COLUMN),
                d_output_before(x + 2u, b_at + 2u * D_OUTPUT_COLUMN),
                d_output_before(x + 3u, b_at + 3u * D_OUTPUT_COLUMN),
            );
            bias += b[0] + b[1] + (b[2] + b[3]);
            c[0] = add_products(load_window(a_at.x), from_lane, b, c[0]);
            if STRIPS > 1u { c[1] = add_products(load_window(a_at.y), from_lane, b, c[1]); }
            if STRIPS > 2u { c[2] = add_products(load_window(a_at.z), from_lane, b, c[2]); }
            if STRIPS > 3u { c[3] = add_products(load_window(a_at.w), from_lane, b, c[3]); }
            if STRIPS > 4u { c[4] = add_products(load_window(fifth_a_at), from_lane, b, c[4]); }
            fifth_a_at += 4u * WINDOW_COLUMN;
            a_at += vec4<u32>(4u * WINDOW_COLUMN);
            b_at += 4u * D_OUTPUT_COLUMN;
        }
    }
    if column < column_blocks() {
        for (var i = 0u; i < STRIPS && strip + i < KERNEL_ROWS * TAP_BLOCKS; i++) {
            let k = (strip + i) / TAP_BLOCKS * TAPS * TAP_BLOCKS + (strip + i) % TAP_BLOCKS;
            let sums = taps_of_strip(c, i);
            for (var tap = 0u; tap < LANE_TAPS && first_tap + lane_tap + tap < TAPS; tap++) {
                let row_block = k + (first_tap + lane_tap + tap) * TAP_BLOCKS;
                store(tile.z, row_block, column, block_of_tap(sums, tap));
            }
        }
        if tile_row == 0u && lane_tap == 0u {
            store(tile.z, row_blocks() - 1u, column, mat4x4<f32>(bias, vec4<f32>(), vec4<f32>(), vec4<f32>()));
        }
    }
}

// A block of C for each tap of a strip.
struct Taps {
    _0: mat4x4<f32>,
    _1: mat4x4<f32>,
    _2: mat4x4<f32>,
    _3: mat4x4<f32>,
    _4: mat4x4<f32>,
}

fn d_output_before(x: u32, at: u32) -> vec4<f32> {
    if WINDOW_WIDTH % 4u == 0u {
        return d_outputs[at];
    }
    return select(vec4<f32>(0.0), d_outputs[at], x < WINDOW_WIDTH);
}

fn add_products(a: vec4<f32>, from_lane: u32, b: mat4x4<f32>, c: Taps) -> Taps {
    var sums = c;
    sums._0 = multiply_add(a_of_lanes(a, from_lane), b, c._0);
    if LANE_TAPS > 1u { sums._1 = multiply_add(a_of_lanes(a, from_lane + TAP_LANES), b, c._1); }
    if LANE_TAPS > 2u { sums._2 = multiply_add(a_of_lanes(a, from_lane + 2u * TAP_LANES), b, c._2); }
    if LANE_TAPS > 3u { sums._3 = multiply_add(a_of_lanes(a, from_lane + 3u * TAP_LANES), b, c._3); }
    if LANE_TAPS > 4u { sums._4 = multiply_add(a_of_lanes(a, from_lane + 4u * TAP_LANES), b, c._4); }
    return sums;
}

// The block of A^T of four pixels, one in every PIXEL_LANES lanes. Lanes that are not there belong to taps that are not.
fn a_of_lanes(a: vec4<f32>, lane: u32) -> mat4x4<f32> {
    return transpose(mat4x4<f32>(
        subgroupShuffle(a, lane % 8u),
        subgroupShuffle(a, (lane + PIXEL_LANES) % 8u),
        subgroupShuffle(a, (lane + 2u * PIXEL_LANES) % 8u),
        subgroupShuffle(a, (lane + 3u * PIXEL_LANES) % 8u),
    ));
}

// Returns c[i]. An array indexed by a variable would leave the registers.
fn taps_of_strip(c: array<Taps, 5>, i: u32) -> Taps {
    switch i {
        case 0u: { return c[0]; }
        case 1u: { return c[1]; }
        case 2u: { return c[2]; }
        case 3u: { return c[3]; }
        default: { return c[4]; }
    }
}

fn block_of_tap(taps: Taps, i: u32) -> mat4x4<f32> {
    switch i {
        case 0u: { return taps._0; }
        case 1u: { return taps._1; }
        case 2u: { return taps._2; }
        case 3u: { return taps._3; }
        default: { return taps._4; }
    }
}
