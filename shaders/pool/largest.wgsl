// Maximum of each window and channel. If several values tie, the first one counts, row by row; a NaN is larger than any
// number.
//
// Provides: PLACES_X, PLACES_Y, SIZE, STRIDE, largest_of_window, output_at, window_at.
// Needs: Layout, is_nan, pixel_at.
override SIZE: u32;
override STRIDE: u32;
override PLACES_Y: u32;
override PLACES_X: u32;
override INPUT_EXAMPLE: u32; // the layout of the inputs
override INPUT_FIRST: u32;
override INPUT_ROW: u32;
override INPUT_COLUMN: u32;
override OUTPUT_EXAMPLE: u32; // the layout of the outputs, or of d_outputs
override OUTPUT_FIRST: u32;
override OUTPUT_ROW: u32;
override OUTPUT_COLUMN: u32;

@group(0) @binding(1) var<storage, read> inputs: array<vec4<f32>>;

// Start of a position's window in the inputs.
fn window_at(place: u32) -> u32 {
    let windows = Layout(
        PLACES_Y * PLACES_X, PLACES_X, INPUT_EXAMPLE, INPUT_FIRST, STRIDE * INPUT_ROW, STRIDE * INPUT_COLUMN,
    );
    return pixel_at(windows, place);
}

fn output_at(place: u32) -> u32 {
    let outputs = Layout(PLACES_Y * PLACES_X, PLACES_X, OUTPUT_EXAMPLE, OUTPUT_FIRST, OUTPUT_ROW, OUTPUT_COLUMN);
    return pixel_at(outputs, place);
}

fn is_larger(values: vec4<f32>, largest: vec4<f32>) -> vec4<bool> {
    let is_first_nan = is_nan(values) & !is_nan(largest);
    return is_first_nan | ((values > largest) & !is_nan(largest));
}

struct Largest {
    values: vec4<f32>,
    taps: vec4<u32>, // index in the window
}

// Largest values of a window, for four channels.
fn largest_of_window(at: u32) -> Largest {
    var largest = Largest(inputs[at], vec4<u32>(0u));
    for (var tap = 1u; tap < SIZE * SIZE; tap++) {
        let values = inputs[at + tap / SIZE * INPUT_ROW + tap % SIZE * INPUT_COLUMN];
        let wins = is_larger(values, largest.values);
        largest.values = select(largest.values, values, wins);
        largest.taps = select(largest.taps, vec4<u32>(tap), wins);
    }
    return largest;
}
