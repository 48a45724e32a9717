// Evaluation of labelled examples: the loss of each, its predicted class, and the number of correct predictions. The
// loss comes from the file of that loss, the class from there or from argmax.wgsl.
//
// Provides: evaluate.
// Needs: class_of_row, example_of_row, labels, loss_of_row, losses, step.
@group(0) @binding(8) var<storage, read_write> predictions: array<u32>; // one per row, starting at step.first_row
@group(0) @binding(9) var<storage, read_write> correct: atomic<u32>;

// One invocation per row.
@compute @workgroup_size(64)
fn evaluate(@builtin(global_invocation_id) invocation: vec3<u32>) {
    let row = invocation.x;
    if row < step.batch {
        losses[step.first_row + row] = loss_of_row(row);
        let prediction = class_of_row(row);
        predictions[step.first_row + row] = prediction;
        if prediction == labels[example_of_row(row)] {
            atomicAdd(&correct, 1u);
        }
    }
}
