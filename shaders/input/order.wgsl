// The order of the examples: shuffled indices in each epoch of training, ascending ones in evaluation.
//
// Provides: example_of_row, order.
// Needs: step.
@group(0) @binding(2) var<storage, read> order: array<vec4<u32>>; // example indices, for 4 rows of a batch each

fn example_of_row(row: u32) -> u32 {
    return order[step.first_block + row / 4u][row % 4u];
}
