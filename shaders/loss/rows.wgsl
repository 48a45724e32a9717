// Loss and gradient of every row of a batch: in a kernel of its own, or as the epilogue of the product that computes the
// outputs.
//
// Provides: finish, train_rows.
// Needs: batch_blocks, train_row.

// One invocation per row.
@compute @workgroup_size(64)
fn train_rows(@builtin(global_invocation_id) invocation: vec3<u32>) {
    if invocation.x < 4u * batch_blocks() {
        train_row(invocation.x);
    }
}

// Run by the invocation that has just stored four rows of outputs.
fn finish(row_block: u32) {
    // A limit that is not a constant keeps compilers from unrolling the loop, which takes time and gains nothing.
    for (var row = 4u * row_block; row < min(4u * row_block + 4u, 4u * batch_blocks()); row++) {
        train_row(row);
    }
}
