// The order in which examples are taken: shuffled for each epoch of training, as they stand for evaluation.
@group(0) @binding(2) var<storage, read> order: array<vec4<u32>>; // example numbers, of 4 rows of a batch each

fn example_of_row(row: u32) -> u32 {
    return order[step.first_block + row / 4u][row % 4u];
}
