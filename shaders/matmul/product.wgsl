// Matrix product C = A . B by blocks of 4 x 4, shared by the multiplication methods. The other files of matmul/ hold
// the entry points; forward, input_gradient and weight_gradient define A, B and C by these functions:
//
//   row_blocks(), column_blocks()                the size of C in blocks
//   depth_blocks(part)                           the range of k of a part of the sum, end exclusive
//   locate_a(row_block), locate_b(column_block)  the starts of four rows or columns, computed once
//   load_a(at, k), load_b(at, k)                 the k-th block there
//   store(part, row_block, column_block, sums)   the epilogue of a block of C
//
// Blocks are stored by rows: block[i] is row i.
//
// Provides: multiply_add, multiply_add_row.
fn multiply_add(a: mat4x4<f32>, b: mat4x4<f32>, c: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(
        multiply_add_row(a[0], b, c[0]),
        multiply_add_row(a[1], b, c[1]),
        multiply_add_row(a[2], b, c[2]),
        multiply_add_row(a[3], b, c[3]),
    );
}

fn multiply_add_row(a: vec4<f32>, b: mat4x4<f32>, c: vec4<f32>) -> vec4<f32> {
    return fma(a.wwww, b[3], fma(a.zzzz, b[2], fma(a.yyyy, b[1], fma(a.xxxx, b[0], c))));
}
