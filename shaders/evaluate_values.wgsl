// Evaluation of examples with real targets: the loss of each, from the file of that loss, and its squared error.
//
// Provides: evaluate_values.
// Needs: loss_of_row, losses, squared_error_of_row, step.
@group(0) @binding(8) var<storage, read_write> squared_errors: array<f32>; // one per row, starting at step.first_row

// One invocation per row.
@compute @workgroup_size(64)
fn evaluate_values(@builtin(global_invocation_id) invocation: vec3<u32>) {
    let row = invocation.x;
    if row < step.batch {
        losses[step.first_row + row] = loss_of_row(row);
        squared_errors[step.first_row + row] = squared_error_of_row(row);
    }
}
